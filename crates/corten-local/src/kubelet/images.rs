//! What an image name means on a machine where no image is pulled: a command on the host's files.
//!
//! Pure: the built-in images are programs beside the `corten` executable, `--image NAME=COMMAND` adds others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The image that an installation on Kubernetes runs.
const ALL_IN_ONE: &str = "corten.dev/corten";

/// The image of proxies: a program that starts an Envoy of this machine.
const PROXY: &str = "corten.dev/proxyv2";

/// The images that are known, with the command each stands for.
#[derive(Clone, Debug, Default)]
pub struct Images {
    commands: BTreeMap<String, Vec<String>>,
    /// Where the built-in programs lie.
    programs: Option<PathBuf>,
}

/// An entry of `--image` that is not `NAME=COMMAND`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("image {0:?} is not of the form NAME=COMMAND, as in postgres=/usr/lib/postgresql/17/bin/postgres")]
pub struct ParseImageError(String);

/// What a container with a certain image and command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The image is known; its command serves where the container has none.
    Known(Vec<String>),
    /// The image is not, but the container brings its own command, which runs on the host's files.
    HostFiles,
    /// Neither: why, and what to do.
    Missing(String),
}

impl Images {
    /// The built-in images, as the programs of that name in `programs` (the directory of the executable).
    pub fn built_in(programs: &Path) -> Self {
        let program = |name: &str| vec![programs.join(name).to_string_lossy().into_owned()];
        let mut images = Self::default();
        images.commands.insert("corten.dev/echo".into(), program("corten-echo"));
        for name in ["load", "capture", "control", "node", "agent"] {
            images
                .commands
                .insert(format!("corten.dev/{name}"), program(&format!("corten-{name}")));
        }
        // One image has all of the mesh's programs; what runs of it, its containers say.
        images.commands.insert(ALL_IN_ONE.into(), program("corten"));
        images.programs = Some(programs.to_owned());
        images
    }

    /// Where a program of the image with all of the mesh's programs lies on this machine: in the image it is in `/usr/local/bin`.
    pub(crate) fn in_ours(&self, image: &str, program: &str) -> Option<PathBuf> {
        let name = program.strip_prefix("/usr/local/bin/")?;
        let ours = without_tag(image) == ALL_IN_ONE && name.starts_with("corten-") && !name.contains('/');
        self.programs.as_ref().filter(|_| ours).map(|dir| dir.join(name))
    }

    /// The directory of the built-in programs, and those programs: every pod has them, so that any can be called from and looked into (the plugin is what the agent installs).
    pub(crate) fn programs(&self) -> Option<(&Path, impl Iterator<Item = PathBuf>)> {
        let dir = self.programs.as_deref()?;
        Some((
            dir,
            ["corten-echo", "corten-load", "corten-capture", "corten-cni"]
                .map(|name| dir.join(name))
                .into_iter(),
        ))
    }

    /// Adds a `NAME=COMMAND`; the command is split at white space. A name without a tag means every tag.
    pub fn add(&mut self, entry: &str) -> Result<(), ParseImageError> {
        let bad = || ParseImageError(entry.to_owned());
        let (name, command) = entry.split_once('=').ok_or_else(bad)?;
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if name.is_empty() || command.is_empty() {
            return Err(bad());
        }
        self.commands.insert(name.to_owned(), command);
        Ok(())
    }

    /// Makes the image of proxies known, with the Envoy that they run; none: the one on the path.
    pub(crate) fn proxy(&mut self, envoy: Option<&Path>) {
        let Some(programs) = &self.programs else { return };
        let mut command = vec![programs.join("corten-sidecar").to_string_lossy().into_owned()];
        command.extend(envoy.map(|envoy| format!("--envoy={}", envoy.display())));
        // One that the user gave stays.
        self.commands.entry(PROXY.to_owned()).or_insert(command);
    }

    /// What containers of the image of proxies find under another name: the program's own, as hooks of Istio's manifests call it.
    pub(crate) fn proxy_agent(&self, image: &str) -> Option<PathBuf> {
        let ours = without_tag(image) == PROXY;
        self.programs
            .as_ref()
            .filter(|_| ours)
            .map(|dir| dir.join("corten-sidecar"))
    }

    /// Adds a program that runs without arguments of its own; every tag of the name means it.
    pub(crate) fn insert(&mut self, name: &str, program: &Path) {
        let command = vec![program.to_string_lossy().into_owned()];
        self.commands.insert(name.to_owned(), command);
    }

    /// What runs for `image`.
    pub(crate) fn program(&self, image: &str, has_command: bool) -> Program {
        let named = |name: &str| self.commands.get(name).cloned();
        if let Some(command) = named(image).or_else(|| named(without_tag(image))) {
            return Program::Known(command);
        }
        if has_command {
            return Program::HostFiles;
        }
        let known: Vec<&str> = self.commands.keys().map(String::as_str).collect();
        Program::Missing(format!(
            "images are not pulled here: give the container a command to run on this machine's files, \
             or start the runtime with --image {}=COMMAND (known: {})",
            without_tag(image),
            known.join(", ")
        ))
    }
}

/// The image's name without tag and digest; a port of a registry is not a tag.
fn without_tag(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_with_any_tag_unless_one_was_given() {
        let mut images = Images::built_in(Path::new("/opt/corten"));
        images.add("registry:5000/db=/usr/bin/db --fast").expect("well formed");
        images.add("db:2=/usr/bin/db2").expect("well formed");
        let known = |image: &str| match images.program(image, false) {
            Program::Known(command) => command.join(" "),
            other => format!("{other:?}"),
        };
        assert_eq!(known("corten.dev/echo:1.2@sha256:00"), "/opt/corten/corten-echo");
        assert_eq!(known("registry:5000/db"), "/usr/bin/db --fast");
        assert_eq!(known("registry:5000/db:9"), "/usr/bin/db --fast");
        assert_eq!(known("db:2"), "/usr/bin/db2");
        assert!(
            matches!(images.program("db:3", false), Program::Missing(message) if message.contains("--image db=COMMAND"))
        );
        assert_eq!(images.program("nginx", true), Program::HostFiles);
        let inside = |image: &str, program: &str| images.in_ours(image, program);
        let node = inside("corten.dev/corten:1", "/usr/local/bin/corten-node");
        assert_eq!(node.as_deref(), Some(Path::new("/opt/corten/corten-node")));
        assert_eq!(inside("nginx", "/usr/local/bin/corten-node"), None);
        assert_eq!(inside("corten.dev/corten", "/usr/bin/env"), None);
    }

    #[test]
    fn an_entry_without_name_or_command_is_refused() {
        for entry in ["nginx", "=x", "x=", "x=  "] {
            assert_eq!(Images::default().add(entry), Err(ParseImageError(entry.to_owned())));
        }
    }
}
