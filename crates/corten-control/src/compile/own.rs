//! What is made for one proxy: what its workload is sent, or all that a gateway or waypoint listens for.

use std::sync::Arc;

use corten_api::diagnostic::Diagnostic;
use corten_api::istio::authorization_policy::AuthorizationPolicyAction;
use corten_envoy_gen::{Context, Resources, generate, parts};
use corten_model::{AddressKey, Name, Workload};
use corten_routing::{Configs, Proxy, ProxyKind, Scope, Snapshot};

use super::News;
use super::contents::{Contents, Difference};
use super::pins::Pins;

/// Pins the objects that two namespaces have in tables.
macro_rules! of_two {
    ($pins:expr, $configs:expr, $namespaces:expr; $($table:ident),*) => {$(
        for namespace in $namespaces {
            let from = (Name::clone(namespace), Name::from(""));
            let of = $configs.$table.range(from..).take_while(|((found, _), _)| found == namespace);
            $pins.pin_all(of.map(|(_, one)| one));
        }
    )*};
}
/// A proxy's own part.
#[derive(Debug, Default)]
pub(crate) struct Own {
    pins: Pins,
    contents: Option<Arc<Contents>>,
    difference: Difference,
    /// What was left out of it.
    notices: Vec<Diagnostic>,
    /// Whether that is something else than before.
    news: bool,
    /// How many times it was generated.
    pub(crate) generated: u64,
}

impl Own {
    /// The proxy is another one.
    pub(crate) fn forget(&mut self) {
        self.pins = Pins::default();
    }

    /// Brings it up to date. `regards`: something about the proxy's own workload is different.
    pub(crate) fn update(
        &mut self,
        proxy: &Arc<Proxy>,
        snapshot: &Snapshot,
        scope: &Scope,
        news: &News,
        regards: bool,
    ) {
        if !news.catalog && !regards && self.contents.is_some() {
            return;
        }
        let pins = pins(proxy, snapshot, scope);
        if pins == self.pins && self.contents.is_some() {
            return;
        }
        self.pins = pins;
        self.generated += 1;
        let cx = Context { snapshot, proxy, scope };
        self.take(parts::own(&cx));
    }

    /// Makes everything that the proxy is sent.
    pub(crate) fn whole(&mut self, proxy: &Proxy, snapshot: &Snapshot, news: &News) {
        if !news.catalog && !news.model && self.contents.is_some() {
            return;
        }
        self.forget();
        self.generated += 1;
        self.take(generate(snapshot, proxy));
    }

    fn take(&mut self, mut made: Resources) {
        let notices = std::mem::take(&mut made.notices);
        self.news |= notices != self.notices;
        self.notices = notices;
        let now = Arc::new(Contents::of(&made, self.contents.as_deref()));
        self.difference.add(self.contents.as_deref(), Some(&now));
        self.contents = Some(now);
    }

    /// What is configured for the proxy and was left out.
    pub(crate) fn notices(&self) -> &[Diagnostic] {
        &self.notices
    }

    /// Whether that is something else than when this was last asked.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// What is different since it was last asked.
    pub(crate) fn take_difference(&mut self) -> Difference {
        std::mem::take(&mut self.difference)
    }
}

/// What a proxy's own part is made of.
fn pins(proxy: &Arc<Proxy>, snapshot: &Snapshot, scope: &Scope) -> Pins {
    let catalog = &snapshot.catalog;
    let mut pins = Pins::default();
    pins.pin(proxy);
    pins.pin(&snapshot.keys);
    if proxy.kind != ProxyKind::Sidecar {
        pins.pin(catalog);
        return pins;
    }
    pins.pin(&catalog.mesh);
    pins.pin(&catalog.settings);
    pins.pin_all(&scope.sidecar);
    let (own, root) = (&proxy.namespace, &catalog.settings.root_namespace);
    attached(&mut pins, &catalog.configs, own, root);
    of_two!(pins, catalog.configs, [own, root]; request_authentications, authorization_policies, peer_authentications);
    let policies = &catalog.configs.authorization_policies;
    let asks = policies
        .values()
        .any(|policy| policy.spec.action == AuthorizationPolicyAction::Custom);
    if asks {
        // The services of providers.
        pins.pin(&catalog.services);
    }
    pins.pin_all(&corten_envoy_gen::telemetry::services(catalog));
    for workload in workloads(proxy, snapshot) {
        pins.pin(&workload);
        for (key, _) in workload.services.iter() {
            let Some((namespace, host)) = key.split_once('/') else {
                continue;
            };
            let service = catalog.services.get(&corten_core::Host::from(host), namespace);
            pins.pin_all(service);
            pins.pin_all(service.and_then(|service| scope.inbound_rule(service)));
        }
    }
    pins
}

/// The workloads that have an address of the proxy.
fn workloads(proxy: &Proxy, snapshot: &Snapshot) -> Vec<Arc<Workload>> {
    let model = &snapshot.model;
    let keys = proxy
        .addresses
        .iter()
        .flat_map(|address| model.resolve(&format!("{}/{address}", model.network())));
    let of = |key: AddressKey| match key {
        AddressKey::Workload(uid) => model.workload(&uid).cloned(),
        AddressKey::Service(_) => None,
    };
    keys.filter_map(of)
        .filter(|workload| workload.addresses.iter().any(|own| proxy.addresses.contains(own)))
        .collect()
}

/// Pins what changes listeners of both directions: the objects of a namespace, and of the mesh's, that are for workloads by labels.
pub(crate) fn attached(pins: &mut Pins, configs: &Configs, namespace: &Name, root: &Name) {
    of_two!(pins, configs, [namespace, root]; telemetries, wasm_plugins, traffic_extensions, proxy_configs);
}
