//! VirtualServices as they take effect: names resolved, delegates merged in, by gateway and oldest first.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use corten_api::{
    diagnostic::Diagnostic,
    istio::{
        mesh_config::MeshConfig,
        virtual_service::{Destination, VirtualServiceSpec},
    },
};
use corten_core::Host;
use corten_model::{Name, Settings};

use crate::{
    config::{Config, Configs, by_age},
    delegate,
    notice::About,
    unusable,
    visibility::Visibility,
};

/// A gateway, `namespace/name`, or [`MESH_GATEWAY`].
pub type GatewayName = Name;

/// The name that stands for all sidecars.
pub const MESH_GATEWAY: &str = "mesh";

/// Set on VirtualServices that were made of other kinds.
const SEMANTICS: &str = "internal.istio.io/route-semantics";

/// How a VirtualService is meant where kinds differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Semantics {
    /// As Istio's own.
    #[default]
    Istio,
    /// As the Gateway API's routes.
    Gateway,
    /// As Kubernetes' Ingress.
    Ingress,
}

impl Semantics {
    /// How a VirtualService with these annotations is meant.
    pub fn of(annotations: &BTreeMap<String, String>) -> Semantics {
        match annotations.get(SEMANTICS).map(String::as_str) {
            Some("gateway") => Semantics::Gateway,
            Some("ingress") => Semantics::Ingress,
            _ => Semantics::Istio,
        }
    }
}

/// A VirtualService, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualService {
    /// The namespace.
    pub namespace: Name,
    /// The name.
    pub name: Name,
    /// When it was created.
    pub created: i64,
    /// How it is meant.
    pub semantics: Semantics,
    /// The gateways it is for, [`MESH_GATEWAY`] among them if it is for sidecars.
    pub gateways: Vec<GatewayName>,
    /// Who sees it.
    pub visibility: Visibility,
    /// What is wanted, with full host names and delegates merged in.
    pub spec: VirtualServiceSpec,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
}

impl VirtualService {
    /// Whether it is for a gateway.
    pub fn is_for(&self, gateway: &str) -> bool {
        self.gateways.iter().any(|name| **name == *gateway)
    }

    /// Istio's path of the object, as telemetry and metadata carry it.
    pub fn path(&self) -> String {
        format!(
            "/apis/networking.istio.io/v1/namespaces/{}/virtual-service/{}",
            self.namespace, self.name
        )
    }
}

/// All VirtualServices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VirtualServices {
    /// Oldest first.
    all: Vec<Arc<VirtualService>>,
    by_gateway: HashMap<GatewayName, Vec<Arc<VirtualService>>>,
    diagnostics: Vec<Diagnostic>,
}

impl VirtualServices {
    pub(crate) fn new(configs: &Configs, settings: &Settings, mesh: &MeshConfig) -> VirtualServices {
        let mut made = VirtualServices::default();
        let resolved: Vec<VirtualService> = by_age(&configs.virtual_services)
            .iter()
            .map(|config| resolve(config, settings, mesh, &mut made.diagnostics))
            .collect();
        for service in delegate::merged(resolved, &mut made.diagnostics) {
            let service = Arc::new(service);
            for gateway in &service.gateways {
                let of_gateway = made.by_gateway.entry(Name::clone(gateway)).or_default();
                of_gateway.push(Arc::clone(&service));
            }
            made.all.push(service);
        }
        made
    }

