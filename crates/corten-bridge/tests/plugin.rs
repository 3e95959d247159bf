//! The binary, called as a container runtime calls it, in namespaces of the test's own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io::Write};

use corten_linux::NetNs;
use corten_linux::net::{LinkChange, LinkKind, NewLink, Rtnl};
use corten_linux::testing::{Isolation, isolated};
use serde_json::{Value, json};

macro_rules! isolate {
    () => {
        match isolated() {
            Isolation::Inside => {}
            Isolation::Done => return,
            Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
        }
    };
}

fn node() {
    let mut rtnl = Rtnl::open().unwrap();
    rtnl.add_link(&NewLink {
        name: "pods0",
        kind: LinkKind::Bridge,
        change: LinkChange {
            up: Some(true),
            mac: Some([2, 0, 0, 0, 0, 1]),
            ..LinkChange::default()
        },
    })
    .unwrap();
    let bridge = rtnl.link("pods0").unwrap().unwrap().index;
    for address in ["10.244.1.1/24", "fd00:10:244:1::1/64"] {
        rtnl.add_address(bridge, address.parse().unwrap()).unwrap();
    }
    corten_linux::net::set_sysctl("net.ipv4.ip_forward", "1").unwrap();
    corten_linux::net::set_sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();
}

fn config(dir: &Path) -> Value {
    json!({ "cniVersion": "1.1.0", "name": "corten", "type": "corten-bridge", "bridge": "pods0", "dir": dir,
            "range4": "10.244.1.0/24", "range6": "fd00:10:244:1::/64" })
}

fn call(command: &str, container: &str, netns: &NetNs, config: &Value) -> Result<Value, Value> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_corten-bridge"))
        .env_clear()
        .envs([
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", container),
            ("CNI_IFNAME", "eth0"),
        ])
        .env("CNI_NETNS", netns.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(config.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let document = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if output.status.success() {
        Ok(document)
    } else {
        Err(document)
    }
}

fn records(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.parse::<u32>().is_ok()).collect();
    names.sort();
    names
}

#[test]
fn pods_reach_the_node_and_each_other_through_it() {
    isolate!();
    node();
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let answer = call("ADD", "a", &a, &config).unwrap();
    assert_eq!(answer["ips"][0]["address"], "10.244.1.2/32");
    assert_eq!(answer["ips"][1]["address"], "fd00:10:244:1::2/128");
    assert_eq!(answer["interfaces"][2]["name"], "eth0");
    assert_eq!(
        call("ADD", "b", &b, &config).unwrap()["ips"][0]["address"],
        "10.244.1.3/32"
    );

    for address in ["10.244.1.3:0", "[fd00:10:244:1::3]:0"] {
        let listener = b.run(|| TcpListener::bind(address)).unwrap().unwrap();
        let target = listener.local_addr().unwrap();
        a.run(move || std::net::TcpStream::connect(target))
            .unwrap()
            .expect("pod to pod");
        let (_, peer) = listener.accept().unwrap();
        assert!(
            ["10.244.1.2", "fd00:10:244:1::2"].contains(&peer.ip().to_string().as_str()),
            "{peer}"
        );
    }
    // Nobody but the node answers for another pod's address on the wire.
    let neighbours = a
        .run(|| fs::read_to_string("/proc/thread-self/net/arp"))
        .unwrap()
        .unwrap();
    assert!(
        neighbours.contains("10.244.1.1 ") && !neighbours.contains("10.244.1.3"),
        "{neighbours}"
    );

    let check = json!({ "prevResult": answer });
    let with_previous = |config: &Value| {
        let mut config = config.clone();
        config["prevResult"] = check["prevResult"].clone();
        config
    };
    call("CHECK", "a", &a, &with_previous(&config)).unwrap();
    let mut inside = a.run(Rtnl::open).unwrap().unwrap();
    let eth0 = inside.link("eth0").unwrap().unwrap().index;
    inside.delete_address(eth0, "10.244.1.2/32".parse().unwrap()).unwrap();
    let error = call("CHECK", "a", &a, &with_previous(&config)).unwrap_err();
    assert_eq!(error["code"], 101, "{error}");

    call("STATUS", "", &a, &config).unwrap();
    call("DEL", "a", &a, &config).unwrap();
    call("DEL", "a", &a, &config).expect("again is no error");
    assert_eq!(records(dir.path()), ["3"]);
    assert_eq!(inside.link("eth0").unwrap(), None);
}

#[test]
fn addresses_are_kept_given_back_and_run_out() {
    isolate!();
    node();
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config["range4"] = "10.244.1.0/29".into();
    let pods: Vec<NetNs> = (0..6).map(|_| NetNs::create().unwrap()).collect();
    for (index, pod) in pods.iter().take(5).enumerate() {
        let answer = call("ADD", &format!("pod{index}"), pod, &config).unwrap();
        assert_eq!(answer["ips"][0]["address"], format!("10.244.1.{}/32", index + 2));
    }
    let error = call("ADD", "pod5", &pods[5], &config).unwrap_err();
    assert_eq!((&error["code"], records(dir.path()).len()), (&json!(11), 5), "{error}");
    let again = call("ADD", "pod1", &pods[1], &config).expect("an interrupted ADD can be repeated");
    assert_eq!(again["ips"][0]["address"], "10.244.1.3/32");
    // An ADD that fails leaves no address behind.
    call("DEL", "pod0", &pods[0], &config).unwrap();
    config["bridge"] = "nobridge".into();
    let error = call("ADD", "pod5", &pods[5], &config).unwrap_err();
    assert_eq!(error["code"], 50, "{error}");
    assert_eq!(records(dir.path()), ["3", "4", "5", "6"]);
    config["cni.dev/valid-attachments"] = json!([{ "containerID": "pod4", "ifname": "eth0" }]);
    call("GC", "", &pods[0], &config).unwrap();
    assert_eq!(records(dir.path()), ["6"]);
}
