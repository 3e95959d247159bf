//! Issuers that answer, hang and lie, on this machine.

use std::{collections::HashMap, net::SocketAddr, sync::PoisonError};

use corten_rt::TaskGroup;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const KEYS: &str = r#"{"keys":[{"kty":"oct","k":"AAAA","kid":"one"}]}"#;
const OTHERS: &str = r#"{"keys":[{"kty":"oct","k":"BBBB","kid":"two"}]}"#;
/// Nothing of these tests takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that answers each path with the bytes written for it, and does not answer others at all.
struct Server {
    address: SocketAddr,
    pages: Arc<std::sync::Mutex<HashMap<String, String>>>,
    _tasks: TaskGroup,
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let pages: Arc<std::sync::Mutex<HashMap<String, String>>> = Arc::default();
        let tasks = TaskGroup::new("server");
        let (served, connections) = (Arc::clone(&pages), tasks.clone());
        tasks.serve("server", async move |_| {
            while let Ok((mut stream, _)) = listener.accept().await {
                let pages = Arc::clone(&served);
                connections.serve("connection", async move |mut drain: Drain| {
                    let mut head = vec![0; 4096];
                    let mut length = 0;
                    while !head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
                        match stream.read(&mut head[length..]).await {
                            Ok(0) | Err(_) => return,
                            Ok(more) => length += more,
                        }
                    }
                    let head = String::from_utf8_lossy(&head[..length]).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default();
                    let page = pages.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
                    match page {
                        Some(page) => drop(stream.write_all(page.as_bytes()).await),
                        None => drain.wait().await,
                    }
                });
            }
        });
        Server {
            address,
            pages,
            _tasks: tasks,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What a path answers from now on, as it goes over the wire.
    fn raw(&self, path: &str, answer: impl Into<String>) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.insert(path.to_owned(), answer.into());
    }

    fn page(&self, path: &str, body: &str) {
        self.raw(
            path,
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        );
    }

    fn redirect(&self, path: &str, to: &str) {
        let head = "HTTP/1.1 302 Found\r\ncontent-length: 0";
        self.raw(path, format!("{head}\r\nlocation: {to}\r\n\r\n"));
    }
}

fn client() -> Client {
    Client::new(PathBuf::from("/nowhere"), Vec::new())
}

#[tokio::test]
async fn answers_are_taken_as_far_as_they_can_be_used() {
    let server = Server::start().await;
    server.page("/keys", KEYS);
    server.page("/large", &"x".repeat(2000));
    server.raw("/endless", format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(100_000)));
    server.raw("/missing", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    server.raw("/garbage", "SSH-2.0-OpenSSH_9.9\r\n");
    server.raw("/nothing", "");
    server.raw("/short", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
    server.raw(
        "/heads",
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200_000)),
    );
    server.redirect("/moved", "/keys");
    server.redirect("/circle", "/circle");
    server.redirect("/elsewhere", "file:///etc/passwd");
    server.redirect("/inside", "http://169.254.169.254/latest/meta-data/");
    server.raw("/lost", "HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n");
    for (path, expected) in [
        ("/keys", Ok(KEYS)),
        ("/moved", Ok(KEYS)),
        ("/large", Err("at most 1000 bytes")),
        ("/endless", Err("at most 1000 bytes")),
        ("/missing", Err("the answer has the status 404")),
        ("/garbage", Err("no HTTP answer")),
        ("/nothing", Err("no HTTP answer")),
        ("/short", Err("the answer cannot be read")),
        ("/heads", Err("no HTTP answer")),
        ("/circle", Err("a redirect follows on 5 others")),
        ("/elsewhere", Err("leads to \"file:///etc/passwd\"")),
        ("/inside", Err("169.254.169.254, which must not be asked for keys")),
        ("/lost", Err("a redirect does not say where to")),
    ] {
        let answer = tokio::time::timeout(PATIENCE, client().get(&server.url(path), 1000)).await;
        match (answer.expect("in time"), expected) {
            (Ok(body), Ok(expected)) => assert_eq!(body, expected, "{path}"),
            (Err(error), Err(expected)) => {
                let error = error.to_string();
                assert!(error.contains(expected), "{path}: {error}");
            }
            (answer, _) => panic!("{path}: {answer:?}"),
        }
    }
    for (url, expected) in [
        ("ftp://a/", "is not an address of http or https"),
        ("http://user:secret@a/", "is not an address of http or https"),
        ("https:///keys", "is not an address of http or https"),
        ("http://169.254.169.254/", "must not be asked"),
        ("http://[fe80::1]/", "must not be asked"),
    ] {
        let error = client().get(url, 1000).await.expect_err(url).to_string();
        assert!(error.contains(expected), "{url}: {error}");
    }
    let blocking = Client::new(
        PathBuf::from("/nowhere"),
        vec!["127.0.0.0/8".parse().expect("a network")],
    );
    let error = blocking
        .get(&server.url("/keys"), 1000)
        .await
        .expect_err("blocked")
        .to_string();
    assert!(error.contains("127.0.0.1, which must not be asked for keys"), "{error}");
}

