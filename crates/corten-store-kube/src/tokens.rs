//! Who a service account token belongs to: the API server is asked, and its answer kept for a few seconds.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};

/// How long an answer is kept. A node proxy that starts asks for the certificates of all its pods with one token.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// Answers kept at most.
const KEPT_MAX: usize = 1024;
/// No token is larger.
const TOKEN_BYTES_MAX: usize = 32 << 10;

/// The service account of a token, and the pod it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIdentity {
    /// The account's namespace.
    pub namespace: String,
    /// The account.
    pub service_account: String,
    /// The pod it is bound to: name and UID.
    pub pod: Option<(String, String)>,
}

/// The token does not tell who the caller is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenReviewError {
    /// The API server does not accept it.
    #[error("the token is not valid here: {0}")]
    Invalid(String),
    /// It is for somebody else.
    #[error("the token is for the audience {0:?}, not for one of {1:?}")]
    Audience(Vec<String>, Vec<String>),
    /// It is not of a service account.
    #[error("the token belongs to '{0}', which is no service account")]
    NotServiceAccount(String),
    /// The API server cannot be asked.
    #[error("cannot ask the API server about the token: {0}")]
    Unavailable(String),
}

/// Asks the API server who tokens belong to.
pub struct TokenReviewer {
    reviews: Api<TokenReview>,
    audiences: Vec<String>,
    kept: Mutex<HashMap<u64, Kept>>,
}

struct Kept {
    token: String,
    identity: TokenIdentity,
    until: Instant,
}

impl std::fmt::Debug for TokenReviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReviewer")
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

impl TokenReviewer {
    /// Accepts tokens made for one of the audiences.
    pub fn new(client: Client, audiences: Vec<String>) -> TokenReviewer {
        TokenReviewer {
            reviews: Api::all(client),
            audiences,
            kept: Mutex::default(),
        }
    }

    /// Who a token belongs to.
    pub async fn review(&self, token: &str) -> Result<TokenIdentity, TokenReviewError> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Err(TokenReviewError::Invalid(format!("it has {} bytes", token.len())));
        }
        let key = hash(token);
        if let Some(kept) = self.lock().get(&key)
            && kept.token == token
            && Instant::now() < kept.until
        {
            return Ok(kept.identity.clone());
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(self.audiences.clone()),
            },
            ..TokenReview::default()
        };
        let answer = self.reviews.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| TokenReviewError::Unavailable(error.to_string()))?;
        let identity = identity(answer, &self.audiences)?;
        let kept = Kept {
            token: token.to_owned(),
            identity: identity.clone(),
            until: Instant::now() + KEPT_FOR,
        };
        let mut table = self.lock();
        if table.len() >= KEPT_MAX {
            let now = Instant::now();
            table.retain(|_, kept| now < kept.until);
            if table.len() >= KEPT_MAX {
                table.clear();
            }
        }
        table.insert(key, kept);
        Ok(identity)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the API server's answer says.
fn identity(answer: TokenReview, audiences: &[String]) -> Result<TokenIdentity, TokenReviewError> {
    let status = answer.status.unwrap_or_default();
    if status.authenticated != Some(true) {
        let why = status
            .error
            .unwrap_or_else(|| "the API server gives no reason".to_owned());
        return Err(TokenReviewError::Invalid(why));
    }
    // An API server that knows no audiences answers none; its tokens are for itself and prove nothing here.
    let given = status.audiences.unwrap_or_default();
    if !given.iter().any(|audience| audiences.contains(audience)) {
        return Err(TokenReviewError::Audience(given, audiences.to_vec()));
    }
    of_user(status.user.unwrap_or_default())
}

fn of_user(user: UserInfo) -> Result<TokenIdentity, TokenReviewError> {
    let name = user.username.unwrap_or_default();
    let groups = user.groups.unwrap_or_default();
    let parts: Vec<&str> = name.split(':').collect();
    let in_group = groups.iter().any(|group| group == "system:serviceaccounts");
    let ["system", "serviceaccount", namespace, service_account] = parts.as_slice() else {
        return Err(TokenReviewError::NotServiceAccount(name));
    };
    if !in_group || namespace.is_empty() || service_account.is_empty() {
        return Err(TokenReviewError::NotServiceAccount(name));
    }
    let extra = user.extra.unwrap_or_default();
    let first = |key: &str| {
        let values = extra.get(&format!("authentication.kubernetes.io/{key}"));
        values.and_then(|values| values.first()).cloned()
    };
    Ok(TokenIdentity {
        namespace: (*namespace).to_owned(),
        service_account: (*service_account).to_owned(),
        pod: first("pod-name").zip(first("pod-uid")),
    })
}

/// Only finds the place in the table; the token itself is compared.
fn hash(token: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    token.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(status: Value, expected: Result<(&str, &str, Option<&str>), &str>) {
        let review: TokenReview = serde_json::from_value(json!({"spec": {}, "status": status})).expect("a review");
        let found = identity(review, &["istio-ca".to_owned()]);
        match expected {
            Ok((namespace, account, pod)) => {
                let found = found.expect("accepted");
                assert_eq!(
                    (found.namespace.as_str(), found.service_account.as_str()),
                    (namespace, account)
                );
                assert_eq!(found.pod.as_ref().map(|(name, _)| name.as_str()), pod);
            }
            Err(message) => assert_eq!(found.expect_err("refused").to_string(), message),
        }
    }

    fn user(name: &str, groups: &[&str]) -> Value {
        json!({"authenticated": true, "audiences": ["istio-ca"], "user": {"username": name, "groups": groups,
            "extra": {"authentication.kubernetes.io/pod-name": ["p"], "authentication.kubernetes.io/pod-uid": ["u"]}}})
    }

    #[test]
    fn answers_tell_who_and_which_pod() {
        let accounts = ["system:serviceaccounts", "system:serviceaccounts:n"];
        check(user("system:serviceaccount:n:a", &accounts), Ok(("n", "a", Some("p"))));
        check(
            user("system:serviceaccount:n:a", &[]),
            Err("the token belongs to 'system:serviceaccount:n:a', which is no service account"),
        );
        check(
            user("system:serviceaccount:n:a:b", &accounts),
            Err("the token belongs to 'system:serviceaccount:n:a:b', which is no service account"),
        );
        check(
            user("kubernetes-admin", &["system:masters"]),
            Err("the token belongs to 'kubernetes-admin', which is no service account"),
        );
    }

    #[test]
    fn tokens_for_others_are_refused() {
        check(
            json!({"authenticated": true, "audiences": ["https://kubernetes"], "user": {"username": "system:serviceaccount:n:a"}}),
            Err(r#"the token is for the audience ["https://kubernetes"], not for one of ["istio-ca"]"#),
        );
        check(
            json!({"authenticated": true, "user": {"username": "system:serviceaccount:n:a"}}),
            Err(r#"the token is for the audience [], not for one of ["istio-ca"]"#),
        );
        check(
            json!({"error": "it expired"}),
            Err("the token is not valid here: it expired"),
        );
        check(
            json!({}),
            Err("the token is not valid here: the API server gives no reason"),
        );
    }
}
