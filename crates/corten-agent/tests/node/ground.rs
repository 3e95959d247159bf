//! The node: API server, agent, proxy, pods.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corten_agent::config::Config;
use corten_apiserver::pki::Pki;
use corten_apiserver::{Api, Client, DeleteOptions, Patch, ServerConfig, resources, serve};
use corten_enroll::{Backend, PodNetwork, PodRules, State};
use corten_linux::net::{LinkChange, LinkKind, NewLink, Route, Rtnl};
use corten_linux::nft::{Family, Nft, Transaction};
use corten_linux::{NetNs, fds};
use corten_proto::zds::workload_request::Payload;
use corten_proto::zds::{Ack, WorkloadRequest, WorkloadResponse, workload_response};
use corten_rt::TaskGroup;
use prost::Message;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;

use super::proxy::{Taken, echo, proxy};

/// The label of a namespace that is in the mesh.
pub(crate) const ON: &str = "ambient";
const NODE: &str = "node1";
const CHAIN: &str = r#"{"cniVersion":"1.0.0","name":"corten","plugins":[{"type":"bridge"}]}"#;
const PATIENCE: Duration = Duration::from_secs(40);

/// Waits for something to become true.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, wait).await.is_ok(),
        "waited in vain for {what}"
    );
}

fn up() -> LinkChange<'static> {
    LinkChange {
        up: Some(true),
        ..LinkChange::default()
    }
}

/// A pod: a namespace with an echo server, a process that names it, an object.
pub(crate) struct Pod {
    pub(crate) name: String,
    uid: String,
    number: u8,
    pub(crate) netns: Arc<NetNs>,
    process: Option<Child>,
}

