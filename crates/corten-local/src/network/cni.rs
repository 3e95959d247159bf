//! A node's CNI chain: the configuration in its directory, and calling the plugins as a container runtime does.
//!
//! Plugins are programs: variables and a JSON document in, a JSON document out. Each gets the result of the one before it. Knows no
//! plugin; the node's network namespace is where they run.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use corten_linux::NetNs;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long one plugin may take; a mesh's plugin may wait for its agent.
const PLUGIN_TIME_MAX: Duration = Duration::from_secs(60);
/// More than any result.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// Why a chain could not be read or run.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// The directory holds no usable configuration.
    #[error("no CNI network configuration in {dir}{}", problem.as_deref().map(|p| format!(": {p}")).unwrap_or_default())]
    NoConfiguration {
        /// The directory.
        dir: PathBuf,
        /// What was wrong with the files that are there.
        problem: Option<String>,
    },
    /// No directory has a program of the plugin's name.
    #[error("CNI plugin {plugin:?} is in none of {path}")]
    NoPlugin {
        /// The plugin's type.
        plugin: String,
        /// Where it was looked for.
        path: String,
    },
    /// The program could not be run.
    #[error("cannot run CNI plugin {plugin:?}: {source}")]
    Run {
        /// The plugin's type.
        plugin: String,
        /// Why.
        source: io::Error,
    },
    /// The plugin said no.
    #[error("plugin type={plugin:?} failed ({command}): {message}{}", details.as_deref().map(|d| format!("; {d}")).unwrap_or_default())]
    Refused {
        /// The plugin's type.
        plugin: String,
        /// ADD, DEL, ...
        command: &'static str,
        /// The interface's error code.
        code: u64,
        /// The plugin's words.
        message: String,
        /// More of them.
        details: Option<String>,
    },
}

/// A chain of plugins as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// The network's name.
    pub name: String,
    /// The interface version the plugins are called with.
    pub version: String,
    /// Each plugin's configuration.
    pub plugins: Vec<Map<String, Value>>,
}

impl Chain {
    /// The first valid configuration in order of file names: lists (`.conflist`), and single plugins (`.conf`, `.json`).
    pub fn load(dir: &Path) -> Result<Chain, CniError> {
        let none = |problem| CniError::NoConfiguration {
            dir: dir.to_owned(),
            problem,
        };
        let entries = std::fs::read_dir(dir).map_err(|error| none(Some(error.to_string())))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|e| e == "conflist" || e == "conf" || e == "json")
            })
            .collect();
        files.sort();
        let mut problems = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string());
            match text.and_then(|text| Chain::parse(&text)) {
                Ok(chain) => return Ok(chain),
                Err(problem) => problems.push(format!("{}: {problem}", file.display())),
            }
        }
        Err(none((!problems.is_empty()).then(|| problems.join("; "))))
    }

    /// Reads one configuration.
    pub fn parse(text: &str) -> Result<Chain, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        let name = value["name"]
            .as_str()
            .filter(|name| !name.is_empty())
            .ok_or("name is missing")?
            .to_owned();
        let version = value["cniVersion"].as_str().unwrap_or("0.2.0").to_owned();
        let plugins = match &value["plugins"] {
            Value::Null => vec![value.clone()],
            Value::Array(plugins) => plugins.clone(),
            _ => return Err("plugins is not a list".into()),
        };
        let plugins = plugins.into_iter().map(|plugin| match plugin {
            Value::Object(plugin) if plugin.get("type").is_some_and(Value::is_string) => Ok(plugin),
            _ => Err("a plugin has no type".to_owned()),
        });
        let plugins: Vec<_> = plugins.collect::<Result<_, _>>()?;
        if plugins.is_empty() {
            return Err("plugins is empty".into());
        }
        Ok(Chain { name, version, plugins })
    }

    /// The document for plugin `index`: its own configuration, the network's name and version, the result so far.
    fn document(&self, index: usize, previous: Option<&Value>) -> Value {
        let mut document = self.plugins[index].clone();
        // What a runtime has no capability arguments for, it leaves out.
        document.remove("capabilities");
        document.insert("name".into(), self.name.clone().into());
        document.insert("cniVersion".into(), self.version.clone().into());
        if let Some(previous) = previous {
            document.insert("prevResult".into(), previous.clone());
        }
        Value::Object(document)
    }

    fn plugin(&self, index: usize) -> &str {
        self.plugins[index]["type"].as_str().unwrap_or_default()
    }
}

/// What a chain is called for.
#[derive(Clone, Debug)]
pub(super) struct Attachment {
    /// The container's id.
    pub(super) container: String,
    /// The pod's namespace; empty in a DEL after it is gone.
    pub(super) netns: String,
    /// The interface inside.
    pub(super) interface: String,
    /// `CNI_ARGS`: who the pod is.
    pub(super) args: Vec<(String, String)>,
}

/// The node whose chain it is.
#[derive(Debug)]
pub(super) struct Host<'a> {
    /// Where the plugins run.
    pub(super) netns: &'a NetNs,
    /// Where they are looked for, in order.
    pub(super) path: Vec<PathBuf>,
}

