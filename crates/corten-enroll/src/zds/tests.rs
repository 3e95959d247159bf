//! The server against a proxy of the test's own, byte for byte where the protocol has examples.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;

use corten_linux::fds;
use corten_rt::TaskGroup;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::*;

/// The agent of these tests: a fixed set of pods, and how many proxies were connected last.
#[derive(Default)]
struct Node {
    pods: Mutex<Vec<Workload>>,
    connected: Mutex<usize>,
}

impl Pods for Node {
    fn snapshot(&self) -> Vec<Workload> {
        self.pods.lock().unwrap().clone()
    }

    fn connected(&self, proxies: usize) {
        *self.connected.lock().unwrap() = proxies;
    }
}

fn workload(uid: &str, netns: bool) -> Workload {
    Workload {
        uid: uid.into(),
        info: WorkloadInfo {
            name: "p".into(),
            namespace: "n".into(),
            service_account: "s".into(),
        },
        netns: netns.then(|| Arc::new(NetNs::current().unwrap())),
    }
}

/// Add for uid "a" with pod p, namespace n, service account s.
const ADD_A: &[u8] = b"\x0a\x0e\x0a\x01a\x12\x09\x0a\x01p\x12\x01n\x1a\x01s";
const KEEP_B: &[u8] = &[0x2a, 3, 0x0a, 1, 0x62];
const SNAPSHOT_SENT: &[u8] = &[0x1a, 0];
const DEL_A: &[u8] = &[0x12, 3, 0x12, 1, 0x61];
const OK: &[u8] = &[0x0a, 0];

struct Setup {
    node: Arc<Node>,
    handle: Handle,
    path: PathBuf,
    tasks: TaskGroup,
    _dir: tempfile::TempDir,
}

fn setup(pods: Vec<Workload>) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/ztunnel.sock");
    let node = Arc::new(Node {
        pods: Mutex::new(pods),
        ..Node::default()
    });
    let limits = Limits {
        deadline: Duration::from_millis(300),
        accept_interval: Duration::from_millis(1),
        ..Limits::default()
    };
    let server = Server::bind(&path, node.clone(), limits).unwrap();
    let handle = server.handle();
    let tasks = TaskGroup::new("test");
    tasks.serve("zds", |drain| server.run(drain));
    Setup {
        node,
        handle,
        path,
        tasks,
        _dir: dir,
    }
}

struct Proxy(AsyncFd<OwnedFd>);

impl Proxy {
    fn connect(setup: &Setup) -> Proxy {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(&setup.path).unwrap()).unwrap();
        Proxy(fds::watched(socket).unwrap())
    }

    async fn hello(setup: &Setup) -> Proxy {
        let proxy = Proxy::connect(setup);
        proxy.say(&[8, 1]).await;
        proxy
    }

    async fn say(&self, bytes: &[u8]) {
        let sent = self
            .0
            .async_io(Interest::WRITABLE, |socket| fds::send(socket, bytes, &[]));
        sent.await.unwrap();
    }

    /// The next packet and how many files came with it; empty at the end.
    async fn hear(&self) -> (Vec<u8>, usize) {
        let mut buffer = [0; 2048];
        let heard = self
            .0
            .async_io(Interest::READABLE, |socket| fds::receive(socket, &mut buffer));
        let (length, files) = match tokio::time::timeout(Duration::from_secs(10), heard).await.unwrap() {
            Ok(heard) => heard,
            // The agent closed it with something of ours unread.
            Err(_) => return (Vec::new(), 0),
        };
        (buffer[..length].to_vec(), files.len())
    }

    async fn expect(&self, bytes: &[u8], files: usize) {
        assert_eq!(self.hear().await, (bytes.to_vec(), files));
    }

    async fn serve(&self, bytes: &[u8], files: usize) {
        self.expect(bytes, files).await;
        self.say(OK).await;
    }

    async fn ended(&self) {
        self.expect(&[], 0).await;
    }
}

