//! Pure generators: from a snapshot and a proxy to what Envoy is sent.
//!
//! A generator sees only its arguments, and what it makes refers only to what it makes.

#[cfg(test)]
mod accepted;
pub mod cluster;
mod dynamic;
pub mod endpoint;
pub mod extension;
pub mod gateway;
pub mod listener;
mod mesh;
pub mod name_table;
pub mod names;
pub mod parts;
pub mod patch;
pub mod plugins;
mod references;
pub mod route;
pub mod security;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub(crate) mod waypoint;

use std::collections::BTreeMap;

use corten_api::{
    diagnostic::Diagnostic,
    istio::{mesh_config::MeshConfig, proxy_config::ProxyConfig},
};
use corten_envoy::envoy::config::{
    cluster::v3::Cluster, core::v3::TypedExtensionConfig, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
    route::v3::RouteConfiguration,
};
use corten_routing::{Proxy, ProxyKind, Scope, Snapshot};

use self::name_table::Named;
pub use self::references::dangling;

/// What a generator sees.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// Everything there is.
    pub snapshot: &'a Snapshot,
    /// Who is sent it.
    pub proxy: &'a Proxy,
    /// What the proxy sees.
    pub scope: &'a Scope,
}

impl Context<'_> {
    /// The mesh's configuration.
    pub fn mesh(&self) -> &MeshConfig {
        &self.snapshot.catalog.mesh
    }

    /// How the proxy runs: as it says itself, else as the mesh does.
    pub(crate) fn proxy_config(&self) -> Option<&ProxyConfig> {
        self.proxy.config.get().or_else(|| self.mesh().default_config.as_ref())
    }

    /// Whether the proxy makes tunnels towards workloads that take them: waypoints do, and others that say they know tunnels.
    pub(crate) fn tunnels(&self) -> bool {
        let said = &self.proxy.metadata["DISABLE_HBONE_SEND"];
        (self.proxy.kind == ProxyKind::Waypoint || self.proxy.hbone) && !(said == true || said == "true")
    }

    /// How long connections of the proxy may be idle, where its metadata says so.
    pub(crate) fn idle_timeout(&self) -> Option<corten_envoy::google::protobuf::Duration> {
        let said = self.proxy.metadata["IDLE_TIMEOUT"].as_str()?;
        corten_core::Duration::parse_argument(said)
            .ok()
            .map(corten_envoy::duration)
    }
}

/// What a proxy is sent, in the order in which Envoy takes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// Clusters (CDS).
    pub clusters: Vec<Cluster>,
    /// Endpoints by the name of their cluster (EDS).
    pub endpoints: BTreeMap<String, ClusterLoadAssignment>,
    /// Listeners (LDS).
    pub listeners: Vec<Listener>,
    /// Routes by name (RDS).
    pub routes: BTreeMap<String, RouteConfiguration>,
    /// Extensions that filters ask for by name (ECDS).
    pub extensions: BTreeMap<String, TypedExtensionConfig>,
    /// The names that its DNS proxy answers (NDS), where it has one.
    pub names: Option<BTreeMap<String, Named>>,
    /// What is configured for this proxy and was left out, and why.
    pub notices: Vec<Diagnostic>,
}

/// All that a proxy is sent.
pub fn generate(snapshot: &Snapshot, proxy: &Proxy) -> Resources {
    let scope = Scope::of(&snapshot.catalog, proxy);
    let cx = Context {
        snapshot,
        proxy,
        scope: &scope,
    };
    let mut made = parts::without_endpoints(&cx);
    let told = parts::told(&made.clusters);
    made.endpoints = told
        .map(|name| (name.clone(), endpoint::load_assignment(&cx, name)))
        .collect();
    made
}

/// What is configured and takes no effect, by object and field.
pub fn diagnostics(catalog: &corten_routing::Catalog) -> Vec<Diagnostic> {
    let mut said = catalog.virtual_services.diagnostics().to_vec();
    said.extend(route::diagnostics(catalog));
    said.extend(route::missing(catalog));
    said.extend(gateway::diagnostics(catalog));
    said.extend(cluster::diagnostics(catalog));
    said.extend(patch::diagnostics(catalog));
    said.extend(plugins::diagnostics(catalog));
    said.extend(telemetry::diagnostics(catalog));
    said.extend(mesh::diagnostics(catalog));
    said
}
