//! Objects from JSON values.
//!
//! Kubernetes' own kinds come from an API server that has checked them, and are read field by field without decoding
//! the rest. Istio's kinds are decoded as a whole, with diagnostics.

use std::{net::IpAddr, sync::Arc};

use corten_api::{
    decode::SpannedObject,
    diagnostic::Diagnostic,
    istio::{
        authorization_policy::AuthorizationPolicySpec,
        peer_authentication::PeerAuthenticationSpec,
        selector::WorkloadSelector,
        service_entry::{ServiceEntryResolution, ServiceEntrySpec},
        workload_entry::WorkloadEntrySpec,
    },
    resource::{Resource, Spec},
};
use corten_core::Protocol;
use serde_json::Value;

use super::{
    AuthorizationPolicy, Endpoint, EndpointSlice, Gateway, GatewayClass, Listener, Meta, Namespace, Node, Object,
    ObjectKind, PeerAuthentication, Pod, Service, ServiceEntry, ServicePort, SlicePort, StatusAddress, TargetPort,
    TrafficDistribution, WorkloadEntry,
    value::{addresses, at, items, pairs, port, seconds, text, truth},
};
use crate::{
    service::IpFamilies,
    text::{Labels, Name, Names},
    waypoint::{AllowedNamespaces, ApplicationTunnel, Operator, Requirement, Selector, TrafficType, TunnelHeader},
    workload::{Locality, Tunnel},
};

/// Reads objects, sharing the strings they have in common.
#[derive(Debug, Default)]
pub struct Reader {
    names: Names,
}

/// What became of a value.
#[derive(Debug)]
pub struct Read {
    /// The object; `None`: of a kind that is not looked at, or without a name.
    pub object: Option<Object>,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
}

impl Reader {
    /// Reads an object as it comes from an API server.
    pub fn read(&mut self, value: &Value) -> Read {
        let api_version = text(value, &["apiVersion"]);
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = ObjectKind::of(group, text(value, &["kind"]));
        match kind {
            Some(kind) if !text(value, &["metadata", "name"]).is_empty() => self.read_kind(kind, value),
            _ => Read {
                object: None,
                diagnostics: Vec::new(),
            },
        }
    }

    /// Reads an object whose kind is known, such as an item of a list, which does not repeat it.
    pub fn read_kind(&mut self, kind: ObjectKind, value: &Value) -> Read {
        let meta = self.meta(value);
        let mut diagnostics = Vec::new();
        let object = match kind {
            ObjectKind::Namespace => Object::Namespace(Arc::new(self.namespace(meta, value))),
            ObjectKind::Node => Object::Node(Arc::new(node(meta, value))),
            ObjectKind::Pod => Object::Pod(Arc::new(self.pod(meta, value))),
            ObjectKind::Service => Object::Service(Arc::new(self.service(meta, value))),
            ObjectKind::EndpointSlice => Object::EndpointSlice(Arc::new(self.endpoint_slice(meta, value))),
            ObjectKind::Gateway => Object::Gateway(Arc::new(self.gateway(meta, value))),
            ObjectKind::GatewayClass => Object::GatewayClass(Arc::new(self.gateway_class(meta, value))),
            ObjectKind::ServiceEntry => {
                let spec = decode(kind, value, &mut diagnostics);
                Object::ServiceEntry(Arc::new(self.service_entry(meta, spec, value)))
            }
            ObjectKind::WorkloadEntry => {
                let spec = decode(kind, value, &mut diagnostics);
                Object::WorkloadEntry(Arc::new(self.workload_entry(meta, spec, value)))
            }
            ObjectKind::PeerAuthentication => {
                let spec: PeerAuthenticationSpec = decode(kind, value, &mut diagnostics);
                let selector = spec
                    .selector
                    .as_ref()
                    .map(|selector| self.selector(selector))
                    .unwrap_or_default();
                Object::PeerAuthentication(Arc::new(PeerAuthentication { meta, spec, selector }))
            }
            ObjectKind::AuthorizationPolicy => {
                let spec: AuthorizationPolicySpec = decode(kind, value, &mut diagnostics);
                // A selector without labels selects all, as if there were none.
                let selector = spec
                    .selector
                    .as_ref()
                    .map(|selector| self.selector(selector))
                    .filter(|s| !s.is_empty());
                let dry_run = is_true(annotation(value, "istio.io/dry-run"));
                Object::AuthorizationPolicy(Arc::new(AuthorizationPolicy {
                    meta,
                    spec,
                    selector,
                    dry_run,
                }))
            }
        };
        Read {
            object: Some(object),
            diagnostics,
        }
    }

