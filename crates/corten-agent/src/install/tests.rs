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
    assert_eq!(node.names(), [".10-net.conf.corten-original", "10-net.conflist"]);
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

/// Who makes the layout; its files by name; the one that counts; and the plugins in it in the end.
type Layout = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);

/// What nodes have in their directory.
const LAYOUTS: &[Layout] = &[
    (
        "bridge",
        &[(
            "10-bridge.conf",
            r#"{"cniVersion":"0.4.0","name":"local","type":"bridge","bridge":"cni0","ipam":{"type":"host-local"}}"#,
        )],
        "10-bridge.conflist",
        "bridge",
    ),
    (
        "calico",
        &[(
            "10-calico.conflist",
            r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico","datastore_type":"kubernetes","ipam":{"type":"calico-ipam"}},{"type":"portmap","snat":true,"capabilities":{"portMappings":true}},{"type":"bandwidth","capabilities":{"bandwidth":true}}]}"#,
        )],
        "10-calico.conflist",
        "calico portmap bandwidth",
    ),
    (
        // What Cilium finds it moves out of the way.
        "cilium",
        &[
            (
                "05-cilium.conflist",
                r#"{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni","enable-debug":false}]}"#,
            ),
            (
                "10-other.conflist.cilium_bak",
                r#"{"cniVersion":"0.3.1","name":"x","plugins":[{"type":"bridge"}]}"#,
            ),
        ],
        "05-cilium.conflist",
        "cilium-cni",
    ),
    (
        "flannel",
        &[(
            "10-flannel.conflist",
            r#"{"name":"cbr0","cniVersion":"0.3.1","plugins":[{"type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#,
        )],
        "10-flannel.conflist",
        "flannel portmap",
    ),
    (
        "kindnet",
        &[(
            "10-kindnet.conflist",
            r#"{"cniVersion":"0.3.1","name":"kindnet","plugins":[{"type":"ptp","ipMasq":false,"mtu":1500,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.0.0/24"}]]}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#,
        )],
        "10-kindnet.conflist",
        "ptp portmap",
    ),
    (
        "aws",
        &[(
            "10-aws.conflist",
            r#"{"cniVersion":"0.4.0","name":"aws-cni","disableCheck":true,"plugins":[{"name":"aws-cni","type":"aws-cni","vethPrefix":"eni"},{"name":"egress-cni","type":"egress-cni","ipam":{"type":"host-local"}},{"type":"portmap","snat":true,"capabilities":{"portMappings":true}}]}"#,
        )],
        "10-aws.conflist",
        "aws-cni egress-cni portmap",
    ),
    (
        "gke",
        &[
            (
                "10-gke-ptp.conflist",
                r#"{"name":"gke-pod-network","cniVersion":"0.3.1","plugins":[{"type":"ptp","mtu":1460,"ipam":{"type":"host-local"}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#,
            ),
            (
                "99-loopback.conf",
                r#"{"cniVersion":"0.3.1","name":"lo","type":"loopback"}"#,
            ),
        ],
        "10-gke-ptp.conflist",
        "ptp portmap",
    ),
    (
        // One that calls the others itself comes first.
        "multus",
        &[
            (
                "00-multus.conf",
                r#"{"cniVersion":"0.3.1","name":"multus","type":"multus","delegates":[{"cniVersion":"0.3.1","name":"d","plugins":[{"type":"bridge"}]}]}"#,
            ),
            (
                "10-calico.conflist",
                r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico"}]}"#,
            ),
        ],
        "00-multus.conflist",
        "multus",
    ),
    (
        // A list in a lone plugin's file, and a lone plugin in a list's: container runtimes pass both over.
        "misplaced",
        &[
            (
                "01-list.conf",
                r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}"#,
            ),
            (
                "02-alone.conflist",
                r#"{"cniVersion":"1.0.0","name":"b","type":"bridge"}"#,
            ),
            (
                "03-typeless.conflist",
                r#"{"cniVersion":"1.0.0","name":"c","plugins":[{"bridge":"x"}]}"#,
            ),
            (
                "04-unnamed.conflist",
                r#"{"cniVersion":"1.0.0","plugins":[{"type":"bridge"}]}"#,
            ),
            ("30-json.json", r#"{"cniVersion":"1.0.0","name":"d","type":"macvlan"}"#),
        ],
        "30-json.conflist",
        "macvlan",
    ),
];