fn policy(name: &str, rules: &Value) -> (corten_routing::ConfigKind, Value) {
    let value = json!({
        "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
        "metadata": { "name": name, "namespace": "shop" }, "spec": { "jwtRules": rules },
    });
    (corten_routing::ConfigKind::RequestAuthentication, value)
}

fn wanted_of(rules: &Value) -> Wanted {
    let mut configs = corten_routing::Configs::default();
    let (kind, value) = policy("tokens", rules);
    assert_eq!(configs.put(kind, &value), []);
    wanted(&configs.request_authentications)
}

struct Running {
    wanted: watch::Sender<Wanted>,
    known: watch::Receiver<Arc<Known>>,
    metrics: Arc<Metrics>,
    _tasks: TaskGroup,
}

fn run(refresh_interval: Duration) -> Running {
    let (wanted, receiver) = watch::channel(Wanted::default());
    let (sender, known) = watch::channel(Arc::<Known>::default());
    let metrics = Arc::new(Metrics::new());
    let settings = IssuerSettings {
        refresh_interval,
        extra_roots: PathBuf::from("/nowhere"),
        blocked: Vec::new(),
    };
    let tasks = TaskGroup::new("issuers");
    let issuers = Issuers::new(&settings, receiver, sender, Arc::clone(&metrics));
    tasks.serve("issuers", |drain| issuers.run(drain));
    Running {
        wanted,
        known,
        metrics,
        _tasks: tasks,
    }
}

impl Running {
    async fn until(&mut self, what: &str, holds: impl FnMut(&Arc<Known>) -> bool) -> Arc<Known> {
        let found = tokio::time::timeout(PATIENCE, self.known.wait_for(holds)).await;
        let found = found.unwrap_or_else(|_| panic!("{what} did not come"));
        Arc::clone(&found.expect("it runs"))
    }
}

