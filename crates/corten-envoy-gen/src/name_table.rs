//! The names of services and their addresses, for the DNS proxies of sidecars (NDS).

use std::collections::BTreeMap;
use std::net::IpAddr;

use corten_model::Name;
use corten_routing::{Health, ProxyKind, Registry, Resolution, Service, endpoints};

use crate::Context;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its addresses, each once.
    pub addresses: Vec<IpAddr>,
    /// Where the service comes from.
    pub registry: Registry,
    /// The namespace of a Kubernetes Service, by which it has shorter names as well; empty: it has none.
    pub namespace: Name,
    /// Its name there.
    pub short: Name,
}

/// The names that a proxy's pod may ask for; `None`: the proxy does not answer it.
///
/// A service without an address of its own stands for those of its endpoints that are ready and can be called as they are: those of the
/// proxy's cluster and network. Of a host that several objects have, a Kubernetes Service says alone what it is.
pub fn name_table(cx: &Context<'_>) -> Option<BTreeMap<String, Named>> {
    if !cx.proxy.dns_capture || cx.proxy.kind != ProxyKind::Sidecar {
        return None;
    }
    let mut table: BTreeMap<String, Named> = BTreeMap::new();
    for service in cx.scope.egress.iter().flat_map(|egress| &egress.services) {
        let mut addresses = addresses(cx, service);
        if addresses.is_empty() {
            continue;
        }
        let kubernetes = service.registry == Registry::Kubernetes;
        let made = |addresses| {
            let own = |name: &Name| if kubernetes { Name::clone(name) } else { Name::from("") };
            Named {
                addresses,
                registry: service.registry,
                namespace: own(&service.namespace),
                short: own(&service.name),
            }
        };
        match table.get_mut(service.host.as_str()) {
            None => drop(table.insert(service.host.to_string(), made(addresses))),
            Some(known) if known.registry == Registry::Kubernetes => {}
            Some(known) if kubernetes => *known = made(addresses),
            Some(known) => {
                addresses.retain(|address| !known.addresses.contains(address));
                known.addresses.extend(addresses);
            }
        }
    }
    Some(table)
}

fn addresses(cx: &Context<'_>, service: &Service) -> Vec<IpAddr> {
    // Ranges are no addresses.
    let single = service.addresses_for(cx.proxy.dns_capture).into_iter();
    let mut found: Vec<IpAddr> = single
        .filter(|net| net.prefix_len() == net.max_prefix_len())
        .map(|net| net.addr())
        .filter(|address| !address.is_unspecified())
        .collect();
    if service.is_headless() && service.resolution == Resolution::Passthrough {
        for port in &service.ports {
            for endpoint in endpoints(&cx.snapshot.model, service, port) {
                let workload = &endpoint.workload;
                let here = workload.cluster == cx.proxy.cluster && workload.network == cx.proxy.network;
                if endpoint.health == Health::Healthy && here {
                    found.extend(endpoint.address.ip());
                    found.extend(endpoint.more);
                }
            }
        }
        found.sort_unstable();
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|address| seen.insert(*address));
    found
}

#[cfg(test)]
mod tests {
    use corten_routing::Scope;

    use super::*;
    use crate::testing::Case;

    const WORLD: &str = "
proxy: {namespace: shop, metadata: {DNS_CAPTURE: 'true'}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.1.0.1, ports: [{name: http, port: 80}, {name: more, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: shop, labels: {app: db}}
spec: {containers: [{name: a}]}
status: {podIP: 10.2.0.1, phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, namespace: shop, labels: {app: db}}
spec: {containers: [{name: a}]}
status: {podIP: 10.2.0.2, phase: Running, conditions: [{type: Ready, status: 'False'}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: shop}
spec: {hosts: [out.example, web.shop.svc.cluster.local], addresses: [192.0.2.1, 192.0.2.128/25], location: MESH_EXTERNAL, resolution: STATIC,
  ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 192.0.2.9}]}
";

    #[test]
    fn services_have_the_addresses_that_pods_call_them_by() {
        let case = Case::read("names", WORLD);
        let scope = Scope::of(&case.snapshot.catalog, &case.proxy);
        let cx = Context {
            snapshot: &case.snapshot,
            proxy: &case.proxy,
            scope: &scope,
        };
        let table = name_table(&cx).expect("it answers");
        let shown: Vec<String> = table
            .iter()
            .map(|(name, named)| format!("{name} {:?} {}.{}", named.addresses, named.short, named.namespace))
            .collect();
        assert_eq!(
            shown,
            [
                "db.shop.svc.cluster.local [10.2.0.1] db.shop",
                "out.example [192.0.2.1] .",
                "web.shop.svc.cluster.local [10.1.0.1] web.shop",
            ]
        );
        let silent = corten_routing::Proxy {
            dns_capture: false,
            ..case.proxy.clone()
        };
        assert_eq!(name_table(&Context { proxy: &silent, ..cx }), None);
    }
}
