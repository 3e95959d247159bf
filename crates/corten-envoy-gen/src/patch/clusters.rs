//! Patches to clusters, and extensions that are sent by themselves.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::istio::envoy_filter::{
    ClusterMatch, EnvoyConfigObjectMatchObjectTypes as Objects, EnvoyFilterApplyTo as ApplyTo,
    EnvoyFilterPatchOperation as Operation,
};
use corten_envoy::{
    JsonError,
    envoy::config::{cluster::v3::Cluster, core::v3::TypedExtensionConfig},
    google::protobuf::value::Kind,
};

use super::{Patch, Patches, Side, listeners::merge_socket};
use crate::names::{self, Parsed};

impl Patches {
    /// Patches all clusters.
    pub fn clusters(&self, clusters: &mut Vec<Cluster>) {
        if self.all(ApplyTo::Cluster).next().is_none() {
            return;
        }
        clusters.retain_mut(|cluster| self.one_cluster(cluster));
        let mut known: BTreeSet<String> = clusters.iter().map(|cluster| cluster.name.clone()).collect();
        for patch in self.adds(ApplyTo::Cluster) {
            let Some(made) = patch.made::<Cluster>() else { continue };
            if known.insert(made.name.clone()) {
                clusters.push(made);
            } else {
                self.refuse(patch, &format!("there is a cluster {:?} already", made.name));
            }
        }
    }

    /// Patches a cluster; `false`: it is removed.
    fn one_cluster(&self, cluster: &mut Cluster) -> bool {
        let inbound = cluster.name.starts_with("inbound") || cluster.name == names::INBOUND_PASSTHROUGH;
        let side = if inbound { Side::Inbound } else { Side::Outbound };
        for patch in self.at(ApplyTo::Cluster, side) {
            if !takes(patch, cluster) {
                continue;
            }
            if patch.operation == Operation::Remove {
                return false;
            }
            if patch.merges() {
                let name = cluster.name.clone();
                let sound = |changed: &Cluster| match changed.name == name {
                    true => Ok(()),
                    false => Err("the name of a cluster stays, because routes lead there".to_owned()),
                };
                self.apply(patch, cluster, sound, |cluster| merge(patch, cluster));
            }
        }
        true
    }

    /// The extensions of these names that patches add; of several with one name the last.
    pub fn extensions(&self, wanted: &BTreeSet<String>) -> BTreeMap<String, TypedExtensionConfig> {
        let added = self
            .all(ApplyTo::ExtensionConfig)
            .filter_map(Patch::made::<TypedExtensionConfig>);
        added
            .filter(|made| wanted.contains(&made.name))
            .map(|made| (made.name.clone(), made))
            .collect()
    }
}

/// Merges a patch over a cluster. What it says about the transport goes into that, where it is of the same kind.
fn merge(patch: &Patch, cluster: &mut Cluster) -> Result<(), JsonError> {
    let made = patch.made::<Cluster>();
    let before = cluster.transport_socket.take();
    patch.merge(cluster)?;
    let Some(socket) = made.and_then(|made| made.transport_socket) else {
        cluster.transport_socket = before;
        return Ok(());
    };
    if !cluster.transport_socket_matches.is_empty() {
        // A transport beside those that endpoints choose from is refused.
        cluster.transport_socket = before;
        let mut held = cluster.transport_socket_matches.iter_mut();
        let held = held.find_map(|one| one.transport_socket.as_mut().filter(|held| held.name == socket.name));
        return held.map_or(Ok(()), |held| merge_socket(held, &socket));
    }
    cluster.transport_socket = Some(match before {
        Some(mut held) if held.name == socket.name => {
            merge_socket(&mut held, &socket)?;
            held
        }
        _ => socket,
    });
    Ok(())
}

fn takes(patch: &Patch, cluster: &Cluster) -> bool {
    let Some(Objects::Cluster(wanted)) = patch.objects() else {
        return true;
    };
    if !wanted.name.is_empty() {
        return wanted.name == cluster.name;
    }
    let Some(parsed) = Parsed::of(&cluster.name) else {
        // Clusters that are no service's have neither of these.
        return *wanted == ClusterMatch::default();
    };
    (wanted.subset.is_empty() || wanted.subset == parsed.subset)
        && (wanted.service.is_empty() || is_of(cluster, &parsed, &wanted.service))
        && (!wanted.port_number.is_given() || wanted.port_number.0 == parsed.port)
}

/// Whether a cluster is a service's. Those that lead to the workload itself name its services beside.
fn is_of(cluster: &Cluster, parsed: &Parsed<'_>, host: &str) -> bool {
    if parsed.direction != "inbound" {
        return parsed.host == host;
    }
    let listed = cluster.metadata.as_ref().and_then(|metadata| {
        let services = metadata.filter_metadata.get("istio")?.fields.get("services")?;
        match services.kind.as_ref()? {
            Kind::ListValue(list) => Some(&list.values),
            _ => None,
        }
    });
    listed.into_iter().flatten().any(|service| match &service.kind {
        Some(Kind::StructValue(service)) => {
            let named = service.fields.get("host").and_then(|host| host.kind.as_ref());
            matches!(named, Some(Kind::StringValue(named)) if named == host)
        }
        _ => false,
    })
}
