//! What VirtualServices and Sidecars say that takes no effect.

use std::collections::{BTreeMap, HashMap};

use corten_api::{
    diagnostic::Diagnostic,
    istio::{
        destination_rule::{ConnectionPoolSettings, HTTPSettingsH2UpgradePolicy},
        sidecar::{OutboundTrafficPolicyMode, SidecarSpec},
        virtual_service::{
            AbortErrorType, DelayHttpDelayType, HTTPFaultInjection, HTTPMatchRequest, HTTPRetry, HTTPRoute, Headers,
            L4MatchAttributes, RouteDestination, StringMatchMatchType, VirtualServiceSpec,
        },
    },
};
use corten_core::Host;
use corten_routing::{About, Catalog, Config, MESH_GATEWAY, Semantics, VirtualService, by_age};

use super::{filter::grpc_status, retry::is_status, routing_claim};

/// What takes no effect, by object and field. What decides about it is the mesh alone, not who asks.
pub fn diagnostics(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut said = shadowed(catalog);
    for config in catalog.configs.virtual_services.values() {
        let mut object = Object::of("VirtualService", config);
        object.virtual_service(&config.spec);
        said.extend(object.said);
    }
    said.extend(sidecars(catalog));
    said.sort_by(|a, b| (&a.object, &a.path).cmp(&(&b.object, &b.path)));
    said
}

/// Hosts that an older VirtualService routes already: sidecars do not merge.
fn shadowed(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut said = Vec::new();
    let mut first: HashMap<&Host, Vec<&VirtualService>> = HashMap::new();
    let of_mesh = catalog
        .virtual_services
        .iter()
        .filter(|service| service.is_for(MESH_GATEWAY));
    for service in of_mesh.filter(|service| service.semantics == Semantics::Istio) {
        for (index, host) in service.spec.hosts.iter().enumerate() {
            let older = first.entry(host).or_default();
            // Where who sees one sees the other as well.
            let covers = |older: &&&VirtualService| {
                older.visibility == service.visibility || older.visibility == corten_routing::Visibility::Public
            };
            if let Some(older) = older.iter().find(covers) {
                let message = format!(
                    "takes no effect for sidecars: VirtualService {}/{} for the same host is older; put the routes into one",
                    older.namespace, older.name
                );
                let about = About::networking("VirtualService", &service.namespace, &service.name);
                said.push(about.conflict(format!("spec.hosts[{index}]"), message));
            }
            older.push(service);
        }
    }
    said
}

/// An object, and what is said about it.
struct Object<'a> {
    about: About<'a>,
    said: Vec<Diagnostic>,
}

