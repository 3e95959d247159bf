//! The network in namespaces of the test's own, with the plugin that ships.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use corten_linux::testing::{Isolation, isolated};
use expect_test::expect;

use super::*;

macro_rules! isolate {
    () => {
        match isolated() {
            Isolation::Inside => {}
            Isolation::Done => return,
            Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
        }
    };
}

/// The directory of the built plugin: `CORTEN_BIN` if it is given, else the target directory, after building what
/// `cargo test -p corten-local` alone does not.
pub(crate) fn plugins() -> PathBuf {
    if let Ok(given) = std::env::var("CORTEN_BIN") {
        return given.into();
    }
    let test = std::env::current_exe().unwrap();
    let dir = test
        .parent()
        .and_then(Path::parent)
        .expect("tests are in target/PROFILE/deps")
        .to_owned();
    // Process 1 is the test inside its namespaces; the one outside has built it.
    if std::process::id() != 1 {
        let build = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "corten-bridge"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(build.expect("cargo runs").success(), "corten-bridge does not build");
    }
    dir
}

pub(crate) fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

fn pod(name: &str) -> PodRef {
    PodRef {
        namespace: "default".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
    }
}

#[test]
fn pods_of_all_nodes_reach_each_other() {
    // Built outside the namespaces, where cargo has a network if it needs one.
    let plugins = plugins();
    isolate!();
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let begun = std::time::Instant::now();
        let network = Network::create(NetworkConfig::new(2, dir.path().into(), plugins))
            .await
            .unwrap();
        println!("two nodes took {:?}", begun.elapsed());
        let (a, b, c) = (
            NetNs::create().unwrap(),
            NetNs::create().unwrap(),
            NetNs::create().unwrap(),
        );
        let begun = std::time::Instant::now();
        let at = network.attach("node1", &pod("a"), &a.path()).await.unwrap();
        println!("ADD took {:?}", begun.elapsed());
        expect!["[10.244.1.2, fd00:10:244:1::2]"].assert_eq(&format!("{at:?}"));
        let at = network.attach("node1", &pod("b"), &b.path()).await.unwrap();
        expect!["[10.244.1.3, fd00:10:244:1::3]"].assert_eq(&format!("{at:?}"));
        let at = network.attach("node2", &pod("c"), &c.path()).await.unwrap();
        expect!["[10.244.2.2, fd00:10:244:2::2]"].assert_eq(&format!("{at:?}"));

        for (from, to, address) in [
            (&a, &b, "10.244.1.3"),
            (&a, &c, "10.244.2.2"),
            (&c, &a, "10.244.1.2"),
            (&a, &c, "fd00:10:244:2::2"),
            (&c, &b, "fd00:10:244:1::3"),
            (network.netns(), &c, "10.244.2.2"),
            (network.node("node1").unwrap().netns(), &c, "fd00:10:244:2::2"),
            (&a, network.netns(), "192.168.77.1"),
            (&a, network.node("node2").unwrap().netns(), "192.168.77.12"),
            (&c, network.netns(), "10.96.0.10"),
            (&c, network.netns(), "fd00:10:96::a"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let listener = to.run(|| TcpListener::bind((address, 0))).unwrap().unwrap();
            let target = listener.local_addr().unwrap();
            let begun = std::time::Instant::now();
            from.run(move || std::net::TcpStream::connect(target))
                .unwrap()
                .unwrap_or_else(|error| panic!("{address}: {error}"));
            println!("{address} took {:?}", begun.elapsed());
        }
        let listener = a.run(|| tokio_listener("10.244.1.2:0")).unwrap();
        network
            .node("node2")
            .unwrap()
            .connect(listener.local_addr().unwrap())
            .await
            .expect("a probe");

        network.check("node1", &pod("a"), &a.path()).await.unwrap();
        network.detach("node1", &pod("a"), Some(&a.path())).await.unwrap();
        network
            .detach("node1", &pod("a"), None)
            .await
            .expect("again is no error");
        network.check("node1", &pod("a"), &a.path()).await.unwrap_err();
        let records = std::fs::read_dir(network.node("node1").unwrap().dir().join("addresses")).unwrap();
        let names = records.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(
            names.filter(|name| name.parse::<u8>().is_ok()).collect::<Vec<_>>(),
            ["3"]
        );
    });
}

fn tokio_listener(address: &str) -> TcpListener {
    TcpListener::bind(address).unwrap()
}

