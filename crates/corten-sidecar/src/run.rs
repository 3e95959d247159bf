//! Puts the pieces together.

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_core::Identity;
use corten_grpc::{Channel, Router, Target};
use corten_identity::{
    CaClient, CaSettings, Identities, IdentitiesConfig, Priority, RootSource, ServerAuthority, Token,
};
use corten_rt::TaskGroup;
use corten_xds::server::{Shared, Stream, Variant, connect};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::health::Health;
use crate::settings::{Settings, SettingsError};
use crate::{bootstrap, files, health, probes, process, redirect, secrets};

/// The methods that Envoy asks for secrets by.
const STREAM: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
const DELTA: &str = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets";
/// How long the tasks of this process may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The identity that the settings make is none.
    #[error("no identity can be made of the settings: {0}")]
    Identity(String),
    /// A file, socket or port.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The bootstrap is no JSON, which cannot be.
    #[error("the bootstrap cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

fn failed(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> RunError {
    let what = what.into();
    |source| RunError::Io { what, source }
}

/// Runs until a signal, or until Envoy ends.
///
/// # Errors
///
/// Something that is needed cannot be had: a file, a port, the Envoy program.
pub async fn run(mut settings: Settings) -> Result<ExitCode, RunError> {
    match redirect::own_addresses() {
        Ok(own) => settings.with_addresses(&own),
        Err(error) => tracing::warn!(%error, "the pod's other addresses are not known"),
    }
    settings.marked = corten_enroll::sidecar::has_one_user();
    let state = std::path::absolute(&settings.state).map_err(failed("the state directory"))?;
    std::fs::create_dir_all(&state).map_err(failed(format!("creating {}", state.display())))?;
    let tasks = TaskGroup::new("sidecar");
    let shared = Shared::new(secrets::store(), Instant::now());
    certificates(&settings, &tasks, &shared)?;
    let socket = state.join("sds.sock");
    serve_secrets(&socket, &tasks, &shared)?;
    let health = Arc::new(Health {
        admin: settings.admin_port,
        pod: settings
            .addresses
            .first()
            .copied()
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        probes: settings.probes.as_deref().map(probes::parse).unwrap_or_default(),
        metrics: settings.metrics.as_deref().map(health::metrics_of).unwrap_or_default(),
        quit: Notify::new(),
    });
    // 0: nobody asks.
    if settings.agent_port > 0 {
        let listener = health::listen(settings.agent_port).await;
        let listener = listener.map_err(failed(format!("the port for probes, {}", settings.agent_port)))?;
        let health = health.clone();
        tasks.serve("probes", move |drain| health::serve(listener, health, drain));
    }
    resolve_statsd(&mut settings).await;

    let path = state.join("envoy.json");
    let (made, problems) = bootstrap(&settings, &socket);
    for problem in problems {
        tracing::warn!("{problem}");
    }
    let text = serde_json::to_vec_pretty(&made)?;
    std::fs::write(&path, text).map_err(failed(format!("writing {}", path.display())))?;
    let envoy = settings.envoy.display().to_string();
    let mut child = process::start(&settings, &path).map_err(failed(format!("starting {envoy}")))?;
    tracing::info!(
        envoy,
        kind = settings.arguments.kind.name(),
        pod = settings.pod,
        "Envoy runs"
    );

    let mut terminate = signal(SignalKind::terminate()).map_err(failed("waiting for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("waiting for signals"))?;
    let ended = tokio::select! {
        ended = child.wait() => Some(ended),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        () = health.quit.notified() => None,
    };
    let code = match ended {
        Some(Ok(status)) => {
            tracing::error!(%status, "Envoy ended");
            ExitCode::from(
                status
                    .code()
                    .and_then(|code| u8::try_from(code).ok())
                    .unwrap_or(1)
                    .max(1),
            )
        }
        Some(Err(error)) => return Err(failed("waiting for Envoy")(error)),
        None => {
            tracing::info!("draining");
            process::drain(&mut child, &settings).await;
            child.wait().await.map_err(failed("waiting for Envoy"))?;
            ExitCode::SUCCESS
        }
    };
    tasks.shutdown(GRACE).await;
    // What is left would only be in the way of the next one.
    let _ = std::fs::remove_file(&socket);
    Ok(code)
}

/// Envoy asks no resolver for who takes its counts.
async fn resolve_statsd(settings: &mut Settings) {
    let address = settings.config["statsdUdpAddress"].as_str().unwrap_or_default();
    if address.is_empty() || address.parse::<SocketAddr>().is_ok() {
        return;
    }
    let found = match tokio::net::lookup_host(address).await {
        Ok(mut found) => found.next().map(|address| address.to_string()),
        Err(error) => {
            tracing::warn!("statsdUdpAddress has no effect: {address} is not known: {error}");
            None
        }
    };
    settings.config["statsdUdpAddress"] = serde_json::json!(found.unwrap_or_default());
}

/// Gets the workload's certificate, and a new one before it expires, and serves it.
fn certificates(settings: &Settings, tasks: &TaskGroup, shared: &Arc<Shared>) -> Result<(), RunError> {
    let identity = Identity::new(&settings.trust_domain, &settings.namespace, &settings.service_account);
    let identity = identity.map_err(|error| RunError::Identity(error.to_string()))?;
    let (host, port) = &settings.authority;
    let roots = PathBuf::from(&settings.roots);
    let authority = ServerAuthority::new(RootSource::File(roots.clone()));
    let channel = Channel::new(
        Target {
            prepare: Some(redirect::mark),
            ..Target::new(host.clone(), *port)
        },
        Arc::new(move || Ok(authority.config()?)),
    );
    let client = CaClient::new(
        channel,
        CaSettings {
            token: Token::from_setting(&settings.token),
            cluster: settings.metadata()["CLUSTER_ID"]
                .as_str()
                .unwrap_or("Kubernetes")
                .to_owned(),
            impersonate: false,
            ..CaSettings::default()
        },
    );
    let config = IdentitiesConfig {
        roots: Some(roots),
        ..IdentitiesConfig::default()
    };
    let identities = Identities::new(Arc::new(client), config);
    let changed = Arc::new(Notify::new());
    let tell = changed.clone();
    identities.on_change(move || tell.notify_one());
    identities.want(&identity, Priority::RealTime);
    let (renewing, shared) = (identities.clone(), shared.clone());
    tasks.serve("certificates", |drain| renewing.run(drain));
    tasks.serve("publish", |mut drain| async move {
        loop {
            tokio::select! {
                biased;
                () = drain.wait() => return,
                () = changed.notified() => {}
            }
            if let Some(bundle) = identities.current(&identity) {
                secrets::publish(&shared, bundle.certificate());
            }
        }
    });
    Ok(())
}

/// Serves secrets to whoever may open the socket: this user's processes.
fn serve_secrets(socket: &Path, tasks: &TaskGroup, shared: &Arc<Shared>) -> Result<(), RunError> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed(format!("removing the old {}", socket.display()))(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed(format!("listening on {}", socket.display())))?;
    std::fs::set_permissions(socket, Permissions::from_mode(0o600)).map_err(failed("the socket's permissions"))?;
    let watcher = secrets::Watcher::default();
    let (wanted, read) = (watcher.0.clone(), shared.clone());
    tasks.serve("files", |drain| files::run(wanted, read, drain));
    let mut router = Router::new();
    for (method, variant) in [(STREAM, Variant::State), (DELTA, Variant::Delta)] {
        let (shared, tasks, watcher) = (shared.clone(), tasks.clone(), watcher.clone());
        router = router.raw(method, move |request| {
            let stream = Stream {
                shared: shared.clone(),
                variant,
                tasks: tasks.clone(),
                message_bytes_max: 1024 * 1024,
                observer: watcher.clone(),
            };
            async move { connect(stream, request) }
        });
    }
    let settings = corten_grpc::Settings {
        age_max: None,
        ..corten_grpc::Settings::default()
    };
    tasks.serve("secrets", |drain| {
        corten_grpc::serve(listener, None, router, settings, drain)
    });
    Ok(())
}
