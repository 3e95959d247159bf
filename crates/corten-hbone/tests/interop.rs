//! Other implementations talk to ours: hyper (the `h2` crate) in both roles, curl, nghttp and h2spec.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use corten_hbone::h2::{Reason, Request, Response, Settings, Sink, StreamId};
use corten_hbone::{Progress, Tunnel};
use http_body_util::Empty;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[path = "certificates/mod.rs"]
mod certificates;
#[path = "server/mod.rs"]
mod server;

/// What is sent through a tunnel: enough to use up windows several times.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 + i / 255) as u8).collect()
}

/// hyper opens tunnels to our server, one after the other on one connection, and reads back what it sent.
#[tokio::test]
async fn hyper_as_client() {
    let pair = certificates::pair(&[&rustls::version::TLS13]);
    let address = server::start(Some(pair.server)).expect("a free port");
    let socket = TcpStream::connect(address).await.expect("a connection");
    let socket = TlsConnector::from(pair.client)
        .connect(certificates::name(), socket)
        .await
        .expect("a handshake");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .expect("http/2");
    let calls = async move {
        for bytes in [0, 10, 3_000_000, 1] {
            let request = http::Request::connect("10.0.0.1:8080")
                .header("baggage", "k8s.namespace.name=orders")
                .body(Empty::<Bytes>::new())
                .expect("a request");
            let response = sender.send_request(request).await.expect("a response");
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["baggage"], "k8s.cluster.name=test");
            let upgraded = hyper::upgrade::on(response).await.expect("a tunnel");
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
            let sent = content(bytes);
            let send = async {
                writer.write_all(&sent).await.expect("sent");
                writer.shutdown().await.expect("half closed");
            };
            let mut back = Vec::new();
            let (_, read) = tokio::join!(send, reader.read_to_end(&mut back));
            read.expect("read");
            assert!(back == sent, "{} of {bytes} bytes came back", back.len());
        }
    };
    tokio::select! {
        () = calls => {}
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

/// A server of hyper's that sends back what comes through a tunnel.
async fn hyper_server(listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
    let (socket, _) = listener.accept().await.expect("a connection");
    let socket = TlsAcceptor::from(tls).accept(socket).await.expect("a handshake");
    let echo = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        assert_eq!(request.method(), http::Method::CONNECT);
        assert_eq!(request.uri().to_string(), "10.0.0.1:8080");
        assert_eq!(request.headers()["forwarded"], "for=\"10.0.0.9:1234\"");
        let tunnel = async move {
            let upgraded = hyper::upgrade::on(request).await?;
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
            tokio::io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        };
        hyper::rt::Executor::execute(&TokioExecutor::new(), async move {
            tunnel.await.expect("the tunnel ends well");
        });
        Ok::<_, std::convert::Infallible>(http::Response::new(Empty::<Bytes>::new()))
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(socket), echo)
        .await
        .expect("the connection ends well");
}

/// A socket that never blocks.
struct Now<'a>(&'a TcpStream);

impl Read for Now<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct Told {
    status: Option<u16>,
    bytes: Vec<u8>,
    unreleased: usize,
    ended: bool,
}

impl<'b> Sink<'b> for Told {
    fn request(&mut self, _stream: StreamId, _request: Request<'_>) {
        panic!("a server that asks");
    }

    fn response(&mut self, _stream: StreamId, response: Response<'_>) {
        self.status = Some(response.status);
    }

    fn data(&mut self, _stream: StreamId, bytes: &'b [u8]) {
        self.bytes.extend_from_slice(bytes);
        self.unreleased += bytes.len();
    }

    fn end(&mut self, _stream: StreamId) {
        self.ended = true;
    }

    fn reset(&mut self, _stream: StreamId, reason: Reason) {
        panic!("reset: {reason}");
    }
}

