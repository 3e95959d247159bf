//! A call as it arrives: who the pod is, and what the plugins before this one did.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;

/// The plugin's configuration, as Istio's has it; keys of other features are left alone.
#[derive(Debug, Default, Deserialize)]
pub struct Config {
    #[serde(rename = "cniVersion", default)]
    version: Option<String>,
    /// Whether pods join the mesh in their own network namespace.
    #[serde(default)]
    pub ambient_enabled: bool,
    /// Where the agent's sockets are.
    #[serde(default)]
    pub cni_agent_run_dir: Option<PathBuf>,
    /// Namespaces whose pods never join.
    #[serde(default)]
    pub exclude_namespaces: Option<Vec<String>>,
    /// The namespace of the agent itself.
    #[serde(default)]
    pub pod_namespace: String,
    /// What becomes of pods that the mesh cannot take.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    #[serde(rename = "prevResult", default)]
    previous: Option<Value>,
}

/// What becomes of a pod when the mesh cannot be asked, or cannot take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailurePolicy {
    /// It does not start.
    #[default]
    Closed,
    /// While the agent is away, pods of namespaces that were outside of the mesh when it was last there start; others do not.
    Namespace,
    /// It starts outside of the mesh; the agent takes it up when it can.
    Open,
}

/// Where the agent leaves the names of the namespaces that are outside of the mesh, beside its socket; one in a line.
pub const OUTSIDE: &str = "outside-namespaces";
/// Where the agent listens unless configured otherwise.
const RUN_DIR: &str = "/var/run/istio-cni";
/// The agent's own pods, which it cannot be asked about.
const AGENT_PODS: &str = "istio-cni-node-";

impl Config {
    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("pluginevent.sock")
    }

    /// The list of namespaces outside of the mesh.
    pub(crate) fn outside(&self) -> PathBuf {
        self.run_dir().join(OUTSIDE)
    }

    fn run_dir(&self) -> &Path {
        let dir = self.cni_agent_run_dir.as_deref();
        let dir = dir.filter(|dir| !dir.as_os_str().is_empty());
        dir.unwrap_or_else(|| Path::new(RUN_DIR))
    }
}

/// An ADD.
#[derive(Debug)]
pub struct Call {
    /// The configuration.
    pub config: Config,
    /// The pod's network namespace.
    pub netns: String,
    /// The pod's name; empty if this is no pod of Kubernetes.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid, where the runtime tells it.
    pub uid: String,
}

impl Call {
    pub(crate) fn parse(variable: &dyn Fn(&str) -> Option<String>, input: &[u8]) -> Result<Call, Error> {
        let config: Config = serde_json::from_slice(input).map_err(|error| Error::Decode(error.to_string()))?;
        let args = variable("CNI_ARGS").unwrap_or_default();
        let argument = |name: &str| {
            let mut pairs = args.split(';').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        let netns = variable("CNI_NETNS").filter(|netns| !netns.is_empty());
        Ok(Call {
            config,
            netns: netns.ok_or_else(|| Error::Environment("CNI_NETNS is not set".into()))?,
            name: argument("K8S_POD_NAME"),
            namespace: argument("K8S_POD_NAMESPACE"),
            uid: argument("K8S_POD_UID"),
        })
    }

    /// Whether the agent has to be asked.
    pub(crate) fn concerns_the_mesh(&self) -> bool {
        let is_pod = !self.name.is_empty() && !self.namespace.is_empty();
        let is_agent = self.namespace == self.config.pod_namespace && self.name.starts_with(AGENT_PODS);
        let excluded = self.config.exclude_namespaces.iter().flatten();
        self.config.ambient_enabled && is_pod && !is_agent && !excluded.into_iter().any(|name| *name == self.namespace)
    }

    /// The addresses the pod has been given.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Value> {
        let previous = self.config.previous.as_ref();
        previous
            .and_then(|result| result["ips"].as_array())
            .into_iter()
            .flatten()
    }

    /// What the chain answers: the result so far, or an empty one.
    pub(crate) fn result(&self) -> Value {
        let version = self.config.version.as_deref().unwrap_or("0.3.1");
        let previous = self.config.previous.clone();
        previous.unwrap_or_else(|| json!({ "cniVersion": version }))
    }
}
