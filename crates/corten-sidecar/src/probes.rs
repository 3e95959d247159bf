//! Probes of the application: asked here by the kubelet, and passed on in the pod, past the proxy, which would ask for certificates.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use corten_grpc::{Channel, ProstCodec, Target};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// The longest that a probe takes which says nothing about it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// As much of an answer as is read.
const BYTES_MAX: u64 = 64 * 1024;
/// Whom connections come from that the rules of redirection leave alone.
const PAST_THE_PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

/// What is asked of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Question {
    /// An HTTP request.
    Http {
        tls: bool,
        path: String,
        headers: Vec<(String, String)>,
    },
    /// Whether it takes connections.
    Tcp,
    /// gRPC's own way to ask.
    Grpc { service: String },
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    question: Question,
    host: Option<String>,
    port: u16,
    timeout: Duration,
}

/// The probes of the pod, by the paths that the kubelet asks for.
pub(crate) type Probes = BTreeMap<String, Probe>;

/// Reads what injection wrote; what cannot be read is left out, and said.
pub(crate) fn parse(text: &str) -> Probes {
    let all: BTreeMap<String, Value> = match serde_json::from_str(text) {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(
                "ISTIO_KUBE_APP_PROBERS is no JSON, so that no probe of the application is answered: {error}"
            );
            return Probes::new();
        }
    };
    let probes = all.into_iter().filter_map(|(path, value)| match probe(&value) {
        Some(probe) => Some((path, probe)),
        None => {
            tracing::warn!(
                path,
                "a probe of the application is left out: it is none of HTTP, TCP and gRPC with a port"
            );
            None
        }
    });
    probes.collect()
}

fn probe(value: &Value) -> Option<Probe> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (place, question) = if value["httpGet"].is_object() {
        let get = &value["httpGet"];
        let headers = get["httpHeaders"].as_array().into_iter().flatten();
        let headers = headers.filter_map(|header| Some((text(&header["name"])?, text(&header["value"])?)));
        let path = text(&get["path"]).unwrap_or_default();
        let question = Question::Http {
            tls: get["scheme"] == "HTTPS",
            path: format!("/{}", path.trim_start_matches('/')),
            headers: headers.collect(),
        };
        (get, question)
    } else if value["tcpSocket"].is_object() {
        (&value["tcpSocket"], Question::Tcp)
    } else {
        let service = text(&value["grpc"]["service"]).unwrap_or_default();
        (&value["grpc"], Question::Grpc { service })
    };
    let seconds = value["timeoutSeconds"].as_u64().filter(|seconds| *seconds > 0);
    Some(Probe {
        question,
        host: text(&place["host"]).filter(|host| !host.is_empty()),
        port: u16::try_from(place["port"].as_u64()?).ok()?,
        timeout: seconds.map_or(TIMEOUT, Duration::from_secs),
    })
}

impl Probe {
    /// Asks the application at this address of the pod; the status that the kubelet is to get, and why.
    pub(crate) async fn ask(&self, pod: IpAddr) -> (u16, String) {
        match tokio::time::timeout(self.timeout, self.asked(pod)).await {
            Ok(Ok(status)) => (status, String::new()),
            Ok(Err(error)) => (500, error.to_string()),
            Err(_) => (500, format!("no answer within {:?}", self.timeout)),
        }
    }

    async fn asked(&self, pod: IpAddr) -> io::Result<u16> {
        let host = match self.host.as_deref().map(str::parse::<IpAddr>) {
            Some(Ok(host)) => host,
            Some(Err(_)) | None => pod,
        };
        let to = SocketAddr::new(host, self.port);
        if let Question::Grpc { service } = &self.question {
            return grpc(to, service).await;
        }
        let mut stream = connect(to).await?;
        match &self.question {
            Question::Http {
                tls: false,
                path,
                headers,
            } => request(&mut stream, &self.authority(pod), path, headers).await,
            Question::Http {
                tls: true,
                path,
                headers,
            } => {
                let name = ServerName::IpAddress(host.into());
                let connector = tokio_rustls::TlsConnector::from(anybody()?);
                let mut stream = connector.connect(name, stream).await?;
                request(&mut stream, &self.authority(pod), path, headers).await
            }
            Question::Tcp | Question::Grpc { .. } => Ok(200),
        }
    }

    /// The authority of an HTTP request that names none itself.
    fn authority(&self, pod: IpAddr) -> String {
        let host = self.host.clone().unwrap_or_else(|| match pod {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        });
        format!("{host}:{}", self.port)
    }
}

