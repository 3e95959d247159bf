//! The workload of a gateway: a ServiceAccount, a Deployment and a Service, and an autoscaler and a disruption budget where
//! somebody asks for them.
//!
//! What is to be applied is a value; applying it, and watching what it depends on, is the driver's.

mod overlay;
mod pod;
mod ports;

use std::collections::BTreeMap;

use corten_api::{
    codec::Json,
    gateway_api::{Gateway, ListenerSet},
};
use serde_json::json;

pub use overlay::{Overlay, RenderError};

use crate::{
    Inputs, annotation,
    class::{EAST_WEST_CONTROLLER, GATEWAY_CONTROLLER, MESH_CONTROLLER, REMOTE_CONTROLLER, Role},
    conflict,
    gateway::{is_managed, workload_name},
    index::Index,
    reference::{Key, Kind},
    selector,
};

/// The label that every object of a gateway has, with its controller.
pub const MANAGED: &str = "gateway.istio.io/managed";
/// The label with the gateway's name, which pods are selected by.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// The label with the gateway's class.
const GATEWAY_CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";
/// What pods were selected by before.
const LEGACY_NAME: &str = "istio.io/gateway-name";
/// The label that says how a workload takes part in an ambient mesh.
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// The label with the network of a workload.
const NETWORK: &str = "topology.istio.io/network";
/// Prefix of what nobody but the gateway's controller says.
const RESERVED: &str = "gateway.networking.k8s.io/";

/// The annotation with the version of the controller that has a gateway.
pub const CONTROLLER_VERSION: &str = "gateway.istio.io/controller-version";
/// Our version of it: larger ones win.
pub const VERSION: i64 = 5;

/// Annotations of a gateway that are about the gateway alone.
const KEPT_BACK: [&str; 4] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    annotation::NAME_OVERRIDE,
    annotation::SERVICE_ACCOUNT_OVERRIDE,
    CONTROLLER_VERSION,
];

/// What holds for all gateways of an installation. The defaults are those of Istio's charts.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The revision; empty for the default one.
    pub revision: String,
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's domain.
    pub domain: String,
    /// The trust domain; empty: it is not told.
    pub trust_domain: String,
    /// The mesh's name; empty: the trust domain.
    pub mesh: String,
    /// The network; empty: there is only one.
    pub network: String,
    /// The image of the proxy.
    pub image: String,
    /// When images are pulled; empty: as Kubernetes decides.
    pub pull_policy: String,
    /// Secrets for pulling images.
    pub pull_secrets: Vec<String>,
    /// Host and port of the certificate authority.
    pub authority: String,
    /// Who provides certificates; for `istiod` its root is mounted.
    pub certificate_provider: String,
    /// The audience of tokens of gateways.
    pub audience: String,
    /// How much the proxy logs.
    pub proxy_log: String,
    /// How much its components log.
    pub component_log: String,
    /// How much its agent logs.
    pub agent_log: String,
    /// Logs are JSON.
    pub log_json: bool,
    /// Resources of gateways; null for none.
    pub resources: Json,
    /// Resources of waypoints; null for none.
    pub waypoint_resources: Json,
    /// Fields of waypoints' pods about where they run: affinity, tolerations and so on.
    pub waypoint_placement: Json,
    /// The proxy's configuration, as JSON in one line.
    pub proxy_config: String,
    /// Further environment of the proxy.
    pub proxy_metadata: BTreeMap<String, String>,
    /// User and group of the proxy.
    pub user: (i64, i64),
    /// Labels and annotations of a Gateway go to its workload.
    pub copy_metadata: bool,
    /// Accounts belong to their Gateway, which is safe from Kubernetes 1.28 on.
    pub owned_accounts: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        let text = str::to_owned;
        Settings {
            revision: String::new(),
            cluster: text("Kubernetes"),
            domain: text("cluster.local"),
            trust_domain: text("cluster.local"),
            mesh: String::new(),
            network: String::new(),
            image: text("proxyv2"),
            pull_policy: String::new(),
            pull_secrets: Vec::new(),
            authority: text("istiod.istio-system.svc:15012"),
            certificate_provider: text("istiod"),
            audience: text("istio-ca"),
            proxy_log: text("warning"),
            component_log: text("misc:error"),
            agent_log: text("default:info"),
            log_json: false,
            resources: Json::Null,
            waypoint_resources: Json::Null,
            waypoint_placement: Json::Null,
            proxy_config: text("{}"),
            proxy_metadata: BTreeMap::new(),
            user: (1337, 1337),
            copy_metadata: true,
            owned_accounts: true,
        }
    }
}

