//! The whole node proxy: builds both sides, runs until it is told to stop, drains.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use corten_linux::NetNs;
use corten_proto::zds::WorkloadInfo;
use corten_rt::TaskGroup;
use corten_traffic::{Name, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::config::{Config, Dedicated, LocalXds};
use crate::control::data_plane::{DataPlane, Serve};
use crate::control::discovery::Discovery;
use crate::control::keys::{self, Keys};
use crate::control::names::{self, Names};
use crate::control::servers::{Readiness, Servers};
use crate::control::state::State;
use crate::control::{certificates, local};
use crate::dns;
use crate::inpod::{self, client::Runner as _};
use crate::shard::{Common, Holds};
use crate::telemetry::access::{self, AccessLog};
use crate::telemetry::metrics::Metrics;

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A thread, a socket or a file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Certificates.
    #[error("{0}")]
    Certificates(#[from] corten_identity::SignError),
    /// The workload of a dedicated proxy cannot be served.
    #[error("{0}")]
    Serve(String),
    /// The file of workloads.
    #[error("{0}")]
    Local(#[from] local::LocalError),
    /// Something in that file cannot be used.
    #[error("{path}: {name}: {reason}")]
    LocalResource {
        /// The file.
        path: String,
        /// What.
        name: String,
        /// Why.
        reason: String,
    },
}

/// How long the control side may take to end.
const GRACE: Duration = Duration::from_secs(2);

const ZDS: &str = "workload proxy manager";
const XDS: &str = "state manager";

/// Runs until a signal or an operator says otherwise, then drains. Must be called on a tokio runtime.
pub async fn run(config: Config) -> Result<(), RunError> {
    let config = Arc::new(config);
    raise_file_limit();
    let (access, lines) = AccessLog::new(config.log_json, config.log_level.as_deref());
    let writer = std::thread::Builder::new()
        .name("access-log".into())
        .spawn(move || access::write_lines(&lines))?;
    let (resolver, questions) = mpsc::channel(1024);
    let identities = certificates::identities(&config)?;
    let common = Arc::new(Common {
        traffic: traffic_settings(&config),
        tables: Arc::new(ArcSwap::default()),
        identities: identities.clone(),
        holds: Holds::default(),
        metrics: Arc::new(Metrics::default()),
        access: access.clone(),
        resolver,
        resting: AtomicUsize::default(),
        config: config.clone(),
    });
    drop(access);
    let data_plane = DataPlane::start(common.clone())?;
    let names = Names::start(&common, common.metrics.dns.clone())?;
    let weak = Arc::downgrade(&common);
    drop(common);
    let shards = Arc::downgrade(&data_plane);
    identities.on_change(move || {
        if let Some(shards) = shards.upgrade() {
            shards.certificates_changed();
        }
    });

    let tasks = TaskGroup::new("node");
    let state = config.state_dir.as_deref().map(State::open).transpose()?;
    let keys = config
        .state_dir
        .as_deref()
        .filter(|folder| keys::are_kept(folder, config.keep_keys))
        .map(|folder| Keys::new(folder, identities.clone()));
    if let Some(keys) = &keys {
        keys.restore();
        let keys = keys.clone();
        tasks.serve("keys", |drain| keys.run(drain));
    }
    let readiness = Arc::new(Readiness::default());
    readiness.pending(ZDS);
    readiness.pending(XDS);
    let (quit, mut quitting) = watch::channel(false);
    let servers = Servers {
        data_plane: data_plane.clone(),
        readiness: readiness.clone(),
        quit: Arc::new(quit),
        levels: config.log_level.as_deref().unwrap_or("info").into(),
    };
    servers.start(&tasks).await?;
    let certificates = identities.clone();
    tasks.serve("certificates", |drain| identities.run(drain));
    let group = tasks.clone();
    let settings = config.clone();
    tasks.serve("resolver", |drain| {
        names::resolve(settings, weak, questions, group, drain)
    });
    configure(&config, state, &data_plane, &readiness, &tasks)?;
    let ready = readiness.clone();
    let serve = Serve {
        data_plane: data_plane.clone(),
        names: names.clone(),
        ready: Arc::new(move |all| {
            if !all {
                return ready.pending(ZDS);
            }
            if ready.open().contains(&ZDS) {
                // Whoever is not among the pods by now has left while no proxy was there.
                certificates.forget_unwanted();
            }
            ready.done(ZDS);
        }),
    };
    serve_itself(&config, &data_plane).await;
    let pods = TaskGroup::new("pods");
    match config.dedicated.clone() {
        None => {
            let socket = config.inpod_uds.clone();
            pods.serve("node agent", |drain| inpod::client::run(socket, serve, drain));
        }
        Some(workload) => serve_one(workload, serve).await?,
    }

    stop_asked(&mut quitting).await?;
    readiness.pending("draining");
    tracing::info!(deadline = ?config.termination_deadline, "no new connections; waiting for those that are open");
    // The agent first: what it says from now on is for the successor.
    pods.shutdown(GRACE).await;
    if let Some(names) = &names {
        names.hand_over();
    }
    data_plane.drain(config.termination_deadline).await;
    if let Some(names) = &names {
        names.finish().await;
    }
    tasks.shutdown(GRACE).await;
    drop((servers, data_plane));
    // The last lines; whoever does not read them is not waited for.
    let _ = tokio::time::timeout(GRACE, tokio::task::spawn_blocking(move || writer.join())).await;
    tracing::info!("ended");
    Ok(())
}

/// Tunnels to the proxy itself are a service to whoever reads its metrics; it serves pods without, too.
async fn serve_itself(config: &Config, data_plane: &DataPlane) {
    if !config.serves_itself() {
        return;
    }
    let info = WorkloadInfo {
        name: config.pod.name.clone(),
        namespace: config.pod.namespace.clone(),
        service_account: config.pod.service_account.clone(),
    };
    match data_plane.serve_itself(&info).await {
        Ok(()) => tracing::info!(
            name = info.name,
            namespace = info.namespace,
            "tunnels to this proxy are answered"
        ),
        Err(error) => tracing::warn!(error, "tunnels to this proxy itself are not answered"),
    }
}

/// The one workload of a dedicated proxy, in the namespace the proxy is in.
async fn serve_one(workload: Dedicated, mut serve: Serve) -> Result<(), RunError> {
    let info = WorkloadInfo {
        name: workload.name,
        namespace: workload.namespace,
        service_account: workload.service_account,
    };
    let uid = format!("{}/{}", info.namespace, info.name);
    let namespace = NetNs::current()?;
    serve.start(&uid, &info, namespace).await.map_err(RunError::Serve)?;
    serve.data_plane.common().metrics.proxies_active.set(1);
    (serve.ready)(true);
    Ok(())
}

/// Where tables come from: a file, what was kept, the control plane.
fn configure(
    config: &Arc<Config>,
    state: Option<Arc<State>>,
    data_plane: &Arc<DataPlane>,
    readiness: &Arc<Readiness>,
    tasks: &TaskGroup,
) -> Result<(), RunError> {
    let ready = readiness.clone();
    let discovery = Discovery::new(data_plane.clone(), state.clone(), move || ready.done(XDS));
    if let Some(given) = &config.local_xds {
        let (place, changes) = match given {
            LocalXds::File(path) => (path.display().to_string(), local::load(path)?),
            LocalXds::Text(text) => ("LOCAL_XDS".to_owned(), local::read(text, "LOCAL_XDS")?),
        };
        let outcome = discovery.apply(changes);
        if let Some(first) = outcome.err().and_then(|refused| refused.into_iter().next()) {
            return Err(RunError::LocalResource {
                path: place,
                name: first.name,
                reason: first.reason,
            });
        }
        if config.xds.address.is_none() {
            readiness.done(XDS);
        }
    }
    let known = discovery.restore();
    if let Some(state) = state {
        tasks.serve("state", |drain| state.run(drain));
    }
    let config = config.clone();
    tasks.serve("discovery", |drain| discovery.run(config, known, drain));
    Ok(())
}

fn traffic_settings(config: &Config) -> Settings {
    Settings {
        network: Name::from(config.network.as_str()),
        cluster_domain: Name::from(config.cluster_domain.as_str()),
        preferred_service_namespace: config.preferred_service_namespace.as_deref().map(Name::from),
        localhost_app_tunnel: config.localhost_app_tunnel,
        ipv6: config.ipv6,
        // A proxy of its own shares its workload's resolv.conf, the one of a node does not have those of its pods.
        search: config.dedicated.as_ref().map(|_| {
            let text = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
            dns::search(&text)
                .iter()
                .map(|domain| Name::from(domain.as_str()))
                .collect()
        }),
        socks5: config.socks5,
    }
}

async fn stop_asked(quitting: &mut watch::Receiver<bool>) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // An error means that the servers are gone, and with them the reason to go on.
        _ = quitting.wait_for(|quit| *quit) => {}
    }
    Ok(())
}

/// Each connection is an open file or two.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}