/// Connects to the application, past the proxy.
async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    past_the_proxy(socket.as_fd())?;
    socket.connect(to).await
}

/// Gives a socket the address that the rules let through. There is none of IPv6 that any socket may have: there the rules take the
/// connection for one from elsewhere.
fn past_the_proxy(socket: BorrowedFd<'_>) -> io::Result<()> {
    let family = rustix::net::getsockname(socket)?.address_family();
    if family == rustix::net::AddressFamily::INET {
        rustix::net::bind(socket, &SocketAddr::from((PAST_THE_PROXY, 0)))?;
    }
    Ok(())
}

/// Asks by HTTP/1.1; the status of the answer.
async fn request<S>(stream: &mut S, authority: &str, path: &str, headers: &[(String, String)]) -> io::Result<u16>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let sound = |text: &str| !text.contains(['\r', '\n']);
    let mut head = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("host: {authority}\r\n"));
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
        head.push_str("user-agent: kube-probe/corten\r\n");
    }
    for (name, value) in headers.iter().filter(|(name, value)| sound(name) && sound(value)) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut first = Vec::new();
    let mut limited = stream.take(BYTES_MAX);
    while !first.contains(&b'\n') {
        if limited.read_buf(&mut first).await? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&first);
    let status = line.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::other("the answer is no HTTP"))
}

/// What is asked for: the name of a service, or nothing for the whole server.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// What is answered: 1 if it serves.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks by gRPC's health service: a status of 200 if it serves.
async fn grpc(to: SocketAddr, service: &str) -> io::Result<u16> {
    let channel = Channel::plaintext(Target {
        address: Some(to),
        prepare: Some(past_the_proxy),
        ..Target::new(to.ip().to_string(), to.port())
    });
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(io::Error::other)?;
    let codec: ProstCodec<HealthRequest, HealthResponse> = ProstCodec::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthRequest {
        service: service.to_owned(),
    });
    let answer = grpc.unary(request, path, codec).await.map_err(io::Error::other)?;
    match answer.into_inner().status {
        1 => Ok(200),
        status => Err(io::Error::other(format!("it does not serve: status {status}"))),
    }
}

/// TLS with whoever answers: a probe asks whether somebody does, not who.
fn anybody() -> io::Result<Arc<rustls::ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Anybody(provider.clone()));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn what_injection_wrote_is_read() {
        let probes = parse(
            r#"{"/app-health/a/readyz":{"httpGet":{"path":"ip","port":8000,"scheme":"HTTPS","httpHeaders":[{"name":"X","value":"1"}]},"timeoutSeconds":3},
                "/app-health/a/livez":{"tcpSocket":{"port":90}},
                "/app-health/a/startupz":{"grpc":{"port":91,"service":"s"}},
                "/app-health/b/livez":{"exec":{}}}"#,
        );
        assert_eq!(probes.len(), 3);
        let ready = &probes["/app-health/a/readyz"];
        assert_eq!((ready.port, ready.timeout), (8000, Duration::from_secs(3)));
        let headers = vec![("X".to_owned(), "1".to_owned())];
        let path = "/ip".to_owned();
        assert_eq!(
            ready.question,
            Question::Http {
                tls: true,
                path,
                headers
            }
        );
        assert_eq!(probes["/app-health/a/livez"].question, Question::Tcp);
        assert!(parse("nonsense").is_empty());
    }

    #[tokio::test]
    async fn the_applications_answer_is_the_answer() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tasks = corten_rt::TaskGroup::new("application");
        tasks.spawn("application", async move {
            for _ in 0..2 {
                let (mut stream, from) = listener.accept().await.unwrap();
                assert_eq!(from.ip(), IpAddr::V4(PAST_THE_PROXY));
                let mut read = [0; 1024];
                let count = stream.read(&mut read).await.unwrap();
                let status = if String::from_utf8_lossy(&read[..count]).starts_with("GET /well HTTP/1.1\r\n") {
                    204
                } else {
                    503
                };
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let pod = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let probes = parse(&format!(
            r#"{{"/well":{{"httpGet":{{"path":"/well","port":{port}}}}},"/ill":{{"httpGet":{{"port":{port}}}}},"/tcp":{{"tcpSocket":{{"port":{port}}}}}}}"#
        ));
        assert_eq!(probes["/well"].ask(pod).await, (204, String::new()));
        assert_eq!(probes["/ill"].ask(pod).await, (503, String::new()));
    }
}
