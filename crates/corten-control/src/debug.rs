//! What the control plane knows and has told, for tools and people: istiod's `/debug` endpoints, as far as they mean something here.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use corten_core::Identity;
use corten_grpc::Status;
use corten_model::Snapshot;
use corten_proto::client_status::{ClientConfig, ConfigStatus, GenericXdsConfig, UpdateFailureState};
use corten_proto::discovery::Node;
use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, CLIENT_CONFIG_TYPE, DEBUG_TYPE, Message, WORKLOAD_TYPE};
use corten_store_kube::{Refusal, Refusals};
use corten_xds::server::{Answer as Tool, Resource, Shared};
use http::{StatusCode, Uri};
use serde_json::{Value, json};

use crate::access::Access;
use crate::clients::{Client, Clients};
use crate::envoy_dump;
use crate::http::{Answer, Request, parameter};
use crate::issuers::Known;
use crate::metrics::Metrics;
use crate::pipeline::MeshConfig;
use crate::readable;

/// What the endpoints show.
pub(crate) struct Debug {
    pub(crate) shared: Arc<Shared>,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) mesh_config: Arc<ArcSwap<MeshConfig>>,
    /// What is known of the keys of issuers.
    pub(crate) issuers: tokio::sync::watch::Receiver<Arc<Known>>,
    pub(crate) access: Arc<Access>,
    pub(crate) ready: tokio::sync::watch::Receiver<bool>,
    /// What may not be read.
    pub(crate) refusals: Refusals,
    pub(crate) started: Instant,
    /// Whether `/debug` is served at all.
    pub(crate) enabled: bool,
    pub(crate) namespace: String,
    pub(crate) cluster: String,
    /// Our own pod.
    pub(crate) pod: String,
    /// The authority's counters, rendered.
    pub(crate) authority: Box<dyn Fn() -> String + Send + Sync>,
}

/// The version of this build.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The endpoints below `/debug/`, with what they show.
const ENDPOINTS: &[(&str, &str)] = &[
    ("ambientz", "workloads, services and policies as node proxies get them"),
    ("authorizationz", "authorization policies by namespace"),
    ("config_dump", "what a proxy (proxyID) has been sent"),
    ("connections", "proxies that are connected"),
    ("adsz", "proxies that are connected, and what they watch"),
    ("endpointShardz", "endpoints by service"),
    ("endpointz", "endpoints by service"),
    ("list", "names of these endpoints"),
    ("mesh", "the mesh's configuration"),
    (
        "problemz",
        "what is wrong with the mesh's configuration, what of it needs a restart, keys of issuers that cannot be had, and rights that are missing",
    ),
    ("registryz", "services"),
    ("syncz", "what was sent to each proxy, and what it acknowledged"),
];

impl Debug {
    /// Answers a request on the HTTP ports.
    pub(crate) async fn answer(&self, request: Request) -> Answer {
        match request.uri.path() {
            "/ready" | "/healthz/ready" => self.ready().await,
            "/metrics" | "/stats/prometheus" => {
                let text = self.metrics.render(VERSION, self.started.elapsed()) + &(self.authority)();
                Answer::of("text/plain; version=0.0.4; charset=utf-8", text)
            }
            "/version" => Answer::text(format!("{VERSION}-corten")),
            "/debug" | "/debug/" if self.enabled => index(),
            path => match path.strip_prefix("/debug/").filter(|_| self.enabled) {
                Some(name) => {
                    if let Err(refused) = self.may_look(name, &request).await {
                        return refused;
                    }
                    let pretty = request.parameter("pretty").is_some();
                    match self.look(name, &request.uri) {
                        Ok(value) => Answer::json(&value, pretty),
                        Err(answer) => answer,
                    }
                }
                None => Answer::error(StatusCode::NOT_FOUND, "404 page not found\n"),
            },
        }
    }

