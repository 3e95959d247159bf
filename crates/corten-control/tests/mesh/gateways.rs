//! Gateways of the Gateway API: what is made of them, and what their objects are told.

use corten_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use serde_json::{Value, json};

use crate::ground::{Control, Ground, Response as _, delta, pod};

const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const API: &str = "gateway.networking.k8s.io/v1";

/// A request of the gateway's proxy.
fn router(type_url: &str, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: "router~10.0.0.7~edge-1.infra~infra.svc.cluster.local".to_owned(),
            ..Node::default()
        }),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..delta(type_url)
    }
}

/// A namespace with the workload of a gateway, as somebody deployed it.
async fn infrastructure(ground: &Ground) {
    ground.mesh().await;
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "infra"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "edge", "namespace": "infra"}}),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "edge", "namespace": "infra"},
            "spec": {"clusterIP": "10.96.0.30", "selector": {"app": "edge"}, "ports": [
                {"name": "http", "port": 80}, {"name": "https", "port": 443},
            ]},
        }),
    ];
    for object in objects {
        ground.create_object(object).await;
    }
    let mut edge = pod("infra", "edge-1", "10.0.0.7", "n1", "edge");
    edge["metadata"]["labels"] = json!({"app": "edge"});
    ground.create_object(edge).await;
}

fn gateway(listeners: &Value) -> Value {
    json!({
        "apiVersion": API, "kind": "Gateway", "metadata": {"name": "edge", "namespace": "infra"},
        "spec": {
            "gatewayClassName": "istio",
            "addresses": [{"type": "Hostname", "value": "edge.infra.svc.cluster.local"}],
            "listeners": listeners,
        },
    })
}

fn route() -> Value {
    json!({
        "apiVersion": API, "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "orders"},
        "spec": {
            "parentRefs": [{"name": "edge", "namespace": "infra"}],
            "hostnames": ["shop.example"],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
                "backendRefs": [{"name": "web", "port": 80}],
            }],
        },
    })
}

/// The status of a condition, with its reason.
fn condition(conditions: &Value, type_: &str) -> String {
    let found = conditions
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["type"] == type_);
    let text = |key: &str| found.and_then(|one| one[key].as_str()).unwrap_or_default();
    format!("{} {}", text("status"), text("reason"))
}

async fn eventually_is(
    ground: &Ground,
    kind: &str,
    (namespace, name): (&str, &str),
    path: &str,
    type_: &str,
    expect: &str,
) {
    ground
        .eventually(&format!("{kind} {name}: {type_} {expect}"), async || {
            let object = ground.get(API, kind, namespace, name).await;
            condition(object.pointer(path).unwrap_or(&Value::Null), type_) == expect
        })
        .await;
}

type Deltas = crate::ground::Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

/// Takes tables of routes until one is as expected: an object may be told what became of it a moment before proxies are.
async fn routes_until(stream: &mut Deltas, expect: impl Fn(&str) -> bool) {
    loop {
        let routes = stream.next().await;
        assert_eq!(routes.names(), ["http.80"]);
        let text = String::from_utf8_lossy(routes.body("http.80")).into_owned();
        stream.acknowledge(&routes).await;
        if expect(&text) {
            return;
        }
    }
}

