//! Service account tokens: signed by the runtime's own key, bound to an audience, a time, a service account and usually a pod.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use crate::api::Api;
use crate::context::User;
use crate::object;
use crate::resources::{PODS, SERVICE_ACCOUNTS};
use crate::status::{Cause, Status};

/// Who signs, as `iss` in tokens and in the OIDC discovery document.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Signs and verifies tokens.
pub(crate) struct TokenAuthority {
    signing: EncodingKey,
    verifying: DecodingKey,
    key_id: String,
    jwk: Value,
}

/// What a token that holds says.
pub(crate) struct Verified {
    pub(crate) user: User,
    pub(crate) audiences: Vec<String>,
}

/// Why a token does not hold.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("invalid bearer token: {0}")]
    Signature(#[from] jsonwebtoken::errors::Error),
    #[error("invalid bearer token: audiences {found:?} do not include any of {wanted:?}")]
    Audience { found: Vec<String>, wanted: Vec<String> },
    #[error("invalid bearer token: {0} has been deleted or replaced")]
    Gone(&'static str),
    #[error("invalid bearer token: not a service account's")]
    Malformed,
}

/// The signing key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("{0}")]
    Key(#[from] rcgen::Error),
    #[error("{0}")]
    Jwt(#[from] jsonwebtoken::errors::Error),
    #[error("the token signing key is not an EC P-256 key")]
    Kind,
}

impl TokenAuthority {
    /// Signs with a P-256 key in PEM.
    pub(crate) fn new(pem: &str) -> Result<Self, KeyError> {
        let pair = KeyPair::from_pem(pem)?;
        // An uncompressed point: 4, then x and y.
        let point = pair.der_bytes();
        if point.len() != 65 {
            return Err(KeyError::Kind);
        }
        let (x, y) = (
            URL_SAFE_NO_PAD.encode(&point[1..33]),
            URL_SAFE_NO_PAD.encode(&point[33..]),
        );
        Ok(Self {
            signing: EncodingKey::from_ec_pem(pem.as_bytes())?,
            verifying: DecodingKey::from_ec_components(&x, &y)?,
            jwk: json!({ "use": "sig", "kty": "EC", "kid": x, "crv": "P-256", "alg": "ES256", "x": x, "y": y }),
            key_id: x,
        })
    }

    /// The OIDC discovery document and the key set.
    pub(crate) fn document(&self, segments: &[String]) -> Option<Value> {
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        match parts.as_slice() {
            [".well-known", "openid-configuration"] => Some(json!({
                "issuer": ISSUER,
                "jwks_uri": format!("{ISSUER}/openid/v1/jwks"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            })),
            ["openid", "v1", "jwks"] => Some(json!({ "keys": [self.jwk] })),
            _ => None,
        }
    }

    /// Verifies a token for one of these audiences; the API itself when there are none.
    pub(crate) fn authenticate(&self, api: &Api, token: &str, audiences: &[String]) -> Result<Verified, TokenError> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.validate_nbf = true;
        // Checked below, since several audiences may be wanted and the ones that match are told.
        validation.validate_aud = false;
        let claims: Value = jsonwebtoken::decode(token, &self.verifying, &validation)?.claims;
        let own = [ISSUER.to_owned()];
        let wanted = if audiences.is_empty() { &own } else { audiences };
        let found: Vec<String> = match &claims["aud"] {
            Value::String(one) => vec![one.clone()],
            many => object::strings(many).into_iter().map(str::to_owned).collect(),
        };
        let matching: Vec<String> = wanted.iter().filter(|a| found.contains(a)).cloned().collect();
        if matching.is_empty() {
            return Err(TokenError::Audience {
                found,
                wanted: wanted.to_vec(),
            });
        }
        let user = bound_user(api, &claims)?;
        Ok(Verified {
            user,
            audiences: matching,
        })
    }

    /// Answers a `TokenRequest`.
    pub(crate) fn request(&self, api: &Api, namespace: &str, name: &str, body: &Value) -> Result<Value, Status> {
        let account = api
            .store
            .get("/serviceaccounts", namespace, name)
            .ok_or_else(|| Status::not_found("", "serviceaccounts", name))?;
        let spec = &body["spec"];
        let seconds = spec["expirationSeconds"].as_i64().unwrap_or(3600);
        if seconds < 600 {
            let cause = Cause {
                reason: "FieldValueInvalid".to_owned(),
                message: format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes"),
                field: "spec.expirationSeconds".to_owned(),
            };
            return Err(Status::invalid(
                "authentication.k8s.io",
                "TokenRequest",
                name,
                vec![cause],
            ));
        }
        let seconds = seconds.min(1 << 32);
        let mut audiences: Vec<&str> = object::strings(&spec["audiences"]);
        if audiences.is_empty() {
            audiences.push(ISSUER);
        }
        let mut kubernetes = json!({
            "namespace": namespace,
            "serviceaccount": { "name": name, "uid": object::uid(&account) },
        });
        let bound = &spec["boundObjectRef"];
        if bound.is_object() {
            bind(api, namespace, name, bound, &mut kubernetes)?;
        }
        let now = jiff::Timestamp::now();
        let expires = now + jiff::SignedDuration::from_secs(seconds);
        let claims = json!({
            "aud": audiences,
            "exp": expires.as_second(),
            "iat": now.as_second(),
            "nbf": now.as_second(),
            "iss": ISSUER,
            "jti": uuid::Uuid::new_v4().to_string(),
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "kubernetes.io": kubernetes,
        });
        let header = Header {
            kid: Some(self.key_id.clone()),
            typ: None,
            ..Header::new(Algorithm::ES256)
        };
        let token = jsonwebtoken::encode(&header, &claims, &self.signing).map_err(Status::internal)?;
        let mut answer_spec = json!({ "audiences": audiences, "expirationSeconds": seconds });
        if bound.is_object() {
            answer_spec["boundObjectRef"] = bound.clone();
        }
        Ok(json!({
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": { "name": name, "namespace": namespace, "creationTimestamp": object::now() },
            "spec": answer_spec,
            "status": { "token": token, "expirationTimestamp": object::timestamp(expires) },
        }))
    }
}

/// Puts the pod or secret that a token is bound to into its claims.
fn bind(api: &Api, namespace: &str, account: &str, bound: &Value, claims: &mut Value) -> Result<(), Status> {
    let (kind, name) = (object::text(bound, &["kind"]), object::text(bound, &["name"]));
    let (storage, plural, claim) = match kind {
        "Pod" => ("/pods", "pods", "pod"),
        "Secret" => ("/secrets", "secrets", "secret"),
        other => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {other:?}: only Pod and Secret can be bound to"
            )));
        }
    };
    let found = api
        .store
        .get(storage, namespace, name)
        .ok_or_else(|| Status::not_found("", plural, name))?;
    let uid = object::text(bound, &["uid"]);
    if !uid.is_empty() && uid != object::uid(&found) {
        return Err(Status::conflict(
            "",
            plural,
            name,
            &format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    if kind == "Pod" {
        let own = match object::text(&found, &["spec", "serviceAccountName"]) {
            "" => "default",
            own => own,
        };
        if own != account {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
        let node = object::text(&found, &["spec", "nodeName"]);
        if !node.is_empty() {
            claims["node"] = json!({ "name": node });
        }
    }
    claims[claim] = json!({ "name": name, "uid": object::uid(&found) });
    Ok(())
}

/// The user of verified claims, when what they are bound to is still there.
fn bound_user(api: &Api, claims: &Value) -> Result<User, TokenError> {
    let bound = &claims["kubernetes.io"];
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(TokenError::Malformed);
    let namespace = text(&bound["namespace"])?;
    let name = text(&bound["serviceaccount"]["name"])?;
    let uid = text(&bound["serviceaccount"]["uid"])?;
    let alive = |resource: &crate::ResourceId, name: &str, uid: &str| {
        api.store
            .get(&format!("{}/{}", resource.group, resource.plural), &namespace, name)
            .is_some_and(|object: Arc<Value>| object::uid(&object) == uid)
    };
    if !alive(&SERVICE_ACCOUNTS, &name, &uid) {
        return Err(TokenError::Gone("the service account"));
    }
    let mut user = User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid,
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ],
        ..User::default()
    };
    let mut extra = |key: &str, value: String| {
        user.extra
            .insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    if let Some(id) = claims["jti"].as_str() {
        extra("credential-id", format!("JTI={id}"));
    }
    if let Some(node) = bound["node"]["name"].as_str() {
        extra("node-name", node.to_owned());
    }
    if bound["pod"].is_object() {
        let (pod, pod_uid) = (text(&bound["pod"]["name"])?, text(&bound["pod"]["uid"])?);
        if !alive(&PODS, &pod, &pod_uid) {
            return Err(TokenError::Gone("the pod"));
        }
        extra("pod-name", pod);
        extra("pod-uid", pod_uid);
    }
    Ok(user)
}
