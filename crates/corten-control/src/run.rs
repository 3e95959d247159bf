//! The life of the process: what is started, in which order, and how it ends.
//!
//! Nothing is served before all objects have been read: a client that got half of the mesh would take the other half for gone.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use corten_gateway_api::deploy;
use corten_grpc::{HttpRequest, HttpResponse, Peer, Router, Status};
use corten_model::{Settings as MeshSettings, Snapshot};
use corten_proto::discovery::{DELTA_METHOD, SOTW_METHOD};
use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, WORKLOAD_TYPE};
use corten_rt::{Drain, TaskGroup};
use corten_store_kube::{
    ClientError, Distribution, Election, Kubeconfig, SecretStore, Started, StatusWriter, TokenReviewer,
    follow_references,
};
use corten_xds::server::{Shared, Store, Stream, TypeConfig, Variant, View, connect};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::access::{Access, REVIEWS_MAX};
use crate::admission::{self, Admission, Registration, Task};
use crate::assignment::Entries;
use crate::authority::{self, AuthorityError, Callers, REVOCATION_ENTRY, ROOTS_ENTRY};
use crate::clients::Clients;
use crate::credentials::{self, Credentials};
use crate::debug::{Debug, VERSION};
use crate::deployer::{self, Workloads};
use crate::feed::{Followed, Pace, follow};
use crate::gateway_status::{self, Wanted as WantedStatuses};
use crate::gateways::{self, Gateways};
use crate::injection::{Injection, Watcher};
use crate::issuers::{Issuers, Known, Wanted};
use crate::metrics::Metrics;
use crate::pipeline::{MeshConfig, Outputs, Pipeline};
use crate::revision::Revision;
use crate::settings::Settings;
use crate::trust_domains::TrustDomains;
use crate::views::Views;
use crate::{assignment, http, keys, statuses, trust_bundle, watched};

/// How long everything may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// Rejections of policies that wait to be written into their status.
const REJECTIONS_MAX: usize = 1024;
/// Changes of Secrets and ConfigMaps that are referred to, on their way.
const REFERENCES_MAX: usize = 64;