#[tokio::test]
async fn keys_are_found_fetched_and_rotated_and_one_issuer_costs_another_nothing() {
    let server = Server::start().await;
    let issuer = server.url("");
    server.page("/keys", KEYS);
    server.page("/discovered", KEYS);
    let configuration = json!({ "jwks_uri": server.url("/discovered") }).to_string();
    server.page("/.well-known/openid-configuration", &configuration);
    server.page("/page", "<html>");
    let rules = json!([
        { "issuer": "a", "jwksUri": server.url("/keys") },
        { "issuer": issuer },
        { "issuer": "lies", "jwksUri": server.url("/page") },
        { "issuer": "hangs", "jwksUri": server.url("/hangs"), "timeout": "0.2s" },
        { "issuer": "brings its own", "jwks": KEYS },
    ]);
    let mut running = run(Duration::from_millis(50));
    let wanted = wanted_of(&rules);
    assert_eq!(wanted.len(), 4);
    running.wanted.send_replace(Arc::clone(&wanted));
    let known = running
        .until("an answer or none of all", |known| known.is_decided(&wanted))
        .await;
    let keys: Vec<(&str, bool)> = known
        .keys
        .iter()
        .map(|((issuer, _), keys)| (issuer.as_str(), keys.contains("AAAA")))
        .collect();
    assert_eq!(keys, [("a", true), (issuer.as_str(), true)]);
    let problems: Vec<&String> = known.problems().collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("shop/tokens")
            && problems[0].contains("hangs")
            && problems[0].ends_with("all its tokens are refused"),
        "{problems:?}"
    );
    assert!(
        problems[1].contains("shop/tokens") && problems[1].contains("lies"),
        "{problems:?}"
    );
    // One that hangs is given up at its moment, which may be a little before its fetch ends and is counted.
    let counted = async {
        while running.metrics.key_fetches.get() < 4 || running.metrics.key_fetch_failures.get() < 1 {
            tokio::task::yield_now().await;
        }
    };
    let counted = tokio::time::timeout(PATIENCE, counted).await;
    counted.expect("fetches and failures are counted");

    // Others come in their place, and stay when the issuer has nothing to say any more.
    server.page("/keys", OTHERS);
    let source = ("a".to_owned(), server.url("/keys"));
    running
        .until("the other keys", |known| {
            known.keys.get(&source).is_some_and(|keys| keys.contains("BBBB"))
        })
        .await;
    server.page("/keys", "{}");
    let known = running
        .until("the failure", |known| known.problems().count() == 3)
        .await;
    assert!(known.keys.get(&source).is_some_and(|keys| keys.contains("BBBB")));
    assert!(
        known
            .problems()
            .any(|problem| problem.ends_with("the keys fetched before are used"))
    );

    // Nobody asks any more.
    running.wanted.send_replace(Wanted::default());
    running
        .until("nothing", |known| {
            known.keys.is_empty() && known.problems().count() == 0
        })
        .await;
}

#[tokio::test]
async fn many_that_hang_keep_only_each_other_waiting() {
    let server = Server::start().await;
    server.page("/keys", KEYS);
    let good = json!({ "issuer": "good", "jwksUri": server.url("/keys") });
    let mut running = run(Duration::from_millis(50));
    let alone = wanted_of(&json!([good]));
    running.wanted.send_replace(Arc::clone(&alone));
    running.until("the keys", |known| known.keys.len() == 1).await;
    // Each of them may hang for longer than this test.
    let hanging = (0..60).map(|number| {
        let path = format!("/hangs/{number}");
        json!({ "issuer": path, "jwksUri": server.url(&path), "timeout": "30s" })
    });
    let all: Vec<Value> = hanging.chain([good]).collect();
    running.wanted.send_replace(wanted_of(&json!(all)));
    server.page("/keys", OTHERS);
    let source = ("good".to_owned(), server.url("/keys"));
    running
        .until("other keys beside them", |known| {
            known.keys.get(&source).is_some_and(|keys| keys.contains("BBBB"))
        })
        .await;
    // And again, when all places for those that hang have long been taken.
    server.page("/keys", KEYS);
    running
        .until("the first keys once more", |known| {
            known.keys.get(&source).is_some_and(|keys| keys.contains("AAAA"))
        })
        .await;
}

#[tokio::test]
async fn servers_of_keys_are_verified() {
    use tokio_rustls::rustls;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let dir = tempfile::tempdir().expect("a directory");
    let roots = dir.path().join("extra.pem");
    std::fs::write(&roots, made.cert.pem()).expect("it is written");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let provider = corten_identity::TlsOptions::default().provider();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let tasks = TaskGroup::new("server");
    tasks.serve("server", async move |_| {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{KEYS}", KEYS.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    let url = format!("https://localhost:{port}/keys");
    let trusting = Client::new(roots, Vec::new());
    assert_eq!(trusting.get(&url, 1000).await.expect("keys"), KEYS);
    let error = client().get(&url, 1000).await.expect_err("unknown").to_string();
    assert!(
        error.starts_with("TLS with \"localhost\" failed") || error.starts_with("certificates cannot be verified"),
        "{error}"
    );
    // The certificate is for a name, not for this.
    let error = trusting
        .get(&format!("https://127.0.0.1:{port}/keys"), 1000)
        .await
        .expect_err("another name")
        .to_string();
    assert!(error.starts_with("TLS with \"127.0.0.1\" failed"), "{error}");
}
