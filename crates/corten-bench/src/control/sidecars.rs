//! A thousand sidecars, each beside a pod of another service, in a mesh whose namespaces are isolated by a Sidecar: what L7
//! configuration costs the control plane.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use corten_grpc::{Channel, ProstCodec, Request, Streaming, Target};
use corten_identity::{RootSource, ServerAuthority};
use corten_proto::Message;
use corten_proto::discovery::{DELTA_METHOD, DeltaDiscoveryRequest, Node};
use corten_rt::TaskGroup;
use tokio::sync::{mpsc, watch};

use super::mesh::{Mesh, NAMESPACES, PODS_PER_SERVICE};
use super::process::Control;

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Single changes of each kind whose way to all clients is measured.
const ROUNDS: usize = 50;
/// Room for whatever is sent.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What is measured, and its unit.
pub(super) const FIGURES: [(&str, &str); 9] = [
    ("sidecars: start to all served", "s"),
    ("sidecars: CPU from start until all are served", "s"),
    ("sidecars: resident with all served", "MB"),
    ("sidecars: endpoint change to all interested, median", "ms"),
    ("sidecars: endpoint change to all interested, worst of 50", "ms"),
    ("sidecars: CPU an endpoint change", "ms"),
    ("sidecars: route change to all interested, median", "ms"),
    ("sidecars: route change to all interested, worst of 50", "ms"),
    ("sidecars: CPU a route change", "ms"),
];

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

/// Starts the control plane for the mesh, connects a client for each service, and changes endpoints and routes.
pub(super) async fn measure(mesh: &Mesh, services: usize) -> Result<Vec<f64>> {
    mesh.isolate().await?;
    let began = Instant::now();
    let control = Control::start(mesh).await?;
    println!("connecting {services} sidecars ...");
    let mut clients = Clients::connect(mesh, &control, services).await?;
    // Of each type one response.
    clients.expect_more(4 * services).await?;
    let served = began.elapsed();
    let served_cpu = control.cpu()?;
    control.settled().await?;
    let resident = control.resident_mb()?;

    println!("changing endpoints and routes ...");
    let interested = services / NAMESPACES;
    let mut endpoints = Vec::new();
    let before = control.cpu()?;
    for round in 0..ROUNDS {
        let began = Instant::now();
        mesh.change_one(round).await?;
        clients.expect_more(interested).await?;
        endpoints.push(began.elapsed());
        // Longer than the interval of pushes, so that each is a change of its own.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let endpoint_cpu = (control.cpu()? - before) / ROUNDS as f64;
    mesh.route(0).await?;
    clients.expect_more(interested).await?;
    let mut routes = Vec::new();
    let before = control.cpu()?;
    for round in 1..=ROUNDS {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let began = Instant::now();
        mesh.route(round).await?;
        clients.expect_more(interested).await?;
        routes.push(began.elapsed());
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

struct Clients {
    responses: Arc<AtomicUsize>,
    news: watch::Receiver<usize>,
    expected: usize,
    _tasks: TaskGroup,
}

impl Clients {
    async fn connect(mesh: &Mesh, control: &Control, count: usize) -> Result<Clients> {
        let (sender, news) = watch::channel(0);
        let responses = Arc::new(AtomicUsize::new(0));
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
            let (responses, sender) = (responses.clone(), sender.clone());
            let token = tokens[service % NAMESPACES].clone();
            let id = mesh.sidecar(service * PODS_PER_SERVICE);
            tasks.spawn("sidecar", async move {
                let told = || {
                    let now = responses.fetch_add(1, Ordering::Relaxed) + 1;
                    sender.send_replace(now);
                };
                if let Err(error) = listen(channel, &id, &token, told).await {
                    eprintln!("{id}: {error:#}");
                }
            });
        }
        Ok(Clients {
            responses,
            news,
            expected: 0,
            _tasks: tasks,
        })
    }

    /// Until this many responses more have come to all of them.
    async fn expect_more(&mut self, count: usize) -> Result<()> {
        self.expected += count;
        let expected = self.expected;
        let all = self.news.wait_for(|responses| *responses >= expected);
        let outcome = tokio::time::timeout(Duration::from_secs(120), all).await;
        let responses = self.responses.load(Ordering::Relaxed);
        ensure!(outcome.is_ok(), "only {responses} of {expected} responses came");
        ensure!(
            responses == expected,
            "{responses} responses where {expected} were expected"
        );
        Ok(())
    }
}

/// Asks for clusters, then for the endpoints of these, for listeners, and for the routes of these, as Envoy does.
async fn listen(channel: Channel, id: &str, token: &str, told: impl Fn()) -> Result<()> {
    let (sender, queue) = mpsc::channel(8);
    let requests = futures_util::stream::unfold(queue, async |mut queue| Some((queue.recv().await?, queue)));
    let mut request = Request::new(requests);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse()?);
    let first = DeltaDiscoveryRequest {
        node: Some(Node {
            id: id.to_owned(),
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
        told();
    }
}