    fn meta(&mut self, value: &Value) -> Meta {
        Meta {
            namespace: self.names.name(text(value, &["metadata", "namespace"])),
            // Names are mostly unique: sharing them would only cost room.
            name: Arc::from(text(value, &["metadata", "name"])),
            labels: self.names.labels(pairs(value, &["metadata", "labels"])),
            created: seconds(value, &["metadata", "creationTimestamp"]),
            generation: at(value, &["metadata", "generation"])
                .and_then(Value::as_i64)
                .unwrap_or_default(),
        }
    }

    fn selector(&mut self, selector: &WorkloadSelector) -> Labels {
        self.names.labels(
            selector
                .match_labels
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        )
    }

    fn optional(&mut self, text: Option<&str>) -> Option<Name> {
        text.map(|text| self.names.name(text))
    }

    fn namespace(&mut self, meta: Meta, value: &Value) -> Namespace {
        Namespace {
            meta,
            traffic_distribution: annotation(value, TRAFFIC_DISTRIBUTION).and_then(written_distribution),
            canary_weight: self.optional(annotation(value, CANARY_WEIGHT)),
        }
    }

    fn pod(&mut self, meta: Meta, value: &Value) -> Pod {
        let listed = items(value, &["status", "podIPs"]).map(|ip| text(ip, &["ip"]));
        let mut ips = addresses(listed).unwrap_or_default();
        if items(value, &["status", "podIPs"]).next().is_none() {
            let single = text(value, &["status", "podIP"]);
            ips = addresses(Some(single).filter(|ip| !ip.is_empty()).into_iter()).unwrap_or_default();
        }
        let is = |kind: &str| condition(value, kind) == Some("True");
        let ready_by_node = is("ContainersReady")
            && items(value, &["spec", "readinessGates"]).all(|gate| is(text(gate, &["conditionType"])));
        let deleted = at(value, &["metadata", "deletionTimestamp"]).is_some();
        let redirected = annotation(value, REDIRECTION) == Some("enabled");
        let workload_name = workload_name(&meta, value);
        Pod {
            uid: uid(text(value, &["metadata", "uid"])),
            addresses: ips,
            terminal: matches!(text(value, &["status", "phase"]), "Succeeded" | "Failed"),
            healthy: is("Ready") && !deleted,
            healthy_by_node: ready_by_node && !deleted,
            terminating: deleted,
            host_network: truth(value, &["spec", "hostNetwork"]),
            tunnel: tunnel(&meta.labels, redirected),
            node: self.names.name(text(value, &["spec", "nodeName"])),
            service_account: self.names.name(text(value, &["spec", "serviceAccountName"])),
            workload_name: if workload_name == meta.name.as_ref() {
                Arc::clone(&meta.name)
            } else {
                self.names.name(workload_name)
            },
            ports: self.pod_ports(value),
            meta,
        }
    }

    /// The named TCP ports of ordinary containers and of sidecars, which are init containers that stay.
    fn pod_ports(&mut self, value: &Value) -> Arc<[(Name, u16)]> {
        let sidecars = items(value, &["spec", "initContainers"])
            .filter(|container| text(container, &["restartPolicy"]) == "Always");
        let containers = items(value, &["spec", "containers"]).chain(sidecars);
        let mut named = Vec::new();
        for listed in containers.flat_map(|container| items(container, &["ports"])) {
            let (name, protocol) = (text(listed, &["name"]), text(listed, &["protocol"]));
            if let (false, "TCP" | "", Some(number)) = (name.is_empty(), protocol, port(listed, &["containerPort"])) {
                named.push((self.names.name(name), number));
            }
        }
        self.names.ports(&named)
    }

