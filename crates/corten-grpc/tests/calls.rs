//! Calls over real connections: in the clear, over TLS with and without a client certificate, and across restarts of the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corten_grpc::{
    Channel, Code, Message, Messages, Peer, ProstCodec, Request, Response, Router, Settings, Status, Target,
    TlsAcceptor, TlsConnector, serve,
};
use corten_rt::TaskGroup;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;

/// The message of these tests.
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn text(text: impl Into<String>) -> Text {
    Text { text: text.into() }
}

const ECHO: &str = "/test.Echo/Echo";
const WHO: &str = "/test.Echo/Who";
const FAIL: &str = "/test.Echo/Fail";
const PIECES: &str = "/test.Echo/Pieces";
/// Large enough for several frames and windows.
const PIECES_COUNT: usize = 40_000;

fn routes() -> Router {
    Router::new()
        .unary(ECHO, async |request: Request<Text>| {
            Ok(Response::new(request.into_inner()))
        })
        .unary(WHO, async |request: Request<Text>| {
            let peer = request.extensions().get::<Peer>().expect("every request has a peer");
            let header = request
                .metadata()
                .get("authorization")
                .and_then(|value| value.to_str().ok());
            let answer = format!(
                "tls {} certificates {} {}",
                peer.tls,
                peer.certificates.len(),
                header.unwrap_or("-")
            );
            Ok(Response::new(text(answer)))
        })
        .unary(FAIL, async |_: Request<Text>| {
            Err::<Response<Text>, _>(Status::permission_denied("not you"))
        })
        .raw(PIECES, async |_| {
            let (sender, queue) = tokio::sync::mpsc::channel(1);
            let content = "0123456789".repeat(PIECES_COUNT);
            let mut head = vec![0x0a];
            prost::encoding::encode_varint(content.len() as u64, &mut head);
            let length = head.len() + content.len();
            let pieces = (0..PIECES_COUNT).map(|_| bytes::Bytes::from_static(b"0123456789"));
            let message = Message::new(length, std::iter::once(head.into()).chain(pieces));
            sender.try_send(Ok(message)).expect("there is room for one");
            Messages::new(queue).into_response()
        })
}

struct Server {
    address: SocketAddr,
    tasks: TaskGroup,
}

impl Server {
    async fn start(address: Option<SocketAddr>, tls: Option<TlsAcceptor>, settings: Settings) -> Server {
        let wanted = address.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        let listener = TcpListener::bind(wanted).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let tasks = TaskGroup::new("server");
        tasks.serve("serve", |drain| serve(listener, tls, routes(), settings, drain));
        Server { address, tasks }
    }

    fn target(&self) -> Target {
        Target {
            address: Some(self.address),
            ..Target::new("server.test", self.address.port())
        }
    }
}

async fn call(channel: &Channel, path: &'static str, request: Request<Text>) -> Result<String, Status> {
    let codec: ProstCodec<Text, Text> = ProstCodec::default();
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    let path = http::uri::PathAndQuery::from_static(path);
    Ok(grpc.unary(request, path, codec).await?.into_inner().text)
}

/// A certificate authority, and a server and a client certificate of it.
struct Certificates {
    root: CertificateDer<'static>,
    server: (CertificateDer<'static>, Vec<u8>),
    client: (CertificateDer<'static>, Vec<u8>),
}

impl Certificates {
    fn new() -> Certificates {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("valid parameters");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = parameters.self_signed(&key).expect("a certificate");
        let issuer = rcgen::Issuer::new(parameters, key);
        let leaf = |name: &str| {
            let key = rcgen::KeyPair::generate().expect("a key");
            let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("valid parameters");
            let certificate = parameters.signed_by(&key, &issuer).expect("a certificate");
            (certificate.der().clone(), key.serialize_der())
        };
        Certificates {
            root: root.der().clone(),
            server: leaf("server.test"),
            client: leaf("client.test"),
        }
    }

    fn roots(&self) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).expect("a valid root");
        Arc::new(roots)
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone())
            .allow_unauthenticated()
            .build()
            .expect("a verifier");
        let key = PrivateKeyDer::try_from(self.server.1.clone()).expect("a key");
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.server.0.clone()], key)
            .expect("a configuration");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        Arc::new(move || config.clone())
    }

    fn connector(&self, with_certificate: bool) -> TlsConnector {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(self.roots());
        let key = PrivateKeyDer::try_from(self.client.1.clone()).expect("a key");
        let config = match with_certificate {
            true => config
                .with_client_auth_cert(vec![self.client.0.clone()], key)
                .expect("a configuration"),
            false => config.with_no_client_auth(),
        };
        let config = Arc::new(config);
        Arc::new(move || Ok(config.clone()))
    }
}

