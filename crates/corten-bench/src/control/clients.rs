//! A thousand node proxies that listen: what they are sent is counted, and not kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use corten_grpc::{Channel, ProstCodec, Request, Streaming, Target};
use corten_identity::{RootSource, ServerAuthority};
use corten_proto::discovery::{DELTA_METHOD, DeltaDiscoveryRequest, Node};
use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, Message};
use corten_rt::TaskGroup;
use tokio::sync::{mpsc, watch};

use super::mesh::Mesh;
use super::process::Control;

/// Room for the initial response, which no limit of the real client is below.
const MESSAGE_BYTES_MAX: usize = 200 << 20;

/// A response, of which nothing but its size and what to acknowledge matters.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    resources: Vec<bytes::Bytes>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// The clients.
pub(crate) struct Clients {
    counts: Arc<Counts>,
    answered: watch::Receiver<usize>,
    count: usize,
    expected: usize,
    _tasks: TaskGroup,
}

struct Counts {
    bytes: AtomicU64,
    responses: AtomicUsize,
    news: watch::Sender<usize>,
}

impl Clients {
    /// Connects them all; each asks for everything.
    pub(crate) async fn connect(mesh: &Mesh, control: &Control, count: usize) -> Result<Clients> {
        let (news, answered) = watch::channel(0);
        let counts = Arc::new(Counts {
            bytes: AtomicU64::new(0),
            responses: AtomicUsize::new(0),
            news,
        });
        let tasks = TaskGroup::new("clients");
        let (token, roots) = (mesh.token().await?, mesh.roots().await?);
        let authority = Arc::new(ServerAuthority::new(RootSource::Pem(roots)));
        for number in 0..count {
            let target = Target {
                address: Some(control.discovery),
                ..Target::new("istiod.istio-system.svc", 15012)
            };
            let authority = authority.clone();
            let channel = Channel::new(target, Arc::new(move || authority.config().map_err(Into::into)));
            let (counts, token) = (counts.clone(), token.clone());
            tasks.spawn("client", async move {
                if let Err(error) = listen(channel, number, &token, &counts).await {
                    eprintln!("client {number}: {error:#}");
                }
            });
        }
        Ok(Clients {
            counts,
            answered,
            count,
            expected: 0,
            _tasks: tasks,
        })
    }

    /// Until each has been answered about both types.
    pub(crate) async fn everything(&mut self) -> Result<()> {
        self.expect_more(2).await
    }

    /// Until each has one response more.
    pub(crate) async fn all_have_one_more(&mut self) -> Result<()> {
        self.expect_more(1).await
    }

    async fn expect_more(&mut self, each: usize) -> Result<()> {
        self.expected += each * self.count;
        let expected = self.expected;
        let all = self.answered.wait_for(|responses| *responses >= expected);
        let outcome = tokio::time::timeout(std::time::Duration::from_secs(120), all).await;
        let responses = self.counts.responses.load(Ordering::Relaxed);
        ensure!(outcome.is_ok(), "only {responses} of {expected} responses came");
        ensure!(
            responses == expected,
            "{responses} responses where {expected} were expected"
        );
        Ok(())
    }

    /// Bytes that all have received.
    pub(crate) fn received(&self) -> u64 {
        self.counts.bytes.load(Ordering::Relaxed)
    }
}

async fn listen(channel: Channel, number: usize, token: &str, counts: &Counts) -> Result<()> {
    let (sender, queue) = mpsc::channel(4);
    let requests = futures_util::stream::unfold(queue, async |mut queue| Some((queue.recv().await?, queue)));
    let mut request = Request::new(requests);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse()?);
    for type_url in [ADDRESS_TYPE, AUTHORIZATION_TYPE] {
        let request = DeltaDiscoveryRequest {
            node: Some(Node {
                id: format!("ztunnel~10.0.0.1~ztunnel-{number}.istio-system~istio-system.svc.cluster.local"),
                ..Node::default()
            }),
            type_url: type_url.to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        sender.send(request).await?;
    }
    let codec: ProstCodec<DeltaDiscoveryRequest, Response> = ProstCodec::default();
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let path = http::uri::PathAndQuery::from_static(DELTA_METHOD);
    let mut responses: Streaming<Response> = grpc.streaming(request, path, codec).await?.into_inner();
    loop {
        let response = responses.message().await?.context("the server ended the stream")?;
        counts.bytes.fetch_add(response.encoded_len() as u64, Ordering::Relaxed);
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        sender.send(acknowledgement).await?;
        let responses = counts.responses.fetch_add(1, Ordering::Relaxed) + 1;
        counts.news.send_replace(responses);
    }
}