/// Our client opens tunnels to hyper.
#[tokio::test]
async fn hyper_as_server() {
    let pair = certificates::pair(&[&rustls::version::TLS13]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let client = async {
        let socket = TcpStream::connect(address).await.expect("a connection");
        let mut tunnel = Tunnel::client(&pair.client, certificates::name(), Settings::client()).expect("a tunnel");
        let mut scratch = vec![0; 256 << 10];
        for bytes in [0, 10, 3_000_000, 1] {
            let forwarded: &[(&str, &[u8])] = &[("forwarded", b"for=\"10.0.0.9:1234\"")];
            let stream = tunnel.h2().connect("10.0.0.1:8080", forwarded).expect("a stream");
            let sent = content(bytes);
            let mut rest = &sent[..];
            let mut told = Told::default();
            let mut ended = false;
            while !told.ended {
                // Until the first answer there is no telling whether the peer will take anything.
                if told.status.is_some() && !ended {
                    let taken = tunnel.h2().send(stream, rest, true);
                    rest = &rest[taken..];
                    ended = rest.is_empty();
                }
                let out = tunnel.flush(&mut Now(&socket)).expect("written");
                let interest = if out {
                    Interest::READABLE
                } else {
                    Interest::READABLE | Interest::WRITABLE
                };
                if out && tunnel.h2().next_writable().is_some() {
                    continue;
                }
                socket.ready(interest).await.expect("a socket");
                let progress = tunnel.read(&mut Now(&socket), &mut scratch, &mut told).expect("read");
                assert_ne!(progress, Progress::Closed);
                tunnel.h2().release(stream, std::mem::take(&mut told.unreleased));
            }
            assert_eq!(told.status, Some(200));
            assert!(told.bytes == sent, "{} of {bytes} bytes came back", told.bytes.len());
        }
        assert!(tunnel.h2().is_idle());
        tunnel.close(Reason::NO_ERROR);
        while !tunnel.flush(&mut Now(&socket)).expect("written") {
            socket.writable().await.expect("a socket");
        }
    };
    tokio::join!(client, hyper_server(listener, pair.server.clone()));
}

/// A program of that name, if there is one.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Runs a program and returns what it printed.
#[track_caller]
fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("it runs");
    let printed = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{} failed:\n{printed}", program.display());
    printed
}

/// Both test servers, without and with TLS.
fn servers() -> (SocketAddr, SocketAddr) {
    let pair = certificates::pair(&[&rustls::version::TLS13]);
    let plain = server::start(None).expect("a free port");
    let encrypted = server::start(Some(pair.server)).expect("a free port");
    (plain, encrypted)
}

#[test]
fn curl() {
    let Some(curl) = program("curl") else {
        corten_rt::skip!("curl is not installed");
    };
    if !run(&curl, &["--version"]).contains("HTTP2") {
        corten_rt::skip!("this curl does not speak http/2");
    }
    let (plain, encrypted) = servers();
    let expected = "hello from corten-hbone\n2 200\n";
    let print = "%{http_version} %{http_code}\n";
    let url = format!("http://{plain}/");
    let body = "x".repeat(100_000);
    for arguments in [&[][..], &["-d", &body]] {
        let fixed = ["-sS", "--http2-prior-knowledge", "-w", print, &url];
        assert_eq!(run(&curl, &[&fixed, arguments].concat()), expected);
    }
    let url = format!("https://{encrypted}/");
    let printed = run(&curl, &["-sSk", "--http2", "-w", print, &url, &url, &url]);
    assert_eq!(printed, expected.repeat(3));
}

#[test]
fn nghttp() {
    let Some(nghttp) = program("nghttp") else {
        corten_rt::skip!("nghttp is not installed (package nghttp2-client)");
    };
    let (plain, encrypted) = servers();
    for url in [format!("http://{plain}/"), format!("https://{encrypted}/")] {
        // Ten requests at once, then statistics.
        let printed = run(&nghttp, &["-m10", "-s", &url]);
        assert_eq!(printed.matches("hello from corten-hbone").count(), 10, "{printed}");
        assert_eq!(printed.matches(" 200 ").count(), 10, "{printed}");
        // A table that shrinks, and large frames of padding.
        let printed = run(&nghttp, &["-c0", "-b200", "-v", &url]);
        assert!(printed.contains(":status: 200"), "{printed}");
    }
}

#[test]
fn h2spec() {
    let Some(h2spec) = std::env::var_os("CORTEN_H2SPEC")
        .map(PathBuf::from)
        .or_else(|| program("h2spec"))
    else {
        // A tool of another language that nothing else needs: not required, even where everything is.
        println!("not run: h2spec is not on the path and CORTEN_H2SPEC does not name it (see CONTRIBUTING.md)");
        return;
    };
    let (plain, encrypted) = servers();
    for (server, tls) in [(plain, &[][..]), (encrypted, &["-t", "-k"])] {
        let port = server.port().to_string();
        let fixed = ["-h", "127.0.0.1", "-p", &port, "--strict"];
        let printed = run(&h2spec, &[&fixed, tls].concat());
        assert!(printed.contains(" 0 failed"), "{printed}");
        println!("{}", printed.lines().last().unwrap_or_default());
    }
}
