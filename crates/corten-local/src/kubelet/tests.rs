//! A whole kubelet on the in-process API, over a machine that only pretends.

use std::io;
use std::sync::Mutex;
use std::time::Instant;

use corten_apiserver::{Api, DeleteOptions, LogOptions, Patch, PodBackend as _};
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::oneshot;

use super::machine::{Connect, Made, PodSandbox, host_connect};
use super::sysctls::Sysctl;
use super::volumes::{Token, TokenRequest};
use super::*;
use crate::sandbox::{ContainerSpec, Exec, ExecExit, Exit, HostsEntry, SandboxSpec, StartError};

/// Remembers what was asked for; containers "run" until they are signalled or the test ends them.
#[derive(Default)]
struct Fake {
    pods: Mutex<HashMap<String, Arc<FakePod>>>,
}

struct FakePod {
    spec: SandboxSpec,
    hosts: Mutex<Vec<HostsEntry>>,
    started: Mutex<Vec<ContainerSpec>>,
    execs: Mutex<Vec<String>>,
    exits: Mutex<Option<mpsc::Sender<Exit>>>,
}

impl FakePod {
    fn end(&self, container: &str, code: i32, message: &str) {
        let exit = Exit {
            container: container.to_owned(),
            code,
            signal: None,
            finished_at: std::time::SystemTime::now(),
            message: Some(message.to_owned()),
        };
        let exits = self.exits.lock().expect("unlocked");
        exits.as_ref().expect("not stopped").try_send(exit).expect("room");
    }

    fn latest(&self, container: &str) -> ContainerSpec {
        let started = self.started.lock().expect("unlocked");
        started
            .iter()
            .rev()
            .find(|of| of.name == container)
            .cloned()
            .expect("started")
    }
}

impl PodSandbox for FakePod {
    fn set_hosts(&self, hosts: Vec<HostsEntry>) {
        *self.hosts.lock().expect("unlocked") = hosts;
    }

    fn start(&self, container: ContainerSpec) -> BoxFuture<'_, Result<u32, StartError>> {
        let missing = container.argv.first().is_some_and(|program| program == "/missing");
        if let Some(dir) = container.log_path.parent().filter(|_| !missing) {
            std::fs::create_dir_all(dir).expect("a log directory");
            let line = format!("2026-01-01T00:00:00Z stdout F {} says hello\n", container.name);
            std::fs::write(&container.log_path, line).expect("a log");
        }
        let name = container.name.clone();
        self.started.lock().expect("unlocked").push(container);
        if missing {
            let message = "exec: \"/missing\": no such file or directory".to_owned();
            return Box::pin(std::future::ready(Err(StartError::NotFound(message))));
        }
        if name.starts_with("once") {
            self.end(&name, 0, "done");
        }
        Box::pin(std::future::ready(Ok(1)))
    }

    fn signal<'a>(&'a self, container: &'a str, signal: i32) -> BoxFuture<'a, Result<(), StartError>> {
        self.end(container, 128 + signal, "");
        Box::pin(std::future::ready(Ok(())))
    }

    fn exec<'a>(&'a self, _: &'a str, argv: Vec<String>, _: bool, _: bool) -> BoxFuture<'a, Result<Exec, StartError>> {
        let (exited, exit) = oneshot::channel();
        let code = argv.last().and_then(|word| word.parse().ok()).unwrap_or(0);
        exited.send(ExecExit { code, signal: None }).expect("awaited");
        let exec = Exec {
            stdin: None,
            stdout: Box::new(io::Cursor::new(argv.join(" ").into_bytes())),
            stderr: None,
            terminal: None,
            exit,
            hold: oneshot::channel().0,
        };
        self.execs.lock().expect("unlocked").push(argv.join(" "));
        Box::pin(std::future::ready(Ok(exec)))
    }

    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<tokio::net::TcpStream>> {
        Box::pin(tokio::net::TcpStream::connect(("127.0.0.1", port)))
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        *self.exits.lock().expect("unlocked") = None;
        Box::pin(std::future::ready(()))
    }
}

