//! Which endpoint a request goes to, where a rule wants the same for the same caller.

use corten_api::istio::destination_rule::{
    ConsistentHashLB, ConsistentHashLBHashKey, LoadBalancerSettings, LoadBalancerSettingsLbPolicy, PortTrafficPolicy,
    TrafficPolicy,
};
use corten_core::Host;
use corten_envoy::envoy::config::route::v3::route_action::{
    HashPolicy,
    hash_policy::{ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter},
};

use super::http::span;
use crate::Context;

fn consistent(settings: Option<&LoadBalancerSettings>) -> Option<&ConsistentHashLB> {
    match settings?.lb_policy.as_ref()? {
        LoadBalancerSettingsLbPolicy::ConsistentHash(hash) => Some(hash),
        LoadBalancerSettingsLbPolicy::Simple(_) | LoadBalancerSettingsLbPolicy::BackendUtilization(_) => None,
    }
}

/// What a rule wants of requests to a host; `port` if the route names one, or the service is called by its own.
pub(super) fn wanted(cx: &Context<'_>, host: &Host, subset: &str, port: Option<u16>) -> Option<ConsistentHashLB> {
    let service = cx.scope.service(host)?;
    let rule = cx.scope.destination_rule(service)?;
    let whole = |policy: &'_ TrafficPolicy| consistent(policy.load_balancer.as_ref()).cloned();
    let of_port = |policy: &TrafficPolicy| {
        let is_it = |of: &&PortTrafficPolicy| of.port.as_ref().map(|port| port.number.0) == port;
        let settings = port.and_then(|_| policy.port_level_settings.iter().find(is_it))?;
        consistent(settings.load_balancer.as_ref()).cloned()
    };
    let base = rule.spec.traffic_policy.as_ref();
    let own = rule.spec.subsets.iter().find(|own| own.name == subset);
    let own = own.and_then(|own| own.traffic_policy.as_ref());
    own.and_then(of_port)
        .or_else(|| own.and_then(whole))
        .or_else(|| base.and_then(of_port))
        .or_else(|| base.and_then(whole))
}

/// In Envoy's form.
pub(super) fn policy(hash: &ConsistentHashLB) -> Option<HashPolicy> {
    let specifier = match hash.hash_key.as_ref()? {
        ConsistentHashLBHashKey::HttpHeaderName(name) => PolicySpecifier::Header(Header {
            header_name: name.clone(),
            ..Header::default()
        }),
        ConsistentHashLBHashKey::HttpCookie(cookie) => PolicySpecifier::Cookie(Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.map(span),
            path: cookie.path.clone(),
            attributes: cookie
                .attributes
                .iter()
                .map(|attribute| CookieAttribute {
                    name: attribute.name.clone(),
                    value: attribute.value.clone(),
                })
                .collect(),
        }),
        ConsistentHashLBHashKey::UseSourceIp(wanted) => {
            PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: *wanted })
        }
        ConsistentHashLBHashKey::HttpQueryParameterName(name) => {
            PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() })
        }
    };
    Some(HashPolicy {
        policy_specifier: Some(specifier),
        ..HashPolicy::default()
    })
}