/// The control plane cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no way to the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The mesh's configuration cannot be read.
    #[error("cannot read the mesh's configuration: {0}")]
    Configuration(#[source] Box<corten_store_kube::SecretStoreError>),
    /// The authority does not start.
    #[error("the certificate authority cannot start: {0}")]
    Authority(#[from] AuthorityError),
    /// A part without which nothing that changes is taken up any more has ended.
    #[error("{task} has failed: its last words are above; to be started again")]
    Failed {
        /// The name of its task.
        task: String,
    },
    /// An address is taken.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs the control plane until `stop` resolves.
pub async fn run(settings: Settings, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    let tasks = TaskGroup::new("control");
    let ended = async {
        tokio::select! {
            started = start(&settings, &tasks) => started?,
            task = tasks.failed() => return Err(RunError::Failed { task }),
        };
        until_stopped(&tasks, stop).await
    }
    .await;
    let late = tasks.shutdown(GRACE).await;
    if !late.is_empty() {
        tracing::warn!(tasks = late.join(", "), "did not end in time");
    }
    ended
}

/// Waits for the word to stop. A task that fails is none: whoever started the process is to start it again.
async fn until_stopped(tasks: &TaskGroup, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    tokio::select! {
        biased;
        task = tasks.failed() => Err(RunError::Failed { task }),
        () = stop => {
            tracing::info!("stopping");
            Ok(())
        }
    }
}

/// Where a started control plane is reached.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Discovery in the clear.
    pub grpc: Option<SocketAddr>,
    /// Discovery and certificates over TLS.
    pub secure_grpc: Option<SocketAddr>,
    /// Metrics and debugging.
    pub monitoring: Option<SocketAddr>,
    /// Readiness and debugging.
    pub http: Option<SocketAddr>,
    /// Webhooks.
    pub https: Option<SocketAddr>,
}

/// Starts everything in `tasks`, and resolves when discovery is served.
pub async fn start(settings: &Settings, tasks: &TaskGroup) -> Result<Addresses, RunError> {
    let began = Instant::now();
    // Probes that come before there is an answer wait for it, instead of being refused and coming again a second later.
    let mut ports = Vec::new();
    for address in [settings.http, settings.monitoring] {
        ports.push(match address {
            Some(address) => Some(listen(address).await?),
            None => None,
        });
    }
    let kubeconfig = settings
        .kubeconfig
        .clone()
        .map_or(Kubeconfig::InCluster, Kubeconfig::File);
    let client = corten_store_kube::client(&kubeconfig).await?;
    let Started {
        events,
        served,
        refusals,
    } = watched::source(settings).start_telling(&client, tasks);

    let (ready, is_ready) = watch::channel(false);
    let metrics = Arc::new(Metrics::new());
    let snapshot: Arc<ArcSwap<Snapshot>> = Arc::default();
    let mesh_config: Arc<ArcSwap<MeshConfig>> = Arc::default();
    let store = Store::new([
        TypeConfig {
            type_url: ADDRESS_TYPE,
            state_wildcard: true,
            keys: keys::of_address,
            view: None,
            follows: None,
        },
        TypeConfig {
            type_url: WORKLOAD_TYPE,
            state_wildcard: true,
            keys: keys::of_workload,
            view: Some(View {
                of: ADDRESS_TYPE,
                make: keys::workload_of,
            }),
            follows: None,
        },
        TypeConfig {
            type_url: AUTHORIZATION_TYPE,
            state_wildcard: true,
            keys: keys::of_authorization,
            view: None,
            follows: None,
        },
    ]);
    let shared = Shared::new(store, began);
    let views: Arc<Views> = Arc::default();
    let writer = settings.write_status.then(StatusWriter::new);

    // What names and signs identities must be known before anything is served.
    let secrets = SecretStore::new(client.clone(), &settings.namespace);
    let configured = secrets.config_map(&watched::mesh_config_name(&settings.revision)).await;
    let configured = configured.map_err(|error| RunError::Configuration(Box::new(error)))?;
    let text = configured
        .and_then(|mut entries| entries.remove("mesh"))
        .unwrap_or_default();
    let (config, _) = statuses::mesh_config(&text);
    let base = mesh_settings(settings);
    let identities = base.clone().with_mesh_config(&config);
    let (trust_domains, known_domains) = TrustDomains::new(&identities);
    let trust_domain = identities.trust_domain.to_string();
    let discovery_address = config
        .default_config
        .as_ref()
        .map(|proxy| proxy.discovery_address.as_str());
    let ca = authority::start(
        settings,
        secrets,
        known_domains.clone(),
        discovery_address.unwrap_or_default(),
    )
    .await?;

    let (entries_sender, entries) = watch::channel(Entries::default());
    let (wanted, wanted_receiver) = watch::channel(Wanted::default());
    let (known_sender, known) = watch::channel(Arc::<Known>::default());
    let issuers = Issuers::new(&settings.issuers, wanted_receiver, known_sender, metrics.clone());
    tasks.vital("keys of issuers", |drain| issuers.run(drain));
    let (references, references_wanted) = watch::channel(Arc::default());
    let (accounts, accounts_wanted) = watch::channel(Arc::default());
    let credentials = Credentials::new(references, accounts);
    let (judge, judges) = (credentials.clone(), client.clone());
    tasks.vital("rights", |drain| {
        credentials::judge(judge, judges, accounts_wanted, drain)
    });
    let (wanted_statuses, statuses_wanted) = watch::channel(WantedStatuses::default());
    let (classes, known_classes) = watch::channel(Arc::default());
    let (workloads, workloads_wanted) = watch::channel(Arc::<Workloads>::default());
    let gateways = Gateways::new(
        Revision::new(&settings.revision, &settings.namespace),
        settings.deploy_gateways.then(|| deployment(settings)),
        gateways::Outputs {
            statuses: wanted_statuses,
            credentials: credentials.clone(),
            workloads,
            classes,
        },
    );
    let (references, changed_references) = mpsc::channel(REFERENCES_MAX);
    let reader = client.clone();
    tasks.vital("references", |drain| {
        follow_references(reader, references_wanted, references, drain)
    });
    let pipeline = Pipeline::new(
        base,
        trust_domains,
        gateways,
        Outputs {
            entries: settings.write_status.then_some(entries_sender),
            shared: shared.clone(),
            views: views.clone(),
            credentials: credentials.clone(),
            snapshot: snapshot.clone(),
            statuses: writer.clone(),
            metrics: metrics.clone(),
            mesh_config: mesh_config.clone(),
            wanted,
        },
    );
    let (synced, mut is_synced) = watch::channel(false);
    let pace = Pace {
        interval: settings.push_interval,
        longest: settings.push_delay_max,
        endpoints_wait: settings.endpoints_wait,
    };
    let (rejections, rejected) = mpsc::channel(REJECTIONS_MAX);
    let issuers = known.clone();
    tasks.vital("pipeline", |drain| {
        let inputs = Followed {
            events,
            references: changed_references,
            rejections: rejected,
            known,
        };
        follow(pipeline, inputs, synced, pace, drain)
    });

    let reviewer = Arc::new(TokenReviewer::new(client.clone(), settings.token_audiences.clone()));
    let access = Arc::new(Access {
        reviewer: reviewer.clone(),
        trust_domain: trust_domain.clone(),
        reviews: Semaphore::new(REVIEWS_MAX),
        gateways: settings.trusted_gateways.clone(),
        required: settings.authenticate,
    });
    views.trust(trust_bundle::roots(&ca.authority.current()), began);
    let (published, trusting) = (ca.authority.subscribe(), views.clone());
    tasks.vital("trust", |drain| trust_bundle::follow(published, trusting, drain));
    let clients = Clients::new(metrics.clone(), settings.check_identity, rejections, views, credentials);
    let ca_metrics = ca.metrics.clone();
    let ca_authority = ca.authority.clone();
    let debug = Arc::new(Debug {
        shared: shared.clone(),
        snapshot: snapshot.clone(),
        clients: clients.clone(),
        metrics: metrics.clone(),
        mesh_config,
        issuers,
        access: access.clone(),
        ready: is_ready,
        refusals,
        started: began,
        enabled: settings.debug,
        namespace: settings.namespace.clone(),
        cluster: settings.cluster.clone(),
        pod: settings.pod.clone(),
        authority: Box::new(move || crate::metrics::authority(&ca_metrics.values(), &ca_authority.current())),
    });
    let mut addresses = Addresses {
        grpc: None,
        secure_grpc: None,
        monitoring: None,
        http: None,
        https: None,
    };
    for (listener, place) in ports.into_iter().zip([&mut addresses.http, &mut addresses.monitoring]) {
        if let Some(listener) = listener {
            *place = listener.local_addr().ok();
            let debug = debug.clone();
            let handler = move |request| {
                let debug = debug.clone();
                async move { debug.answer(request).await }
            };
            tasks.vital("http", |drain| {
                http::serve(listener, http::Port::default(), handler, drain)
            });
        }
    }
    // A verdict needs nothing of the mesh but its settings: objects are judged from the first moment.
    if let Some(address) = settings.https {
        let listener = listen(address).await?;
        addresses.https = listener.local_addr().ok();
        let admission = Arc::new(Admission {
            settings: identities,
            metrics: metrics.clone(),
        });
        let known = Arc::default();
        let injection = Arc::new(Injection {
            known: Arc::clone(&known),
            metrics: metrics.clone(),
        });
        let watcher = Watcher {
            namespace: settings.namespace.clone(),
            revision: settings.revision.clone(),
            native: settings.native_sidecars,
            compliance_policy: settings.compliance_policy.clone(),
        };
        let watched = client.clone();
        tasks.vital("injection", |drain| watcher.run(watched, known, drain));
        let handler = move |request: http::Request| {
            let (admission, injection) = (admission.clone(), injection.clone());
            async move {
                if Injection::concerns(request.uri.path()) {
                    injection.answer(&request)
                } else {
                    admission.answer(&request)
                }
            }
        };
        let serving = ca.serving.clone();
        let port = http::Port {
            tls: Some(Arc::new(move || serving.webhook_config())),
            body_bytes_max: admission::BODY_BYTES_MAX,
        };
        tasks.vital("webhooks", |drain| http::serve(listener, port, handler, drain));
    }

    let leads = Leads::stand(settings, &client, tasks);
    if settings.write_status {
        let (writer, lead) = (client.clone(), leads.of_mesh.clone());
        tasks.vital("addresses", |drain| assignment::run(writer, entries, lead, drain));
        let (writer, lead, kinds) = (client.clone(), leads.of_revision.clone(), served.clone());
        tasks.vital("gateway status", |drain| {
            gateway_status::run(writer, statuses_wanted, kinds, lead, drain)
        });
        let (deployer, lead) = (client.clone(), leads.of_revision.clone());
        tasks.vital("gateway deployment", |drain| {
            deployer::run(deployer, workloads_wanted, lead, drain)
        });
        let (maker, lead) = (client.clone(), leads.of_mesh.clone());
        tasks.vital("gateway classes", |drain| {
            gateway_status::classes(maker, known_classes, served, lead, drain)
        });
    }
    start_leading(settings, tasks, client, &ca.authority, writer, &leads);

    if is_synced.wait_for(|synced| *synced).await.is_err() {
        // The pipeline has ended: the process is being stopped.
        return Ok(addresses);
    }

    let discovery = Discovery {
        shared,
        clients,
        access,
        debug,
        metrics,
        tasks: tasks.clone(),
        request_bytes_max: settings.request_bytes_max,
    };
    let gateways = settings.trusted_gateways.clone();
    let callers = Arc::new(Callers {
        reviewer,
        trust_domain,
        gateways,
    });
    let service = authority::service(
        &ca,
        callers,
        snapshot,
        settings.trusted_node_accounts.clone(),
        known_domains,
    );
    let limits = corten_grpc::Settings {
        age_max: settings.connection_age_max,
        keepalive_interval: settings.keepalive_interval,
        keepalive_timeout: settings.keepalive_timeout,
        ..corten_grpc::Settings::default()
    };
    let routes = discovery.routes();
    if let Some(address) = settings.secure_grpc {
        let listener = listen(address).await?;
        addresses.secure_grpc = listener.local_addr().ok();
        let serving = ca.serving.clone();
        let tls: corten_grpc::TlsAcceptor = Arc::new(move || serving.config());
        let (routes, limits) = (service.routes(routes.clone()), limits.clone());
        tasks.vital("discovery over TLS", |drain| {
            corten_grpc::serve(listener, Some(tls), routes, limits, drain)
        });
    }
    if let Some(address) = settings.grpc {
        let listener = listen(address).await?;
        addresses.grpc = listener.local_addr().ok();
        tasks.vital("discovery", |drain| {
            corten_grpc::serve(listener, None, routes, limits, drain)
        });
    }
    tasks.vital("keys", |drain| ca.keeper.run(drain));
    tasks.vital("serving certificate", |drain| ca.serving.run(drain));
    ready.send_replace(true);
    // Kept for as long as the process runs: readiness is no longer known when its sender is gone.
    tasks.serve("ready", |mut drain| async move {
        let pipeline_ended = async { while is_synced.changed().await.is_ok() {} };
        tokio::select! {
            biased;
            () = drain.wait() => {}
            // The process is about to end. Proxies keep what they have, and come to another replica meanwhile.
            () = pipeline_ended => tracing::error!("the pipeline has failed: nothing that changes is taken up any more"),
        }
        ready.send_replace(false);
    });
    tracing::info!(version = VERSION, took = ?began.elapsed(), "discovery is served");
    Ok(addresses)
}

/// What gateways are deployed with.
fn deployment(settings: &Settings) -> deploy::Settings {
    deploy::Settings {
        revision: Some(settings.revision.as_str())
            .filter(|revision| *revision != "default")
            .unwrap_or_default()
            .to_owned(),
        cluster: settings.cluster.clone(),
        domain: settings.domain.clone(),
        image: settings.proxy_image.clone(),
        authority: match settings.revision.as_str() {
            "default" => format!("istiod.{}.svc:15012", settings.namespace),
            revision => format!("istiod-{revision}.{}.svc:15012", settings.namespace),
        },
        audience: settings
            .token_audiences
            .first()
            .cloned()
            .unwrap_or_else(|| "istio-ca".to_owned()),
        ..deploy::Settings::default()
    }
}

fn mesh_settings(settings: &Settings) -> MeshSettings {
    MeshSettings {
        cluster: settings.cluster.as_str().into(),
        domain: settings.domain.as_str().into(),
        system_namespace: settings.namespace.as_str().into(),
        root_namespace: settings.namespace.as_str().into(),
        ..MeshSettings::default()
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        // A machine without IPv6 has no address of both families.
        Err(_) if address.ip() == std::net::Ipv6Addr::UNSPECIFIED => {
            let address: SocketAddr = (std::net::Ipv4Addr::UNSPECIFIED, address.port()).into();
            TcpListener::bind(address)
                .await
                .map_err(|source| RunError::Listen { address, source })
        }
        Err(source) => Err(RunError::Listen { address, source }),
    }
}

/// What this replica leads in.
struct Leads {
    /// What is done once for all revisions.
    of_mesh: watch::Receiver<bool>,
    /// What each revision does for itself: its webhooks, and the gateways that are its own. Another revision would leave them as they are.
    of_revision: watch::Receiver<bool>,
}

impl Leads {
    /// Stands in the elections.
    fn stand(settings: &Settings, client: &kube::Client, tasks: &TaskGroup) -> Leads {
        let stand = |task: &'static str, name: &str| {
            let election = Election::new(&settings.namespace, name, &settings.pod);
            let (leadership, leads) = watch::channel(false);
            let candidate = client.clone();
            tasks.vital(task, |drain| election.run(candidate, leadership, drain));
            leads
        };
        let revision = format!("istio-revision-leader-{}", settings.revision);
        Leads {
            of_mesh: stand("election", "istio-status-leader"),
            of_revision: stand("election of the revision", &revision),
        }
    }
}

