//! The certificate authority's connections to the rest: its Secret, who its callers are, and which pods are where.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use corten_ca::{
    Authenticate, AuthenticationError, Authority, Caller, FORWARDED_CERTIFICATE, Keeper, KeeperError, KeeperSettings,
    KeySource, Metrics, PluggedError, PodBinding, PodIndex, PodPlace, Policy, SECRET_NAME, SECRET_TYPE, SecretAccess,
    SecretAccessError, SecretEntries, Service, ServiceSettings, ServingCertificate, ServingError, TrustedGateways,
    serving_names,
};
use corten_core::{Identity, NamespacedName};
use corten_grpc::Peer;
use corten_model::Snapshot;
use corten_store_kube::{SecretData, SecretStore, SecretStoreError, TokenReviewer};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::settings::Settings;
use crate::trust_domains::Known;

/// Where an operator mounts signing keys of his own.
const PLUGGED_DIR: &str = "./etc/cacerts";
/// The ConfigMap with the roots that everybody trusts.
pub(crate) const ROOTS_NAME: &str = "istio-ca-root-cert";
/// Its entry.
pub(crate) const ROOTS_ENTRY: &str = "root-cert.pem";
/// The entry of the ConfigMap with revocation lists.
pub(crate) const REVOCATION_ENTRY: &str = "ca-crl.pem";

/// The authority does not start.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The mounted keys cannot be used.
    #[error(transparent)]
    Plugged(#[from] PluggedError),
    /// There are no keys.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// There is no serving certificate.
    #[error(transparent)]
    Serving(#[from] ServingError),
}

/// The authority and its keeper, started.
pub(crate) struct Started {
    pub(crate) keeper: Keeper,
    pub(crate) authority: Arc<Authority>,
    pub(crate) serving: Arc<ServingCertificate>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Reads or makes the keys, and makes the serving certificate.
pub(crate) async fn start(
    settings: &Settings,
    secrets: SecretStore,
    trust_domains: Known,
    discovery_address: &str,
) -> Result<Started, AuthorityError> {
    let now = SystemTime::now();
    let source = KeySource::choose(PathBuf::from(PLUGGED_DIR), Arc::new(RootSecret(secrets.clone())))?;
    // Whoever trusts what was published before goes on trusting it through a change.
    let published = match secrets.config_map(ROOTS_NAME).await {
        Ok(entries) => entries
            .and_then(|mut entries| entries.remove(ROOTS_ENTRY))
            .unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "the roots published before are not known");
            String::new()
        }
    };
    let keeper_settings = KeeperSettings {
        trust_domain: trust_domains.borrow().first().cloned().unwrap_or_default(),
        policy: Policy {
            default_ttl: settings.certificate_ttl,
            max_ttl: settings.certificate_ttl_max,
        },
        overlap: None,
        root_lifetime: None,
        published: corten_identity::pem::certificates(published.as_bytes()).unwrap_or_default(),
    };
    let metrics = Arc::new(Metrics::default());
    let keeper = Keeper::start(source, keeper_settings, metrics.clone(), now).await?;
    let authority = keeper.authority();
    let names = serving_names(
        &settings.namespace,
        &settings.revision,
        discovery_address,
        &settings.custom_hosts,
    );
    let serving = ServingCertificate::new(authority.clone(), names, trust_domains, now)?;
    Ok(Started {
        keeper,
        authority,
        serving,
        metrics,
    })
}

/// The service that signs.
pub(crate) fn service(
    started: &Started,
    callers: Arc<Callers>,
    pods: Arc<ArcSwap<Snapshot>>,
    trusted_node_accounts: BTreeSet<NamespacedName>,
    trust_domains: Known,
) -> Arc<Service> {
    let settings = ServiceSettings {
        trusted_node_accounts,
        trust_domains,
    };
    let pods = Arc::new(SnapshotPods(pods));
    Service::new(
        started.authority.clone(),
        callers,
        pods,
        started.metrics.clone(),
        settings,
    )
}

