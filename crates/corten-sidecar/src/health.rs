//! What is asked of the proxy by HTTP: whether it is ready, how the application is, all metrics at one place, and to come to an end.
//!
//! Kubelets and scrapers ask on one port, whom nobody authenticates; what changes something is answered to the pod itself only. A second port
//! is Envoy's, which hands on the question whether it is ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use corten_rt::{Drain, TaskGroup};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use crate::probes::Probes;

/// A question, or Envoy's answer, must be there within this time.
const PATIENCE: Duration = Duration::from_secs(2);
/// A request is read this far.
const BYTES_MAX: usize = 64 * 1024;
/// Metrics of Envoy or an application, and whatever else is long, that are longer are left out.
const METRICS_BYTES_MAX: u64 = 32 << 20;
/// How long whoever asked may take to read the answer.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// From where a sidecar's Envoy calls the application for callers elsewhere.
const HANDED_ON: [u8; 4] = [127, 0, 0, 6];
/// Questions that are answered at a time; more wait.
const AT_ONCE: usize = 64;

/// The path that probes ask for.
const READY: &str = "/healthz/ready";

/// What answers depend on.
#[derive(Debug)]
pub(crate) struct Health {
    /// Port of Envoy's administration.
    pub(crate) admin: u16,
    /// The pod's own address.
    pub(crate) pod: IpAddr,
    /// Probes of the application.
    pub(crate) probes: Probes,
    /// Where metrics of the application are: ports and paths.
    pub(crate) metrics: Vec<(u16, String)>,
    /// Told when somebody in the pod wants the proxy to end.
    pub(crate) quit: Notify,
}

/// Opens a port, on all addresses.
pub(crate) async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        // A machine without IPv6.
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

/// Answers until drain.
pub(crate) async fn serve(listener: TcpListener, health: Arc<Health>, mut drain: Drain) {
    let tasks = TaskGroup::new("answers");
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.wait() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let Ok(place) = places.clone().acquire_owned().await else {
                    break;
                };
                let health = health.clone();
                tasks.spawn("answer", async move {
                    if let Err(error) = answer(stream, from, &health).await {
                        tracing::debug!(%from, %error, "a question was not answered");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a question could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    tasks.shutdown(Duration::from_millis(500)).await;
}

async fn answer(mut stream: TcpStream, from: SocketAddr, health: &Health) -> std::io::Result<()> {
    let head = tokio::time::timeout(PATIENCE, read_until(&mut stream, b"\r\n\r\n")).await;
    let head = head.map_err(|_| std::io::ErrorKind::TimedOut)??;
    let line = String::from_utf8_lossy(&head);
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let path = words
        .next()
        .unwrap_or_default()
        .split('?')
        .next()
        .unwrap_or_default()
        .to_owned();
    let (status, body) = match path.as_str() {
        READY => health.ready().await,
        path => health.other(&method, path, from.ip()).await,
    };
    let length = body.len();
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let head = format!(
        "HTTP/1.1 {status} {}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n",
        reason.unwrap_or("-")
    );
    // Whoever asks and does not read must not keep a place for ever: the kubelet's probes need one, too.
    let told = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await
    };
    let told = tokio::time::timeout(READ_WITHIN, told).await;
    told.map_err(|_| std::io::ErrorKind::TimedOut)?
}

/// Whether a caller is in the pod itself. What a sidecar's Envoy hands on to an application of the pod comes from an address of its own.
fn is_of_the_pod(from: IpAddr, pod: IpAddr) -> bool {
    from == pod || from.is_loopback() && from != IpAddr::from(HANDED_ON)
}

impl Health {
    async fn ready(&self) -> (u16, String) {
        match ask(self.admin, "GET", "/ready").await {
            Ok((200, _)) => (200, "ready\n".to_owned()),
            Ok((_, text)) => (503, format!("Envoy is not ready: {}\n", text.trim())),
            Err(error) => (503, format!("Envoy does not answer: {error}\n")),
        }
    }

    async fn other(&self, method: &str, path: &str, from: IpAddr) -> (u16, String) {
        if path.starts_with("/app-health/") || path.starts_with("/app-lifecycle/") {
            let Some(probe) = self.probes.get(path) else {
                return (404, "no container has such a probe\n".to_owned());
            };
            let (status, why) = probe.ask(self.pod).await;
            return (status, if why.is_empty() { why } else { format!("{why}\n") });
        }
        match path {
            "/stats/prometheus" | "/metrics" => (200, self.all_metrics().await),
            "/quitquitquit" | "/drain" => {
                if method != "POST" {
                    return (405, "only POST changes something\n".to_owned());
                }
                if !is_of_the_pod(from.to_canonical(), self.pod) {
                    return (403, "only the pod itself may ask for that\n".to_owned());
                }
                if path == "/quitquitquit" {
                    self.quit.notify_one();
                    return (200, "OK\n".to_owned());
                }
                // What comes in is answered with a request to come again elsewhere; what goes out goes on, for applications that end.
                match ask(self.admin, "POST", "/drain_listeners?inboundonly&graceful&skip_exit").await {
                    Ok((200, _)) => (200, "OK\n".to_owned()),
                    Ok((_, text)) => (503, text),
                    Err(error) => (503, format!("Envoy does not answer: {error}\n")),
                }
            }
            _ => (
                404,
                format!(
                    "there is {READY}, /stats/prometheus, /app-health/..., and for the pod itself /quitquitquit and /drain\n"
                ),
            ),
        }
    }

    /// The metrics of Envoy and of the application, one after the other. Of what does not answer there are none.
    async fn all_metrics(&self) -> String {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin));
        let mut places = vec![(local, "/stats/prometheus".to_owned())];
        let application = |(port, path): &(u16, String)| (SocketAddr::new(local.ip(), *port), path.clone());
        places.extend(self.metrics.iter().map(application));
        let mut all = String::new();
        for (place, path) in places {
            match exchange(place, "GET", &path, METRICS_BYTES_MAX).await {
                Ok((200, text)) => {
                    all.push_str(&text);
                    if !all.is_empty() && !all.ends_with('\n') {
                        all.push('\n');
                    }
                }
                Ok((status, _)) => tracing::warn!(%place, path, status, "there are no metrics"),
                Err(error) => tracing::warn!(%place, path, %error, "there are no metrics"),
            }
        }
        all
    }
}

