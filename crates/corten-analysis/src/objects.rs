//! The objects that are analyzed: where each comes from, and its typed form, decoded once for all analyzers.
//!
//! Objects of files stand over those of a cluster with the same name, as if they had been applied. What cannot be decoded is left out here and
//! reported by the analyzers of its kind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use corten_api::decode::{Node, SpannedObject, document, objects};
use corten_api::istio::{
    authorization_policy::AuthorizationPolicySpec, destination_rule::DestinationRuleSpec,
    envoy_filter::EnvoyFilterSpec, extensions::WasmPluginSpec, gateway::GatewaySpec,
    mesh_config::IngressControllerMode, mesh_config::MeshConfig, mesh_networks::MeshNetworks,
    proxy_config_resource::ProxyConfigSpec, request_authentication::RequestAuthenticationSpec,
    service_entry::ServiceEntrySpec, sidecar::SidecarSpec, telemetry::TelemetrySpec,
    virtual_service::VirtualServiceSpec,
};
use corten_api::kubernetes::{self, admission, apps, core};
use corten_api::resource::{Resource, Spec};
use corten_api::validate::mesh_config;
use serde::de::DeserializeOwned;

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

/// The cluster of objects that come from files, or from the only cluster there is.
pub const DEFAULT_CLUSTER: &str = "default";

/// Namespaces of Kubernetes itself, which are not analyzed.
const IGNORED: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// Kinds that are left out there, even where a cluster has them.
const IGNORED_KINDS: [&str; 4] = ["Namespace", "Service", "Pod", "Deployment"];

/// Kinds that have no namespace, among those that are looked at.
const CLUSTER_WIDE: [&str; 7] = [
    "Namespace",
    "Node",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "GatewayClass",
    "PersistentVolume",
];

/// An object and where it comes from.
#[derive(Debug)]
pub struct Object {
    /// The object as it was written; its namespace is filled in.
    pub spanned: SpannedObject,
    /// The cluster it is in.
    pub cluster: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
}

impl Object {
    fn new(spanned: SpannedObject, cluster: Arc<str>) -> Object {
        let metadata = spanned.root.get("metadata");
        let texts = |field: &str| -> Labels {
            let entries = metadata.and_then(|node| node.get(field)).map_or(&[][..], Node::entries);
            entries
                .iter()
                .filter_map(|entry| Some((entry.key.clone(), entry.value.as_str()?.to_owned())))
                .collect()
        };
        Object {
            labels: texts("labels"),
            annotations: texts("annotations"),
            spanned,
            cluster,
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.spanned.reference.name
    }

    /// The namespace; empty for objects of the whole cluster.
    pub fn namespace(&self) -> &str {
        &self.spanned.reference.namespace
    }

    /// `namespace/name`, or the name alone.
    pub fn full_name(&self) -> String {
        match self.namespace() {
            "" => self.name().to_owned(),
            namespace => format!("{namespace}/{}", self.name()),
        }
    }

    /// Whether it is of a kind.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.spanned.reference.kind == kind && self.spanned.reference.group() == group
    }

    /// The name in a namespace, to compare with.
    pub fn key(&self) -> (&str, &str) {
        (self.namespace(), self.name())
    }
}

/// An object with its typed form.
#[derive(Debug)]
pub struct Item<T> {
    /// The object.
    pub object: Arc<Object>,
    /// What its fields say.
    pub spec: T,
}

/// Everything that is analyzed, by kind.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is the objects of the kind that it names")]
pub struct World {
    /// All objects, in the order they came.
    pub all: Vec<Arc<Object>>,
    pub authorization_policies: Vec<Item<AuthorizationPolicySpec>>,
    pub destination_rules: Vec<Item<DestinationRuleSpec>>,
    pub envoy_filters: Vec<Item<EnvoyFilterSpec>>,
    pub gateways: Vec<Item<GatewaySpec>>,
    pub proxy_configs: Vec<Item<ProxyConfigSpec>>,
    pub request_authentications: Vec<Item<RequestAuthenticationSpec>>,
    pub service_entries: Vec<Item<ServiceEntrySpec>>,
    pub sidecars: Vec<Item<SidecarSpec>>,
    pub telemetries: Vec<Item<TelemetrySpec>>,
    pub virtual_services: Vec<Item<VirtualServiceSpec>>,
    pub wasm_plugins: Vec<Item<WasmPluginSpec>>,
    pub kubernetes_gateways: Vec<Item<corten_api::gateway_api::gateway::GatewaySpec>>,
    pub config_maps: Vec<Item<core::ConfigMap>>,
    pub deployments: Vec<Item<apps::Deployment>>,
    pub namespaces: Vec<Arc<Object>>,
    pub nodes: Vec<Arc<Object>>,
    pub pods: Vec<Item<core::Pod>>,
    pub secrets: Vec<Item<core::Secret>>,
    pub services: Vec<Item<core::Service>>,
    pub mutating_webhooks: Vec<Item<admission::MutatingWebhookConfiguration>>,
    pub validating_webhooks: Vec<Item<admission::ValidatingWebhookConfiguration>>,
    pub definitions: Vec<Arc<Object>>,
    /// The settings of the mesh, over their defaults.
    pub mesh_config: MeshConfig,
    /// The networks of the mesh; an object, because messages are about it.
    pub mesh_networks: Option<Item<MeshNetworks>>,
    /// The control plane's namespace.
    pub system_namespace: String,
    /// The time, in seconds since 1970: certificates end.
    pub now_seconds: i64,
}

