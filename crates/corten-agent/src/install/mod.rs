//! The plugin on the node: its program, and its entry in the node's CNI configuration.
//!
//! Both are looked after: who rewrites the configuration (a CNI plugin that starts anew does) would otherwise let every new pod out of
//! the mesh unseen. The file that is edited is kept beside as it was, under a name that nobody takes for a configuration, so that it can
//! be put back to the letter.

pub mod config;
mod host_path;
pub(crate) mod keeper;
mod watch;

use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use host_path::host_path;

/// What is to be installed, and where.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The plugin's program; absent: beside the agent's own.
    pub binary: Option<PathBuf>,
    /// Where programs of plugins are on the node.
    pub bin_dir: PathBuf,
    /// Where CNI configuration is.
    pub conf_dir: PathBuf,
    /// The file to edit; absent: the first valid one.
    pub conf_name: Option<String>,
    /// The plugin goes into another's chain.
    pub is_chained: bool,
    /// A file of our own, with a copy of the chain and the plugin in it, rather than an edit.
    pub own_config: Option<String>,
    /// The group may read files of ours.
    pub group_read: bool,
    /// Where the agent's sockets are, for the agent.
    pub run_dir: PathBuf,
    /// Where they are for the plugin, which runs on the node itself; absent: found out.
    pub run_dir_on_host: Option<PathBuf>,
    /// The plugin's configuration, but for where the sockets are.
    pub settings: Value,
}

