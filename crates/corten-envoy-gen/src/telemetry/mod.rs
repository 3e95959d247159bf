//! What proxies tell about connections and requests: access logs and traces.
//!
//! [`Signals`] is what all listeners of a side have in common. Where Telemetries say something, or the mesh's configuration names
//! default providers, that decides; the older fields of the mesh's configuration decide otherwise.

mod diagnostics;
mod legacy;
mod logging;
mod providers;
#[cfg(test)]
mod tests;
mod tracing;

use std::{collections::BTreeSet, sync::Arc};

use corten_api::istio::telemetry::{TelemetrySpec, WorkloadMode};
use corten_envoy::envoy::{
    config::accesslog::v3::AccessLog,
    extensions::filters::network::http_connection_manager::v3::{RequestIdExtension, http_connection_manager::Tracing},
};
use corten_routing::{Catalog, Config, ProxyKind, Service};

pub use self::diagnostics::diagnostics;
pub(crate) use self::{logging::with, tracing::LABELS};
use crate::{
    Context,
    security::attach::{Attached as _, Place},
};

/// What the listeners of one side of a proxy tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Signals {
    /// The logs of requests and connections.
    logs: Vec<AccessLog>,
    /// The log service of the proxy's own configuration, for requests and for connections.
    service: Option<[AccessLog; 2]>,
    /// The logs of connections that a listener has no filter chain for.
    pub(crate) unrouted: Vec<AccessLog>,
    /// Traces of requests.
    pub(crate) tracing: Option<Tracing>,
    /// How requests get their ids, where that is not the usual way.
    pub(crate) request_id: Option<RequestIdExtension>,
}

impl Signals {
    /// Those for a side of a proxy: `Client` where its workload calls, which is all that routers do, `Server` where it is called.
    pub(crate) fn of(cx: &Context<'_>, side: WorkloadMode) -> Signals {
        Signals::about(cx, side, None)
    }

    /// Those for a service behind a waypoint.
    pub(crate) fn of_service(cx: &Context<'_>, service: &Service) -> Signals {
        Signals::about(cx, WorkloadMode::Server, Some(service))
    }

    fn about(cx: &Context<'_>, side: WorkloadMode, service: Option<&Service>) -> Signals {
        let layers = layers(cx, service);
        let logs = logging::of(cx, &layers, side);
        let service = logging::is_by_mesh(cx, &layers)
            .then(|| legacy::log_service(cx))
            .flatten();
        let (tracing, request_id) = tracing::of(cx, &layers, side);
        Signals {
            unrouted: if cx.mesh().disable_envoy_listener_log {
                Vec::new()
            } else {
                let of_listeners = service.as_ref().map(|_| legacy::log_service_of_listeners());
                logs.iter().chain(&of_listeners).map(logging::unrouted).collect()
            },
            logs,
            service,
            tracing,
            request_id,
        }
    }

    /// The logs of requests.
    pub(crate) fn of_requests(&self) -> Vec<AccessLog> {
        let service = self.service.iter().map(|[requests, _]| requests);
        self.logs.iter().chain(service).cloned().collect()
    }

    /// The logs of connections.
    pub(crate) fn of_connections(&self) -> Vec<AccessLog> {
        let service = self.service.iter().map(|[_, connections]| connections);
        self.logs.iter().chain(service).cloned().collect()
    }

    /// The same, with other logs.
    pub(crate) fn with_logs(&self, change: impl Fn(&AccessLog) -> AccessLog) -> Signals {
        Signals {
            logs: self.logs.iter().map(&change).collect(),
            service: self.service.as_ref().map(|service| service.each_ref().map(&change)),
            ..self.clone()
        }
    }

    /// The logs alone.
    pub(crate) fn without_traces(self) -> Signals {
        Signals {
            tracing: None,
            request_id: None,
            ..self
        }
    }
}

/// Stands among the keys of labels that count for: its name, and what else a workload is called by in traces.
pub(crate) const OWN_NAME: &str = "resource.opentelemetry.io/service.name";

/// The keys of labels by which what is told of calls that go out differs: those that Telemetries choose by, and, where there are
/// traces, those that workloads are called by in them.
pub(crate) fn counting(catalog: &Catalog, keys: &mut BTreeSet<String>) {
    let telemetries = catalog.configs.telemetries.values();
    let mut traces = catalog
        .mesh
        .default_providers
        .as_ref()
        .is_some_and(|defaults| !defaults.tracing.is_empty());
    let config = catalog.mesh.default_config.as_ref();
    traces |= config.and_then(|config| config.tracing.as_ref()).is_some();
    for config in telemetries {
        traces |= !config.spec.tracing.is_empty();
        keys.extend(config.spec.selector().into_iter().flatten().map(|(key, _)| key.clone()));
    }
    if traces {
        keys.extend(LABELS.map(str::to_owned));
        if providers::use_conventions(&catalog.mesh) {
            keys.insert(OWN_NAME.to_owned());
        }
    }
}

/// The services that proxies tell.
pub fn services(catalog: &Catalog) -> Vec<Arc<Service>> {
    let found = catalog.mesh.extension_providers.iter().filter_map(|provider| {
        let service = providers::service(provider.provider.as_ref()?)?;
        let host = crate::security::authz::find(&catalog.services, service).ok()?;
        catalog.services.of_host(&host).first().cloned()
    });
    found.collect()
}

/// The Telemetries for a proxy, and for a service behind it: those that decide last come last.
///
/// Of a namespace's Telemetries for all its workloads the oldest counts. First comes that of the root namespace, then that of the
/// proxy's, then that of the service's, then all that choose the workload, or the service, themselves.
fn layers(cx: &Context<'_>, service: Option<&Service>) -> Vec<Arc<Config<TelemetrySpec>>> {
    let catalog = &cx.snapshot.catalog;
    let all = &catalog.configs.telemetries;
    if all.is_empty() {
        return Vec::new();
    }
    let root = &*catalog.settings.root_namespace;
    let own = &*cx.proxy.namespace;
    let of_namespace = |namespace: &str| {
        let mut found: Vec<&Arc<Config<TelemetrySpec>>> =
            all.values().filter(|config| *config.namespace == *namespace).collect();
        found.sort_by(|a, b| a.age().cmp(&b.age()));
        found
    };
    let is_wide = |config: &&Arc<Config<TelemetrySpec>>| {
        config.spec.selector().is_none_or(|labels| labels.is_empty()) && config.spec.targets().is_empty()
    };
    let behind = service.filter(|_| cx.proxy.kind == ProxyKind::Waypoint);
    let last = behind.map_or(own, |service| &*service.namespace);
    let mut namespaces = vec![root];
    for namespace in [own, last] {
        if !namespaces.contains(&namespace) {
            namespaces.push(namespace);
        }
    }
    let wide = namespaces
        .iter()
        .filter_map(|namespace| of_namespace(namespace).into_iter().find(is_wide).cloned());
    let mut layers: Vec<Arc<Config<TelemetrySpec>>> = wide.collect();
    let mut place = Place::of(cx.proxy, root);
    if let Some(service) = behind {
        place = place.for_service(service);
    }
    let chosen = of_namespace(last)
        .into_iter()
        .filter(|config| !is_wide(config) && place.takes(last, &config.spec));
    layers.extend(chosen.cloned());
    layers
}
