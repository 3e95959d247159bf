//! Services and their endpoints as plain values, read from the API's objects.
//!
//! Reading is lenient: the API has validated the objects, and one that cannot be read must not stop the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

/// Namespace and name.
pub type ServiceId = (String, String);

/// How a service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// By its own addresses.
    Addressed,
    /// By its endpoints' addresses, through DNS.
    Headless,
    /// It is another name for this host.
    External(String),
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name; empty when there is one port only.
    pub name: String,
    /// The IP protocol: 6, 17, 132.
    pub protocol: u8,
    /// The service's port.
    pub port: u16,
    /// The port on every node, if any.
    pub node_port: Option<u16>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// How it is reached.
    pub kind: ServiceKind,
    /// `spec.clusterIPs`
    pub addresses: Vec<IpAddr>,
    /// `spec.externalIPs` and the load balancer's addresses.
    pub external: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// How long a client keeps its endpoint, if it does.
    pub affinity: Option<Duration>,
    /// `internalTrafficPolicy: Local`
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`
    pub external_local: bool,
    /// Endpoints that are not ready count too.
    pub publish_not_ready: bool,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its addresses (one, as Kubernetes writes them).
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`
    pub ready: bool,
    /// `conditions.serving`
    pub serving: bool,
    /// `conditions.terminating`
    pub terminating: bool,
    /// The node it is on.
    pub node: Option<String>,
    /// Its own name within a headless service.
    pub hostname: Option<String>,
}

/// An EndpointSlice: endpoints that share their ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Name, protocol and port.
    pub ports: Vec<(String, u8, u16)>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A service with its slices; either may come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The Service.
    pub service: Option<Service>,
    /// By name.
    pub slices: BTreeMap<String, Slice>,
}

/// All services, with the indexes that DNS asks by.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    entries: BTreeMap<ServiceId, Entry>,
    /// Which services an address belongs to, as its own or an endpoint's.
    owners: HashMap<IpAddr, BTreeSet<ServiceId>>,
}

