//! AuthorizationPolicy: who may call what.

use corten_derive::{Enumeration, Message, OneOf};

use super::selector::{PolicyTargetReference, WorkloadSelector};

/// The specification of a authorization policy.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    "only one of targetRefs or selector can be set"
))]
pub struct AuthorizationPolicySpec {
    /// The selector.
    pub selector: Option<WorkloadSelector>,
    /// The target ref.
    pub target_ref: Option<PolicyTargetReference>,
    /// The target refs.
    #[api(max_items = 16)]
    pub target_refs: Vec<PolicyTargetReference>,
    /// The rules.
    #[api(max_items = 512)]
    pub rules: Option<Vec<Rule>>,
    /// The action.
    pub action: AuthorizationPolicyAction,
    /// The action detail.
    #[api(flatten)]
    pub action_detail: Option<AuthorizationPolicyActionDetail>,
}

/// The authorization policy action detail.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum AuthorizationPolicyActionDetail {
    /// The provider.
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

/// The rule.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Rule {
    /// The from.
    #[api(max_items = 512)]
    pub from: Option<Vec<RuleFrom>>,
    /// The to.
    pub to: Option<Vec<RuleTo>>,
    /// The when.
    pub when: Vec<Condition>,
}

/// The source.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "(has(self.serviceAccounts) || has(self.notServiceAccounts)) ? (!has(self.principals) &&\n!has(self.notPrincipals) && !has(self.namespaces) && !has(self.notNamespaces)) : true",
    "Cannot set serviceAccounts with namespaces or principals"
))]
pub struct Source {
    /// The principals.
    pub principals: Vec<String>,
    /// The not principals.
    pub not_principals: Vec<String>,
    /// The request principals.
    pub request_principals: Vec<String>,
    /// The not request principals.
    pub not_request_principals: Vec<String>,
    /// The namespaces.
    pub namespaces: Vec<String>,
    /// The not namespaces.
    pub not_namespaces: Vec<String>,
    /// The service accounts.
    #[api(items(max_length = 320), max_items = 16)]
    pub service_accounts: Vec<String>,
    /// The not service accounts.
    #[api(items(max_length = 320), max_items = 16)]
    pub not_service_accounts: Vec<String>,
    /// The ip blocks.
    pub ip_blocks: Vec<String>,
    /// The not ip blocks.
    pub not_ip_blocks: Vec<String>,
    /// The remote ip blocks.
    pub remote_ip_blocks: Vec<String>,
    /// The not remote ip blocks.
    pub not_remote_ip_blocks: Vec<String>,
    /// The trust domains.
    pub trust_domains: Vec<String>,
    /// The not trust domains.
    pub not_trust_domains: Vec<String>,
}

/// The operation.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Operation {
    /// The hosts.
    pub hosts: Vec<String>,
    /// The not hosts.
    pub not_hosts: Vec<String>,
    /// The ports.
    pub ports: Vec<String>,
    /// The not ports.
    pub not_ports: Vec<String>,
    /// The methods.
    pub methods: Vec<String>,
    /// The not methods.
    pub not_methods: Vec<String>,
    /// The paths.
    pub paths: Vec<String>,
    /// The not paths.
    pub not_paths: Vec<String>,
}

/// The condition.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Condition {
    /// The key.
    #[api(required)]
    pub key: String,
    /// The values.
    pub values: Vec<String>,
    /// The not values.
    pub not_values: Vec<String>,
}

/// The authorization policy action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum AuthorizationPolicyAction {
    /// The value `ALLOW`.
    #[default]
    Allow,
    /// The value `DENY`.
    Deny,
    /// The value `AUDIT`.
    Audit,
    /// The value `CUSTOM`.
    Custom,
}
