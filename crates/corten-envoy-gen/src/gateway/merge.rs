//! The Gateways of a router, put together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use corten_api::istio::gateway::{GatewaySpec, Server, ServerTLSSettingsTLSmode as Mode};
use corten_core::{Labels, NamespacedHost, Protocol};
use corten_model::Name;
use corten_routing::{Config, by_age};

use crate::{
    Context,
    listener::{Target, all_targets},
};

/// Names the services that a Gateway which was made of another kind is for.
pub(super) const SERVICES: &str = "internal.istio.io/gateway-service";
/// The namespace of the object that such a Gateway was made of, where it is another one.
pub(super) const PARENT_NAMESPACE: &str = "internal.istio.io/parent-namespace";
/// On a service: the ports of Gateways are those of the workload already.
const UNTRANSLATED: &str = "experimental.istio.io/disable-gateway-port-translation";

/// A server of a Gateway, at one port.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// The Gateway, `namespace/name`.
    pub gateway: Name,
    /// Its namespace.
    pub namespace: Name,
    /// The server, with full namespaces in its hosts.
    pub server: Arc<Server>,
    /// The table of its routes, if it is one of HTTP.
    pub table: String,
    /// The hosts without namespaces, sorted: the names in TLS greetings.
    pub names: Vec<String>,
}

/// What is served at a port.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The port that the router listens on.
    pub port: u16,
    /// The address; empty: all.
    pub bind: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// The table of routes, where all servers share one.
    pub table: String,
    /// The servers, in the order in which they came.
    pub servers: Vec<Served>,
}

/// A server that is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Its Gateway, `namespace/name`.
    pub gateway: Name,
    /// Which of its servers.
    pub server: usize,
    /// The field.
    pub field: &'static str,
    /// Why.
    pub reason: String,
}

/// The Gateways of a router together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    /// What is served where.
    pub bound: Vec<Bound>,
    /// The servers of each table of routes.
    pub tables: BTreeMap<String, Vec<Served>>,
    /// What is left out.
    pub conflicts: Vec<Conflict>,
}

impl Served {
    /// The port that it is written for.
    pub(super) fn written_port(&self) -> u16 {
        self.server.port.as_ref().map_or(0, |port| port.number.0)
    }

    fn protocol(&self) -> Protocol {
        protocol(&self.server)
    }

    /// Whether TLS ends elsewhere.
    pub(super) fn passes_through(&self) -> bool {
        passes_through(&self.server)
    }

    /// Whether it routes requests inside TLS that ends here.
    pub(super) fn is_https(&self) -> bool {
        self.server.tls.is_some() && self.protocol() == Protocol::Https && !self.passes_through()
    }

    fn routes_requests(&self) -> bool {
        self.protocol().is_http() || (self.protocol() == Protocol::Https && !self.passes_through())
    }

    /// Whether it speaks TLS; servers of HTTP may have TLS settings only to redirect.
    fn speaks_tls(&self) -> bool {
        self.server.tls.is_some() && !self.protocol().is_http()
    }
}

pub(super) fn protocol(server: &Server) -> Protocol {
    server
        .port
        .as_ref()
        .map_or(Protocol::Unsupported, |port| Protocol::parse(&port.protocol))
}

fn passes_through(server: &Server) -> bool {
    server
        .tls
        .as_ref()
        .is_some_and(|tls| matches!(tls.mode, Mode::Passthrough | Mode::AutoPassthrough))
}

impl Merged {
    /// The Gateways of a router, oldest first.
    pub fn of(cx: &Context<'_>) -> Merged {
        let targets = all_targets(cx);
        let mut merging = Merging::default();
        for gateway in by_age(&cx.snapshot.catalog.configs.gateways) {
            let Some(at) = At::of(cx, &gateway, &targets) else {
                continue;
            };
            for (index, server) in gateway.spec.servers.iter().enumerate() {
                merging.put(&gateway, index, server, &at);
            }
        }
        Merged {
            bound: merging.bound,
            tables: merging.tables,
            conflicts: merging.conflicts,
        }
    }
}

