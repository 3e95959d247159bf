//! The agent on a node in miniature: pods as namespaces with real connections, an API server, a proxy that speaks ZDS, and the plugin.

#[path = "node/ground.rs"]
mod ground;
#[path = "../../corten-enroll/src/network/tests/proxy.rs"]
mod proxy;

/// What the proxy of the rules' own tests refers to.
mod constants {
    pub(crate) use corten_enroll::constants::{INBOUND_PORT, OUTBOUND_PORT, PROXY_MARK};
}

use std::time::Duration;

use corten_linux::testing::{Isolation, isolated};
use serde_json::json;

use ground::{Ground, ON};
use proxy::Held;

macro_rules! isolate {
    () => {
        match isolated() {
            Isolation::Inside => {}
            Isolation::Done => return,
            Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
        }
    };
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn a_running_pod_joins_with_the_label_and_leaves_with_it_and_keeps_its_connections() {
    isolate!();
    block_on(async {
        let ground = Ground::new(&[]).await;
        let pod = ground.pod("old").await;
        let (inside, outside) = (pod.address(8080), ground.echo_on_node());
        let mut old = [Held::open(&ground.node, inside), Held::open(&pod.netns, outside)];
        let proxy = ground.proxy();
        proxy.served("").await;

        ground.label(ON).await;
        ground.redirection("old", Some("enabled")).await;
        proxy.served("old").await;
        old.iter_mut().for_each(Held::used);
        let mut through = [Held::open(&ground.node, inside), Held::open(&pod.netns, outside)];
        // The node's own calls are probes, and go past the proxy.
        assert_eq!(proxy.taken("old"), (1, 0));
        assert_eq!(through[0].caller, corten_enroll::constants::PROBE_SOURCE_V4);

        ground.label("").await;
        ground.redirection("old", None).await;
        let mut direct = [Held::open(&ground.node, inside), Held::open(&pod.netns, outside)];
        assert_eq!(proxy.taken("old"), (1, 0));
        for held in old.iter_mut().chain(&mut through).chain(&mut direct) {
            held.used();
        }
        // The proxy keeps it as long as it has a connection.
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.served("old").await;
        through.iter_mut().for_each(Held::used);
        drop(through);
        proxy.served("").await;
        for held in old.iter_mut().chain(&mut direct) {
            held.used();
        }
        ground.end().await;
    });
}

#[test]
fn a_new_pod_is_in_the_mesh_before_it_starts_or_does_not_start() {
    isolate!();
    block_on(async {
        let ground = Ground::new(&[]).await;
        ground.label(ON).await;
        // Without a proxy it does not start, and the user is told why.
        let early = ground.new_pod("early").await;
        let refused = ground.plugin(&early);
        let proxy = async {
            ground.event("early", "no node proxy is connected").await;
            ground.proxy()
        };
        let (refused, proxy) = tokio::join!(refused, proxy);
        let message = refused.unwrap_err()["msg"].as_str().unwrap().to_owned();
        assert!(
            message.contains("shop/early") && message.contains("no node proxy is connected"),
            "{message}"
        );
        proxy.served("").await;

        let result = ground.plugin(&early).await.unwrap();
        assert_eq!(result, ground.previous(&early));
        proxy.served("early").await;
        let through = Held::open(&early.netns, ground.echo_on_node());
        assert_eq!((through.caller, proxy.taken("early").0), (early.address(0).ip(), 1));
        ground.redirection("early", Some("enabled")).await;

        // One that does not belong to the mesh is none of the agent's business.
        let out = ground
            .new_pod_with("out", json!({"istio.io/dataplane-mode": "none"}))
            .await;
        ground.plugin(&out).await.unwrap();
        proxy.served("early").await;
        ground.delete(early).await;
        proxy.served("").await;
        ground.end().await;
    });
}

#[test]
fn a_new_agent_takes_everything_up_and_disturbs_nothing() {
    isolate!();
    block_on(async {
        let mut ground = Ground::new(&[]).await;
        let (pod, leaving) = (ground.pod("a").await, ground.pod("b").await);
        let outside = ground.echo_on_node();
        ground.label(ON).await;
        let proxy = ground.proxy();
        proxy.served("a b").await;
        ground.redirection("a", Some("enabled")).await;
        ground.redirection("b", Some("enabled")).await;
        let mut held = [Held::open(&pod.netns, outside), Held::open(&leaving.netns, outside)];
        ground.relabel("b", json!({"istio.io/dataplane-mode": "none"})).await;
        ground.redirection("b", None).await;

        ground.stop_agent().await;
        held.iter_mut().for_each(Held::used);
        let mut meanwhile = Held::open(&pod.netns, outside);
        assert_eq!(proxy.taken("a").0, 2, "the proxy needs no agent");
        ground.start_agent(&[]).await;
        ground.connect(&proxy);
        // Another pod shows that the proxy has been told of those it has.
        let _new = ground.pod("c").await;
        proxy.served("a b c").await;
        for held in held.iter_mut().chain([&mut meanwhile]) {
            held.used();
        }
        drop(held);
        proxy.served("a c").await;
        meanwhile.used();
        ground.end().await;
    });
}

#[test]
fn what_others_change_is_put_right_and_failures_are_told() {
    isolate!();
    block_on(async {
        let ground = Ground::new(&[]).await;
        let pod = ground.pod("a").await;
        ground.label(ON).await;
        ground.redirection("a", Some("pending")).await;
        ground.event("a", "no node proxy is connected").await;
        let proxy = ground.proxy();
        proxy.served("a").await;
        ground.redirection("a", Some("enabled")).await;
        let mut held = Held::open(&pod.netns, ground.echo_on_node());
        pod.flush();
        ground.metric("corten_agent_redirections_repaired_total 1").await;
        held.used();
        let _through = Held::open(&pod.netns, ground.echo_on_node());
        assert_eq!(proxy.taken("a").0, 2);

        // A pod without processes cannot be found.
        ground.pod_without_process("lost").await;
        ground.event("lost", "no process of it is seen").await;
        ground.redirection("lost", Some("pending")).await;
        ground.end().await;
    });
}

#[test]
fn who_goes_for_good_leaves_nothing_behind() {
    isolate!();
    block_on(async {
        let mut ground = Ground::new(&[]).await;
        let pod = ground.pod("a").await;
        ground.label(ON).await;
        let proxy = ground.proxy();
        proxy.served("a").await;
        ground.redirection("a", Some("enabled")).await;
        ground.outside("istio-system").await;
        let mut through = Held::open(&pod.netns, ground.echo_on_node());
        ground.daemon_set_gone().await;
        ground.proxy_kept("discovery");
        // A connection through the proxy is waited for.
        let agent = ground.agent_ending();
        let ended = async {
            ground.redirection("a", None).await;
            through.used();
            let mut direct = Held::open(&pod.netns, ground.echo_on_node());
            direct.used();
            assert_eq!(proxy.taken("a").0, 1);
            drop(through);
            direct
        };
        let (mut direct, ()) = tokio::join!(ended, agent);
        direct.used();
        assert!(!ground.is_installed());
        assert_eq!(ground.left_behind(&pod), Vec::<String>::new());
    });
}

#[test]
fn without_ambient_mode_everybody_leaves() {
    isolate!();
    block_on(async {
        let mut ground = Ground::new(&[]).await;
        let pod = ground.pod("a").await;
        ground.label(ON).await;
        let proxy = ground.proxy();
        proxy.served("a").await;
        ground.redirection("a", Some("enabled")).await;
        ground.stop_agent().await;
        assert!(ground.is_installed(), "another follows");
        ground.start_agent(&[("AMBIENT_ENABLED", "false")]).await;
        ground.connect(&proxy);
        assert!(!ground.is_installed());
        ground.redirection("a", None).await;
        proxy.served("").await;
        let _direct = Held::open(&pod.netns, ground.echo_on_node());
        ground.end().await;
    });
}

#[test]
fn pods_without_the_redirection_to_their_sidecar_are_seen_to() {
    isolate!();
    block_on(async {
        let ground = Ground::new(&[("REPAIR_LABEL_PODS", "true")]).await;
        let _pod = ground.broken_pod("a").await;
        ground.labelled("a", "cni.istio.io/uninitialized", "true").await;
        let line = "istio_cni_repair_pods_repaired_total{type=\"label\",result=\"success\"} 1";
        ground.metric(line).await;
        ground.end().await;
    });
}