#[tokio::test]
async fn calls_in_the_clear() {
    let server = Server::start(None, None, Settings::default()).await;
    let channel = Channel::plaintext(server.target());
    assert_eq!(
        call(&channel, ECHO, Request::new(text("hello")))
            .await
            .expect("an answer"),
        "hello"
    );
    assert_eq!(
        call(&channel, WHO, Request::new(Text::default()))
            .await
            .expect("an answer"),
        "tls false certificates 0 -"
    );
    let refused = call(&channel, FAIL, Request::new(Text::default()))
        .await
        .expect_err("refused");
    assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "not you"));
    let unknown = call(&channel, "/test.Echo/Missing", Request::new(Text::default())).await;
    let unknown = unknown.expect_err("there is no such method");
    assert_eq!(
        (unknown.code(), unknown.message()),
        (Code::Unimplemented, "there is no method /test.Echo/Missing")
    );
}

#[tokio::test]
async fn a_message_of_shared_pieces_arrives_whole() {
    let server = Server::start(None, None, Settings::default()).await;
    let channel = Channel::plaintext(server.target());
    let answer = call(&channel, PIECES, Request::new(Text::default()))
        .await
        .expect("an answer");
    assert_eq!(answer.len(), 10 * PIECES_COUNT);
    assert!(answer.ends_with("0123456789"));
}

#[tokio::test]
async fn the_server_learns_the_certificate_that_a_client_shows() {
    let certificates = Certificates::new();
    let server = Server::start(None, Some(certificates.acceptor()), Settings::default()).await;
    for (with_certificate, expected) in [
        (true, "tls true certificates 1 Bearer t"),
        (false, "tls true certificates 0 Bearer t"),
    ] {
        let channel = Channel::new(server.target(), certificates.connector(with_certificate));
        let mut request = Request::new(Text::default());
        request
            .metadata_mut()
            .insert("authorization", "Bearer t".parse().expect("a value"));
        assert_eq!(call(&channel, WHO, request).await.expect("an answer"), expected);
    }
}

#[tokio::test]
async fn a_server_with_another_name_or_root_is_refused() {
    let certificates = Certificates::new();
    let server = Server::start(None, Some(certificates.acceptor()), Settings::default()).await;
    let wrong_name = Target {
        server_name: "other.test".to_owned(),
        ..server.target()
    };
    let strangers = Certificates::new();
    for (target, connector) in [
        (wrong_name, certificates.connector(false)),
        (server.target(), strangers.connector(false)),
    ] {
        let channel = Channel::new(target, connector);
        let error = call(&channel, ECHO, Request::new(text("secret")))
            .await
            .expect_err("refused");
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert!(error.message().contains("could not connect to server.test:"), "{error}");
        assert!(error.message().contains("invalid peer certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_new_connection_is_made_when_the_server_is_back() {
    let server = Server::start(None, None, Settings::default()).await;
    let channel = Channel::plaintext(server.target());
    assert_eq!(
        call(&channel, ECHO, Request::new(text("a"))).await.expect("an answer"),
        "a"
    );
    let address = server.address;
    assert!(server.tasks.shutdown(Duration::from_secs(15)).await.is_empty());
    // Nobody listens: an error, which says so, and at once.
    let error = call(&channel, ECHO, Request::new(text("b")))
        .await
        .expect_err("nobody is there");
    assert!(error.message().contains("could not connect"), "{error}");
    let _server = Server::start(Some(address), None, Settings::default()).await;
    assert_eq!(
        call(&channel, ECHO, Request::new(text("c"))).await.expect("an answer"),
        "c"
    );
}

#[tokio::test]
async fn an_old_connection_is_asked_to_leave_and_calls_go_on() {
    let settings = Settings {
        age_max: Some(Duration::from_millis(30)),
        ..Settings::default()
    };
    let server = Server::start(None, None, settings).await;
    let channel = Channel::plaintext(server.target());
    let end = tokio::time::Instant::now() + Duration::from_millis(300);
    while tokio::time::Instant::now() < end {
        assert_eq!(
            call(&channel, ECHO, Request::new(text("x"))).await.expect("an answer"),
            "x"
        );
    }
}

#[tokio::test]
async fn a_missing_root_fails_the_call_and_says_why() {
    let connector: TlsConnector = Arc::new(|| Err("no such file: root-cert.pem".into()));
    let server = Server::start(None, None, Settings::default()).await;
    let channel = Channel::new(server.target(), connector);
    let error = call(&channel, ECHO, Request::new(Text::default()))
        .await
        .expect_err("no roots");
    assert!(error.message().contains("no such file: root-cert.pem"), "{error}");
    assert_eq!(error.code(), Code::Unavailable);
}
