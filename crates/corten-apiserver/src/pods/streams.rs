//! exec and attach over WebSocket channels: the first byte of each message says which stream it belongs to.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::connect::Socket;
use super::{ExecExit, ExecOptions, ExecStreams, PodBackend, TerminalSize};
use crate::object::Object;
use crate::status::Status;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Version 5: the channel named by the next byte is at its end.
const CLOSE: u8 = 255;

/// Blocks that wait in one direction before the other side is held up.
const BLOCKS_WAITING_MAX: usize = 16;

/// Runs a session to its end.
pub(super) async fn serve(
    socket: Socket,
    backend: Arc<dyn PodBackend>,
    pod: &Object,
    options: ExecOptions,
    closes_channels: bool,
) {
    let (sink, stream) = socket.split();
    let (stdin, stdin_out) = mpsc::channel(BLOCKS_WAITING_MAX);
    let (stdout_in, stdout) = mpsc::channel(BLOCKS_WAITING_MAX);
    let (stderr_in, stderr) = mpsc::channel(BLOCKS_WAITING_MAX);
    let (resize, resize_out) = mpsc::channel(BLOCKS_WAITING_MAX);
    let streams = ExecStreams {
        stdin: stdin_out,
        stdout: stdout_in,
        stderr: stderr_in,
        resize: resize_out,
    };
    let stdin = options.stdin.then_some(stdin);
    let command = backend.exec(pod, options, streams);
    // Input ends when the client is gone; then the command is dropped, which ends it.
    tokio::select! {
        () = output(sink, command, stdout, stderr) => {}
        () = input(stream, stdin, resize, closes_channels) => {}
    }
}

async fn input(
    mut stream: SplitStream<Socket>,
    mut stdin: Option<mpsc::Sender<Bytes>>,
    resize: mpsc::Sender<TerminalSize>,
    closes_channels: bool,
) {
    while let Some(Ok(message)) = stream.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            _ => continue,
        };
        let Some((&channel, _)) = data.split_first() else {
            continue;
        };
        let rest = data.slice(1..);
        match channel {
            STDIN => {
                if let Some(open) = &stdin
                    && !rest.is_empty()
                    && open.send(rest).await.is_err()
                {
                    // The command no longer reads.
                    stdin = None;
                }
            }
            RESIZE => {
                let size: Value = serde_json::from_slice(&rest).unwrap_or_default();
                let side = |key: &str| size[key].as_u64().and_then(|n| u16::try_from(n).ok());
                if let (Some(width), Some(height)) = (side("Width"), side("Height")) {
                    // A size that finds the queue full is stale by the time it could be used.
                    let _ = resize.try_send(TerminalSize { width, height });
                }
            }
            CLOSE if closes_channels && rest.first() == Some(&STDIN) => stdin = None,
            _ => {}
        }
    }
}

async fn output(
    mut sink: SplitSink<Socket, Message>,
    command: impl Future<Output = Result<ExecExit, Status>>,
    mut stdout: mpsc::Receiver<Bytes>,
    mut stderr: mpsc::Receiver<Bytes>,
) {
    tokio::pin!(command);
    // Tells the client that the session stands.
    if sink.send(message(STDOUT, b"")).await.is_err() {
        return;
    }
    let mut result = None;
    let (mut stdout_open, mut stderr_open) = (true, true);
    while result.is_none() || stdout_open || stderr_open {
        let sent = tokio::select! {
            block = stdout.recv(), if stdout_open => match block {
                Some(block) => sink.send(message(STDOUT, &block)).await,
                None => { stdout_open = false; Ok(()) }
            },
            block = stderr.recv(), if stderr_open => match block {
                Some(block) => sink.send(message(STDERR, &block)).await,
                None => { stderr_open = false; Ok(()) }
            },
            ended = &mut command, if result.is_none() => { result = Some(ended); Ok(()) }
        };
        if sent.is_err() {
            return;
        }
    }
    let status = outcome(result);
    let _ = sink.send(message(ERROR, status.to_string().as_bytes())).await;
    // Clients take a close without a code for a failure.
    let normal = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    let _ = sink.send(Message::Close(Some(normal))).await;
    let _ = sink.close().await;
}

/// How the session ended, as the error channel says it.
fn outcome(result: Option<Result<ExecExit, Status>>) -> Value {
    match result {
        Some(Ok(ExecExit { code: 0 })) | None => json!({ "metadata": {}, "status": "Success" }),
        Some(Ok(ExecExit { code })) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
        }),
        Some(Err(status)) => status.to_value(),
    }
}

fn message(channel: u8, data: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(data.len() + 1);
    bytes.put_u8(channel);
    bytes.extend_from_slice(data);
    Message::Binary(bytes.freeze())
}