/// What a gateway's workload is made from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What holds for all.
    pub settings: &'a Settings,
    /// The gateway.
    pub gateway: &'a Gateway,
    /// ListenerSets that add to it, whether it takes them or not.
    pub sets: &'a [&'a ListenerSet],
    /// Changes for all gateways of its class, from the oldest ConfigMap for it.
    pub class_defaults: Option<&'a Overlay>,
    /// Changes for this one, from the ConfigMap that its parameters name; `None`: there is none.
    pub parameters: Option<&'a Overlay>,
    /// Objects that are there already, of its namespace.
    pub existing: &'a [Json],
}

/// What is to be done about a gateway's workload.
#[derive(Debug)]
pub struct Workload {
    /// The annotation of our version is to be written first.
    pub claim: bool,
    /// The objects to apply.
    pub objects: Result<Vec<Json>, RenderError>,
}

/// The controller's name of a role.
fn controller(role: Role) -> &'static str {
    match role {
        Role::Gateway => GATEWAY_CONTROLLER,
        Role::Remote => REMOTE_CONTROLLER,
        Role::Waypoint => MESH_CONTROLLER,
        Role::EastWest => EAST_WEST_CONTROLLER,
    }
}

/// The workload of a gateway; `None`: it is not ours to make.
pub fn workload(index: &Index<'_>, request: Request<'_>) -> Option<Workload> {
    let gateway = request.gateway;
    let role = index.role(&gateway.spec.gateway_class_name)?;
    if role == Role::Remote || !is_managed(gateway) {
        return None;
    }
    let claim = match gateway
        .metadata
        .annotations
        .get(CONTROLLER_VERSION)
        .map(|version| version.parse::<i64>())
    {
        None => true,
        Some(Ok(version)) if version <= VERSION => version < VERSION,
        // Somebody newer has it, or somebody who counts differently.
        Some(_) => return None,
    };
    let made = Made::new(index, request, role);
    Some(Workload {
        claim,
        objects: made.objects(),
    })
}

/// An object as it is applied over the one of its name; `None`: that one is not ours.
pub fn over(mut object: Json, existing: Option<&Json>) -> Option<Json> {
    let Some(existing) = existing else {
        return Some(object);
    };
    existing["metadata"]["labels"].get(MANAGED)?;
    // What a Deployment selects by cannot be changed; one from before keeps it.
    let selector = &existing["spec"]["selector"];
    let is_legacy = selector["matchLabels"][LEGACY_NAME]
        .as_str()
        .is_some_and(|name| !name.is_empty());
    if object["kind"] == "Deployment" && is_legacy {
        object["spec"]["selector"] = selector.clone();
        let template = &existing["spec"]["template"]["metadata"]["labels"];
        object["spec"]["template"]["metadata"]["labels"][LEGACY_NAME] = template[LEGACY_NAME].clone();
    }
    Some(object)
}

/// A gateway with its workload.
#[derive(Debug)]
pub struct Deployed {
    /// The Gateway.
    pub gateway: Key,
    /// Its controller, which is the manager of the workload's fields.
    pub controller: &'static str,
    /// What is to be done.
    pub workload: Workload,
}

/// The label of ConfigMaps that say what is different about all gateways of a class: the class. They count in the system's namespace.
pub const CLASS_DEFAULTS: &str = "gateway.istio.io/defaults-for-class";

