//! Calls as a container runtime makes them, against an agent that only writes down what it is asked.

use std::io;
use std::path::Path;

use expect_test::expect;
use serde_json::{Value, json};

use crate::agent::{Agent, Answer};
use crate::run;

struct Fake {
    answer: Result<Answer, io::ErrorKind>,
    asked: Vec<(String, String, Value)>,
    /// Whether it was waited for.
    patient: bool,
}

impl Agent for Fake {
    fn left(&mut self, file: &Path) -> io::Result<String> {
        assert_eq!(file, Path::new("/run/node1/istio-cni/outside-namespaces"));
        Ok("legacy\nshop-2\n".to_owned())
    }

    fn post(&mut self, socket: &Path, path: &str, body: &str, patient: bool) -> io::Result<Answer> {
        self.patient = patient;
        let body = serde_json::from_str(body).unwrap();
        self.asked.push((socket.display().to_string(), path.to_owned(), body));
        self.answer.clone().map_err(io::Error::from)
    }
}

fn agent(status: u16, body: &str) -> Fake {
    Fake {
        answer: Ok(Answer {
            status,
            body: body.into(),
        }),
        asked: Vec::new(),
        patient: false,
    }
}

const ARGS: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=u-1";

fn config() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "n", "type": "istio-cni",
        "ambient_enabled": true, "cni_agent_run_dir": "/run/node1/istio-cni",
        "exclude_namespaces": ["kube-system"], "pod_namespace": "istio-system",
        "prevResult": {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eth0"}],
            "ips": [{"address": "10.244.1.7/24", "gateway": "10.244.1.1", "interface": 0}, {"address": "fd00::7/128"}],
        },
    })
}

fn add(config: &Value, args: &str, agent: &mut Fake) -> Result<Option<Value>, Value> {
    let variable = |name: &str| match name {
        "CNI_COMMAND" => Some("ADD".to_owned()),
        "CNI_NETNS" => Some("/var/run/netns/cni-1".to_owned()),
        "CNI_ARGS" => Some(args.to_owned()),
        _ => None,
    };
    run(&variable, config.to_string().as_bytes(), agent)
}

#[test]
fn the_agent_is_asked_and_the_result_passed_on() {
    let mut agent = agent(200, "");
    let result = add(&config(), ARGS, &mut agent).unwrap();
    assert_eq!(result, Some(config()["prevResult"].clone()));
    let [(socket, path, body)] = &agent.asked[..] else {
        panic!("asked {:?}", agent.asked)
    };
    assert_eq!(
        (socket.as_str(), path.as_str()),
        ("/run/node1/istio-cni/pluginevent.sock", "/cmdadd")
    );
    expect![[r#"
        {
          "IPs": [
            {
              "Address": {
                "IP": "10.244.1.7",
                "Mask": "////AA=="
              },
              "Gateway": "10.244.1.1",
              "Interface": 0
            },
            {
              "Address": {
                "IP": "fd00::7",
                "Mask": "/////////////////////w=="
              },
              "Gateway": "",
              "Interface": null
            }
          ],
          "Netns": "/var/run/netns/cni-1",
          "PodName": "cart-0",
          "PodNamespace": "shop",
          "PodUID": "u-1"
        }"#]]
    .assert_eq(&format!("{body:#}"));
}

#[test]
fn a_pod_is_not_started_when_the_mesh_cannot_take_it() {
    let error = add(&config(), ARGS, &mut agent(500, "no node proxy is connected")).unwrap_err();
    assert_eq!(error["code"], 100);
    assert_eq!(
        error["msg"],
        "the mesh cannot take pod shop/cart-0: no node proxy is connected"
    );
    assert_eq!(error["cniVersion"], "1.0.0");

    let mut gone = Fake {
        answer: Err(io::ErrorKind::ConnectionRefused),
        asked: Vec::new(),
        patient: false,
    };
    let error = add(&config(), ARGS, &mut gone).unwrap_err();
    assert_eq!(error["code"], 11);
    let text = error["msg"].as_str().unwrap();
    assert!(
        text.contains("/run/node1/istio-cni/pluginevent.sock") && text.contains("shop/cart-0"),
        "{text}"
    );
}

#[test]
fn the_policy_says_who_starts_without_the_mesh() {
    // The policy, the namespace, the agent's answer (0: it is away); whether the pod starts, and whether the agent was waited for.
    for (policy, namespace, status, starts, waited) in [
        ("closed", "legacy", 0, false, true),
        ("namespace", "legacy", 0, true, false),
        ("namespace", "shop", 0, false, true),
        ("namespace", "legacy", 500, false, false),
        ("namespace", "legacy", 200, true, false),
        ("open", "shop", 0, true, false),
        ("open", "shop", 500, true, false),
    ] {
        let mut config = config();
        config["failure_policy"] = json!(policy);
        let mut agent = agent(status, "no node proxy is connected");
        if status == 0 {
            agent.answer = Err(io::ErrorKind::NotFound);
        }
        let args = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=cart-0");
        let started = add(&config, &args, &mut agent).is_ok();
        let found = (started, agent.patient);
        assert_eq!(found, (starts, waited), "{policy} {namespace} {status}");
    }
    let mut odd = config();
    odd["failure_policy"] = json!("perhaps");
    assert_eq!(add(&odd, ARGS, &mut agent(200, "")).unwrap_err()["code"], 6);
}

#[test]
fn what_the_mesh_has_no_say_in_passes() {
    let unasked = |config: &Value, args: &str| {
        let mut agent = agent(500, "");
        let result = add(config, args, &mut agent).unwrap().unwrap();
        assert!(agent.asked.is_empty(), "{args}");
        result
    };
    let args = |namespace: &str, name: &str| format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
    unasked(&config(), "");
    unasked(&config(), &args("kube-system", "dns"));
    unasked(&config(), &args("istio-system", "istio-cni-node-x7f"));
    let off = json!({ "cniVersion": "0.3.1", "ambient_enabled": false });
    assert_eq!(unasked(&off, ARGS), json!({ "cniVersion": "0.3.1" }));

    // The mesh's other pods are the agent's to judge.
    let mut agent = agent(200, "");
    add(&config(), &args("istio-system", "ztunnel-x7f"), &mut agent).unwrap();
    assert_eq!(agent.asked.len(), 1);
}

#[test]
fn other_calls() {
    let call = |command: &'static str| {
        let variable = move |name: &str| (name == "CNI_COMMAND").then(|| command.to_owned());
        run(&variable, config().to_string().as_bytes(), &mut agent(500, ""))
    };
    for command in ["DEL", "CHECK", "GC", "STATUS"] {
        assert_eq!(call(command), Ok(None), "{command}");
    }
    let versions = call("VERSION").unwrap().unwrap();
    assert!(
        versions["supportedVersions"]
            .as_array()
            .unwrap()
            .contains(&json!("1.1.0"))
    );
    assert_eq!(call("PLEASE").unwrap_err()["code"], 4);
    assert_eq!(call("ADD").unwrap_err()["msg"], "CNI_NETNS is not set");
    let broken = run(
        &|name| (name == "CNI_COMMAND").then(|| "ADD".into()),
        b"{",
        &mut agent(200, ""),
    );
    assert_eq!(broken.unwrap_err()["code"], 6);
}
