//! What a conversion is given: objects as decoded, light views of Kubernetes' own kinds, and what the mesh knows of the
//! services that gateways run behind.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use corten_api::{
    codec::Timestamp,
    decode::SpannedObject,
    diagnostic::Diagnostic,
    gateway_api,
    inference::InferencePool,
    istio::ServiceEntry,
    resource::{Resource, Spec},
};
use serde_json::Value;

use crate::{
    certificate::{self, Pair, Roots},
    reference::GATEWAY_GROUP,
};

/// What holds for the whole mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What names of services end with; `cluster.local` by default.
    pub domain: String,
    /// Routes of the mesh say in their status whether a waypoint will obey them; on by default.
    pub ambient: bool,
    /// Gateways between networks are ours; off by default.
    pub east_west: bool,
    /// XBackend and XBackendTrafficPolicy are honoured; off by default.
    pub experimental: bool,
    /// InferencePools are honoured; off by default.
    pub inference: bool,
    /// Imported services have names of their own (`clusterset.local`); off by default.
    pub cluster_set_host: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            domain: "cluster.local".to_owned(),
            ambient: true,
            east_west: false,
            experimental: false,
            inference: false,
            cluster_set_host: false,
        }
    }
}

/// All objects of a mesh that a conversion looks at, in any order.
///
/// Objects of other revisions are left out by whoever fills this in.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// What holds for the whole mesh.
    pub settings: Settings,
    /// The time that new conditions get.
    pub now: Timestamp,
    /// Namespaces.
    pub namespaces: Vec<Arc<Namespace>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// Secrets.
    pub secrets: Vec<Arc<Secret>>,
    /// ConfigMaps.
    pub config_maps: Vec<Arc<ConfigMap>>,
    /// What the mesh knows of services, Kubernetes' and others.
    pub registry: Vec<Arc<RegistryService>>,
    /// ServiceEntries.
    pub service_entries: Vec<Arc<ServiceEntry>>,
    /// GatewayClasses.
    pub classes: Vec<Arc<gateway_api::GatewayClass>>,
    /// Gateways.
    pub gateways: Vec<Arc<gateway_api::Gateway>>,
    /// ListenerSets.
    pub listener_sets: Vec<Arc<gateway_api::ListenerSet>>,
    /// HTTPRoutes.
    pub http_routes: Vec<Arc<gateway_api::HTTPRoute>>,
    /// GRPCRoutes.
    pub grpc_routes: Vec<Arc<gateway_api::GRPCRoute>>,
    /// TCPRoutes.
    pub tcp_routes: Vec<Arc<gateway_api::TCPRoute>>,
    /// TLSRoutes.
    pub tls_routes: Vec<Arc<gateway_api::TLSRoute>>,
    /// UDPRoutes, which nothing honours.
    pub udp_routes: Vec<Arc<gateway_api::UDPRoute>>,
    /// ReferenceGrants.
    pub reference_grants: Vec<Arc<gateway_api::ReferenceGrant>>,
    /// BackendTLSPolicies.
    pub backend_tls_policies: Vec<Arc<gateway_api::BackendTLSPolicy>>,
    /// XBackends.
    pub backends: Vec<Arc<gateway_api::XBackend>>,
    /// XBackendTrafficPolicies.
    pub backend_traffic_policies: Vec<Arc<gateway_api::XBackendTrafficPolicy>>,
    /// InferencePools.
    pub inference_pools: Vec<Arc<InferencePool>>,
}

impl Inputs {
    /// Adds an object of whatever kind, and tells what is wrong with it; `None`: its kind is not looked at.
    pub fn add(&mut self, object: &SpannedObject) -> Option<Vec<Diagnostic>> {
        fn decode<S: Spec>(object: &SpannedObject, into: &mut Vec<Arc<Resource<S>>>) -> Vec<Diagnostic> {
            let (decoded, diagnostics) = Resource::<S>::decode(object);
            into.push(Arc::new(decoded));
            diagnostics
        }
        let reference = &object.reference;
        Some(match (reference.group(), reference.kind.as_str()) {
            ("", "Namespace") => self.view(|i| &mut i.namespaces, Namespace::read(&object.to_value())),
            ("", "Service") => self.view(|i| &mut i.services, Service::read(&object.to_value())),
            ("", "Secret") => self.view(|i| &mut i.secrets, Secret::read(&object.to_value())),
            ("", "ConfigMap") => self.view(|i| &mut i.config_maps, ConfigMap::read(&object.to_value())),
            ("networking.istio.io", "ServiceEntry") => decode(object, &mut self.service_entries),
            ("inference.networking.k8s.io", "InferencePool") => decode(object, &mut self.inference_pools),
            (GATEWAY_GROUP, "GatewayClass") => decode(object, &mut self.classes),
            (GATEWAY_GROUP, "Gateway") => decode(object, &mut self.gateways),
            (GATEWAY_GROUP, "ListenerSet") => decode(object, &mut self.listener_sets),
            (GATEWAY_GROUP, "HTTPRoute") => decode(object, &mut self.http_routes),
            (GATEWAY_GROUP, "GRPCRoute") => decode(object, &mut self.grpc_routes),
            (GATEWAY_GROUP, "TCPRoute") => decode(object, &mut self.tcp_routes),
            (GATEWAY_GROUP, "TLSRoute") => decode(object, &mut self.tls_routes),
            (GATEWAY_GROUP, "UDPRoute") => decode(object, &mut self.udp_routes),
            (GATEWAY_GROUP, "ReferenceGrant") => decode(object, &mut self.reference_grants),
            (GATEWAY_GROUP, "BackendTLSPolicy") => decode(object, &mut self.backend_tls_policies),
            (EXPERIMENTAL_GROUP, "XBackend") => decode(object, &mut self.backends),
            (EXPERIMENTAL_GROUP, "XBackendTrafficPolicy") => decode(object, &mut self.backend_traffic_policies),
            _ => return None,
        })
    }