impl Host<'_> {
    /// ADD, plugin by plugin; the last one's result.
    pub(super) async fn add(&self, chain: &Chain, attachment: &Attachment) -> Result<Value, CniError> {
        let mut result = None;
        for index in 0..chain.plugins.len() {
            result = Some(self.call("ADD", chain, index, attachment, result.as_ref()).await?);
        }
        Ok(result.unwrap_or_default())
    }

    /// DEL, in reverse order; goes on after an error, so that the others still clean up, and returns the first.
    pub(super) async fn delete(
        &self,
        chain: &Chain,
        attachment: &Attachment,
        added: Option<&Value>,
    ) -> Result<(), CniError> {
        let mut first = Ok(());
        for index in (0..chain.plugins.len()).rev() {
            let result = self.call("DEL", chain, index, attachment, added).await.map(drop);
            first = first.and(result);
        }
        first
    }

    /// CHECK, against what ADD gave.
    pub(super) async fn check(&self, chain: &Chain, attachment: &Attachment, added: &Value) -> Result<(), CniError> {
        for index in 0..chain.plugins.len() {
            self.call("CHECK", chain, index, attachment, Some(added)).await?;
        }
        Ok(())
    }

    async fn call(
        &self,
        command: &'static str,
        chain: &Chain,
        index: usize,
        attachment: &Attachment,
        previous: Option<&Value>,
    ) -> Result<Value, CniError> {
        let plugin = chain.plugin(index);
        let program = self.find(plugin)?;
        let document = chain.document(index, previous).to_string();
        let failed = |source| CniError::Run {
            plugin: plugin.to_owned(),
            source,
        };
        let running = self.run(&program, command, attachment, &document);
        let limited = tokio::time::timeout(PLUGIN_TIME_MAX, running).await;
        let (success, output) = limited
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it took longer than a minute")))
            .map_err(failed)?;
        let answer: Option<Value> = serde_json::from_slice(&output).ok();
        if success {
            // DEL and CHECK answer nothing; a chained plugin may pass nothing on.
            return Ok(answer.or_else(|| previous.cloned()).unwrap_or_default());
        }
        let answer = answer.unwrap_or_else(|| json!({ "msg": String::from_utf8_lossy(&output).trim() }));
        Err(CniError::Refused {
            plugin: plugin.to_owned(),
            command,
            code: answer["code"].as_u64().unwrap_or_default(),
            message: answer["msg"]
                .as_str()
                .filter(|m| !m.is_empty())
                .unwrap_or("it gave no reason")
                .to_owned(),
            details: answer["details"].as_str().filter(|d| !d.is_empty()).map(str::to_owned),
        })
    }

    fn find(&self, plugin: &str) -> Result<PathBuf, CniError> {
        // The type is a name, not a way out of the directories.
        let found = (!plugin.contains('/'))
            .then(|| {
                self.path
                    .iter()
                    .map(|dir| dir.join(plugin))
                    .find(|program| program.is_file())
            })
            .flatten();
        found.ok_or_else(|| CniError::NoPlugin {
            plugin: plugin.to_owned(),
            path: self.joined_path(),
        })
    }

    fn joined_path(&self) -> String {
        self.path
            .iter()
            .map(|dir| dir.display().to_string())
            .collect::<Vec<_>>()
            .join(":")
    }

    async fn run(
        &self,
        program: &Path,
        command: &str,
        attachment: &Attachment,
        document: &str,
    ) -> io::Result<(bool, Vec<u8>)> {
        let args: Vec<String> = attachment
            .args
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut process = tokio::process::Command::new(program);
        process
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &attachment.container)
            .env("CNI_NETNS", &attachment.netns)
            .env("CNI_IFNAME", &attachment.interface)
            .env("CNI_ARGS", args.join(";"))
            .env("CNI_PATH", self.joined_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let runtime = tokio::runtime::Handle::current();
        // A child starts in the namespace of the thread that made it. Starting takes well under a millisecond, so this thread waits.
        let mut child = self.netns.run(|| {
            let _entered = runtime.enter();
            process.spawn()
        })??;
        let mut output = Vec::new();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A plugin that fails early does not read; its answer says why.
                stdin.write_all(document.as_bytes()).await.ok();
            }
        };
        let read = async {
            match stdout {
                Some(stdout) => stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut output).await.map(drop),
                None => Ok(()),
            }
        };
        let ((), read) = tokio::join!(write, read);
        read?;
        Ok((child.wait().await?.success(), output))
    }
}

/// The addresses in a result, IPv4 first.
pub(super) fn addresses(result: &Value) -> Vec<std::net::IpAddr> {
    let ips = result["ips"].as_array().into_iter().flatten();
    let parse = |ip: &Value| ip["address"].as_str()?.split('/').next()?.parse().ok();
    let mut addresses: Vec<std::net::IpAddr> = ips.filter_map(parse).collect();
    addresses.sort_by_key(std::net::IpAddr::is_ipv6);
    addresses
}
