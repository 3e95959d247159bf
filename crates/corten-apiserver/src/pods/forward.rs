//! portforward over a WebSocket: as SPDY streams tunneled in it (kubectl), or as numbered channels (kube-rs).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, SplitSink};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};
use tokio_tungstenite::tungstenite::Message;

use super::connect::Socket;
use super::spdy::{Decoder, Encoder, Frame};
use super::{Duplex, PodBackend};
use crate::object::Object;

/// How much is read from a pod before it goes to the client.
const BLOCK_BYTES: usize = 32 << 10;
/// Blocks that wait for a pod before the client is held up.
const BLOCKS_WAITING_MAX: usize = 16;
/// Streams of one tunnel that are open at a time.
const STREAMS_MAX: usize = 1024;

type Sink = Arc<Mutex<SplitSink<Socket, Message>>>;

async fn send(sink: &Sink, bytes: Bytes) -> bool {
    sink.lock().await.send(Message::Binary(bytes)).await.is_ok()
}

/// Moves bytes between a pod and two functions: what the client sends comes by a queue, what the pod sends goes through `out`.
/// Returns when the pod has nothing more to say.
async fn pump<F: Future<Output = bool>>(
    stream: Box<dyn Duplex>,
    mut from_client: mpsc::Receiver<Bytes>,
    out: impl Fn(Bytes) -> F,
) {
    let (mut read, mut write) = tokio::io::split(stream);
    let upwards = async {
        while let Some(block) = from_client.recv().await {
            if write.write_all(&block).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
        // The pod may still have something to say after the client is done.
        std::future::pending::<()>().await;
    };
    let downwards = async {
        let mut buffer = vec![0; BLOCK_BYTES];
        loop {
            match read.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    if !out(Bytes::copy_from_slice(&buffer[..length])).await {
                        return;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = upwards => {}
        () = downwards => {}
    }
}

/// Serves SPDY tunneled through a WebSocket.
pub(super) async fn tunnel(socket: Socket, backend: Arc<dyn PodBackend>, pod: &Object) {
    let (sink, mut stream) = socket.split();
    let sink: Sink = Arc::new(Mutex::new(sink));
    let mut decoder = Decoder::new();
    let mut encoder = Encoder::default();
    let mut session = Session::default();
    let mut running = FuturesUnordered::new();
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            Some(()) = running.next(), if !running.is_empty() => continue,
        };
        let data = match message {
            Some(Ok(Message::Binary(data))) => data,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_))) => continue,
            _ => return,
        };
        decoder.push(&data);
        loop {
            let frame = match decoder.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "a port-forward client sends no SPDY");
                    return;
                }
            };
            match frame {
                Frame::Open { stream, headers, .. } => {
                    if session.inputs.len() >= STREAMS_MAX || !send(&sink, encoder.reply(stream)).await {
                        return;
                    }
                    if let Some(pair) = session.open(stream, &headers) {
                        running.push(forward(pair, sink.clone(), backend.clone(), pod.clone()).boxed());
                    }
                }
                Frame::Data { stream, data, fin } => {
                    if let Some(input) = session.inputs.get(&stream)
                        && !data.is_empty()
                    {
                        // A pod that does not read holds up the tunnel, as TCP would hold up the connection; but the
                        // pumps go on meanwhile, so that it can drain.
                        let sent = input.send(data);
                        tokio::pin!(sent);
                        loop {
                            tokio::select! {
                                _ = &mut sent => break,
                                Some(()) = running.next(), if !running.is_empty() => {}
                            }
                        }
                    }
                    if fin {
                        session.inputs.remove(&stream);
                    }
                }
                Frame::Reset { stream } => {
                    session.inputs.remove(&stream);
                }
                Frame::Ping { id } => {
                    if !send(&sink, encoder.ping(id)).await {
                        return;
                    }
                }
                Frame::GoAway => return,
            }
        }
    }
}

/// The streams of a tunnel.
#[derive(Default)]
struct Session {
    /// The error stream of each request that has no data stream yet.
    errors: HashMap<String, u32>,
    /// Where the client's data goes, by data stream.
    inputs: HashMap<u32, mpsc::Sender<Bytes>>,
}

