//! Policies as `istio.security` has them.

use std::net::IpAddr;

use corten_model::{
    Policy,
    policy::{Action, Clause, Match, Pattern, PolicyScope, Rule, ServiceAccount},
};
use corten_proto::security::{self as proto, string_match::MatchType};
use ipnet::IpNet;

/// A policy's message.
pub fn message(policy: &Policy) -> proto::Authorization {
    proto::Authorization {
        name: policy.name.to_string(),
        namespace: policy.namespace.to_string(),
        scope: match policy.scope {
            PolicyScope::Global => proto::Scope::Global,
            PolicyScope::Namespace => proto::Scope::Namespace,
            PolicyScope::Selector => proto::Scope::WorkloadSelector,
        }
        .into(),
        action: match policy.action {
            Action::Allow => proto::Action::Allow,
            Action::Deny => proto::Action::Deny,
        }
        .into(),
        rules: policy.rules.iter().map(rule).collect(),
        dry_run: policy.dry_run,
    }
}

fn rule(rule: &Rule) -> proto::Rule {
    proto::Rule {
        clauses: rule.clauses.iter().map(clause).collect(),
    }
}

fn clause(clause: &Clause) -> proto::Clause {
    proto::Clause {
        matches: clause.matches.iter().map(one).collect(),
    }
}

fn one(one: &Match) -> proto::Match {
    let patterns = |list: &[Pattern]| list.iter().map(pattern).collect();
    let ranges = |list: &[IpNet]| list.iter().map(range).collect();
    let ports = |list: &[u16]| list.iter().map(|port| u32::from(*port)).collect();
    let accounts = |list: &[ServiceAccount]| list.iter().map(account).collect();
    proto::Match {
        namespaces: patterns(&one.namespaces),
        not_namespaces: patterns(&one.not_namespaces),
        principals: patterns(&one.principals),
        not_principals: patterns(&one.not_principals),
        source_ips: ranges(&one.source_ips),
        not_source_ips: ranges(&one.not_source_ips),
        destination_ips: ranges(&one.destination_ips),
        not_destination_ips: ranges(&one.not_destination_ips),
        destination_ports: ports(&one.destination_ports),
        not_destination_ports: ports(&one.not_destination_ports),
        service_accounts: accounts(&one.service_accounts),
        not_service_accounts: accounts(&one.not_service_accounts),
    }
}

fn pattern(pattern: &Pattern) -> proto::StringMatch {
    proto::StringMatch {
        match_type: Some(match pattern {
            Pattern::Exact(text) => MatchType::Exact(text.clone()),
            Pattern::Prefix(text) => MatchType::Prefix(text.clone()),
            Pattern::Suffix(text) => MatchType::Suffix(text.clone()),
            Pattern::Present => MatchType::Presence(()),
        }),
    }
}

fn range(range: &IpNet) -> proto::Address {
    proto::Address {
        address: match range.addr() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        },
        length: range.prefix_len().into(),
    }
}

fn account(account: &ServiceAccount) -> proto::ServiceAccountMatch {
    proto::ServiceAccountMatch {
        namespace: account.namespace.clone(),
        service_account: account.name.clone(),
    }
}