    fn view<T>(&mut self, list: fn(&mut Inputs) -> &mut Vec<Arc<T>>, view: T) -> Vec<Diagnostic> {
        list(self).push(Arc::new(view));
        Vec::new()
    }
}

/// The group of the Gateway API's experimental kinds.
const EXPERIMENTAL_GROUP: &str = "gateway.networking.x-k8s.io";

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A service as Kubernetes has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Name and number of its ports.
    pub ports: Vec<(String, u16)>,
}

/// What is known of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it holds a server's certificate.
    pub pair: Pair,
    /// Whether it holds authorities.
    pub roots: Roots,
}

/// What is known of a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMap {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it holds authorities.
    pub roots: Roots,
}

/// A service as the mesh knows it, whether from Kubernetes or from a ServiceEntry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryService {
    /// The host name.
    pub hostname: String,
    /// The namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its ports, in their order.
    pub ports: Vec<u16>,
    /// For each port that has endpoints, the ports they listen at.
    pub endpoints: BTreeMap<u16, Vec<u16>>,
    /// Its addresses in the cluster.
    pub addresses: Vec<String>,
    /// Its addresses outside.
    pub external_addresses: Vec<String>,
    /// It asks for an address outside.
    pub load_balancer: bool,
}

impl Namespace {
    /// Reads a namespace.
    pub fn read(value: &Value) -> Namespace {
        Namespace {
            name: text(value, "/metadata/name"),
            labels: strings(value, "/metadata/labels"),
        }
    }
}

impl Service {
    /// Reads a service.
    pub fn read(value: &Value) -> Service {
        let ports = value.pointer("/spec/ports").and_then(Value::as_array);
        let port = |port: &Value| Some((text(port, "/name"), number(port, "/port")?));
        Service {
            namespace: text(value, "/metadata/namespace"),
            name: text(value, "/metadata/name"),
            labels: strings(value, "/metadata/labels"),
            ports: ports.into_iter().flatten().filter_map(port).collect(),
        }
    }
}

impl Secret {
    /// Reads a secret, of which only what is asked about is kept.
    pub fn read(value: &Value) -> Secret {
        let mut data: BTreeMap<String, Vec<u8>> = strings(value, "/data")
            .into_iter()
            .map(|(name, text)| {
                let letters: String = text.split_whitespace().collect();
                (name, STANDARD.decode(letters).unwrap_or_default())
            })
            .collect();
        let plain = strings(value, "/stringData").into_iter();
        data.extend(plain.map(|(name, text)| (name, text.into_bytes())));
        Secret {
            namespace: text(value, "/metadata/namespace"),
            name: text(value, "/metadata/name"),
            pair: certificate::pair(&data),
            roots: certificate::roots(&data),
        }
    }
}

impl ConfigMap {
    /// Reads a ConfigMap, of which only what is asked about is kept.
    pub fn read(value: &Value) -> ConfigMap {
        let data = strings(value, "/data").into_iter();
        let data = data.map(|(name, text)| (name, text.into_bytes())).collect();
        ConfigMap {
            namespace: text(value, "/metadata/namespace"),
            name: text(value, "/metadata/name"),
            roots: certificate::roots(&data),
        }
    }
}

pub(crate) fn text(value: &Value, path: &str) -> String {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

pub(crate) fn number(value: &Value, path: &str) -> Option<u16> {
    let number = value.pointer(path).and_then(Value::as_u64)?;
    u16::try_from(number).ok().filter(|number| *number != 0)
}

pub(crate) fn strings(value: &Value, path: &str) -> BTreeMap<String, String> {
    let map = value.pointer(path).and_then(Value::as_object);
    let entry = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    map.into_iter().flatten().filter_map(entry).collect()
}
