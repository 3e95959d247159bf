//! Whether the proxy is ready, for probes: Envoy's own answer, which is yes once it has its clusters and listeners.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use corten_rt::Drain;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A probe, or Envoy's answer, must be there within this time.
const PATIENCE: Duration = Duration::from_secs(2);
/// A request or answer that is longer is none of ours.
const BYTES_MAX: usize = 64 * 1024;

/// The path that probes ask for.
const READY: &str = "/healthz/ready";

/// Opens the port for probes, on all addresses.
pub(crate) async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        // A machine without IPv6.
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

/// Answers probes until drain. One at a time is enough for kubelets, and keeps whoever else calls from costing more.
pub(crate) async fn serve(listener: TcpListener, admin: u16, mut drain: Drain) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.wait() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = tokio::time::timeout(PATIENCE * 2, answer(stream, admin)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "a probe could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, admin: u16) -> std::io::Result<()> {
    let head = read_until(&mut stream, b"\r\n\r\n").await?;
    let line = String::from_utf8_lossy(&head);
    let path = line
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .split('?')
        .next()
        .unwrap_or_default()
        .to_owned();
    let (status, text) = if path == READY {
        match ask(admin, "GET", "/ready").await {
            Ok((200, _)) => ("200 OK", String::from("ready\n")),
            Ok((_, text)) => (
                "503 Service Unavailable",
                format!("Envoy is not ready: {}\n", text.trim()),
            ),
            Err(error) => ("503 Service Unavailable", format!("Envoy does not answer: {error}\n")),
        }
    } else {
        ("404 Not Found", format!("there is only {READY}\n"))
    };
    let length = text.len();
    let whole = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
    );
    stream.write_all(whole.as_bytes()).await?;
    stream.shutdown().await
}

/// Asks Envoy's administration; yields status and text.
pub(crate) async fn ask(admin: u16, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, admin))).await?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut whole = Vec::new();
        stream.take(BYTES_MAX as u64).read_to_end(&mut whole).await?;
        Ok(String::from_utf8_lossy(&whole).into_owned())
    };
    let whole: std::io::Result<String> = tokio::time::timeout(PATIENCE, exchange)
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let whole = whole?;
    let status = whole.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("the answer is no HTTP"))?;
    let text = whole
        .split_once("\r\n\r\n")
        .map(|(_, text)| text.to_owned())
        .unwrap_or_default();
    Ok((status, text))
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let mut piece = [0; 2048];
    while !read.windows(end.len()).any(|window| window == end) {
        let count = stream.read(&mut piece).await?;
        if count == 0 || read.len() > BYTES_MAX {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        read.extend_from_slice(&piece[..count]);
    }
    Ok(read)
}
