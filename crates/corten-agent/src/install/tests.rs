//! Installing into directories as nodes have them.

use super::*;

const CHAIN: &str = r#"{"cniVersion":"1.0.0","name":"corten","plugins":[{"type":"bridge"}]}"#;

struct Node {
    dir: tempfile::TempDir,
    installation: Installation,
}

fn node(files: &[(&str, &str)]) -> Node {
    let dir = tempfile::tempdir().unwrap();
    for sub in ["bin", "net.d"] {
        std::fs::create_dir(dir.path().join(sub)).unwrap();
    }
    std::fs::write(dir.path().join("program"), "one").unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join("net.d").join(name), text).unwrap();
    }
    let installation = Installation {
        binary: Some(dir.path().join("program")),
        bin_dir: dir.path().join("bin"),
        conf_dir: dir.path().join("net.d"),
        conf_name: None,
        is_chained: true,
        own_config: None,
        group_read: false,
        run_dir: "/var/run/istio-cni".into(),
        run_dir_on_host: Some("/run/node1/istio-cni".into()),
        settings: json!({"cniVersion": "0.3.1", "name": "istio-cni", "type": "istio-cni"}),
    };
    Node { dir, installation }
}

impl Node {
    fn read(&self, name: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("net.d").join(name)).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("net.d")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn goes_into_the_first_valid_configuration_and_out_again() {
    let node = node(&[
        ("05-broken.conflist", "{"),
        ("10-net.conflist", CHAIN),
        ("20-other.conflist", CHAIN),
    ]);
    let path = node.dir.path().join("net.d/10-net.conflist");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(node.installation.apply().unwrap());
    assert!(!node.installation.apply().unwrap(), "there is nothing more to do");
    let chain = node.read("10-net.conflist").unwrap();
    assert_eq!(chain["plugins"][1]["type"], "istio-cni");
    assert_eq!(chain["plugins"][1]["cni_agent_run_dir"], "/run/node1/istio-cni");
    assert_eq!(
        node.read("20-other.conflist").unwrap()["plugins"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        path.metadata().unwrap().permissions().mode() & 0o777,
        0o644,
        "an edited file keeps its mode"
    );
    let program = node.dir.path().join("bin/istio-cni");
    assert_eq!(program.metadata().unwrap().permissions().mode() & 0o777, 0o755);

    // Another program, or somebody who wrote the file anew.
    std::fs::write(node.dir.path().join("program"), "two").unwrap();
    assert!(node.installation.apply().unwrap());
    assert_eq!(std::fs::read(&program).unwrap(), b"two");
    std::fs::write(&path, CHAIN).unwrap();
    assert!(node.installation.apply().unwrap());

    node.installation.remove().unwrap();
    assert_eq!(node.read("10-net.conflist"), serde_json::from_str(CHAIN).ok());
    assert!(!program.exists());
    node.installation.remove().expect("again is no error");
}

#[test]
fn a_lone_plugin_becomes_a_list() {
    let node = node(&[(
        "10-net.conf",
        r#"{"cniVersion":"0.4.0","name":"dbnet","type":"bridge"}"#,
    )]);
    assert!(node.installation.apply().unwrap());
    assert_eq!(node.names(), ["10-net.conflist"]);
    assert_eq!(node.read("10-net.conflist").unwrap()["name"], "k8s-pod-network");
    assert!(!node.installation.apply().unwrap());
}

#[test]
fn a_configuration_of_our_own_leaves_the_first_alone() {
    let mut node = node(&[("10-net.conflist", CHAIN)]);
    node.installation.own_config = Some("02-istio-cni.conflist".into());
    assert!(node.installation.apply().unwrap());
    assert!(!node.installation.apply().unwrap());
    assert_eq!(node.names(), ["02-istio-cni.conflist", "10-net.conflist"]);
    assert_eq!(node.read("10-net.conflist"), serde_json::from_str(CHAIN).ok());
    assert_eq!(
        node.read("02-istio-cni.conflist").unwrap()["plugins"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let mode = node
        .dir
        .path()
        .join("net.d/02-istio-cni.conflist")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    node.installation.remove().unwrap();
    assert_eq!(node.names(), ["10-net.conflist"]);
}

#[test]
fn alone_where_there_is_no_chain() {
    let mut node = node(&[]);
    let error = node.installation.apply().unwrap_err();
    assert_eq!(error.result(), "CREATE_CNI_CONFIG_FAILURE");
    assert!(error.to_string().contains("network plugin"), "{error}");
    node.installation.is_chained = false;
    assert!(node.installation.apply().unwrap());
    assert_eq!(node.names(), [STANDALONE]);
}
