//! What the API needs of the node side to answer for running pods: logs, exec, attach, port-forward.
//!
//! Defines the seam ([`PodBackend`]) and serves the wire protocols over it. Does not know how containers run.

mod connect;
mod forward;
mod inflate;
mod log;
mod spdy;
mod streams;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

pub(crate) use connect::connect;
pub(crate) use log::log;

use crate::api::Api;
use crate::http::Target;
use crate::object::{self, Object};
use crate::status::Status;

/// The node side of running pods. Called once for each request; the pod given is the one stored at that moment.
pub trait PodBackend: Send + Sync {
    /// The log of a container, as lines. The stream ends when the log does, or with the container when following.
    /// An error before the stream begins is answered as it is; one within the stream ends the response.
    fn logs(
        &self,
        pod: &Value,
        options: LogOptions,
    ) -> BoxFuture<'_, Result<BoxStream<'static, io::Result<Bytes>>, Status>>;

    /// Runs a command in a container (or joins its main process, when [`ExecOptions::attach`] is set) until it ends.
    /// The future is dropped when the client goes away; what it started must then end too.
    fn exec(&self, pod: &Value, options: ExecOptions, io: ExecStreams) -> BoxFuture<'_, Result<ExecExit, Status>>;

    /// Connects to a port inside the pod's network namespace.
    fn port_forward(&self, pod: &Value, port: u16) -> BoxFuture<'_, Result<Box<dyn Duplex>, Status>>;
}

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The query of a `log` request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    /// The container; the API has chosen it when the request left it out.
    pub container: String,
    /// Go on while the container runs.
    pub follow: bool,
    /// The log of the instance before the present one.
    pub previous: bool,
    /// Prefix each line with its RFC 3339 time.
    pub timestamps: bool,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<i64>,
    /// Only lines after this time (RFC 3339).
    pub since_time: Option<String>,
    /// Only the last so many lines.
    pub tail_lines: Option<u64>,
    /// Stop after so many bytes.
    pub limit_bytes: Option<u64>,
}

/// The query of an `exec` or `attach` request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecOptions {
    /// The container; the API has chosen it when the request left it out.
    pub container: String,
    /// The command and its arguments; empty for attach.
    pub command: Vec<String>,
    /// Whether standard input is connected.
    pub stdin: bool,
    /// Whether standard output is connected.
    pub stdout: bool,
    /// Whether standard error is connected.
    pub stderr: bool,
    /// Whether the command gets a terminal.
    pub tty: bool,
    /// Join the container's main process instead of starting a command.
    pub attach: bool,
}

/// The streams of an exec session, bounded queues of byte blocks.
#[derive(Debug)]
pub struct ExecStreams {
    /// What the client types; closed when it is at its end.
    pub stdin: mpsc::Receiver<Bytes>,
    /// Goes to the client's standard output.
    pub stdout: mpsc::Sender<Bytes>,
    /// Goes to the client's standard error.
    pub stderr: mpsc::Sender<Bytes>,
    /// Sizes of the client's terminal.
    pub resize: mpsc::Receiver<TerminalSize>,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecExit {
    /// The exit code; 128 + N after signal N, as shells say it.
    pub code: i32,
}

/// The stored pod of a request and the backend that runs it.
fn running(api: &Api, target: &Target) -> Result<(Object, Arc<dyn PodBackend>), Status> {
    let pod = api
        .store
        .get("/pods", &target.namespace, &target.name)
        .ok_or_else(|| Status::not_found("", "pods", &target.name))?;
    let backend = api.pods.get().cloned().ok_or_else(|| {
        Status::new(
            503,
            "ServiceUnavailable",
            "no node side is connected to this API yet; try again in a moment",
        )
    })?;
    Ok((pod, backend))
}

/// The container that a request means: the named one, the annotated default, or the only one.
fn container(pod: &Value, named: Option<&str>, what: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<&str> {
        object::items(&pod["spec"][list])
            .iter()
            .filter_map(|c| c["name"].as_str())
            .collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    if let Some(named) = named {
        if main.contains(&named) || init.contains(&named) {
            return Ok(named.to_owned());
        }
        return Err(Status::bad_request(format!(
            "container {named} is not valid for pod {}",
            object::name(pod)
        )));
    }
    let default = object::at(
        pod,
        &["metadata", "annotations", "kubectl.kubernetes.io/default-container"],
    );
    if let Some(default) = default.as_str().filter(|d| main.contains(d)) {
        return Ok(default.to_owned());
    }
    match (main.as_slice(), init.is_empty() || what == "exec") {
        ([only], _) => Ok((*only).to_owned()),
        (_, true) => Err(Status::bad_request(format!(
            "a container name must be specified for pod {}, choose one of: [{}]",
            object::name(pod),
            main.join(" ")
        ))),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {}, choose one of: [{}] or one of the init containers: [{}]",
            object::name(pod),
            main.join(" "),
            init.join(" ")
        ))),
    }
}
