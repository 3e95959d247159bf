//! What the tests stand on: an API server in this process, a control plane beside it, and raw discovery streams.

mod front;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use corten_api::crds::{Channel, definitions};
use corten_apiserver::{Api, Client, DeleteOptions, Patch, ServerConfig, pki::Pki, resources, serve};
use corten_control::{Addresses, Arguments, Settings};
use corten_grpc::{Channel as Connection, ProstCodec, Request, Status, Streaming, Target};
use corten_proto::discovery::{
    DELTA_METHOD, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node, SOTW_METHOD,
};
use corten_proto::{Struct, Value as ProtoValue, value::Kind};
use corten_rt::TaskGroup;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

pub(crate) use front::Front;

/// Nothing of these tests takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An API server.
pub(crate) struct Ground {
    api: Arc<Api>,
    client: Client,
    kube: kube::Client,
    tasks: TaskGroup,
    dir: tempfile::TempDir,
}

/// A control plane that is not ready yet.
pub(crate) struct Starting {
    http: SocketAddr,
    started: tokio::sync::oneshot::Receiver<Addresses>,
    tasks: TaskGroup,
}

/// A control plane.
pub(crate) struct Control {
    pub(crate) addresses: Addresses,
    tasks: TaskGroup,
    pub(crate) roots: String,
}

