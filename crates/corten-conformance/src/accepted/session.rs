//! The session of an Envoy that is given one configuration after the other, and answers to each part of each whether it takes it.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use corten_grpc::{Request, Response, Router, Settings, Status, Streaming};
use corten_proto::discovery::{DiscoveryRequest, DiscoveryResponse};
use corten_rt::TaskGroup;
use tokio::sync::{Mutex, mpsc};

use super::envoy::Envoy;
use super::secrets::{SECRET, Secrets};
use super::{Configuration, Part};

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
/// How long an Envoy may take for anything, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to ask for what a part that it refused would have needed.
const LITTLE_PATIENCE: Duration = Duration::from_millis(300);
/// How many Envoys are started at most, where they end by themselves.
const STARTS_MAX: usize = 20;

/// One side of a stream: what comes in, and what goes out.
struct Talk {
    requests: Streaming<DiscoveryRequest>,
    responses: mpsc::Sender<DiscoveryResponse>,
    secrets: Secrets,
    /// What is asked for, by type.
    asked: HashMap<String, BTreeSet<String>>,
    sent: u64,
    /// What has not been answered: the nonce, and the type.
    open: HashMap<String, &'static str>,
    /// What Envoy said of what it refused.
    refused: Vec<String>,
}

/// What Envoy says of every configuration that it refuses.
pub(super) fn all(program: &Path, configurations: &[Configuration]) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making a runtime")?;
    runtime.block_on(async {
        let tasks = TaskGroup::new("conformance");
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (arrived, mut streams) = mpsc::channel(1);
        let router = router(arrived, &Secrets::new()?);
        tasks.serve("xds", |drain| {
            corten_grpc::serve(listener, None, router, Settings::default(), drain)
        });
        let refused = give(program, address, &mut streams, configurations).await;
        tasks.shutdown(Duration::from_secs(1)).await;
        refused
    })
}

/// A server that hands every stream over to whoever waits for it, and has secrets for everybody.
fn router(arrived: mpsc::Sender<Talk>, secrets: &Secrets) -> Router {
    let (arrived, of_ads, of_agent) = (Arc::new(Mutex::new(arrived)), secrets.clone(), secrets.clone());
    let router = Router::new().streaming(METHOD, move |request: Request<Streaming<DiscoveryRequest>>| {
        let (arrived, secrets) = (Arc::clone(&arrived), of_ads.clone());
        async move {
            let (responses, answers) = mpsc::channel(4);
            let talk = Talk {
                requests: request.into_inner(),
                responses,
                secrets,
                asked: HashMap::new(),
                sent: 0,
                open: HashMap::new(),
                refused: Vec::new(),
            };
            let gone = |_| Status::unavailable("nobody waits for streams any more");
            arrived.lock().await.send(talk).await.map_err(gone)?;
            Ok(Response::new(futures_util::stream::unfold(
                answers,
                |mut answers| async move { answers.recv().await.map(|answer| (Ok(answer), answers)) },
            )))
        }
    });
    router.streaming(SECRETS, move |request: Request<Streaming<DiscoveryRequest>>| {
        let state = (request.into_inner(), of_agent.clone());
        async move {
            Ok(Response::new(futures_util::stream::unfold(
                state,
                |(mut requests, secrets)| async move {
                    while let Ok(Some(request)) = requests.message().await {
                        if let Some(answer) = secrets.answer(&request) {
                            return Some((Ok(answer), (requests, secrets)));
                        }
                    }
                    None
                },
            )))
        }
    })
}

async fn give(
    program: &Path,
    address: SocketAddr,
    streams: &mut mpsc::Receiver<Talk>,
    configurations: &[Configuration],
) -> Result<Vec<String>> {
    let mut refused = Vec::new();
    let mut running: Option<(Envoy, Talk)> = None;
    let mut starts = 0;
    for configuration in configurations {
        let (envoy, talk) = match &mut running {
            Some(running) => running,
            none => {
                starts += 1;
                if starts > STARTS_MAX {
                    bail!("Envoy ended {STARTS_MAX} times:\n{}", refused.join("\n"));
                }
                none.insert(start(program, address, streams).await?)
            }
        };
        match talk.configure(configuration).await {
            Ok(said) => refused.extend(said.into_iter().map(|said| format!("{}: {said}", configuration.of))),
            Err(error) => {
                // The stream ends before the process does, which is as good as gone then.
                let mut ended = envoy.ended();
                for _ in 0..100 {
                    if ended.is_some() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    ended = envoy.ended();
                }
                let how = ended.unwrap_or_else(|| "it still runs".to_owned());
                refused.push(format!("{}: {error:#} ({how})", configuration.of));
                running = None;
            }
        }
    }
    Ok(refused)
}

