//! The control plane's own serving certificate, signed by its own authority.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use corten_identity::{ControlPlaneServer, RevocationList, Trust};
use corten_rt::Drain;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use crate::authority::{Authority, LeafError, Published, leaf};
use crate::issue::Name;

/// No serving certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// It cannot be signed.
    #[error("cannot sign the serving certificate: {0}")]
    Sign(#[from] LeafError),
    /// Its key cannot be made.
    #[error("cannot make the key of the serving certificate: {0}")]
    Key(rcgen::Error),
    /// It cannot be used.
    #[error("cannot use the serving certificate: {0}")]
    Use(#[from] corten_identity::CertificateError),
}

/// The names under which the control plane is reached: its Service, the ones it had in older versions, that of its
/// revision, and what the mesh configuration and the operator add.
pub fn serving_names(namespace: &str, revision: &str, discovery_address: &str, custom: &[String]) -> Vec<String> {
    let mut names = vec![
        format!("istiod.{namespace}.svc"),
        format!("istiod-remote.{namespace}.svc"),
        format!("istio-pilot.{namespace}.svc"),
    ];
    if !revision.is_empty() && revision != "default" {
        names.push(format!("istiod-{revision}.{namespace}.svc"));
    }
    let host = discovery_address
        .rsplit_once(':')
        .map_or(discovery_address, |(host, _)| host);
    names.extend(std::iter::once(host.to_owned()).chain(custom.iter().map(|name| name.trim().to_owned())));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}

/// The certificate, renewed at the middle of its life and whenever the authority's keys change.
#[derive(Debug)]
pub struct ServingCertificate {
    authority: Arc<Authority>,
    names: Vec<String>,
    trust_domains: watch::Receiver<Arc<[String]>>,
    made: ArcSwap<Made>,
}

#[derive(Debug)]
struct Made {
    config: Arc<ServerConfig>,
    webhooks: Arc<ServerConfig>,
    renew_at: SystemTime,
}

impl ServingCertificate {
    /// Signs the first one. Clients that present a certificate must be of one of the trust domains, which are followed.
    pub fn new(
        authority: Arc<Authority>,
        names: Vec<String>,
        trust_domains: watch::Receiver<Arc<[String]>>,
        now: SystemTime,
    ) -> Result<Arc<ServingCertificate>, ServingError> {
        let made = make(&authority, &names, &trust_domains.borrow().clone(), now)?;
        Ok(Arc::new(ServingCertificate {
            authority,
            names,
            trust_domains,
            made: ArcSwap::from_pointee(made),
        }))
    }

    /// The configuration for the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.made.load().config.clone()
    }

    /// The configuration for the next connection of an API server that calls a webhook.
    pub fn webhook_config(&self) -> Arc<ServerConfig> {
        self.made.load().webhooks.clone()
    }

    /// Makes a new one.
    pub fn renew(&self, now: SystemTime) -> Result<(), ServingError> {
        let made = make(&self.authority, &self.names, &self.trust_domains.borrow().clone(), now)?;
        self.made.store(Arc::new(made));
        Ok(())
    }

    /// Renews until told to stop.
    pub async fn run(self: Arc<Self>, mut drain: Drain) {
        let mut published = self.authority.subscribe();
        let mut trust_domains = self.trust_domains.clone();
        loop {
            let until = self
                .made
                .load()
                .renew_at
                .duration_since(SystemTime::now())
                .unwrap_or_default();
            tokio::select! {
                () = drain.wait() => return,
                changed = published.changed() => if changed.is_err() { return },
                // Without a sender they do not change any more.
                Ok(()) = trust_domains.changed() => {}
                // Not at once again when the last attempt failed, and soon enough when the clock was set.
                () = tokio::time::sleep(until.clamp(Duration::from_secs(1), Duration::from_secs(60))) => {
                    if SystemTime::now() < self.made.load().renew_at {
                        continue;
                    }
                }
            }
            if let Err(error) = self.renew(SystemTime::now()) {
                tracing::error!(%error, "cannot renew the serving certificate");
            }
        }
    }
}

fn make(
    authority: &Authority,
    names: &[String],
    trust_domains: &[String],
    now: SystemTime,
) -> Result<Made, ServingError> {
    let published: Arc<Published> = authority.current();
    let key = KeyPair::generate().map_err(ServingError::Key)?;
    let names = names.iter().cloned().map(Name::Dns).collect();
    let leaf = leaf(&published, names, authority.policy().default_ttl, now)?;
    let signed = leaf.sign(&key, published.signer.issuer()).map_err(LeafError::from)?;
    let chain = std::iter::once(signed)
        .chain(published.signer.intermediates().iter().cloned())
        .collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let revocation = match &published.revocation_pem {
        None => RevocationList::default(),
        Some(lists) => RevocationList::parse(lists.as_bytes()).unwrap_or_else(|error| {
            tracing::warn!(%error, "clients' certificates are not looked up in the revocation lists");
            RevocationList::default()
        }),
    };
    let trust = Trust::new(&published.roots, revocation).map_err(corten_identity::CertificateError::from)?;
    let server = ControlPlaneServer {
        chain,
        key,
        trust: Arc::new(trust),
        trust_domains: trust_domains.to_vec(),
    };
    let life = leaf.not_after.duration_since(now).unwrap_or_default();
    Ok(Made {
        webhooks: server.webhook_config()?,
        config: server.config()?,
        renew_at: now + life / 2,
    })
}
