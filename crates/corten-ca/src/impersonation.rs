//! Whether a node proxy may have the identity of a pod: only of those that run on its own node.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use corten_core::{Identity, NamespacedName};

use crate::caller::Caller;

/// Where a pod is, and as whom it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPlace {
    /// Its UID.
    pub uid: String,
    /// Its node; empty: none yet.
    pub node: String,
    /// Its service account.
    pub service_account: String,
    /// Its phase is `Failed`: it runs no more, and nothing may be had in its name.
    pub failed: bool,
}

/// The pods of the cluster.
pub trait PodIndex: Send + Sync + 'static {
    /// A pod by its name.
    fn pod(&self, name: &NamespacedName) -> Option<PodPlace>;
    /// Whether a pod that has not failed is on the node with this service account.
    fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool;
}

/// A caller may not have the identity of another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImpersonationError {
    /// Not a node proxy.
    #[error("{0} is not a trusted node account, and may ask only for its own identity")]
    NotTrusted(String),
    /// Its token belongs to no pod.
    #[error("the token of {0} is not bound to a pod; is it a projected token?")]
    NotBound(String),
    /// The pod of its token is gone.
    #[error("the pod {0} of the token does not exist (any more)")]
    NoSuchPod(NamespacedName),
    /// Another pod has its name now, or it runs as another account.
    #[error("the token does not belong to the pod {0} as it is now")]
    OtherPod(NamespacedName),
    /// The pod has no node.
    #[error("the pod {0} is not on a node")]
    NoNode(NamespacedName),
    /// No such workload on its node.
    #[error("no pod with the service account {wanted} runs on the caller's node {node}")]
    NotOnNode {
        /// The namespace and account asked for.
        wanted: NamespacedName,
        /// The node of the caller.
        node: String,
    },
    /// Of a trust domain that is not ours.
    #[error("the trust domain of {0} is not one of this mesh")]
    TrustDomain(Identity),
}

/// Whether a caller may have a certificate for another identity.
///
/// Istio's rule, and one condition more: the trust domain must be one of the mesh's, so that no node can pass for a
/// workload of another mesh whose trust domain is an alias elsewhere.
pub fn may_impersonate(
    caller: &Caller,
    wanted: &Identity,
    trusted: &BTreeSet<NamespacedName>,
    trust_domains: &[String],
    pods: &dyn PodIndex,
) -> Result<(), ImpersonationError> {
    let account = |identity: &Identity| NamespacedName::new(&*identity.namespace, &*identity.service_account);
    let own = caller.identities.first().map(account).unwrap_or_default();
    if !trusted.contains(&own) {
        return Err(ImpersonationError::NotTrusted(own.to_string()));
    }
    let Some(bound) = &caller.pod else {
        return Err(ImpersonationError::NotBound(own.to_string()));
    };
    let name = NamespacedName::new(&*own.namespace, &*bound.name);
    let Some(pod) = pods.pod(&name) else {
        return Err(ImpersonationError::NoSuchPod(name));
    };
    if pod.uid != bound.uid || pod.service_account != own.name {
        return Err(ImpersonationError::OtherPod(name));
    }
    if pod.node.is_empty() {
        return Err(ImpersonationError::NoNode(name));
    }
    if !trust_domains.contains(&wanted.trust_domain) {
        return Err(ImpersonationError::TrustDomain(wanted.clone()));
    }
    if !pods.runs_on(&pod.node, &wanted.namespace, &wanted.service_account) {
        return Err(ImpersonationError::NotOnNode {
            wanted: account(wanted),
            node: pod.node,
        });
    }
    Ok(())
}

/// An index kept by telling it of every pod.
#[derive(Debug, Default)]
pub struct Pods {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    pods: HashMap<NamespacedName, PodPlace>,
    /// How many pods that have not failed run as (node, namespace, account).
    running: HashMap<(String, String, String), usize>,
}

impl Pods {
    /// A pod is there, or changed.
    pub fn put(&self, name: NamespacedName, place: PodPlace) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if tables.pods.get(&name) == Some(&place) {
            return;
        }
        if let Some(place) = place.counts_as(&name.namespace) {
            *tables.running.entry(place).or_default() += 1;
        }
        if let Some(before) = tables.pods.insert(name.clone(), place) {
            tables.uncount(&before, &name.namespace);
        }
    }

    /// A pod is gone.
    pub fn remove(&self, name: &NamespacedName) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = tables.pods.remove(name) {
            tables.uncount(&before, &name.namespace);
        }
    }
}

impl PodPlace {
    fn counts_as(&self, namespace: &str) -> Option<(String, String, String)> {
        let counts = !self.failed && !self.node.is_empty();
        counts.then(|| (self.node.clone(), namespace.to_owned(), self.service_account.clone()))
    }
}

impl Tables {
    fn uncount(&mut self, place: &PodPlace, namespace: &str) {
        let Some(place) = place.counts_as(namespace) else {
            return;
        };
        if let Some(count) = self.running.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(&place);
            }
        }
    }
}

impl PodIndex for Pods {
    fn pod(&self, name: &NamespacedName) -> Option<PodPlace> {
        self.tables
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .pods
            .get(name)
            .cloned()
    }

    fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool {
        let place = (node.to_owned(), namespace.to_owned(), service_account.to_owned());
        self.tables
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .running
            .contains_key(&place)
    }
}

#[cfg(test)]
mod tests;