async fn stream_of(ground: &Ground, control: &Control) -> Deltas {
    let token = ground.token("infra", "edge", "istio-ca").await;
    ground.open_with(control, Some(&token), "n1").await.expect("a stream")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_and_routes_are_served_and_their_objects_are_told() {
    let ground = Ground::start().await;
    infrastructure(&ground).await;
    let control = ground.control(&[]).await;
    for (class, controller) in [
        ("istio", "istio.io/gateway-controller"),
        ("istio-remote", "istio.io/unmanaged-gateway"),
        ("istio-waypoint", "istio.io/mesh-controller"),
    ] {
        eventually_is(
            &ground,
            "GatewayClass",
            ("", class),
            "/status/conditions",
            "Accepted",
            "True Accepted",
        )
        .await;
        let made = ground.get(API, "GatewayClass", "", class).await;
        assert_eq!(made["spec"]["controllerName"], controller);
    }

    let everybody = json!({"namespaces": {"from": "All"}});
    ground
        .create_object(gateway(
            &json!([{"name": "web", "port": 80, "protocol": "HTTP", "allowedRoutes": everybody}]),
        ))
        .await;
    let edge = ("infra", "edge");
    eventually_is(
        &ground,
        "Gateway",
        edge,
        "/status/conditions",
        "Programmed",
        "True Programmed",
    )
    .await;
    let made = ground.get(API, "Gateway", "infra", "edge").await;
    assert_eq!(
        made["status"]["addresses"],
        json!([{"type": "Hostname", "value": "edge.infra.svc.cluster.local"}])
    );

    // A route in another namespace, and the proxy that is sent it.
    ground.create_object(route()).await;
    let parents = "/status/parents/0/conditions";
    eventually_is(
        &ground,
        "HTTPRoute",
        ("orders", "web"),
        parents,
        "Accepted",
        "True Accepted",
    )
    .await;
    eventually_is(
        &ground,
        "HTTPRoute",
        ("orders", "web"),
        parents,
        "ResolvedRefs",
        "True ResolvedRefs",
    )
    .await;
    ground
        .eventually("the count of routes", async || {
            let gateway = ground.get(API, "Gateway", "infra", "edge").await;
            gateway["status"]["listeners"][0]["attachedRoutes"] == 1
        })
        .await;
    let mut stream = stream_of(&ground, &control).await;
    stream.send_as_it_is(router(LISTENER, &[])).await;
    let listeners = stream.next().await;
    assert_eq!(listeners.names(), ["0.0.0.0_80"]);
    stream.acknowledge(&listeners).await;
    stream.send_as_it_is(router(ROUTE, &["http.80"])).await;
    routes_until(&mut stream, |text| {
        text.contains("shop.example") && text.contains("outbound|80||web.orders.svc.cluster.local")
    })
    .await;

    // Without its backend a route answers with errors, and without the route nothing is left of it.
    ground.delete("v1", "Service", "orders", "web").await;
    eventually_is(
        &ground,
        "HTTPRoute",
        ("orders", "web"),
        parents,
        "ResolvedRefs",
        "False BackendNotFound",
    )
    .await;
    ground.delete(API, "HTTPRoute", "orders", "web").await;
    routes_until(&mut stream, |text| !text.contains("shop.example")).await;
    control.stop().await;
    ground.stop().await;
}

/// A Secret with a new certificate, and that certificate.
fn certificate(namespace: &str, name: &str) -> (Value, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters = rcgen::CertificateParams::new(vec!["shop.example".to_owned()]).expect("parameters");
    let pem = parameters.self_signed(&key).expect("a certificate").pem();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"tls.crt": pem, "tls.key": key.serialize_pem()},
    });
    (secret, pem)
}

