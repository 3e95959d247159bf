//! HTTP requests of probes and lifecycle hooks: one GET, certificates not verified, redirects followed on the same host only.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls;

use super::{Answer, port};
use crate::kubelet::machine::Connect;

/// As much of an answer's body as is read.
const BODY_BYTES_MAX: usize = 10 * 1024;
const REDIRECTS_MAX: usize = 10;

/// Where a request goes and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The request of an `httpGet`, to the pod's address unless it names a host. `purpose` is `probe` or `lifecycle`.
    pub(crate) fn of(
        get: &HTTPGetAction,
        container: &Container,
        pod_ip: Option<IpAddr>,
        purpose: &str,
    ) -> Result<Self, String> {
        let own = || {
            pod_ip
                .map(|ip| ip.to_string())
                .ok_or_else(|| "the pod has no address".to_owned())
        };
        let host = match get.host.as_deref().filter(|host| !host.is_empty()) {
            Some(host) => host.to_owned(),
            None => own()?,
        };
        let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let mut headers: Vec<(String, String)> = Vec::new();
        for header in get.http_headers.iter().flatten() {
            headers.push((header.name.to_lowercase(), header.value.clone()));
        }
        let has = |headers: &[(String, String)], name: &str| headers.iter().any(|(of, _)| of == name);
        if !has(&headers, "user-agent") {
            headers.push((
                "user-agent".into(),
                format!("kube-{purpose}/{}", super::super::node::MAJOR_MINOR),
            ));
        }
        if !has(&headers, "accept") {
            headers.push(("accept".into(), "*/*".into()));
        }
        headers.retain(|(name, value)| name != "accept" || !value.is_empty());
        Ok(Self {
            tls: get
                .scheme
                .as_deref()
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host,
            port: port(&get.port, container)?,
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
            headers,
        })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// Where a redirect leads, if that is the same host.
    fn redirected(&self, location: &str) -> Option<Self> {
        let mut next = self.clone();
        if let Some(path) = location.strip_prefix('/').filter(|rest| !rest.starts_with('/')) {
            next.path = format!("/{path}");
            return Some(next);
        }
        let uri: http::Uri = location.parse().ok()?;
        next.tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        if uri.host()?.trim_matches(['[', ']']) != self.host {
            return None;
        }
        next.port = uri.port_u16().unwrap_or(if next.tls { 443 } else { 80 });
        next.path = uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
            .to_owned();
        Some(next)
    }
}

/// Sends the request and judges the answer's status code.
pub(crate) async fn get(connect: &Connect, request: &Request) -> Answer {
    let mut request = request.clone();
    for _ in 0..REDIRECTS_MAX {
        let (status, location, body) = match once(connect, &request).await {
            Ok(answer) => answer,
            Err(error) => return Answer::Failure(format!("Get \"{}\": {error}", request.url())),
        };
        if !(200..400).contains(&status) {
            return Answer::Failure(format!("HTTP probe failed with statuscode: {status}"));
        }
        if status < 300 {
            return Answer::Success;
        }
        match location.as_deref().and_then(|location| request.redirected(location)) {
            Some(next) => request = next,
            None => return Answer::Warning(format!("Probe terminated redirects, Response body: {body}")),
        }
    }
    Answer::Failure(format!(
        "Get \"{}\": stopped after {REDIRECTS_MAX} redirects",
        request.url()
    ))
}

/// What the real kubelet says when a request takes longer than it may.
pub(crate) fn timed_out(request: &Request) -> Answer {
    let what = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    Answer::Failure(format!("Get \"{}\": {what}", request.url()))
}

async fn once(connect: &Connect, request: &Request) -> Result<(u16, Option<String>, String), String> {
    let stream = dial(connect, &request.host, request.port).await?;
    if request.tls {
        let name = rustls::pki_types::ServerName::try_from(request.host.clone()).map_err(|error| error.to_string())?;
        let stream = tls()
            .connect(name, stream)
            .await
            .map_err(|error| format!("tls: {error}"))?;
        return exchange(stream, request).await;
    }
    exchange(stream, request).await
}

