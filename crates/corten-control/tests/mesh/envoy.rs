//! L7 proxies: what they are sent, and that a change is sent as little as it is.

use corten_proto::discovery::{DeltaDiscoveryRequest, Node};
use corten_proto::names::NameTable;
use corten_proto::trust::ProxyConfig;
use corten_proto::{Message, NAME_TABLE_TYPE, PROXY_CONFIG_TYPE, Struct, Value, value};
use serde_json::json;

use crate::ground::{Ground, Response as _, delta, pod};

const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

fn sidecar(type_url: &str, pod: &str, address: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: format!("sidecar~{address}~{pod}.orders~orders.svc.cluster.local"),
            ..Node::default()
        }),
        ..delta(type_url)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_are_sent_what_they_see_and_then_what_changes() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let control = ground.control(&[]).await;
    let token = ground.token("orders", "web", "istio-ca").await;
    let mut streams = Vec::new();
    for (pod, address) in [("web-1", "10.0.0.1"), ("web-2", "10.0.0.2")] {
        let mut stream = ground.open_with(&control, Some(&token), "n1").await.expect("a stream");
        stream.send_as_it_is(sidecar(LISTENER, pod, address)).await;
        let all = stream.next().await;
        assert_eq!(all.names(), ["0.0.0.0_80", "virtualInbound", "virtualOutbound"]);
        stream.acknowledge(&all).await;
        streams.push(stream);
    }
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "orders"},
        "spec": {"clusterIP": "10.96.0.20", "ports": [{"name": "tcp", "port": 5432}]},
    });
    ground.create_object(service).await;
    for stream in &mut streams {
        let change = stream.next().await;
        assert_eq!((&*change.type_url, change.names()), (LISTENER, vec!["10.96.0.20_5432"]));
        stream.acknowledge(&change).await;
    }
    // A pod of another namespace is nothing that this account may be.
    let mut stranger = ground.open_with(&control, Some(&token), "n1").await.expect("a stream");
    let mut request = sidecar(LISTENER, "web-1", "10.0.0.1");
    request.node = Some(Node {
        id: "sidecar~10.0.0.9~api.payments~payments.svc.cluster.local".to_owned(),
        ..Node::default()
    });
    stranger.send_as_it_is(request).await;
    let refusal = stranger.refusal().await;
    assert_eq!(refusal.code(), corten_grpc::Code::PermissionDenied, "{refusal:?}");
    control.stop().await;
    ground.stop().await;
}

/// The priorities of regions in the endpoints of a service.
fn priorities(body: &[u8]) -> Vec<(String, u64)> {
    let shown = corten_envoy::to_json(corten_envoy::type_name(ENDPOINT), body).expect("endpoints");
    let groups = shown["endpoints"].as_array().into_iter().flatten();
    let mut found: Vec<(String, u64)> = groups
        .map(|group| {
            let region = group["locality"]["region"].as_str().unwrap_or_default().to_owned();
            (region, group["priority"].as_u64().unwrap_or_default())
        })
        .collect();
    found.sort();
    found
}

/// Nobody has written anything about routes: the first proxy is what wakes all that is made for proxies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_proxy_is_where_its_pod_is_also_when_that_becomes_known_later() {
    let ground = Ground::start().await;
    ground.mesh().await;
    for (node, region) in [("n1", "r1"), ("n2", "r2")] {
        let labels = json!({"topology.kubernetes.io/region": region});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": labels}});
        ground.create_object(node).await;
    }
    ground
        .create_object(pod("orders", "web-3", "10.0.0.3", "n2", "web"))
        .await;
    let near = json!({"spec": {"trafficDistribution": "PreferClose"}});
    ground.patch_object("v1", "Service", "orders", "web", near).await;
    let control = ground.control(&[]).await;
    let token = ground.token("orders", "web", "istio-ca").await;
    let cluster = "outbound|80||web.orders.svc.cluster.local";
    let connect = async |pod: &str, address: &str| {
        let stream = ground.open_with(&control, Some(&token), "n1").await.expect("a stream");
        let request = DeltaDiscoveryRequest {
            resource_names_subscribe: vec![cluster.to_owned()],
            ..sidecar(ENDPOINT, pod, address)
        };
        stream.send_as_it_is(request).await;
        stream
    };
    let of = |regions: [(&str, u64); 2]| regions.map(|(region, priority)| (region.to_owned(), priority)).to_vec();
    let mut first = connect("web-3", "10.0.0.3").await;
    let all = first.next().await;
    assert_eq!(priorities(all.body(cluster)), of([("r1", 1), ("r2", 0)]));

    // Of another nothing is known when it comes, not even its node.
    let mut second = connect("web-4", "10.0.0.4").await;
    let all = second.next().await;
    assert_ne!(priorities(all.body(cluster)), of([("r1", 0), ("r2", 1)]));
    second.acknowledge(&all).await;
    ground
        .create_object(pod("orders", "web-4", "10.0.0.4", "n1", "web"))
        .await;
    let placed = of([("r1", 0), ("r2", 1)]);
    // What the pod is for its service comes with it, or before.
    loop {
        let change = second.next().await;
        second.acknowledge(&change).await;
        if priorities(change.body(cluster)) == placed {
            break;
        }
    }
    control.stop().await;
    ground.stop().await;
}

