//! Envoy's `/config_dump` and `/clusters`: the sections of a dump, and one module for the table of each.

mod bootstrap;
mod clusters;
mod destination;
mod endpoints;
mod extensions;
mod listeners;
mod routes;
mod secrets;

use std::cmp::Ordering;

use corten_envoy::camel_case;
use serde_json::{Value, json};

pub use self::bootstrap::bootstrap;
pub use self::clusters::{ClusterFilter, clusters, select_clusters};
pub use self::endpoints::{EndpointFilter, Endpoints};
pub use self::extensions::extensions;
pub use self::listeners::{ListenerFilter, chains, listeners, select_listeners};
pub use self::routes::{RouteFilter, behind, routes, select_routes};
pub use self::secrets::{Secret, secret_table, secrets};

/// What a proxy answered to `/config_dump`, with names in camel case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dump {
    configs: Vec<Value>,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DumpError {
    /// The text is no JSON.
    #[error("it is no JSON: {0}")]
    NotJson(String),
    /// It is the dump of a node proxy.
    #[error("it is the dump of a node proxy, which `corten ztunnel-config` shows")]
    OfNodeProxy,
    /// It is JSON of something else.
    #[error("it is no dump of an Envoy: there is no list \"configs\" in it")]
    NotADump,
    /// A section is missing, or has nothing in it.
    #[error(
        "no {0} found: the dump has none (was it taken of another part only, or has the proxy not got its configuration yet?)"
    )]
    Nothing(&'static str),
}

const PREFIX: &str = "type.googleapis.com/";

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    ///
    /// The text is no dump of an Envoy.
    pub fn parse(text: &[u8]) -> Result<Dump, DumpError> {
        let value: Value = serde_json::from_slice(text).map_err(|error| DumpError::NotJson(error.to_string()))?;
        Dump::of(value)
    }

    /// The same from JSON.
    ///
    /// # Errors
    ///
    /// It is no dump of an Envoy.
    pub fn of(value: Value) -> Result<Dump, DumpError> {
        if value.get("configs").is_none() {
            let of_node_proxy = value.get("workloads").is_some() || value.get("workloadState").is_some();
            return Err(if of_node_proxy {
                DumpError::OfNodeProxy
            } else {
                DumpError::NotADump
            });
        }
        match camel_case("envoy.admin.v3.ConfigDump", value)["configs"].take() {
            Value::Array(configs) => Ok(Dump { configs }),
            _ => Err(DumpError::NotADump),
        }
    }

    /// The whole, as JSON.
    pub fn all(&self) -> Value {
        json!({"configs": self.configs})
    }

    /// The sections of a kind, by their type's last name: `ClustersConfigDump`.
    fn sections(&self, name: &str) -> impl Iterator<Item = &Value> {
        let is_it = move |config: &&Value| {
            let kind = text(&config["@type"]);
            kind.strip_prefix(PREFIX).unwrap_or(kind).rsplit('.').next() == Some(name)
        };
        self.configs.iter().filter(is_it)
    }

    /// A section without its type; several of a kind, as Envoy has them for filters that are discovered, put together.
    pub fn section(&self, name: &str) -> Option<Value> {
        let mut sections = self.sections(name);
        let mut whole = sections.next()?.as_object()?.clone();
        whole.remove("@type");
        for (key, value) in sections.filter_map(Value::as_object).flatten() {
            match (whole.get_mut(key), value) {
                (Some(Value::Array(list)), Value::Array(more)) => list.extend(more.iter().cloned()),
                (None, value) if key != "@type" => _ = whole.insert(key.clone(), value.clone()),
                _ => {}
            }
        }
        Some(Value::Object(whole))
    }

    /// What stands at a path in each entry of some lists of a section.
    pub(crate) fn entries(&self, section: &str, lists: &[(&str, &str)]) -> Vec<&Value> {
        let mut found = Vec::new();
        for (list, path) in lists {
            for section in self.sections(section) {
                let entries = items(&section[*list]).filter_map(|entry| entry.pointer(path));
                found.extend(entries.filter(|it| !it.is_null()));
            }
        }
        found
    }

    /// Clusters in use, dynamic and static, by service.
    ///
    /// # Errors
    ///
    /// There are none.
    pub fn clusters(&self) -> Result<Vec<&Value>, DumpError> {
        let lists = [("dynamicActiveClusters", "/cluster"), ("staticClusters", "/cluster")];
        let mut found = self.entries("ClustersConfigDump", &lists);
        found.sort_by(|a, b| by_service(text(&a["name"]), text(&b["name"])));
        filled(found, "clusters")
    }

    /// Listeners in use, dynamic and static.
    ///
    /// # Errors
    ///
    /// There are none.
    pub fn listeners(&self) -> Result<Vec<&Value>, DumpError> {
        let lists = [
            ("dynamicListeners", "/activeState/listener"),
            ("staticListeners", "/listener"),
        ];
        filled(self.entries("ListenersConfigDump", &lists), "listeners")
    }

    /// Listeners that the control plane sent and that are in use.
    pub fn dynamic_listeners(&self) -> Vec<&Value> {
        self.entries("ListenersConfigDump", &[("dynamicListeners", "/activeState/listener")])
    }

    /// Routes, dynamic and static, those with numbers for names first.
    ///
    /// # Errors
    ///
    /// There are none.
    pub fn routes(&self) -> Result<Vec<&Value>, DumpError> {
        let lists = [
            ("dynamicRouteConfigs", "/routeConfig"),
            ("staticRouteConfigs", "/routeConfig"),
        ];
        let mut found = self.entries("RoutesConfigDump", &lists);
        let place = |route: &Value| {
            let name = text(&route["name"]);
            match name.parse::<u32>() {
                Ok(number) => (false, number, String::new()),
                Err(_) => (true, 0, name.to_owned()),
            }
        };
        found.sort_by_cached_key(|route| place(route));
        filled(found, "routes")
    }
}

/// A list that must have something in it.
fn filled<T>(list: Vec<T>, what: &'static str) -> Result<Vec<T>, DumpError> {
    if list.is_empty() {
        Err(DumpError::Nothing(what))
    } else {
        Ok(list)
    }
}

/// A text, or nothing.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of a list, or none.
pub(crate) fn items(value: &Value) -> std::slice::Iter<'_, Value> {
    value.as_array().map_or(&[][..], Vec::as_slice).iter()
}

/// The parts of the name of a cluster that is a service's: direction, port, subset, host.
fn subset_key(name: &str) -> Option<(&str, &str, &str, &str)> {
    let mut parts = name.splitn(4, '|');
    Some((parts.next()?, parts.next()?, parts.next()?, parts.next()?))
}

/// Clusters by host, subset, port and direction.
fn by_service(a: &str, b: &str) -> Ordering {
    fn key(name: &str) -> (&str, &str, u32, &str) {
        subset_key(name).map_or((name, "", 0, ""), |(direction, port, subset, host)| {
            (host, subset, port.parse().unwrap_or(0), direction)
        })
    }
    key(a).cmp(&key(b))
}

/// The object that a resource was made of, as `name.namespace`: from Istio's metadata.
fn made_of(resource: &Value) -> String {
    let path = text(&resource["metadata"]["filterMetadata"]["istio"]["config"]);
    if path.is_empty() {
        return String::new();
    }
    if !path.starts_with("/apis/networking.istio.io/") {
        return "<unknown>".to_owned();
    }
    match path.split('/').collect::<Vec<_>>()[..] {
        [_, _, _, _, _, namespace, _, name] => format!("{name}.{namespace}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