impl<'a> Object<'a> {
    fn of<S>(kind: &'a str, config: &'a Config<S>) -> Object<'a> {
        Object {
            about: About::networking(kind, &config.namespace, &config.name),
            said: Vec::new(),
        }
    }

    fn no_effect(&mut self, path: impl Into<String>, why: impl AsRef<str>) {
        let message = format!("takes no effect: {}", why.as_ref());
        self.said.push(self.about.no_effect(path, message));
    }

    /// Says of each field that is set that it takes no effect.
    fn unused(&mut self, at: &str, why: &str, fields: &[(&str, bool)]) {
        for (name, _) in fields.iter().filter(|(_, set)| *set) {
            self.no_effect(format!("{at}.{name}"), why);
        }
    }

    fn virtual_service(&mut self, spec: &VirtualServiceSpec) {
        if spec.hosts.is_empty() {
            let why = "without hosts this is a delegate, and those route HTTP alone";
            self.unused(
                "spec",
                why,
                &[("tcp", !spec.tcp.is_empty()), ("tls", !spec.tls.is_empty())],
            );
        }
        let for_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == MESH_GATEWAY);
        let mut last = None;
        for (index, route) in spec.http.iter().enumerate() {
            let at = format!("spec.http[{index}]");
            if let Some(last) = last {
                self.no_effect(&at, format!("spec.http[{last}] takes all requests"));
            }
            if route.match_.is_empty() && route.delegate.is_none() {
                last = last.or(Some(index));
            }
            if spec.hosts.is_empty() && route.delegate.is_some() {
                self.no_effect(
                    format!("{at}.delegate"),
                    "a delegate has no delegates; the route is left out",
                );
            }
            for (index, wanted) in route.match_.iter().enumerate() {
                self.http_match(&format!("{at}.match[{index}]"), wanted, for_mesh);
            }
            self.http_route(&at, route);
        }
        for (index, route) in spec.tcp.iter().enumerate() {
            let at = format!("spec.tcp[{index}]");
            self.weights(&at, &route.route);
            for (index, wanted) in route.match_.iter().enumerate() {
                self.tcp_match(&format!("{at}.match[{index}]"), wanted, for_mesh);
            }
        }
        for (index, route) in spec.tls.iter().enumerate() {
            let at = format!("spec.tls[{index}]");
            self.weights(&at, &route.route);
            for (index, wanted) in route.match_.iter().enumerate().filter(|_| !for_mesh) {
                let why = "at gateways nothing but server name, port and gateway tells connections apart";
                self.unused(
                    &format!("{at}.match[{index}]"),
                    why,
                    &[
                        ("destinationSubnets", !wanted.destination_subnets.is_empty()),
                        ("sourceLabels", !wanted.source_labels.is_empty()),
                        ("sourceNamespace", !wanted.source_namespace.is_empty()),
                    ],
                );
            }
        }
    }

    fn tcp_match(&mut self, at: &str, wanted: &L4MatchAttributes, for_mesh: bool) {
        let why = "whose connection it is, is told by sourceLabels and sourceNamespace, not by addresses";
        self.unused(at, why, &[("sourceSubnet", !wanted.source_subnet.is_empty())]);
        if !for_mesh {
            let why = "at gateways nothing but port and gateway tells connections apart";
            let fields = [
                ("destinationSubnets", !wanted.destination_subnets.is_empty()),
                ("sourceLabels", !wanted.source_labels.is_empty()),
                ("sourceNamespace", !wanted.source_namespace.is_empty()),
            ];
            self.unused(at, why, &fields);
        }
    }

    fn weights(&mut self, at: &str, to: &[RouteDestination]) {
        if to.len() > 1 && to.iter().all(|to| to.weight <= 0) {
            self.no_effect(at, "no destination has a weight; the route is left out");
        }
    }

    fn http_match(&mut self, at: &str, wanted: &HTTPMatchRequest, for_mesh: bool) {
        if !wanted.gateways.is_empty() {
            let why = "where gateways are named, who sends a request does not count";
            let fields = [
                ("sourceLabels", !wanted.source_labels.is_empty()),
                ("sourceNamespace", !wanted.source_namespace.is_empty()),
            ];
            self.unused(at, why, &fields);
        }
        let uri = wanted.uri.as_ref().and_then(|uri| uri.match_type.as_ref());
        let cased = matches!(
            uri,
            Some(StringMatchMatchType::Exact(_) | StringMatchMatchType::Prefix(_))
        );
        if wanted.ignore_uri_case && !cased {
            let why = "it is about exact and prefix of uri; a regex may begin with (?i)";
            self.no_effect(format!("{at}.ignoreUriCase"), why);
        }
        let only_mesh = for_mesh && wanted.gateways.iter().all(|gateway| gateway == MESH_GATEWAY);
        for (field, headers) in [
            ("headers", &wanted.headers),
            ("withoutHeaders", &wanted.without_headers),
        ] {
            for name in headers.keys().filter(|name| only_mesh && routing_claim(name).is_some()) {
                let why = "sidecars do not look into the tokens of requests that go out; gateways do";
                self.no_effect(format!("{at}.{field}[{name}]"), why);
            }
        }
    }

    fn http_route(&mut self, at: &str, route: &HTTPRoute) {
        let answered = match (&route.redirect, &route.direct_response) {
            (Some(_), _) => Some("redirect"),
            (None, Some(_)) => Some("directResponse"),
            (None, None) => None,
        };
        if let Some(answered) = answered {
            let fields = [
                ("route", !route.route.is_empty()),
                (
                    "directResponse",
                    answered == "redirect" && route.direct_response.is_some(),
                ),
                ("rewrite", route.rewrite.is_some()),
                ("timeout", route.timeout.is_some()),
                ("retries", route.retries.is_some()),
                ("mirror", route.mirror.is_some()),
                ("mirrors", !route.mirrors.is_empty()),
            ];
            self.unused(at, &format!("{answered} answers the request here"), &fields);
        } else if route.route.len() > 1 && route.route.iter().all(|to| to.weight <= 0) {
            self.no_effect(
                format!("{at}.route"),
                "no destination has a weight; requests are answered with 500",
            );
        } else if route.route.is_empty() && route.delegate.is_none() {
            self.no_effect(at, "it has no destination; requests are answered with 500");
        }
        if let Some(code) = route.redirect.as_ref().map(|redirect| redirect.redirect_code)
            && !matches!(code, 0 | 301 | 302 | 303 | 307 | 308)
        {
            let why = format!("{code} is none of 301, 302, 303, 307, 308; requests are answered with 500");
            self.no_effect(format!("{at}.redirect.redirectCode"), why);
        }
        if let Some(rewrite) = &route.rewrite
            && rewrite.uri_regex_rewrite.is_some()
        {
            self.unused(
                &format!("{at}.rewrite"),
                "uriRegexRewrite comes first",
                &[("uri", !rewrite.uri.is_empty())],
            );
        }
        if route.mirror.is_none() {
            let fields = [
                ("mirrorPercentage", route.mirror_percentage.is_some()),
                ("mirrorPercent", route.mirror_percent.is_some()),
            ];
            self.unused(at, "it is the share of mirror; each of mirrors has its own", &fields);
        } else if route.mirror_percentage.is_some() {
            let fields = [("mirrorPercent", route.mirror_percent.is_some())];
            self.unused(at, "mirrorPercentage comes first", &fields);
        }
        if let Some(cors) = route.cors_policy.as_ref().filter(|cors| !cors.allow_origins.is_empty()) {
            let fields = [("allowOrigin", !cors.allow_origin.is_empty())];
            self.unused(&format!("{at}.corsPolicy"), "allowOrigins comes first", &fields);
        }
        if let Some(fault) = &route.fault {
            self.fault(&format!("{at}.fault"), fault);
        }
        if let Some(retries) = &route.retries {
            self.retries(&format!("{at}.retries"), retries);
        }
        self.headers(&format!("{at}.headers"), route.headers.as_ref());
        for (index, to) in route.route.iter().enumerate() {
            self.headers(&format!("{at}.route[{index}].headers"), to.headers.as_ref());
        }
    }

    fn fault(&mut self, at: &str, fault: &HTTPFaultInjection) {
        if let Some(delay) = &fault.delay {
            if matches!(delay.http_delay_type, Some(DelayHttpDelayType::ExponentialDelay(_))) {
                self.no_effect(format!("{at}.delay.exponentialDelay"), "proxies delay by a fixedDelay");
            }
            if delay.percentage.is_some() {
                self.unused(
                    &format!("{at}.delay"),
                    "percentage comes first",
                    &[("percent", delay.percent != 0)],
                );
            } else if delay.percent <= 0 {
                self.no_effect(format!("{at}.delay"), "without percentage no request is delayed");
            }
        }
        let Some(abort) = &fault.abort else { return };
        match &abort.error_type {
            Some(AbortErrorType::Http2Error(_)) => {
                self.no_effect(
                    format!("{at}.abort.http2Error"),
                    "proxies abort with httpStatus or grpcStatus",
                );
            }
            Some(AbortErrorType::GrpcStatus(name)) if grpc_status(name).is_none() => {
                self.no_effect(
                    format!("{at}.abort.grpcStatus"),
                    format!("{name:?} is no status of gRPC such as UNAVAILABLE"),
                );
            }
            _ => {}
        }
        if abort.percentage.is_none() {
            self.no_effect(format!("{at}.abort"), "without percentage no request is aborted");
        }
    }

    fn retries(&mut self, at: &str, retries: &HTTPRetry) {
        if retries.attempts <= 0 {
            let fields = [
                ("perTryTimeout", retries.per_try_timeout.is_some()),
                ("retryOn", !retries.retry_on.is_empty()),
                ("retryRemoteLocalities", retries.retry_remote_localities.is_some()),
                (
                    "retryIgnorePreviousHosts",
                    retries.retry_ignore_previous_hosts.is_some(),
                ),
                ("backoff", retries.backoff.is_some()),
            ];
            self.unused(at, "attempts is 0: requests are not tried again", &fields);
        }
        let numbers = retries
            .retry_on
            .split(',')
            .filter_map(|part| part.trim().parse::<u32>().ok());
        for number in numbers.filter(|number| !is_status(*number)) {
            self.no_effect(format!("{at}.retryOn"), format!("{number} is no status of HTTP"));
        }
    }

    fn headers(&mut self, at: &str, headers: Option<&Headers>) {
        let Some(headers) = headers else { return };
        for (side, operations) in [("request", &headers.request), ("response", &headers.response)] {
            let Some(operations) = operations else { continue };
            let is_host = |name: &str| name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority");
            let unchanged = |name: &str| name.starts_with(':') || name.eq_ignore_ascii_case("host");
            let set = operations.set.keys().map(|name| ("set", name));
            let add = operations.add.keys().map(|name| ("add", name));
            let remove = operations.remove.iter().map(|name| ("remove", name));
            for (operation, name) in set.chain(add).chain(remove) {
                let rewrites = side == "request" && operation != "remove" && is_host(name);
                if unchanged(name) && !rewrites {
                    let why = format!("{name} is no header that routes change");
                    self.no_effect(format!("{at}.{side}.{operation}[{name}]"), why);
                }
            }
        }
    }

    fn sidecar(&mut self, spec: &SidecarSpec) {
        let policy = spec.outbound_traffic_policy.as_ref();
        if let Some(policy) = policy.filter(|policy| policy.mode == OutboundTrafficPolicyMode::RegistryOnly) {
            let fields = [("egressProxy", policy.egress_proxy.is_some())];
            let why = "with REGISTRY_ONLY nothing goes to unknown hosts";
            self.unused("spec.outboundTrafficPolicy", why, &fields);
        }
        for (index, listener) in spec.ingress.iter().enumerate() {
            let at = format!("spec.ingress[{index}]");
            let why = "TLS of a workload's own port is the mesh's; PeerAuthentication is about it";
            self.unused(&at, why, &[("tls", listener.tls.is_some())]);
            let target = listener.port.as_ref().is_some_and(|port| port.target_port.is_given());
            self.unused(
                &format!("{at}.port"),
                "defaultEndpoint says where requests go",
                &[("targetPort", target)],
            );
            let pool = listener.connection_pool.as_ref();
            self.inbound_pool(&format!("{at}.connectionPool"), pool);
        }
        self.inbound_pool("spec.inboundConnectionPool", spec.inbound_connection_pool.as_ref());
        for (index, listener) in spec.egress.iter().enumerate() {
            let target = listener.port.as_ref().is_some_and(|port| port.target_port.is_given());
            let at = format!("spec.egress[{index}].port");
            self.unused(
                &at,
                "a listener for what goes out has no target of its own",
                &[("targetPort", target)],
            );
        }
    }
}

