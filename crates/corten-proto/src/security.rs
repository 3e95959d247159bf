//! `istio.security`: authorization as a node proxy evaluates it.
//!
//! The same messages carry other names in Istio's two trees (group/rules, rule/clause); the numbers agree.

/// A policy.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Authorization {
    /// Name of the policy.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Namespace of the policy.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Whom it applies to.
    #[prost(enumeration = "Scope", tag = "3")]
    pub scope: i32,
    /// What a match means.
    #[prost(enumeration = "Action", tag = "4")]
    pub action: i32,
    /// Alternatives. None: the policy never matches.
    #[prost(message, repeated, tag = "5")]
    pub rules: Vec<Rule>,
    /// Matches are only logged.
    #[prost(bool, tag = "6")]
    pub dry_run: bool,
}

/// Clauses that must all hold. None: everything matches.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Rule {
    /// The clauses.
    #[prost(message, repeated, tag = "1")]
    pub clauses: Vec<Clause>,
}

/// Matches of which one must hold. None: the clause holds.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Clause {
    /// The matches.
    #[prost(message, repeated, tag = "2")]
    pub matches: Vec<Match>,
}

/// Fields that must all hold; a match whose lists are all empty never holds.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Match {
    /// Caller's namespace is one of these.
    #[prost(message, repeated, tag = "1")]
    pub namespaces: Vec<StringMatch>,
    /// Caller's namespace is none of these.
    #[prost(message, repeated, tag = "2")]
    pub not_namespaces: Vec<StringMatch>,
    /// Caller's identity, without `spiffe://`, is one of these.
    #[prost(message, repeated, tag = "3")]
    pub principals: Vec<StringMatch>,
    /// Caller's identity is none of these.
    #[prost(message, repeated, tag = "4")]
    pub not_principals: Vec<StringMatch>,
    /// Caller's address is in one of these.
    #[prost(message, repeated, tag = "5")]
    pub source_ips: Vec<Address>,
    /// Caller's address is in none of these.
    #[prost(message, repeated, tag = "6")]
    pub not_source_ips: Vec<Address>,
    /// Destination address is in one of these.
    #[prost(message, repeated, tag = "7")]
    pub destination_ips: Vec<Address>,
    /// Destination address is in none of these.
    #[prost(message, repeated, tag = "8")]
    pub not_destination_ips: Vec<Address>,
    /// Destination port is one of these.
    #[prost(uint32, repeated, tag = "9")]
    pub destination_ports: Vec<u32>,
    /// Destination port is none of these.
    #[prost(uint32, repeated, tag = "10")]
    pub not_destination_ports: Vec<u32>,
    /// Caller's service account is one of these, whatever its trust domain.
    #[prost(message, repeated, tag = "11")]
    pub service_accounts: Vec<ServiceAccountMatch>,
    /// Caller's service account is none of these.
    #[prost(message, repeated, tag = "12")]
    pub not_service_accounts: Vec<ServiceAccountMatch>,
}

/// An address range.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Address {
    /// 4 or 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub address: Vec<u8>,
    /// Prefix length in bits.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// A service account of a namespace.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ServiceAccountMatch {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Service account.
    #[prost(string, tag = "2")]
    pub service_account: String,
}

/// A pattern for text.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct StringMatch {
    /// The pattern.
    #[prost(oneof = "string_match::MatchType", tags = "1, 2, 3, 4")]
    pub match_type: Option<string_match::MatchType>,
}

/// The forms of [`StringMatch`].
pub mod string_match {
    /// One form.
    #[derive(Clone, PartialEq, Eq, Hash, prost::Oneof)]
    pub enum MatchType {
        /// The whole text.
        #[prost(string, tag = "1")]
        Exact(String),
        /// Its beginning.
        #[prost(string, tag = "2")]
        Prefix(String),
        /// Its end.
        #[prost(string, tag = "3")]
        Suffix(String),
        /// Any text that is not empty.
        #[prost(message, tag = "4")]
        Presence(()),
    }
}

/// Whom a policy applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Scope {
    /// Every workload.
    Global = 0,
    /// Every workload of the policy's namespace.
    Namespace = 1,
    /// The workloads that list the policy.
    WorkloadSelector = 2,
}

/// What a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Action {
    /// The connection may pass.
    Allow = 0,
    /// The connection is refused.
    Deny = 1,
}
