//! L7 proxies: what they are sent, and that a change is sent as little as it is.

use corten_proto::discovery::{DeltaDiscoveryRequest, Node};
use serde_json::json;

use crate::ground::{Ground, Response as _, delta};

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