impl Node {
    /// All files with their contents and modes.
    fn files(&self) -> Vec<(String, Vec<u8>, u32)> {
        let read = |name: String| {
            let path = self.dir.path().join("net.d").join(&name);
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            (name, std::fs::read(path).unwrap(), mode)
        };
        self.names().into_iter().map(read).collect()
    }
}

#[test]
fn into_every_layout_and_out_without_a_trace() {
    for (layout, files, edited, before_us) in LAYOUTS {
        let node = node(files);
        let before = node.files();
        assert!(node.installation.apply().unwrap(), "{layout}");
        let chain = node
            .read(edited)
            .unwrap_or_else(|| panic!("{layout}: {:?}", node.names()));
        let types: Vec<&str> = chain["plugins"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|p| p["type"].as_str())
            .collect();
        assert_eq!(types.join(" "), format!("{before_us} istio-cni"), "{layout}");
        assert!(
            !node.installation.apply().unwrap(),
            "{layout}: there is nothing more to do"
        );
        node.installation.remove().unwrap();
        assert_eq!(node.files(), before, "{layout}: to the letter");
    }
}

#[test]
fn what_others_change_meanwhile_stays_changed() {
    let node = node(&[("10-net.conflist", CHAIN)]);
    node.installation.apply().unwrap();
    let path = node.dir.path().join("net.d/10-net.conflist");
    // Another plugin puts itself into the chain that has ours.
    let mut chain = node.read("10-net.conflist").unwrap();
    chain["plugins"]
        .as_array_mut()
        .unwrap()
        .insert(1, json!({"type": "tuning"}));
    std::fs::write(&path, chain.to_string()).unwrap();
    assert!(!node.installation.apply().unwrap(), "ours is where it should be");
    node.installation.remove().unwrap();
    let left = json!({"cniVersion":"1.0.0","name":"corten","plugins":[{"type":"bridge"},{"type":"tuning"}]});
    assert_eq!(node.read("10-net.conflist"), Some(left));
    assert_eq!(node.names(), ["10-net.conflist"]);
}

#[test]
fn a_configuration_that_comes_later_or_goes_and_comes_again() {
    let node = node(&[]);
    assert!(node.installation.apply().is_err());
    let path = node.dir.path().join("net.d/10-net.conflist");
    std::fs::write(&path, CHAIN).unwrap();
    assert!(node.installation.apply().unwrap());
    std::fs::remove_file(&path).unwrap();
    assert!(node.installation.apply().is_err());
    // Another network moves in before the old one's place is taken again.
    std::fs::write(node.dir.path().join("net.d/05-new.conflist"), CHAIN).unwrap();
    assert!(node.installation.apply().unwrap());
    assert_eq!(node.read("05-new.conflist").unwrap()["plugins"][1]["type"], "istio-cni");
    node.installation.remove().unwrap();
    assert_eq!(node.names(), ["05-new.conflist"]);
}

#[test]
fn a_named_file_is_waited_for_under_either_ending() {
    let mut node = node(&[("05-first.conflist", CHAIN)]);
    node.installation.conf_name = Some("20-mine.conf".into());
    assert!(
        node.installation.apply().is_err(),
        "the first is not the one that is meant"
    );
    let place = node.dir.path().join("net.d");
    std::fs::write(place.join("20-mine.conf.bak"), CHAIN).unwrap();
    assert!(node.installation.apply().is_err());
    std::fs::write(place.join("20-mine.conflist"), CHAIN).unwrap();
    assert!(node.installation.apply().unwrap());
    assert_eq!(
        node.read("20-mine.conflist").unwrap()["plugins"][1]["type"],
        "istio-cni"
    );
}
