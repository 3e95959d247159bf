//! The authority and its clients over gRPC and TLS: what a node proxy does to get a certificate, and a change of the root
//! under which every handshake at every moment succeeds.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use corten_ca::{
    Authenticate, AuthenticationError, Authority, Caller, Keeper, KeeperSettings, KeySource, Metrics, PodBinding,
    PodPlace, Pods, Policy, SecretAccess, SecretAccessError, SecretEntries, Service, ServiceSettings,
    ServingCertificate, serving_names,
};
use corten_core::{Identity, NamespacedName};
use corten_grpc::{Channel, Peer, Router, Settings, Target, serve};
use corten_identity::{
    Bundle, CaClient, CaSettings, Identities, IdentitiesConfig, Priority, RevocationList, RootSource, ServerAuthority,
    Sign, SignError, State, Token, Trust, Usage,
};
use corten_rt::TaskGroup;
use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::CertificateDer;
use tonic::metadata::MetadataMap;

const NODE: &str = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";
const ORDERS: &str = "spiffe://cluster.local/ns/orders/sa/api";
const PAYMENTS: &str = "spiffe://cluster.local/ns/payments/sa/api";

fn id(name: &str) -> Identity {
    name.parse().expect("an identity")
}

/// A Secret in memory, which refuses to be overwritten unread.
#[derive(Default)]
struct Memory(Mutex<SecretEntries>);

impl SecretAccess for Memory {
    fn read(&self) -> Pin<Box<dyn Future<Output = Result<SecretEntries, SecretAccessError>> + Send + '_>> {
        let entries = self.0.lock().expect("sound").clone();
        Box::pin(std::future::ready(Ok(entries)))
    }

    fn write(
        &self,
        mut entries: SecretEntries,
    ) -> Pin<Box<dyn Future<Output = Result<SecretEntries, SecretAccessError>> + Send + '_>> {
        let mut kept = self.0.lock().expect("sound");
        let result = if kept.version == entries.version {
            let version: u64 = kept.version.parse().unwrap_or_default();
            entries.version = (version + 1).to_string();
            *kept = entries.clone();
            Ok(entries)
        } else {
            Err(SecretAccessError::Conflict)
        };
        Box::pin(std::future::ready(result))
    }
}

impl Memory {
    fn edit(&self, name: &str, value: &[u8]) {
        let mut kept = self.0.lock().expect("sound");
        kept.data.insert(name.to_owned(), value.to_vec());
        kept.version.push('0');
    }
}

/// Knows callers by their certificates, and node proxies by a token.
struct Known;

impl Authenticate for Known {
    fn authenticate<'a>(
        &'a self,
        headers: &'a MetadataMap,
        peer: Option<&'a Peer>,
    ) -> Pin<Box<dyn Future<Output = Result<Caller, AuthenticationError>> + Send + 'a>> {
        let by_certificate = peer.and_then(|peer| Caller::from_certificates(&peer.certificates));
        let token = headers.get("authorization").and_then(|value| value.to_str().ok());
        let result = match (by_certificate, token) {
            (Some(caller), _) => Ok(caller),
            (None, Some("Bearer the node's token")) => Ok(Caller {
                identities: vec![id(NODE)],
                pod: Some(PodBinding {
                    name: "ztunnel-x".to_owned(),
                    uid: "uid".to_owned(),
                }),
            }),
            (None, token) => Err(AuthenticationError(format!("nobody has the token {token:?}"))),
        };
        Box::pin(std::future::ready(result))
    }
}

/// An authority with its server.
struct ControlPlane {
    secret: Arc<Memory>,
    authority: Arc<Authority>,
    metrics: Arc<Metrics>,
    address: SocketAddr,
    tasks: TaskGroup,
    /// Not run: the tests say when it looks at its Secret, and what time it is.
    keeper: Keeper,
}

