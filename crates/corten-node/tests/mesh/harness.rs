//! A mesh in the test's own namespaces: pods on a bridge with real redirection, and node proxies in this process.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use corten_enroll::{Backend, PodNetwork, PodRules};
use corten_linux::NetNs;
use corten_linux::net::{LinkChange, LinkKind, NewLink, Route, Rtnl};
use corten_node::config::Config;
use corten_node::control::certificates::identities;
use corten_node::control::data_plane::DataPlane;
use corten_node::control::discovery::Discovery;
use corten_node::control::local;
use corten_node::shard::{Common, Holds};
use corten_node::telemetry::access::AccessLog;
use corten_node::telemetry::metrics::Metrics;
use corten_proto::zds::WorkloadInfo;
use corten_rt::TaskGroup;
use corten_traffic::Settings;
use tempfile::TempDir;

/// Ends the test here if it runs elsewhere, or cannot run.
#[macro_export]
macro_rules! isolate {
    () => {
        match corten_linux::testing::isolated() {
            corten_linux::testing::Isolation::Inside => {}
            corten_linux::testing::Isolation::Done => return,
            corten_linux::testing::Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
        }
    };
}

/// A pod: a network namespace on the bridge.
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    pub(crate) ip: IpAddr,
    pub(crate) ip6: IpAddr,
    pub(crate) netns: Arc<NetNs>,
    rules: Option<PodNetwork>,
}

/// The wire, and what is common to all nodes.
pub(crate) struct Mesh {
    here: Rtnl,
    bridge: u32,
    next: u8,
    authority: TempDir,
}

impl Mesh {
    pub(crate) fn new() -> Mesh {
        let mut here = Rtnl::open().unwrap();
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        let lo = here.link("lo").unwrap().unwrap().index;
        here.set_link(lo, &up).unwrap();
        here.add_link(&NewLink {
            name: "br0",
            kind: LinkKind::Bridge,
            change: up,
        })
        .unwrap();
        let bridge = here.link("br0").unwrap().unwrap().index;
        here.add_address(bridge, "10.1.0.1/24".parse().unwrap()).unwrap();
        Mesh {
            here,
            bridge,
            next: 10,
            authority: authority(),
        }
    }

    /// A node proxy of another mesh.
    pub(crate) fn authority_of_others() -> Node {
        let folder = authority();
        let vars: std::collections::BTreeMap<String, String> = [
            ("CORTEN_TEST_CA_DIR".to_owned(), folder.path().display().to_string()),
            ("XDS_ADDRESS".to_owned(), String::new()),
        ]
        .into();
        Node::start(Config::resolve(&vars, 1).unwrap())
    }

    /// A pod that is not enrolled.
    pub(crate) fn pod(&mut self, name: &'static str) -> Pod {
        self.next += 1;
        let host = self.next;
        let netns = Arc::new(NetNs::create().unwrap());
        self.here
            .add_link(&NewLink {
                name,
                kind: LinkKind::Veth {
                    peer: "eth0",
                    change: LinkChange {
                        netns: Some(netns.as_fd()),
                        ..LinkChange::default()
                    },
                },
                change: LinkChange {
                    up: Some(true),
                    master: Some(self.bridge),
                    ..LinkChange::default()
                },
            })
            .unwrap();
        let (ip, ip6) = (format!("10.1.0.{host}"), format!("fd00::{host:x}"));
        let mut there = netns.run(Rtnl::open).unwrap().unwrap();
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        let lo = there.link("lo").unwrap().unwrap().index;
        there.set_link(lo, &up).unwrap();
        let eth0 = there.link("eth0").unwrap().unwrap().index;
        netns
            .run(|| corten_linux::net::set_sysctl("net.ipv6.conf.eth0.accept_dad", "0"))
            .unwrap()
            .unwrap();
        there.set_link(eth0, &up).unwrap();
        there.add_address(eth0, format!("{ip}/24").parse().unwrap()).unwrap();
        there.add_address(eth0, format!("{ip6}/64").parse().unwrap()).unwrap();
        there
            .set_route(&Route::default_via("10.1.0.1".parse().unwrap()))
            .unwrap();
        Pod {
            name,
            ip: ip.parse().unwrap(),
            ip6: ip6.parse().unwrap(),
            netns,
            rules: None,
        }
    }

    /// The folder of the authority that signs for all nodes.
    pub(crate) fn authority(&self) -> &std::path::Path {
        self.authority.path()
    }

    /// A node proxy.
    pub(crate) fn node(&self, vars: &[(&str, &str)]) -> Node {
        let mut all = vec![
            ("CORTEN_TEST_CA_DIR", self.authority.path().to_str().unwrap()),
            ("XDS_ADDRESS", ""),
            ("RUST_LOG", "debug"),
        ];
        all.extend(vars);
        let vars: std::collections::BTreeMap<String, String> =
            all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Node::start(Config::resolve(&vars, 1).unwrap())
    }
}

/// A folder with a root certificate of its own and the key to it.
fn authority() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = root.self_signed(&key).unwrap();
    std::fs::write(folder.path().join("ca-cert.pem"), root.pem()).unwrap();
    std::fs::write(folder.path().join("ca-key.pem"), key.serialize_pem()).unwrap();
    folder
}