/// A plugin that a mesh would chain: it writes down how it was called, changes nothing, and refuses pods named `bad`.
const CHAINED: &str = r#"#!/bin/sh
cat > /dev/null
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS" >> "$(dirname "$0")/calls"
case "$CNI_COMMAND:$CNI_ARGS" in
ADD:*K8S_POD_NAME=bad*) echo '{"cniVersion":"1.0.0","code":999,"msg":"not this one","details":"it is bad"}'; exit 1 ;;
esac
"#;

#[test]
fn a_mesh_plugin_can_be_chained_and_refuse() {
    let plugins = plugins();
    isolate!();
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let network = Network::create(NetworkConfig::new(1, dir.path().into(), plugins))
            .await
            .unwrap();
        let node = network.node("node1").unwrap();
        let program = node.cni_bin_dir().join("mesh");
        std::fs::write(&program, CHAINED).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let file = node.cni_conf_dir().join("10-corten.conflist");
        let mut list: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        list["plugins"]
            .as_array_mut()
            .unwrap()
            .push(serde_json::json!({ "type": "mesh" }));
        std::fs::write(&file, list.to_string()).unwrap();

        let netns = NetNs::create().unwrap();
        let addresses = network.attach("node1", &pod("good"), &netns.path()).await.unwrap();
        assert_eq!(addresses.len(), 2);
        network
            .detach("node1", &pod("good"), Some(&netns.path()))
            .await
            .unwrap();
        let error = network.attach("node1", &pod("bad"), &netns.path()).await.unwrap_err();
        expect![[r#"node node1: plugin type="mesh" failed (ADD): not this one; it is bad"#]]
            .assert_eq(&error.to_string());
        let left = backbone::in_namespace(&netns).unwrap().links().unwrap();
        assert_eq!(left.len(), 1, "only the loopback is left: {left:?}");
        expect![[r#"
            ADD uid-good eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=good;K8S_POD_INFRA_CONTAINER_ID=uid-good;K8S_POD_UID=uid-good
            DEL uid-good eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=good;K8S_POD_INFRA_CONTAINER_ID=uid-good;K8S_POD_UID=uid-good
            ADD uid-bad eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=bad;K8S_POD_INFRA_CONTAINER_ID=uid-bad;K8S_POD_UID=uid-bad
            DEL uid-bad eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=bad;K8S_POD_INFRA_CONTAINER_ID=uid-bad;K8S_POD_UID=uid-bad
        "#]].assert_eq(&std::fs::read_to_string(node.cni_bin_dir().join("calls")).unwrap());
    });
}

#[test]
fn configurations_that_cannot_be_are_refused() {
    for (nodes, part) in [(0, "0 nodes: choose 1 to 200"), (201, "201 nodes")] {
        let error = NetworkConfig::new(nodes, "/nowhere".into(), "/nowhere".into())
            .check()
            .unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn chains_are_read_as_runtimes_read_them() {
    let check = |text: &str, expected: &str| {
        let read = Chain::parse(text).map(|chain| format!("{} {} {}", chain.name, chain.version, chain.plugins.len()));
        assert_eq!(read.unwrap_or_else(|error| error), expected, "{text}");
    };
    check(
        r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"},{"type":"b"}]}"#,
        "n 1.0.0 2",
    );
    check(r#"{"cniVersion":"0.3.1","name":"n","type":"a"}"#, "n 0.3.1 1");
    check(r#"{"name":"n","plugins":[]}"#, "plugins is empty");
    check(r#"{"name":"n","plugins":[{}]}"#, "a plugin has no type");
    check(r#"{"plugins":[{"type":"a"}]}"#, "name is missing");
    check("", "not JSON: EOF while parsing a value at line 1 column 0");

    let dir = tempfile::tempdir().unwrap();
    let error = Chain::load(dir.path()).unwrap_err().to_string();
    assert!(error.starts_with("no CNI network configuration in /"), "{error}");
    std::fs::write(dir.path().join("00-broken.conf"), "{").unwrap();
    std::fs::write(dir.path().join("05-readme.txt"), "hello").unwrap();
    assert!(
        Chain::load(dir.path())
            .unwrap_err()
            .to_string()
            .contains("00-broken.conf: not JSON")
    );
    std::fs::write(
        dir.path().join("20-b.conflist"),
        r#"{"name":"b","plugins":[{"type":"b"}]}"#,
    )
    .unwrap();
    std::fs::write(dir.path().join("10-a.conf"), r#"{"name":"a","type":"a"}"#).unwrap();
    assert_eq!(Chain::load(dir.path()).unwrap().name, "a");
}