async fn control_plane() -> ControlPlane {
    let (secret, metrics) = (Arc::new(Memory::default()), Arc::new(Metrics::default()));
    let settings = KeeperSettings {
        trust_domain: "cluster.local".to_owned(),
        policy: Policy::default(),
        overlap: None,
        root_lifetime: None,
        published: Vec::new(),
    };
    let now = SystemTime::now();
    let source = KeySource::choose(PathBuf::from("/nonexistent"), secret.clone()).expect("no files");
    let keeper = Keeper::start(source, settings, metrics.clone(), now)
        .await
        .expect("keys");
    let authority = keeper.authority();
    let names = serving_names("istio-system", "", "istiod.istio-system.svc:15012", &[]);
    let serving = ServingCertificate::new(
        authority.clone(),
        names,
        tokio::sync::watch::channel(Arc::from(["cluster.local".to_owned()])).1,
        now,
    );
    let serving = serving.expect("a serving certificate");
    let pods = Arc::new(Pods::default());
    for (namespace, name, account) in [
        ("istio-system", "ztunnel-x", "ztunnel"),
        ("orders", "api-x", "api"),
        ("payments", "api-x", "api"),
    ] {
        let place = PodPlace {
            uid: "uid".to_owned(),
            node: "n1".to_owned(),
            service_account: account.to_owned(),
            failed: false,
        };
        pods.put(NamespacedName::new(namespace, name), place);
    }
    let settings = ServiceSettings {
        trusted_node_accounts: [NamespacedName::new("istio-system", "ztunnel")].into(),
        trust_domains: tokio::sync::watch::channel(Arc::from(["cluster.local".to_owned()])).1,
    };
    let service = Service::new(authority.clone(), Arc::new(Known), pods, metrics.clone(), settings);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let tasks = TaskGroup::new("control plane");
    let config = serving.clone();
    let acceptor: corten_grpc::TlsAcceptor = Arc::new(move || config.config());
    let router = service.routes(Router::new());
    tasks.serve("grpc", |drain| async move {
        let _ = serve(listener, Some(acceptor), router, Settings::default(), drain).await;
    });
    tasks.serve("serving certificate", |drain| serving.run(drain));
    ControlPlane {
        secret,
        authority,
        metrics,
        address,
        tasks,
        keeper,
    }
}

impl ControlPlane {
    fn client(&self, roots: &Path, token: Token) -> CaClient {
        let server = ServerAuthority::new(RootSource::File(roots.to_owned()));
        let target = Target {
            address: Some(self.address),
            ..Target::new("istiod.istio-system.svc", 15012)
        };
        let tls: corten_grpc::TlsConnector = Arc::new(move || server.config().map_err(Into::into));
        let settings = CaSettings {
            token,
            ..CaSettings::default()
        };
        CaClient::new(Channel::new(target, tls), settings)
    }

    /// Keeps a file as the ConfigMap of the roots is kept.
    fn mount(&self, roots: &Path) {
        std::fs::write(roots, &self.authority.current().roots_pem).expect("written");
        let mut published = self.authority.subscribe();
        let (roots, new) = (roots.to_owned(), roots.with_extension("new"));
        self.tasks.serve("mount", |mut drain| async move {
            loop {
                tokio::select! {
                    () = drain.wait() => return,
                    changed = published.changed() => if changed.is_err() { return },
                }
                let text = published.borrow_and_update().roots_pem.clone();
                std::fs::write(&new, text)
                    .and_then(|()| std::fs::rename(&new, &roots))
                    .expect("written");
            }
        });
    }
}