/// A node proxy in this process.
pub(crate) struct Node {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) data_plane: Arc<DataPlane>,
    pub(crate) discovery: Arc<Discovery>,
    lines: Receiver<Vec<u8>>,
    /// Lines that have come and were not asked for yet.
    unread: RefCell<VecDeque<String>>,
    _tasks: TaskGroup,
}

impl Node {
    fn start(config: Config) -> Node {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let (access, lines) = AccessLog::new(false, Some("info"));
        let (resolver, _questions) = tokio::sync::mpsc::channel(1);
        let identities = identities(&config).unwrap();
        let common = Arc::new(Common {
            config: Arc::new(config),
            traffic: Settings::default(),
            tables: Arc::new(ArcSwap::default()),
            identities: identities.clone(),
            holds: Holds::default(),
            metrics: Arc::new(Metrics::default()),
            access,
            resolver,
            resting: std::sync::atomic::AtomicUsize::default(),
        });
        let data_plane = DataPlane::start(common).unwrap();
        let tasks = TaskGroup::new("test");
        let shards = Arc::downgrade(&data_plane);
        identities.on_change(move || {
            if let Some(shards) = shards.upgrade() {
                shards.certificates_changed();
            }
        });
        tasks.serve("certificates", |drain| identities.run(drain));
        let discovery = Discovery::new(data_plane.clone(), None, || {});
        drop(_inside);
        Node {
            runtime,
            data_plane,
            discovery,
            lines,
            unread: RefCell::default(),
            _tasks: tasks,
        }
    }

    /// What the control plane would say.
    pub(crate) fn configure(&self, yaml: &str) {
        self.discovery.apply(local::parse(yaml).unwrap()).unwrap();
    }

    /// Serves a pod and redirects its traffic.
    pub(crate) fn enroll(&self, pod: &mut Pod) {
        self.serve(pod);
        pod.redirect();
    }

    /// Serves a pod, as the agent would ask for it.
    pub(crate) fn serve(&self, pod: &Pod) {
        let info = WorkloadInfo {
            name: pod.name.into(),
            namespace: "default".into(),
            service_account: pod.name.into(),
        };
        let namespace = pod.netns.duplicate().unwrap();
        self.runtime
            .block_on(self.data_plane.add_pod(pod.name, &info, namespace))
            .unwrap();
    }

    /// The next access log line that says `what`, waited for; lines before it are dropped.
    #[track_caller]
    pub(crate) fn line(&self, what: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut seen = String::new();
        let mut unread = self.unread.borrow_mut();
        loop {
            while let Some(line) = unread.pop_front() {
                if line.contains(what) {
                    return line;
                }
                seen.push_str(&line);
                seen.push('\n');
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(lines) = self.lines.recv_timeout(left) else {
                break;
            };
            unread.extend(String::from_utf8(lines).unwrap().lines().map(str::to_owned));
        }
        panic!("no line with {what:?} in:\n{seen}");
    }

    /// All metrics as text.
    pub(crate) fn metrics(&self) -> String {
        self.data_plane.common().metrics.text("test")
    }
}

impl Pod {
    /// Redirects the pod's traffic, as the agent would.
    pub(crate) fn redirect(&mut self) {
        let mut rules = PodNetwork::open(self.netns.clone(), Backend::Nftables).unwrap();
        rules
            .enroll(&PodRules {
                dns_capture: false,
                ..PodRules::default()
            })
            .unwrap();
        self.rules = Some(rules);
    }

    /// The workload as the control plane tells of it.
    pub(crate) fn workload(&self, protocol: &str, more: &str) -> String {
        format!(
            "- {{uid: 'c//Pod/default/{name}', name: {name}, namespace: default, serviceAccount: {name}, \
             workloadIps: ['{ip}', '{ip6}'], protocol: {protocol}, canonicalRevision: v1{more}}}\n",
            name = self.name,
            ip = self.ip,
            ip6 = self.ip6,
        )
    }

    /// Listens on a port of the pod, as its application.
    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        self.netns.run(|| TcpListener::bind(("::", port))).unwrap().unwrap()
    }

    /// Connects from the pod, as its application.
    pub(crate) fn connect(&self, to: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
        let to = to.into();
        let stream = self
            .netns
            .run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)))
            .unwrap()?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    /// Says something to a server and gives what it answers until it ends.
    pub(crate) fn call(&self, to: impl Into<SocketAddr>, what: &str) -> std::io::Result<String> {
        let mut stream = self.connect(to)?;
        stream.write_all(what.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// A server that answers each connection, when its client has said all, with the client's address and what it said.
pub(crate) fn echo(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let peer = stream.peer_addr().unwrap().ip().to_canonical();
                let mut said = Vec::new();
                let _ = stream.read_to_end(&mut said);
                let _ = stream.write_all(format!("{peer} ").as_bytes());
                let _ = stream.write_all(&said);
            });
        }
    });
}

/// A server that sends back at once what it receives.
pub(crate) fn mirror(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length) = stream.read(&mut buffer) {
                    if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Says something over an open connection to a [`mirror`] and hears it back.
pub(crate) fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping")?;
    let mut back = [0; 4];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"ping");
    Ok(())
}
