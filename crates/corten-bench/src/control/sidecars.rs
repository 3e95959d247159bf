//! A thousand sidecars, each beside a pod of another service, in a mesh whose namespaces are isolated by a Sidecar: what L7
//! configuration costs the control plane.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use corten_grpc::{Channel, ProstCodec, Request, Streaming, Target};
use corten_identity::{RootSource, ServerAuthority};
use corten_proto::discovery::{DELTA_METHOD, DeltaDiscoveryRequest, Node};
use corten_proto::value::Kind;
use corten_proto::{Message, Struct, Value};
use corten_rt::TaskGroup;
use tokio::sync::{mpsc, watch};

use super::mesh::{Mesh, NAMESPACES, PODS_PER_SERVICE};
use super::process::Control;

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// All that sidecars ask for.
const TYPES: [&str; 4] = [CLUSTER, ENDPOINT, LISTENER, ROUTE];
/// Longer than any control plane gathers changes, so that each is pushed by itself.
const BETWEEN: Duration = Duration::from_millis(250);
/// Single changes of each kind whose way to all clients is measured.
const ROUNDS: usize = 50;
/// Room for whatever is sent.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What is measured, and its unit.
const FIGURES: [(&str, &str); 9] = [
    ("start to all served", "s"),
    ("CPU from start until all are served", "s"),
    ("resident with all served", "MB"),
    ("endpoint change to all interested, median", "ms"),
    ("endpoint change to all interested, worst of 50", "ms"),
    ("CPU an endpoint change", "ms"),
    ("route change to all interested, median", "ms"),
    ("route change to all interested, worst of 50", "ms"),
    ("CPU a route change", "ms"),
];

/// The mesh that sidecars are in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) pods: usize,
    /// Sidecars see the services of their own namespace alone; else everything.
    pub(super) isolated: bool,
}

impl Shape {
    /// What is measured of it, and the unit.
    pub(super) fn figures(self) -> impl Iterator<Item = (String, &'static str)> {
        let of = if self.isolated {
            "sidecars"
        } else {
            "sidecars that see all"
        };
        FIGURES.iter().map(move |(name, unit)| (format!("{of}: {name}"), *unit))
    }

    /// Fills a mesh and measures a control plane on it; `istiod`: that one instead of ours.
    pub(super) async fn measure_anew(self, istiod: Option<&Path>) -> Result<Vec<f64>> {
        println!("filling an API server with {} pods ...", self.pods);
        let mesh = Mesh::fill(self.pods).await?;
        self.measure(&mesh, istiod).await
    }

