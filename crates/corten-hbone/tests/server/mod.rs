//! A server for other implementations to talk to: a thread a connection, ordinary requests and tunnels.
//!
//! A request is answered with a short text when it has ended; what comes through a tunnel goes back through it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use corten_hbone::h2::{Connection, Reason, Request, Response, Settings, Sink, StreamId};
use corten_hbone::{Progress, Tunnel};
use rustls::ServerConfig;

/// Serves on a free port of the loopback until the process ends.
pub(crate) fn start(tls: Option<Arc<ServerConfig>>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(socket) = connection else { continue };
            let tls = tls.clone();
            std::thread::spawn(move || {
                // How a connection ends is the business of its peer, who is the test.
                let _ = match tls {
                    Some(config) => encrypted(socket, &config),
                    None => plain(socket),
                };
            });
        }
    });
    Ok(address)
}

/// h2spec takes the frame size for the default one: it sends the largest frame without a look at the window, and
/// 20 KiB of headers to be refused for their size.
fn settings() -> Settings {
    Settings {
        frame_size_max: 16_384,
        ..Settings::server()
    }
}

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

fn encrypted(mut socket: TcpStream, config: &Arc<ServerConfig>) -> Result {
    socket.set_nodelay(true)?;
    let mut tunnel = Tunnel::server(config, settings())?;
    let mut streams = Streams::default();
    let mut scratch = vec![0; 256 << 10];
    loop {
        let mut events = Vec::new();
        let read = tunnel.read(&mut socket, &mut scratch, &mut Events(&mut events));
        streams.serve(tunnel.h2(), events);
        tunnel.flush(&mut socket)?;
        match read {
            Ok(Progress::Closed) => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                linger(socket)?;
                return Err(error.into());
            }
        }
        while streams.resume(tunnel.h2()) {
            tunnel.flush(&mut socket)?;
        }
    }
}

fn plain(mut socket: TcpStream) -> Result {
    socket.set_nodelay(true)?;
    let mut connection = Connection::server(settings());
    let mut streams = Streams::default();
    let mut scratch = vec![0; 256 << 10];
    loop {
        flush(&mut connection, &mut socket)?;
        while streams.resume(&mut connection) {
            flush(&mut connection, &mut socket)?;
        }
        let read = socket.read(&mut scratch)?;
        if read == 0 {
            return Ok(());
        }
        let mut events = Vec::new();
        let received = connection.receive(&scratch[..read], &mut Events(&mut events));
        streams.serve(&mut connection, events);
        if let Err(error) = received {
            flush(&mut connection, &mut socket)?;
            linger(socket)?;
            return Err(error.into());
        }
    }
}

/// Waits until the peer has read what was wrong: closing with bytes unread would reset the connection before that.
fn linger(mut socket: TcpStream) -> std::io::Result<()> {
    socket.shutdown(Shutdown::Write)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    while socket.read(&mut [0; 4096])? > 0 {}
    Ok(())
}

fn flush(connection: &mut Connection, socket: &mut TcpStream) -> std::io::Result<()> {
    let mut written = Ok(());
    connection.take_output(|bytes| {
        if written.is_ok() {
            written = socket.write_all(bytes);
        }
    });
    written
}

enum Event {
    Request { connect: bool, head: bool },
    Data(Vec<u8>),
    End,
    Reset,
}

struct Events<'a>(&'a mut Vec<(StreamId, Event)>);

impl<'b> Sink<'b> for Events<'_> {
    fn request(&mut self, stream: StreamId, request: Request<'_>) {
        let event = Event::Request {
            connect: request.is_connect(),
            head: request.method == b"HEAD",
        };
        self.0.push((stream, event));
    }

    fn response(&mut self, _stream: StreamId, _response: Response<'_>) {}

    fn data(&mut self, stream: StreamId, bytes: &'b [u8]) {
        self.0.push((stream, Event::Data(bytes.to_vec())));
    }

    fn end(&mut self, stream: StreamId) {
        self.0.push((stream, Event::End));
    }

    fn reset(&mut self, stream: StreamId, _reason: Reason) {
        self.0.push((stream, Event::Reset));
    }
}

#[derive(Default)]
struct Stream {
    connect: bool,
    head: bool,
    to_send: Vec<u8>,
    end: bool,
}

#[derive(Default)]
struct Streams(HashMap<StreamId, Stream>);

impl Streams {
    fn serve(&mut self, h2: &mut Connection, events: Vec<(StreamId, Event)>) {
        for (id, event) in events {
            match event {
                Event::Request { connect, head } => {
                    if connect {
                        h2.respond(id, 200, &[("baggage", b"k8s.cluster.name=test")], false);
                    }
                    let stream = Stream {
                        connect,
                        head,
                        ..Stream::default()
                    };
                    self.0.insert(id, stream);
                }
                Event::Data(bytes) => {
                    let Some(stream) = self.0.get_mut(&id) else { continue };
                    if stream.connect {
                        stream.to_send.extend_from_slice(&bytes);
                        self.send(h2, id);
                    }
                    h2.release(id, bytes.len());
                }
                Event::End => {
                    let Some(stream) = self.0.get_mut(&id) else { continue };
                    stream.end = true;
                    if !stream.connect {
                        let text = b"hello from corten-hbone\n";
                        let length = text.len().to_string();
                        h2.respond(id, 200, &[("content-length", length.as_bytes())], stream.head);
                        if !stream.head {
                            stream.to_send.extend_from_slice(text);
                        }
                    }
                    self.send(h2, id);
                }
                Event::Reset => {
                    self.0.remove(&id);
                }
            }
        }
    }

    /// Sends what a stream has, as far as it may.
    fn send(&mut self, h2: &mut Connection, id: StreamId) {
        let Some(stream) = self.0.get_mut(&id) else { return };
        if !stream.to_send.is_empty() || stream.end {
            let sent = h2.send(id, &stream.to_send, stream.end);
            stream.to_send.drain(..sent);
            if stream.to_send.is_empty() && stream.end {
                self.0.remove(&id);
            }
        }
    }

    /// Goes on with a stream that was held back, if there is one.
    fn resume(&mut self, h2: &mut Connection) -> bool {
        match h2.next_writable() {
            Some(id) => {
                self.send(h2, id);
                true
            }
            None => false,
        }
    }
}
