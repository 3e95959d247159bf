//! corten-cni, the CNI plugin: synchronous, tiny, talks to the agent.
//!
//! Called last in the node's chain for every pod, it asks the node agent to take the pod into the mesh before the pod's first process
//! runs, and passes the result of the plugins before it on. Whether a pod belongs to the mesh is the agent's to know: it watches the
//! node's pods and their namespaces, while a plugin would have to ask the API server each time. An agent that cannot be asked is a
//! reason not to start a pod that may belong to the mesh: it would be outside of it unnoticed. [`FailurePolicy`] says what counts.

pub mod agent;
mod call;
mod request;

use serde_json::{Value, json};

pub use call::{Call, Config, FailurePolicy, OUTSIDE};
pub use request::body;

/// The versions of the interface this plugin speaks.
pub const VERSIONS: [&str; 6] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "0.2.0"];

/// Why a call failed, in the interface's categories.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable is missing or wrong.
    #[error("{0}")]
    Environment(String),
    /// The standard input could not be read.
    #[error("cannot read the configuration: {0}")]
    Io(String),
    /// The configuration is not JSON of the expected form.
    #[error("cannot read the configuration: {0}")]
    Decode(String),
    /// The agent does not answer.
    #[error(
        "the mesh's node agent does not answer at {socket}: {reason}; pod {pod} is not started, as it may belong to the mesh \
         (is istio-cni-node running on this node?)"
    )]
    Unreachable {
        /// Where it was asked.
        socket: String,
        /// What happened.
        reason: String,
        /// For whom.
        pod: String,
    },
    /// The agent could not do it.
    #[error("the mesh cannot take pod {pod}: {reason}")]
    Refused {
        /// Whom.
        pod: String,
        /// The agent's words.
        reason: String,
    },
}

impl Error {
    /// The code: below 100 they are the interface's.
    pub fn code(&self) -> u32 {
        match self {
            Error::Environment(_) => 4,
            Error::Io(_) => 5,
            Error::Decode(_) => 6,
            // "Try again later".
            Error::Unreachable { .. } => 11,
            Error::Refused { .. } => 100,
        }
    }

    /// The error as the interface wants it printed.
    pub fn document(&self, version: &str) -> Value {
        json!({ "cniVersion": version, "code": self.code(), "msg": self.to_string(), "details": "istio-cni" })
    }
}

/// Handles one call: the variables and the standard input in; what to print out, as success or as failure.
pub fn run(
    variable: &dyn Fn(&str) -> Option<String>,
    input: &[u8],
    agent: &mut dyn agent::Agent,
) -> Result<Option<Value>, Value> {
    let parsed: Value = serde_json::from_slice(input).unwrap_or_default();
    let version = parsed["cniVersion"].as_str().unwrap_or("1.1.0").to_owned();
    handle(variable, input, agent).map_err(|error| error.document(&version))
}

fn handle(
    variable: &dyn Fn(&str) -> Option<String>,
    input: &[u8],
    agent: &mut dyn agent::Agent,
) -> Result<Option<Value>, Error> {
    match variable("CNI_COMMAND").as_deref() {
        Some("VERSION") => Ok(Some(json!({ "cniVersion": "1.1.0", "supportedVersions": VERSIONS }))),
        Some("ADD") => add(&Call::parse(variable, input)?, agent).map(Some),
        // What the agent did for a pod ends with the pod's namespace, which it watches.
        Some("DEL" | "CHECK" | "GC" | "STATUS") => Ok(None),
        other => Err(Error::Environment(format!(
            "CNI_COMMAND is {other:?}; this is a CNI plugin, which a container runtime calls with ADD, DEL, CHECK, GC, STATUS or VERSION"
        ))),
    }
}

fn add(call: &Call, agent: &mut dyn agent::Agent) -> Result<Value, Error> {
    if call.concerns_the_mesh()
        && let Err(error) = ask(call, agent)
    {
        let is_away = matches!(error, Error::Unreachable { .. });
        let may_start = match call.config.failure_policy {
            FailurePolicy::Closed => false,
            FailurePolicy::Namespace => is_away && is_outside(call, agent),
            FailurePolicy::Open => true,
        };
        if !may_start {
            return Err(error);
        }
    }
    Ok(call.result())
}

fn ask(call: &Call, agent: &mut dyn agent::Agent) -> Result<(), Error> {
    let pod = format!("{}/{}", call.namespace, call.name);
    let socket = call.config.socket();
    // Who would start without an answer does not wait for one.
    let patient = match call.config.failure_policy {
        FailurePolicy::Closed => true,
        FailurePolicy::Namespace => !is_outside(call, agent),
        FailurePolicy::Open => false,
    };
    let answer = agent.post(&socket, "/cmdadd", &body(call).to_string(), patient);
    let answer = answer.map_err(|error| Error::Unreachable {
        socket: socket.display().to_string(),
        reason: error.to_string(),
        pod: pod.clone(),
    })?;
    if answer.status == 200 {
        return Ok(());
    }
    Err(Error::Refused {
        pod,
        reason: answer.reason(),
    })
}

/// Whether the pod's namespace was outside of the mesh when the agent was last there. A namespace that it did not know is not.
fn is_outside(call: &Call, agent: &mut dyn agent::Agent) -> bool {
    let list = agent.left(&call.config.outside()).unwrap_or_default();
    list.lines().any(|name| name == call.namespace)
}

#[cfg(test)]
mod tests;