    fn service(&mut self, meta: Meta, value: &Value) -> Service {
        let mut ips: Vec<&str> = items(value, &["spec", "clusterIPs"])
            .filter_map(Value::as_str)
            .collect();
        if ips.is_empty() {
            ips.push(text(value, &["spec", "clusterIP"]));
        }
        ips.retain(|ip| !ip.is_empty() && *ip != "None");
        let families: Vec<&str> = items(value, &["spec", "ipFamilies"])
            .filter_map(Value::as_str)
            .collect();
        let spec_distribution = at(value, &["spec", "trafficDistribution"]).and_then(Value::as_str);
        let distribution = match spec_distribution {
            Some("PreferClose" | "PreferSameZone") => Some(TrafficDistribution::SameZone),
            Some("PreferSameNode") => Some(TrafficDistribution::SameNode),
            _ => annotation(value, TRAFFIC_DISTRIBUTION).and_then(written_distribution),
        };
        Service {
            external_name: (text(value, &["spec", "type"]) == "ExternalName")
                .then(|| self.names.name(text(value, &["spec", "externalName"]))),
            export_to: annotation(value, EXPORT_TO).map(|listed| self.listed(listed).collect()),
            identities: self
                .listed(annotation(value, CANONICAL_ACCOUNTS).unwrap_or_default())
                .collect(),
            service_accounts: self
                .listed(annotation(value, KUBERNETES_ACCOUNTS).unwrap_or_default())
                .collect(),
            addresses: addresses(ips.into_iter()),
            ports: items(value, &["spec", "ports"])
                .filter_map(|listed| self.service_port(listed))
                .collect(),
            selector: self.names.labels(pairs(value, &["spec", "selector"])),
            ip_families: match families.as_slice() {
                [_, _] => IpFamilies::Dual,
                ["IPv4"] => IpFamilies::Ipv4,
                [_] => IpFamilies::Ipv6,
                _ => IpFamilies::Automatic,
            },
            node_local: text(value, &["spec", "internalTrafficPolicy"]) == "Local",
            publish_not_ready: truth(value, &["spec", "publishNotReadyAddresses"]),
            traffic_distribution: distribution,
            canary_weight: self.optional(annotation(value, CANARY_WEIGHT)),
            meta,
        }
    }