async fn certificate(identities: &Identities, name: &str) -> Arc<Bundle> {
    let wait = async {
        loop {
            match identities.state(&id(name)) {
                State::Available { bundle, .. } => return bundle,
                State::Unavailable(why) => panic!("{why}"),
                State::Unknown | State::Initializing => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("a certificate")
}

/// A handshake in memory; why it failed.
fn handshake(client: &Bundle, server: &Bundle) -> Result<(), String> {
    let name = rustls_pki_types::ServerName::try_from("0.0.0.0").expect("an address");
    let expected = std::slice::from_ref(&server.certificate().identity);
    let mut client = ClientConnection::new(client.client_config(expected), name).expect("a client");
    let mut server = ServerConnection::new(server.server_config()).expect("a server");
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("memory");
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("memory");
            server
                .process_new_packets()
                .map_err(|error| format!("the server: {error}"))?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("memory");
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory");
            client
                .process_new_packets()
                .map_err(|error| format!("the client: {error}"))?;
        }
    }
    Ok(())
}

fn node(control: &ControlPlane, roots: &Path) -> (Arc<Identities>, TaskGroup) {
    let client = control.client(roots, Token::Literal("the node's token".to_owned()));
    let config = IdentitiesConfig {
        roots: Some(roots.to_owned()),
        look_interval: Duration::from_millis(50),
        ..IdentitiesConfig::default()
    };
    let identities = Identities::new(Arc::new(client), config);
    let tasks = TaskGroup::new("node");
    tasks.serve("identities", |drain| identities.clone().run(drain));
    (identities, tasks)
}

#[tokio::test]
async fn a_node_proxy_gets_the_certificates_of_its_pods_and_no_others() {
    let control = control_plane().await;
    let dir = tempfile::tempdir().expect("a directory");
    let roots = dir.path().join("root-cert.pem");
    control.mount(&roots);
    let (identities, tasks) = node(&control, &roots);
    for name in [ORDERS, PAYMENTS] {
        identities.want(&id(name), Priority::RealTime);
    }
    let (orders, payments) = (
        certificate(&identities, ORDERS).await,
        certificate(&identities, PAYMENTS).await,
    );
    assert_eq!(handshake(&orders, &payments), Ok(()));
    assert_eq!(control.metrics.values().citadel_server_success_cert_issuance_count, 2);

    let client = control.client(&roots, Token::Literal("the node's token".to_owned()));
    let csr = corten_identity::SigningRequest::new(&id(ORDERS)).expect("a request");
    let other = id("spiffe://cluster.local/ns/elsewhere/sa/x");
    let refused = client.sign(&other, csr.pem()).await.expect_err("refused");
    assert!(
        matches!(&refused, SignError::Refused { reason, .. } if reason.contains("runs on the caller's node")),
        "{refused}"
    );
    let stranger = control.client(&roots, Token::Literal("another token".to_owned()));
    let refused = stranger.sign(&id(ORDERS), csr.pem()).await.expect_err("refused");
    assert!(matches!(refused, SignError::Refused { .. }), "{refused}");
    let missing = control.client(&roots, Token::File(dir.path().join("no-token")));
    assert!(matches!(
        missing.sign(&id(ORDERS), csr.pem()).await,
        Err(SignError::Token { .. })
    ));
    // A server that the roots do not know gets no token.
    std::fs::write(dir.path().join("other.pem"), other_root()).expect("written");
    let deceived = control.client(
        &dir.path().join("other.pem"),
        Token::Literal("the node's token".to_owned()),
    );
    let failed = deceived.sign(&id(ORDERS), csr.pem()).await.expect_err("not connected");
    assert!(matches!(failed, SignError::Unavailable(_)), "{failed}");
    tasks.shutdown(Duration::from_secs(1)).await;
    control.tasks.shutdown(Duration::from_secs(5)).await;
}

fn other_root() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).expect("a root").pem()
}

/// Two workloads of two nodes, which call each other all the time.
struct Callers {
    one: Arc<Identities>,
    two: Arc<Identities>,
    handshakes: usize,
}

impl Callers {
    async fn call(&mut self) {
        let (a, b) = (
            certificate(&self.one, ORDERS).await,
            certificate(&self.two, PAYMENTS).await,
        );
        for (client, server) in [(&a, &b), (&b, &a)] {
            let roots = (a.certificate().roots.len(), b.certificate().roots.len());
            assert_eq!(handshake(client, server), Ok(()), "with {roots:?} roots");
            self.handshakes += 1;
        }
    }

