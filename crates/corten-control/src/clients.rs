//! The clients that are connected, and what each has been sent and has acknowledged: for people who look.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use corten_core::Identity;
use corten_grpc::{Code, Status};
use corten_proto::DEBUG_TYPE;
use corten_proto::discovery::Node;
use corten_xds::server::{Answer, Event, Observer, Response, Shared, WatchView};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::access::{Proxy, metadata_json};
use crate::credentials::Credentials;
use crate::debug::Debug;
use crate::faults::Object;
use crate::metrics::{Metrics, short_type};
use crate::secret::SECRET;
use crate::views::{Lease, Views};

/// The table of clients.
#[derive(Debug)]
pub(crate) struct Clients {
    table: Mutex<BTreeMap<u64, Arc<Client>>>,
    next: AtomicU64,
    metrics: Arc<Metrics>,
    /// Whether a client's identity must fit the node it claims to be.
    check_identity: bool,
    /// Who is told what clients reject.
    rejections: mpsc::Sender<Rejection>,
    /// What L7 proxies are sent.
    views: Arc<Views>,
    /// The certificates that they ask for.
    credentials: Arc<Credentials>,
}

/// The kinds of proxies that are sent Envoy's resources.
const ENVOYS: [&str; 3] = ["sidecar", "router", "waypoint"];

/// A client rejects a resource, or does so no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// The resource: its short type and name.
    pub(crate) resource: String,
    /// The objects that it was made of, as far as it says so; none where it is no longer rejected.
    pub(crate) objects: Vec<Object>,
    /// The client's connection.
    pub(crate) connection: String,
    /// Why; none: no longer.
    pub(crate) reason: Option<String>,
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    /// `name.namespace-number`.
    pub(crate) connection: String,
    /// Who it is.
    pub(crate) proxy: Proxy,
    /// Where it connected from.
    pub(crate) remote: SocketAddr,
    /// Since when.
    pub(crate) since: Timestamp,
    /// What it watches, by type.
    pub(crate) types: Mutex<BTreeMap<String, TypeState>>,
    /// What is held for it alone, as for L7 proxies.
    pub(crate) own: OnceLock<Arc<Shared>>,
}

/// A client's state for one type.
#[derive(Debug, Clone, Default)]
pub(crate) struct TypeState {
    /// As the session had it after the last request.
    pub(crate) view: Option<WatchView>,
    /// Nonce of the last response.
    pub(crate) sent: Option<String>,
    /// When it was sent.
    pub(crate) sent_at: Option<Timestamp>,
}

impl TypeState {
    /// In one word, as istiod has it.
    pub(crate) fn status(&self) -> &'static str {
        let view = self.view.as_ref();
        let acked = view.and_then(|view| view.acked.as_deref());
        if view.is_some_and(|view| view.error.is_some()) {
            "ERROR"
        } else if self.sent.is_none() {
            "NOT_SENT"
        } else if acked == self.sent.as_deref() {
            "SYNCED"
        } else {
            "STALE"
        }
    }
}

