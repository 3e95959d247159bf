//! `istio.v1.auth.IstioCertificateService`: who asks, for whom, and the signature.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use corten_core::{Identity, NamespacedName};
use corten_grpc::{Peer, Request, Response, Router, Status};
use corten_proto::ca::{CREATE_CERTIFICATE, IMPERSONATED_IDENTITY, IstioCertificateRequest, IstioCertificateResponse};
use tokio::sync::watch;

use crate::authority::{Authority, LeafError};
use crate::caller::{Authenticate, Caller};
use crate::csr::Csr;
use crate::impersonation::{ImpersonationError, PodIndex, may_impersonate};
use crate::metrics::Metrics;

/// A node proxy asks as soon as a pod starts, when our view of the pods may be a moment behind: how long, and how often,
/// the pod is waited for before the node proxy is refused (and tries again by itself, later).
const PATIENCE: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
];

/// What the service is told.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// The accounts of node proxies (`CA_TRUSTED_NODE_ACCOUNTS`): namespace and service account.
    pub trusted_node_accounts: BTreeSet<NamespacedName>,
    /// The trust domain and its aliases.
    pub trust_domains: watch::Receiver<Arc<[String]>>,
}

/// The service.
pub struct Service {
    authority: Arc<Authority>,
    authenticate: Arc<dyn Authenticate>,
    pods: Arc<dyn PodIndex>,
    metrics: Arc<Metrics>,
    settings: ServiceSettings,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Signs by an authority, for those whom `authenticate` knows.
    pub fn new(
        authority: Arc<Authority>,
        authenticate: Arc<dyn Authenticate>,
        pods: Arc<dyn PodIndex>,
        metrics: Arc<Metrics>,
        settings: ServiceSettings,
    ) -> Arc<Service> {
        Arc::new(Service {
            authority,
            authenticate,
            pods,
            metrics,
            settings,
        })
    }

    /// Adds the service to a server.
    #[must_use]
    pub fn routes(self: Arc<Self>, router: Router) -> Router {
        router.unary(CREATE_CERTIFICATE, move |request| {
            let service = self.clone();
            async move { service.create_certificate(request).await }
        })
    }

    /// One request.
    pub async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.metrics.citadel_server_csr_count();
        let peer = request.extensions().get::<Peer>().cloned();
        let (headers, _, message) = request.into_parts();
        let remote = peer.as_ref().map(|peer| peer.remote.to_string()).unwrap_or_default();
        let caller = match self.authenticate.authenticate(&headers, peer.as_ref()).await {
            Ok(caller) => caller,
            Err(error) => {
                self.metrics.citadel_server_authentication_failure_count();
                tracing::warn!(remote, %error, "refused to sign: the caller is not known");
                return Err(Status::unauthenticated("request authenticate failure"));
            }
        };
        let identities = self.identities(&caller, &message, &remote).await?;
        let csr = Csr::parse(&message.csr).map_err(|error| {
            self.metrics.citadel_server_csr_parsing_err_count();
            Status::invalid_argument(format!("CSR parsing error ({error})"))
        })?;
        let signed = self
            .authority
            .sign(&csr, &identities, message.validity_duration, SystemTime::now());
        let cert_chain = signed.map_err(|error| {
            self.metrics.citadel_server_csr_sign_err_count();
            tracing::warn!(remote, %error, "cannot sign");
            match error {
                LeafError::Ttl { .. } => Status::invalid_argument(error.to_string()),
                LeafError::NoIdentity => Status::unauthenticated(error.to_string()),
                LeafError::Expired | LeafError::Sign(_) => Status::internal(format!("CSR signing error ({error})")),
            }
        })?;
        self.metrics.citadel_server_success_cert_issuance_count();
        tracing::debug!(remote, identity = %identities[0], "certificate signed");
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }

    /// For whom is signed: the caller, or whom it may ask for. At least one.
    async fn identities(
        &self,
        caller: &Caller,
        message: &IstioCertificateRequest,
        remote: &str,
    ) -> Result<Vec<Identity>, Status> {
        let Some(wanted) = impersonated(message) else {
            if caller.identities.is_empty() {
                self.metrics.citadel_server_id_extraction_err_count();
                return Err(Status::unauthenticated("the caller has no identity"));
            }
            return Ok(caller.identities.clone());
        };
        let refused = |reason: String| {
            self.metrics.citadel_server_authentication_failure_count();
            tracing::warn!(remote, wanted, reason, "refused to sign for another");
            Status::unauthenticated(format!("request impersonation authentication failure: {reason}"))
        };
        let wanted: Identity = wanted.parse().map_err(|error| refused(format!("{error}")))?;
        match self.may_impersonate(caller, &wanted).await {
            Ok(()) => Ok(vec![wanted]),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    async fn may_impersonate(&self, caller: &Caller, wanted: &Identity) -> Result<(), ImpersonationError> {
        let ServiceSettings {
            trusted_node_accounts,
            trust_domains,
        } = &self.settings;
        let ask = || {
            may_impersonate(
                caller,
                wanted,
                trusted_node_accounts,
                &trust_domains.borrow(),
                &*self.pods,
            )
        };
        for pause in PATIENCE {
            match ask() {
                Err(ImpersonationError::NotOnNode { .. } | ImpersonationError::NoSuchPod(_)) => {
                    tokio::time::sleep(pause).await;
                }
                decided => return decided,
            }
        }
        ask()
    }
}

/// The identity asked for besides the caller's own.
fn impersonated(message: &IstioCertificateRequest) -> Option<&str> {
    let value = message.metadata.as_ref()?.fields.get(IMPERSONATED_IDENTITY)?;
    match &value.kind {
        Some(prost_types::value::Kind::StringValue(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