    /// Starts the control plane for the mesh, connects a client for each service, and changes endpoints and routes.
    pub(super) async fn measure(self, mesh: &Mesh, istiod: Option<&Path>) -> Result<Vec<f64>> {
        let services = self.pods / PODS_PER_SERVICE;
        if self.isolated {
            mesh.isolate().await?;
        }
        let began = Instant::now();
        let control = match istiod {
            Some(binary) => Control::start_istiod(mesh, binary).await?,
            None => Control::start(mesh).await?,
        };
        println!("connecting {services} sidecars ...");
        let mut clients = Clients::connect(mesh, &control, services, istiod.is_none()).await?;
        for type_url in TYPES {
            clients.all_told(type_url, &vec![0; services], |_| true).await?;
        }
        clients.nothing_else(TYPES.len() * services)?;
        let served = began.elapsed();
        let served_cpu = control.cpu()?;
        control.settled().await?;
        let resident = control.resident_mb()?;

        println!("changing endpoints and routes ...");
        let interested = |namespace: usize| move |client: usize| !self.isolated || client % NAMESPACES == namespace;
        let count = |namespace: usize| (0..services).filter(|client| interested(namespace)(*client)).count();
        let mut endpoints = Vec::new();
        let before = control.cpu()?;
        for round in 0..ROUNDS {
            let told = clients.told(ENDPOINT);
            let namespace = mesh.namespace_of_change(round);
            let began = Instant::now();
            mesh.change_one(round).await?;
            clients.all_told(ENDPOINT, &told, interested(namespace)).await?;
            endpoints.push(began.elapsed());
            clients.nothing_else(count(namespace))?;
            // Longer than the interval of pushes, so that each is a change of its own.
            tokio::time::sleep(BETWEEN).await;
        }
        let endpoint_cpu = (control.cpu()? - before) / ROUNDS as f64;
        let mut routes = Vec::new();
        let mut before = 0.0;
        for round in 0..=ROUNDS {
            let told = clients.told(ROUTE);
            let began = Instant::now();
            mesh.route(round).await?;
            clients.all_told(ROUTE, &told, interested(0)).await?;
            routes.push(began.elapsed());
            clients.nothing_else(count(0))?;
            tokio::time::sleep(BETWEEN).await;
            if round == 0 {
                // The first makes the route, which is none of the changes.
                routes.clear();
                before = control.cpu()?;
            }
        }
        let route_cpu = (control.cpu()? - before) / ROUNDS as f64;
        drop(clients);
        control.stop().await?;
        endpoints.sort_unstable();
        routes.sort_unstable();
        let milliseconds = |time: &Duration| time.as_secs_f64() * 1e3;
        Ok(vec![
            served.as_secs_f64(),
            served_cpu,
            resident,
            milliseconds(&endpoints[ROUNDS / 2]),
            milliseconds(&endpoints[ROUNDS - 1]),
            endpoint_cpu * 1e3,
            milliseconds(&routes[ROUNDS / 2]),
            milliseconds(&routes[ROUNDS - 1]),
            route_cpu * 1e3,
        ])
    }
}

/// A response, of which the names count.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, repeated, tag = "2")]
    resources: Vec<Named>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "3")]
    name: String,
}

/// How many responses each client has had of each of the types.
type Counts = Vec<[AtomicUsize; TYPES.len()]>;

struct Clients {
    counts: Arc<Counts>,
    news: watch::Receiver<usize>,
    /// Whoever is told anything else than what is expected is an error.
    strict: bool,
    expected: usize,
    _tasks: TaskGroup,
}

impl Clients {
    async fn connect(mesh: &Mesh, control: &Control, count: usize, strict: bool) -> Result<Clients> {
        let (sender, news) = watch::channel(0);
        let counts: Arc<Counts> = Arc::new((0..count).map(|_| Default::default()).collect());
        let tasks = TaskGroup::new("sidecars");
        let authority = Arc::new(ServerAuthority::new(RootSource::Pem(mesh.roots().await?)));
        let mut tokens = Vec::new();
        for namespace in 0..NAMESPACES {
            tokens.push(mesh.token_of(&format!("ns-{namespace}"), "default").await?);
        }
        for service in 0..count {
            let target = Target {
                address: Some(control.discovery),
                ..Target::new("istiod.istio-system.svc", 15012)
            };
            let authority = authority.clone();
            let channel = Channel::new(target, Arc::new(move || authority.config().map_err(Into::into)));
            let (counts, sender) = (counts.clone(), sender.clone());
            let token = tokens[service % NAMESPACES].clone();
            let id = mesh.sidecar(service * PODS_PER_SERVICE);
            tasks.spawn("sidecar", async move {
                let told = |type_url: &str| {
                    if let Some(at) = TYPES.iter().position(|known| *known == type_url) {
                        counts[service][at].fetch_add(1, Ordering::Relaxed);
                        sender.send_modify(|all| *all += 1);
                    }
                };
                if let Err(error) = listen(channel, &id, &token, told).await {
                    eprintln!("{id}: {error:#}");
                }
            });
        }
        Ok(Clients {
            counts,
            news,
            strict,
            expected: 0,
            _tasks: tasks,
        })
    }

    /// How many responses of a type each has had.
    fn told(&self, type_url: &str) -> Vec<usize> {
        let at = TYPES.iter().position(|known| *known == type_url).unwrap_or_default();
        let counts = self.counts.iter();
        counts.map(|client| client[at].load(Ordering::Relaxed)).collect()
    }