/// Where injection says that metrics of the application are.
pub(crate) fn metrics_of(text: &str) -> Vec<(u16, String)> {
    let told: Value = serde_json::from_str(text).unwrap_or_default();
    let place = |place: &Value| {
        let port = place["port"].as_str().filter(|port| !port.is_empty());
        let path = place["path"]
            .as_str()
            .filter(|path| !path.is_empty())
            .unwrap_or("/metrics");
        Some((
            port.unwrap_or("80").parse().ok()?,
            format!("/{}", path.trim_start_matches('/')),
        ))
    };
    if let Some(targets) = told["targets"].as_array() {
        return targets.iter().filter_map(place).collect();
    }
    if told["scrape"] == "true" {
        return place(&told).into_iter().collect();
    }
    Vec::new()
}

/// Asks for something that may be long; yields status and text.
pub(crate) async fn ask_for_all(port: u16, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    let place = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    exchange(place, method, path, METRICS_BYTES_MAX).await
}

/// Asks Envoy's administration; yields status and text.
pub(crate) async fn ask(admin: u16, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    exchange(
        SocketAddr::from((Ipv4Addr::LOCALHOST, admin)),
        method,
        path,
        BYTES_MAX as u64,
    )
    .await
}

/// Asks by HTTP; yields status and text.
async fn exchange(place: SocketAddr, method: &str, path: &str, bytes_max: u64) -> std::io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(place).await?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut whole = Vec::new();
        stream.take(bytes_max).read_to_end(&mut whole).await?;
        if whole.len() as u64 == bytes_max {
            let text = format!("the answer is longer than {bytes_max} bytes");
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, text));
        }
        Ok(String::from_utf8_lossy(&whole).into_owned())
    };
    let whole: std::io::Result<String> = tokio::time::timeout(PATIENCE, exchange)
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let whole = whole?;
    let status = whole.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("the answer is no HTTP"))?;
    let (head, text) = whole.split_once("\r\n\r\n").unwrap_or((&whole, ""));
    let in_pieces = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
    Ok((status, if in_pieces { joined(text) } else { text.to_owned() }))
}

/// A body that comes in pieces, each after its length, as far as it came.
fn joined(mut rest: &str) -> String {
    let mut whole = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = length.split(';').next().unwrap_or_default().trim();
        match usize::from_str_radix(length, 16) {
            Ok(length) if length > 0 && after.is_char_boundary(length.min(after.len())) => {
                let (piece, after) = after.split_at(length.min(after.len()));
                whole.push_str(piece);
                rest = after.strip_prefix("\r\n").unwrap_or(after);
            }
            _ => break,
        }
    }
    whole
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pod_itself_may_end_its_proxy() {
        let pod: IpAddr = "10.0.0.7".parse().unwrap();
        for (from, may) in [
            ("10.0.0.7", true),
            ("127.0.0.1", true),
            ("::1", true),
            // Envoy calls from there for whoever called it.
            ("127.0.0.6", false),
            ("10.0.0.8", false),
        ] {
            assert_eq!(is_of_the_pod(from.parse().unwrap(), pod), may, "{from}");
        }
    }

    #[test]
    fn metrics_are_where_injection_says() {
        assert_eq!(
            metrics_of(r#"{"scrape":"true","path":"","port":"9100"}"#),
            [(9100, "/metrics".to_owned())]
        );
        assert_eq!(metrics_of(r#"{"scrape":"","path":"","port":"9100"}"#), []);
        let targets =
            r#"{"scrape":"","path":"/m","port":"1","targets":[{"port":"1","path":"/m"},{"port":"2","path":"n"}]}"#;
        assert_eq!(metrics_of(targets), [(1, "/m".to_owned()), (2, "/n".to_owned())]);
        assert_eq!(metrics_of(""), []);
    }

    #[test]
    fn pieces_are_joined() {
        assert_eq!(joined("3\r\na b\r\n2;x\r\n c\r\n0\r\n\r\n"), "a b c");
        assert_eq!(joined("ff\r\ncut"), "cut");
        assert_eq!(joined("none"), "");
    }

    async fn asked(health: &Arc<Health>, request: &str) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(format!("{request} HTTP/1.1\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let (stream, from) = listener.accept().await.unwrap();
        answer(stream, from, health).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn what_ends_the_proxy_is_asked_for_with_post_and_from_the_pod() {
        let health = Arc::new(Health {
            // Nobody listens there.
            admin: 1,
            pod: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            probes: Probes::new(),
            metrics: Vec::new(),
            quit: Notify::new(),
        });
        assert!(asked(&health, "GET /quitquitquit").await.starts_with("HTTP/1.1 405 "));
        assert!(asked(&health, "GET /healthz/ready").await.starts_with("HTTP/1.1 503 "));
        assert!(
            asked(&health, "GET /app-health/a/livez")
                .await
                .starts_with("HTTP/1.1 404 ")
        );
        assert!(asked(&health, "POST /quitquitquit").await.starts_with("HTTP/1.1 200 "));
        // It has been told.
        health.quit.notified().await;
        let (status, _) = health
            .other("POST", "/quitquitquit", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)))
            .await;
        assert_eq!(status, 403);
    }
}
