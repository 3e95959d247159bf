//! AuthorizationPolicy: who may call what.

use corten_derive::{Enumeration, Message, OneOf};

use super::selector::{PolicyTargetReference, WorkloadSelector};

/// Who may do what with some workloads.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    "only one of targetRefs or selector can be set"
))]
pub struct AuthorizationPolicySpec {
    /// The workloads it is for; all of the namespace, when left out.
    pub selector: Option<WorkloadSelector>,
    /// The one object it is attached to; deprecated in favour of `targetRefs`.
    pub target_ref: Option<PolicyTargetReference>,
    /// The objects it is attached to.
    #[api(max_items = 16)]
    pub target_refs: Vec<PolicyTargetReference>,
    /// The rules, of which one must match for the action to be taken.
    #[api(max_items = 512)]
    pub rules: Option<Vec<Rule>>,
    /// What happens to requests that match.
    pub action: AuthorizationPolicyAction,
    /// Who is asked, for action CUSTOM.
    #[api(flatten)]
    pub action_detail: Option<AuthorizationPolicyActionDetail>,
}

/// The authorization policy action detail.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum AuthorizationPolicyActionDetail {
    /// The extension provider to ask.
    Provider(AuthorizationPolicyExtensionProvider),
}

/// The authorization policy extension provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct AuthorizationPolicyExtensionProvider {
    /// The name.
    pub name: String,
}

/// The rule from.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RuleFrom {
    /// The source.
    pub source: Option<Source>,
}

/// The rule to.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RuleTo {
    /// The operation.
    pub operation: Option<Operation>,
}

/// Sources, operations and conditions, which must all match; what is left out matches everything.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Rule {
    /// Who calls; one must match.
    #[api(max_items = 512)]
    pub from: Option<Vec<RuleFrom>>,
    /// What is called; one must match.
    pub to: Option<Vec<RuleTo>>,
    /// Further conditions; all must match.
    pub when: Vec<Condition>,
}

/// Properties of a caller, which must all match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "(has(self.serviceAccounts) || has(self.notServiceAccounts)) ? (!has(self.principals) &&\n!has(self.notPrincipals) && !has(self.namespaces) && !has(self.notNamespaces)) : true",
    "Cannot set serviceAccounts with namespaces or principals"
))]
pub struct Source {
    /// Identities from certificates, as `trust-domain/ns/namespace/sa/account`.
    pub principals: Vec<String>,
    /// The not principals.
    pub not_principals: Vec<String>,
    /// Identities from tokens, as `issuer/subject`.
    pub request_principals: Vec<String>,
    /// The not request principals.
    pub not_request_principals: Vec<String>,
    /// The namespaces.
    pub namespaces: Vec<String>,
    /// The not namespaces.
    pub not_namespaces: Vec<String>,
    /// Service accounts, as `account` or `namespace/account`.
    #[api(items(max_length = 320), max_items = 16)]
    pub service_accounts: Vec<String>,
    /// The not service accounts.
    #[api(items(max_length = 320), max_items = 16)]
    pub not_service_accounts: Vec<String>,
    /// Addresses of the connection.
    pub ip_blocks: Vec<String>,
    /// The not ip blocks.
    pub not_ip_blocks: Vec<String>,
    /// Addresses of the original client, from forwarding headers.
    pub remote_ip_blocks: Vec<String>,
    /// The not remote ip blocks.
    pub not_remote_ip_blocks: Vec<String>,
    /// The trust domains.
    pub trust_domains: Vec<String>,
    /// The not trust domains.
    pub not_trust_domains: Vec<String>,
}

/// Properties of a request, which must all match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Operation {
    /// The hosts.
    pub hosts: Vec<String>,
    /// Hosts of which none may match.
    pub not_hosts: Vec<String>,
    /// The ports.
    pub ports: Vec<String>,
    /// Ports of which none may match.
    pub not_ports: Vec<String>,
    /// Methods of which one must match.
    pub methods: Vec<String>,
    /// Methods of which none may match.
    pub not_methods: Vec<String>,
    /// Paths of which one must match.
    pub paths: Vec<String>,
    /// Paths of which none may match.
    pub not_paths: Vec<String>,
}

/// A condition on an attribute.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Condition {
    /// The attribute, such as `request.headers[User-Agent]`.
    #[api(required)]
    pub key: String,
    /// Values of which one must match.
    pub values: Vec<String>,
    /// Values of which none may match.
    pub not_values: Vec<String>,
}

/// The authorization policy action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum AuthorizationPolicyAction {
    /// Lets through what matches, and nothing else.
    #[default]
    Allow,
    /// Refuses what matches.
    Deny,
    /// Marks what matches for auditing.
    Audit,
    /// Asks an extension provider about what matches.
    Custom,
}