impl Object<'_> {
    /// A pool towards the application: what it speaks is the port's to say.
    fn inbound_pool(&mut self, at: &str, pool: Option<&ConnectionPoolSettings>) {
        let upgrade = pool
            .and_then(|pool| pool.http.as_ref())
            .is_some_and(|http| http.h2_upgrade_policy == HTTPSettingsH2UpgradePolicy::Upgrade);
        let why =
            "the application is spoken to as its port's protocol says, or with useClientProtocol as the client speaks";
        self.unused(&format!("{at}.http"), why, &[("h2UpgradePolicy", upgrade)]);
    }
}

/// Sidecars, and those that come too late for their namespace.
fn sidecars(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut said = Vec::new();
    let mut general: BTreeMap<&str, String> = BTreeMap::new();
    let all = by_age(&catalog.configs.sidecars);
    for config in &all {
        let mut object = Object::of("Sidecar", config);
        object.sidecar(&config.spec);
        let selects = config
            .spec
            .workload_selector
            .as_ref()
            .is_some_and(|selector| !selector.labels.is_empty());
        if !selects {
            match general.get(&*config.namespace) {
                Some(older) => {
                    let message = format!("takes no effect: Sidecar {older} without a workloadSelector is older");
                    object.said.push(object.about.conflict("spec", message));
                }
                None => {
                    general.insert(&config.namespace, config.name.to_string());
                }
            }
        }
        said.extend(object.said);
    }
    said
}