impl Ground {
    pub(crate) async fn start() -> Ground {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let api = Api::in_memory();
        let pki = Pki::open(dir.path()).expect("keys are made");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let tasks = TaskGroup::new("api server");
        let config = ServerConfig {
            listeners: vec![listener],
            pki: pki.clone(),
            api: api.clone(),
        };
        serve(config, &tasks).expect("it is served");
        let kubeconfig = pki.kubeconfig("test", &format!("https://{address}"));
        std::fs::write(dir.path().join("kubeconfig"), &kubeconfig).expect("it is written");
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&kubeconfig).expect("a kubeconfig");
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await;
        let kube = kube::Client::try_from(config.expect("a configuration")).expect("a client");
        let client = Client::new(api.clone(), "test");
        for definition in definitions(Channel::Standard) {
            let created = client.create(&resources::CUSTOM_RESOURCE_DEFINITIONS, definition).await;
            created.expect("the definition is accepted");
        }
        Ground {
            api,
            client,
            kube,
            tasks,
            dir,
        }
    }

    /// Two pods on the mesh behind a service, and the accounts of the node proxy.
    pub(crate) async fn mesh(&self) {
        for name in ["istio-system", "orders"] {
            self.create_object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
                .await;
        }
        for (namespace, name) in [("istio-system", "ztunnel"), ("orders", "web")] {
            let metadata = json!({"name": name, "namespace": namespace});
            self.create_object(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}))
                .await;
        }
        self.create_object(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "orders"},
            "spec": {"clusterIP": "10.96.0.10", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }))
        .await;
        for (name, address) in [("web-1", "10.0.0.1"), ("web-2", "10.0.0.2")] {
            self.create_object(pod("orders", name, address, "n1", "web")).await;
        }
    }

    pub(crate) async fn create_object(&self, object: Value) {
        let (api_version, kind) = (object["apiVersion"].clone(), object["kind"].clone());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.create(&text(&api_version), &text(&kind), object).await;
    }

    fn path(api_version: &str, kind: &str, namespace: &str) -> String {
        let plural = match kind {
            "AuthorizationPolicy" => "authorizationpolicies".to_owned(),
            "GatewayClass" => "gatewayclasses".to_owned(),
            kind => format!("{}s", kind.to_lowercase()),
        };
        let root = if api_version.contains('/') { "apis" } else { "api" };
        let place = if namespace.is_empty() {
            String::new()
        } else {
            format!("namespaces/{namespace}/")
        };
        format!("/{root}/{api_version}/{place}{plural}")
    }

    /// Creates an object and, where it has one, writes its status.
    pub(crate) async fn create(&self, api_version: &str, kind: &str, mut object: Value) {
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let path = Self::path(api_version, kind, &namespace);
        let body = object.to_string().into_bytes();
        let request = http::Request::post(&path)
            .header("content-type", "application/json")
            .body(body)
            .expect("a request");
        let created: Value = self.kube.request(request).await.expect("it is created");
        if let Some(status) = object.get("status") {
            let name = created["metadata"]["name"].as_str().expect("a name");
            self.patch(&format!("{path}/{name}/status"), &json!({"status": status}))
                .await;
        }
    }

    /// Creates an object, or says why not.
    pub(crate) async fn try_create(&self, object: &Value) -> Result<(), String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let namespace = text(&object["metadata"]["namespace"]);
        let path = Self::path(&text(&object["apiVersion"]), &text(&object["kind"]), &namespace);
        let request = http::Request::post(&path)
            .header("content-type", "application/json")
            .body(object.to_string().into_bytes())
            .expect("a request");
        let created = self.kube.request::<Value>(request).await;
        created.map(drop).map_err(|error| error.to_string())
    }

    /// Says how webhooks are reached.
    pub(crate) fn set_dialer(&self, dialer: Arc<dyn corten_apiserver::Dialer>) {
        self.api.set_dialer(dialer);
    }

    async fn patch(&self, path: &str, patch: &Value) {
        let request = http::Request::patch(path)
            .header("content-type", "application/merge-patch+json")
            .body(patch.to_string().into_bytes())
            .expect("a request");
        let _: Value = self.kube.request(request).await.expect("it is patched");
    }

    pub(crate) async fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
        let path = Self::path(api_version, kind, namespace);
        let path = if name.is_empty() {
            path
        } else {
            format!("{path}/{name}")
        };
        let request = http::Request::get(path).body(Vec::new()).expect("a request");
        self.kube.request(request).await.unwrap_or_default()
    }

    /// Writes what an object says, instead of what it said.
    pub(crate) async fn replace(&self, object: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let namespace = text(&object["metadata"]["namespace"]);
        let path = Self::path(&text(&object["apiVersion"]), &text(&object["kind"]), &namespace);
        self.patch(&format!("{path}/{}", text(&object["metadata"]["name"])), object)
            .await;
    }

    pub(crate) async fn patch_object(&self, api_version: &str, kind: &str, namespace: &str, name: &str, patch: Value) {
        let path = format!("{}/{name}", Self::path(api_version, kind, namespace));
        self.patch(&path, &patch).await;
    }

    pub(crate) async fn delete(&self, api_version: &str, kind: &str, namespace: &str, name: &str) {
        let path = format!("{}/{name}", Self::path(api_version, kind, namespace));
        let request = http::Request::delete(path).body(Vec::new()).expect("a request");
        let _: Value = self.kube.request(request).await.expect("it is deleted");
    }

    pub(crate) async fn patch_policy(&self, namespace: &str, name: &str, patch: Value) {
        let path = Self::path("security.istio.io/v1", "AuthorizationPolicy", namespace);
        self.patch(&format!("{path}/{name}"), &patch).await;
    }

    pub(crate) async fn patch_pod(&self, namespace: &str, name: &str, patch: Value) {
        let patched = self
            .client
            .patch(&resources::PODS, namespace, name, Some("status"), Patch::Merge(patch))
            .await;
        patched.expect("it is patched");
    }

    pub(crate) async fn delete_pod(&self, namespace: &str, name: &str) {
        let options = DeleteOptions {
            grace_seconds: Some(0),
            ..DeleteOptions::default()
        };
        let deleted = self.client.delete(&resources::PODS, namespace, name, options).await;
        deleted.expect("it is deleted");
    }

    pub(crate) async fn token(&self, namespace: &str, account: &str, audience: &str) -> String {
        let request = json!({"spec": {"audiences": [audience], "expirationSeconds": 3600}});
        let answer = self
            .client
            .create_token(namespace, account, &request)
            .await
            .expect("a token");
        answer["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// Starts a control plane, and waits until it serves.
    pub(crate) async fn control(&self, arguments: &[&str]) -> Control {
        self.started(arguments, &[], "istiod").await
    }

    /// One with variables in its environment.
    pub(crate) async fn control_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Control {
        self.started(arguments, variables, "istiod").await
    }

    /// One of several, by the name of its pod.
    pub(crate) async fn replica(&self, pod: &str) -> Control {
        self.started(&[], &[], pod).await
    }

    /// Starts a control plane that reaches the API server by its front only.
    pub(crate) fn start_behind(&self, front: &Front) -> Starting {
        let kubeconfig = self.dir.path().join("front");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "front",
            "clusters": [{"name": "front", "cluster": {"server": format!("http://{}", front.address)}}],
            "contexts": [{"name": "front", "context": {"cluster": "front", "user": ""}}],
            "users": [{"name": "", "user": {}}],
        });
        std::fs::write(&kubeconfig, text.to_string()).expect("it is written");
        // Its port must be known before it is ready. No other program uses such an address, so that what is free on it stays free.
        let [.., high, low] = std::process::id().to_be_bytes();
        let free = std::net::TcpListener::bind((std::net::Ipv4Addr::new(127, 99, high, low), 0));
        let http = free.and_then(|free| free.local_addr()).expect("a free port");
        let settings = resolved(&kubeconfig, &["--httpAddr", &http.to_string()], &[], "istiod");
        let tasks = TaskGroup::new("control");
        let (sender, started) = tokio::sync::oneshot::channel();
        let group = tasks.clone();
        tasks.serve("start", async move |_| {
            let addresses = corten_control::start(&settings, &group).await.expect("it starts");
            let _ = sender.send(addresses);
        });
        Starting { http, started, tasks }
    }

    async fn started(&self, arguments: &[&str], variables: &[(&str, &str)], pod: &str) -> Control {
        let settings = resolved(&self.dir.path().join("kubeconfig"), arguments, variables, pod);
        let tasks = TaskGroup::new("control");
        let started = tokio::time::timeout(PATIENCE, corten_control::start(&settings, &tasks)).await;
        let addresses = started.expect("it starts in time").expect("it starts");
        Control {
            addresses,
            tasks,
            roots: self.roots().await,
        }
    }

    /// The roots of the authority that a control plane made.
    async fn roots(&self) -> String {
        let secret = self.get("v1", "Secret", "istio-system", "istio-ca-secret").await;
        let entry = &secret["data"]["ca-cert.pem"];
        let roots = entry.as_str().unwrap_or_else(|| panic!("no root in {secret}"));
        String::from_utf8(decode_base64(roots)).expect("PEM")
    }

    /// A delta stream as the node proxy of `n1`, with a token for the audience (none where it is empty).
    pub(crate) async fn open(
        &self,
        control: &Control,
        audience: &str,
    ) -> Result<Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>, Status> {
        self.open_on(control, audience, "n1").await
    }

    /// Likewise of another node.
    pub(crate) async fn open_on(
        &self,
        control: &Control,
        audience: &str,
        node: &str,
    ) -> Result<Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>, Status> {
        let token = match audience {
            "" => None,
            audience => Some(self.token("istio-system", "ztunnel", audience).await),
        };
        self.open_with(control, token.as_deref(), node).await
    }

    /// Likewise with a token.
    pub(crate) async fn open_with(
        &self,
        control: &Control,
        token: Option<&str>,
        node: &str,
    ) -> Result<Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>, Status> {
        let target = Target {
            address: control.addresses.secure_grpc,
            ..Target::new("istiod.istio-system.svc", 15012)
        };
        let roots = corten_identity::RootSource::Pem(control.roots.clone());
        let authority = corten_identity::ServerAuthority::new(roots);
        let channel = Connection::new(target, Arc::new(move || authority.config().map_err(Into::into)));
        Stream::open(channel, DELTA_METHOD, token, node).await
    }

    /// A stream of the other variant, in the clear.
    pub(crate) async fn open_state(
        &self,
        control: &Control,
    ) -> Result<Stream<DiscoveryRequest, DiscoveryResponse>, Status> {
        let target = Target {
            address: control.addresses.grpc,
            ..Target::new("istiod.istio-system.svc", 15010)
        };
        Stream::open(Connection::plaintext(target), SOTW_METHOD, None, "n1").await
    }

    pub(crate) async fn eventually(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds().await {
            assert!(tokio::time::Instant::now() < deadline, "{what} did not come");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn stop(self) {
        self.tasks.shutdown(Duration::from_secs(5)).await;
        self.api.close();
    }
}

/// The settings of a control plane with ports of its own.
fn resolved(kubeconfig: &Path, arguments: &[&str], variables: &[(&str, &str)], pod: &str) -> Settings {
    let own = [
        "corten-control",
        "--grpcAddr=127.0.0.1:0",
        "--secureGRPCAddr=127.0.0.1:0",
        "--monitoringAddr=",
        "--httpAddr=127.0.0.1:0",
        "--httpsAddr=127.0.0.1:0",
        "--kubeconfig",
        kubeconfig.to_str().expect("a path in UTF-8"),
    ];
    let given = |name: &str| arguments.contains(&name);
    let own = own
        .iter()
        .filter(|own| !(given("--httpAddr") && own.starts_with("--httpAddr=")));
    let arguments = Arguments::try_parse_from(own.chain(arguments)).expect("valid arguments");
    let own = [("POD_NAME", pod)];
    let variable = |name: &str| {
        let mut all = own.iter().chain(variables);
        all.find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    };
    Settings::resolve(&arguments, variable).expect("valid settings")
}

impl Starting {
    /// A GET on the HTTP port: status and body; `None`: it does not listen yet.
    pub(crate) async fn try_get(&self, path: &str) -> Option<(u16, String)> {
        tokio::net::TcpStream::connect(self.http).await.ok()?;
        Some(get(self.http, path).await)
    }

    /// Waits until it serves.
    pub(crate) async fn ready(self, ground: &Ground) -> Control {
        let started = tokio::time::timeout(PATIENCE, self.started).await;
        let addresses = started.expect("it starts in time").expect("it starts");
        Control {
            addresses,
            tasks: self.tasks,
            roots: ground.roots().await,
        }
    }
}

impl Control {
    /// A GET on the HTTP port: status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.addresses.http.expect("it listens"), path).await
    }

    pub(crate) async fn stop(self) {
        let late = self.tasks.shutdown(Duration::from_secs(15)).await;
        assert_eq!(late, Vec::<String>::new(), "these did not end");
    }
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it accepts");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    (status, body.to_owned())
}