/// What only one of several replicas does: status conditions, and the roots in every namespace.
fn start_leading(
    settings: &Settings,
    tasks: &TaskGroup,
    client: kube::Client,
    authority: &Arc<corten_ca::Authority>,
    writer: Option<Arc<StatusWriter>>,
    leads: &Leads,
) {
    let validation = settings.validation.map(Task::Validation);
    let injection = settings.injection.then_some(Task::Injection);
    let care: Vec<Task> = validation.into_iter().chain(injection).collect();
    if settings.https.is_some() && !care.is_empty() {
        for task in care {
            let registration = Registration {
                namespace: settings.namespace.clone(),
                revision: settings.revision.clone(),
                task,
            };
            let (client, keys, leads) = (client.clone(), authority.subscribe(), leads.of_revision.clone());
            tasks.vital("registration", |drain| registration.run(client, keys, leads, drain));
        }
    }
    if let Some(writer) = writer {
        let (client, leads) = (client.clone(), leads.of_mesh.clone());
        tasks.vital("status", |drain| writer.run(client, leads, drain));
    }
    let roots = |published: &corten_ca::Published| Some([(ROOTS_ENTRY.to_owned(), published.roots_pem.clone())].into());
    let lists = |published: &corten_ca::Published| {
        let pem = published.revocation_pem.clone()?;
        Some([(REVOCATION_ENTRY.to_owned(), pem)].into())
    };
    for (name, distribution, entries) in [
        (
            "roots",
            Distribution::roots(),
            roots as fn(&corten_ca::Published) -> corten_store_kube::Entries,
        ),
        ("revocation lists", Distribution::revocation_lists(), lists),
    ] {
        let (client, published, leads) = (client.clone(), authority.subscribe(), leads.of_mesh.clone());
        tasks.vital(name, |drain| {
            distribute(client, distribution, published, entries, leads, drain)
        });
    }
}

