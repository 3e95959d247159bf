//! Pods that leave, and proxies that are replaced, with connections open.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Mesh, Node, Pod, mirror, ping};
use crate::{at, isolate};

fn configure(nodes: &[&Node], pods: &[&Pod]) {
    let workloads: String = pods.iter().map(|pod| pod.workload("HBONE", "")).collect();
    for node in nodes {
        node.configure(&format!("workloads:\n{workloads}"));
    }
}

#[test]
fn a_pod_that_leaves_keeps_its_connections() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let (one, two) = (mesh.node(&[]), mesh.node(&[]));
    configure(&[&one, &two], &[&client, &server]);
    one.enroll(&mut client);
    two.enroll(&mut server);
    mirror(server.listen(8080));
    let mut held = client.connect(at(server.ip, 8080)).unwrap();
    ping(&mut held).unwrap();
    two.runtime.block_on(two.data_plane.remove_pod("server"));
    one.runtime.block_on(one.data_plane.remove_pod("client"));
    ping(&mut held).unwrap();
    drop(held);
    two.line("connection complete");
    // With the last connection everything of the pods is gone.
    for node in [&one, &two] {
        assert!(node.runtime.block_on(node.data_plane.dump()).is_empty());
    }
}

#[test]
fn a_successor_takes_over_and_no_connection_is_refused_or_broken() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let (one, two) = (mesh.node(&[]), mesh.node(&[]));
    configure(&[&one, &two], &[&client, &server]);
    one.enroll(&mut client);
    two.enroll(&mut server);
    mirror(server.listen(8080));
    let mut held: Vec<TcpStream> = (0..20).map(|_| client.connect(at(server.ip, 8080)).unwrap()).collect();
    held.iter_mut().for_each(|stream| ping(stream).unwrap());

    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let client = Arc::new(client);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (stop, calls, client, to) = (stop.clone(), calls.clone(), client.clone(), at(server.ip, 8080));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = client.connect(to).expect("no connection is refused");
                    ping(&mut stream).expect("no connection is broken");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let wait_for_calls = |more: usize| {
        let before = calls.load(Ordering::Relaxed);
        while calls.load(Ordering::Relaxed) < before + more {
            std::thread::sleep(Duration::from_millis(5));
            assert!(
                !callers.iter().any(std::thread::JoinHandle::is_finished),
                "a caller failed"
            );
        }
    };
    wait_for_calls(50);
    // Successors of both proxies, then the word to end for the old ones.
    let (new_one, new_two) = (mesh.node(&[]), mesh.node(&[]));
    configure(&[&new_one, &new_two], &[&client, &server]);
    new_one.serve(&client);
    new_two.serve(&server);
    wait_for_calls(50);
    let drained: Vec<_> = [&one, &two]
        .into_iter()
        .map(|old| {
            let data_plane = old.data_plane.clone();
            old.runtime
                .spawn(async move { data_plane.drain(Duration::from_secs(60)).await })
        })
        .collect();
    // Beyond the moment in which the old listeners are closed.
    std::thread::sleep(Duration::from_secs(5));
    wait_for_calls(50);
    stop.store(true, Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    held.iter_mut()
        .for_each(|stream| ping(stream).expect("what was open goes on"));
    assert!(
        !drained.iter().any(tokio::task::JoinHandle::is_finished),
        "they wait for what is open"
    );
    drop(held);
    for (old, drained) in [&one, &two].into_iter().zip(drained) {
        old.runtime.block_on(drained).unwrap();
    }
}

#[test]
fn what_is_open_at_the_deadline_is_cut() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let (one, two) = (mesh.node(&[]), mesh.node(&[]));
    configure(&[&one, &two], &[&client, &server]);
    one.enroll(&mut client);
    two.enroll(&mut server);
    mirror(server.listen(8080));
    let mut held = client.connect(at(server.ip, 8080)).unwrap();
    ping(&mut held).unwrap();
    two.runtime.block_on(two.data_plane.drain(Duration::from_secs(1)));
    assert_eq!(held.read(&mut [0]).unwrap_or(0), 0);
    let line = two.line("connection complete");
    assert!(line.contains("reason=\"shutdown\""), "{line}");
}

#[test]
fn an_identity_is_forgotten_with_the_last_pod_that_has_it() {
    isolate!();
    let mut mesh = Mesh::new();
    let pods: Vec<Pod> = ["a", "b", "c", "d"].into_iter().map(|name| mesh.pod(name)).collect();
    // Several shards, among which pods of one identity are spread.
    let node = mesh.node(&[("ZTUNNEL_WORKER_THREADS", "3")]);
    let workloads: String = pods
        .iter()
        .map(|pod| {
            let own = format!("serviceAccount: {}", pod.name);
            pod.workload("HBONE", "").replace(&own, "serviceAccount: shared")
        })
        .collect();
    node.configure(&format!("workloads:\n{workloads}"));
    for pod in &pods {
        let info = corten_proto::zds::WorkloadInfo {
            name: pod.name.into(),
            namespace: "default".into(),
            service_account: "shared".into(),
        };
        let namespace = pod.netns.duplicate().unwrap();
        let served = node.data_plane.add_pod(pod.name, &info, namespace);
        node.runtime.block_on(served).unwrap();
    }
    let identities = &node.data_plane.common().identities;
    for pod in &pods {
        assert_eq!(identities.dump().len(), 1, "{} still has it", pod.name);
        node.runtime.block_on(node.data_plane.remove_pod(pod.name));
    }
    assert_eq!(identities.dump().len(), 0);
}