impl Clients {
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        check_identity: bool,
        rejections: mpsc::Sender<Rejection>,
        views: Arc<Views>,
        credentials: Arc<Credentials>,
    ) -> Arc<Clients> {
        Arc::new(Clients {
            table: Mutex::default(),
            next: AtomicU64::new(1),
            metrics,
            check_identity,
            rejections,
            views,
            credentials,
        })
    }

    /// All clients that are connected now.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.values().cloned().collect()
    }

    /// Tells which resources a client rejects now and did not before, and the other way round. `shared` is what it is sent.
    fn report(
        &self,
        client: &Client,
        shared: Option<&Shared>,
        type_url: &str,
        before: Option<&WatchView>,
        now: Option<&WatchView>,
    ) {
        let rejected = |view: Option<&WatchView>| -> BTreeMap<String, String> {
            view.map(|view| view.rejected.iter().cloned().collect())
                .unwrap_or_default()
        };
        let (before, now) = (rejected(before), rejected(now));
        let gone = before.keys().filter(|name| !now.contains_key(*name));
        let gone = gone.map(|name| (name.clone(), None));
        let new = now.iter().filter(|(name, reason)| before.get(*name) != Some(*reason));
        let new = new.map(|(name, reason)| (name.clone(), Some(reason.clone())));
        for (name, reason) in gone.chain(new) {
            let body = shared
                .filter(|_| reason.is_some())
                .and_then(|shared| shared.read(|look| look.get(type_url, &name).map(|resource| resource.body())));
            let rejection = Rejection {
                resource: format!("{} {name}", short_type(type_url)),
                objects: body.map(|body| objects_of(type_url, &body)).unwrap_or_default(),
                connection: client.connection.clone(),
                reason,
            };
            // With very many at once some are only in the log: a status says one reason anyway.
            let _ = self.rejections.try_send(rejection);
        }
    }

    /// The observer of a stream that was opened by a caller with these identities.
    pub(crate) fn observer(
        self: &Arc<Self>,
        remote: SocketAddr,
        identities: Vec<Identity>,
        debug: Arc<Debug>,
    ) -> Watcher {
        Watcher {
            clients: self.clone(),
            remote,
            identities,
            client: None,
            debug,
            lease: None,
            shared: None,
        }
    }
}

/// Looks on at one stream.
pub(crate) struct Watcher {
    clients: Arc<Clients>,
    remote: SocketAddr,
    /// What the caller has proven to be.
    identities: Vec<Identity>,
    client: Option<(u64, Arc<Client>)>,
    /// What tools ask.
    debug: Arc<Debug>,
    /// What an L7 proxy is sent.
    lease: Option<Lease>,
    shared: Option<Arc<Shared>>,
}

/// How many objects a resource that is rejected is laid at the door of.
const OBJECTS_MAX: usize = 8;

