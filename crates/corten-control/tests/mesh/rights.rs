//! A control plane that may not read everything: what it waits for, and what it does without.

use corten_proto::ADDRESS_TYPE;

use crate::ground::{Front, Ground, Response as _, delta};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_named_and_only_what_keeps_the_mesh_safe_is_waited_for() {
    let ground = Ground::start().await;
    ground.mesh().await;
    let front = Front::start(&ground).await;
    front.deny(&[
        "/pods",
        "/authorizationpolicies",
        "/ingresses",
        "/httproutes",
        "/mutatingwebhookconfigurations",
    ]);
    // Nothing is served, and whoever asks is told why: the rights that are waited for, and no others.
    let starting = ground.start_behind(&front);
    ground
        .eventually("the reason", async || {
            let Some((status, body)) = starting.try_get("/ready").await else {
                return false;
            };
            let lines: Vec<&str> = body.lines().collect();
            status == 503
                && lines
                    == [
                        "nothing is served before everything that keeps the mesh safe can be read:",
                        "no right to list authorizationpolicies.security.istio.io in all namespaces",
                        "no right to list pods in all namespaces",
                    ]
        })
        .await;

    // With one of them it is the other that is waited for.
    front.allow("/pods");
    ground
        .eventually("one reason less", async || {
            let (status, body) = starting.try_get("/ready").await.expect("it answers");
            status == 503 && !body.contains("pods") && body.contains("authorizationpolicies")
        })
        .await;
    front.allow("/authorizationpolicies");
    let control = starting.ready(&ground).await;
    let (status, body) = control.get("/ready").await;
    assert_eq!(status, 200, "{body}");
    for missing in [
        "no right to list httproutes.gateway.networking.k8s.io in all namespaces",
        "no right to list ingresses.networking.k8s.io in all namespaces",
        "no right to list mutatingwebhookconfigurations.admissionregistration.k8s.io in all namespaces",
    ] {
        assert!(body.contains(missing), "{missing:?} is not in {body:?}");
    }
    let (_, problems) = control.get("/debug/problemz").await;
    assert!(
        problems.contains("ingresses.networking.k8s.io in all namespaces: these objects are taken for none"),
        "{problems}"
    );
    let mut stream = ground.open(&control, "istio-ca").await.expect("a stream");
    stream.send(delta(ADDRESS_TYPE)).await;
    let all = stream.next().await;
    assert_eq!(all.names().len(), 3);
    stream.acknowledge(&all).await;

    // A right that is taken away takes nothing with it that is known; it is told, and is read again with it.
    front.deny(&["/pods"]);
    front.break_watches();
    ground
        .eventually("that pods are not read", async || {
            control.get("/ready").await.1.contains("pods in all namespaces")
        })
        .await;
    assert_eq!(control.get("/ready").await.0, 200);
    ground.delete_pod("orders", "web-2").await;
    front.allow("/pods");
    let gone = stream.next().await;
    assert_eq!(gone.removed_resources, ["Kubernetes//Pod/orders/web-2"]);
    ground
        .eventually("that they are read", async || {
            !control.get("/ready").await.1.contains("pods in all namespaces")
        })
        .await;
    control.stop().await;
    front.stop().await;
    ground.stop().await;
}