    /// The same, with those that are equal to one of those `held` being that one.
    #[must_use]
    pub(crate) fn sharing(mut self, held: &VirtualServices) -> VirtualServices {
        let known: HashMap<(&str, &str), &Arc<VirtualService>> = held
            .all
            .iter()
            .map(|service| ((&*service.namespace, &*service.name), service))
            .collect();
        let share = |service: &mut Arc<VirtualService>| {
            if let Some(known) = known.get(&(&*service.namespace, &*service.name))
                && **known == *service
            {
                *service = Arc::clone(known);
            }
        };
        self.all.iter_mut().for_each(share);
        self.by_gateway.values_mut().flatten().for_each(share);
        self
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<VirtualService>> {
        self.all.iter()
    }

    /// Those that are only here or only among `others`, as values.
    #[must_use]
    pub fn different(&self, others: &VirtualServices) -> Vec<Arc<VirtualService>> {
        let values = |of: &VirtualServices| -> HashSet<_> { of.all.iter().map(Arc::as_ptr).collect() };
        let (ours, theirs) = (values(self), values(others));
        let only_here = self.all.iter().filter(|one| !theirs.contains(&Arc::as_ptr(one)));
        let only_there = others.all.iter().filter(|one| !ours.contains(&Arc::as_ptr(one)));
        only_here.chain(only_there).cloned().collect()
    }

    /// What of them takes no effect.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Those for a gateway that a namespace sees: first those for it alone, then those for some namespaces, then those for
    /// all; each oldest first, and of each what Gateway API routes of its own namespace became comes first.
    pub fn for_gateway(&self, gateway: &str, namespace: &str) -> Vec<Arc<VirtualService>> {
        let tier = |service: &VirtualService| match &service.visibility {
            Visibility::Public => 2,
            seen if seen.is_private_to(&service.namespace) => 0,
            Visibility::Namespaces(_) => 1,
        };
        let held = self.by_gateway.get(gateway).map_or(&[][..], |held| held);
        let seen = held.iter().filter(|service| service.visibility.includes(namespace));
        let mut found: Vec<Arc<VirtualService>> = seen.cloned().collect();
        found.sort_by_key(|service| {
            let consumer = service.semantics == Semantics::Gateway && *service.namespace == *namespace;
            (tier(service), !consumer)
        });
        found
    }
}

/// A host's full name: one without a dot is a Kubernetes service of the object's namespace.
pub fn full_host(host: &Host, namespace: &str, domain: &str) -> Host {
    let text = host.as_str();
    if text.is_empty() || text.contains('.') || text.contains('*') || text.contains(':') {
        return host.clone();
    }
    Host::from(format!("{text}.{namespace}.svc.{domain}").as_str())
}

/// A gateway's full name.
pub(crate) fn full_gateway(name: &str, namespace: &str) -> GatewayName {
    if name == MESH_GATEWAY {
        return Name::from(MESH_GATEWAY);
    }
    if let Some((of, name)) = name.split_once('/') {
        let of = if of == "." { namespace } else { of };
        return Name::from(format!("{of}/{name}"));
    }
    // Once, a gateway of another namespace was written as a host name.
    let mut parts = name.splitn(3, '.');
    match (parts.next(), parts.next()) {
        (Some(name), Some(of)) => Name::from(format!("{of}/{name}")),
        _ => Name::from(format!("{namespace}/{name}")),
    }
}

fn resolve(
    config: &Config<VirtualServiceSpec>,
    settings: &Settings,
    mesh: &MeshConfig,
    said: &mut Vec<Diagnostic>,
) -> VirtualService {
    let (namespace, domain) = (&config.namespace, &settings.domain);
    let host = |host: &mut Host| *host = full_host(host, namespace, domain);
    let gateways = |names: &mut Vec<String>| {
        for name in names {
            *name = full_gateway(name, namespace).to_string();
        }
    };
    let destination = |destination: &mut Option<Destination>| {
        if let Some(destination) = destination {
            host(&mut destination.host);
        }
    };
    let mut spec = config.spec.clone();
    let about = About::networking("VirtualService", namespace, &config.name);
    unusable::leave_out(&mut spec, &about, said);
    spec.hosts.iter_mut().for_each(host);
    for route in &mut spec.http {
        route
            .match_
            .iter_mut()
            .for_each(|wanted| gateways(&mut wanted.gateways));
        route.route.iter_mut().for_each(|to| destination(&mut to.destination));
        destination(&mut route.mirror);
        route
            .mirrors
            .iter_mut()
            .for_each(|mirror| destination(&mut mirror.destination));
    }
    for route in &mut spec.tcp {
        route
            .match_
            .iter_mut()
            .for_each(|wanted| gateways(&mut wanted.gateways));
        route.route.iter_mut().for_each(|to| destination(&mut to.destination));
    }
    for route in &mut spec.tls {
        route
            .match_
            .iter_mut()
            .for_each(|wanted| gateways(&mut wanted.gateways));
        route.route.iter_mut().for_each(|to| destination(&mut to.destination));
    }
    gateways(&mut spec.gateways);
    let mut names: Vec<GatewayName> = spec.gateways.iter().map(|name| Name::from(name.as_str())).collect();
    if names.is_empty() {
        names.push(Name::from(MESH_GATEWAY));
    }
    names.dedup();
    VirtualService {
        namespace: Name::clone(namespace),
        name: Name::clone(&config.name),
        created: config.created,
        semantics: Semantics::of(&config.annotations),
        gateways: names,
        visibility: Visibility::of(
            spec.export_to.iter().map(String::as_str),
            mesh.default_virtual_service_export_to.iter().map(String::as_str),
            namespace,
        ),
        spec,
        annotations: config.annotations.clone(),
    }
}