impl Machine for Fake {
    fn create(&self, spec: SandboxSpec, _: bool, _: Vec<Sysctl>) -> BoxFuture<'_, Result<Made, String>> {
        let (sender, exits) = mpsc::channel(16);
        let pod = Arc::new(FakePod {
            hosts: Mutex::default(),
            started: Mutex::default(),
            execs: Mutex::default(),
            exits: Mutex::new(Some(sender)),
            spec,
        });
        self.pods
            .lock()
            .expect("unlocked")
            .insert(pod.spec.name.clone(), pod.clone());
        let ips = vec!["127.0.0.1".parse().expect("an address")];
        Box::pin(std::future::ready(Ok(Made { pod, exits, ips })))
    }

    fn connect(&self) -> Connect {
        host_connect()
    }
}

/// A kubelet with its API; everything ends when it is dropped.
struct Bench {
    client: Client,
    fake: Arc<Fake>,
    pods: Arc<Pods>,
    tasks: TaskGroup,
    _temp: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let api = Api::in_memory();
        let client = Client::new(api.clone(), "system:test");
        for name in ["default", "kube-node-lease"] {
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            match client.create(&resources::NAMESPACES, namespace).await {
                Err(status) if !status.is_already_exists() => panic!("{status}"),
                _ => {}
            }
        }
        // What controllers make in every namespace.
        let meta = |name: &str| json!({ "name": name, "namespace": "default" });
        for name in ["default", "robot"] {
            let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(name) });
            client
                .create(&resources::SERVICE_ACCOUNTS, account)
                .await
                .expect("created");
        }
        let root = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("kube-root-ca.crt"), "data": { "ca.crt": "PEM" } });
        client.create(&resources::CONFIG_MAPS, root).await.expect("created");
        let mut bench = Self {
            client,
            fake: Arc::default(),
            pods: Pods::new(),
            tasks: TaskGroup::new("test"),
            _temp: tempfile::tempdir().expect("a directory"),
        };
        bench.begin(api);
        bench
    }

    fn begin(&mut self, api: Arc<Api>) {
        let dir = self._temp.path();
        let (recorder, news) = Recorder::new();
        let mut images = Images::default();
        images.add("known=/bin/known --flag").expect("well formed");
        let tokens: Tokens = Arc::new(|request: TokenRequest| {
            let token = format!(
                "{}/{} for {}",
                request.namespace, request.service_account, request.pod_name
            );
            let expires = Timestamp::now() + jiff::SignedDuration::from_secs(request.seconds);
            Box::pin(std::future::ready(Ok(Token { token, expires })))
        });
        let node = Node {
            identity: node::Identity {
                name: "node1".into(),
                zone: "zone1".into(),
                addresses: vec!["192.168.77.11".parse().expect("an address")],
                pod_cidrs: vec!["10.244.1.0/24".into()],
            },
            dir: dir.join("run"),
            log_dir: dir.join("logs"),
            images: Arc::new(images),
            dns: ClusterDns {
                servers: Vec::new(),
                domain: "cluster.local".into(),
                host: crate::sandbox::ResolvConf::default(),
            },
            masks: Vec::new(),
            host_paths: HostPaths::default(),
            client: Client::new(api, "system:node:node1"),
            tokens,
            machine: self.fake.clone(),
            recorder,
            pods: self.pods.clone(),
            clock: Arc::new(Timestamp::now),
        };
        self.tasks.serve("kubelet", |drain| async move {
            serve(Arc::new(node), news, drain).await.expect("registered");
        });
    }

    async fn create(&self, resource: &corten_apiserver::ResourceId, object: Value) -> Object {
        self.client
            .create(resource, object)
            .await
            .unwrap_or_else(|status| panic!("{status}"))
    }

    async fn pod(&self, name: &str, mut spec: Value) -> Object {
        spec["nodeName"] = "node1".into();
        let meta = json!({ "name": name, "namespace": "default", "labels": { "app": name } });
        self.create(
            &resources::PODS,
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec }),
        )
        .await
    }

    /// The pod as soon as `holds` of it.
    async fn until(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Object {
        let mut watch = self
            .client
            .watch(&resources::PODS, Some("default"))
            .await
            .expect("a watch");
        let mut latest = Value::Null;
        let found = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let pod = match watch.next().await.expect("the API is there") {
                    Event::Added(pod) | Event::Modified { new: pod, .. } => pod,
                    Event::Deleted(_) | Event::Synced => continue,
                };
                if pod["metadata"]["name"] == *name {
                    latest = pod["status"].clone();
                    if holds(&pod) {
                        return pod;
                    }
                }
            }
        });
        found
            .await
            .unwrap_or_else(|_| panic!("pod {name} never {what}; it is {latest:#}"))
    }

    async fn ready(&self, name: &str) -> Object {
        self.until(name, "became ready", |pod| condition(pod, "Ready")["status"] == "True")
            .await
    }

    fn fake(&self, name: &str) -> Arc<FakePod> {
        self.fake
            .pods
            .lock()
            .expect("unlocked")
            .get(name)
            .cloned()
            .expect("a sandbox")
    }

    /// The pod's events as `Reason: message`, once one of them begins so.
    async fn events_with(&self, name: &str, beginning: &str) -> Vec<String> {
        let mut watch = self
            .client
            .watch(&resources::EVENTS, Some("default"))
            .await
            .expect("a watch");
        let mut seen = Vec::new();
        let found = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let event = match watch.next().await.expect("the API is there") {
                    Event::Added(event) => event,
                    _ => continue,
                };
                if event["involvedObject"]["name"] == *name {
                    let told = format!(
                        "{}: {}",
                        event["reason"].as_str().unwrap_or_default(),
                        event["message"].as_str().unwrap_or_default()
                    );
                    let found = told.starts_with(beginning);
                    seen.push(told);
                    if found {
                        return;
                    }
                }
            }
        });
        if found.await.is_err() {
            panic!("no event {beginning:?} among {seen:#?}");
        }
        seen
    }
}

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    let conditions = pod["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_pod_becomes_ready_and_is_deleted() {
    let bench = Bench::new().await;
    let begun = Instant::now();
    bench
        .pod("web", json!({ "containers": [{ "name": "app", "image": "known:1" }] }))
        .await;
    let pod = bench.ready("web").await;
    println!("ready after {:?}", begun.elapsed());
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["podIP"], "127.0.0.1");
    assert_eq!(pod["status"]["hostIP"], "192.168.77.11");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    let of = &pod["status"]["containerStatuses"][0];
    assert_eq!(
        (&of["ready"], &of["started"], &of["restartCount"]),
        (&json!(true), &json!(true), &json!(0))
    );
    assert!(
        of["containerID"].as_str().is_some_and(|id| id.starts_with("corten://")),
        "{of}"
    );
    assert_eq!(bench.fake("web").latest("app").argv, ["/bin/known", "--flag"]);
    assert_eq!(bench.fake("web").hosts.lock().expect("unlocked")[0].names, ["web"]);
    let events = bench.events_with("web", "Started").await;
    assert_eq!(
        events,
        [
            "Pulled: Container image \"known:1\" already present on machine",
            "Created: Created container: app",
            "Started: Started container app"
        ]
    );

    let options = DeleteOptions::default();
    let deleted = bench
        .client
        .delete(&resources::PODS, "default", "web", options)
        .await
        .expect("deleted");
    assert!(
        deleted["metadata"]["deletionTimestamp"].is_string(),
        "it ends gracefully"
    );
    gone(&bench, "web").await;
    bench.events_with("web", "Killing: Stopping container app").await;
}