/// Names of services, for agents that answer their pods' questions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_told_the_names_of_services_and_each_change_of_them() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let control = ground.control(&[]).await;
    let token = ground.token("orders", "web", "istio-ca").await;
    let mut stream = ground.open_with(&control, Some(&token), "n1").await.expect("a stream");
    let mut request = sidecar(NAME_TABLE_TYPE, "web-1", "10.0.0.1");
    let captures = Value {
        kind: Some(value::Kind::StringValue("true".to_owned())),
    };
    if let Some(node) = &mut request.node {
        node.metadata = Some(Struct {
            fields: [("DNS_CAPTURE".to_owned(), captures)].into(),
        });
    }
    stream.send_as_it_is(request).await;
    let told = |body: &[u8]| {
        let table = NameTable::decode(body).expect("a table").table;
        table
            .into_iter()
            .map(|(name, info)| (name, info.ips))
            .collect::<Vec<_>>()
    };
    let web = ("web.orders.svc.cluster.local".to_owned(), vec!["10.96.0.10".to_owned()]);
    let all = stream.next().await;
    assert_eq!(told(all.body("names")), std::slice::from_ref(&web));
    stream.acknowledge(&all).await;

    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "orders"},
        "spec": {"clusterIP": "10.96.0.20", "ports": [{"name": "tcp", "port": 5432}]},
    });
    ground.create_object(service).await;
    let change = stream.next().await;
    let db = ("db.orders.svc.cluster.local".to_owned(), vec!["10.96.0.20".to_owned()]);
    assert_eq!(told(change.body("names")), [db, web.clone()]);
    stream.acknowledge(&change).await;

    ground.delete("v1", "Service", "orders", "db").await;
    let change = stream.next().await;
    assert_eq!(told(change.body("names")), [web]);
    control.stop().await;
    ground.stop().await;
}

