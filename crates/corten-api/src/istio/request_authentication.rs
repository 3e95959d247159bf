//! RequestAuthentication: which tokens are accepted.

use corten_core::Duration;
use corten_derive::{Enumeration, Message};

use super::selector::{PolicyTargetReference, WorkloadSelector};

/// The specification of a request authentication.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    "only one of targetRefs or selector can be set"
))]
pub struct RequestAuthenticationSpec {
    /// The selector.
    pub selector: Option<WorkloadSelector>,
    /// The target ref.
    pub target_ref: Option<PolicyTargetReference>,
    /// The target refs.
    #[api(max_items = 16)]
    pub target_refs: Vec<PolicyTargetReference>,
    /// The jwt rules.
    #[api(max_items = 4096)]
    pub jwt_rules: Vec<JWTRule>,
}

/// The JWT rule.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "(has(self.jwksUri) ? 1 : 0) + (has(self.jwks_uri) ? 1 : 0) + (has(self.jwks) ? 1 : 0) <= 1",
    "only one of jwks or jwksUri can be set"
))]
pub struct JWTRule {
    /// The issuer.
    #[api(min_length = 1)]
    pub issuer: String,
    /// The audiences.
    #[api(items(min_length = 1))]
    pub audiences: Vec<String>,
    /// The jwks uri.
    #[api(
        also = "jwks_uri",
        max_length = 2048,
        min_length = 1,
        rule(
            r#"url(self).getScheme() in ["http", "https"]"#,
            "url must have scheme http:// or https://"
        )
    )]
    pub jwks_uri: String,
    /// The jwks.
    pub jwks: String,
    /// The from headers.
    pub from_headers: Vec<JWTHeader>,
    /// The from params.
    #[api(items(min_length = 1))]
    pub from_params: Vec<String>,
    /// The output payload to header.
    pub output_payload_to_header: String,
    /// The from cookies.
    #[api(items(min_length = 1))]
    pub from_cookies: Vec<String>,
    /// The forward original token.
    pub forward_original_token: bool,
    /// The output claim to headers.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// The timeout.
    #[api(duration_rule)]
    pub timeout: Option<Duration>,
    /// The space delimited claims.
    #[api(items(min_length = 1), max_items = 64)]
    pub space_delimited_claims: Vec<String>,
    /// The presence.
    pub presence: Presence,
}

/// The JWT header.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct JWTHeader {
    /// The name.
    #[api(required, min_length = 1)]
    pub name: String,
    /// The prefix.
    pub prefix: String,
}

/// The claim to header.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ClaimToHeader {
    /// The header.
    #[api(required, min_length = 1, pattern = "^[-_A-Za-z0-9]+$")]
    pub header: String,
    /// The claim.
    #[api(required, min_length = 1)]
    pub claim: String,
}

/// The presence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum Presence {
    /// The value `OPTIONAL`.
    #[default]
    Optional,
    /// The value `REQUIRED`.
    Required,
}
