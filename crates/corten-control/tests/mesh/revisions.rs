//! Objects with the label `istio.io/rev`, before two revisions of the control plane.

use corten_proto::AUTHORIZATION_TYPE;
use serde_json::{Value, json};

use crate::ground::{Control, Ground, Response as _, delta};

const SECURITY: &str = "security.istio.io/v1";
const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

fn policy(name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": SECURITY, "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "orders", "labels": labels}, "spec": {},
    })
}

/// The policies that a control plane gives node proxies.
async fn policies(ground: &Ground, control: &Control) -> Vec<String> {
    let mut stream = ground.open(control, "istio-ca").await.expect("a stream");
    stream.send(delta(AUTHORIZATION_TYPE)).await;
    let all = stream.next().await;
    all.names().into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_revision_reads_what_is_for_it_and_what_is_for_all() {
    let ground = Ground::start().await;
    ground.mesh().await;
    for (name, labels) in [
        ("for-all", json!({})),
        ("for-default", json!({"istio.io/rev": "default"})),
        ("for-canary", json!({"istio.io/rev": "canary"})),
        ("for-nobody", json!({"istio.io/rev": "gone"})),
    ] {
        ground.create_object(policy(name, &labels)).await;
    }
    let default = ground.control(&[]).await;
    let canary = ground.control_with(&[], &[("REVISION", "canary")]).await;
    assert_eq!(
        policies(&ground, &default).await,
        ["orders/for-all", "orders/for-default"]
    );
    assert_eq!(
        policies(&ground, &canary).await,
        ["orders/for-all", "orders/for-canary"]
    );

    // A label that changes is another object for one, and none for the other.
    let mut stream = ground.open(&default, "istio-ca").await.expect("a stream");
    stream.send(delta(AUTHORIZATION_TYPE)).await;
    let all = stream.next().await;
    stream.acknowledge(&all).await;
    let relabel = |labels: Value| json!({"metadata": {"labels": labels}});
    ground
        .patch_policy("orders", "for-default", relabel(json!({"istio.io/rev": "canary"})))
        .await;
    let gone = stream.next().await;
    assert_eq!(
        (gone.names().len(), gone.removed_resources.as_slice()),
        (0, ["orders/for-default".to_owned()].as_slice())
    );
    stream.acknowledge(&gone).await;
    ground
        .patch_policy("orders", "for-canary", relabel(json!({"istio.io/rev": null})))
        .await;
    let come = stream.next().await;
    assert_eq!(come.names(), ["orders/for-canary"]);
    stream.acknowledge(&come).await;
    // Gone for good, and nobody here notices: it was never there.
    ground
        .delete(SECURITY, "AuthorizationPolicy", "orders", "for-nobody")
        .await;
    assert_eq!(
        policies(&ground, &canary).await,
        ["orders/for-all", "orders/for-canary", "orders/for-default"]
    );
    default.stop().await;
    canary.stop().await;
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_deployed_and_told_by_the_revision_of_its_tag() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let gateway = |name: &str, labels: Value| {
        json!({
            "apiVersion": GATEWAY_API, "kind": "Gateway",
            "metadata": {"name": name, "namespace": "orders", "labels": labels},
            "spec": {"gatewayClassName": "istio", "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}]},
        })
    };
    let canary = ground.control_with(&[], &[("REVISION", "canary")]).await;
    for (name, labels) in [
        ("plain", json!({})),
        ("tagged", json!({"istio.io/rev": "prod"})),
        ("named", json!({"istio.io/rev": "canary"})),
    ] {
        ground.create_object(gateway(name, labels)).await;
    }
    let revision_of = async |name: &str| {
        let deployment = ground
            .get("apps/v1", "Deployment", "orders", &format!("{name}-istio"))
            .await;
        deployment["spec"]["template"]["metadata"]["annotations"]["istio.io/rev"].clone()
    };
    let programmed = async |name: &str| {
        let gateway = ground.get(GATEWAY_API, "Gateway", "orders", name).await;
        let conditions = gateway["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .any(|one| one["type"] == "Accepted" && one["status"] == "True")
    };
    ground
        .eventually("the gateway that names the revision", async || {
            programmed("named").await && revision_of("named").await == "canary"
        })
        .await;
    // The tag is given to the revision, and the gateway with it.
    assert_eq!(
        (revision_of("tagged").await, programmed("tagged").await),
        (json!(null), false)
    );
    let tag = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "istiod-revision-tag-prod", "namespace": "istio-system",
            "labels": {"istio.io/rev": "canary", "istio.io/tag": "prod"},
        },
        "spec": {"ports": [{"name": "https", "port": 443}]},
    });
    ground.create_object(tag).await;
    ground
        .eventually("the gateway that names the tag", async || {
            programmed("tagged").await && revision_of("tagged").await == "canary"
        })
        .await;
    assert_eq!(
        (revision_of("plain").await, programmed("plain").await),
        (json!(null), false)
    );
    // Who names nobody is served by the default revision, which leaves the others alone.
    let default = ground.control(&[]).await;
    ground
        .eventually("the gateway that names nobody", async || {
            programmed("plain").await && revision_of("plain").await == "default"
        })
        .await;
    assert_eq!(revision_of("tagged").await, "canary");
    default.stop().await;
    canary.stop().await;
    ground.stop().await;
}
