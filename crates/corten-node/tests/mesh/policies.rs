//! Who may call whom: identities, plain connections, and policies that change while connections are open.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::harness::{Mesh, Node, Pod, echo, mirror, ping};
use crate::{at, isolate};

const STRICT: &str = "- {name: strict, namespace: default, scope: Namespace, action: Deny, rules: [[[{notPrincipals: [{Presence: []}]}]]]}\n";

fn allow(account: &str) -> String {
    format!(
        "- {{name: allow-{account}, namespace: default, scope: Namespace, action: Allow, \
         rules: [[[{{principals: [{{Exact: cluster.local/ns/default/sa/{account}}}]}}]]]}}\n"
    )
}

fn mesh_of(nodes: &[&Node], pods: &[(&Pod, &str)], policies: &str) {
    let workloads: String = pods.iter().map(|(pod, protocol)| pod.workload(protocol, "")).collect();
    for node in nodes {
        node.configure(&format!("workloads:\n{workloads}policies:\n{policies}"));
    }
}

#[test]
fn plain_callers_are_let_in_until_the_mode_is_strict() {
    isolate!();
    let mut mesh = Mesh::new();
    let (outsider, mut server) = (mesh.pod("outsider"), mesh.pod("server"));
    let node = mesh.node(&[]);
    mesh_of(&[&node], &[(&server, "HBONE")], "");
    node.enroll(&mut server);
    echo(server.listen(8080));

    let answer = outsider.call(at(server.ip, 8080), "hello").unwrap();
    assert_eq!(
        answer,
        format!("{} hello", outsider.ip),
        "the application sees who calls"
    );
    let line = node.line("connection complete");
    assert!(
        !line.contains("src.identity") && line.contains("direction=\"inbound\""),
        "{line}"
    );

    mesh_of(&[&node], &[(&server, "HBONE")], STRICT);
    let refused = outsider.call(at(server.ip, 8080), "hello");
    assert!(refused.as_deref().unwrap_or_default().is_empty(), "{refused:?}");
    let line = node.line("policy rejection");
    assert!(
        line.contains("\terror\taccess") && line.contains("explicitly denied by: default/strict"),
        "{line}"
    );
    assert!(
        line.ends_with("reason=\"policy_denied\" side=\"server proxy\" policy=\"default/strict\""),
        "{line}"
    );
    let metrics = node.metrics();
    let failed = metrics
        .lines()
        .find(|line| line.starts_with("istio_tcp_connections_failed_total{"));
    assert!(failed.unwrap().contains("response_flags=\"DENY\""), "{metrics}");
}

#[test]
fn an_identity_is_allowed_and_another_is_not() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut friend, mut stranger, mut server) = (mesh.pod("friend"), mesh.pod("stranger"), mesh.pod("server"));
    let (one, two) = (mesh.node(&[]), mesh.node(&[]));
    let pods = [(&friend, "HBONE"), (&stranger, "HBONE"), (&server, "HBONE")];
    mesh_of(&[&one, &two], &pods, &allow("friend"));
    one.enroll(&mut friend);
    one.enroll(&mut stranger);
    two.enroll(&mut server);
    echo(server.listen(8080));

    assert!(friend.call(at(server.ip, 8080), "x").unwrap().ends_with(" x"));
    let refused = stranger.call(at(server.ip, 8080), "x");
    assert!(refused.as_deref().unwrap_or_default().is_empty(), "{refused:?}");
    let line = one.line("http status: 401");
    assert!(line.contains("side=\"server proxy\""), "{line}");
    let line = two.line("none allowed");
    assert!(line.contains("spiffe://cluster.local/ns/default/sa/stranger"), "{line}");
}

/// An open connection ends within a second when `change` forbids it, and one that it does not forbid goes on.
fn closed_by(policies: &str, more: &str) {
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let (outsider, mut other) = (mesh.pod("outsider"), mesh.pod("other"));
    let (one, two) = (mesh.node(&[]), mesh.node(&[]));
    let pods = [(&client, "HBONE"), (&server, "HBONE"), (&other, "HBONE")];
    mesh_of(&[&one, &two], &pods, "");
    one.enroll(&mut client);
    two.enroll(&mut server);
    two.enroll(&mut other);
    mirror(server.listen(8080));
    mirror(other.listen(8080));
    let mut tunnelled = client.connect(at(server.ip, 8080)).unwrap();
    let mut plain = outsider.connect(at(server.ip, 8080)).unwrap();
    let mut untouched = client.connect(at(other.ip, 8080)).unwrap();
    for stream in [&mut tunnelled, &mut plain, &mut untouched] {
        ping(stream).unwrap();
    }
    let began = Instant::now();
    two.configure(&format!(
        "workloads:\n{}policies:\n{policies}",
        server.workload("HBONE", more)
    ));
    for stream in [&mut tunnelled, &mut plain] {
        // An end or a reset.
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    let line = two.line("connection closed due to policy change");
    assert!(line.contains("reason=\"policy_changed\""), "{line}");
    ping(&mut untouched).unwrap();
}

#[test]
fn a_new_policy_closes_what_it_forbids() {
    isolate!();
    closed_by(
        "- {name: deny-8080, namespace: default, scope: WorkloadSelector, action: Deny, rules: [[[{destinationPorts: [8080]}]]]}\n",
        ", authorizationPolicies: [default/deny-8080]",
    );
}

#[test]
fn a_policy_that_a_workload_comes_to_list_closes_what_it_forbids() {
    isolate!();
    // The policy is not even known: what a workload lists and is not there denies.
    closed_by("", ", authorizationPolicies: [default/unknown]");
}
