//! What is called, from the words that a user has for it.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use corten_model::ObjectKind;
use corten_traffic::Service;

use super::Mesh;

/// What is called.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    pub(crate) name: String,
    pub(crate) port: u16,
    /// Where a client's connections go; a headless service's to any of its pods.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) service: Option<Arc<Service>>,
}

impl Mesh {
    /// What `NAME[.NAMESPACE]:PORT`, `HOST:PORT`, `ADDRESS:PORT` or `pod/NAME[.NAMESPACE]:PORT` means to a caller in a namespace.
    pub(crate) fn called(&self, word: &str, namespace: &str) -> Result<Called> {
        let (name, port) = word
            .rsplit_once(':')
            .context("say which port, as in --to ledger.payments:80")?;
        let port = self.port(name, port, namespace)?;
        let of = |addresses: Vec<IpAddr>, service| Called {
            name: word.to_owned(),
            port,
            addresses,
            service,
        };
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(of(vec![address], None));
        }
        if let Some((kind, _)) = name.split_once('/')
            && !["svc", "service", "services"].contains(&kind)
        {
            let (namespace, name) = self.pod_named(name, namespace)?;
            return Ok(of(self.workload(&namespace, &name)?.addresses.to_vec(), None));
        }
        let service = self.service_named(name, namespace)?;
        let network = &self.settings.network;
        let of_service = service
            .addresses
            .iter()
            .filter(|(of, _)| of == network)
            .map(|(_, address)| *address);
        let mut addresses: Vec<IpAddr> = of_service.take(1).collect();
        if addresses.is_empty() {
            let endpoints = self.tables.endpoints(service);
            addresses = endpoints
                .filter_map(|it| it.workload.addresses.first().copied())
                .collect();
            ensure!(
                !addresses.is_empty(),
                "service {name} has neither an address nor pods, so it cannot be called"
            );
        }
        Ok(of(addresses, Some(Arc::clone(service))))
    }

    /// A port by number or, for services, by name.
    fn port(&self, name: &str, port: &str, namespace: &str) -> Result<u16> {
        if let Ok(number) = port.parse() {
            ensure!(number != 0, "{port} is no port");
            return Ok(number);
        }
        let service = self.service_named(name, namespace)?;
        let object = self.object(ObjectKind::Service, &service.namespace, &service.name);
        let ports = object
            .and_then(|it| it["spec"]["ports"].as_array())
            .into_iter()
            .flatten();
        let found = ports.filter(|it| it["name"] == port).find_map(|it| it["port"].as_u64());
        found
            .and_then(|number| u16::try_from(number).ok())
            .with_context(|| format!("service {name} has no port named {port:?}"))
    }

    /// A service as a client of a namespace names it: by its own name in it, `NAME.NAMESPACE`, or a host name.
    pub(crate) fn service_named(&self, name: &str, namespace: &str) -> Result<&Arc<Service>> {
        let name = name.rsplit('/').next().unwrap_or(name).trim_end_matches('.');
        let domain = &self.settings.cluster_domain;
        let short = self
            .tables
            .service(namespace, &format!("{name}.{namespace}.svc.{domain}"));
        let long = || {
            let (service, other) = name.split_once('.')?;
            let other = other.strip_suffix(".svc").unwrap_or(other);
            self.tables.service(other, &format!("{service}.{other}.svc.{domain}"))
        };
        let found = short
            .or_else(long)
            .or_else(|| self.tables.service_named(name, namespace));
        found.with_context(|| {
            format!("no service of the mesh is called {name} in namespace {namespace}; those of other namespaces are written NAME.NAMESPACE:PORT")
        })
    }
}
