//! HTTPRoutes.

use corten_api::{
    gateway_api::{
        HTTPRoute,
        http_route::{
            HTTPBackendRef, HTTPRouteFilter, HTTPRouteFilterConfig as Config, HTTPRouteFilterType, HTTPRouteMatch,
            HTTPRouteRule,
        },
    },
    istio::virtual_service::{
        self as istio, HTTPDirectResponse, HTTPMatchRequest, HTTPRouteDestination, Headers, VirtualServiceSpec,
    },
};
use corten_core::Duration;

use super::{
    Bound, EndpointPicker, Parents, Route, RouteResult, Routes, bind, collect,
    destination::{Backend, Sender, weight, weightless},
    filter, matching, mesh_hosts, order,
    parent::Attempt,
    virtual_service,
};
use crate::{annotation, condition::Problem, index::Index, reference::Kind};

/// A route of a VirtualService, with who picks its endpoints.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) route: istio::HTTPRoute,
    pub(crate) picker: Option<EndpointPicker>,
}

/// Converts an HTTPRoute, which sees nothing but the index and the listeners.
pub(crate) fn convert(index: &Index<'_>, parents: &Parents, object: &HTTPRoute) -> RouteResult {
    let route = Route {
        kind: Kind::HTTP_ROUTE,
        meta: &object.metadata,
        parents: &object.spec.parent_refs,
        hostnames: &object.spec.hostnames,
        status: object.status.as_ref().map_or(&[], |status| &status.parents),
    };
    let bound = bind(index, parents, route, |guarded| {
        let sender = Sender {
            index,
            kind: Kind::HTTP_ROUTE,
            namespace: &object.metadata.namespace,
            guarded,
        };
        collect(object.spec.rules.iter().enumerate().flat_map(|(position, rule)| {
            each_match(&rule.matches).map(move |found| self::rule(sender, object, position, rule, found))
        }))
    });
    results(index, route, &bound)
}

/// Each match for itself; a rule without matches counts once.
pub(crate) fn each_match<M>(matches: &[M]) -> impl Iterator<Item = Option<&M>> {
    let none = matches.is_empty().then_some(None);
    matches.iter().map(Some).chain(none)
}

/// The VirtualServices of a bound HTTP or gRPC route: one for each parent and host.
pub(crate) fn results(index: &Index<'_>, route: Route<'_>, bound: &Bound<Made>) -> RouteResult {
    let mut result = bound.result(index, route);
    let own_hosts: Vec<String> = match route.hostnames {
        [] => vec!["*".to_owned()],
        hostnames => hostnames.iter().map(ToString::to_string).collect(),
    };
    for attempt in bound.succeeded() {
        let made = bound.rules(attempt);
        if made.is_empty() {
            continue;
        }
        let (key, hosts) = if attempt.is_mesh() {
            (mesh_key(route, attempt), mesh_hosts(index, attempt))
        } else {
            (attempt.internal_name.clone(), own_hosts.clone())
        };
        let mut http: Vec<istio::HTTPRoute> = made.iter().map(|made| made.route.clone()).collect();
        if attempt.is_mesh() {
            at_port(&mut http, attempt);
        }
        order::sort(&mut http);
        let pickers = made
            .iter()
            .filter_map(|made| Some((made.route.name.clone(), made.picker.clone()?)));
        for host in hosts.iter().filter(|host| attempt.serves(host)) {
            let name = format!("{}~{}~{}", route.meta.name, result.routes.len(), annotation::GENERATED);
            let spec = VirtualServiceSpec {
                http: http.clone(),
                ..VirtualServiceSpec::default()
            };
            let routes = Routes {
                object: virtual_service(route, name, host, attempt, spec),
                pickers: pickers.clone().collect(),
            };
            result.routes.push((format!("{key}/{host}"), routes));
        }
    }
    result
}

/// Routes of one namespace for a service, and perhaps one of its ports, are one.
fn mesh_key(route: Route<'_>, attempt: &Attempt) -> String {
    let namespace = &route.meta.namespace;
    match attempt.reference.port {
        Some(port) => format!("{namespace}/{port}"),
        None => namespace.clone(),
    }
}

fn at_port(routes: &mut [istio::HTTPRoute], attempt: &Attempt) {
    let Some(port) = attempt.reference.port else {
        return;
    };
    for route in routes {
        if route.match_.is_empty() {
            route.match_.push(HTTPMatchRequest::default());
        }
        for fits in &mut route.match_ {
            fits.port = port;
        }
    }
}

/// The name of a rule without one.
pub(crate) fn rule_name(meta: &corten_api::metadata::Metadata, given: Option<&String>, position: usize) -> String {
    let name = || format!("{}.{}.{position}", meta.namespace, meta.name);
    given.cloned().unwrap_or_else(name)
}