    /// Calls until both have certificates of some kind; meanwhile one of them will have it, and the other not.
    async fn until(&mut self, what: &str, good: impl Fn(&Bundle) -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            self.call().await;
            let (a, b) = (
                certificate(&self.one, ORDERS).await,
                certificate(&self.two, PAYMENTS).await,
            );
            if good(&a) && good(&b) {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn the_root_changes_and_every_handshake_succeeds() {
    let mut control = control_plane().await;
    let dir = tempfile::tempdir().expect("a directory");
    let roots = [dir.path().join("one.pem"), dir.path().join("two.pem")];
    roots.iter().for_each(|roots| control.mount(roots));
    let (one, one_tasks) = node(&control, &roots[0]);
    let (two, two_tasks) = node(&control, &roots[1]);
    one.want(&id(ORDERS), Priority::RealTime);
    two.want(&id(PAYMENTS), Priority::RealTime);
    let mut callers = Callers {
        one,
        two,
        handshakes: 0,
    };
    callers.call().await;
    let old = control.authority.current().signer.anchor().clone();
    let trusts = |root: &CertificateDer<'static>| {
        let root = root.clone();
        move |bundle: &Bundle| bundle.certificate().roots.contains(&root)
    };
    let signed_by = |root: &CertificateDer<'static>| {
        let trust = Trust::new(std::slice::from_ref(root), RevocationList::default()).expect("a root");
        move |bundle: &Bundle| {
            trust
                .verify(&bundle.certificate().chain, Usage::Server, SystemTime::now())
                .is_ok()
        }
    };

    control.secret.edit("rotate-root", b"20m");
    let (start, minute) = (SystemTime::now(), Duration::from_secs(60));
    control.keeper.step(start).await.expect("a step");
    let published = control.authority.current();
    assert_eq!(
        (published.roots.len(), published.signer.anchor() == &old),
        (2, true),
        "announced"
    );
    let new = published.roots[1].clone();
    callers.until("both to trust the new root", trusts(&new)).await;

    control.keeper.step(start + minute * 19).await.expect("a step");
    assert_eq!(control.authority.current().signer.anchor(), &old, "not yet");
    control.keeper.step(start + minute * 20).await.expect("a step");
    let published = control.authority.current();
    assert_eq!(
        (published.roots.len(), published.signer.anchor() == &new),
        (2, true),
        "switched"
    );
    callers
        .until("both to be signed by the new root", signed_by(&new))
        .await;

    control.keeper.step(start + minute * 40).await.expect("a step");
    assert_eq!(control.authority.current().roots, std::slice::from_ref(&new));
    callers
        .until("both to forget the old root", |bundle| !trusts(&old)(bundle))
        .await;
    assert!(callers.handshakes > 8);
    assert_eq!(control.metrics.values().citadel_server_root_rotation_count, 1);

    // A new client, which knows the new root alone: the serving certificate has followed.
    std::fs::write(dir.path().join("new.pem"), &control.authority.current().roots_pem).expect("written");
    let client = control.client(
        &dir.path().join("new.pem"),
        Token::Literal("the node's token".to_owned()),
    );
    let csr = corten_identity::SigningRequest::new(&id(ORDERS)).expect("a request");
    assert!(client.sign(&id(ORDERS), csr.pem()).await.is_ok());
    for tasks in [one_tasks, two_tasks, control.tasks] {
        tasks.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn replicas_share_one_root_and_revoke_together() {
    let secret = Arc::new(Memory::default());
    let settings = KeeperSettings {
        trust_domain: "cluster.local".to_owned(),
        policy: Policy::default(),
        overlap: None,
        root_lifetime: None,
        published: Vec::new(),
    };
    let start = async || {
        let source = KeySource::SelfMade(secret.clone());
        Keeper::start(source, settings.clone(), Arc::default(), SystemTime::now())
            .await
            .expect("keys")
    };
    let (mut one, mut two) = (start().await, start().await);
    let roots = |keeper: &Keeper| keeper.authority().current().roots.clone();
    assert_eq!(roots(&one), roots(&two));
    secret.edit("rotate-root", b"");
    secret.edit("revoked-serials", b"# stolen\n4711\n0xabc\n");
    for _ in 0..2 {
        one.step(SystemTime::now()).await.expect("a step");
        two.step(SystemTime::now()).await.expect("a step");
    }
    assert_eq!(roots(&one), roots(&two));
    assert_eq!(roots(&one).len(), 2, "the wish of the operator is fulfilled once");
    let lists = two
        .authority()
        .current()
        .revocation_pem
        .clone()
        .expect("there are lists");
    assert_eq!(lists.matches("BEGIN X509 CRL").count(), 2, "one by each key");
    RevocationList::parse(lists.as_bytes()).expect("readable");
    // What cannot be used changes nothing.
    secret.edit("revoked-serials", b"nonsense");
    let error = one.step(SystemTime::now()).await.expect_err("refused");
    assert!(
        error.to_string().contains("'nonsense' is not a serial number"),
        "{error}"
    );
    assert!(one.authority().current().revocation_pem.is_some());
}
