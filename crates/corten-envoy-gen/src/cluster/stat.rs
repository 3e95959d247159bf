//! The names that clusters have in statistics.

use corten_routing::{Registry, Service};

/// What a pattern of the mesh's configuration is filled with.
#[derive(Debug, Clone, Copy)]
pub struct Stat<'a> {
    /// The host.
    pub host: &'a str,
    /// Name and namespace of the service, where it is Kubernetes'; other hosts stand for themselves.
    pub service: Option<(&'a str, &'a str)>,
    /// The subset; empty: none.
    pub subset: &'a str,
    /// The service's port.
    pub port: u16,
    /// The port's name.
    pub port_name: &'a str,
    /// The workload's port; 0 where it is not known.
    pub target_port: u16,
}

impl<'a> Stat<'a> {
    /// Of a service's port.
    pub(super) fn of(service: &'a Service, port: &'a corten_routing::ServicePort) -> Stat<'a> {
        Stat {
            host: service.host.as_str(),
            service: (service.registry == Registry::Kubernetes).then_some((&*service.name, &*service.namespace)),
            subset: "",
            port: port.number,
            port_name: &port.name,
            target_port: 0,
        }
    }

    /// Fills a pattern such as `%SERVICE%_%SERVICE_PORT%`.
    pub fn fill(&self, pattern: &str) -> String {
        let short = match self.service {
            Some((name, namespace)) => format!("{name}.{namespace}"),
            None => self.host.to_owned(),
        };
        let name = self.service.map_or(self.host, |(name, _)| name);
        let values = [
            ("%SERVICE%", short.as_str()),
            ("%SERVICE_NAME%", name),
            ("%SERVICE_FQDN%", self.host),
            ("%SUBSET_NAME%", self.subset),
            ("%TARGET_PORT%", &self.target_port.to_string()),
            ("%SERVICE_PORT%", &self.port.to_string()),
            ("%SERVICE_PORT_NAME%", self.port_name),
        ];
        values
            .iter()
            .fold(pattern.to_owned(), |text, (key, value)| text.replace(key, value))
    }
}
