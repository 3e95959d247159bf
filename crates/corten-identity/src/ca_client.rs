//! The client of the certificate authority: one unary call per certificate.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use corten_core::Identity;
use corten_grpc::{Channel, Code, ProstCodec, Status};
use corten_proto::ca::{CREATE_CERTIFICATE, IMPERSONATED_IDENTITY, IstioCertificateRequest, IstioCertificateResponse};
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};

/// Who signs certificates. A trait, so that tests and the control plane itself need no network.
pub trait Sign: Send + Sync + 'static {
    /// Asks for a certificate for an identity with a signing request (PEM). The answer: leaf, intermediates, roots; each PEM.
    fn sign<'a>(
        &'a self,
        identity: &'a Identity,
        request: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<String>, SignError>> + Send + 'a>>;
}

/// No certificate came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The authority cannot be reached, or is not able to sign now.
    #[error("the certificate authority is not available: {0}")]
    Unavailable(String),
    /// The authority does not know who we are.
    #[error("the certificate authority does not accept our token for {identity}: {reason}")]
    Refused {
        /// Who was asked for.
        identity: String,
        /// What it said.
        reason: String,
    },
    /// Any other answer.
    #[error("the certificate authority answered {code}: {reason}")]
    Failed {
        /// The gRPC code.
        code: String,
        /// What it said.
        reason: String,
    },
    /// The token cannot be read.
    #[error("cannot read the token {path}: {reason}")]
    Token {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

/// The token by which the authority knows us (`AUTH_TOKEN`).
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// None is sent.
    None,
    /// A file, read again for each call: tokens are replaced long before they expire.
    File(PathBuf),
    /// The token itself.
    Literal(String),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::None => f.write_str("None"),
            Token::File(path) => f.debug_tuple("File").field(path).finish(),
            // A token is a password.
            Token::Literal(_) => f.write_str("Literal(..)"),
        }
    }
}

impl Token {
    /// From a setting: empty for none, a path, or the token itself (which has two dots and no slash).
    pub fn from_setting(setting: &str) -> Token {
        if setting.is_empty() {
            return Token::None;
        }
        let path = PathBuf::from(setting);
        if setting.contains('/') || path.exists() {
            Token::File(path)
        } else {
            Token::Literal(setting.to_owned())
        }
    }

    /// The token as it is now.
    pub fn read(&self) -> Result<Option<String>, SignError> {
        match self {
            Token::None => Ok(None),
            Token::Literal(token) => Ok(Some(token.trim().to_owned())),
            Token::File(path) => match std::fs::read_to_string(path) {
                Ok(token) => Ok(Some(token.trim().to_owned())),
                Err(error) => Err(SignError::Token {
                    path: path.display().to_string(),
                    reason: error.to_string(),
                }),
            },
        }
    }
}

/// How the authority is asked.
#[derive(Debug, Clone)]
pub struct CaSettings {
    /// Who we are.
    pub token: Token,
    /// The cluster that can verify the token (`CLUSTER_ID`).
    pub cluster: String,
    /// Further headers (`CA_HEADER_*`).
    pub headers: Vec<(String, String)>,
    /// Validity asked for (`SECRET_TTL`).
    pub validity: Duration,
    /// Ask in the name of pods on our node, as a node proxy does; otherwise for the token's own identity.
    pub impersonate: bool,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Default for CaSettings {
    fn default() -> Self {
        CaSettings {
            token: Token::File("./var/run/secrets/tokens/istio-token".into()),
            cluster: "Kubernetes".to_owned(),
            headers: Vec::new(),
            validity: Duration::from_secs(24 * 60 * 60),
            impersonate: true,
            timeout: Duration::from_secs(10),
        }
    }
}

/// The client of the certificate authority at the other end of a channel.
#[derive(Debug, Clone)]
pub struct CaClient {
    channel: Channel,
    settings: CaSettings,
}

impl CaClient {
    /// Nothing is sent yet.
    pub fn new(channel: Channel, settings: CaSettings) -> CaClient {
        CaClient { channel, settings }
    }

    async fn create(&self, identity: &Identity, csr: &str) -> Result<Vec<String>, SignError> {
        let request = self.request(identity, csr)?;
        let call = async {
            let mut grpc = tonic::client::Grpc::new(self.channel.clone());
            grpc.ready().await?;
            let codec: ProstCodec<IstioCertificateRequest, IstioCertificateResponse> = ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(CREATE_CERTIFICATE);
            grpc.unary(request, path, codec).await
        };
        let answer = match tokio::time::timeout(self.settings.timeout, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::unavailable(format!(
                "no answer within {:?}",
                self.settings.timeout
            ))),
        };
        match answer {
            Ok(answer) => Ok(answer.into_inner().cert_chain),
            Err(status) => Err(failure(identity, &status)),
        }
    }

    fn request(&self, identity: &Identity, csr: &str) -> Result<tonic::Request<IstioCertificateRequest>, SignError> {
        let metadata = self.settings.impersonate.then(|| {
            let value = prost_types::value::Kind::StringValue(identity.to_string());
            let field = (
                IMPERSONATED_IDENTITY.to_owned(),
                prost_types::Value { kind: Some(value) },
            );
            prost_types::Struct { fields: [field].into() }
        });
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr: csr.to_owned(),
            validity_duration: i64::try_from(self.settings.validity.as_secs()).unwrap_or(i64::MAX),
            metadata,
        });
        let mut header = |name: &str, value: &str| {
            let key = MetadataKey::<Ascii>::from_bytes(name.to_ascii_lowercase().as_bytes());
            match (key, MetadataValue::try_from(value)) {
                (Ok(key), Ok(value)) => {
                    request.metadata_mut().insert(key, value);
                }
                _ => tracing::warn!(name, "not sending a header whose name or value is not valid"),
            }
        };
        header("clusterid", &self.settings.cluster);
        for (name, value) in &self.settings.headers {
            header(name, value);
        }
        if let Some(token) = self.settings.token.read()? {
            header("authorization", &format!("Bearer {token}"));
        }
        Ok(request)
    }
}

impl Sign for CaClient {
    fn sign<'a>(
        &'a self,
        identity: &'a Identity,
        request: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<String>, SignError>> + Send + 'a>> {
        Box::pin(self.create(identity, request))
    }
}

fn failure(identity: &Identity, status: &Status) -> SignError {
    let reason = status.message().to_owned();
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => SignError::Unavailable(reason),
        Code::Unauthenticated | Code::PermissionDenied => SignError::Refused {
            identity: identity.to_string(),
            reason,
        },
        code => SignError::Failed {
            code: format!("{code:?}"),
            reason,
        },
    }
}
