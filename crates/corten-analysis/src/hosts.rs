//! Hosts as analysis compares them: short names made whole, with the namespaces that may see them.

use std::collections::BTreeMap;

use crate::objects::{Labels, World};

/// Everybody.
pub(crate) const EVERYWHERE: &str = "*";
/// The gateway that means calls within the mesh.
pub(crate) const MESH: &str = "mesh";
const CLUSTER_SUFFIX: &str = ".svc.cluster.local";
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// A host by whom it can be seen: a namespace or `*`, and the whole name.
pub(crate) type ScopedHost = (String, String);

/// The whole name of a host that is written in a namespace; wildcards and names with a dot are whole.
pub(crate) fn whole(host: &str, namespace: &str) -> String {
    if host.starts_with('*') || host.contains('.') {
        host.to_owned()
    } else {
        format!("{host}.{namespace}{CLUSTER_SUFFIX}")
    }
}

/// The service that a host means: namespace and name. A host that is no service of the cluster by its form is taken for a name in `namespace`.
pub(crate) fn service(host: &str, namespace: &str) -> (String, String) {
    let parts = host.strip_suffix(CLUSTER_SUFFIX).and_then(|rest| rest.rsplit_once('.'));
    match parts.filter(|(name, namespace)| !name.is_empty() && !namespace.is_empty()) {
        Some((name, namespace)) => (namespace.to_owned(), name.to_owned()),
        None => (namespace.to_owned(), host.to_owned()),
    }
}

/// The namespaces that an `exportTo` names, its own written out; `*` alone when everybody is meant.
pub(crate) fn scopes(export_to: &[String], namespace: &str) -> Vec<String> {
    if export_to.is_empty() || export_to.iter().any(|scope| scope == EVERYWHERE) {
        return vec![EVERYWHERE.to_owned()];
    }
    let mut scopes: Vec<String> = Vec::new();
    for scope in export_to {
        let scope = if scope == "." { namespace } else { scope };
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes
}

/// What is known of a host: its ports, and the labels of its workloads where a ServiceEntry selects them.
#[derive(Debug, Default)]
pub(crate) struct Destination<'a> {
    pub(crate) ports: Vec<u32>,
    pub(crate) workloads: Option<&'a Labels>,
}

/// All hosts of services and ServiceEntries.
#[derive(Debug, Default)]
pub(crate) struct Hosts<'a> {
    known: BTreeMap<ScopedHost, Destination<'a>>,
}

impl<'a> Hosts<'a> {
    pub(crate) fn of(world: &'a World) -> Hosts<'a> {
        let mut known = BTreeMap::new();
        for entry in &world.service_entries {
            let namespace = entry.object.namespace();
            for host in &entry.spec.hosts {
                for scope in scopes(&entry.spec.export_to, namespace) {
                    let destination = Destination {
                        ports: entry.spec.ports.iter().map(|port| port.number.0.into()).collect(),
                        workloads: entry.spec.workload_selector.as_ref().map(|selector| &selector.labels),
                    };
                    known.insert((scope, whole(host.as_str(), namespace)), destination);
                }
            }
        }
        for service in &world.services {
            let namespace = service.object.namespace();
            let ports = service.spec.spec.as_ref().and_then(|spec| spec.ports.as_deref());
            let written = service.object.annotations.get(EXPORT_TO).map_or("", String::as_str);
            let export_to: Vec<String> = written
                .split(',')
                .map(|scope| scope.trim().to_owned())
                .filter(|_| !written.is_empty())
                .collect();
            for scope in scopes(&export_to, namespace) {
                let number =
                    |port: &corten_api::kubernetes::core::ServicePort| u32::try_from(port.port).unwrap_or_default();
                let destination = Destination {
                    ports: ports.unwrap_or_default().iter().map(number).collect(),
                    workloads: None,
                };
                known.insert((scope, whole(service.object.name(), namespace)), destination);
            }
        }
        Hosts { known }
    }

    /// What a host means to an object of a namespace that is itself seen by `export_to`.
    pub(crate) fn find(&self, host: &str, namespace: &str, export_to: &[String]) -> Option<&Destination<'a>> {
        let name = whole(host, namespace);
        let own = [".".to_owned()];
        let export_to = if export_to.is_empty() { &own[..] } else { export_to };
        let named = export_to
            .iter()
            .map(|scope| if scope == "." { namespace } else { scope });
        let exact = std::iter::once(EVERYWHERE)
            .chain(named)
            .find_map(|scope| self.known.get(&(scope.to_owned(), name.clone())));
        exact.or_else(|| {
            let wanted = host.strip_prefix('*').unwrap_or(host);
            let covering = self.known.iter().filter(|((scope, known), _)| {
                let seen = scope == EVERYWHERE || scope == namespace;
                seen && known.strip_prefix('*').is_some_and(|suffix| wanted.ends_with(suffix))
            });
            // The longest is the nearest.
            covering
                .max_by_key(|((_, known), _)| known.len())
                .map(|(_, destination)| destination)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_whole() {
        assert_eq!(whole("a", "n"), "a.n.svc.cluster.local");
        assert_eq!(whole("a.n", "m"), "a.n");
        assert_eq!(whole("*", "m"), "*");
        assert_eq!(service("a.n.svc.cluster.local", "m"), ("n".into(), "a".into()));
        assert_eq!(service("a", "m"), ("m".into(), "a".into()));
        assert_eq!(service("a.com", "m"), ("m".into(), "a.com".into()));
    }

    #[test]
    fn everybody_outweighs_the_rest() {
        let scopes = |list: &[&str]| scopes(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), "n");
        assert_eq!(scopes(&[]), ["*"]);
        assert_eq!(scopes(&["a", "*"]), ["*"]);
        assert_eq!(scopes(&[".", "n", "a"]), ["n", "a"]);
    }
}
