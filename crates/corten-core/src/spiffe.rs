//! Workload identities: SPIFFE ids of the form `spiffe://trust-domain/ns/namespace/sa/service-account`.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// Who a workload is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The domain whose authority vouches for it.
    pub trust_domain: String,
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
}

/// The text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdentityError {
    /// Another form.
    #[error("'{0}' is not of the form spiffe://trust-domain/ns/namespace/sa/service-account")]
    Form(String),
    /// A part is missing.
    #[error("an identity needs a namespace and a service account, given were '{namespace}' and '{service_account}'")]
    Incomplete {
        /// The namespace.
        namespace: String,
        /// The service account.
        service_account: String,
    },
}

const SCHEME: &str = "spiffe://";

impl Identity {
    /// From its parts. An `@` in a trust domain, which cloud accounts bring, becomes a dot.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Identity, ParseIdentityError> {
        if namespace.is_empty() || service_account.is_empty() {
            let (namespace, service_account) = (namespace.to_owned(), service_account.to_owned());
            return Err(ParseIdentityError::Incomplete {
                namespace,
                service_account,
            });
        }
        Ok(Identity {
            trust_domain: trust_domain.replace('@', "."),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        })
    }
}

impl FromStr for Identity {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Identity, ParseIdentityError> {
        let parts: Vec<&str> = text.strip_prefix(SCHEME).unwrap_or_default().split('/').collect();
        match parts.as_slice() {
            [trust_domain, "ns", namespace, "sa", service_account] => Ok(Identity {
                trust_domain: (*trust_domain).to_owned(),
                namespace: (*namespace).to_owned(),
                service_account: (*service_account).to_owned(),
            }),
            _ => Err(ParseIdentityError::Form(text.escape_debug().take(200).collect())),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{SCHEME}{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

/// The identities, and each of them in every other trust domain; what is not an identity stays as it is.
pub fn expand_trust_domains(identities: &BTreeSet<String>, trust_domains: &[String]) -> BTreeSet<String> {
    let mut expanded = identities.clone();
    for identity in identities.iter().filter_map(|text| text.parse::<Identity>().ok()) {
        for trust_domain in trust_domains {
            expanded.insert(
                Identity {
                    trust_domain: trust_domain.clone(),
                    ..identity.clone()
                }
                .to_string(),
            );
        }
    }
    expanded
}