/// One forwarded connection.
struct Pair {
    data: u32,
    error: u32,
    port: u16,
    input: mpsc::Receiver<Bytes>,
}

impl Session {
    /// Notes a stream. A connection is complete when both its error and its data stream are there; the error stream comes first.
    fn open(&mut self, stream: u32, headers: &[(String, String)]) -> Option<Pair> {
        let header = |name: &str| {
            headers
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map_or("", |(_, value)| value.as_str())
        };
        let request = header("requestid").to_owned();
        if header("streamtype") == "error" {
            self.errors.insert(request, stream);
            return None;
        }
        let port = header("port").parse().ok()?;
        let error = self.errors.remove(&request)?;
        let (sender, input) = mpsc::channel(BLOCKS_WAITING_MAX);
        self.inputs.insert(stream, sender);
        Some(Pair {
            data: stream,
            error,
            port,
            input,
        })
    }
}

async fn forward(pair: Pair, sink: Sink, backend: Arc<dyn PodBackend>, pod: Object) {
    let encoder = Encoder::default();
    match backend.port_forward(&pod, pair.port).await {
        Ok(stream) => {
            pump(stream, pair.input, |block| {
                send(&sink, encoder.data(pair.data, &block, false))
            })
            .await;
        }
        Err(status) => {
            let text = format!("error forwarding port {} to pod: {}", pair.port, status.message);
            send(&sink, encoder.data(pair.error, text.as_bytes(), false)).await;
        }
    }
    send(&sink, encoder.data(pair.data, b"", true)).await;
    send(&sink, encoder.data(pair.error, b"", true)).await;
}

/// Serves numbered channels: for the port at index I, channel 2I carries data and 2I+1 errors; each begins with the port's number.
pub(super) async fn channels(socket: Socket, backend: Arc<dyn PodBackend>, pod: &Object, ports: &[u16]) {
    let (sink, mut stream) = socket.split();
    let sink: Sink = Arc::new(Mutex::new(sink));
    let mut inputs = Vec::new();
    let mut running = FuturesUnordered::new();
    for (index, port) in ports.iter().copied().enumerate().take(127) {
        let data = u8::try_from(2 * index).unwrap_or(u8::MAX);
        for channel in [data, data + 1] {
            if !send(&sink, on_channel(channel, &port.to_le_bytes())).await {
                return;
            }
        }
        let (sender, input) = mpsc::channel(BLOCKS_WAITING_MAX);
        inputs.push(Some(sender));
        running.push(one_channel(data, port, input, sink.clone(), backend.clone(), pod));
    }
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            Some(()) = running.next(), if !running.is_empty() => {
                if running.is_empty() {
                    let _ = sink.lock().await.close().await;
                    return;
                }
                continue;
            }
        };
        let data = match message {
            Some(Ok(Message::Binary(data))) => data,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_))) => continue,
            _ => return,
        };
        let Some(&channel) = data.first() else { continue };
        let index = usize::from(channel / 2);
        let Some(Some(input)) = inputs.get(index).cloned() else {
            continue;
        };
        let sent = input.send(data.slice(1..));
        tokio::pin!(sent);
        let closed = loop {
            tokio::select! {
                result = &mut sent => break result.is_err(),
                Some(()) = running.next(), if !running.is_empty() => {}
            }
        };
        if closed {
            inputs[index] = None;
        }
    }
}

async fn one_channel(
    data: u8,
    port: u16,
    input: mpsc::Receiver<Bytes>,
    sink: Sink,
    backend: Arc<dyn PodBackend>,
    pod: &Object,
) {
    match backend.port_forward(pod, port).await {
        Ok(stream) => pump(stream, input, |block| send(&sink, on_channel(data, &block))).await,
        Err(status) => {
            send(&sink, on_channel(data + 1, status.message.as_bytes())).await;
        }
    }
}

fn on_channel(channel: u8, data: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(data.len() + 1);
    bytes.put_u8(channel);
    bytes.extend_from_slice(data);
    bytes.freeze()
}
