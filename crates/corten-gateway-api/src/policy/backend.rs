//! XBackends: destinations outside, with their TLS.

use std::collections::BTreeSet;

use corten_api::{
    gateway_api::{
        XBackend,
        shared::ParentReference,
        x_backend::{BackendAncestorStatus, BackendStatus, BackendTLSMode, BackendType, ExternalHostnameBackend},
    },
    istio::destination_rule::{ClientTLSSettings, ClientTLSSettingsTLSmode},
};

use super::{Ancestors, Demand, PolicyResult, merge, tls};
use crate::{
    class::{GATEWAY_CONTROLLER, MESH_CONTROLLER},
    condition::{Conditions, Problem},
    index::Index,
    reference::{GATEWAY_GROUP, Key, Kind},
};

/// Converts a backend.
pub(crate) fn convert(index: &Index<'_>, backend: &XBackend, ancestors: &Ancestors) -> PolicyResult<BackendStatus> {
    let meta = &backend.metadata;
    let key = Key::new(&meta.namespace, &meta.name);
    let mut conditions = tls::accepted();
    let mut demands = Vec::new();
    let external = backend.spec.external_hostname.as_ref();
    match external.filter(|_| backend.spec.type_ == BackendType::ExternalHostname) {
        None => {
            let message = "unsupported backend type: ExternalHostname without a name";
            conditions.fail("Accepted", Problem::new("Invalid", message));
        }
        Some(external) => {
            if let Some(settings) = settings(index, backend, external, &mut conditions) {
                demands.push(Demand {
                    source: (Kind::X_BACKEND.kind, key.clone()),
                    created: meta.creation_timestamp,
                    target: (Kind::X_BACKEND, key.clone()),
                    host: external.hostname.to_string(),
                    section: None,
                    port: Some(backend.spec.port.port.0),
                    tls: Some(settings),
                    load_balancer: None,
                    retry_budget: None,
                });
            }
        }
    }
    let existing = backend.status.as_ref().map_or(&[][..], |status| &status.parents);
    let entry = |reference: ParentReference, controller: &str| {
        let known = existing.iter().find(|known| known.parent_ref == reference);
        let known = known.map_or(&[][..], |known| &known.conditions);
        BackendAncestorStatus {
            conditions: conditions.over(known, meta.generation, index.now),
            controller_name: controller.to_owned(),
            parent_ref: reference,
        }
    };
    let itself = ParentReference {
        group: Some(Kind::X_BACKEND.group.to_owned()),
        kind: Some(Kind::X_BACKEND.kind.to_owned()),
        name: meta.name.clone(),
        ..ParentReference::default()
    };
    let mut entries = vec![entry(itself, MESH_CONTROLLER)];
    let none = BTreeSet::new();
    let mut gateways: Vec<&Key> = ancestors.get(&(Kind::X_BACKEND, key)).unwrap_or(&none).iter().collect();
    gateways.sort_by_cached_key(ToString::to_string);
    entries.extend(gateways.into_iter().map(|gateway| {
        let reference = ParentReference {
            group: Some(GATEWAY_GROUP.to_owned()),
            kind: Some("Gateway".to_owned()),
            name: gateway.name.clone(),
            namespace: Some(gateway.namespace.clone()),
            ..ParentReference::default()
        };
        entry(reference, GATEWAY_CONTROLLER)
    }));
    PolicyResult {
        status: BackendStatus {
            parents: merge(existing, entries, 32, |a| (&a.controller_name, &a.parent_ref)),
        },
        demands,
        problems: conditions.problems().cloned().collect(),
    }
}

/// TLS towards the backend; `None`: without.
fn settings(
    index: &Index<'_>,
    backend: &XBackend,
    external: &ExternalHostnameBackend,
    conditions: &mut Conditions,
) -> Option<ClientTLSSettings> {
    let given = backend.spec.tls.as_ref()?;
    match given.mode {
        BackendTLSMode::None => return None,
        BackendTLSMode::ClientAndServer => {
            let message = "unsupported ClientAndServer TLS mode: Istio does not support client certificates on backend";
            conditions.fail("Accepted", Problem::new("Invalid", message));
            return None;
        }
        BackendTLSMode::ServerOnly => {}
    }
    let validation = given.validation.clone().unwrap_or_default();
    let name = validation.hostname.as_str();
    Some(ClientTLSSettings {
        mode: ClientTLSSettingsTLSmode::Simple,
        sni: if name.is_empty() {
            external.hostname.as_str()
        } else {
            name
        }
        .to_owned(),
        subject_alt_names: tls::alternative_names(&validation.subject_alt_names),
        credential_name: tls::credential(index, &validation, &backend.metadata.namespace, conditions),
        ..ClientTLSSettings::default()
    })
}