/// Starts an Envoy, and waits until it has begun with nothing.
async fn start(program: &Path, address: SocketAddr, streams: &mut mpsc::Receiver<Talk>) -> Result<(Envoy, Talk)> {
    let mut envoy = Envoy::start(program, address)?;
    let talk = tokio::time::timeout(PATIENCE, streams.recv()).await;
    let Ok(Some(mut talk)) = talk else {
        bail!(
            "Envoy does not ask for its configuration: {}",
            envoy.ended().unwrap_or_default()
        );
    };
    for type_url in [
        "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "type.googleapis.com/envoy.config.listener.v3.Listener",
    ] {
        // Listeners are asked for once there are clusters.
        while !talk.asked.contains_key(type_url) {
            talk.next(PATIENCE)
                .await
                .with_context(|| format!("waiting until Envoy asks for {type_url}"))?;
        }
        let nothing = Part {
            type_url,
            wildcard: true,
            resources: Vec::new(),
        };
        talk.send(&nothing, &BTreeSet::new()).await?;
        talk.settle().await?;
    }
    Ok((envoy, talk))
}

impl Talk {
    /// Gives a configuration, part by part: what Envoy says where it refuses one.
    async fn configure(&mut self, configuration: &Configuration) -> Result<Vec<String>> {
        for part in &configuration.parts {
            let mut wanted: BTreeSet<String> = part.resources.iter().map(|(name, _)| name.clone()).collect();
            if part.wildcard {
                // Clusters are answered for when they are ready, for which they need their endpoints.
                self.settle().await?;
            } else if wanted.is_empty() || !self.until_asked(part.type_url, &mut wanted).await? {
                continue;
            }
            self.send(part, &wanted).await?;
        }
        self.settle().await?;
        Ok(std::mem::take(&mut self.refused))
    }

    /// Sends those resources of a part.
    async fn send(&mut self, part: &Part, wanted: &BTreeSet<String>) -> Result<()> {
        self.sent += 1;
        let nonce = self.sent.to_string();
        let of_part = part.resources.iter();
        let response = DiscoveryResponse {
            version_info: nonce.clone(),
            resources: of_part
                .filter(|(name, _)| wanted.contains(name))
                .map(|(_, resource)| resource.clone())
                .collect(),
            type_url: part.type_url.to_owned(),
            nonce: nonce.clone(),
        };
        self.open.insert(nonce, part.type_url);
        self.respond(response).await
    }

    async fn respond(&mut self, response: DiscoveryResponse) -> Result<()> {
        let sent = self.responses.send(response).await;
        sent.map_err(|_| anyhow::anyhow!("the stream has ended"))
    }

    /// Waits until everything has been answered.
    async fn settle(&mut self) -> Result<()> {
        while !self.open.is_empty() {
            self.next(PATIENCE).await.with_context(|| {
                let waiting: Vec<&str> = self.open.values().map(|url| kind(url)).collect();
                format!("waiting for an answer to {waiting:?}")
            })?;
        }
        Ok(())
    }

    /// Waits until all of these are asked for. Where something has been refused, not all may be: then those are left that are.
    /// False: there are none.
    async fn until_asked(&mut self, type_url: &str, wanted: &mut BTreeSet<String>) -> Result<bool> {
        let begun = tokio::time::Instant::now();
        loop {
            let none = BTreeSet::new();
            let asked = self.asked.get(type_url).unwrap_or(&none);
            if asked.is_superset(wanted) {
                return Ok(true);
            }
            let patience = if self.refused.is_empty() {
                PATIENCE
            } else {
                LITTLE_PATIENCE
            };
            let missing: Vec<String> = wanted.difference(asked).take(5).cloned().collect();
            let left = (begun + patience).saturating_duration_since(tokio::time::Instant::now());
            match self.next(left).await {
                Ok(()) => {}
                Err(_) if !self.refused.is_empty() => {
                    let asked = self.asked.get(type_url).unwrap_or(&none);
                    *wanted = wanted.intersection(asked).cloned().collect();
                    return Ok(!wanted.is_empty());
                }
                Err(error) => {
                    let why = format!("waiting until {missing:?} ({}) are asked for", kind(type_url));
                    return Err(error.context(why));
                }
            }
        }
    }

    /// Takes a request: what it asks for, and what it says about what was sent.
    async fn next(&mut self, patience: Duration) -> Result<()> {
        let request = tokio::time::timeout(patience, self.requests.message()).await;
        let request = request.context("it takes too long")?;
        let request = request.context("reading")?.context("the stream has ended")?;
        if request.type_url == SECRET {
            if let Some(answer) = self.secrets.answer(&request) {
                self.respond(answer).await?;
            }
            return Ok(());
        }
        if let Some(type_url) = self.open.remove(&request.response_nonce)
            && let Some(said) = &request.error_detail
        {
            self.refused.push(format!("{}: {}", kind(type_url), said.message));
        }
        self.asked
            .insert(request.type_url, request.resource_names.into_iter().collect());
        Ok(())
    }
}

/// The last part of a type's name.
fn kind(type_url: &str) -> &str {
    type_url.rsplit('.').next().unwrap_or_default()
}