/// Why something could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The program.
    #[error("cannot install the CNI plugin as {path}: {source}")]
    Binary {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No configuration to put it in.
    #[error("no CNI configuration in {dir} to add the plugin to{}; is the cluster's network plugin installed, and is that where it keeps its configuration (values.cni.cniConfDir, values.global.platform)?", problem.as_deref().map(|p| format!(" ({p})")).unwrap_or_default())]
    NoConfiguration {
        /// Where it was looked for.
        dir: PathBuf,
        /// What was wrong with the files that are there.
        problem: Option<String>,
    },
    /// The configuration.
    #[error("cannot change the CNI configuration {path}: {reason}")]
    Configuration {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl InstallError {
    /// Istio's word for it, in metrics.
    pub fn result(&self) -> &'static str {
        match self {
            InstallError::Binary { .. } => "COPY_BINARIES_FAILURE",
            InstallError::NoConfiguration { .. } | InstallError::Configuration { .. } => "CREATE_CNI_CONFIG_FAILURE",
        }
    }
}

const STANDALONE: &str = "YYY-istio-cni.conf";
/// What the name of a file that is kept as it was ends with; it begins with a dot.
const ORIGINAL: &str = ".corten-original";

impl Installation {
    /// Installs what is missing or different; whether anything was.
    pub fn apply(&self) -> Result<bool, InstallError> {
        let copied = self.copy_binary()?;
        Ok(self.configure()? || copied)
    }

    /// Takes program and configuration away.
    pub fn remove(&self) -> Result<(), InstallError> {
        let gone = |path: &Path| match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(InstallError::Configuration {
                path: path.to_owned(),
                reason: error.to_string(),
            }),
            _ => Ok(()),
        };
        // The configuration first: one that names a program that is gone keeps every pod from starting.
        if !self.is_chained {
            gone(&self.conf_dir.join(self.conf_name.as_deref().unwrap_or(STANDALONE)))?;
        } else if let Some(own) = &self.own_config {
            gone(&self.conf_dir.join(own))?;
        } else if let Ok((path, text)) = self.primary() {
            self.restore(&path, &text)?;
        }
        // What is kept of others' files serves nobody any more.
        for (kept, _) in self.originals() {
            gone(&kept)?;
        }
        gone(&self.bin_dir.join(config::PLUGIN))
    }

    /// Takes the entry out of a configuration; if nobody else has changed it since, it becomes what it was, to the letter and the name.
    fn restore(&self, path: &Path, text: &str) -> Result<(), InstallError> {
        let Ok(Some(without)) = config::remove(text) else {
            return Ok(());
        };
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| InstallError::Configuration {
                path,
                reason: error.to_string(),
            }
        };
        for (kept, name) in self.originals() {
            let original = path.with_file_name(&name);
            let Ok(bytes) = std::fs::read_to_string(&kept) else {
                continue;
            };
            if original.file_stem() != path.file_stem() || !config::became(&bytes, &without) {
                continue;
            }
            let mode = std::fs::metadata(path).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
            replace(&original, bytes.as_bytes(), mode).map_err(failed(&original))?;
            if original != path {
                std::fs::remove_file(path).map_err(failed(path))?;
            }
            return Ok(());
        }
        self.write(path, &without, Some(path))
    }

    /// The files that are kept as they were, each with the name it had.
    fn originals(&self) -> Vec<(PathBuf, String)> {
        let entries = std::fs::read_dir(&self.conf_dir).into_iter().flatten();
        let original = |entry: io::Result<std::fs::DirEntry>| {
            let path = entry.ok()?.path();
            let name = path
                .file_name()?
                .to_str()?
                .strip_prefix('.')?
                .strip_suffix(ORIGINAL)?
                .to_owned();
            Some((path, name))
        };
        entries.filter_map(original).collect()
    }

    /// The plugin's configuration.
    pub fn entry(&self) -> Value {
        let mut entry = self.settings.clone();
        let run_dir = match &self.run_dir_on_host {
            Some(path) => path.clone(),
            None => self.run_dir.clone(),
        };
        entry["cni_agent_run_dir"] = json!(run_dir);
        entry
    }

    fn copy_binary(&self) -> Result<bool, InstallError> {
        let target = self.bin_dir.join(config::PLUGIN);
        let failed = |source| InstallError::Binary {
            path: target.clone(),
            source,
        };
        let source = match &self.binary {
            Some(path) => path.clone(),
            None => beside_own().map_err(failed)?,
        };
        let new = std::fs::read(&source)
            .map_err(|error| failed(io::Error::new(error.kind(), format!("{}: {error}", source.display()))))?;
        if std::fs::read(&target).is_ok_and(|old| old == new) {
            return Ok(false);
        }
        // A plugin that runs at the moment keeps its file; the name moves to the new one at once.
        replace(&target, &new, 0o755).map_err(failed)?;
        Ok(true)
    }

    fn configure(&self) -> Result<bool, InstallError> {
        let entry = self.entry();
        let text = entry.to_string();
        if !self.is_chained {
            let path = self.conf_dir.join(self.conf_name.as_deref().unwrap_or(STANDALONE));
            return self.write_if_different(&path, &entry);
        }
        let (path, existing) = self.primary()?;
        let edit = |existing: &str| {
            config::insert(existing, &text).map_err(|error| InstallError::Configuration {
                path: path.clone(),
                reason: error.to_string(),
            })
        };
        if let Some(own) = &self.own_config {
            return self.write_if_different(&self.conf_dir.join(own), &edit(&existing)?);
        }
        if config::contains(&existing, &text) {
            return Ok(false);
        }
        let edited = edit(&existing)?;
        // One that has an entry of ours is no original; there is one from before, or an agent that kept none has made the entry.
        if matches!(config::remove(&existing), Ok(None))
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            let kept = path.with_file_name(format!(".{name}{ORIGINAL}"));
            replace(&kept, existing.as_bytes(), 0o600).map_err(|error| InstallError::Configuration {
                path: kept,
                reason: error.to_string(),
            })?;
        }
        // A lone plugin becomes a list, which has another ending.
        let target = path.with_extension("conflist");
        self.write(&target, &edited, Some(&path))?;
        if target != path {
            std::fs::remove_file(&path).map_err(|error| InstallError::Configuration {
                path: path.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(true)
    }

    /// The first valid configuration that is not ours alone, with its text.
    fn primary(&self) -> Result<(PathBuf, String), InstallError> {
        let none = |problem| InstallError::NoConfiguration {
            dir: self.conf_dir.clone(),
            problem,
        };
        let entries = std::fs::read_dir(&self.conf_dir).map_err(|error| none(Some(error.to_string())))?;
        let mut names: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        // As container runtimes look for them.
        names.retain(|path| {
            path.extension()
                .is_some_and(|e| e == "conf" || e == "conflist" || e == "json")
        });
        if let Some(name) = &self.conf_name {
            // An edited file may have got another ending.
            names.retain(|path| path.file_stem() == Path::new(name).file_stem());
        }
        names.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name != self.own_config.as_deref() && name != Some(STANDALONE)
        });
        names.sort();
        let mut problem = None;
        for path in names {
            match std::fs::read_to_string(&path) {
                Ok(text) if is_usable(&path, &text) => return Ok((path, text)),
                Ok(_) => problem = Some(format!("{} is no configuration of a network", path.display())),
                Err(error) => problem = Some(format!("{}: {error}", path.display())),
            }
        }
        Err(none(problem))
    }

    fn write_if_different(&self, path: &Path, value: &Value) -> Result<bool, InstallError> {
        let held = std::fs::read_to_string(path).ok();
        let held = held.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        if held.as_ref() == Some(value) {
            return Ok(false);
        }
        self.write(path, value, None)?;
        Ok(true)
    }

    /// Writes a configuration, with the mode of the file it comes from.
    fn write(&self, path: &Path, value: &Value, from: Option<&Path>) -> Result<(), InstallError> {
        let usual = if self.group_read { 0o640 } else { 0o600 };
        let kept = from.and_then(|from| std::fs::metadata(from).ok());
        let mode = kept.map_or(usual, |metadata| metadata.permissions().mode() & 0o777);
        replace(path, format!("{value:#}\n").as_bytes(), mode).map_err(|error| InstallError::Configuration {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }
}

/// Whether a container runtime would take the file for a network: a list of plugins in a list's file, one plugin in any other; those that are
/// neither are passed over.
fn is_usable(path: &Path, text: &str) -> bool {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let has_type = |plugin: &Value| plugin["type"].as_str().is_some_and(|kind| !kind.is_empty());
    if path.extension().is_some_and(|e| e == "conflist") {
        let plugins = value["plugins"].as_array();
        return value["name"].is_string() && plugins.is_some_and(|all| !all.is_empty() && all.iter().all(has_type));
    }
    has_type(&value) && value.get("plugins").is_none()
}

/// The plugin's program, beside the agent's.
fn beside_own() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or_else(|| Path::new("/")).join("corten-cni"))
}

/// Writes a file so that whoever reads it sees all of the old one or all of the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    // Begins with a dot and ends unlike any configuration: nobody takes it for one.
    let temporary = path.with_file_name(format!(".{name}.corten-new"));
    let write = || {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        // A node that loses its power now is to come back with one of the two, not with an empty file.
        file.sync_all()?;
        drop(file);
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

#[cfg(test)]
mod tests;
