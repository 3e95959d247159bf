//! The inputs by name, so that a rule finds what it refers to.

use std::collections::BTreeMap;

use corten_api::{
    codec::Timestamp,
    gateway_api::{Gateway, GatewayClass, XBackend},
    inference::InferencePool,
    istio::ServiceEntry,
    metadata::Metadata,
};

use crate::{
    Inputs, Settings,
    class::Role,
    input::{ConfigMap, Namespace, RegistryService, Secret, Service},
    reference::Grants,
};

/// Objects by namespace and name.
type ByName<'a, T> = BTreeMap<(&'a str, &'a str), &'a T>;

/// What every rule may look at.
#[derive(Debug)]
pub struct Index<'a> {
    /// What holds for the whole mesh.
    pub settings: &'a Settings,
    /// The time that new conditions get.
    pub now: Timestamp,
    /// Consent to references across namespaces.
    pub grants: Grants<'a>,
    namespaces: BTreeMap<&'a str, &'a Namespace>,
    services: ByName<'a, Service>,
    secrets: ByName<'a, Secret>,
    config_maps: ByName<'a, ConfigMap>,
    service_entries: ByName<'a, ServiceEntry>,
    classes: BTreeMap<&'a str, &'a GatewayClass>,
    gateways: ByName<'a, Gateway>,
    backends: ByName<'a, XBackend>,
    inference_pools: ByName<'a, InferencePool>,
    registry: BTreeMap<&'a str, BTreeMap<&'a str, &'a RegistryService>>,
}

impl<'a> Index<'a> {
    /// Indexes the inputs.
    pub fn new(inputs: &'a Inputs) -> Index<'a> {
        fn named<'a, T>(
            objects: impl Iterator<Item = &'a T>,
            meta: impl Fn(&'a T) -> (&'a str, &'a str),
        ) -> ByName<'a, T> {
            objects.map(|object| (meta(object), object)).collect()
        }
        fn of(meta: &Metadata) -> (&str, &str) {
            (&meta.namespace, &meta.name)
        }
        let experimental = inputs.settings.experimental;
        let mut registry: BTreeMap<&str, BTreeMap<&str, &RegistryService>> = BTreeMap::new();
        for service in &inputs.registry {
            let namespaces = registry.entry(&service.hostname).or_default();
            namespaces.insert(&service.namespace, service);
        }
        let shared = |list: &'a [std::sync::Arc<XBackend>]| list.iter().map(AsRef::as_ref);
        Index {
            settings: &inputs.settings,
            now: inputs.now,
            grants: Grants::new(inputs.reference_grants.iter().map(AsRef::as_ref)),
            namespaces: inputs
                .namespaces
                .iter()
                .map(|n| (n.name.as_str(), n.as_ref()))
                .collect(),
            services: named(inputs.services.iter().map(AsRef::as_ref), |s| (&s.namespace, &s.name)),
            secrets: named(inputs.secrets.iter().map(AsRef::as_ref), |s| (&s.namespace, &s.name)),
            config_maps: named(inputs.config_maps.iter().map(AsRef::as_ref), |m| {
                (&m.namespace, &m.name)
            }),
            service_entries: named(inputs.service_entries.iter().map(AsRef::as_ref), |s| of(&s.metadata)),
            classes: inputs
                .classes
                .iter()
                .map(|c| (c.metadata.name.as_str(), c.as_ref()))
                .collect(),
            gateways: named(inputs.gateways.iter().map(AsRef::as_ref), |g| of(&g.metadata)),
            backends: named(shared(&inputs.backends).filter(|_| experimental), |b| of(&b.metadata)),
            inference_pools: named(inputs.inference_pools.iter().map(AsRef::as_ref), |p| of(&p.metadata)),
            registry,
        }
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<&'a Namespace> {
        self.namespaces.get(name).copied()
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &'a Namespace> {
        self.namespaces.values().copied()
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&'a Service> {
        self.services.get(&(namespace, name)).copied()
    }

    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<&'a Secret> {
        self.secrets.get(&(namespace, name)).copied()
    }

    pub(crate) fn config_map(&self, namespace: &str, name: &str) -> Option<&'a ConfigMap> {
        self.config_maps.get(&(namespace, name)).copied()
    }

    pub(crate) fn service_entry(&self, namespace: &str, name: &str) -> Option<&'a ServiceEntry> {
        self.service_entries.get(&(namespace, name)).copied()
    }

    pub(crate) fn class(&self, name: &str) -> Option<&'a GatewayClass> {
        self.classes.get(name).copied()
    }

    pub(crate) fn gateway(&self, namespace: &str, name: &str) -> Option<&'a Gateway> {
        self.gateways.get(&(namespace, name)).copied()
    }

    pub(crate) fn backend(&self, namespace: &str, name: &str) -> Option<&'a XBackend> {
        self.backends.get(&(namespace, name)).copied()
    }

    pub(crate) fn inference_pool(&self, namespace: &str, name: &str) -> Option<&'a InferencePool> {
        self.inference_pools.get(&(namespace, name)).copied()
    }

    /// The service that a namespace has under a host name.
    pub(crate) fn registered(&self, hostname: &str, namespace: &str) -> Option<&'a RegistryService> {
        self.registry.get(hostname)?.get(namespace).copied()
    }

    /// The namespaces that have a service under a host name.
    pub(crate) fn namespaces_of(&self, hostname: &str) -> Vec<&'a str> {
        let namespaces = self.registry.get(hostname).map(|found| found.keys().copied().collect());
        namespaces.unwrap_or_default()
    }

    /// What the gateways of a class are; `None`: not ours. A class that ships needs no object, and an object of its name
    /// may give it to another controller.
    pub(crate) fn role(&self, class: &str) -> Option<Role> {
        let controller = self.class(class).map(|c| c.spec.controller_name.as_str());
        // An object that names a controller of somebody else leaves the class to us when it is one of ours by name.
        controller
            .and_then(|controller| Role::of_controller(controller, self.settings))
            .or_else(|| Role::of_built_in(class, self.settings))
    }

    /// A service's whole name.
    pub(crate) fn service_host(&self, name: &str, namespace: &str) -> String {
        format!("{name}.{namespace}.svc.{}", self.settings.domain)
    }
}