    async fn ready(&self) -> Answer {
        let mut ready = self.ready.clone();
        corten_rt::probe::ready_or_late(async {
            // Of one that is ending nothing more is heard.
            let _ = ready.wait_for(|ready| *ready).await;
        })
        .await;
        let lines = |refusals: Vec<Refusal>| refusals.iter().map(|one| format!("{one}\n")).collect::<String>();
        if *self.ready.borrow() {
            return Answer::text(lines(self.refusals.all()));
        }
        let missing = lines(self.refusals.needed());
        let reason = if missing.is_empty() {
            "objects are still being read\n".to_owned()
        } else {
            format!("nothing is served before everything that keeps the mesh safe can be read:\n{missing}")
        };
        Answer::error(StatusCode::SERVICE_UNAVAILABLE, reason)
    }

    /// Callers on this machine may look; others must be of the system namespace, or ask about a proxy of their own namespace.
    async fn may_look(&self, name: &str, request: &Request) -> Result<(), Answer> {
        if request.remote.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        let peer = corten_grpc::Peer {
            remote: request.remote,
            certificates: Arc::default(),
            // Asked for a token like a caller over TLS: this port has no other way to tell who calls.
            tls: true,
        };
        let refused = |status, reason: String| Answer::error(status, format!("{reason}\n"));
        let identities = self.access.authenticate(&peer, &request.headers).await;
        let identities = identities.map_err(|error| refused(StatusCode::UNAUTHORIZED, error.message().to_owned()))?;
        if identities.iter().any(|identity| identity.namespace == self.namespace) {
            return Ok(());
        }
        let own = |client: &Client| {
            identities
                .iter()
                .any(|identity| identity.namespace == client.proxy.namespace)
        };
        let asked = request.parameter("proxyID").unwrap_or_default();
        if name == "config_dump" && self.client(&asked).is_some_and(|client| own(&client)) {
            return Ok(());
        }
        Err(refused(
            StatusCode::FORBIDDEN,
            format!("only callers of namespace {} may see {name}", self.namespace),
        ))
    }

    fn look(&self, name: &str, uri: &Uri) -> Result<Value, Answer> {
        Ok(match name {
            "list" => json!(ENDPOINTS.iter().map(|(name, _)| name).collect::<Vec<_>>()),
            "syncz" => self.syncz(parameter(uri, "namespace").as_deref()),
            "connections" => self.connections(false),
            "adsz" => self.connections(true),
            "registryz" => {
                let snapshot = self.snapshot.load();
                Value::Array(
                    snapshot
                        .services()
                        .map(|service| readable::service(&corten_xds_gen::service_message(service)))
                        .collect(),
                )
            }
            "endpointShardz" | "endpointz" => self.endpoints(),
            "ambientz" => self.ambient(),
            "authorizationz" => self.authorizations(),
            "mesh" => json!(self.mesh_config.load().text),
            "problemz" => {
                let (config, known) = (self.mesh_config.load(), Arc::clone(&self.issuers.borrow()));
                let refused = self.refusals.all();
                let refused = refused.iter().map(|one| {
                    let effect = if one.needed {
                        ""
                    } else {
                        ": these objects are taken for none"
                    };
                    format!("{one}{effect}")
                });
                let problems = config.problems.iter().chain(known.problems()).cloned();
                json!(problems.chain(refused).collect::<Vec<_>>())
            }
            "config_dump" => self.config_dump(&parameter(uri, "proxyID").unwrap_or_default(), uri)?,
            other => {
                let name: String = other.chars().take(100).collect();
                return Err(Answer::error(
                    StatusCode::NOT_FOUND,
                    format!("there is no /debug/{name}; see /debug\n"),
                ));
            }
        })
    }

    /// A client by its id, `name.namespace`, or its connection's id.
    fn client(&self, id: &str) -> Option<Arc<Client>> {
        let found =
            |client: &Arc<Client>| id == client.proxy.short() || id == client.connection || id == client.proxy.id;
        self.clients.all().into_iter().find(found)
    }

