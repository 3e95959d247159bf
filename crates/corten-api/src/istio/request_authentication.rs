//! RequestAuthentication: which tokens are accepted.

use corten_core::Duration;
use corten_derive::{Enumeration, Message};

use super::selector::{PolicyTargetReference, WorkloadSelector};

/// Which tokens requests may carry; requests with others are refused.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    "only one of targetRefs or selector can be set"
))]
pub struct RequestAuthenticationSpec {
    /// The workloads it is for; all of the namespace, when left out.
    pub selector: Option<WorkloadSelector>,
    /// The one object it is attached to; deprecated in favour of `targetRefs`.
    pub target_ref: Option<PolicyTargetReference>,
    /// The objects it is attached to.
    #[api(max_items = 16)]
    pub target_refs: Vec<PolicyTargetReference>,
    /// The issuers and where their tokens stand.
    #[api(max_items = 4096)]
    pub jwt_rules: Vec<JWTRule>,
}

/// One issuer of tokens.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "(has(self.jwksUri) ? 1 : 0) + (has(self.jwks_uri) ? 1 : 0) + (has(self.jwks) ? 1 : 0) <= 1",
    "only one of jwks or jwksUri can be set"
))]
pub struct JWTRule {
    /// The issuer as tokens name it.
    #[api(min_length = 1)]
    pub issuer: String,
    /// Audiences of which a token must have one.
    #[api(items(min_length = 1))]
    pub audiences: Vec<String>,
    /// Where the issuer publishes its keys.
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
    /// The issuer's keys themselves.
    pub jwks: String,
    /// Headers that carry the token.
    pub from_headers: Vec<JWTHeader>,
    /// Query parameters that carry the token.
    #[api(items(min_length = 1))]
    pub from_params: Vec<String>,
    /// The header that gets the token's payload.
    pub output_payload_to_header: String,
    /// Cookies that carry the token.
    #[api(items(min_length = 1))]
    pub from_cookies: Vec<String>,
    /// Whether the workload sees the token.
    pub forward_original_token: bool,
    /// Claims that are copied to headers.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// How long fetching the keys may take.
    #[api(duration_rule)]
    pub timeout: Option<Duration>,
    /// Claims whose texts are lists separated by blanks.
    #[api(items(min_length = 1), max_items = 64)]
    pub space_delimited_claims: Vec<String>,
    /// Whether a token must be there.
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
    /// Requests without a token are let through.
    #[default]
    Optional,
    /// Requests without a token are refused.
    Required,
}