/// Keeps a ConfigMap in every namespace while we lead.
async fn distribute(
    client: kube::Client,
    distribution: Distribution,
    mut published: watch::Receiver<Arc<corten_ca::Published>>,
    entries: fn(&corten_ca::Published) -> corten_store_kube::Entries,
    mut leads: watch::Receiver<bool>,
    mut drain: Drain,
) {
    let (sender, receiver) = watch::channel(entries(&published.borrow_and_update().clone()));
    let follow = async {
        while published.changed().await.is_ok() {
            let now = entries(&published.borrow_and_update().clone());
            sender.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
        }
    };
    let lead = async {
        while leads.wait_for(|leads| *leads).await.is_ok() {
            let stop = drain.clone();
            tokio::select! {
                () = corten_store_kube::distribute(client.clone(), distribution.clone(), receiver.clone(), stop) => return,
                lost = leads.wait_for(|leads| !*leads) => if lost.is_err() { return },
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = lead => {}
    }
    drain.wait().await;
}

/// What discovery streams need.
#[derive(Clone)]
struct Discovery {
    shared: Arc<Shared>,
    clients: Arc<Clients>,
    access: Arc<Access>,
    debug: Arc<Debug>,
    metrics: Arc<Metrics>,
    tasks: TaskGroup,
    request_bytes_max: usize,
}

impl Discovery {
    fn routes(&self) -> Router {
        let mut router = Router::new();
        for (method, variant) in [(DELTA_METHOD, Variant::Delta), (SOTW_METHOD, Variant::State)] {
            let discovery = self.clone();
            router = router.raw(method, move |request| {
                let discovery = discovery.clone();
                async move { discovery.open(variant, request).await }
            });
        }
        router
    }

    async fn open(&self, variant: Variant, request: HttpRequest) -> HttpResponse {
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return Status::internal("a request without a peer").into_http();
        };
        match self.access.authenticate(&peer, request.headers()).await {
            Ok(identities) => connect(
                Stream {
                    shared: self.shared.clone(),
                    variant,
                    tasks: self.tasks.clone(),
                    message_bytes_max: self.request_bytes_max,
                    observer: self.clients.observer(peer.remote, identities, self.debug.clone()),
                },
                request,
            ),
            Err(status) => {
                self.metrics.authentication_failures.add(1);
                tracing::warn!(remote = %peer.remote, reason = status.message(), "a discovery client was refused");
                status.into_http()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_fails_ends_the_process_with_an_error() {
        let tasks = TaskGroup::new("test");
        tasks.vital("pipeline", |_| async { panic!("on purpose") });
        let ended = until_stopped(&tasks, std::future::pending()).await;
        assert!(
            matches!(&ended, Err(RunError::Failed { task }) if task == "pipeline"),
            "{ended:?}"
        );

        let tasks = TaskGroup::new("test");
        tasks.vital("pipeline", |mut drain| async move { drain.wait().await });
        let ended = until_stopped(&tasks, std::future::ready(())).await;
        assert!(ended.is_ok(), "{ended:?}");
        tasks.shutdown(GRACE).await;
    }
}