/// The roots of the mesh, for agents that ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_told_whom_to_trust_and_each_change_of_it() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let configuration = |certificates: serde_json::Value| {
        let mesh = json!({"caCertificates": certificates}).to_string();
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": mesh},
        })
    };
    ground.create_object(configuration(json!([]))).await;
    let control = ground.control(&[]).await;
    let token = ground.token("orders", "web", "istio-ca").await;
    let told = |body: &[u8]| ProxyConfig::decode(body).expect("it is one").ca_certificates_pem;
    let lines = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let is_root = |pem: &str| lines(pem) == lines(&control.roots);

    let mut stream = ground.open_with(&control, Some(&token), "n1").await.expect("a stream");
    stream
        .send_as_it_is(sidecar(PROXY_CONFIG_TYPE, "web-1", "10.0.0.1"))
        .await;
    let all = stream.next().await;
    let roots = told(all.body("trust"));
    assert!(roots.len() == 1 && is_root(&roots[0]), "{roots:?}");
    stream.acknowledge(&all).await;

    let key = rcgen::KeyPair::generate().expect("a key");
    let further = rcgen::CertificateParams::default()
        .self_signed(&key)
        .expect("a certificate")
        .pem();
    ground.replace(&configuration(json!([{"pem": further}]))).await;
    let change = stream.next().await;
    let roots = told(change.body("trust"));
    assert_eq!(roots.len(), 2, "{roots:?}");
    assert!(roots.iter().any(|pem| is_root(pem)), "{roots:?}");
    assert!(roots.iter().any(|pem| lines(pem) == lines(&further)), "{roots:?}");
    stream.acknowledge(&change).await;

    // The same for a gateway of the other variant, which is sent nothing but the roots.
    let mut other = ground.open_state(&control).await.expect("a stream");
    let request = corten_proto::discovery::DiscoveryRequest {
        node: Some(Node {
            id: "router~10.0.0.2~web-2.orders~orders.svc.cluster.local".to_owned(),
            ..Node::default()
        }),
        type_url: PROXY_CONFIG_TYPE.to_owned(),
        ..Default::default()
    };
    other.send(request).await;
    let whole = other.next().await;
    assert_eq!(whole.resources.len(), 1);
    assert_eq!(told(&whole.resources[0].value), roots);

    ground.replace(&configuration(json!([]))).await;
    let change = stream.next().await;
    let roots = told(change.body("trust"));
    assert!(roots.len() == 1 && is_root(&roots[0]), "{roots:?}");
    control.stop().await;
    ground.stop().await;
}

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_proxy_rejects_is_said_of_the_object_that_is_responsible() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let object = |kind: &str, name: &str, spec: serde_json::Value| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "orders"}, "spec": spec,
        })
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "orders"},
        "spec": {"clusterIP": "10.96.0.20", "ports": [{"name": "tcp", "port": 5432}]},
    });
    ground.create_object(service).await;
    let host = "db.orders.svc.cluster.local";
    let rule = json!({"host": host, "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "1s"}}}});
    ground.create_object(object("DestinationRule", "db", rule)).await;
    let control = ground.control(&[]).await;
    let token = ground.token("orders", "web", "istio-ca").await;
    let mut stream = ground.open_with(&control, Some(&token), "n1").await.expect("a stream");
    stream.send_as_it_is(sidecar(CLUSTER, "web-1", "10.0.0.1")).await;
    let all = stream.next().await;
    let name = format!("outbound|5432||{host}");
    let reason = format!("cluster(s) {name}: (ClusterValidationError.ConnectTimeout: too short)");
    stream.reject(&all, &reason).await;

    let condition = async |type_: &str| {
        let rule = ground
            .get("networking.istio.io/v1", "DestinationRule", "orders", "db")
            .await;
        let conditions = rule["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == type_)
    };
    let said = |found: &serde_json::Value| {
        let message = found["message"].as_str().unwrap_or_default().to_owned();
        found["status"] == "False" && message.contains(&name) && message.contains("too short")
    };
    let accepted = "corten.dev/ProxyAccepted";
    ground
        .eventually("the condition", async || {
            condition(accepted).await.is_some_and(|found| said(&found))
        })
        .await;
    ground
        .eventually("the event", async || {
            let events = ground.get("v1", "Event", "orders", "").await;
            let mut events = events["items"].as_array().cloned().unwrap_or_default().into_iter();
            events.any(|event| event["reason"] == "RejectedByProxy" && event["involvedObject"]["name"] == "db")
        })
        .await;
    let (_, metrics) = control.get("/metrics").await;
    assert!(metrics.contains("pilot_total_xds_rejects{type=\"cds\"} 1"), "{metrics}");
    let (_, shown) = control.get("/debug/syncz").await;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let of_type = &shown[0]["resources"][CLUSTER];
    assert_eq!(of_type["status"], "ERROR");
    assert_eq!(of_type["rejected"][&name], reason);
    assert_eq!(of_type["rejectedFields"][&name], "ConnectTimeout");

    // The rule is changed, and what comes of it accepted.
    let rule = json!({"spec": {"trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "2s"}}}}});
    ground
        .patch_object("networking.istio.io/v1", "DestinationRule", "orders", "db", rule)
        .await;
    let change = stream.next().await;
    assert_eq!(change.names(), [&*name]);
    stream.acknowledge(&change).await;
    ground
        .eventually("the condition is gone", async || condition(accepted).await.is_none())
        .await;

    // What takes no effect is said, too.
    let rule = json!({"spec": {"exportTo": ["*"], "workloadSelector": {"matchLabels": {"app": "web"}}}});
    ground
        .patch_object("networking.istio.io/v1", "DestinationRule", "orders", "db", rule)
        .await;
    ground
        .eventually("the field that takes no effect", async || {
            let found = condition("corten.dev/Honoured").await;
            found.is_some_and(|found| {
                found["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with("spec.exportTo: "))
            })
        })
        .await;
    control.stop().await;
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_leads_nowhere_says_so_until_it_does_not() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let api = "networking.istio.io/v1";
    ground
        .create_object(json!({
            "apiVersion": api, "kind": "VirtualService", "metadata": {"name": "web", "namespace": "orders"},
            "spec": {"hosts": ["web"], "http": [{"route": [
                {"destination": {"host": "web"}, "weight": 90}, {"destination": {"host": "next"}, "weight": 10},
            ]}]},
        }))
        .await;
    let control = ground.control(&[]).await;
    let said = async || {
        let route = ground.get(api, "VirtualService", "orders", "web").await;
        let conditions = route["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let honoured = conditions
            .into_iter()
            .find(|condition| condition["type"] == "corten.dev/Honoured");
        honoured.map(|found| found["message"].as_str().unwrap_or_default().to_owned())
    };
    let expected = "spec.http[0].route[1].destination.host: no service has the host next.orders.svc.cluster.local: \
                    requests are answered with 503";
    ground
        .eventually("the condition", async || said().await.as_deref() == Some(expected))
        .await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "next", "namespace": "orders"},
        "spec": {"clusterIP": "10.96.0.30", "ports": [{"name": "http", "port": 80}]},
    });
    ground.create_object(service).await;
    ground
        .eventually("the condition is gone", async || said().await.is_none())
        .await;
    control.stop().await;
    ground.stop().await;
}

/// The keys in the filter for tokens of an inbound listener; empty: there is no such filter.
fn keys_of(listener: &[u8]) -> String {
    let text = String::from_utf8_lossy(listener);
    match (text.find("{\"keys\""), text.contains("envoy.filters.http.jwt_authn")) {
        (Some(start), true) => text[start..]
            .split_inclusive("]}")
            .next()
            .unwrap_or_default()
            .to_owned(),
        _ => String::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_issuers_are_fetched_and_those_that_change_are_pushed() {
    let keys = |key: &str| format!(r#"{{"keys":[{{"k":"{key}","kty":"oct"}}]}}"#);
    let (server, page) = crate::ground::web_server(keys("AAAA")).await;
    let ground = Ground::start().await;
    ground.mesh().await;
    let tokens = |name: &str, rules: serde_json::Value| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
            "metadata": {"name": name, "namespace": "orders"}, "spec": {"jwtRules": rules},
        })
    };
    let rules = json!([{"issuer": "a", "jwksUri": format!("http://{server}/keys")}]);
    ground.create_object(tokens("tokens", rules)).await;
    let control = ground
        .control_with(&[], &[("PILOT_JWT_PUB_KEY_REFRESH_INTERVAL", "100ms")])
        .await;
    let token = ground.token("orders", "web", "istio-ca").await;
    let mut stream = ground.open_with(&control, Some(&token), "n1").await.expect("a stream");
    stream.send_as_it_is(sidecar(LISTENER, "web-1", "10.0.0.1")).await;
    let all = stream.next().await;
    // The first that is sent has them: nobody was told meanwhile to refuse all tokens.
    assert_eq!(keys_of(all.body("virtualInbound")), keys("AAAA"));
    stream.acknowledge(&all).await;

    // Fetched again and again, and told when they are others.
    ground
        .eventually("further fetches", async || {
            let (_, metrics) = control.get("/metrics").await;
            let line = metrics
                .lines()
                .find(|line| line.starts_with("pilot_jwks_resolver_network_fetch_success_total "));
            let count = line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
            count.is_some_and(|count| count >= 3)
        })
        .await;
    page.send_replace(keys("BBBB"));
    let change = stream.next().await;
    assert_eq!(change.names(), ["virtualInbound"]);
    assert_eq!(keys_of(change.body("virtualInbound")), keys("BBBB"));
    stream.acknowledge(&change).await;

    // What is no set of keys is not taken for one, and it is said whose it is.
    page.send_replace("<html>".to_owned());
    ground
        .eventually("the failure", async || {
            let (_, problems) = control.get("/debug/problemz").await;
            problems.contains("RequestAuthentication orders/tokens: the keys of issuer")
                && problems.contains("the keys fetched before are used")
        })
        .await;
    let change = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "orders"},
        "spec": {"clusterIP": "10.96.0.20", "ports": [{"name": "tcp", "port": 5432}]}});
    ground.create_object(change).await;
    let change = stream.next().await;
    assert_eq!(change.names(), ["10.96.0.20_5432"], "the keys are as they were");
    control.stop().await;
    ground.stop().await;
}
