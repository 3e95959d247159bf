use corten_proto::zds::{AddWorkload, DelWorkload, KeepWorkload, SnapshotSent};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode(u64);

impl Namespace for Inode {
    fn inode(&self) -> u64 {
        self.0
    }
}

fn request(payload: Payload) -> WorkloadRequest {
    WorkloadRequest { payload: Some(payload) }
}

fn add(uid: &str) -> WorkloadRequest {
    let workload_info = Some(WorkloadInfo::default());
    let uid = uid.to_owned();
    request(Payload::Add(AddWorkload { uid, workload_info }))
}

fn del(uid: &str) -> WorkloadRequest {
    request(Payload::Del(DelWorkload { uid: uid.into() }))
}

fn keep(uid: &str) -> WorkloadRequest {
    request(Payload::Keep(KeepWorkload { uid: uid.into() }))
}

fn sent() -> WorkloadRequest {
    request(Payload::SnapshotSent(SnapshotSent {}))
}

fn none(pods: &mut Pods, request: WorkloadRequest) -> Action<Inode> {
    pods.request(request, Vec::new()).unwrap()
}

fn start(pods: &mut Pods, uid: &str, inode: u64) -> Action<Inode> {
    let action = pods.request(add(uid), vec![Inode(inode)]).unwrap();
    if matches!(action, Action::Start { .. } | Action::Replace { .. }) {
        pods.started(uid, inode);
    }
    action
}

fn synchronized(uids: &[&str]) -> Pods {
    let mut pods = Pods::default();
    pods.connected();
    for (uid, inode) in uids.iter().zip(1..) {
        start(&mut pods, uid, inode);
    }
    none(&mut pods, sent());
    pods
}

#[test]
fn ready_is_a_complete_snapshot_with_every_pod_served() {
    let mut pods = Pods::default();
    assert!(!pods.is_ready());
    pods.connected();
    let action = pods.request(add("a"), vec![Inode(1)]).unwrap();
    assert!(matches!(action, Action::Start { .. }));
    pods.failed("a");
    none(&mut pods, sent());
    assert!(!pods.is_ready());
    pods.started("a", 1);
    assert!(pods.is_ready());
    pods.disconnected();
    assert!(!pods.is_ready());
    assert_eq!(pods.served(), 1, "pods are served without the agent");
}

#[test]
fn a_pod_that_a_new_snapshot_does_not_name_is_stopped() {
    let mut pods = synchronized(&["a", "b", "c", "d"]);
    pods.disconnected();
    pods.connected();
    assert_eq!(start(&mut pods, "a", 1), Action::None);
    assert_eq!(none(&mut pods, keep("b")), Action::None);
    assert_eq!(none(&mut pods, keep("c")), Action::None);
    assert_eq!(none(&mut pods, del("c")), Action::None);
    let Action::Stop(mut gone) = none(&mut pods, sent()) else {
        panic!()
    };
    gone.sort();
    assert_eq!(gone, ["c", "d"]);
}

#[test]
fn the_same_pod_in_another_namespace_is_replaced() {
    let mut pods = synchronized(&["a"]);
    assert_eq!(start(&mut pods, "a", 1), Action::None);
    assert!(matches!(start(&mut pods, "a", 9), Action::Replace { .. }));
}

#[test]
fn after_the_snapshot_a_deletion_is_immediate() {
    let mut pods = synchronized(&["a"]);
    assert_eq!(none(&mut pods, del("a")), Action::Stop(vec!["a".into()]));
    assert_eq!(none(&mut pods, del("a")), Action::None);
}

#[test]
fn a_pending_pod_that_is_deleted_is_not_tried_again() {
    let mut pods = synchronized(&[]);
    pods.failed("a");
    assert!(pods.is_pending("a"));
    none(&mut pods, del("a"));
    assert!(pods.is_ready());
}

#[test]
fn what_breaks_the_protocol_is_named() {
    let mut pods = synchronized(&[]);
    let error = |pods: &mut Pods, request, files: &[u64]| {
        let files = files.iter().map(|inode| Inode(*inode)).collect();
        pods.request(request, files).unwrap_err().to_string()
    };
    assert_eq!(error(&mut pods, keep("a"), &[]), "keep after the end of the snapshot");
    assert_eq!(
        error(&mut pods, sent(), &[]),
        "a second snapshot after the end of the snapshot"
    );
    assert_eq!(
        error(&mut pods, add("a"), &[]),
        "the request carries 0 open files instead of 1"
    );
    assert_eq!(
        error(&mut pods, del("a"), &[1]),
        "the request carries 1 open files instead of 0"
    );
    let nameless = request(Payload::Add(AddWorkload {
        uid: "a".into(),
        workload_info: None,
    }));
    assert_eq!(
        error(&mut pods, nameless, &[1]),
        "pod a: the request to add it lacks workload_info"
    );
    assert_eq!(
        error(&mut pods, WorkloadRequest { payload: None }, &[]),
        "a request of an unknown kind"
    );
}