/// A web server with one page, for as long as the page can be written.
pub(crate) async fn web_server(page: String) -> (SocketAddr, tokio::sync::watch::Sender<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (sender, receiver) = tokio::sync::watch::channel(page);
    let tasks = TaskGroup::new("web server");
    let holder = tasks.clone();
    tasks.serve("web server", async move |_| {
        let _holder = holder;
        while receiver.has_changed().is_ok() {
            let Ok((mut stream, _)) = listener.accept().await else {
                continue;
            };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let page = receiver.borrow().clone();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{page}", page.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, sender)
}

/// An open discovery stream.
#[derive(Debug)]
pub(crate) struct Stream<Q, A> {
    requests: mpsc::Sender<Q>,
    responses: Streaming<A>,
    node: String,
    /// The connection lives as long as its channel.
    _channel: Connection,
}

impl<Q, A> Stream<Q, A>
where
    Q: corten_proto::Message + Default + 'static,
    A: corten_proto::Message + Default + 'static,
{
    async fn open(channel: Connection, method: &'static str, token: Option<&str>, node: &str) -> Result<Self, Status> {
        let (requests, queue) = mpsc::channel(8);
        let stream = futures_util::stream::unfold(queue, async |mut queue| Some((queue.recv().await?, queue)));
        let mut request = Request::new(stream);
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.metadata_mut().insert("authorization", value);
        }
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let path = http::uri::PathAndQuery::from_static(method);
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        let responses = grpc.streaming(request, path, codec).await?.into_inner();
        Ok(Stream {
            requests,
            responses,
            node: node.to_owned(),
            _channel: channel,
        })
    }

    pub(crate) async fn next(&mut self) -> A {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        next.expect("a response in time")
            .expect("no error")
            .expect("a response")
    }

    /// How the server ends the stream.
    pub(crate) async fn refusal(&mut self) -> Status {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        next.expect("the end in time").map(|_| ()).expect_err("an error")
    }
}

impl Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
    pub(crate) async fn send(&self, mut request: DeltaDiscoveryRequest) {
        if request.node.is_some() {
            request.node = Some(node(&self.node));
        }
        self.requests.send(request).await.expect("the stream is open");
    }

    /// Likewise, as the node that the request says.
    pub(crate) async fn send_as_it_is(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.expect("the stream is open");
    }

    pub(crate) async fn acknowledge(&self, response: &DeltaDiscoveryResponse) {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.expect("the stream is open");
    }
}

impl Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
    pub(crate) async fn reject(&self, response: &DeltaDiscoveryResponse, reason: &str) {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: Some(corten_proto::discovery::Status {
                message: reason.to_owned(),
                ..Default::default()
            }),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.expect("the stream is open");
    }
}

