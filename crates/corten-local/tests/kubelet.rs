//! A kubelet on the real machine: pods as processes in namespaces, attached by the CNI plugin, probed from their node.
//!
//! Each test runs itself again as process 1 of namespaces of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_apiserver::{
    Api, Client, DeleteOptions, Event, ExecOptions, ExecStreams, LogOptions, Object, PodBackend as _, resources,
};
use corten_linux::testing::{Isolation, isolated};
use corten_local::kubelet::{self, Images, Pods};
use corten_local::network::{Network, NetworkConfig};
use corten_rt::TaskGroup;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Runs a test with a kubelet on `node1`, in namespaces of its own.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F) {
    let programs = programs();
    for program in ["corten-pod", "corten-bridge", "corten-echo"] {
        if !programs.join(program).exists() {
            corten_rt::skip!("{program} is not built: cargo build -p corten-pod -p corten-bridge -p corten-images");
        }
    }
    match isolated() {
        Isolation::Inside => {}
        Isolation::Done => return,
        Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let bench = Bench::new(programs).await;
        let tasks = bench.tasks.clone();
        test(bench).await;
        tasks.shutdown(Duration::from_secs(10)).await;
    });
}

/// The directory in which the workspace's programs are.
fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().to_owned()
}

struct Bench {
    client: Client,
    network: Arc<Network>,
    pods: Arc<Pods>,
    tasks: TaskGroup,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new(programs: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let api = Api::in_memory();
        let client = Client::new(api.clone(), "system:test");
        for name in ["default", "kube-node-lease"] {
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            match client.create(&resources::NAMESPACES, namespace).await {
                Err(status) if !status.is_already_exists() => panic!("{status}"),
                _ => {}
            }
        }
        let meta = json!({ "name": "default", "namespace": "default" });
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta });
        client.create(&resources::SERVICE_ACCOUNTS, account).await.unwrap();
        let config = NetworkConfig::new(1, dir.path().join("network"), programs.clone());
        let network = Arc::new(Network::create(config).await.unwrap());
        let pods = Pods::new();
        let tasks = TaskGroup::new("test");
        let config = kubelet::Config {
            node: "node1".into(),
            zone: "zone1".into(),
            dir: dir.path().join("node1"),
            log_dir: dir.path().join("logs"),
            images: Arc::new(Images::built_in(&programs)),
            cluster_domain: "cluster.local".into(),
            masks: Vec::new(),
            host_paths: kubelet::HostPaths::default(),
        };
        let kubelet_client = Client::new(api, "system:node:node1");
        let (kubelet_network, kubelet_pods) = (network.clone(), pods.clone());
        tasks.serve("kubelet", |drain| async move {
            kubelet::run(config, kubelet_client, kubelet_network, kubelet_pods, drain)
                .await
                .unwrap();
        });
        Self {
            client,
            network,
            pods,
            tasks,
            _dir: dir,
        }
    }

    async fn pod(&self, name: &str, mut spec: Value) {
        spec["nodeName"] = "node1".into();
        spec["automountServiceAccountToken"] = false.into();
        let meta = json!({ "name": name, "namespace": "default" });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec });
        self.client.create(&resources::PODS, pod).await.unwrap();
    }

    /// The pod as soon as `holds` of it; of `None` when it is gone.
    async fn until(&self, name: &str, holds: impl Fn(Option<&Value>) -> bool) -> Object {
        let mut watch = self.client.watch(&resources::PODS, Some("default")).await.unwrap();
        let mut latest = Arc::new(Value::Null);
        let found = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                match watch.next().await.unwrap() {
                    Event::Added(pod) | Event::Modified { new: pod, .. } if pod["metadata"]["name"] == *name => {
                        latest = pod.clone();
                        if holds(Some(&pod)) {
                            return pod;
                        }
                    }
                    Event::Deleted(pod) if pod["metadata"]["name"] == *name && holds(None) => return pod,
                    _ => {}
                }
            }
        });
        match found.await {
            Ok(pod) => pod,
            Err(_) => panic!("it is {:#}, events {:#?}", latest["status"], self.events(name).await),
        }
    }

    async fn events(&self, name: &str) -> Vec<String> {
        let events = self
            .client
            .list(&resources::EVENTS, Some("default"), None, None)
            .await
            .unwrap();
        let of = events.iter().filter(|event| event["involvedObject"]["name"] == *name);
        of.map(|event| format!("{}: {}", event["reason"], event["message"]))
            .collect()
    }

    async fn ready(&self, name: &str) -> Object {
        self.until(name, |pod| pod.is_some_and(is_ready)).await
    }

    async fn log(&self, pod: &Value, container: &str) -> String {
        let options = LogOptions {
            container: container.into(),
            ..LogOptions::default()
        };
        let log = self.pods.logs(pod, options).await.unwrap();
        let blocks: Vec<bytes::Bytes> = log.try_collect().await.unwrap();
        String::from_utf8_lossy(&blocks.concat()).into_owned()
    }

    /// Runs a command in a container: exit code and output.
    async fn exec(&self, pod: &Value, container: &str, command: &[&str], input: &'static str) -> (i32, String) {
        let (typed, stdin) = mpsc::channel(4);
        let (stdout, mut printed) = mpsc::channel(4);
        let (stderr, _errors) = mpsc::channel(4);
        let (_resize, sizes) = mpsc::channel(1);
        let streams = ExecStreams {
            stdin,
            stdout,
            stderr,
            resize: sizes,
        };
        let options = ExecOptions {
            container: container.into(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            stdin: true,
            stdout: true,
            ..ExecOptions::default()
        };
        typed.send(bytes::Bytes::from_static(input.as_bytes())).await.unwrap();
        drop(typed);
        let collect = async {
            let mut text = String::new();
            while let Some(block) = printed.recv().await {
                text.push_str(&String::from_utf8_lossy(&block));
            }
            text
        };
        let (exit, text) = tokio::join!(self.pods.exec(pod, options, streams), collect);
        (exit.unwrap().code, text)
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|of| of["type"] == "Ready" && of["status"] == "True")
}