/// The objects that a resource says it was made of.
fn objects_of(type_url: &str, body: &[u8]) -> Vec<Object> {
    fn collect(value: &Value, found: &mut Vec<Object>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(members) => {
                for (key, value) in members {
                    match value {
                        Value::String(path) if key == "config" => {
                            let object = Object::of_path(path);
                            found.extend(object.filter(|object| !found.contains(object)));
                        }
                        value => collect(value, found),
                    }
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(shown) = corten_envoy::to_json(corten_envoy::type_name(type_url), body) {
        collect(&shown, &mut found);
    }
    found.truncate(OBJECTS_MAX);
    found
}

impl Observer for Watcher {
    fn accept(&mut self, node: &Node) -> Result<Option<Arc<Shared>>, Status> {
        let proven = match self.clients.check_identity {
            true => self.identities.as_slice(),
            false => &[],
        };
        let proxy = Proxy::of(node, proven).inspect_err(|status| {
            if status.code() == Code::PermissionDenied {
                self.clients.metrics.authentication_failures.add(1);
            }
            tracing::warn!(remote = %self.remote, reason = status.message(), "a discovery client was refused");
        })?;
        if proxy.is_tool() {
            // It is sent nothing but answers, and is no client to be counted or shown.
            return Ok(None);
        }
        let number = self.clients.next.fetch_add(1, Ordering::Relaxed);
        let client = Arc::new(Client {
            connection: format!("{}-{number}", proxy.short()),
            remote: self.remote,
            since: Timestamp::now(),
            types: Mutex::default(),
            own: OnceLock::new(),
            proxy,
        });
        tracing::info!(connection = client.connection, remote = %self.remote, kind = client.proxy.kind, "discovery client connected");
        let mut table = self.clients.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.insert(number, client.clone());
        self.clients.metrics.clients.add(1);
        let kind = client.proxy.kind.clone();
        self.client = Some((number, Arc::clone(&client)));
        drop(table);
        if !ENVOYS.contains(&kind.as_str()) {
            return Ok(None);
        }
        let metadata = node.metadata.as_ref().map(metadata_json).unwrap_or_default();
        let proxy = corten_routing::Proxy::of_node(&node.id, &metadata);
        let proxy = proxy.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let proxy = proxy.with_extensions(node.extensions.iter().map(|extension| extension.name.as_str()));
        let (shared, lease) = self.clients.views.hold(number, proxy.clone());
        let credentials = &self.clients.credentials;
        credentials.add(number, Arc::clone(&shared), proxy, &self.identities);
        self.lease = Some(lease);
        self.shared = Some(Arc::clone(&shared));
        // Told once: a stream is one client's.
        let _ = client.own.set(Arc::clone(&shared));
        Ok(Some(shared))
    }

    fn requested(&mut self, type_url: &str, event: &Event, view: Option<&WatchView>) {
        let Some((number, client)) = &self.client else { return };
        if let (SECRET, Some(view)) = (type_url, view) {
            let Clients { credentials, views, .. } = &*self.clients;
            credentials.ask(*number, &view.names, || views.snapshot());
        }
        match event {
            Event::Rejected { reason, names } => {
                self.clients.metrics.rejects.add(short_type(type_url), 1);
                let names: Vec<&str> = names.iter().take(5).map(|name| &**name).collect();
                tracing::warn!(
                    connection = client.connection,
                    kind = short_type(type_url),
                    resources = names.join(", "),
                    reason,
                    "a client rejected resources"
                );
            }
            Event::Stale => self.clients.metrics.expired_nonces.add(short_type(type_url), 1),
            Event::Subscribed | Event::Accepted => {}
        }
        let mut types = client.types.lock().unwrap_or_else(PoisonError::into_inner);
        let before = types.get(type_url).and_then(|state| state.view.as_ref());
        self.clients
            .report(client, self.shared.as_deref(), type_url, before, view);
        match types.get_mut(type_url) {
            Some(state) => state.view = view.cloned(),
            None => {
                let state = TypeState {
                    view: view.cloned(),
                    ..TypeState::default()
                };
                types.insert(type_url.to_owned(), state);
            }
        }
    }

    fn sent(&mut self, response: &Response, bytes: usize, since: Option<Instant>) {
        let metrics = &self.clients.metrics;
        metrics.pushes.add(short_type(response.type_url()), 1);
        metrics.config_size.observe(bytes as f64);
        if let Some(since) = since {
            metrics.convergence.observe_time(since.elapsed());
        }
        let Some((_, client)) = &self.client else { return };
        let mut types = client.types.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = types.get_mut(response.type_url()) {
            state.sent = Some(response.nonce().to_owned());
            state.sent_at = Some(Timestamp::now());
        }
    }

    fn answer(&mut self, type_url: &str, names: Option<&[String]>) -> Option<Result<Answer, Status>> {
        let question = type_url.strip_prefix(DEBUG_TYPE)?;
        let Some(names) = names else {
            return Some(Ok(Answer::default()));
        };
        Some(self.debug.answer_tool(question, names, &self.identities))
    }

    fn closed(&mut self, reason: &str) {
        if let Some((_, client)) = &self.client {
            tracing::info!(connection = client.connection, reason, "discovery client disconnected");
        }
    }
}

impl Drop for Watcher {
    /// Also when the stream's task is aborted, as happens when its connection breaks.
    fn drop(&mut self) {
        if let Some((number, client)) = self.client.take() {
            let types = client.types.lock().unwrap_or_else(PoisonError::into_inner);
            for (type_url, state) in &*types {
                self.clients.report(&client, None, type_url, state.view.as_ref(), None);
            }
            drop(types);
            let mut table = self.clients.table.lock().unwrap_or_else(PoisonError::into_inner);
            table.remove(&number);
            self.clients.credentials.remove(number);
            self.clients.metrics.clients.subtract(1);
        }
    }
}
