//! Istio's ProxyConfig, as far as node proxies read it: from `PROXY_CONFIG`, over the mesh's defaults in a mounted file.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::vars::Reader;

/// Where Kubernetes mounts the mesh's configuration, below the working directory.
const MESH_CONFIG_PATH: &str = "./etc/istio/config/mesh";

/// What it may say here. Everything else in it is for other proxies.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ProxyConfig {
    /// Address of the control plane.
    pub(super) discovery_address: Option<String>,
    /// Port of the admin server.
    pub(super) proxy_admin_port: Option<u16>,
    /// Port of the metrics server.
    pub(super) stats_port: Option<u16>,
    /// Threads; 0 means one for each core.
    pub(super) concurrency: Option<usize>,
    /// Told to the control plane, and read for some settings.
    pub(super) proxy_metadata: BTreeMap<String, String>,
}

/// The mesh's configuration, of which only the defaults for proxies count.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MeshConfig {
    default_config: Option<ProxyConfig>,
}

impl ProxyConfig {
    /// What the variable says wins over what the file says, value by value.
    pub(super) fn read(r: &mut Reader<'_>) -> ProxyConfig {
        let mesh = match r.file(MESH_CONFIG_PATH) {
            Ok(None) => ProxyConfig::default(),
            Ok(Some(text)) => match serde_saphyr::from_str::<Option<MeshConfig>>(&text) {
                Ok(mesh) => mesh.unwrap_or_default().default_config.unwrap_or_default(),
                Err(error) => {
                    r.problem(MESH_CONFIG_PATH, &format!("is not a MeshConfig: {error}"));
                    ProxyConfig::default()
                }
            },
            Err(error) => {
                r.problem(MESH_CONFIG_PATH, &format!("cannot be read: {error}"));
                ProxyConfig::default()
            }
        };
        let own = match r.text("PROXY_CONFIG") {
            None => ProxyConfig::default(),
            Some(text) => match serde_saphyr::from_str::<Option<ProxyConfig>>(&text) {
                Ok(own) => own.unwrap_or_default(),
                Err(error) => {
                    let reason = format!("'{text}' is not YAML of a ProxyConfig: {error}");
                    r.problem("PROXY_CONFIG", &reason);
                    ProxyConfig::default()
                }
            },
        };
        mesh.overlaid(own)
    }

    fn overlaid(mut self, over: ProxyConfig) -> ProxyConfig {
        self.proxy_metadata.extend(over.proxy_metadata);
        let unprefixed = |(key, value): (String, String)| match key.strip_prefix("ISTIO_META_") {
            Some(rest) => (rest.to_owned(), value),
            None => (key, value),
        };
        ProxyConfig {
            discovery_address: over.discovery_address.or(self.discovery_address),
            proxy_admin_port: over.proxy_admin_port.or(self.proxy_admin_port),
            stats_port: over.stats_port.or(self.stats_port),
            concurrency: over.concurrency.or(self.concurrency),
            proxy_metadata: self.proxy_metadata.into_iter().map(unprefixed).collect(),
        }
    }
}
