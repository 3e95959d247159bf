//! Callers that are not proxies of the mesh, or do not behave: each is refused with a reason, and nobody else notices.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use corten_core::Identity;
use corten_hbone::h2::{Headers, Reason, Request, Response, Settings, Sink, StreamId};
use corten_hbone::{Progress, Tunnel, TunnelError};
use corten_identity::{Bundle, Certificate, Priority, RevocationList, TlsOptions, Trust};
use rcgen::{Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::harness::{Mesh, Node, Pod, echo, mirror, ping};
use crate::{at, isolate};

/// Notes what a tunnel tells.
#[derive(Default)]
struct Notes {
    status: Option<u16>,
    baggage: Option<String>,
    ended: bool,
    reset: Option<Reason>,
    gone: bool,
}

impl Sink<'_> for Notes {
    fn request(&mut self, _: StreamId, _: Request<'_>) {}
    fn response(&mut self, _: StreamId, response: Response<'_>) {
        self.status = Some(response.status);
        let headers: Headers<'_> = response.headers;
        self.baggage = headers
            .get("baggage")
            .map(|text| String::from_utf8_lossy(text).into_owned());
    }
    fn data(&mut self, _: StreamId, _: &[u8]) {}
    fn end(&mut self, _: StreamId) {
        self.ended = true;
    }
    fn reset(&mut self, _: StreamId, reason: Reason) {
        self.reset = Some(reason);
    }
    fn go_away(&mut self, _: Reason, _: &[u8]) {
        self.gone = true;
    }
}

/// The certificate of any identity: the test's authority signs for everybody.
pub(crate) fn certificate(node: &Node, identity: &str) -> Arc<Bundle> {
    let identity: Identity = identity.parse().unwrap();
    let identities = &node.data_plane.common().identities;
    identities.want(&identity, Priority::RealTime);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(bundle) = identities.current(&identity) {
            return bundle;
        }
        assert!(Instant::now() < deadline, "no certificate for {identity}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A TLS connection on which anything at all can be said.
pub(crate) struct Wire(StreamOwned<ClientConnection, TcpStream>);

impl Wire {
    /// Connects to a pod's tunnel port. The handshake is done with the first bytes.
    pub(crate) fn open(from: &Pod, to: &Pod, tls: Arc<ClientConfig>) -> Wire {
        let stream = from.connect(at(to.ip, 15008)).unwrap();
        let name = rustls::pki_types::IpAddr::try_from("0.0.0.0").unwrap().into();
        Wire(StreamOwned::new(ClientConnection::new(tls, name).unwrap(), stream))
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.0.sock
    }

    /// Everything that comes until the other side ends, or as far as it came.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let _ = self.0.read_to_end(&mut all);
        all
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A client that takes any server, and shows what it is given.
fn credulous(shown: Option<&Bundle>) -> Arc<ClientConfig> {
    let provider = TlsOptions::default().provider();
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(provider)));
    let mut config = match shown.map(Bundle::certificate) {
        Some(shown) => config
            .with_client_auth_cert(shown.chain.clone(), shown.key.clone_key())
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Accepts any server: what counts is what the server says.
#[derive(Debug)]
struct Credulous(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

struct Caller {
    stream: TcpStream,
    tunnel: Tunnel,
    notes: Notes,
}

impl Caller {
    fn new(from: &Pod, to: &Pod, bundle: &Bundle, server: &str) -> Result<Caller, TunnelError> {
        let stream = from.connect(at(to.ip, 15008)).unwrap();
        let expected = [format!("spiffe://cluster.local/ns/default/sa/{server}")
            .parse()
            .unwrap()];
        let name = rustls::pki_types::IpAddr::try_from("0.0.0.0").unwrap().into();
        let tunnel = Tunnel::client(&bundle.client_config(&expected), name, Settings::client())?;
        let notes = Notes::default();
        let mut caller = Caller { stream, tunnel, notes };
        while caller.tunnel.is_handshaking() {
            caller.turn()?;
        }
        // The server has its say about our certificate after our side is done.
        caller.turn()?;
        Ok(caller)
    }

    fn turn(&mut self) -> Result<Progress, TunnelError> {
        self.tunnel.flush(&mut self.stream)?;
        let mut scratch = vec![0; 64 << 10];
        let progress = self.tunnel.read(&mut self.stream, &mut scratch, &mut self.notes)?;
        self.tunnel.flush(&mut self.stream)?;
        Ok(progress)
    }

    fn connect(&mut self, authority: &str) -> u16 {
        self.notes.status = None;
        self.tunnel
            .h2()
            .connect(authority, &[("baggage", b"k8s.cluster.name=c")])
            .unwrap();
        self.answer()
    }

    fn answer(&mut self) -> u16 {
        loop {
            self.turn().unwrap();
            if let Some(status) = self.notes.status {
                return status;
            }
        }
    }
}

/// A pod that is attacked, one that attacks it, and one that holds a connection to it.
pub(crate) struct Scene {
    pub(crate) mesh: Mesh,
    pub(crate) outsider: Pod,
    pub(crate) server: Pod,
    pub(crate) client: Pod,
    pub(crate) node: Node,
    held: TcpStream,
}

impl Scene {
    /// Who did nothing wrong is served as before: on the connection that was open, and on another.
    #[track_caller]
    pub(crate) fn held_goes_on(&self) {
        ping(&mut self.held.try_clone().unwrap()).expect("the connection that is held goes on");
        let answer = self.client.call(at(self.server.ip, 8080), "hello");
        assert_eq!(
            answer.expect("a good call gets through"),
            format!("{} hello", self.client.ip)
        );
    }
}

pub(crate) fn scene() -> Scene {
    scene_with(&[], |_| ())
}

pub(crate) fn scene_with(vars: &[(&str, &str)], before: impl FnOnce(&Mesh)) -> Scene {
    let mut mesh = Mesh::new();
    before(&mesh);
    let (outsider, mut server, mut client) = (mesh.pod("outsider"), mesh.pod("server"), mesh.pod("client"));
    let node = mesh.node(vars);
    node.configure(&format!(
        "workloads:\n{}{}services: [{{name: web, namespace: default, hostname: web, vips: [/10.96.0.1], ports: {{'80': 8080}}}}]\npolicies:\n{}",
        server.workload("HBONE", ", services: {default/web: {'80': 8080}}"),
        client.workload("HBONE", ""),
        "- {name: no, namespace: default, scope: Namespace, action: Deny, rules: [[[{destinationPorts: [8082]}]]]}\n"
    ));
    node.enroll(&mut server);
    node.enroll(&mut client);
    echo(server.listen(8080));
    mirror(server.listen(8083));
    let mut held = client.connect(at(server.ip, 8083)).unwrap();
    ping(&mut held).unwrap();
    Scene {
        mesh,
        outsider,
        server,
        client,
        node,
        held,
    }
}

/// Calls that failed with one of Istio's flags.
pub(crate) fn refusals(node: &Node, flag: &str) -> u64 {
    let (name, flag) = (
        "istio_tcp_connections_failed_total{",
        format!("response_flags=\"{flag}\""),
    );
    let metrics = node.metrics();
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(&flag));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
fn each_request_gets_the_status_that_is_due() {
    isolate!();
    let Scene {
        outsider, server, node, ..
    } = &scene();
    let bundle = certificate(node, "spiffe://cluster.local/ns/default/sa/outsider");
    let mut caller = Caller::new(outsider, server, &bundle, "server").unwrap();
    let own = |port: u16| format!("{}:{port}", server.ip);
    assert_eq!(caller.connect(&own(8080)), 200);
    let baggage = caller.notes.baggage.take().unwrap();
    assert!(
        baggage.contains("k8s.cluster.name=Kubernetes,k8s.namespace.name=default"),
        "{baggage}"
    );
    assert_eq!(caller.connect("web:80"), 200);
    assert_eq!(
        caller.connect("10.1.0.99:8080"),
        400,
        "an address that is not the pod's"
    );
    assert_eq!(caller.connect("nonsense"), 400);
    assert_eq!(caller.connect("unknown:80"), 503);
    assert_eq!(caller.connect("web:81"), 503);
    assert_eq!(caller.connect(&own(15006)), 503, "a port of the proxy");
    assert_eq!(caller.connect(&own(81)), 503, "nobody listens");
    assert_eq!(caller.connect(&own(8082)), 401, "a policy forbids it");
    caller.notes.status = None;
    caller
        .tunnel
        .h2()
        .request("GET", "https", "web", "/", &[], true)
        .unwrap();
    assert_eq!(caller.answer(), 400, "not a tunnel");
    let line = node.line("is not its address");
    assert!(line.contains("reason=\"bad_request\" side=\"client proxy\""), "{line}");
}

/// A certificate that the test's authority signs without asking any questions.
fn signed(mesh: &Mesh, like: &Bundle, name: &str, valid: Range<i64>, serial: u64) -> Arc<Bundle> {
    let read = |name: &str| std::fs::read_to_string(mesh.authority().join(name)).unwrap();
    let authority = KeyPair::from_pem(&read("ca-key.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca-cert.pem"), authority).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let hours = |hours: i64| {
        let shift = Duration::from_secs(hours.unsigned_abs() * 3600);
        rcgen::date_time_ymd(1970, 1, 1) + if hours < 0 { now - shift } else { now + shift }
    };
    (leaf.not_before, leaf.not_after) = (hours(valid.start), hours(valid.end));
    leaf.serial_number = Some(serial.into());
    leaf.subject_alt_names = vec![rcgen::SanType::URI(name.try_into().unwrap())];
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&key, &issuer).unwrap().der().clone();
    let roots = like.certificate().roots.clone();
    let trust = Arc::new(Trust::new(&roots, RevocationList::default()).unwrap());
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let certificate = Certificate::new(vec![leaf], key, roots).unwrap();
    Arc::new(Bundle::new(certificate, trust, TlsOptions::default()).unwrap())
}

/// A list that revokes one certificate of the test's authority.
fn revoked(mesh: &Mesh, serial: u64) -> String {
    let read = |name: &str| std::fs::read_to_string(mesh.authority().join(name)).unwrap();
    let authority = KeyPair::from_pem(&read("ca-key.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca-cert.pem"), authority).unwrap();
    let date = rcgen::date_time_ymd(2026, 1, 1);
    let list = rcgen::CertificateRevocationListParams {
        this_update: date,
        next_update: date + Duration::from_secs(1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: date,
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&issuer).unwrap().pem().unwrap()
}

#[test]
fn certificates_of_others_are_refused_with_a_reason() {
    isolate!();
    const WHO: &str = "spiffe://cluster.local/ns/default/sa/outsider";
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("revoked.pem");
    let scene = scene_with(&[("CRL_PATH", list.to_str().unwrap())], |mesh| {
        std::fs::write(&list, revoked(mesh, 4711)).unwrap();
    });
    let node = &scene.node;
    let good = certificate(node, WHO);
    let others = Mesh::authority_of_others();
    let sign = |valid, serial| signed(&scene.mesh, &good, WHO, valid, serial);
    // Whom, then what the log says, and Istio's flag in the metrics.
    for (bundle, error, flag) in [
        (
            certificate(node, "spiffe://elsewhere.example/ns/default/sa/outsider"),
            "not of trust domain cluster.local",
            "TLS_FAILURE",
        ),
        (
            certificate(&others, WHO),
            "signed by an unknown authority",
            "TLS_FAILURE",
        ),
        (sign(-48..-24, 1), "the peer's certificate expired 20", "TLS_FAILURE"),
        (
            sign(24..48, 2),
            "the peer's certificate is not valid before 20",
            "TLS_FAILURE",
        ),
        (sign(-1..1, 4711), "the peer's certificate is revoked", "CERT_REVOKED"),
    ] {
        let before = refusals(node, flag);
        let mut caller = Wire::open(&scene.outsider, &scene.server, credulous(Some(&bundle)));
        assert!(caller.read_to_end(&mut Vec::new()).is_err(), "{error}");
        let line = node.line("connection failed");
        let reason = if flag == "CERT_REVOKED" {
            "certificate_revoked"
        } else {
            "tls_handshake"
        };
        assert!(
            line.contains("\twarn\taccess") && line.contains(&format!("reason=\"{reason}\" side=\"client proxy\"")),
            "{line}"
        );
        assert!(line.contains(error), "{error}: {line}");
        assert_eq!(refusals(node, flag), before + 1, "{error}");
        scene.held_goes_on();
    }
    assert!(
        node.metrics()
            .contains("istio_crl_policy_rejections_total{reporter=\"destination\"} 1\n")
    );
    // None at all.
    let mut nobody = Wire::open(&scene.outsider, &scene.server, credulous(None));
    assert!(nobody.read_to_end(&mut Vec::new()).is_err());
    let line = node.line("connection failed");
    assert!(line.contains("the peer presented no certificate"), "{line}");
    scene.held_goes_on();

    // And one who is not who was expected: the caller refuses.
    assert!(Caller::new(&scene.outsider, &scene.server, &good, "somebody-else").is_err());
    Caller::new(&scene.outsider, &scene.server, &good, "server").unwrap();
    // One that was signed in the same way but is sound.
    Caller::new(&scene.outsider, &scene.server, &sign(-1..1, 3), "server").unwrap();
}

#[test]
fn garbage_on_every_port_disturbs_nobody() {
    isolate!();
    let scene = scene();
    for (port, reason) in [(15001, ""), (15006, "self_call"), (15008, "tls_handshake")] {
        for bytes in [
            &[0xa5; 8192][..],
            b"\x16\x03\x01\xff\xff",
            b"GET / HTTP/1.1\r\n\r\n",
            &[],
        ] {
            let mut stream = scene.outsider.connect(at(scene.server.ip, port)).unwrap();
            // It may be closed before everything was taken.
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut back = Vec::new();
            let _ = stream.read_to_end(&mut back);
            // At most the alert that TLS has for it.
            assert!(back.len() <= 7, "{port}: {back:?}");
            if !reason.is_empty() && !bytes.is_empty() {
                scene.node.line(&format!("reason=\"{reason}\""));
            }
        }
        scene.held_goes_on();
    }
}
