//! Hosts whose clients stay in their own cluster.

use corten_api::istio::mesh_config::MeshConfig;
use corten_core::Host;
use corten_model::Settings;

/// Hosts whose clients call only endpoints of their own cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LocalHosts {
    /// The most specific first.
    rules: Vec<(Host, bool)>,
}

/// The namespaces and services of every cluster that are its own.
const USUAL: [&str; 2] = ["*.kube-system.svc", "kubernetes.default.svc"];

impl LocalHosts {
    /// What the mesh's configuration says, and what is usual where it says nothing else.
    pub fn new(mesh: &MeshConfig, settings: &Settings) -> LocalHosts {
        let domain = &settings.domain;
        let mut usual: Vec<Host> = USUAL
            .iter()
            .map(|host| Host::from(format!("{host}.{domain}")))
            .collect();
        let discovery = mesh
            .default_config
            .as_ref()
            .map_or("", |config| config.discovery_address.as_str());
        let discovery = discovery.rsplit_once(':').map_or(discovery, |(host, _)| host);
        if !discovery.is_empty() {
            usual.push(Host::from(if discovery.ends_with(&**domain) {
                discovery.to_owned()
            } else {
                format!("{discovery}.{domain}")
            }));
        }
        let mut rules: Vec<(Host, bool)> = Vec::new();
        for written in &mesh.service_settings {
            let local = written.settings.as_ref().is_some_and(|settings| settings.cluster_local);
            for host in written.hosts.iter().map(|host| Host::from(host.as_str())) {
                if !local {
                    usual.retain(|known| *known != host && !(known.is_wildcard() && host.is_subset_of(known)));
                }
                rules.retain(|(known, _)| *known != host);
                rules.push((host, local));
            }
        }
        rules.extend(usual.into_iter().map(|host| (host, true)));
        rules.sort_by(|(a, _), (b, _)| a.specificity(b));
        LocalHosts { rules }
    }

    /// Whether a host's clients call only endpoints of their own cluster: as the most specific rule says.
    pub fn includes(&self, host: &Host) -> bool {
        let rule = self.rules.iter().find(|(of, _)| host == of || host.is_subset_of(of));
        rule.is_some_and(|(_, local)| *local)
    }
}