fn rule(
    sender: Sender<'_>,
    object: &HTTPRoute,
    position: usize,
    rule: &HTTPRouteRule,
    found: Option<&HTTPRouteMatch>,
) -> Result<(Made, Option<Problem>), Problem> {
    let mut route = istio::HTTPRoute {
        name: rule_name(&object.metadata, rule.name.as_ref(), position),
        match_: found.map(matching::http).into_iter().collect(),
        ..istio::HTTPRoute::default()
    };
    let mut mirror_problem = None;
    for filter in &rule.filters {
        match &filter.config {
            Some(Config::RequestRedirect(redirect)) => route.redirect = Some(filter::redirect(redirect)),
            Some(Config::UrlRewrite(rewrite)) => route.rewrite = filter::rewrite(rewrite),
            Some(Config::Cors(cors)) => route.cors_policy = Some(filter::cors(cors)),
            Some(Config::RequestMirror(mirror)) => match sender.find(Backend::from(&mirror.backend_ref)) {
                Ok(found) if found.problem.is_some() => mirror_problem = found.problem,
                Ok(found) => route.mirrors.push(filter::mirror(mirror, found.destination)),
                Err(problem) => mirror_problem = Some(problem),
            },
            _ => header_filter(filter, &mut route.headers)?,
        }
    }
    route.retries = rule.retry.as_ref().map(filter::retry);
    if let Some(timeouts) = &rule.timeouts {
        let given = |timeout: Option<Duration>| timeout.filter(|timeout| *timeout != Duration::ZERO);
        route.timeout = given(timeouts.request);
        if let Some(timeout) = given(timeouts.backend_request) {
            match &mut route.retries {
                Some(retries) => retries.per_try_timeout = Some(timeout),
                None => route.timeout = Some(timeout),
            }
        }
    }
    of_backends(&rule.backend_refs, &mut route);
    let nowhere = weightless(rule.backend_refs.iter().map(Backend::from)) && route.redirect.is_none();
    let (mut picker, mut problem) = (None, None);
    if nowhere {
        route.direct_response = Some(no_backend());
    } else {
        (route.route, picker, problem) = destinations(sender, &rule.backend_refs)?;
    }
    Ok((Made { route, picker }, Problem::join(problem, mirror_problem)))
}

/// Whether a filter is about the whole request, which a rule has and not a share of its backends.
fn is_of_rule(filter: &HTTPRouteFilter) -> bool {
    matches!(filter.config, Some(Config::RequestRedirect(_) | Config::UrlRewrite(_)))
}

/// Redirects and rewrites of backends, which hold for the rule where all that is used of it has the same.
fn of_backends(backends: &[HTTPBackendRef], route: &mut istio::HTTPRoute) {
    let used = |backend: &&HTTPBackendRef| Backend::from(*backend).weight != 0;
    if !are_common(backends) {
        return;
    }
    let first = backends.iter().find(used);
    for filter in first.into_iter().flat_map(|backend| &backend.filters) {
        match &filter.config {
            Some(Config::RequestRedirect(redirect)) => route.redirect = Some(filter::redirect(redirect)),
            Some(Config::UrlRewrite(rewrite)) => route.rewrite = filter::rewrite(rewrite),
            _ => {}
        }
    }
}

/// Whether all backends that are used redirect and rewrite in the same way.
fn are_common(backends: &[HTTPBackendRef]) -> bool {
    let mut each = backends
        .iter()
        .filter(|backend| Backend::from(*backend).weight != 0)
        .map(|backend| {
            backend
                .filters
                .iter()
                .filter(|filter| is_of_rule(filter))
                .collect::<Vec<_>>()
        });
    let first = each.next();
    each.all(|other| Some(&other) == first.as_ref())
}

/// The answer where nobody could answer.
pub(crate) fn no_backend() -> HTTPDirectResponse {
    HTTPDirectResponse {
        status: 500,
        body: None,
    }
}

/// A filter that changes headers, which is all that backends have of their own.
fn header_filter(filter: &HTTPRouteFilter, headers: &mut Option<Headers>) -> Result<(), Problem> {
    match (filter.type_, &filter.config) {
        (_, Some(Config::RequestHeaderModifier(change))) => {
            headers.get_or_insert_default().request = Some(filter::headers(change)?);
        }
        (_, Some(Config::ResponseHeaderModifier(change))) => {
            headers.get_or_insert_default().response = Some(filter::headers(change)?);
        }
        (HTTPRouteFilterType::RequestHeaderModifier | HTTPRouteFilterType::ResponseHeaderModifier, None) => {}
        (kind, _) => return Err(filter::unsupported(&matching::name(&kind))),
    }
    Ok(())
}

type Destinations = (Vec<HTTPRouteDestination>, Option<EndpointPicker>, Option<Problem>);

fn destinations(sender: Sender<'_>, backends: &[HTTPBackendRef]) -> Result<Destinations, Problem> {
    let weighted: Vec<(&HTTPBackendRef, Backend<'_>)> = backends
        .iter()
        .map(|given| (given, Backend::from(given)))
        .filter(|(_, backend)| backend.weight != 0)
        .collect();
    let common = are_common(backends);
    let (mut destinations, mut picker, mut problem) = (Vec::new(), None, None);
    for (given, backend) in &weighted {
        let found = sender.find(*backend)?;
        picker = found.picker;
        problem = found.problem.or(problem);
        let mut destination = HTTPRouteDestination {
            destination: Some(found.destination),
            weight: weight(*backend, weighted.len()),
            headers: None,
        };
        for filter in given.filters.iter().filter(|filter| !(common && is_of_rule(filter))) {
            header_filter(filter, &mut destination.headers)?;
        }
        destinations.push(destination);
    }
    Ok((destinations, picker, problem))
}