impl Stream<DiscoveryRequest, DiscoveryResponse> {
    pub(crate) async fn send(&self, request: DiscoveryRequest) {
        self.requests.send(request).await.expect("the stream is open");
    }
}

/// What tests ask of a response.
pub(crate) trait Response {
    /// The names in it, sorted.
    fn names(&self) -> Vec<&str>;
    /// The message of a resource.
    fn body(&self, name: &str) -> &[u8];
}

impl Response for DeltaDiscoveryResponse {
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.resources.iter().map(|resource| &*resource.name).collect();
        names.sort_unstable();
        names
    }

    fn body(&self, name: &str) -> &[u8] {
        let found = self.resources.iter().find(|resource| resource.name == name);
        &found
            .and_then(|found| found.resource.as_ref())
            .expect("it is there")
            .value
    }
}

/// The first request for all resources of a type.
pub(crate) fn delta(type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node::default()),
        type_url: type_url.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// A node proxy.
pub(crate) fn node(name: &str) -> Node {
    let value = ProtoValue {
        kind: Some(Kind::StringValue(name.to_owned())),
    };
    let fields: HashMap<String, ProtoValue> = [("NODE_NAME".to_owned(), value)].into();
    Node {
        id: format!("ztunnel~10.0.0.100~ztunnel-{name}.istio-system~istio-system.svc.cluster.local"),
        metadata: Some(Struct {
            fields: fields.into_iter().collect(),
        }),
        ..Node::default()
    }
}

/// A pod on the mesh.
pub(crate) fn pod(namespace: &str, name: &str, address: &str, node: &str, account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "labels": {"app": "web"},
            "annotations": {"ambient.istio.io/redirection": "enabled"},
        },
        "spec": {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready(true)]},
    })
}

/// A pod's condition.
pub(crate) fn ready(ready: bool) -> Value {
    json!({"type": "Ready", "status": if ready { "True" } else { "False" }})
}

fn decode_base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text
        .bytes()
        .filter_map(|byte| alphabet.iter().position(|letter| *letter == byte));
    let bits: Vec<usize> = digits.collect();
    let groups = bits.chunks(4).flat_map(|group| {
        let number = group.iter().fold(0, |number, digit| number << 6 | digit) << (6 * (4 - group.len()));
        let bytes = [(number >> 16) as u8, (number >> 8) as u8, number as u8];
        bytes.into_iter().take(group.len() - 1)
    });
    groups.collect()
}