impl World {
    /// The namespace of a name.
    pub fn namespace(&self, name: &str) -> Option<&Arc<Object>> {
        self.namespaces.iter().find(|namespace| namespace.name() == name)
    }

    fn add(&mut self, object: Arc<Object>) {
        let reference = &object.spanned.reference;
        match (reference.group(), reference.kind.as_str()) {
            ("security.istio.io", "AuthorizationPolicy") => istio(&mut self.authorization_policies, &object),
            ("security.istio.io", "RequestAuthentication") => istio(&mut self.request_authentications, &object),
            ("networking.istio.io", "DestinationRule") => istio(&mut self.destination_rules, &object),
            ("networking.istio.io", "EnvoyFilter") => istio(&mut self.envoy_filters, &object),
            ("networking.istio.io", "Gateway") => istio(&mut self.gateways, &object),
            ("networking.istio.io", "ProxyConfig") => istio(&mut self.proxy_configs, &object),
            ("networking.istio.io", "ServiceEntry") => istio(&mut self.service_entries, &object),
            ("networking.istio.io", "Sidecar") => istio(&mut self.sidecars, &object),
            ("networking.istio.io", "VirtualService") => istio(&mut self.virtual_services, &object),
            ("telemetry.istio.io", "Telemetry") => istio(&mut self.telemetries, &object),
            ("extensions.istio.io", "WasmPlugin") => istio(&mut self.wasm_plugins, &object),
            ("gateway.networking.k8s.io", "Gateway") => istio(&mut self.kubernetes_gateways, &object),
            ("", "ConfigMap") => built_in(&mut self.config_maps, &object),
            ("", "Namespace") => self.namespaces.push(Arc::clone(&object)),
            ("", "Node") => self.nodes.push(Arc::clone(&object)),
            ("", "Pod") => built_in(&mut self.pods, &object),
            ("", "Secret") => built_in(&mut self.secrets, &object),
            ("", "Service") => built_in(&mut self.services, &object),
            ("apps", "Deployment") => built_in(&mut self.deployments, &object),
            ("admissionregistration.k8s.io", "MutatingWebhookConfiguration") => {
                built_in(&mut self.mutating_webhooks, &object);
            }
            ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration") => {
                built_in(&mut self.validating_webhooks, &object);
            }
            ("apiextensions.k8s.io", "CustomResourceDefinition") => self.definitions.push(Arc::clone(&object)),
            _ => {}
        }
        self.all.push(object);
    }
}

fn istio<S: Spec>(into: &mut Vec<Item<S>>, object: &Arc<Object>) {
    let (resource, _) = Resource::<S>::decode(&object.spanned);
    into.push(Item {
        object: Arc::clone(object),
        spec: resource.spec,
    });
}

fn built_in<T: DeserializeOwned>(into: &mut Vec<Item<T>>, object: &Arc<Object>) {
    if let (Some(spec), _) = kubernetes::decode(&object.spanned) {
        into.push(Item {
            object: Arc::clone(object),
            spec,
        });
    }
}

/// Where objects come from, put together before they are analyzed.
#[derive(Debug)]
pub struct Sources {
    system_namespace: String,
    default_namespace: String,
    objects: Vec<Arc<Object>>,
    places: HashMap<[String; 5], usize>,
    mesh_config: Option<MeshConfig>,
    mesh_networks: Option<MeshNetworks>,
    now_seconds: i64,
}

impl Sources {
    /// Nothing yet, of a mesh whose control plane is in this namespace.
    pub fn new(system_namespace: &str, now_seconds: i64) -> Sources {
        Sources {
            system_namespace: system_namespace.to_owned(),
            default_namespace: String::new(),
            objects: Vec::new(),
            places: HashMap::new(),
            mesh_config: None,
            mesh_networks: None,
            now_seconds,
        }
    }

    /// The namespace of objects that do not say theirs; without one they stay without.
    #[must_use]
    pub fn default_namespace(mut self, namespace: &str) -> Sources {
        namespace.clone_into(&mut self.default_namespace);
        self
    }

    /// Settings of the mesh instead of those in the ConfigMap `istio`, or of the defaults.
    pub fn set_mesh_config(&mut self, root: &Node) {
        self.mesh_config = Some(mesh_config::over_defaults(root).0);
    }