    fn syncz(&self, namespace: Option<&str>) -> Value {
        let clients = self.clients.all().into_iter();
        let clients = clients.filter(|client| namespace.is_none_or(|wanted| wanted == client.proxy.namespace));
        clients
            .map(|client| {
                let types = client.types.lock().unwrap_or_else(PoisonError::into_inner);
                let resources: BTreeMap<&str, Value> = types
                    .iter()
                    .map(|(type_url, state)| {
                        let view = state.view.as_ref();
                        let entry = json!({
                            "sent": state.sent,
                            "acked": view.and_then(|view| view.acked.as_ref()),
                            "sentTime": state.sent_at.map(|at| at.to_string()),
                            "status": state.status(),
                            "lastError": view.and_then(|view| view.error.as_ref()),
                            "rejected": view.map(|view| view.rejected.iter().cloned().collect::<BTreeMap<_, _>>()),
                            "rejectedFields": view.map(|view| {
                                let rejected = view.rejected.iter();
                                let fields = rejected.filter_map(|(name, reason)| Some((name, field_of(reason)?)));
                                fields.collect::<BTreeMap<_, _>>()
                            }),
                        });
                        (type_url.as_str(), entry)
                    })
                    .collect();
                json!({
                    "cluster_id": self.cluster_of(&client),
                    "proxy": client.proxy.short(),
                    "proxy_type": client.proxy.kind,
                    "istio_version": client.proxy.version,
                    "resources": resources,
                })
            })
            .collect()
    }

    fn connections(&self, watches: bool) -> Value {
        let clients = self.clients.all();
        let shown: Vec<Value> = clients
            .iter()
            .map(|client| {
                let mut shown = json!({
                    "connectionId": client.connection,
                    "connectedAt": client.since.to_string(),
                    "address": client.remote.to_string(),
                });
                if watches {
                    let types = client.types.lock().unwrap_or_else(PoisonError::into_inner);
                    let names = |view: &corten_xds::server::WatchView| {
                        if view.wildcard {
                            json!(["*"])
                        } else {
                            view.names.iter().map(|name| json!(name)).collect()
                        }
                    };
                    let watches: BTreeMap<&str, Value> = types
                        .iter()
                        .map(|(type_url, state)| (type_url.as_str(), state.view.as_ref().map_or(Value::Null, names)))
                        .collect();
                    shown["watches"] = json!(watches);
                    shown["metadata"] = json!({"NAMESPACE": client.proxy.namespace, "NODE_NAME": client.proxy.node});
                }
                shown
            })
            .collect();
        json!({"totalClients": clients.len(), "clients": shown})
    }

    fn endpoints(&self) -> Value {
        let snapshot = self.snapshot.load();
        let mut shown: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for service in snapshot.services() {
            let members = snapshot.members(&service.key);
            let endpoints: Vec<Value> = members
                .filter_map(|uid| snapshot.workload(uid))
                .map(|workload| readable::workload(&corten_xds_gen::workload_message(workload)))
                .collect();
            let (namespace, hostname) = service.key.split_once('/').unwrap_or(("", &service.key));
            let shard = format!("{}/Kubernetes", self.cluster);
            let by_namespace = shown.entry(hostname.to_owned()).or_default();
            by_namespace.insert(namespace.to_owned(), json!({"Shards": {shard: endpoints}}));
        }
        json!(shown)
    }

    fn ambient(&self) -> Value {
        let snapshot = self.snapshot.load();
        json!({
            "workloads": snapshot.workloads().map(|found| readable::workload(&corten_xds_gen::workload_message(found))).collect::<Vec<_>>(),
            "services": snapshot.services().map(|found| readable::service(&corten_xds_gen::service_message(found))).collect::<Vec<_>>(),
            "policies": snapshot.policies().map(|found| readable::authorization(&corten_xds_gen::authorization_message(found))).collect::<Vec<_>>(),
        })
    }

    fn authorizations(&self) -> Value {
        let snapshot = self.snapshot.load();
        let mut policies: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for policy in snapshot.policies() {
            let message = corten_xds_gen::authorization_message(policy);
            let namespace = policies.entry(message.namespace.clone()).or_default();
            namespace.push(readable::authorization(&message));
        }
        json!({"authorization_policies": {
            "namespace_to_policies": policies,
            "root_namespace": &*snapshot.settings().root_namespace,
        }})
    }

