//! The control plane against a Kubernetes API and raw discovery clients: objects in, exact resources out.

mod admission;
mod envoy;
mod gateways;
mod ground;
mod revisions;
mod rights;

use std::time::Duration;

use corten_grpc::Code;
use corten_proto::client_status::{ClientConfig, ConfigStatus};
use corten_proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest, Node, SOTW_METHOD};
use corten_proto::security::Authorization;
use corten_proto::workload::{Address, TunnelProtocol, Workload, WorkloadStatus, address::Type};
use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, Message, WORKLOAD_TYPE};
use serde_json::json;

use ground::{Ground, Response as _, delta, pod, ready};

fn workload(body: &[u8]) -> Workload {
    match Address::decode(body).expect("an Address").r#type {
        Some(Type::Workload(workload)) => workload,
        other => panic!("{other:?} is no workload"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_go_in_and_exact_resources_come_out() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let control = ground.control(&[]).await;

    let mut stream = ground.open(&control, "istio-ca").await.expect("a stream");
    stream.send(delta(ADDRESS_TYPE)).await;
    let all = stream.next().await;
    assert_eq!(all.type_url, ADDRESS_TYPE);
    assert_eq!(
        all.names(),
        [
            "Kubernetes//Pod/orders/web-1",
            "Kubernetes//Pod/orders/web-2",
            "orders/web.orders.svc.cluster.local"
        ]
    );
    let web = workload(all.body("Kubernetes//Pod/orders/web-1"));
    assert_eq!(
        (&*web.name, &*web.namespace, &*web.service_account, &*web.node),
        ("web-1", "orders", "web", "n1")
    );
    assert_eq!(web.addresses, [vec![10, 0, 0, 1]]);
    assert_eq!(web.tunnel_protocol, TunnelProtocol::Hbone as i32);
    assert_eq!(
        web.services.keys().collect::<Vec<_>>(),
        ["orders/web.orders.svc.cluster.local"]
    );
    stream.acknowledge(&all).await;
    stream.send(delta(AUTHORIZATION_TYPE)).await;
    let policies = stream.next().await;
    assert_eq!((&*policies.type_url, policies.names().len()), (AUTHORIZATION_TYPE, 0));
    stream.acknowledge(&policies).await;

    // One pod is no longer ready: that pod is sent, and nothing else.
    ground
        .patch_pod("orders", "web-2", json!({"status": {"conditions": [ready(false)]}}))
        .await;
    let change = stream.next().await;
    assert_eq!(change.names(), ["Kubernetes//Pod/orders/web-2"]);
    assert_eq!(
        workload(change.body("Kubernetes//Pod/orders/web-2")).status,
        WorkloadStatus::Unhealthy as i32
    );
    stream.acknowledge(&change).await;

    // A policy is sent as a policy.
    ground
        .create(
            "security.istio.io/v1",
            "AuthorizationPolicy",
            json!({"metadata": {"name": "deny-all", "namespace": "orders"}, "spec": {}}),
        )
        .await;
    let policy = stream.next().await;
    assert_eq!(
        (&*policy.type_url, policy.names()),
        (AUTHORIZATION_TYPE, vec!["orders/deny-all"])
    );
    stream.acknowledge(&policy).await;
    // And its status is written.
    ground
        .eventually("the policy's condition", async || {
            let policy = ground
                .get("security.istio.io/v1", "AuthorizationPolicy", "orders", "deny-all")
                .await;
            policy["status"]["conditions"][0]["type"] == "ZtunnelAccepted"
                && policy["status"]["conditions"][0]["status"] == "True"
        })
        .await;

    // What a node proxy rejects is not accepted, until it accepts it.
    let spec = json!({"action": "DENY", "rules": [{"from": [{"source": {"namespaces": ["other"]}}]}]});
    let metadata = json!({"name": "odd", "namespace": "orders"});
    let odd = json!({"metadata": metadata, "spec": spec});
    ground.create("security.istio.io/v1", "AuthorizationPolicy", odd).await;
    let policy = stream.next().await;
    assert_eq!(policy.names(), ["orders/odd"]);
    stream.reject(&policy, "orders/odd: I cannot do that").await;
    let condition = async || {
        let policy = ground
            .get("security.istio.io/v1", "AuthorizationPolicy", "orders", "odd")
            .await;
        policy["status"]["conditions"][0].clone()
    };
    ground
        .eventually("the rejection in the policy's status", async || {
            condition().await["reason"] == "RejectedByProxy"
        })
        .await;
    let message = condition().await["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.ends_with("orders/odd: I cannot do that"), "{message}");
    ground
        .patch_policy(
            "orders",
            "odd",
            json!({"spec": {"rules": [{"from": [{"source": {"namespaces": ["another"]}}]}]}}),
        )
        .await;
    let policy = stream.next().await;
    stream.acknowledge(&policy).await;
    ground
        .eventually("the acceptance in the policy's status", async || {
            condition().await["status"] == "True"
        })
        .await;

    // Gone is gone.
    ground.delete_pod("orders", "web-2").await;
    let gone = stream.next().await;
    assert_eq!(
        (gone.names().len(), gone.removed_resources.as_slice()),
        (0, ["Kubernetes//Pod/orders/web-2".to_owned()].as_slice())
    );

    // Who comes back with what it has is sent nothing, and told what is gone.
    let mut again = ground.open(&control, "istio-ca").await.expect("a stream");
    let mut request = delta(ADDRESS_TYPE);
    let versions = all
        .resources
        .iter()
        .map(|resource| (resource.name.clone(), resource.version.clone()));
    request.initial_resource_versions = versions.collect();
    again.send(request).await;
    let answer = again.next().await;
    assert_eq!(answer.names(), Vec::<&str>::new());
    assert_eq!(answer.removed_resources, ["Kubernetes//Pod/orders/web-2"]);

    control.stop().await;
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_demand_clients_get_what_they_ask_for() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let control = ground.control(&[]).await;
    let mut stream = ground
        .open_on(&control, "istio-ca", "another-node")
        .await
        .expect("a stream");
    let mut request = delta(ADDRESS_TYPE);
    request.resource_names_subscribe = vec!["*".to_owned()];
    request.resource_names_unsubscribe = vec!["*".to_owned()];
    stream.send(request).await;
    let nothing = stream.next().await;
    assert_eq!(nothing.names().len(), 0);
    stream.acknowledge(&nothing).await;
    for (asked, names, removed) in [
        ("/10.0.0.1", vec!["Kubernetes//Pod/orders/web-1"], vec![]),
        ("/10.9.9.9", vec![], vec!["/10.9.9.9".to_owned()]),
        (
            "/10.96.0.10",
            vec![
                "Kubernetes//Pod/orders/web-1",
                "Kubernetes//Pod/orders/web-2",
                "orders/web.orders.svc.cluster.local",
            ],
            vec![],
        ),
    ] {
        let mut request = delta(ADDRESS_TYPE);
        request.node = None;
        request.resource_names_subscribe = vec![asked.to_owned()];
        stream.send(request).await;
        let answer = stream.next().await;
        assert_eq!(
            (answer.names(), &answer.removed_resources),
            (names.clone(), &removed),
            "{asked}"
        );
        if names.len() == 1 {
            assert_eq!(answer.resources[0].aliases, [asked]);
        }
        stream.acknowledge(&answer).await;
    }
    control.stop().await;
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_without_the_right_token_are_refused() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let control = ground.control(&[]).await;
    for (audience, expected) in [
        ("somebody-else", "the token is not valid here"),
        ("", "no client certificate of the mesh and no bearer token was shown"),
    ] {
        let status = ground.open(&control, audience).await.expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().contains(expected), "{status}");
    }
    // A token of another namespace's account may not be the node proxy of this one.
    let token = ground.token("orders", "web", "istio-ca").await;
    let mut stream = ground
        .open_with(&control, Some(&token), "n1")
        .await
        .expect("its caller is known");
    stream.send(delta(ADDRESS_TYPE)).await;
    let status = stream.refusal().await;
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::PermissionDenied,
            "spiffe://cluster.local/ns/orders/sa/web may not be a proxy of namespace 'istio-system'"
        )
    );
    control.stop().await;
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_of_the_world_is_the_same_state() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let control = ground.control(&[]).await;
    let mut stream = ground.open_state(&control).await.expect("a stream");
    let request = DiscoveryRequest {
        node: Some(ground::node("n1")),
        type_url: ADDRESS_TYPE.to_owned(),
        ..DiscoveryRequest::default()
    };
    stream.send(request.clone()).await;
    let all = stream.next().await;
    assert_eq!((all.resources.len(), &*all.type_url), (3, ADDRESS_TYPE));
    assert!(all.resources.iter().all(|any| any.type_url == ADDRESS_TYPE));
    stream
        .send(DiscoveryRequest {
            response_nonce: all.nonce.clone(),
            version_info: all.version_info.clone(),
            ..request
        })
        .await;
    ground.delete_pod("orders", "web-1").await;
    assert_eq!(stream.next().await.resources.len(), 2);
    assert_eq!(
        SOTW_METHOD,
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
    );
    control.stop().await;
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workloads_alone_and_the_questions_of_tools() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let control = ground.control(&[]).await;
    // Workloads as a type of their own.
    let mut stream = ground.open(&control, "istio-ca").await.expect("a stream");
    stream.send(delta(WORKLOAD_TYPE)).await;
    let all = stream.next().await;
    assert_eq!(
        all.names(),
        ["Kubernetes//Pod/orders/web-1", "Kubernetes//Pod/orders/web-2"]
    );
    let web = Workload::decode(all.body("Kubernetes//Pod/orders/web-1")).expect("a Workload");
    assert_eq!(web.name, "web-1");
    stream.acknowledge(&all).await;
    ground.delete_pod("orders", "web-1").await;
    let change = stream.next().await;
    assert_eq!(change.removed_resources, ["Kubernetes//Pod/orders/web-1"]);
    stream.acknowledge(&change).await;

    ground
        .eventually("the acknowledgement", async || {
            let (_, syncz) = control.get("/debug/syncz").await;
            let syncz: serde_json::Value = serde_json::from_str(&syncz).expect("JSON");
            syncz[0]["resources"][WORKLOAD_TYPE]["status"] == "SYNCED"
        })
        .await;

    // A tool of the system namespace asks who is how far, and for an endpoint.
    let mut tool = ground.open(&control, "istio-ca").await.expect("a stream");
    let ask = |type_url: &str, name: &str| DeltaDiscoveryRequest {
        node: Some(Node {
            id: "debug~0.0.0.0~istioctl~istio-system.svc".to_owned(),
            ..Node::default()
        }),
        resource_names_subscribe: Some(name.to_owned())
            .filter(|name| !name.is_empty())
            .into_iter()
            .collect(),
        ..delta(type_url)
    };
    tool.send_as_it_is(ask("istio.io/debug/syncz", "")).await;
    let answer = tool.next().await;
    assert_eq!(answer.names(), ["ztunnel-n1.istio-system"], "the tool is no proxy");
    let config = ClientConfig::decode(answer.body("ztunnel-n1.istio-system")).expect("a ClientConfig");
    assert_eq!(config.generic_xds_configs[0].type_url, WORKLOAD_TYPE);
    assert_eq!(config.generic_xds_configs[0].config_status, ConfigStatus::Synced as i32);
    tool.acknowledge(&answer).await;
    tool.send_as_it_is(ask("istio.io/debug", "registryz")).await;
    let answer = tool.next().await;
    let body = String::from_utf8_lossy(answer.body("registryz"));
    assert!(body.contains("web.orders.svc.cluster.local"), "{body}");
    tool.send_as_it_is(ask("istio.io/debug", "nothingz")).await;
    assert_eq!(tool.refusal().await.code(), Code::NotFound);

    // One of another namespace may not, and nobody may who has not said who he is.
    let mut stranger = ground.open_state(&control).await.expect("a stream");
    stranger
        .send(DiscoveryRequest {
            node: ask("", "").node,
            type_url: "istio.io/debug/syncz".to_owned(),
            ..DiscoveryRequest::default()
        })
        .await;
    assert_eq!(stranger.refusal().await.code(), Code::Unauthenticated);
    control.stop().await;
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aliases_of_the_trust_domain_are_followed_and_the_rest_waits_for_a_restart() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let policy = json!({
        "metadata": {"name": "callers", "namespace": "orders"},
        "spec": {"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/a/sa/b"]}}]}]},
    });
    ground
        .create("security.istio.io/v1", "AuthorizationPolicy", policy)
        .await;
    let control = ground.control(&[]).await;
    let mut stream = ground.open(&control, "istio-ca").await.expect("a stream");
    stream.send(delta(AUTHORIZATION_TYPE)).await;
    let first = stream.next().await;
    stream.acknowledge(&first).await;
    assert_eq!(control.get("/debug/problemz").await, (200, "[]\n".to_owned()));

    let mesh = "trustDomain: other.example\ntrustDomainAliases: [old.example]\n";
    let map = json!({"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}});
    ground.create("v1", "ConfigMap", map).await;
    let change = stream.next().await;
    let policy = Authorization::decode(change.body("orders/callers")).expect("an Authorization");
    let principals = &policy.rules[0].clauses[0].matches[0].principals;
    let principals: Vec<String> = principals.iter().map(|one| format!("{:?}", one.match_type)).collect();
    assert_eq!(
        principals,
        [
            r#"Some(Exact("cluster.local/ns/a/sa/b"))"#,
            r#"Some(Exact("old.example/ns/a/sa/b"))"#
        ]
    );
    let (_, problems) = control.get("/debug/problemz").await;
    assert!(
        problems.contains("trustDomain: 'other.example' takes effect when the control plane is restarted"),
        "{problems}"
    );
    control.stop().await;
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_have_one_root_and_one_leader() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let (one, two) = tokio::join!(ground.replica("istiod-1"), ground.replica("istiod-2"));
    assert_eq!(one.roots, two.roots);
    // Each serves everything from its own watch.
    for control in [&one, &two] {
        let mut stream = ground.open(control, "istio-ca").await.expect("a stream");
        stream.send(delta(ADDRESS_TYPE)).await;
        assert_eq!(stream.next().await.names().len(), 3);
    }
    // One of them leads; when it goes, the other does at once.
    let leader = async || {
        let lease = ground
            .get("coordination.k8s.io/v1", "Lease", "istio-system", "istio-status-leader")
            .await;
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    };
    ground
        .eventually("a leader", async || leader().await.starts_with("istiod-"))
        .await;
    let (first, second, successor) = match leader().await.as_str() {
        "istiod-1" => (one, two, "istiod-2"),
        _ => (two, one, "istiod-1"),
    };
    first.stop().await;
    ground
        .eventually("the other's leadership", async || leader().await == successor)
        .await;
    // What only the leader does goes on.
    let namespace = json!({"metadata": {"name": "late"}});
    ground.create("v1", "Namespace", namespace).await;
    ground
        .eventually("the roots in a new namespace", async || {
            let map = ground.get("v1", "ConfigMap", "late", "istio-ca-root-cert").await;
            map["data"]["root-cert.pem"] == second.roots.as_str()
        })
        .await;
    second.stop().await;
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_tell_what_is_known_and_sent() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let control = ground.control(&[]).await;
    let mut stream = ground.open(&control, "istio-ca").await.expect("a stream");
    stream.send(delta(ADDRESS_TYPE)).await;
    let all = stream.next().await;
    stream.acknowledge(&all).await;

    assert_eq!(control.get("/ready").await, (200, String::new()));
    ground
        .eventually("the acknowledgement", async || {
            let (_, syncz) = control.get("/debug/syncz").await;
            let syncz: serde_json::Value = serde_json::from_str(&syncz).expect("JSON");
            syncz[0]["resources"][ADDRESS_TYPE]["status"] == "SYNCED"
        })
        .await;
    let (status, dump) = control.get("/debug/config_dump?proxyID=ztunnel-n1.istio-system").await;
    let dump: serde_json::Value = serde_json::from_str(&dump).expect("JSON");
    assert_eq!((status, dump["configs"].as_array().map(Vec::len)), (200, Some(3)));
    assert_eq!(control.get("/debug/config_dump?proxyID=nobody.nowhere").await.0, 404);
    let (_, registry) = control.get("/debug/registryz").await;
    assert!(registry.contains("web.orders.svc.cluster.local"), "{registry}");
    let (_, metrics) = control.get("/metrics").await;
    for line in [
        "pilot_services 1",
        "pilot_xds_pushes{type=\"wds\"} 1",
        "citadel_server_csr_count 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
    assert!(metrics.contains("istio_build{component=\"pilot\""), "{metrics}");

    // The roots are in the namespaces.
    ground
        .eventually("the roots", async || {
            let map = ground.get("v1", "ConfigMap", "orders", "istio-ca-root-cert").await;
            map["data"]["root-cert.pem"]
                .as_str()
                .is_some_and(|pem| pem.contains("BEGIN CERTIFICATE"))
        })
        .await;
    control.stop().await;
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_changes_reaches_a_slow_client_merged() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let control = ground.control(&[]).await;
    let mut stream = ground.open(&control, "istio-ca").await.expect("a stream");
    stream.send(delta(ADDRESS_TYPE)).await;
    let all = stream.next().await;
    stream.acknowledge(&all).await;
    for round in 0..20 {
        for name in ["web-1", "web-2"] {
            ground
                .patch_pod(
                    "orders",
                    name,
                    json!({"status": {"conditions": [ready(round % 2 == 1)]}}),
                )
                .await;
        }
    }
    ground
        .create_object(pod("orders", "last", "10.0.0.9", "n1", "web"))
        .await;
    let mut responses = 0;
    let mut last = [0, 0];
    loop {
        let response = tokio::time::timeout(Duration::from_secs(10), stream.next())
            .await
            .expect("it comes");
        responses += 1;
        for resource in &response.resources {
            let body = &resource.resource.as_ref().expect("a body").value;
            let workload = workload(body);
            match &*workload.name {
                "web-1" => last[0] = workload.status,
                "web-2" => last[1] = workload.status,
                _ => {}
            }
        }
        if response.names().contains(&"Kubernetes//Pod/orders/last") {
            break;
        }
    }
    assert!(
        responses < 40,
        "{responses} responses for 41 changes: nothing was merged"
    );
    assert_eq!(last, [WorkloadStatus::Healthy as i32; 2]);
    control.stop().await;
    ground.stop().await;
}
