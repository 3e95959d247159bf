//! What becomes of requests that a route takes.

use corten_api::istio::virtual_service::{
    Destination, HTTPBodySpecifier, HTTPDirectResponse, HTTPRedirect, HTTPRedirectRedirectPort, HTTPRewrite, HTTPRoute,
    HTTPRouteDestination, RedirectPortSelection,
};
use corten_envoy::{
    boolean,
    envoy::{
        config::{
            core::v3::{DataSource, RuntimeFractionalPercent, data_source},
            route::v3::{
                DirectResponseAction, RedirectAction, Route, RouteAction, WeightedCluster,
                redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
                route::Action,
                route_action::{
                    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
                },
                route_match::PathSpecifier,
                weighted_cluster::{ClusterWeight, cluster_weight},
            },
        },
        r#type::matcher::v3::RegexMatchAndSubstitute,
    },
    google::protobuf::Duration,
    seconds, uint32,
};
use corten_routing::VirtualService;

use super::{
    filter, hash,
    header::Changes,
    http::{At, cluster, is_gateway, span, tells_host},
    matching::expression,
    retry,
};
use crate::{Context, names};

/// Gives a route its action and what it changes about headers.
pub(super) fn apply(cx: &Context<'_>, route: &mut Route, service: &VirtualService, written: &HTTPRoute, at: &At<'_>) {
    let changes = Changes::of(written.headers.as_ref());
    let authority = changes.authority.clone();
    put_headers(route, changes);
    route.action = if let Some(redirect) = &written.redirect {
        Some(redirect_to(redirect, at).map_or_else(misconfigured, Action::Redirect))
    } else if let Some(response) = &written.direct_response {
        Some(Action::DirectResponse(answer(response)))
    } else {
        Some(forward(cx, route, service, written, authority, at))
    };
}

/// An action that gives requests a time, 0 for as long as they take; those of gRPC do not choose a longer one.
#[expect(
    deprecated,
    reason = "what replaces it bounds streams that say nothing about time as well"
)]
pub(super) fn within(timeout: Duration) -> RouteAction {
    RouteAction {
        timeout: Some(timeout),
        max_grpc_timeout: Some(timeout),
        ..RouteAction::default()
    }
}

fn put_headers(route: &mut Route, changes: Changes) {
    route.request_headers_to_add.extend(changes.request_add);
    route.request_headers_to_remove.extend(changes.request_remove);
    route.response_headers_to_add.extend(changes.response_add);
    route.response_headers_to_remove.extend(changes.response_remove);
}

/// Sends requests on. A route that leads nowhere answers that it is wrongly configured.
fn forward(
    cx: &Context<'_>,
    route: &mut Route,
    service: &VirtualService,
    written: &HTTPRoute,
    authority: Option<String>,
    at: &At<'_>,
) -> Action {
    let mut action = RouteAction {
        request_mirror_policies: mirrors(written, at),
        ..within(written.timeout.map_or_else(|| seconds(0), span))
    };
    if is_gateway(service) {
        action.cluster_not_found_response_code = ClusterNotFoundResponseCode::InternalServerError.into();
    }
    let mut authority = authority;
    if let Some(rewrite) = &written.rewrite {
        action.append_x_forwarded_host = tells_host(cx);
        rewrite_path(&mut action, rewrite, route, service);
        authority = Some(rewrite.authority.clone())
            .filter(|host| !host.is_empty())
            .or(authority);
    }
    let mut hashed = false;
    if let [only] = written.route.as_slice() {
        let changes = Changes::of(only.headers.as_ref());
        authority = authority.or_else(|| changes.authority.clone());
        put_headers(route, changes);
        hashed = put_hash(cx, &mut action, only);
        action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster_at(only, at)));
    } else {
        let mut clusters = Vec::new();
        for to in &written.route {
            if let Some(weight) = u32::try_from(to.weight).ok().filter(|weight| *weight > 0) {
                put_hash(cx, &mut action, to);
                clusters.push(weighted(to, weight, at));
            }
        }
        if clusters.is_empty() {
            return misconfigured();
        }
        action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters,
            ..WeightedCluster::default()
        }));
    }
    action.host_rewrite_specifier = authority.map(HostRewriteSpecifier::HostRewriteLiteral);
    let policy = written
        .retries
        .as_ref()
        .or_else(|| cx.mesh().default_http_retry_policy.as_ref());
    action.retry_policy = retry::outbound(policy, hashed);
    Action::Route(action)
}

/// What becomes of requests that a route takes and cannot do anything with.
fn misconfigured() -> Action {
    Action::DirectResponse(DirectResponseAction {
        status: 500,
        ..DirectResponseAction::default()
    })
}

fn cluster_at(to: &HTTPRouteDestination, at: &At<'_>) -> String {
    match &to.destination {
        Some(destination) => cluster(destination, at),
        None => names::UNKNOWN_SERVICE.to_owned(),
    }
}