#[tokio::test]
async fn all_pods_then_each_as_it_comes_and_goes() {
    let setup = setup(vec![workload("a", true), workload("b", false)]);
    assert!(!setup.handle.is_connected());
    let refused = setup.handle.add(workload("a", true)).await.unwrap_err();
    assert!(matches!(refused, RequestError::NotConnected), "{refused}");
    setup.handle.delete("a").await.expect("nobody serves it");

    let proxy = Proxy::hello(&setup).await;
    proxy.expect(ADD_A, 1).await;
    // What comes while the snapshot is sent follows it.
    let (handle, add) = (setup.handle.clone(), workload("a", true));
    let (report, added) = tokio::sync::oneshot::channel();
    setup
        .tasks
        .spawn("add", async move { report.send(handle.add(add).await).unwrap() });
    tokio::task::yield_now().await;
    proxy.say(OK).await;
    proxy.expect(KEEP_B, 0).await;
    // A refusal in the snapshot does not end it.
    proxy.say(b"\x0a\x06\x0a\x04nope").await;
    proxy.serve(SNAPSHOT_SENT, 0).await;
    proxy.serve(ADD_A, 1).await;
    added.await.unwrap().unwrap();
    assert_eq!(*setup.node.connected.lock().unwrap(), 1);

    let deleted = tokio::join!(setup.handle.delete("a"), proxy.serve(DEL_A, 0)).0;
    deleted.unwrap();
    let nack = async {
        proxy.expect(ADD_A, 1).await;
        proxy.say(b"\x0a\x06\x0a\x04nope").await;
    };
    let refused = tokio::join!(setup.handle.add(workload("a", true)), nack).0.unwrap_err();
    assert_eq!(refused.to_string(), "the node proxy refused: nope");
    assert!(setup.tasks.shutdown(Duration::from_secs(5)).await.is_empty());
    proxy.ended().await;
}

#[tokio::test]
async fn the_latest_gets_new_pods_and_all_learn_who_leaves() {
    let setup = setup(Vec::new());
    let old = Proxy::hello(&setup).await;
    old.serve(SNAPSHOT_SENT, 0).await;
    let new = Proxy::hello(&setup).await;
    new.serve(SNAPSHOT_SENT, 0).await;
    tokio::join!(setup.handle.add(workload("a", true)), new.serve(ADD_A, 1))
        .0
        .unwrap();
    let (deleted, (), ()) = tokio::join!(setup.handle.delete("a"), old.serve(DEL_A, 0), new.serve(DEL_A, 0));
    deleted.unwrap();
    drop(new);
    // The older one is the latest again, once the other's end is noticed.
    let added = async {
        loop {
            match setup.handle.add(workload("a", true)).await {
                Err(RequestError::Lost(_) | RequestError::NotConnected) => {}
                outcome => return outcome,
            }
        }
    };
    tokio::join!(added, old.serve(ADD_A, 1)).0.unwrap();
}

#[tokio::test]
async fn who_breaks_the_protocol_is_dropped() {
    let setup = setup(Vec::new());
    let wrong_hello = Proxy::connect(&setup);
    wrong_hello.say(&[8, 7]).await;
    wrong_hello.ended().await;

    let silent = Proxy::connect(&setup);
    silent.ended().await;

    let too_long = Proxy::connect(&setup);
    too_long.say(&[0; 1025]).await;
    too_long.ended().await;

    let late = Proxy::hello(&setup).await;
    late.serve(SNAPSHOT_SENT, 0).await;
    let asked = setup.handle.add(workload("a", true)).await.unwrap_err();
    assert!(matches!(&asked, RequestError::Lost(_)), "{asked}");
    late.expect(ADD_A, 1).await;
    late.ended().await;

    let talkative = Proxy::hello(&setup).await;
    talkative.serve(SNAPSHOT_SENT, 0).await;
    talkative.say(OK).await;
    talkative.ended().await;
}

#[tokio::test]
async fn names_that_do_not_fit_are_refused_and_nothing_else() {
    let setup = setup(Vec::new());
    let proxy = Proxy::hello(&setup).await;
    proxy.serve(SNAPSHOT_SENT, 0).await;
    let mut long = workload("a", true);
    long.info.name = "x".repeat(1100);
    let refused = setup.handle.add(long).await.unwrap_err();
    assert!(refused.to_string().contains("too long"), "{refused}");
    tokio::join!(setup.handle.add(workload("a", true)), proxy.serve(ADD_A, 1))
        .0
        .unwrap();
}

#[tokio::test]
async fn a_new_agent_takes_the_socket_over() {
    let first = setup(Vec::new());
    first.tasks.shutdown(Duration::from_secs(5)).await;
    let node = Arc::new(Node::default());
    let server = Server::bind(&first.path, node, Limits::default()).unwrap();
    let tasks = TaskGroup::new("second");
    tasks.serve("zds", |drain| server.run(drain));
    let proxy = Proxy::hello(&first).await;
    proxy.serve(SNAPSHOT_SENT, 0).await;
}
