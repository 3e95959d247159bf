//! What the API needs of the node side to answer for running pods: logs, exec, attach, port-forward.
//!
//! Defines the seam ([`PodBackend`]) and serves the wire protocols over it. Does not know how containers run.

use std::io;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

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
