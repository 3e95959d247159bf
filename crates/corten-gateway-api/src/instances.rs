//! Where a gateway can be reached: which of its services exist, serve its ports, and have addresses.

use std::collections::BTreeSet;

use crate::{
    condition::{Conditions, Problem, listed},
    index::Index,
    input::RegistryService,
};

/// The label of services that a controller made for a gateway.
const MANAGED: &str = "gateway.istio.io/managed";

/// Where a gateway can be reached.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    /// Host names with ports inside of the cluster.
    pub(crate) internal: Vec<String>,
    /// Addresses inside of the cluster.
    pub(crate) internal_ips: Vec<String>,
    /// Addresses outside.
    pub(crate) external: Vec<String>,
    /// Host names that wait for an address outside.
    pub(crate) pending: BTreeSet<String>,
    /// What is missing.
    warnings: Vec<String>,
    /// Nothing is missing for good.
    usable: bool,
}

/// Finds where services serve ports.
pub(crate) fn resolve(index: &Index<'_>, namespace: &str, services: &[String], ports: &BTreeSet<u16>) -> Instances {
    let mut found = Found::default();
    for hostname in services {
        match index.registered(hostname, namespace) {
            Some(service) => {
                for port in ports {
                    found.port(service, *port);
                }
            }
            None => found.missing(hostname, namespace, &index.namespaces_of(hostname)),
        }
    }
    found.warnings.sort();
    Instances {
        internal: found.internal.into_iter().collect(),
        internal_ips: found.internal_ips.into_iter().collect(),
        external: found.external.into_iter().collect(),
        pending: found.pending,
        warnings: found.warnings,
        usable: !found.unusable,
    }
}

#[derive(Default)]
struct Found {
    internal: BTreeSet<String>,
    internal_ips: BTreeSet<String>,
    external: BTreeSet<String>,
    pending: BTreeSet<String>,
    warnings: Vec<String>,
    unusable: bool,
}

impl Found {
    fn missing(&mut self, hostname: &str, namespace: &str, others: &[&str]) {
        self.unusable = true;
        let quoted: Vec<String> = others.iter().map(|other| format!("\"{other}\"")).collect();
        self.warnings.push(if quoted.is_empty() {
            format!("hostname \"{hostname}\" not found")
        } else {
            format!(
                "hostname \"{hostname}\" not found in namespace \"{namespace}\", but it was found in namespace(s) {}",
                quoted.join(", ")
            )
        });
    }

    fn port(&mut self, service: &RegistryService, port: u16) {
        let hostname = &service.hostname;
        if service
            .endpoints
            .get(&port)
            .is_some_and(|endpoints| !endpoints.is_empty())
        {
            self.internal.insert(format!("{hostname}:{port}"));
            self.internal_ips.extend(service.addresses.iter().cloned());
            self.external.extend(service.external_addresses.iter().cloned());
            let waits = service.external_addresses.is_empty() && service.load_balancer;
            if waits && self.pending.insert(hostname.clone()) {
                self.warnings
                    .push(format!("address pending for hostname \"{hostname}\""));
            }
            return;
        }
        if service.endpoints.values().all(Vec::is_empty) {
            self.warnings
                .push(format!("no instances found for hostname \"{hostname}\""));
            return;
        }
        let listening = service.endpoints.iter().filter(|(_, at)| at.contains(&port));
        let mut hints: Vec<String> = listening.map(|(port, _)| port.to_string()).collect();
        hints.sort();
        if !hints.is_empty() {
            self.unusable = true;
            self.warnings.push(format!(
                "port {port} not found for hostname \"{hostname}\" (hint: the service port should be specified, not the workload port. Did you mean one of these ports: [{}]?)",
                hints.join(" ")
            ));
            return;
        }
        // A service that a controller made has the port, and its endpoints will follow.
        let follows = service.labels.contains_key(MANAGED) && service.ports.contains(&port);
        if !follows {
            self.unusable = true;
            self.warnings
                .push(format!("port {port} not found for hostname \"{hostname}\""));
        }
    }
}

impl Instances {
    /// Says in the condition `Programmed` where the gateway can be reached.
    pub(crate) fn tell(&self, conditions: &mut Conditions, services: &[String]) {
        let assigned = listed(&self.internal);
        if !self.internal.is_empty() {
            let message = format!("Resource programmed, assigned to service(s) {assigned}");
            conditions.say("Programmed", None, message);
        }
        if services.is_empty() {
            let message = "Failed to assign to any requested addresses";
            conditions.fail("Programmed", Problem::new("UnsupportedAddress", message));
        } else if !self.warnings.is_empty() {
            let warnings = self.warnings.join("; ");
            let message = if self.internal.is_empty() {
                format!("Failed to assign to any requested addresses: {warnings}")
            } else {
                format!(
                    "Assigned to service(s) {assigned}, but failed to assign to all requested addresses: {warnings}"
                )
            };
            let reason = if self.usable {
                "AddressNotAssigned"
            } else {
                "AddressNotUsable"
            };
            conditions.fail("Programmed", Problem::new(reason, message));
        }
    }
}
