//! EnvoyFilter: whether its patches name something to patch. What they patch is Envoy's configuration, which is not
//! known here.

use super::{Context, Report, Validate, selector, text};
use crate::istio::envoy_filter::{
    EnvoyConfigObjectMatchObjectTypes as Object, EnvoyConfigObjectPatch, EnvoyFilterApplyTo as ApplyTo,
    EnvoyFilterPatchOperation as Operation, EnvoyFilterSpec, ListenerMatchFilterMatch, PatchContext,
};

const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// Names that filters had before they were spelled out; with what they are called now.
const OLD_NAMES: [(&str, &str); 27] = [
    ("envoy.buffer", "envoy.filters.http.buffer"),
    ("envoy.cors", "envoy.filters.http.cors"),
    ("envoy.csrf", "envoy.filters.http.csrf"),
    ("envoy.http_dynamo_filter", "envoy.filters.http.dynamo"),
    (
        "envoy.ext_authz",
        "envoy.filters.http.ext_authz or envoy.filters.network.ext_authz",
    ),
    ("envoy.fault", "envoy.filters.http.fault"),
    ("envoy.grpc_http1_bridge", "envoy.filters.http.grpc_http1_bridge"),
    ("envoy.grpc_json_transcoder", "envoy.filters.http.grpc_json_transcoder"),
    ("envoy.grpc_web", "envoy.filters.http.grpc_web"),
    ("envoy.gzip", "envoy.filters.http.gzip"),
    ("envoy.health_check", "envoy.filters.http.health_check"),
    ("envoy.ip_tagging", "envoy.filters.http.ip_tagging"),
    ("envoy.lua", "envoy.filters.http.lua"),
    ("envoy.rate_limit", "envoy.filters.http.ratelimit"),
    ("envoy.router", "envoy.filters.http.router"),
    ("envoy.squash", "envoy.filters.http.squash"),
    ("envoy.listener.http_inspector", "envoy.filters.listener.http_inspector"),
    ("envoy.listener.original_dst", "envoy.filters.listener.original_dst"),
    ("envoy.listener.original_src", "envoy.filters.listener.original_src"),
    ("envoy.listener.proxy_protocol", "envoy.filters.listener.proxy_protocol"),
    ("envoy.listener.tls_inspector", "envoy.filters.listener.tls_inspector"),
    ("envoy.client_ssl_auth", "envoy.filters.network.client_ssl_auth"),
    ("envoy.http_connection_manager", CONNECTION_MANAGER),
    ("envoy.mongo_proxy", "envoy.filters.network.mongo_proxy"),
    ("envoy.ratelimit", "envoy.filters.network.ratelimit"),
    ("envoy.redis_proxy", "envoy.filters.network.redis_proxy"),
    ("envoy.tcp_proxy", "envoy.filters.network.tcp_proxy"),
];

impl Validate for EnvoyFilterSpec {
    fn validate(&self, _: Context<'_>, report: &mut Report) {
        let before = report.errors();
        selector::workload_selector(self.workload_selector.as_ref(), report);
        if report.errors() > before {
            return;
        }
        report.warning("spec", "patches what the control plane generates, which changes from version to version; use other APIs where they can do it");
        for (i, patch) in self.config_patches.iter().enumerate() {
            config_patch(&format!("spec.configPatches[{i}]"), patch, report);
        }
    }
}

fn config_patch(at: &str, config: &EnvoyConfigObjectPatch, report: &mut Report) {
    if config
        .match_
        .as_ref()
        .is_some_and(|m| m.context == PatchContext::Waypoint)
    {
        return;
    }
    if config.apply_to == ApplyTo::Invalid {
        report.error(format!("{at}.applyTo"), "required");
        return;
    }
    let Some(patch) = &config.patch else {
        report.error(format!("{at}.patch"), "required");
        return;
    };
    if patch.operation == Operation::Invalid {
        report.error(format!("{at}.patch.operation"), "required");
        return;
    }
    if patch.operation != Operation::Remove && patch.value.is_none() {
        report.error(format!("{at}.patch.value"), "required for all operations but REMOVE");
        return;
    }
    let Some(matched) = &config.match_ else { return };
    if let Some(proxy) = matched.proxy.as_ref().filter(|proxy| !proxy.proxy_version.is_empty()) {
        const LONGEST: usize = 1024;
        let at = format!("{at}.match.proxy.proxyVersion");
        if proxy.proxy_version.len() > LONGEST {
            report.warning(at, format!("is longer than {LONGEST} characters and is ignored"));
        } else if let Err(problem) = text::compile(&proxy.proxy_version) {
            report.error(at, problem);
            return;
        }
    }
    let Some(object) = &matched.object_types else { return };
    let fits = match config.apply_to {
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::NetworkFilter | ApplyTo::HttpFilter => {
            matches!(object, Object::Listener(_))
        }
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute => {
            matches!(object, Object::RouteConfiguration(_))
        }
        ApplyTo::Cluster => matches!(object, Object::Cluster(_)),
        _ => true,
    };
    if !fits {
        report.error(
            format!("{at}.match"),
            "matches another kind of object than applyTo patches",
        );
        return;
    }
    let looks_at_filters = matches!(
        config.apply_to,
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::NetworkFilter | ApplyTo::HttpFilter
    );
    if let (true, Object::Listener(listener)) = (looks_at_filters, object)
        && let Some(filter) = listener.filter_chain.as_ref().and_then(|chain| chain.filter.as_ref())
    {
        filter_match(
            &format!("{at}.match.listener.filterChain.filter"),
            filter,
            config.apply_to,
            report,
        );
    }
}

fn filter_match(at: &str, filter: &ListenerMatchFilterMatch, apply_to: ApplyTo, report: &mut Report) {
    if matches!(apply_to, ApplyTo::Listener | ApplyTo::FilterChain) {
        report.warning(at, "has no effect: listeners and filter chains are patched whole");
    }
    if filter.name.is_empty() {
        report.error(format!("{at}.name"), "required");
        return;
    }
    if let Some(inner) = &filter.sub_filter {
        let at = format!("{at}.subFilter");
        if apply_to != ApplyTo::HttpFilter {
            report.error(at, "only with applyTo HTTP_FILTER");
            return;
        }
        if filter.name != CONNECTION_MANAGER && filter.name != "envoy.http_connection_manager" {
            report.error(at, format!("only within the filter {CONNECTION_MANAGER}"));
            return;
        }
        if inner.name.is_empty() {
            report.error(format!("{at}.name"), "required");
            return;
        }
        old_name(&format!("{at}.name"), &inner.name, report);
    }
    old_name(&format!("{at}.name"), &filter.name, report);
}

fn old_name(at: &str, name: &str, report: &mut Report) {
    if let Some((_, new)) = OLD_NAMES.iter().find(|(old, _)| *old == name) {
        report.warning(at, format!("an old name; use {new}"));
    }
}