    /// Texts separated by commas.
    fn listed<'a>(&mut self, text: &'a str) -> impl Iterator<Item = Name> + use<'a, '_> {
        let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        texts.map(|text| self.names.name(text))
    }

    fn service_port(&mut self, listed: &Value) -> Option<ServicePort> {
        let number = port(listed, &["port"])?;
        let (name, transport) = (text(listed, &["name"]), text(listed, &["protocol"]));
        let app_protocol = at(listed, &["appProtocol"]).and_then(Value::as_str);
        Some(ServicePort {
            name: self.names.name(name),
            port: number,
            target: match at(listed, &["targetPort"]) {
                Some(Value::String(name)) => TargetPort::Named(self.names.name(name)),
                Some(_) => port(listed, &["targetPort"]).map_or(TargetPort::Unset, TargetPort::Number),
                None => TargetPort::Unset,
            },
            protocol: Protocol::of_port(number, name, transport, app_protocol),
        })
    }

    fn endpoint_slice(&mut self, meta: Meta, value: &Value) -> EndpointSlice {
        let service = meta
            .labels
            .get("kubernetes.io/service-name")
            .cloned()
            .unwrap_or_default();
        let usable = !service.is_empty() && text(value, &["addressType"]) != "FQDN";
        let mut ports = Vec::new();
        let (mut endpoints, mut pods) = (Vec::new(), Vec::new());
        if usable {
            // A file need not say what the API server would put in.
            let tcp = |listed: &&Value| matches!(text(listed, &["protocol"]), "" | "TCP");
            for listed in items(value, &["ports"]).filter(tcp) {
                if let (Some(name), Some(number)) =
                    (at(listed, &["name"]).and_then(Value::as_str), port(listed, &["port"]))
                {
                    ports.push(SlicePort {
                        name: self.names.name(name),
                        port: number,
                    });
                }
            }
            for endpoint in items(value, &["endpoints"]) {
                if text(endpoint, &["targetRef", "kind"]) == "Pod" {
                    let target = |key: &str| text(endpoint, &["targetRef", key]);
                    pods.push((
                        self.names.name(target("namespace")),
                        self.names.name(target("name")),
                        uid(target("uid")),
                    ));
                } else {
                    endpoints.extend(self.endpoint(endpoint));
                }
            }
            // Slices that the cluster made from a selector say nothing that pods and services do not say.
            if meta
                .labels
                .get("endpointslice.kubernetes.io/managed-by")
                .is_some_and(|by| by.as_ref() == SLICE_CONTROLLER)
            {
                pods.clear();
            }
        }
        EndpointSlice {
            meta,
            service,
            ports: ports.into(),
            endpoints: endpoints.into(),
            pods: pods.into(),
        }
    }

    fn endpoint(&mut self, endpoint: &Value) -> Option<Endpoint> {
        let listed = || items(endpoint, &["addresses"]).filter_map(Value::as_str);
        Some(Endpoint {
            key: self.names.name(listed().next()?),
            addresses: addresses(listed())?,
            ready: at(endpoint, &["conditions", "ready"])
                .and_then(Value::as_bool)
                .unwrap_or(true),
        })
    }

    fn service_entry(&mut self, meta: Meta, spec: ServiceEntrySpec, value: &Value) -> ServiceEntry {
        let opted_out = meta
            .labels
            .get("networking.istio.io/enable-autoallocate-ip")
            .is_some_and(|wish| wish.eq_ignore_ascii_case("false"));
        let assigned = items(value, &["status", "addresses"]).filter_map(|listed| {
            let address: IpAddr = text(listed, &["value"]).parse().ok()?;
            Some((self.names.name(text(listed, &["host"])), address))
        });
        ServiceEntry {
            assigned: assigned.collect(),
            may_assign: !opted_out && spec.addresses.is_empty() && spec.resolution != ServiceEntryResolution::None,
            traffic_distribution: annotation(value, TRAFFIC_DISTRIBUTION).and_then(written_distribution),
            canary_weight: self.optional(annotation(value, CANARY_WEIGHT)),
            races_connections: annotation(value, "istio.io/connect-strategy")
                .is_some_and(|strategy| strategy.eq_ignore_ascii_case("RACE_FIRST_TCP_CONNECT")),
            redirected: annotation(value, REDIRECTION) == Some("enabled"),
            meta,
            spec,
        }
    }

    fn workload_entry(&mut self, mut meta: Meta, spec: WorkloadEntrySpec, value: &Value) -> WorkloadEntry {
        let of_spec = spec.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        // The object's own labels win over those in its spec.
        let merged: Vec<(&str, &str)> = of_spec.chain(pairs(value, &["metadata", "labels"])).collect();
        meta.labels = self.names.labels(merged);
        WorkloadEntry {
            meta,
            spec,
            group: self.optional(annotation(value, "istio.io/autoRegistrationGroup")),
            redirected: annotation(value, REDIRECTION) == Some("enabled"),
        }
    }

    fn gateway(&mut self, meta: Meta, value: &Value) -> Gateway {
        let status_addresses = items(value, &["status", "addresses"]).map(|listed| {
            let written = text(listed, &["value"]);
            match text(listed, &["type"]) {
                "Hostname" => StatusAddress::Hostname(self.names.name(written)),
                "IPAddress" => StatusAddress::Ip(written.parse().ok()),
                _ => StatusAddress::Other,
            }
        });
        Gateway {
            class: Arc::from(text(value, &["spec", "gatewayClassName"])),
            addresses: status_addresses.collect(),
            binding: annotation(value, BINDING).map(binding),
            traffic_type: meta.labels.get(WAYPOINT_FOR).map(TrafficType::parse),
            listeners: items(value, &["spec", "listeners"])
                .map(|listed| self.listener(listed))
                .collect(),
            service_account: self.optional(annotation(value, "gateway.istio.io/service-account")),
            meta,
        }
    }

    fn listener(&mut self, listed: &Value) -> Listener {
        let namespaces = at(listed, &["allowedRoutes", "namespaces"]);
        let allowed = match namespaces.map(|allowed| text(allowed, &["from"])) {
            Some("All") => AllowedNamespaces::All,
            Some("None") => AllowedNamespaces::None,
            Some("Selector") => namespaces
                .and_then(|allowed| selector(at(allowed, &["selector"])?))
                .map_or(AllowedNamespaces::None, |selector| {
                    AllowedNamespaces::Selected(Arc::new(selector))
                }),
            _ => AllowedNamespaces::Same,
        };
        Listener {
            port: port(listed, &["port"]).unwrap_or_default(),
            protocol: self.names.name(text(listed, &["protocol"])),
            allowed,
        }
    }

    fn gateway_class(&mut self, meta: Meta, value: &Value) -> GatewayClass {
        GatewayClass {
            controller: self.names.name(text(value, &["spec", "controllerName"])),
            binding: annotation(value, BINDING).map(binding),
            traffic_type: meta.labels.get(WAYPOINT_FOR).map(TrafficType::parse),
            meta,
        }
    }
}

