//! A call as it arrives: the variables and the configuration, checked.

use std::path::PathBuf;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;
use serde_json::Value;

use super::{Error, VERSIONS};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Is it attached as it was?
    Check,
    /// Forget attachments that are gone.
    Gc,
    /// Could an ADD succeed?
    Status,
    /// Which versions?
    Version,
}

/// A checked call.
#[derive(Debug)]
pub struct Call {
    /// The interface version of the answer.
    pub version: String,
    /// The id of the container (empty for GC and STATUS).
    pub container: String,
    /// The pod's namespace; absent in a DEL after the namespace is gone.
    pub netns: Option<PathBuf>,
    /// The name of the interface inside.
    pub interface: String,
    /// The configuration.
    pub config: Config,
}

/// The plugin's configuration.
#[derive(Debug, Deserialize)]
pub struct Config {
    #[serde(rename = "cniVersion", default)]
    version: Option<String>,
    /// The node's bridge, which exists and has the ranges' first addresses.
    pub bridge: String,
    /// Where the addresses in use are recorded.
    pub dir: PathBuf,
    /// The IPv4 range of the node's pods.
    pub range4: Ipv4Net,
    /// The IPv6 range of the node's pods; none without IPv6.
    #[serde(default)]
    pub range6: Option<Ipv6Net>,
    /// The largest packet.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// What a plugin before this one did, or what ADD answered.
    #[serde(rename = "prevResult", default)]
    pub previous: Option<Value>,
    /// For GC: what is still attached.
    #[serde(rename = "cni.dev/valid-attachments", default)]
    pub valid: Vec<Attachment>,
}

/// One attachment of a container.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Attachment {
    /// The container's id.
    #[serde(rename = "containerID")]
    pub container: String,
    /// The interface's name inside.
    #[serde(rename = "ifname")]
    pub interface: String,
}

impl Command {
    pub(crate) fn parse(variable: &dyn Fn(&str) -> Option<String>) -> Result<Command, Error> {
        match variable("CNI_COMMAND").as_deref() {
            Some("ADD") => Ok(Command::Add),
            Some("DEL") => Ok(Command::Del),
            Some("CHECK") => Ok(Command::Check),
            Some("GC") => Ok(Command::Gc),
            Some("STATUS") => Ok(Command::Status),
            Some("VERSION") => Ok(Command::Version),
            other => Err(Error::Environment(format!(
                "CNI_COMMAND is {other:?}; this is a CNI plugin, which a container runtime calls with ADD, DEL, CHECK, GC, STATUS or VERSION"
            ))),
        }
    }
}

impl Call {
    pub(crate) fn parse(
        command: Command,
        variable: &dyn Fn(&str) -> Option<String>,
        input: &[u8],
    ) -> Result<Call, Error> {
        let config: Config = serde_json::from_slice(input).map_err(|error| Error::Decode(error.to_string()))?;
        let version = config.version.clone().unwrap_or_else(|| "0.3.1".into());
        if !VERSIONS.contains(&version.as_str()) {
            return Err(Error::Version(version));
        }
        if config.range4.prefix_len() > 30 {
            return Err(Error::Config(format!(
                "range4 {} has no room for pods: give a /30 or larger",
                config.range4
            )));
        }
        let for_one = !matches!(command, Command::Gc | Command::Status);
        let required = |name: &str, wanted: bool| match variable(name).filter(|value| !value.is_empty()) {
            None if wanted => Err(Error::Environment(format!("{name} is not set"))),
            value => Ok(value.unwrap_or_default()),
        };
        let netns = required("CNI_NETNS", for_one && command != Command::Del)?;
        let container = required("CNI_CONTAINERID", for_one)?;
        let interface = required("CNI_IFNAME", for_one)?;
        if container.contains(['/', '\n', '\0']) || interface.len() > 15 || interface.contains(['/', ' ', '\n']) {
            return Err(Error::Environment(format!(
                "container id {container:?} or interface {interface:?} is malformed"
            )));
        }
        Ok(Call {
            version,
            container,
            interface,
            netns: (!netns.is_empty()).then(|| netns.into()),
            config,
        })
    }

    /// The name of the pair's end on the bridge: the same for the same attachment, so that DEL finds it without any record.
    pub(crate) fn port(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a
        for byte in self.container.bytes().chain([b'/']).chain(self.interface.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        format!("veth{:010x}", hash & 0xff_ffff_ffff)
    }
}