async fn gone(bench: &Bench, name: &str) {
    let mut watch = bench
        .client
        .watch(&resources::PODS, Some("default"))
        .await
        .expect("a watch");
    let found = tokio::time::timeout(Duration::from_secs(20), async {
        let mut there = false;
        loop {
            match watch.next().await.expect("the API is there") {
                Event::Added(pod) => there |= pod["metadata"]["name"] == *name,
                Event::Deleted(pod) if pod["metadata"]["name"] == *name => return,
                Event::Synced if !there => return,
                _ => {}
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("pod {name} is still there"));
}

#[tokio::test]
async fn a_command_that_does_not_exist_says_so() {
    let bench = Bench::new().await;
    bench
        .pod(
            "bad",
            json!({ "containers": [{ "name": "app", "image": "any", "command": ["/missing"] }] }),
        )
        .await;
    let pod = bench
        .until("bad", "backed off", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(
        (&last["exitCode"], &last["reason"]),
        (&json!(128), &json!("StartError"))
    );
    let events = bench.events_with("bad", "Failed: Error: exec: \"/missing\"").await;
    assert!(
        events[0].starts_with("HostFiles: Container image \"any\" is not pulled"),
        "{events:?}"
    );
    bench
        .events_with(
            "bad",
            "BackOff: Back-off restarting failed container app in pod bad_default(",
        )
        .await;
}

#[tokio::test]
async fn an_unknown_image_without_a_command_says_what_to_do() {
    let bench = Bench::new().await;
    bench
        .pod("img", json!({ "containers": [{ "name": "app", "image": "nginx:1" }] }))
        .await;
    let pod = bench
        .until("img", "backed off", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"
        })
        .await;
    let message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
        .as_str()
        .expect("a message");
    assert!(message.contains("--image nginx=COMMAND"), "{message}");
    assert_eq!(pod["status"]["phase"], "Pending");
}

#[tokio::test]
async fn volumes_and_variables_come_from_the_api_and_follow_it() {
    let bench = Bench::new().await;
    let spec = json!({
        "serviceAccountName": "robot",
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "app", "image": "x", "command": ["run", "$(GREETING)"], "args": ["$(POD)"],
            "env": [
                { "name": "GREETING", "valueFrom": { "configMapKeyRef": { "name": "conf", "key": "greeting" } } },
                { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            ],
            "volumeMounts": [
                { "name": "conf", "mountPath": "/conf" }, { "name": "conf", "mountPath": "/one", "subPath": "greeting" },
                { "name": "token", "mountPath": "/token" }, { "name": "tmp", "mountPath": "/tmp" },
            ],
        }],
        "volumes": [
            { "name": "conf", "configMap": { "name": "conf" } },
            { "name": "tmp", "emptyDir": {} },
            { "name": "token", "projected": { "sources": [
                { "serviceAccountToken": { "path": "token" } },
                { "downwardAPI": { "items": [{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
            ] } },
        ],
    });
    bench.pod("vol", spec).await;
    bench
        .events_with(
            "vol",
            "FailedMount: MountVolume.SetUp failed for volume \"conf\" : configmap \"conf\" not found",
        )
        .await;

    // The pod does not wait for the next attempt once the ConfigMap is there.
    let conf = |greeting: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "conf", "namespace": "default" }, "data": { "greeting": greeting } });
    bench.create(&resources::CONFIG_MAPS, conf("hello")).await;
    bench.ready("vol").await;
    let started = bench.fake("vol").latest("app");
    assert_eq!(started.argv, ["run", "hello", "vol"]);
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let [all, one, token, tmp] = &started.mounts[..] else {
        panic!("{:?}", started.mounts)
    };
    assert_eq!(read(&all.source.join("greeting")), "hello");
    assert!(all.read_only && !tmp.read_only);
    assert_eq!(
        read(&one.source.join(one.sub_path.as_ref().expect("a sub-path"))),
        "hello"
    );
    assert_eq!(read(&token.source.join("token")), "default/robot for vol");
    assert_eq!(read(&token.source.join("labels")), "app=\"vol\"");

    bench
        .client
        .update(&resources::CONFIG_MAPS, conf("bye"))
        .await
        .expect("updated");
    let labels = Patch::Merge(json!({ "metadata": { "labels": { "app": "new" } } }));
    bench
        .client
        .patch(&resources::PODS, "default", "vol", None, labels)
        .await
        .expect("patched");
    let deadline = Instant::now() + Duration::from_secs(20);
    while read(&all.source.join("greeting")) != "bye" || read(&token.source.join("labels")) != "app=\"new\"" {
        assert!(Instant::now() < deadline, "the volumes did not follow");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn logs_are_read_while_the_container_runs_and_after_it_was_restarted() {
    let bench = Bench::new().await;
    bench
        .pod("log", json!({ "containers": [{ "name": "app", "image": "known" }] }))
        .await;
    let pod = bench.ready("log").await;
    let options = LogOptions {
        container: "app".into(),
        ..LogOptions::default()
    };
    let previous = LogOptions {
        previous: true,
        ..options.clone()
    };
    let text = async |pod: &Value, options: &LogOptions| {
        let blocks: Vec<bytes::Bytes> = bench
            .pods
            .logs(pod, options.clone())
            .await
            .map_err(|status| status.message)?
            .try_collect()
            .await
            .expect("read");
        Ok::<_, String>(String::from_utf8_lossy(&blocks.concat()).into_owned())
    };
    assert_eq!(text(&pod, &options).await.as_deref(), Ok("app says hello\n"));
    let missing = "previous terminated container \"app\" in pod \"log\" not found";
    assert_eq!(text(&pod, &previous).await, Err(missing.to_owned()));
    let follow = LogOptions {
        follow: true,
        ..options.clone()
    };
    let (followed, ()) = tokio::join!(text(&pod, &follow), async {
        bench.fake("log").end("app", 3, "bad luck")
    });
    assert_eq!(followed.as_deref(), Ok("app says hello\n"));
    let pod = bench
        .until("log", "was restarted", |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(
        (&last["exitCode"], &last["message"], &last["reason"]),
        (&json!(3), &json!("bad luck"), &json!("Error"))
    );
    assert_eq!(text(&pod, &previous).await.as_deref(), Ok("app says hello\n"));
}

#[tokio::test]
async fn probes_decide_about_readiness_and_restarts() {
    let bench = Bench::new().await;
    let spec = json!({ "terminationGracePeriodSeconds": 1, "containers": [{
        "name": "app", "image": "known",
        "startupProbe": { "exec": { "command": ["startup", "0"] } },
        "readinessProbe": { "exec": { "command": ["readiness", "0"] } },
        "livenessProbe": { "exec": { "command": ["liveness", "9"] }, "failureThreshold": 1, "initialDelaySeconds": 1 },
    }] });
    bench.pod("probed", spec).await;
    bench.ready("probed").await;
    let asked = bench.fake("probed").execs.lock().expect("unlocked").clone();
    assert_eq!(asked[..2], ["startup 0", "readiness 0"]);
    bench
        .until("probed", "was restarted", |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    let events = bench.events_with("probed", "Killing").await;
    assert!(
        events.contains(&"Unhealthy: Liveness probe failed: liveness 9".to_owned()),
        "{events:?}"
    );
    assert!(
        events.contains(&"Killing: Container app failed liveness probe, will be restarted".to_owned()),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_pod_that_is_done_succeeds() {
    let bench = Bench::new().await;
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "once-before", "image": "known" }],
        "containers": [{ "name": "once", "image": "known" }],
    });
    bench.pod("job", spec).await;
    let pod = bench
        .until("job", "succeeded", |pod| pod["status"]["phase"] == "Succeeded")
        .await;
    let terminated = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&terminated["exitCode"], &terminated["reason"]),
        (&json!(0), &json!("Completed"))
    );
    assert_eq!(condition(&pod, "Ready")["reason"], "PodCompleted");
    assert_eq!(condition(&pod, "Initialized")["status"], "True");
}

#[tokio::test]
async fn the_node_registers_itself_and_keeps_its_lease() {
    let bench = Bench::new().await;
    let mut leases = bench
        .client
        .watch(&resources::LEASES, Some("kube-node-lease"))
        .await
        .expect("a watch");
    let lease = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(Event::Added(lease)) = leases.next().await {
                return lease;
            }
        }
    });
    let lease = lease.await.expect("a lease");
    assert_eq!(lease["spec"]["holderIdentity"], "node1");
    let node = bench
        .client
        .get(&resources::NODES, "", "node1")
        .await
        .expect("registered");
    assert_eq!(condition(&node, "Ready")["status"], "True");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "node1");
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], node["metadata"]["uid"]);
}