/// The IP protocol's number.
pub(crate) fn protocol(name: &str) -> u8 {
    match name {
        "UDP" => 17,
        "SCTP" => 132,
        _ => 6,
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn addresses(value: &Value) -> Vec<IpAddr> {
    strings(value).filter_map(|text| text.parse().ok()).collect()
}

fn port(value: &Value) -> Option<u16> {
    value
        .as_u64()
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
}

/// Namespace and name of an object.
fn id(object: &Value) -> ServiceId {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

impl Service {
    /// Reads a Service object.
    pub fn read(object: &Value) -> Service {
        let spec = &object["spec"];
        let mut cluster = addresses(&spec["clusterIPs"]);
        if cluster.is_empty() {
            cluster.extend(spec["clusterIP"].as_str().and_then(|text| text.parse::<IpAddr>().ok()));
        }
        let kind = match (spec["type"].as_str(), spec["clusterIP"].as_str()) {
            (Some("ExternalName"), _) => {
                ServiceKind::External(spec["externalName"].as_str().unwrap_or_default().into())
            }
            (_, Some("None")) => ServiceKind::Headless,
            _ => ServiceKind::Addressed,
        };
        let ingress = object["status"]["loadBalancer"]["ingress"]
            .as_array()
            .into_iter()
            .flatten();
        let ingress = ingress.filter_map(|ingress| ingress["ip"].as_str()?.parse().ok());
        let ports = spec["ports"].as_array().into_iter().flatten().filter_map(|entry| {
            Some(Port {
                name: entry["name"].as_str().unwrap_or_default().into(),
                protocol: protocol(entry["protocol"].as_str().unwrap_or("TCP")),
                port: port(&entry["port"])?,
                node_port: port(&entry["nodePort"]),
            })
        });
        let sticky = spec["sessionAffinity"] == "ClientIP";
        let seconds = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].as_u64();
        Service {
            kind,
            addresses: cluster,
            external: addresses(&spec["externalIPs"]).into_iter().chain(ingress).collect(),
            ports: ports.collect(),
            affinity: sticky.then(|| Duration::from_secs(seconds.unwrap_or(10800).clamp(1, 86400))),
            internal_local: spec["internalTrafficPolicy"] == "Local",
            external_local: spec["externalTrafficPolicy"] == "Local",
            publish_not_ready: spec["publishNotReadyAddresses"] == true,
        }
    }
}

impl Slice {
    /// Reads an EndpointSlice object.
    pub fn read(object: &Value) -> Slice {
        let ports = object["ports"].as_array().into_iter().flatten().filter_map(|entry| {
            let name = entry["name"].as_str().unwrap_or_default().to_owned();
            Some((
                name,
                protocol(entry["protocol"].as_str().unwrap_or("TCP")),
                port(&entry["port"])?,
            ))
        });
        let endpoints = object["endpoints"].as_array().into_iter().flatten().map(|entry| {
            let conditions = &entry["conditions"];
            // Unknown readiness counts as ready, as the API defines it.
            let ready = conditions["ready"].as_bool().unwrap_or(true);
            Endpoint {
                addresses: addresses(&entry["addresses"]),
                ready,
                serving: conditions["serving"].as_bool().unwrap_or(ready),
                terminating: conditions["terminating"].as_bool().unwrap_or(false),
                node: entry["nodeName"].as_str().map(str::to_owned),
                hostname: entry["hostname"]
                    .as_str()
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned),
            }
        });
        Slice {
            ports: ports.collect(),
            endpoints: endpoints.collect(),
        }
    }
}

impl Entry {
    fn addresses(&self) -> BTreeSet<IpAddr> {
        let own = self.service.iter().flat_map(|service| service.addresses.iter());
        let endpoints = self
            .slices
            .values()
            .flat_map(|slice| &slice.endpoints)
            .flat_map(|e| &e.addresses);
        own.chain(endpoints).copied().collect()
    }
}

impl Catalog {
    /// The entry of a service.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Entry> {
        // The map's key is a pair of strings, which a pair of &str cannot look up.
        self.entries.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceId, &Entry)> {
        self.entries.iter()
    }

    /// Whether any service is in the namespace.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        let from = (namespace.to_owned(), String::new());
        let next = self.entries.range(from..).find(|(_, entry)| entry.service.is_some());
        next.is_some_and(|((found, _), _)| found == namespace)
    }

    /// The services that an address belongs to.
    pub fn owners(&self, address: IpAddr) -> impl Iterator<Item = (&ServiceId, &Entry)> {
        let ids = self.owners.get(&address).into_iter().flatten();
        ids.filter_map(|id| Some((id, self.entries.get(id)?)))
    }

    /// Takes a Service as it is now (`None`: deleted), by the object that names it; returns which entry changed.
    pub fn set_service(&mut self, object: &Value, present: bool) -> Option<ServiceId> {
        let id = id(object);
        let new = present.then(|| Service::read(object));
        self.change(id, |entry| {
            let changed = entry.service != new;
            entry.service = new;
            changed
        })
    }

    /// Takes an EndpointSlice likewise.
    pub fn set_slice(&mut self, object: &Value, present: bool) -> Option<ServiceId> {
        let (namespace, name) = id(object);
        let service = object["metadata"]["labels"]["kubernetes.io/service-name"].as_str()?;
        let new = present.then(|| Slice::read(object));
        self.change((namespace, service.to_owned()), |entry| match new {
            Some(slice) => entry.slices.insert(name, slice.clone()).as_ref() != Some(&slice),
            None => entry.slices.remove(&name).is_some(),
        })
    }

    fn change(&mut self, id: ServiceId, change: impl FnOnce(&mut Entry) -> bool) -> Option<ServiceId> {
        let entry = self.entries.entry(id.clone()).or_default();
        let before = entry.addresses();
        let changed = change(entry);
        let after = entry.addresses();
        if *entry == Entry::default() {
            self.entries.remove(&id);
        }
        for address in before.difference(&after) {
            if let Some(owners) = self.owners.get_mut(address) {
                owners.remove(&id);
                if owners.is_empty() {
                    self.owners.remove(address);
                }
            }
        }
        for address in after.difference(&before) {
            self.owners.entry(*address).or_default().insert(id.clone());
        }
        changed.then_some(id)
    }
}
