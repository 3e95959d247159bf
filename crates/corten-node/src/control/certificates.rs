//! Who signs our certificates: the control plane's authority, or, for tests and benchmarks, a key in a folder.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use corten_core::Identity;
use corten_identity::{
    CaClient, CaSettings, Identities, IdentitiesConfig, RootSource, Sign, SignError, TlsOptions, Token,
};
use rcgen::{CertificateSigningRequestParams, Issuer, KeyPair};

use super::discovery::channel;
use crate::config::Config;

/// The certificates of the node, as the settings have it.
pub fn identities(config: &Config) -> Result<Arc<Identities>, SignError> {
    let options = IdentitiesConfig {
        tls: TlsOptions {
            tls12: config.connections.tls12,
            key_exchange: config.connections.key_exchange,
        },
        revocation: config.crl_path.clone(),
        // The same file by which the authority's server is verified: the control plane changes it before it signs with
        // another root.
        roots: match RootSource::from_setting(&config.ca.root) {
            RootSource::File(path) => Some(path),
            RootSource::System | RootSource::Pem(_) => None,
        },
        ..IdentitiesConfig::default()
    };
    Ok(Identities::new(authority(config)?, options))
}

fn authority(config: &Config) -> Result<Arc<dyn Sign>, SignError> {
    if let Some(folder) = &config.test_ca_dir {
        return Ok(Arc::new(FolderAuthority::load(folder, config.secret_ttl)?));
    }
    match channel(&config.ca, config.connections.key_exchange) {
        Some(channel) => Ok(Arc::new(CaClient::new(
            channel,
            CaSettings {
                token: Token::from_setting(&config.auth_token),
                cluster: config.cluster_id.clone(),
                headers: config.ca.headers.clone().into_iter().collect(),
                validity: config.secret_ttl,
                // A proxy that serves one workload runs as it.
                impersonate: config.dedicated.is_none(),
                ..CaSettings::default()
            },
        ))),
        None => Ok(Arc::new(NoAuthority)),
    }
}

/// None is set: connections that need a certificate say so.
struct NoAuthority;

impl Sign for NoAuthority {
    fn sign<'a>(&'a self, _identity: &'a Identity, _request: &'a str) -> Answer<'a> {
        Box::pin(async { Err(SignError::Unavailable("CA_ADDRESS is empty".to_owned())) })
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, SignError>> + Send + 'a>>;

/// Signs with the key in a folder: `ca-cert.pem` and `ca-key.pem`. For tests only: whoever has the folder can be anybody.
pub struct FolderAuthority {
    root: String,
    issuer: Issuer<'static, KeyPair>,
    validity: Duration,
}

impl FolderAuthority {
    /// Reads the folder.
    pub fn load(folder: &Path, validity: Duration) -> Result<FolderAuthority, SignError> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path)
                .map_err(|error| SignError::Unavailable(format!("cannot read {}: {error}", path.display())))
        };
        let (root, key) = (read("ca-cert.pem")?, read("ca-key.pem")?);
        let unusable = |error: rcgen::Error| SignError::Unavailable(format!("the test authority: {error}"));
        let key = KeyPair::from_pem(&key).map_err(unusable)?;
        let issuer = Issuer::from_ca_cert_pem(&root, key).map_err(unusable)?;
        Ok(FolderAuthority { root, issuer, validity })
    }
}

impl Sign for FolderAuthority {
    fn sign<'a>(&'a self, identity: &'a Identity, request: &'a str) -> Answer<'a> {
        Box::pin(async move {
            let failed = |error: rcgen::Error| SignError::Failed {
                code: "test authority".to_owned(),
                reason: format!("{identity}: {error}"),
            };
            let mut request = CertificateSigningRequestParams::from_pem(request).map_err(failed)?;
            let now = std::time::SystemTime::now();
            request.params.not_before = (now - Duration::from_secs(60)).into();
            request.params.not_after = (now + self.validity).into();
            request.params.extended_key_usages = vec![
                rcgen::ExtendedKeyUsagePurpose::ServerAuth,
                rcgen::ExtendedKeyUsagePurpose::ClientAuth,
            ];
            let leaf = request.signed_by(&self.issuer).map_err(failed)?;
            Ok(vec![leaf.pem(), self.root.clone()])
        })
    }
}