impl Pod {
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 9, self.number, 2], port))
    }

    /// Somebody takes our rules away.
    pub(crate) fn flush(&self) {
        let mut nft = self.netns.run(Nft::open).unwrap().unwrap();
        nft.apply(&Transaction::remove(Family::Inet, "istio-ambient-nat"))
            .unwrap();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

/// A proxy that speaks ZDS.
pub(crate) struct Proxy {
    pods: Arc<Mutex<BTreeMap<String, (String, Taken)>>>,
    tasks: TaskGroup,
}

impl Proxy {
    /// Waits until it serves exactly the pods of these names.
    pub(crate) async fn served(&self, names: &str) {
        eventually(&format!("the proxy to serve {names:?}"), async || {
            let pods = self.pods.lock().unwrap();
            let mut served: Vec<&str> = pods.values().map(|(name, _)| name.as_str()).collect();
            served.sort_unstable();
            served.join(" ") == names
        })
        .await;
    }

    /// How many connections of a pod it took: outbound, inbound.
    pub(crate) fn taken(&self, name: &str) -> (usize, usize) {
        let pods = self.pods.lock().unwrap();
        pods.values().find(|(other, _)| other == name).unwrap().1.counts()
    }
}

pub(crate) struct Ground {
    dir: tempfile::TempDir,
    pub(crate) node: Arc<NetNs>,
    client: Client,
    api: TaskGroup,
    ports: (u16, u16),
    outside: SocketAddr,
    agent: Option<TaskGroup>,
    agent_ended: Option<tokio::sync::oneshot::Receiver<()>>,
    next: Mutex<u8>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Ground {
    pub(crate) async fn new(settings: &[(&str, &str)]) -> Ground {
        let mut rtnl = Rtnl::open().unwrap();
        rtnl.set_link(1, &up()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let api = Api::open(&dir.path().join("api")).unwrap();
        let pki = Pki::open(&dir.path().join("api")).unwrap();
        api.use_pki(&pki);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = TaskGroup::new("api");
        let server = ServerConfig {
            listeners: vec![listener],
            pki: pki.clone(),
            api: api.clone(),
        };
        serve(server, &tasks).unwrap();
        let kubeconfig = pki.kubeconfig("agent", &format!("https://{address}"));
        std::fs::write(dir.path().join("kubeconfig"), kubeconfig).unwrap();
        for (sub, file) in [("bin", None), ("net.d", Some("10-net.conflist")), ("fifo", None)] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
            if let Some(file) = file {
                std::fs::write(dir.path().join(sub).join(file), CHAIN).unwrap();
            }
        }
        std::fs::write(dir.path().join("program"), "the plugin").unwrap();
        let node = Arc::new(NetNs::current().unwrap());
        let outside = SocketAddr::from(([10, 9, 0, 1], 9090));
        rtnl.add_address(1, "10.9.0.1/32".parse().unwrap()).unwrap();
        echo(&node, outside);
        let client = Client::new(api, "test");
        for name in ["shop", "istio-system"] {
            create(&client, &resources::NAMESPACES, json!({"metadata": {"name": name}})).await;
        }
        let labels = json!({"k8s-app": "istio-cni-node"});
        let set = json!({
            "metadata": {"name": "istio-cni-node", "namespace": "istio-system"},
            "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "corten.dev/agent"}]},
            }},
        });
        create(&client, &resources::DAEMON_SETS, set).await;
        let mut ground = Ground {
            dir,
            node,
            client,
            api: tasks,
            ports: (free_port(), free_port()),
            outside,
            agent: None,
            agent_ended: None,
            next: Mutex::new(0),
        };
        ground.start_agent(settings).await;
        ground
    }

    /// A server outside of the pods.
    pub(crate) fn echo_on_node(&self) -> SocketAddr {
        self.outside
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(crate) async fn start_agent(&mut self, settings: &[(&str, &str)]) {
        let mut vars: BTreeMap<String, String> = [
            ("NODE_NAME", NODE.to_owned()),
            ("POD_NAME", "istio-cni-node-x7f2a".into()),
            ("POD_NAMESPACE", "istio-system".into()),
            ("KUBECONFIG", self.path("kubeconfig")),
            ("ZTUNNEL_UDS_ADDRESS", self.path("ztunnel.sock")),
            ("CNI_AGENT_RUN_DIR", self.path("run")),
            ("CORTEN_RUN_DIR_ON_HOST", self.path("run")),
            ("CORTEN_NODE_STATE_DIR", self.path("state")),
            ("CORTEN_HOST_PREFIX", "/".into()),
            ("CORTEN_CNI_BINARY", self.path("program")),
            ("CNI_BIN_TARGET_DIR", self.path("bin")),
            ("MOUNTED_CNI_NET_DIR", self.path("net.d")),
            ("CORTEN_LEAVE_DRAIN_MIN", "100ms".into()),
            ("CORTEN_PLUGIN_PATIENCE", "1s".into()),
            ("HEALTH_PORT", self.ports.0.to_string()),
            ("MONITORING_PORT", self.ports.1.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        vars.extend(settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let config = Config::read(&|name| vars.get(name).cloned()).unwrap();
        let tasks = TaskGroup::new("agent under test");
        let (ended, agent_ended) = tokio::sync::oneshot::channel();
        tasks.serve("agent", |drain| async move {
            corten_agent::run(config, drain).await.unwrap();
            ended.send(()).ok();
        });
        self.agent = Some(tasks);
        self.agent_ended = Some(agent_ended);
        let port = self.ports.0;
        eventually("the agent to be ready", async || {
            get(port, "/readyz").await.is_some_and(|text| text.contains(" 200 "))
        })
        .await;
    }

    /// As an upgrade does it: told to end, and waited for.
    pub(crate) async fn stop_agent(&mut self) {
        let late = self.agent.take().unwrap().shutdown(PATIENCE).await;
        assert!(late.is_empty(), "{late:?}");
        self.agent_ended.take().unwrap().await.unwrap();
    }

    /// The same, beside something else.
    pub(crate) fn agent_ending(&mut self) -> impl Future<Output = ()> + use<> {
        let (agent, ended) = (self.agent.take().unwrap(), self.agent_ended.take().unwrap());
        async move {
            let late = agent.shutdown(PATIENCE).await;
            assert!(late.is_empty(), "{late:?}");
            ended.await.unwrap();
        }
    }

    pub(crate) async fn end(mut self) {
        self.stop_agent().await;
        self.api.shutdown(Duration::from_secs(5)).await;
    }

    /// Labels the pods' namespace.
    pub(crate) async fn label(&self, mode: &str) {
        let mode = (!mode.is_empty()).then_some(mode);
        let patch = json!({"metadata": {"labels": {"istio.io/dataplane-mode": mode}}});
        self.patch(&resources::NAMESPACES, "", "shop", patch).await;
    }

    /// Labels a pod.
    pub(crate) async fn relabel(&self, name: &str, labels: Value) {
        let patch = json!({"metadata": {"labels": labels}});
        self.patch(&resources::PODS, "shop", name, patch).await;
    }

    async fn patch(&self, id: &corten_apiserver::ResourceId, namespace: &str, name: &str, patch: Value) {
        let patched = self.client.patch(id, namespace, name, None, Patch::Merge(patch)).await;
        patched.expect("patched");
    }

    /// Waits for the annotation.
    pub(crate) async fn redirection(&self, name: &str, value: Option<&str>) {
        eventually(&format!("{name} to be {value:?}"), async || {
            let pod = self.client.get(&resources::PODS, "shop", name).await.unwrap();
            pod["metadata"]["annotations"]["ambient.istio.io/redirection"].as_str() == value
        })
        .await;
    }

    /// Waits for an event about a pod with these words.
    pub(crate) async fn event(&self, name: &str, words: &str) {
        eventually(&format!("an event about {name} with {words:?}"), async || {
            let events = self
                .client
                .list(&resources::EVENTS, Some("shop"), None, None)
                .await
                .unwrap();
            events.iter().any(|event| {
                event["involvedObject"]["name"] == name
                    && event["message"].as_str().is_some_and(|text| text.contains(words))
            })
        })
        .await;
    }

    /// Waits for a line of the agent's metrics.
    pub(crate) async fn metric(&self, line: &str) {
        let port = self.ports.1;
        eventually(&format!("the metric {line}"), async || {
            let text = get(port, "/metrics").await.unwrap_or_default();
            text.lines().any(|found| found == line)
        })
        .await;
    }

    pub(crate) fn is_installed(&self) -> bool {
        let chain = std::fs::read_to_string(self.dir.path().join("net.d/10-net.conflist")).unwrap();
        let program = self.dir.path().join("bin/istio-cni").exists();
        assert_eq!(program, chain.contains("istio-cni"));
        program
    }

    /// Waits until the plugin would find these namespaces to be outside of the mesh, were the agent away.
    pub(crate) async fn outside(&self, names: &str) {
        let path = self.dir.path().join("run").join(corten_cni::OUTSIDE);
        eventually(&format!("{names} to be outside"), async || {
            std::fs::read_to_string(&path).is_ok_and(|text| text == names)
        })
        .await;
    }

    /// A proxy of the node has kept something.
    pub(crate) fn proxy_kept(&self, name: &str) {
        let state = self.dir.path().join("state");
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(state.join(name), "x").unwrap();
    }

    /// What an agent that has gone for good has left: files, and rules in a pod.
    pub(crate) fn left_behind(&self, pod: &Pod) -> Vec<String> {
        let mut left = Vec::new();
        left.extend(
            ["run", "state"]
                .into_iter()
                .filter(|sub| self.dir.path().join(sub).exists())
                .map(str::to_owned),
        );
        for sub in ["bin", "net.d"] {
            let entries = std::fs::read_dir(self.dir.path().join(sub)).unwrap();
            let names = entries.map(|entry| format!("{sub}/{}", entry.unwrap().file_name().display()));
            left.extend(names.filter(|name| name != "net.d/10-net.conflist"));
        }
        if self.dir.path().join("ztunnel.sock").exists() {
            left.push("ztunnel.sock".to_owned());
        }
        if std::fs::read_to_string(self.dir.path().join("net.d/10-net.conflist")).unwrap() != CHAIN {
            left.push("another configuration".to_owned());
        }
        let mut network = PodNetwork::open(pod.netns.clone(), Backend::Nftables).unwrap();
        let state = network.state(&PodRules::default()).unwrap();
        if state != State::Absent {
            left.push(format!("{state:?}"));
        }
        left
    }

    /// A pod whose sidecar got no redirection, as its validating container found.
    pub(crate) async fn broken_pod(&self, name: &str) -> Pod {
        let pod = self.new_pod(name).await;
        let annotations = json!({"metadata": {"annotations": {"sidecar.istio.io/status": "{}"}}});
        self.patch(&resources::PODS, "shop", name, annotations).await;
        let ended = json!({"terminated": {"exitCode": 126, "reason": "Error"}});
        let container = json!({
            "name": "istio-validation", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended,
        });
        let status = json!({"status": {"phase": "Pending", "initContainerStatuses": [container]}});
        let patched = self
            .client
            .patch(&resources::PODS, "shop", name, Some("status"), Patch::Merge(status))
            .await;
        patched.expect("patched");
        pod
    }

    /// Waits for a label.
    pub(crate) async fn labelled(&self, name: &str, key: &str, value: &str) {
        eventually(&format!("{name} to be labelled"), async || {
            let pod = self.client.get(&resources::PODS, "shop", name).await.unwrap();
            pod["metadata"]["labels"][key] == value
        })
        .await;
    }

    pub(crate) async fn daemon_set_gone(&self) {
        let options = DeleteOptions::default();
        let gone = self
            .client
            .delete(&resources::DAEMON_SETS, "istio-system", "istio-cni-node", options)
            .await;
        gone.unwrap();
    }

    /// A pod that runs: older than its membership.
    pub(crate) async fn pod(&self, name: &str) -> Pod {
        let mut pod = self.new_pod(name).await;
        pod.process = Some(self.process(&pod));
        self.run(&pod).await;
        pod
    }

    pub(crate) async fn pod_without_process(&self, name: &str) -> Pod {
        let pod = self.new_pod(name).await;
        self.run(&pod).await;
        pod
    }

    pub(crate) async fn new_pod(&self, name: &str) -> Pod {
        self.new_pod_with(name, json!({})).await
    }

    /// A pod as the plugin finds it: with its network, without an address that the API knew of.
    pub(crate) async fn new_pod_with(&self, name: &str, labels: Value) -> Pod {
        let number = {
            let mut next = self.next.lock().unwrap();
            *next += 1;
            *next
        };
        let object = json!({
            "metadata": {"name": name, "namespace": "shop", "labels": labels},
            "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "corten.dev/echo"}]},
        });
        let created = create(&self.client, &resources::PODS, object).await;
        let netns = Arc::new(NetNs::create().unwrap());
        let pod = Pod {
            name: name.to_owned(),
            uid: created["metadata"]["uid"].as_str().unwrap().to_owned(),
            number,
            netns,
            process: None,
        };
        cable(&pod);
        echo(&pod.netns, pod.address(8080));
        pod
    }

    /// The kubelet says that it runs.
    async fn run(&self, pod: &Pod) {
        let ip = pod.address(0).ip();
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
        let patch = Patch::Merge(status);
        let patched = self
            .client
            .patch(&resources::PODS, "shop", &pod.name, Some("status"), patch)
            .await;
        patched.expect("patched");
    }

    /// A process in the pod's namespace with the pod's uid as its argument; it waits for somebody to write to it.
    fn process(&self, pod: &Pod) -> Child {
        let dir = self.dir.path().join("fifo");
        let made = Command::new("mkfifo").arg(dir.join(&pod.uid)).status().unwrap();
        assert!(made.success());
        let mut command = Command::new("cat");
        command
            .arg0("corten-pod")
            .arg(&pod.uid)
            .current_dir(&dir)
            .stdin(Stdio::null());
        pod.netns.run(|| command.spawn()).unwrap().unwrap()
    }

    pub(crate) async fn delete(&self, pod: Pod) {
        let options = DeleteOptions {
            grace_seconds: Some(0),
            ..DeleteOptions::default()
        };
        self.client
            .delete(&resources::PODS, "shop", &pod.name, options)
            .await
            .unwrap();
    }

    /// What the plugins before ours answered.
    pub(crate) fn previous(&self, pod: &Pod) -> Value {
        json!({"cniVersion": "1.0.0", "ips": [{"address": format!("{}/32", pod.address(0).ip())}]})
    }

    /// Calls the plugin as a container runtime does, with what the agent put into the chain.
    pub(crate) async fn plugin(&self, pod: &Pod) -> Result<Value, Value> {
        let chain = std::fs::read(self.dir.path().join("net.d/10-net.conflist")).unwrap();
        let chain: Value = serde_json::from_slice(&chain).unwrap();
        let mut config = chain["plugins"][1].clone();
        config["cniVersion"] = json!("1.0.0");
        config["prevResult"] = self.previous(pod);
        let netns = pod.netns.path().display().to_string();
        let args = format!(
            "K8S_POD_NAMESPACE=shop;K8S_POD_NAME={};K8S_POD_UID={}",
            pod.name, pod.uid
        );
        let call = move || {
            let variable = |name: &str| match name {
                "CNI_COMMAND" => Some("ADD".to_owned()),
                "CNI_NETNS" => Some(netns.clone()),
                "CNI_ARGS" => Some(args.clone()),
                _ => None,
            };
            let mut agent = corten_cni::agent::Socket::default();
            corten_cni::run(&variable, config.to_string().as_bytes(), &mut agent)
        };
        tokio::task::spawn_blocking(call).await.unwrap().map(Option::unwrap)
    }

    /// A proxy that connects, and serves what it is told to for as long as it lives.
    pub(crate) fn proxy(&self) -> Proxy {
        let proxy = Proxy {
            pods: Arc::default(),
            tasks: TaskGroup::new("proxy"),
        };
        self.connect(&proxy);
        proxy
    }

    /// The proxy connects, once more if it was connected before.
    pub(crate) fn connect(&self, proxy: &Proxy) {
        let socket = connect(&self.dir.path().join("ztunnel.sock")).unwrap();
        let served = proxy.pods.clone();
        proxy.tasks.spawn("proxy", async move {
            // The agent's end ends it, too.
            serve_pods(&socket, &served).await.ok();
        });
    }
}

fn connect(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    fds::watched(socket)
}

async fn serve_pods(socket: &AsyncFd<OwnedFd>, pods: &Mutex<BTreeMap<String, (String, Taken)>>) -> io::Result<()> {
    let interest = tokio::io::Interest::WRITABLE;
    let mut named = BTreeSet::new();
    socket
        .async_io(interest, |socket| fds::send(socket, &[8, 1], &[]))
        .await?;
    loop {
        let mut buffer = [0; 1024];
        let receive = |socket: &OwnedFd| fds::receive(socket, &mut buffer);
        let (length, mut files) = socket.async_io(tokio::io::Interest::READABLE, receive).await?;
        if length == 0 {
            return Ok(());
        }
        let request = WorkloadRequest::decode(&buffer[..length]).map_err(io::Error::other)?;
        match request.payload.unwrap() {
            Payload::Add(add) => {
                let name = add.workload_info.unwrap().name;
                let netns = NetNs::from_fd(files.pop().expect("an add comes with a namespace"));
                let mut pods = pods.lock().unwrap();
                named.insert(add.uid.clone());
                pods.entry(add.uid).or_insert_with(|| (name, proxy(&netns)));
            }
            Payload::Del(del) => drop(pods.lock().unwrap().remove(&del.uid)),
            Payload::Keep(keep) => drop(named.insert(keep.uid)),
            Payload::SnapshotSent(_) => pods.lock().unwrap().retain(|uid, _| named.contains(uid)),
        }
        let payload = Some(workload_response::Payload::Ack(Ack::default()));
        let answer = WorkloadResponse { payload }.encode_to_vec();
        socket
            .async_io(interest, |socket| fds::send(socket, &answer, &[]))
            .await?;
    }
}

fn cable(pod: &Pod) {
    let mut here = Rtnl::open().unwrap();
    let name = format!("pod{}", pod.number);
    let cable = NewLink {
        name: &name,
        kind: LinkKind::Veth {
            peer: "eth0",
            change: LinkChange {
                netns: Some(pod.netns.as_fd()),
                ..LinkChange::default()
            },
        },
        change: up(),
    };
    here.add_link(&cable).unwrap();
    let mut there = pod.netns.run(Rtnl::open).unwrap().unwrap();
    for link in ["lo", "eth0"] {
        let link = there.link(link).unwrap().unwrap().index;
        there.set_link(link, &up()).unwrap();
    }
    let ends = [(&mut here, name.as_str(), 1), (&mut there, "eth0", 2)];
    for (rtnl, link, host) in ends {
        let link = rtnl.link(link).unwrap().unwrap().index;
        let address = format!("10.9.{}.{host}/24", pod.number);
        rtnl.add_address(link, address.parse().unwrap()).unwrap();
    }
    let gateway = SocketAddr::from(([10, 9, pod.number, 1], 0)).ip();
    there.set_route(&Route::default_via(gateway)).unwrap();
}

async fn create(client: &Client, id: &corten_apiserver::ResourceId, object: Value) -> Value {
    let created = client.create(id, object).await.expect("created");
    serde_json::to_value(&*created).unwrap()
}

/// A whole HTTP answer.
async fn get(port: u16, path: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text)
}
