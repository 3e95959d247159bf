//! The endpoints of a service's port.

use std::{net::IpAddr, sync::Arc};

use corten_core::Locality;
use corten_model::{Labels, Name, Snapshot, Tunnel, Workload};

use crate::service::{Service, ServicePort};

/// An endpoint: a workload at the port that a service's port leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Where it is called.
    pub address: IpAddr,
    /// Its other addresses.
    pub more: Box<[IpAddr]>,
    /// The port there.
    pub port: u16,
    /// The workload.
    pub workload: Arc<Workload>,
    /// It takes mutual TLS of the mesh: it has a sidecar, or says so.
    pub tls: bool,
}

impl Endpoint {
    /// Its labels.
    pub fn labels(&self) -> &Labels {
        &self.workload.labels
    }

    /// Whether it is reached through a tunnel.
    pub fn is_tunnelled(&self) -> bool {
        self.workload.tunnel != Tunnel::None
    }

    /// Where it is; the default is unknown.
    pub fn locality(&self) -> Locality {
        self.workload.locality.as_deref().cloned().unwrap_or_default()
    }

    /// Its identity, if it has a service account.
    pub fn identity(&self, trust_domain: &str) -> Option<Name> {
        let account = &self.workload.service_account;
        (!account.is_empty()).then(|| {
            Name::from(format!(
                "spiffe://{trust_domain}/ns/{}/sa/{account}",
                self.workload.namespace
            ))
        })
    }
}

const TLS_MODE: &str = "security.istio.io/tlsMode";

/// The endpoints of a service's port whose address is known, sorted by their workload's uid. Endpoints that DNS finds are the
/// service's own business.
pub fn endpoints(snapshot: &Snapshot, service: &Service, port: &ServicePort) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = Vec::new();
    for workload in snapshot.members(&service.key).filter_map(|uid| snapshot.workload(uid)) {
        let ports = workload.services.iter().find(|(key, _)| *key == service.key);
        let number = ports.and_then(|(_, ports)| ports.iter().find(|of| of.service_port == port.number));
        let (Some(number), Some((first, more))) = (number, workload.addresses.split_first()) else {
            continue;
        };
        let number = if number.target_port == 0 {
            port.number
        } else {
            number.target_port
        };
        found.push(Endpoint {
            address: *first,
            more: more.into(),
            port: number,
            tls: takes_tls(workload),
            workload: Arc::clone(workload),
        });
    }
    found.sort_by(|a, b| a.workload.uid.cmp(&b.workload.uid));
    found
}

/// Whether a workload takes the mesh's mutual TLS: its label says so, or, for what is no pod, its service account does.
fn takes_tls(workload: &Workload) -> bool {
    match workload.labels.get(TLS_MODE) {
        Some(mode) => **mode == *"istio",
        None => workload.source.kind != corten_model::ObjectKind::Pod && !workload.service_account.is_empty(),
    }
}