const EXPORT_TO: &str = "networking.istio.io/exportTo";
const CANONICAL_ACCOUNTS: &str = "alpha.istio.io/canonical-serviceaccounts";
const KUBERNETES_ACCOUNTS: &str = "alpha.istio.io/kubernetes-serviceaccounts";
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
const CANARY_WEIGHT: &str = "istio.io/use-waypoint-canary-weight";
const REDIRECTION: &str = "ambient.istio.io/redirection";
const BINDING: &str = "ambient.istio.io/waypoint-inbound-binding";
const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// The specification of an object of one of Istio's kinds.
fn decode<S: Spec>(kind: ObjectKind, value: &Value, diagnostics: &mut Vec<Diagnostic>) -> S {
    let mut object = SpannedObject::from_value(value);
    object.reference.kind = kind.kind().to_owned();
    let (resource, mut found) = Resource::<S>::decode(&object);
    diagnostics.append(&mut found);
    resource.spec
}

fn annotation<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    at(value, &["metadata", "annotations", key]).and_then(Value::as_str)
}

/// Truth as Go's flags have it.
pub(crate) fn is_true(text: Option<&str>) -> bool {
    matches!(text, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// An annotation about near endpoints, in any case; one that is not understood asks for nothing, and ends the search.
fn written_distribution(text: &str) -> Option<TrafficDistribution> {
    if text.is_empty() {
        return None;
    }
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    Some(if is("PreferClose") || is("PreferSameZone") {
        TrafficDistribution::SameZone
    } else if is("PreferSameNode") {
        TrafficDistribution::SameNode
    } else {
        TrafficDistribution::Any
    })
}

/// `PROTOCOL` or `PROTOCOL/port`; `None`: neither.
fn binding(text: &str) -> Option<ApplicationTunnel> {
    let (protocol, port) = text.split_once('/').unwrap_or((text, "0"));
    Some(ApplicationTunnel {
        header: match protocol {
            "NONE" => TunnelHeader::None,
            "PROXY" => TunnelHeader::Proxy,
            _ => return None,
        },
        port: if port.contains('/') {
            return None;
        } else {
            port.parse().unwrap_or_default()
        },
    })
}

/// A selector in the form that is evaluated; `None`: one of its operators is not known.
fn selector(value: &Value) -> Option<Selector> {
    let requirements = items(value, &["matchExpressions"]).map(|listed| {
        Some(Requirement {
            key: Arc::from(text(listed, &["key"])),
            operator: Operator::parse(text(listed, &["operator"]))?,
            values: items(listed, &["values"])
                .filter_map(Value::as_str)
                .map(Arc::from)
                .collect(),
        })
    });
    Some(Selector {
        requirements: requirements.collect::<Option<_>>()?,
        labels: Labels::new(pairs(value, &["matchLabels"]).map(|(key, value)| (Arc::from(key), Arc::from(value)))),
    })
}

/// The status of an object's condition of this type.
fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a str> {
    items(value, &["status", "conditions"])
        .find(|condition| text(condition, &["type"]) == kind)
        .map(|condition| text(condition, &["status"]))
}

fn node(meta: Meta, value: &Value) -> Node {
    let label = |key: &str| meta.labels.get(key).map(ToString::to_string).unwrap_or_default();
    let locality = Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone"),
    };
    Node {
        locality: (locality != Locality::default()).then(|| Arc::new(locality)),
        silent: condition(value, "Ready") == Some("Unknown"),
        // Nothing else of a node matters, and nodes change all the time.
        meta: Meta {
            name: meta.name,
            ..Meta::default()
        },
    }
}

/// What a workload speaks inbound, by its labels and by whether its node proxy has taken it.
pub(crate) fn tunnel(labels: &Labels, redirected: bool) -> Tunnel {
    let native = labels
        .get("networking.istio.io/tunnel")
        .is_some_and(|kinds| kinds.split(',').any(|kind| kind == "http"));
    match (native, redirected) {
        (true, _) => Tunnel::NativeHbone,
        (false, true) => Tunnel::Hbone,
        (false, false) => Tunnel::None,
    }
}

/// A uid as a number; those that are no UUID by a hash.
fn uid(text: &str) -> u128 {
    let mut number = 0u128;
    let mut digits = 0;
    for byte in text.bytes().filter(|byte| *byte != b'-') {
        let Some(digit) = char::from(byte).to_digit(16) else {
            // FNV-1a, over what is no number.
            return text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u128::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        };
        number = (number << 4) | u128::from(digit);
        digits += 1;
    }
    if digits > 32 { number ^ digits } else { number }
}

/// The name of what a pod belongs to: a Deployment's for the pods of its ReplicaSets, a CronJob's for those of its Jobs.
fn workload_name<'a>(meta: &'a Meta, value: &'a Value) -> &'a str {
    let label = |key: &str| {
        meta.labels
            .get(key)
            .map(AsRef::as_ref)
            .filter(|value: &&str| !value.is_empty())
    };
    if let Some(name) = meta.labels.get("service.istio.io/workload-name") {
        return name;
    }
    let generated = !text(value, &["metadata", "generateName"]).is_empty();
    let owner = items(value, &["metadata", "ownerReferences"]).find(|owner| truth(owner, &["controller"]));
    let Some(owner) = owner.filter(|_| generated) else {
        return &meta.name;
    };
    let name = text(owner, &["name"]);
    let without_hash = |key: &str| {
        let hash = label(key)?;
        let stem = name.strip_suffix(hash)?;
        Some(stem.strip_suffix('-').unwrap_or(name))
    };
    let found = match text(owner, &["kind"]) {
        "ReplicaSet" => without_hash("pod-template-hash")
            .or_else(|| without_hash("rollouts-pod-template-hash"))
            .unwrap_or(name),
        "ReplicationController" => label("deploymentconfig").unwrap_or(name),
        "Job" => match name.rsplit_once('-') {
            Some((stem, time))
                if !stem.is_empty() && (8..=10).contains(&time.len()) && time.bytes().all(|b| b.is_ascii_digit()) =>
            {
                stem
            }
            _ => name,
        },
        _ => name,
    };
    if found.is_empty() { &meta.name } else { found }
}