/// Opens a connection; the error reads as Go's.
pub(crate) async fn dial(connect: &Connect, host: &str, port: u16) -> Result<tokio::net::TcpStream, String> {
    let address = match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => {
            let failed = |why: String| format!("dial tcp: lookup {host}: {why}");
            let mut found = tokio::net::lookup_host((host, port))
                .await
                .map_err(|error| failed(error.to_string()))?;
            found.next().ok_or_else(|| failed("no such host".into()))?
        }
    };
    connect(address).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
            std::io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
            std::io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {address}: connect: {why}")
    })
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: &Request,
) -> Result<(u16, Option<String>, String), String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let mut builder = http::Request::get(request.path.as_str());
    if !request.headers.iter().any(|(name, _)| name == "host") {
        builder = builder.header("host", request.authority());
    }
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let message = builder.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let exchanged = async {
        let response = sender.send_request(message).await.map_err(|error| described(&error))?;
        let status = response.status().as_u16();
        let location = response
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        // A long or broken body does not change the verdict, which is the status code's.
        let body = match Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Err(_) => String::new(),
        };
        Ok((status, location, body))
    };
    // The connection is driven here, in the same task, and goes with it.
    tokio::pin!(connection, exchanged);
    tokio::select! {
        biased;
        answer = &mut exchanged => answer,
        ended = &mut connection => match ended {
            Ok(()) => exchanged.await,
            Err(error) => Err(described(&error)),
        },
    }
}

fn described(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "EOF".to_owned();
    }
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn tls() -> tokio_rustls::TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

/// A probe asks whether the program answers, not who it is.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::kubelet::machine::host_connect;

    fn request(get: serde_json::Value) -> Request {
        let get = serde_json::from_value(get).expect("an httpGet");
        let ip = Some("127.0.0.1".parse().expect("an address"));
        Request::of(&get, &Container::default(), ip, "probe").expect("a request")
    }

    /// Answers one connection after the other with these, and returns what the first asked.
    async fn check(answers: &[&str], path: &str, expect: Answer) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let serve = async {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.expect("a request");
                asked.push(String::from_utf8_lossy(&head[..read]).into_owned());
                stream.write_all(answer.as_bytes()).await.expect("taken");
            }
            asked
        };
        let request = request(
            serde_json::json!({ "port": port, "path": path, "httpHeaders": [{ "name": "X-Probe", "value": "1" }] }),
        );
        let connect = host_connect();
        let (asked, answer) = tokio::join!(serve, get(&connect, &request));
        assert_eq!(answer, expect);
        asked[0].clone()
    }

    #[tokio::test]
    async fn the_status_code_decides() {
        let asked = check(&["HTTP/1.1 204 No Content\r\n\r\n"], "healthz?full=1", Answer::Success).await;
        assert!(asked.starts_with("GET /healthz?full=1 HTTP/1.1\r\n"), "{asked}");
        assert!(
            asked.contains("x-probe: 1\r\n") && asked.contains("user-agent: kube-probe/"),
            "{asked}"
        );
        let failed = Answer::Failure("HTTP probe failed with statuscode: 503".into());
        check(&["HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"], "/", failed).await;
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host_only() {
        let here = "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n";
        check(
            &[here, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
            "/",
            Answer::Success,
        )
        .await;
        let away = "HTTP/1.1 302 Found\r\nlocation: http://example.com/\r\ncontent-length: 2\r\n\r\nhi";
        let warning = Answer::Warning("Probe terminated redirects, Response body: hi".into());
        check(&[away], "/", warning).await;
    }

    #[tokio::test]
    async fn a_refused_connection_reads_as_the_real_kubelets() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let answer = get(&host_connect(), &request(serde_json::json!({ "port": port }))).await;
        let expect =
            format!("Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(answer, Answer::Failure(expect));
    }
}