    /// A question of a tool over discovery: `/syncz`, `/config_dump`, or, where nothing follows the type, an endpoint by path and query.
    pub(crate) fn answer_tool(
        &self,
        question: &str,
        names: &[String],
        identities: &[Identity],
    ) -> Result<Tool, Status> {
        if !self.enabled {
            return Err(Status::unimplemented("debugging is switched off"));
        }
        if identities.is_empty() {
            return Err(Status::unauthenticated(
                "tools must say who they are: ask on the TLS port, with a token or a certificate",
            ));
        }
        if question == "/syncz" {
            self.may_ask("syncz", "", identities)?;
            let identifier = json!({"Component": "istiod", "ID": self.pod, "Info": {"version": VERSION}});
            return Ok(Tool {
                resources: self.client_configs(),
                control_plane: identifier.to_string(),
            });
        }
        let [name] = names else {
            return Err(Status::invalid_argument(
                "exactly one resource name says what is asked for",
            ));
        };
        let path = match question {
            "/config_dump" => format!("config_dump?proxyID={name}"),
            _ => name.trim_start_matches('/').trim_start_matches("debug/").to_owned(),
        };
        let uri: Uri = format!("/{path}")
            .parse()
            .map_err(|_| Status::invalid_argument("the resource name is no path of a debug endpoint"))?;
        let endpoint = uri.path().trim_start_matches('/');
        let proxy = parameter(&uri, "proxyID").unwrap_or_default();
        self.may_ask(endpoint, &proxy, identities)?;
        let shown = self
            .look(endpoint, &uri)
            .map_err(|answer| Status::not_found(String::from_utf8_lossy(answer.body()).trim()))?;
        let body = shown.to_string();
        Ok(Tool {
            resources: vec![Resource::new(DEBUG_TYPE, name.as_str(), "", body.as_bytes())],
            control_plane: String::new(),
        })
    }

    /// Callers of the system namespace may ask everything, others about the proxies of their own.
    fn may_ask(&self, endpoint: &str, proxy: &str, identities: &[Identity]) -> Result<(), Status> {
        let of = |namespace: &str| identities.iter().any(|identity| identity.namespace == namespace);
        let own = || self.client(proxy).is_some_and(|client| of(&client.proxy.namespace));
        if of(&self.namespace) || (endpoint == "config_dump" && own()) {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "only callers of namespace {} may see {endpoint}",
            self.namespace
        )))
    }

    /// All clients and how far they are, as tools read it.
    fn client_configs(&self) -> Vec<Resource> {
        let clients = self.clients.all().into_iter();
        clients
            .map(|client| {
                let types = client.types.lock().unwrap_or_else(PoisonError::into_inner);
                let configs = types.iter().map(|(type_url, state)| GenericXdsConfig {
                    type_url: type_url.clone(),
                    last_updated: state.sent_at.map(|at| corten_proto::Timestamp {
                        seconds: at.as_second(),
                        nanos: at.subsec_nanosecond(),
                    }),
                    config_status: match state.status() {
                        "SYNCED" => ConfigStatus::Synced,
                        "ERROR" => ConfigStatus::Error,
                        "STALE" => ConfigStatus::Stale,
                        _ => ConfigStatus::NotSent,
                    }
                    .into(),
                    error_state: state
                        .view
                        .as_ref()
                        .and_then(|view| view.error.clone())
                        .map(|details| UpdateFailureState { details }),
                });
                let text = |text: &str| corten_proto::Value {
                    kind: Some(corten_proto::value::Kind::StringValue(text.to_owned())),
                };
                let metadata = [
                    ("CLUSTER_ID", self.cluster_of(&client)),
                    ("NAMESPACE", client.proxy.namespace.as_str()),
                    ("ISTIO_VERSION", client.proxy.version.as_str()),
                ];
                let config = ClientConfig {
                    node: Some(Node {
                        id: client.proxy.short(),
                        metadata: Some(corten_proto::Struct {
                            fields: metadata.map(|(key, value)| (key.to_owned(), text(value))).into(),
                        }),
                        ..Node::default()
                    }),
                    generic_xds_configs: configs.collect(),
                };
                let name = client.proxy.short();
                Resource::new(CLIENT_CONFIG_TYPE, name, "", &config.encode_to_vec())
            })
            .collect()
    }

    fn cluster_of<'a>(&'a self, client: &'a Client) -> &'a str {
        match client.proxy.cluster.as_str() {
            "" => &self.cluster,
            cluster => cluster,
        }
    }

    /// What a client is sent: of an L7 proxy what is held for it, in the form of Envoy's own dump; of others the store as it is.
    fn config_dump(&self, id: &str, uri: &Uri) -> Result<Value, Answer> {
        let Some(client) = self.client(id) else {
            let id: String = id.chars().take(200).collect();
            let text = if id.is_empty() {
                "say which proxy, as proxyID=name.namespace\n".to_owned()
            } else {
                format!("Proxy not connected to this Pilot instance: {id}\n")
            };
            return Err(Answer::error(StatusCode::NOT_FOUND, text));
        };
        if let Some(own) = client.own.get() {
            let wanted = parameter(uri, "types");
            let endpoints = parameter(uri, "include_eds").is_some_and(|it| it != "false");
            return Ok(envoy_dump::of(&client, own, wanted.as_deref(), endpoints));
        }
        let types = client.types.lock().unwrap_or_else(PoisonError::into_inner);
        let configs = self.shared.read(|store| {
            let watched = [ADDRESS_TYPE, WORKLOAD_TYPE, AUTHORIZATION_TYPE]
                .into_iter()
                .filter(|type_url| types.contains_key(*type_url));
            watched
                .flat_map(|type_url| {
                    store.resources(type_url).map(move |resource| {
                        json!({
                            "@type": type_url,
                            "name": &**resource.name(),
                            "version": resource.version(),
                            "resource": readable::resource(type_url, &resource.body()),
                        })
                    })
                })
                .collect::<Vec<Value>>()
        });
        Ok(json!({"configs": configs}))
    }
}