    /// Networks of the mesh instead of those in the ConfigMap `istio`.
    pub fn set_mesh_networks(&mut self, root: &Node) {
        self.mesh_networks = corten_api::codec::decode(root).0;
    }

    /// Adds the objects of a cluster.
    pub fn add_cluster(&mut self, name: &str, objects: Vec<SpannedObject>) {
        self.add_all(name, objects, false);
    }

    /// Adds objects of files, which replace those of the same name.
    pub fn add_files(&mut self, objects: Vec<SpannedObject>) {
        self.add_all(DEFAULT_CLUSTER, objects, true);
    }

    fn add_all(&mut self, cluster: &str, objects: Vec<SpannedObject>, of_files: bool) {
        let cluster: Arc<str> = Arc::from(cluster);
        for mut spanned in objects {
            let reference = &mut spanned.reference;
            if CLUSTER_WIDE.contains(&reference.kind.as_str()) {
                reference.namespace.clear();
            } else if reference.namespace.is_empty() {
                reference.namespace.clone_from(&self.default_namespace);
            }
            let namespace = if reference.kind == "Namespace" {
                &reference.name
            } else {
                &reference.namespace
            };
            let of_kubernetes = IGNORED.contains(&namespace.as_str());
            if of_kubernetes && (of_files || IGNORED_KINDS.contains(&reference.kind.as_str())) {
                continue;
            }
            let place = [
                cluster.to_string(),
                reference.group().to_owned(),
                reference.kind.clone(),
                reference.namespace.clone(),
                reference.name.clone(),
            ];
            let object = Arc::new(Object::new(spanned, Arc::clone(&cluster)));
            match self.places.get(&place).and_then(|index| self.objects.get_mut(*index)) {
                Some(before) => *before = object,
                None => {
                    self.places.insert(place, self.objects.len());
                    self.objects.push(object);
                }
            }
        }
    }

    /// Adds the ingress gateway that an installation has by default, so that files are analyzed as if it were there.
    pub fn add_default_gateway(&mut self) {
        let mesh = self
            .mesh_config
            .clone()
            .unwrap_or_else(mesh_config::default_mesh_config);
        if mesh.ingress_controller_mode == IngressControllerMode::Off {
            return;
        }
        let (name, namespace) = (&mesh.ingress_service, &self.system_namespace);
        let ports = [("http2", 80), ("https", 443), ("tcp", 31400), ("tls", 15443)]
            .map(|(name, port)| serde_json::json!({"name": name, "port": port, "protocol": "TCP", "targetPort": port}));
        let gateway = [
            serde_json::json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("{name}-dummypod"), "namespace": namespace, "labels": {"istio": "ingressgateway"}},
                "spec": {"containers": [{"name": "istio-proxy"}]},
            }),
            serde_json::json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"selector": {"istio": "ingressgateway"}, "ports": ports},
            }),
        ];
        let cluster: Arc<str> = Arc::from(DEFAULT_CLUSTER);
        let object =
            |value: &serde_json::Value| Arc::new(Object::new(SpannedObject::from_value(value), Arc::clone(&cluster)));
        self.objects.extend(gateway.iter().map(object));
    }

    /// The typed form of everything.
    pub fn world(self) -> World {
        let mut world = World {
            system_namespace: self.system_namespace,
            now_seconds: self.now_seconds,
            ..World::default()
        };
        for object in self.objects {
            world.add(object);
        }
        let written = |key: &str| -> Option<Node> {
            let is_it = |item: &&Item<core::ConfigMap>| item.object.key() == (world.system_namespace.as_str(), "istio");
            let map = world.config_maps.iter().find(is_it)?;
            document("", map.spec.data.as_ref()?.get(key)?).0
        };
        let mesh_config = self.mesh_config.unwrap_or_else(|| match written("mesh") {
            Some(root) => mesh_config::over_defaults(&root).0,
            None => mesh_config::default_mesh_config(),
        });
        let networks = self
            .mesh_networks
            .or_else(|| written("meshNetworks").and_then(|root| corten_api::codec::decode(&root).0));
        world.mesh_networks = networks.map(|spec| Item {
            object: Arc::new(networks_object(&world.system_namespace)),
            spec,
        });
        world.mesh_config = mesh_config;
        world
    }
}

/// What messages about the networks of the mesh are about.
fn networks_object(namespace: &str) -> Object {
    let text = format!(
        "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshNetworks\nmetadata:\n  name: meshnetworks\n  namespace: {namespace:?}\n"
    );
    let spanned = objects("", &text).0.into_iter().next();
    let spanned = spanned.unwrap_or_else(|| SpannedObject::from_value(&serde_json::Value::Null));
    Object::new(spanned, Arc::from(DEFAULT_CLUSTER))
}