/// How a Gateway came to be a router's.
struct At<'a> {
    /// It was chosen by labels: where no service leads to a port, that port itself is meant.
    by_labels: bool,
    targets: Vec<&'a Target>,
}

impl<'a> At<'a> {
    fn of(cx: &Context<'_>, gateway: &Config<GatewaySpec>, targets: &'a [Target]) -> Option<At<'a>> {
        let Some(services) = gateway.annotations.get(SERVICES) else {
            let by_labels = Labels(&gateway.spec.selector).is_subset_of(&cx.proxy.labels);
            return by_labels.then(|| At {
                by_labels,
                targets: targets.iter().collect(),
            });
        };
        let known: Vec<&str> = services.split(',').map(str::trim).collect();
        let parent = gateway
            .annotations
            .get(PARENT_NAMESPACE)
            .filter(|parent| !parent.is_empty());
        let namespace = parent.map_or(&*gateway.namespace, String::as_str);
        let is_one =
            |target: &&Target| *target.service.namespace == *namespace && known.contains(&target.service.host.as_str());
        let targets: Vec<&Target> = targets.iter().filter(is_one).collect();
        (!targets.is_empty()).then_some(At {
            by_labels: false,
            targets,
        })
    }

    /// The ports that the router listens on for one that is written.
    fn ports(&self, written: u16) -> Vec<u16> {
        let translated = |target: &&&Target| {
            let as_is = target.service.labels.get(UNTRANSLATED).is_some();
            target.port.number == written && !(self.by_labels && as_is)
        };
        let mut found = self.targets.iter().filter(translated).map(|target| target.number);
        if self.by_labels {
            return vec![found.next().unwrap_or(written)];
        }
        found.collect::<BTreeSet<u16>>().into_iter().collect()
    }
}

#[derive(Default)]
struct Merging {
    bound: Vec<Bound>,
    tables: BTreeMap<String, Vec<Served>>,
    conflicts: Vec<Conflict>,
    /// The ports that something is served at.
    ports: HashSet<u16>,
    /// For each port, what was first served there without TLS.
    plain: HashMap<u16, (Protocol, String)>,
    /// The names that are served with TLS at a port and an address.
    names: HashSet<(u16, String, String)>,
}