/// The names that a response removes, and those that it brings with the texts in them.
async fn secrets(stream: &mut Deltas) -> (Vec<String>, Vec<(String, String)>) {
    let response = stream.next().await;
    assert_eq!(response.type_url, SECRET);
    stream.acknowledge(&response).await;
    let brought = response.resources.iter().map(|resource| {
        let body = resource
            .resource
            .as_ref()
            .map(|body| body.value.as_slice())
            .unwrap_or_default();
        (resource.name.clone(), String::from_utf8_lossy(body).into_owned())
    });
    let brought = brought.collect();
    (response.removed_resources, brought)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_given_to_who_may_have_them() {
    let ground = Ground::start().await;
    infrastructure(&ground).await;
    let (own, first) = certificate("infra", "shop");
    let (foreign, elsewhere) = certificate("orders", "shop");
    let (unnamed, _) = certificate("infra", "unnamed");
    for secret in [own, foreign, unnamed] {
        ground.create_object(secret).await;
    }
    let tls = |name: &str, namespace: &str| json!({"certificateRefs": [{"name": name, "namespace": namespace}]});
    ground
        .create_object(gateway(&json!([
            {"name": "own", "port": 443, "protocol": "HTTPS", "hostname": "a.example", "tls": tls("shop", "infra")},
            {"name": "foreign", "port": 443, "protocol": "HTTPS", "hostname": "b.example", "tls": tls("shop", "orders")},
        ])))
        .await;
    let control = ground.control(&[]).await;
    let edge = ("infra", "edge");
    let refs = |listener: usize| format!("/status/listeners/{listener}/conditions");
    eventually_is(&ground, "Gateway", edge, &refs(0), "ResolvedRefs", "True ResolvedRefs").await;
    eventually_is(
        &ground,
        "Gateway",
        edge,
        &refs(1),
        "ResolvedRefs",
        "False RefNotPermitted",
    )
    .await;

    // What its Gateways name it is given; what is in the same namespace and nobody names, and what nobody consented to, it is not.
    let mine = "kubernetes-gateway://infra/shop";
    let theirs = "kubernetes-gateway://orders/shop";
    let names = [
        mine,
        theirs,
        "kubernetes-gateway://infra/unnamed",
        "kubernetes://orders/shop",
    ];
    let mut stream = stream_of(&ground, &control).await;
    stream.send_as_it_is(router(SECRET, &names)).await;
    let given = loop {
        let (_, given) = secrets(&mut stream).await;
        if !given.is_empty() {
            break given;
        }
    };
    assert_eq!(given.len(), 1, "{given:?}");
    assert!(given[0].0 == mine && given[0].1.contains(first.trim()), "{given:?}");

    // A new certificate is sent.
    let (renewed, second) = certificate("infra", "shop");
    ground.replace(&renewed).await;
    let (_, given) = secrets(&mut stream).await;
    assert!(given.len() == 1 && given[0].1.contains(second.trim()), "{given:?}");

    // Consent, and its end.
    ground
        .create_object(json!({
            "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
            "metadata": {"name": "edge", "namespace": "orders"},
            "spec": {
                "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "infra"}],
                "to": [{"group": "", "kind": "Secret", "name": "shop"}],
            },
        }))
        .await;
    let (_, given) = secrets(&mut stream).await;
    assert!(
        given.len() == 1 && given[0].0 == theirs && given[0].1.contains(elsewhere.trim()),
        "{given:?}"
    );
    eventually_is(&ground, "Gateway", edge, &refs(1), "ResolvedRefs", "True ResolvedRefs").await;
    ground
        .delete("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "orders", "edge")
        .await;
    let (removed, given) = secrets(&mut stream).await;
    assert_eq!((removed, given), (vec![theirs.to_owned()], Vec::new()));

    // An account of another namespace, and the same Gateway's name: nothing.
    let token = ground.token("orders", "web", "istio-ca").await;
    let mut stranger = ground.open_with(&control, Some(&token), "n1").await.expect("a stream");
    let mut request = router(SECRET, &[mine]);
    request.node = Some(Node {
        id: "router~10.0.0.1~web-1.orders~orders.svc.cluster.local".to_owned(),
        ..Node::default()
    });
    stranger.send_as_it_is(request).await;
    let (removed, given) = secrets(&mut stranger).await;
    assert_eq!((removed, given), (vec![mine.to_owned()], Vec::new()));
    control.stop().await;
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_get_a_workload() {
    let ground = Ground::start().await;
    infrastructure(&ground).await;
    // Somebody's own, under the name that a gateway's would have.
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken-istio", "namespace": "infra"},
        "spec": {"ports": [{"port": 1234}]},
    });
    ground.create_object(service).await;
    let control = ground.control(&[]).await;
    for name in ["front", "taken"] {
        let mut wanted = gateway(&json!([{"name": "web", "port": 80, "protocol": "HTTP"}]));
        wanted["metadata"]["name"] = json!(name);
        wanted["metadata"]["annotations"] = json!({"networking.istio.io/service-type": "ClusterIP"});
        wanted["spec"]["addresses"].take();
        ground.create_object(wanted).await;
    }
    let apps = "apps/v1";
    for (api, kind) in [("v1", "ServiceAccount"), ("v1", "Service"), (apps, "Deployment")] {
        ground
            .eventually(kind, async || {
                ground.get(api, kind, "infra", "front-istio").await.is_object()
            })
            .await;
    }
    let owner = ground.get(API, "Gateway", "infra", "front").await;
    let deployment = ground.get(apps, "Deployment", "infra", "front-istio").await;
    assert_eq!(
        deployment["metadata"]["ownerReferences"][0]["uid"],
        owner["metadata"]["uid"]
    );
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "corten.dev/proxyv2:latest");
    assert_eq!(container["args"][1], "router");
    let service = ground.get("v1", "Service", "infra", "front-istio").await;
    let ports: Vec<&Value> = service["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| &port["port"])
        .collect();
    assert_eq!(
        (ports, &service["spec"]["type"]),
        (vec![&json!(15021), &json!(80)], &json!("ClusterIP"))
    );

    // What is removed comes back, and what is changed is changed back.
    ground.delete(apps, "Deployment", "infra", "front-istio").await;
    ground
        .eventually("the Deployment again", async || {
            let now = ground.get(apps, "Deployment", "infra", "front-istio").await;
            now.is_object() && now["metadata"]["uid"] != deployment["metadata"]["uid"]
        })
        .await;
    let mut other = ground.get(apps, "Deployment", "infra", "front-istio").await;
    other["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other");
    other["metadata"]["managedFields"].take();
    ground.replace(&other).await;
    ground
        .eventually("the image again", async || {
            let now = ground.get(apps, "Deployment", "infra", "front-istio").await;
            now["spec"]["template"]["spec"]["containers"][0]["image"] == "corten.dev/proxyv2:latest"
        })
        .await;

    // What is somebody else's stays as it was.
    ground
        .eventually("the other Deployment", async || {
            ground.get(apps, "Deployment", "infra", "taken-istio").await.is_object()
        })
        .await;
    let service = ground.get("v1", "Service", "infra", "taken-istio").await;
    assert_eq!(service["spec"]["ports"][0]["port"], 1234);
    assert_eq!(service["metadata"]["labels"], Value::Null);
    control.stop().await;
    ground.stop().await;
}