fn echo() -> Value {
    json!({
        "name": "echo",
        "image": "corten.dev/echo",
        "ports": [{ "name": "http", "containerPort": 8080 }],
        "readinessProbe": { "httpGet": { "port": "http", "path": "/" } },
    })
}

#[test]
fn an_echo_pod_is_probed_reached_and_deleted() {
    run(async |bench| {
        let begun = Instant::now();
        bench.pod("echo", json!({ "containers": [echo()] })).await;
        let pod = bench.ready("echo").await;
        println!("ready after {:?}", begun.elapsed());
        let ip: std::net::IpAddr = pod["status"]["podIP"].as_str().unwrap().parse().unwrap();
        let node = bench.network.node("node1").unwrap();
        assert!(node.connect((ip, 8080).into()).await.is_ok());

        let mut stream = bench.pods.port_forward(&pod, 8080).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[9..], *b"200");
        drop(stream);

        let command = ["sh", "-c", "cat; hostname; exit 3"];
        let (code, text) = bench.exec(&pod, "echo", &command, "typed\n").await;
        assert_eq!((code, text.as_str()), (3, "typed\necho\n"));

        let begun = Instant::now();
        let options = DeleteOptions::default();
        bench
            .client
            .delete(&resources::PODS, "default", "echo", options)
            .await
            .unwrap();
        bench.until("echo", |pod| pod.is_none()).await;
        println!("gone after {:?}", begun.elapsed());
    });
}

#[test]
fn volumes_variables_init_containers_and_messages() {
    run(async |bench| {
        let meta = json!({ "name": "conf", "namespace": "default" });
        let conf = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": { "key": "value" } });
        bench.client.create(&resources::CONFIG_MAPS, conf).await.unwrap();
        let mounts = json!([
            { "name": "conf", "mountPath": "/conf" },
            { "name": "conf", "mountPath": "/one", "subPath": "key" },
            { "name": "tmp", "mountPath": "/shared" },
        ]);
        let script = "cat /conf/key /one /shared/left; echo; echo $NAME $POD_IP $(hostname) >&2; pwd; \
                      echo why > /dev/termination-log; exit 4";
        let spec = json!({
            "restartPolicy": "Never",
            "initContainers": [{
                "name": "init", "image": "x", "command": ["sh", "-c", "printf left > /shared/left"], "volumeMounts": mounts,
            }],
            "containers": [{
                "name": "app", "image": "x", "command": ["sh", "-c", script], "workingDir": "/usr/lib", "volumeMounts": mounts,
                "env": [
                    { "name": "NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                    { "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                ],
            }],
            "volumes": [
                { "name": "conf", "configMap": { "name": "conf" } },
                { "name": "tmp", "emptyDir": { "medium": "Memory" } },
            ],
        });
        bench.pod("vol", spec).await;
        let failed = |pod: Option<&Value>| pod.is_some_and(|pod| pod["status"]["phase"] == "Failed");
        let pod = bench.until("vol", failed).await;
        let terminated = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(terminated["exitCode"], 4, "{}", bench.log(&pod, "app").await);
        assert_eq!(terminated["message"], "why\n");
        let log = bench.log(&pod, "app").await;
        let ip = pod["status"]["podIP"].as_str().unwrap();
        for line in ["valuevalueleft\n", &format!("vol {ip} vol\n"), "/usr/lib\n"] {
            assert!(log.contains(line), "{line:?} is not in {log:?}");
        }
    });
}

#[test]
fn many_pods_become_ready() {
    run(async |bench| {
        let pods = 30;
        let begun = Instant::now();
        for number in 0..pods {
            bench
                .pod(&format!("echo-{number}"), json!({ "containers": [echo()] }))
                .await;
        }
        for number in 0..pods {
            bench.ready(&format!("echo-{number}")).await;
        }
        println!("{pods} pods ready after {:?}", begun.elapsed());
    });
}