/// The workloads of all gateways that are ours to make, without regard to what is there. `defaults` finds what is different about the
/// gateways of a class, `parameters` the entries of ConfigMaps.
pub fn workloads<'a>(
    inputs: &Inputs,
    settings: &Settings,
    defaults: impl Fn(&str) -> Option<&'a Overlay>,
    parameters: impl Fn(&Key) -> Option<&'a Overlay>,
) -> Vec<Deployed> {
    let index = Index::new(inputs);
    let of = |gateway: &std::sync::Arc<Gateway>| {
        let key = crate::gateway::key(gateway);
        let sets: Vec<&ListenerSet> = inputs.listener_sets.iter().map(AsRef::as_ref).collect();
        let sets: Vec<&ListenerSet> = sets
            .into_iter()
            .filter(|set| conflict::gateway_of(set) == key)
            .collect();
        let infrastructure = gateway.spec.infrastructure.as_ref();
        let named = infrastructure.and_then(|i| i.parameters_ref.as_ref());
        let named = named.map(|named| Key::new(&key.namespace, &named.name));
        let request = Request {
            settings,
            gateway,
            sets: &sets,
            class_defaults: defaults(&gateway.spec.gateway_class_name),
            parameters: named.as_ref().and_then(&parameters),
            existing: &[],
        };
        Some(Deployed {
            controller: controller(index.role(&gateway.spec.gateway_class_name)?),
            workload: workload(&index, request)?,
            gateway: key,
        })
    };
    inputs.gateways.iter().filter_map(of).collect()
}