/// The Secret of a self-made root.
struct RootSecret(SecretStore);

type Answer<'a> = Pin<Box<dyn Future<Output = Result<SecretEntries, SecretAccessError>> + Send + 'a>>;

impl SecretAccess for RootSecret {
    fn read(&self) -> Answer<'_> {
        Box::pin(async move { self.0.secret(SECRET_NAME).await.map(entries).map_err(failed) })
    }

    fn write(&self, wanted: SecretEntries) -> Answer<'_> {
        let secret = SecretData {
            data: wanted.data,
            version: wanted.version,
        };
        Box::pin(async move {
            let written = self.0.write_secret(SECRET_NAME, SECRET_TYPE, &secret).await;
            written.map(entries).map_err(failed)
        })
    }
}

fn entries(secret: SecretData) -> SecretEntries {
    SecretEntries {
        data: secret.data,
        version: secret.version,
    }
}

fn failed(error: SecretStoreError) -> SecretAccessError {
    match error {
        SecretStoreError::Conflict { .. } => SecretAccessError::Conflict,
        error => SecretAccessError::Failed(error.to_string()),
    }
}

/// Who asks for certificates: whoever shows one of the mesh, or a token made for us.
pub(crate) struct Callers {
    pub(crate) reviewer: Arc<TokenReviewer>,
    pub(crate) trust_domain: String,
    /// Whose word is taken for who calls.
    pub(crate) gateways: TrustedGateways,
}

impl Authenticate for Callers {
    fn authenticate<'a>(
        &'a self,
        headers: &'a MetadataMap,
        peer: Option<&'a Peer>,
    ) -> Pin<Box<dyn Future<Output = Result<Caller, AuthenticationError>> + Send + 'a>> {
        Box::pin(async move {
            if let Some(caller) = peer.and_then(|peer| Caller::from_certificates(&peer.certificates)) {
                return Ok(caller);
            }
            let token = headers.get("authorization").and_then(|value| value.to_str().ok());
            let token = token.and_then(|value| value.split_once(' '));
            let Some((_, token)) = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
                let told = peer.filter(|peer| peer.tls).and_then(|peer| {
                    let said = headers.get_all(FORWARDED_CERTIFICATE);
                    let said = said.iter().map(MetadataValue::as_encoded_bytes);
                    self.gateways.identity(peer.remote.ip(), said, &self.trust_domain)
                });
                if let Some(identity) = told {
                    return Ok(Caller {
                        identities: vec![identity],
                        pod: None,
                    });
                }
                let reason = "no client certificate of the mesh and no bearer token was shown";
                return Err(AuthenticationError(reason.to_owned()));
            };
            let found = self.reviewer.review(token.trim()).await;
            let found = found.map_err(|error| AuthenticationError(error.to_string()))?;
            let identity = Identity::new(&self.trust_domain, &found.namespace, &found.service_account);
            Ok(Caller {
                identities: vec![identity.map_err(|error| AuthenticationError(error.to_string()))?],
                pod: found.pod.map(|(name, uid)| PodBinding { name, uid }),
            })
        })
    }
}

/// The pods as the model has them.
struct SnapshotPods(Arc<ArcSwap<Snapshot>>);

impl PodIndex for SnapshotPods {
    fn pod(&self, name: &NamespacedName) -> Option<PodPlace> {
        let snapshot = self.0.load();
        let pod = snapshot.pod(&name.namespace, &name.name)?;
        Some(PodPlace {
            uid: uid(pod.uid),
            node: pod.node.to_string(),
            service_account: pod.service_account.to_string(),
            failed: pod.terminal,
        })
    }

    fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool {
        self.0.load().runs_on(node, namespace, service_account)
    }
}

/// A UID in the form in which API servers write it.
fn uid(uid: u128) -> String {
    let hex = format!("{uid:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn uids_are_written_as_api_servers_write_them() {
        assert_eq!(
            super::uid(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            "01234567-89ab-cdef-0123-456789abcdef"
        );
    }
}