/// A destination among several.
fn weighted(to: &HTTPRouteDestination, weight: u32, at: &At<'_>) -> ClusterWeight {
    let changes = Changes::of(to.headers.as_ref());
    ClusterWeight {
        name: cluster_at(to, at),
        weight: uint32(weight),
        request_headers_to_add: changes.request_add,
        request_headers_to_remove: changes.request_remove,
        response_headers_to_add: changes.response_add,
        response_headers_to_remove: changes.response_remove,
        host_rewrite_specifier: changes
            .authority
            .map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
        ..ClusterWeight::default()
    }
}

/// Adds what the rule for a destination says about hashing; whether it says anything.
fn put_hash(cx: &Context<'_>, action: &mut RouteAction, to: &HTTPRouteDestination) -> bool {
    let Some(destination) = &to.destination else {
        return false;
    };
    let port = destination.port.as_ref().map(|port| port.number.0);
    let wanted = hash::wanted(cx, &destination.host, &destination.subset, port);
    action.hash_policy.extend(wanted.as_ref().and_then(hash::policy));
    wanted.is_some()
}

fn rewrite_path(action: &mut RouteAction, rewrite: &HTTPRewrite, route: &Route, service: &VirtualService) {
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        action.regex_rewrite = Some(RegexMatchAndSubstitute {
            pattern: Some(expression(&regex.match_)),
            substitution: regex.rewrite.clone(),
        });
    } else if is_gateway(service) && rewrite.uri == "/" {
        // A prefix that is taken away entirely must not leave two slashes, nor none.
        let prefix = match route.r#match.as_ref().and_then(|of| of.path_specifier.as_ref()) {
            Some(PathSpecifier::PathSeparatedPrefix(prefix)) => prefix.as_str(),
            _ => "",
        };
        action.regex_rewrite = Some(RegexMatchAndSubstitute {
            pattern: Some(expression(&format!("^{}(/?)(.*)", regex::escape(prefix)))),
            substitution: r"/\2".to_owned(),
        });
    } else {
        action.prefix_rewrite.clone_from(&rewrite.uri);
    }
}

/// The clusters that are sent copies, and how many.
fn mirrors(written: &HTTPRoute, at: &At<'_>) -> Vec<RequestMirrorPolicy> {
    let all = || Some(filter::percent(100));
    let first = written.mirror.as_ref().and_then(|mirror| {
        let share = match (&written.mirror_percentage, written.mirror_percent) {
            (Some(share), _) => (share.value > 0.0).then(|| filter::share(share)),
            (None, Some(share)) => (share > 0).then(|| filter::percent(share)),
            (None, None) => all(),
        };
        Some((mirror, filter::fraction(share?)))
    });
    let more = written.mirrors.iter().filter_map(|policy| {
        let share = match &policy.percentage {
            Some(share) => (share.value > 0.0).then(|| filter::share(share)),
            None => all(),
        };
        Some((policy.destination.as_ref()?, filter::fraction(share?)))
    });
    let made = |(to, share): (&Destination, RuntimeFractionalPercent)| RequestMirrorPolicy {
        cluster: cluster(to, at),
        runtime_fraction: Some(share),
        trace_sampled: boolean(false),
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    };
    first.into_iter().chain(more).map(made).collect()
}

/// The redirection; `None`: its status is none of redirection.
fn redirect_to(redirect: &HTTPRedirect, at: &At<'_>) -> Option<RedirectAction> {
    let code = match redirect.redirect_code {
        0 | 301 => RedirectResponseCode::MovedPermanently,
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => return None,
    };
    let port = match &redirect.redirect_port {
        Some(HTTPRedirectRedirectPort::Port(port)) => port.0,
        Some(HTTPRedirectRedirectPort::DerivePort(RedirectPortSelection::FromRequestPort)) => at.port,
        Some(HTTPRedirectRedirectPort::DerivePort(RedirectPortSelection::FromProtocolDefault)) | None => 0,
    };
    let scheme = match redirect.scheme.as_str() {
        "" if at.tls => "https",
        "" => "http",
        scheme => scheme,
    };
    let is_default = matches!((port, scheme), (80, "http") | (443, "https"));
    let path = if redirect.prefix_rewrite.is_empty() {
        PathRewriteSpecifier::PathRedirect(redirect.uri.clone())
    } else {
        PathRewriteSpecifier::PrefixRewrite(redirect.prefix_rewrite.clone())
    };
    Some(RedirectAction {
        host_redirect: redirect.authority.clone(),
        port_redirect: if is_default { 0 } else { port.into() },
        response_code: code.into(),
        scheme_rewrite_specifier: (!redirect.scheme.is_empty())
            .then(|| SchemeRewriteSpecifier::SchemeRedirect(redirect.scheme.clone())),
        path_rewrite_specifier: Some(path),
        ..RedirectAction::default()
    })
}

fn answer(response: &HTTPDirectResponse) -> DirectResponseAction {
    let body = response.body.as_ref().and_then(|body| body.specifier.as_ref());
    let body = body.map(|body| match body {
        HTTPBodySpecifier::String(text) => data_source::Specifier::InlineString(text.clone()),
        HTTPBodySpecifier::Bytes(bytes) => data_source::Specifier::InlineBytes(bytes.0.clone()),
    });
    DirectResponseAction {
        status: response.status,
        body: body.map(|specifier| DataSource {
            specifier: Some(specifier),
            ..DataSource::default()
        }),
        ..DirectResponseAction::default()
    }
}