impl Merging {
    fn put(&mut self, gateway: &Config<GatewaySpec>, index: usize, server: &Server, at: &At<'_>) {
        let name = Name::from(format!("{}/{}", gateway.namespace, gateway.name));
        let mut refuse = |field: &'static str, reason: String| {
            self.conflicts.push(Conflict {
                gateway: Name::clone(&name),
                server: index,
                field,
                reason,
            });
        };
        let Some(port) = &server.port else {
            refuse("port", "the server has no port".to_owned());
            return;
        };
        if !server.bind.is_empty() && !server.bind.starts_with("unix:") && server.bind.parse::<IpAddr>().is_err() {
            refuse("bind", format!("{:?} is no address", server.bind));
            return;
        }
        let server = Arc::new(with_namespaces(server, &gateway.namespace));
        for number in at.ports(port.number.0) {
            let mut served = Served {
                gateway: Name::clone(&name),
                namespace: Name::clone(&gateway.namespace),
                names: names_of(&server),
                table: String::new(),
                server: Arc::clone(&server),
            };
            served.table = table_name(&served, number, &gateway.name);
            if let Err((field, reason)) = self.at(number, served) {
                self.conflicts.push(Conflict {
                    gateway: Name::clone(&name),
                    server: index,
                    field,
                    reason,
                });
            }
        }
    }

    /// Adds a server to what is at a port.
    fn at(&mut self, port: u16, served: Served) -> Result<(), (&'static str, String)> {
        let (protocol, bind) = (served.protocol(), served.server.bind.clone());
        if served.server.tls.is_some() {
            let key = |name: &String| (port, bind.clone(), name.clone());
            if let Some(known) = served.names.iter().find(|name| self.names.contains(&key(name))) {
                let reason = format!("host {known:?} is served at port {port} by an older server already");
                return Err(("hosts", reason));
            }
            self.names.extend(served.names.iter().map(key));
        }
        if self.ports.insert(port) {
            if !served.speaks_tls() {
                self.plain.insert(port, (protocol, bind));
            }
            self.first(port, served);
            return Ok(());
        }
        let Some((known, address)) = self.plain.get(&port).cloned() else {
            if !served.speaks_tls() {
                self.plain.insert(port, (protocol, bind));
                self.first(port, served);
                return Ok(());
            }
            return self.tls_too(port, served);
        };
        if address == bind {
            let together = (known.is_http() || known == protocol) && protocol.is_http();
            if !together {
                let reason = format!("{protocol} cannot share port {port} with {known} of an older server");
                return Err(("port.protocol", reason));
            }
            self.tables
                .entry(served.table.clone())
                .or_default()
                .push(served.clone());
            let is_it = |bound: &&mut Bound| bound.port == port && bound.bind == address && bound.protocol == known;
            if let Some(bound) = self.bound.iter_mut().find(is_it) {
                bound.servers.push(served);
            }
            return Ok(());
        }
        let is_it = |bound: &&mut Bound| bound.port == port && bound.bind == bind && bound.protocol == protocol;
        match self.bound.iter_mut().find(is_it) {
            Some(bound) => {
                if served.routes_requests() {
                    self.tables
                        .entry(served.table.clone())
                        .or_default()
                        .push(served.clone());
                }
                bound.table.clone_from(&served.table);
                bound.servers.push(served);
            }
            None => self.first(port, served),
        }
        Ok(())
    }

    /// A server of TLS where there is TLS already.
    fn tls_too(&mut self, port: u16, served: Served) -> Result<(), (&'static str, String)> {
        if served.routes_requests() && self.tables.contains_key(&served.table) {
            let reason = format!(
                "another server of this Gateway at port {} has the same name of its port",
                served.written_port()
            );
            return Err(("port.name", reason));
        }
        let (protocol, bind) = (served.protocol(), served.server.bind.clone());
        let is_it = |bound: &&mut Bound| bound.port == port && bound.bind == bind && bound.protocol == protocol;
        match self.bound.iter_mut().find(is_it) {
            Some(bound) => {
                if served.routes_requests() {
                    self.tables.insert(served.table.clone(), vec![served.clone()]);
                }
                bound.servers.push(served);
            }
            None => self.first(port, served),
        }
        Ok(())
    }

    /// The first server of its kind at a port.
    fn first(&mut self, port: u16, served: Served) {
        if served.routes_requests() {
            self.tables.insert(served.table.clone(), vec![served.clone()]);
        }
        self.bound.push(Bound {
            port,
            bind: served.server.bind.clone(),
            protocol: served.protocol(),
            table: served.table.clone(),
            servers: vec![served],
        });
    }
}

/// A server whose hosts name their namespace, or none for all.
fn with_namespaces(server: &Server, own: &str) -> Server {
    let mut server = server.clone();
    for host in &mut server.hosts {
        if let Some((namespace, name)) = host.split_once('/') {
            *host = match namespace {
                "." => format!("{own}/{name}"),
                "*" => name.to_owned(),
                _ => continue,
            };
        }
    }
    if server.hosts.iter().any(|host| host == "*") {
        server.hosts = vec!["*".to_owned()];
    }
    server
}

fn names_of(server: &Server) -> Vec<String> {
    let names = server
        .hosts
        .iter()
        .map(|host| NamespacedHost::parse(host).host.to_ascii_lowercase());
    names.collect::<BTreeSet<String>>().into_iter().collect()
}

/// The table of a server: all of plain HTTP at a port share one, each with TLS has its own.
fn table_name(served: &Served, port: u16, gateway: &str) -> String {
    let bind = match served.server.bind.as_str() {
        "" => String::new(),
        bind => format!(".{bind}"),
    };
    if served.protocol().is_http() {
        return format!("http.{port}{bind}");
    }
    if served.routes_requests() {
        let name = served.server.port.as_ref().map_or("", |port| port.name.as_str());
        let namespace = &served.namespace;
        return format!("https.{}.{name}.{gateway}.{namespace}{bind}", served.written_port());
    }
    String::new()
}
