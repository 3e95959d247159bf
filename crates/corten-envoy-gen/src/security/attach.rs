//! Which policies are for which proxy: by labels, by namespace, or by what they name as their target.
//!
//! The same for every kind of policy that Istio attaches so.

use std::sync::Arc;

use corten_api::istio::{
    authorization_policy::AuthorizationPolicySpec,
    envoy_filter::EnvoyFilterSpec,
    extensions::{TrafficExtensionSpec, WasmPluginSpec},
    request_authentication::RequestAuthenticationSpec,
    selector::PolicyTargetReference,
    telemetry::TelemetrySpec,
};
use corten_core::LabelMap;
use corten_routing::{Config, Proxy, ProxyKind, Registry, Service, Table};

/// A policy that says what it is for.
pub trait Attached {
    /// The workloads, by labels; none: all.
    fn selector(&self) -> Option<&LabelMap>;
    /// The objects, by name.
    fn targets(&self) -> &[PolicyTargetReference];
}

macro_rules! attached {
    ($($spec:ty),*) => {$(
        impl Attached for $spec {
            fn selector(&self) -> Option<&LabelMap> {
                self.selector.as_ref().map(|selector| &selector.match_labels)
            }
            fn targets(&self) -> &[PolicyTargetReference] {
                match (self.target_refs.as_slice(), &self.target_ref) {
                    ([], Some(single)) => std::slice::from_ref(single),
                    (several, _) => several,
                }
            }
        }
    )*};
}

attached!(
    AuthorizationPolicySpec,
    RequestAuthenticationSpec,
    TelemetrySpec,
    WasmPluginSpec
);

impl Attached for TrafficExtensionSpec {
    fn selector(&self) -> Option<&LabelMap> {
        self.selector.as_ref().map(|selector| &selector.match_labels)
    }
    fn targets(&self) -> &[PolicyTargetReference] {
        &self.target_refs
    }
}

impl Attached for EnvoyFilterSpec {
    fn selector(&self) -> Option<&LabelMap> {
        self.workload_selector.as_ref().map(|selector| &selector.labels)
    }
    fn targets(&self) -> &[PolicyTargetReference] {
        &self.target_refs
    }
}

/// A proxy, as policies choose it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The namespace of the proxy.
    pub namespace: &'a str,
    /// The labels of its workload.
    pub labels: &'a LabelMap,
    /// It is a waypoint, which only takes policies that name it, its class, or a service behind it.
    pub waypoint: bool,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: &'a str,
    /// The service behind a waypoint that this is about.
    pub service: Option<&'a Service>,
}

const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
const WAYPOINT_CLASS: &str = "istio-waypoint";

impl<'a> Place<'a> {
    /// The place of a proxy.
    pub fn of(proxy: &'a Proxy, root_namespace: &'a str) -> Place<'a> {
        Place {
            namespace: &proxy.namespace,
            labels: &proxy.labels,
            waypoint: proxy.kind == ProxyKind::Waypoint,
            root_namespace,
            service: None,
        }
    }

    /// The same proxy, for what goes to a service behind it.
    #[must_use]
    pub fn for_service(self, service: &'a Service) -> Place<'a> {
        Place {
            service: Some(service),
            ..self
        }
    }

    /// Whether a policy of a namespace is for it.
    pub fn takes(&self, namespace: &str, policy: &impl Attached) -> bool {
        let selected = || {
            let wanted = policy.selector().into_iter().flatten();
            let mut fits = wanted.map(|(key, value)| self.labels.get(key) == Some(value));
            fits.all(|fits| fits)
        };
        let gateway = self.labels.get(GATEWAY_NAME);
        let in_reach = namespace == self.namespace || namespace == self.root_namespace;
        match (gateway, policy.targets()) {
            (_, []) => in_reach && !(self.waypoint && gateway.is_some()) && selected(),
            // Policies with targets are for gateways and waypoints alone.
            (None, _) => false,
            (Some(gateway), targets) => targets.iter().any(|target| self.is(target, namespace, gateway)),
        }
    }

    fn is(&self, target: &PolicyTargetReference, namespace: &str, gateway: &str) -> bool {
        let of_here =
            namespace == self.namespace && (target.namespace.is_empty() || target.namespace == self.namespace);
        let behind = |registry: Registry| {
            self.waypoint
                && self.service.is_some_and(|service| {
                    service.registry == registry && *service.name == *target.name && *service.namespace == *namespace
                })
        };
        match (target.group.as_str(), target.kind.as_str()) {
            ("gateway.networking.k8s.io", "Gateway") => of_here && target.name == gateway,
            ("gateway.networking.k8s.io", "GatewayClass") => {
                self.waypoint && namespace == self.root_namespace && target.name == WAYPOINT_CLASS
            }
            ("" | "core", "Service") => behind(Registry::Kubernetes),
            ("networking.istio.io", "ServiceEntry") => behind(Registry::External),
            _ => false,
        }
    }

    /// The policies that are for it: those of the mesh, of its namespace, and of the service's, each oldest first.
    pub fn select<'t, S: Attached>(&self, table: &'t Table<S>) -> Vec<&'t Arc<Config<S>>> {
        let of_service = self.service.map(|service| service.namespace.as_ref());
        let mut namespaces = vec![self.root_namespace];
        for namespace in [Some(self.namespace), of_service].into_iter().flatten() {
            if !namespaces.contains(&namespace) {
                namespaces.push(namespace);
            }
        }
        let mut selected = Vec::new();
        for namespace in namespaces {
            let from = (corten_model::Name::from(namespace), corten_model::Name::from(""));
            let there = table.range(from..).take_while(|((of, _), _)| **of == *namespace);
            let mut taken: Vec<_> = there
                .map(|(_, policy)| policy)
                .filter(|policy| self.takes(namespace, &policy.spec))
                .collect();
            taken.sort_by(|a, b| a.age().cmp(&b.age()));
            selected.extend(taken);
        }
        selected
    }
}
