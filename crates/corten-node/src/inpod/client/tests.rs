use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use corten_proto::zds::workload_request;
use corten_proto::zds::{AddWorkload, DelWorkload, SnapshotSent};
use corten_rt::TaskGroup;

use super::*;

/// Notes what it was asked to do; refuses pods named "bad" the first time.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<(Vec<String>, bool)>>);

impl Runner for Notes {
    async fn start(&mut self, uid: &str, info: &WorkloadInfo, _namespace: NetNs) -> Result<(), String> {
        let mut notes = self.0.lock().unwrap();
        let tried = notes.0.iter().any(|line| line.ends_with("bad"));
        notes.0.push(format!("start {uid} {}", info.name));
        if info.name == "bad" && !tried {
            Err("no".into())
        } else {
            Ok(())
        }
    }

    async fn stop(&mut self, uid: &str) {
        self.0.lock().unwrap().0.push(format!("stop {uid}"));
    }

    fn status(&mut self, pods: &Pods) {
        self.0.lock().unwrap().1 = pods.is_ready();
    }
}

struct Agent {
    listener: OwnedFd,
}

impl Agent {
    fn new(path: &Path) -> Agent {
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        Agent { listener }
    }

    async fn accept(&self) -> AsyncFd<OwnedFd> {
        let listener = self.listener.try_clone().unwrap();
        let accepted = tokio::task::spawn_blocking(move || {
            rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).unwrap()
        });
        let socket = fds::watched(accepted.await.unwrap()).unwrap();
        let mut hello = [0; 16];
        let (length, _) = read(&socket, &mut hello).await;
        assert_eq!(hello[..length], [8, 1]);
        socket
    }
}

async fn read(socket: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> (usize, Vec<OwnedFd>) {
    loop {
        let mut ready = socket.readable().await.unwrap();
        if let Ok(outcome) = ready.try_io(|socket| fds::receive(socket, buffer)) {
            return outcome.unwrap();
        }
    }
}

/// Sends a request and gives the error of its acknowledgement.
async fn ask(socket: &AsyncFd<OwnedFd>, payload: workload_request::Payload) -> String {
    let namespace = NetNs::current().unwrap();
    let with_file = matches!(payload, workload_request::Payload::Add(_));
    let files: Vec<_> = with_file.then(|| namespace.as_fd()).into_iter().collect();
    let packet = WorkloadRequest { payload: Some(payload) }.encode_to_vec();
    fds::send(socket.get_ref(), &packet, &files).unwrap();
    let mut answer = [0; PACKET_MAX];
    let (length, _) = read(socket, &mut answer).await;
    let Some(Payload::Ack(ack)) = WorkloadResponse::decode(&answer[..length]).unwrap().payload else {
        panic!("not an ack");
    };
    ack.error
}

fn add(uid: &str, name: &str) -> workload_request::Payload {
    workload_request::Payload::Add(AddWorkload {
        uid: uid.into(),
        workload_info: Some(WorkloadInfo {
            name: name.into(),
            ..WorkloadInfo::default()
        }),
    })
}

#[tokio::test]
async fn pods_are_served_as_the_agent_says_and_kept_when_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let agent = Agent::new(&path);
    let (tasks, notes) = (TaskGroup::new("test"), Notes::default());
    let runner = notes.clone();
    tasks.serve("zds", |drain| run(path, runner, drain));
    use workload_request::Payload::{Del, SnapshotSent as Sent};

    let socket = agent.accept().await;
    assert_eq!(ask(&socket, add("1", "a")).await, "");
    assert_eq!(ask(&socket, add("2", "bad")).await, "no");
    assert_eq!(ask(&socket, Sent(SnapshotSent {})).await, "");
    assert!(!notes.0.lock().unwrap().1, "a pod is pending");
    assert_eq!(ask(&socket, Del(DelWorkload { uid: "2".into() })).await, "");
    assert!(notes.0.lock().unwrap().1);
    drop(socket);

    let socket = agent.accept().await;
    assert_eq!(ask(&socket, add("3", "c")).await, "");
    assert_eq!(ask(&socket, Sent(SnapshotSent {})).await, "");
    assert_eq!(ask(&socket, Del(DelWorkload { uid: "3".into() })).await, "");
    let lines = notes.0.lock().unwrap().0.join(", ");
    assert_eq!(lines, "start 1 a, start 2 bad, start 3 c, stop 1, stop 3");
    // What breaks the protocol is told, and the connection given up.
    let error = ask(&socket, Sent(SnapshotSent {})).await;
    assert!(error.contains("second snapshot"), "{error}");
    assert_eq!(read(&socket, &mut [0; 16]).await.0, 0);
    assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
}