/// What all objects of a workload are made from.
struct Made<'a> {
    index: &'a Index<'a>,
    request: Request<'a>,
    settings: &'a Settings,
    role: Role,
    name: String,
    account: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl<'a> Made<'a> {
    fn new(index: &'a Index<'a>, request: Request<'a>, role: Role) -> Made<'a> {
        let (gateway, settings) = (request.gateway, request.settings);
        let own = &gateway.metadata;
        let named = |key: &str| own.annotations.get(key).filter(|value| !value.is_empty()).cloned();
        let default = workload_name(gateway, role);
        let infrastructure = gateway.spec.infrastructure.as_ref();
        let copied = |given: Option<&BTreeMap<String, String>>, own: &BTreeMap<String, String>| match given {
            Some(given) if !given.is_empty() => {
                let given = given.iter().filter(|(key, _)| !key.starts_with(RESERVED));
                given.map(|(key, value)| (key.clone(), value.clone())).collect()
            }
            _ if settings.copy_metadata => own.clone(),
            _ => BTreeMap::new(),
        };
        let mut labels = copied(infrastructure.map(|i| &i.labels), &own.labels);
        let mut annotations = copied(infrastructure.map(|i| &i.annotations), &own.annotations);
        annotations.retain(|key, _| !KEPT_BACK.contains(&key.as_str()));
        match role {
            // A gateway gets its traffic from outside of the mesh, and captures none.
            Role::Gateway | Role::Remote => {
                if !own.labels.contains_key(DATAPLANE_MODE) {
                    labels
                        .entry(DATAPLANE_MODE.to_owned())
                        .or_insert_with(|| "none".to_owned());
                }
            }
            Role::Waypoint | Role::EastWest => {
                if !own.labels.contains_key(NETWORK) && !settings.network.is_empty() {
                    labels.insert(NETWORK.to_owned(), settings.network.clone());
                }
            }
        }
        Made {
            index,
            request,
            settings,
            role,
            name: named(annotation::NAME_OVERRIDE).unwrap_or_else(|| default.clone()),
            account: named(annotation::SERVICE_ACCOUNT_OVERRIDE).unwrap_or(default),
            labels,
            annotations,
        }
    }

    fn gateway(&self) -> &'a Gateway {
        self.request.gateway
    }

    /// The objects with the changes that were asked for, without those that somebody else has.
    fn objects(&self) -> Result<Vec<Json>, RenderError> {
        let gateway = self.gateway();
        let named = gateway
            .spec
            .infrastructure
            .as_ref()
            .and_then(|i| i.parameters_ref.as_ref());
        if let Some(named) = named {
            let kind = Kind {
                group: &named.group,
                kind: &named.kind,
            };
            if kind != Kind::CONFIG_MAP {
                return Err(RenderError::ParametersKind(format!("{}/{}", named.group, named.kind)));
            }
            if self.request.parameters.is_none() {
                return Err(RenderError::ParametersMissing(named.name.clone()));
            }
        }
        let overlays: Vec<&Overlay> = [self.request.class_defaults, self.request.parameters]
            .into_iter()
            .flatten()
            .collect();
        let mut objects = Vec::new();
        for object in [
            self.service_account(),
            self.deployment(),
            self.service(),
            self.autoscaler(),
            self.budget(),
        ] {
            let Some(object) = overlay::apply(object, &overlays)? else {
                continue;
            };
            objects.extend(self.ours(object));
        }
        Ok(objects)
    }

    /// The object with our label; `None`: there is one that is not ours.
    fn ours(&self, mut object: Json) -> Option<Json> {
        let same = |existing: &&Json| {
            existing["kind"] == object["kind"] && existing["metadata"]["name"] == object["metadata"]["name"]
        };
        let existing = self.request.existing.iter().find(same);
        object["metadata"]["labels"][MANAGED] = json!(controller(self.role).replace('/', "-"));
        over(object, existing)
    }

    /// Labels that objects have beside those of the gateway.
    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(GATEWAY_NAME.to_owned(), self.gateway().metadata.name.clone());
        labels.insert(GATEWAY_CLASS.to_owned(), self.gateway().spec.gateway_class_name.clone());
        labels
    }

    fn object(&self, api_version: &str, kind: &str, name: &str, spec: Json) -> Json {
        let own = &self.gateway().metadata;
        let mut object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": own.namespace,
                "annotations": self.annotations,
                "labels": self.labels(),
                "ownerReferences": [{
                    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": own.name, "uid": own.uid,
                }],
            },
        });
        if !spec.is_null() {
            object["spec"] = spec;
        }
        object
    }

    fn service_account(&self) -> Json {
        let mut account = self.object("v1", "ServiceAccount", &self.account, Json::Null);
        if let Some(metadata) = account["metadata"]
            .as_object_mut()
            .filter(|_| !self.settings.owned_accounts)
        {
            metadata.remove("ownerReferences");
        }
        account
    }

    fn deployment(&self) -> Json {
        let spec = json!({
            "selector": { "matchLabels": { GATEWAY_NAME: self.gateway().metadata.name } },
            "template": self.pod(),
        });
        self.object("apps/v1", "Deployment", &self.name, spec)
    }

    fn service(&self) -> Json {
        let gateway = self.gateway();
        let default = match self.role {
            Role::Waypoint => "ClusterIP",
            Role::Gateway | Role::EastWest | Role::Remote => "LoadBalancer",
        };
        let kind = gateway
            .metadata
            .annotations
            .get(annotation::SERVICE_TYPE)
            .map_or(default, String::as_str);
        let taken = self
            .request
            .sets
            .iter()
            .filter(|set| selector::takes_listeners_of(self.index, gateway, &set.metadata.namespace));
        let added = taken.flat_map(|set| set.spec.listeners.iter().map(conflict::entry));
        let listeners: Vec<_> = gateway.spec.listeners.iter().cloned().chain(added).collect();
        let mut spec = json!({
            "ipFamilyPolicy": "PreferDualStack",
            "ports": ports::of(&listeners),
            "selector": { GATEWAY_NAME: gateway.metadata.name },
            "type": kind,
        });
        let address = gateway
            .spec
            .addresses
            .first()
            .and_then(|address| address.value.as_ref());
        if let Some(address) = address.filter(|_| kind == "LoadBalancer") {
            spec["loadBalancerIP"] = json!(address);
        }
        let mut service = self.object("v1", "Service", &self.name, spec);
        if self.role != Role::Gateway {
            let annotations = &mut service["metadata"]["annotations"];
            if annotations.get(TRAFFIC_DISTRIBUTION).is_none() {
                annotations[TRAFFIC_DISTRIBUTION] = json!("PreferClose");
            }
        }
        service
    }

    fn autoscaler(&self) -> Json {
        let spec = json!({
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": self.name },
            "maxReplicas": 1,
        });
        self.object("autoscaling/v2", "HorizontalPodAutoscaler", &self.name, spec)
    }

    fn budget(&self) -> Json {
        let spec = json!({ "selector": { "matchLabels": { GATEWAY_NAME: self.gateway().metadata.name } } });
        self.object("policy/v1", "PodDisruptionBudget", &self.name, spec)
    }
}

/// The annotation of services about which endpoints clients should take.
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

#[cfg(test)]
mod tests;