/// The field that a proxy names as the reason of a rejection; none: it names none. Envoy writes what breaks a message's rules as
/// `(MESSAGEValidationError.FIELD: why)`, nested ones joined by `| caused by`; a proxy of ours as `field FIELD: why`.
fn field_of(reason: &str) -> Option<String> {
    if let Some((_, rest)) = reason.split_once("field ") {
        let field: String = rest.chars().take_while(|letter| !":, ".contains(*letter)).collect();
        return Some(field).filter(|field| !field.is_empty() && rest[field.len()..].starts_with(':'));
    }
    let parts: Vec<&str> = reason
        .split("ValidationError.")
        .skip(1)
        .filter_map(|rest| rest.split(':').next())
        .map(str::trim)
        .collect();
    (!parts.is_empty()).then(|| parts.join("."))
}

fn index() -> Answer {
    let rows: String = ENDPOINTS
        .iter()
        .map(|(name, what)| format!("<tr><td><a href=\"/debug/{name}\">{name}</a></td><td>{what}</td></tr>\n"))
        .collect();
    let page = format!("<!doctype html><title>corten-control</title><table>\n{rows}</table>\n");
    Answer::of("text/html; charset=utf-8", page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_found_in_what_a_proxy_says() {
        for (reason, field) in [
            (
                "Proto constraint validation failed (ClusterValidationError.ConnectTimeout: value must be greater than 0s)",
                Some("ConnectTimeout"),
            ),
            (
                "Proto constraint validation failed (ListenerValidationError.Address: embedded message failed validation | \
                 caused by AddressValidationError.SocketAddress: value is required)",
                Some("Address.SocketAddress"),
            ),
            (
                "field filter_chains[0].name: is given twice",
                Some("filter_chains[0].name"),
            ),
            ("Error adding/updating cluster(s) a: unknown", None),
            ("the field is wrong", None),
        ] {
            assert_eq!(field_of(reason).as_deref(), field, "{reason}");
        }
    }
}