    /// Until each of those chosen has had more responses of a type than before.
    async fn all_told(&mut self, type_url: &str, before: &[usize], chosen: impl Fn(usize) -> bool) -> Result<()> {
        let mut news = self.news.clone();
        let missing = || {
            let now = self.told(type_url);
            let missing = (0..now.len()).filter(|client| chosen(*client) && now[*client] <= before[*client]);
            missing.count()
        };
        let outcome = tokio::time::timeout(Duration::from_secs(120), news.wait_for(|_| missing() == 0)).await;
        ensure!(outcome.is_ok(), "{} sidecars were not sent any {type_url}", missing());
        Ok(())
    }

    /// That there were so many responses more, of whatever type.
    fn nothing_else(&mut self, more: usize) -> Result<()> {
        self.expected += more;
        // The clients' own counts: who has counted may not have told it yet.
        let counts = self.counts.iter().flat_map(|client| client.iter());
        let all: usize = counts.map(|count| count.load(Ordering::Relaxed)).sum();
        let expected = self.expected;
        ensure!(
            !self.strict || all == expected,
            "{all} responses where {expected} were expected"
        );
        Ok(())
    }
}

/// Asks for clusters, then for the endpoints of these, for listeners, and for the routes of these, as Envoy does.
async fn listen(channel: Channel, id: &str, token: &str, told: impl Fn(&str)) -> Result<()> {
    let (sender, queue) = mpsc::channel(8);
    let requests = futures_util::stream::unfold(queue, async |mut queue| Some((queue.recv().await?, queue)));
    let mut request = Request::new(requests);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse()?);
    let first = DeltaDiscoveryRequest {
        node: Some(Node {
            id: id.to_owned(),
            metadata: Some(metadata(id)),
            ..Node::default()
        }),
        type_url: CLUSTER.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    sender.send(first).await?;
    let codec: ProstCodec<DeltaDiscoveryRequest, Response> = ProstCodec::default();
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let path = http::uri::PathAndQuery::from_static(DELTA_METHOD);
    let mut responses: Streaming<Response> = grpc.streaming(request, path, codec).await?.into_inner();
    let mut asked = BTreeSet::from([CLUSTER]);
    loop {
        let response = responses.message().await?.context("the server ended the stream")?;
        debug_assert!(response.encoded_len() > 0);
        let type_url = response.type_url.clone();
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        sender.send(acknowledgement).await?;
        let next: &[(&'static str, Vec<String>)] = match type_url.as_str() {
            CLUSTER => {
                let outbound = response.resources.into_iter().map(|resource| resource.name);
                let outbound = outbound.filter(|name| name.starts_with("outbound|")).collect();
                &[(ENDPOINT, outbound), (LISTENER, Vec::new())]
            }
            LISTENER => &[(ROUTE, vec!["80".to_owned(), "9000".to_owned()])],
            _ => &[],
        };
        for (type_url, names) in next {
            if asked.insert(type_url) {
                let request = DeltaDiscoveryRequest {
                    type_url: (*type_url).to_owned(),
                    resource_names_subscribe: names.clone(),
                    ..DeltaDiscoveryRequest::default()
                };
                sender.send(request).await?;
            }
        }
        told(&type_url);
    }
}

/// What a sidecar says of itself, as far as it counts.
fn metadata(id: &str) -> Struct {
    let pod = id.split('~').nth(2).unwrap_or_default();
    let (name, namespace) = pod.split_once('.').unwrap_or_default();
    let said = [
        ("NAME", name),
        ("NAMESPACE", namespace),
        ("CLUSTER_ID", "Kubernetes"),
        ("MESH_ID", "cluster.local"),
        ("ISTIO_VERSION", "1.30.0"),
    ];
    let text = |value: &str| Value {
        kind: Some(Kind::StringValue(value.to_owned())),
    };
    Struct {
        fields: said.map(|(key, value)| (key.to_owned(), text(value))).into(),
    }
}
