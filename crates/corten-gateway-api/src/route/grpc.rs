//! GRPCRoutes, which become HTTP routes: a call is a request with the path `/service/method`.

use corten_api::{
    gateway_api::{
        GRPCRoute,
        grpc_route::{
            GRPCRouteFilter, GRPCRouteFilterConfig as Config, GRPCRouteFilterType, GRPCRouteMatch, GRPCRouteRule,
        },
    },
    istio::virtual_service::{self as istio, HTTPRouteDestination, Headers},
};

use super::{
    Parents, Route, RouteResult, bind, collect,
    destination::{Backend, Sender, weight, weightless},
    filter,
    http::{self, Made},
    matching,
};
use crate::{condition::Problem, index::Index, reference::Kind};

/// Converts a GRPCRoute, which sees nothing but the index and the listeners.
pub(crate) fn convert(index: &Index<'_>, parents: &Parents, object: &GRPCRoute) -> RouteResult {
    let route = Route {
        kind: Kind::GRPC_ROUTE,
        meta: &object.metadata,
        parents: &object.spec.parent_refs,
        hostnames: &object.spec.hostnames,
        status: object.status.as_ref().map_or(&[], |status| &status.parents),
    };
    let bound = bind(index, parents, route, |guarded| {
        let sender = Sender {
            index,
            kind: Kind::GRPC_ROUTE,
            namespace: &object.metadata.namespace,
            guarded,
        };
        collect(object.spec.rules.iter().enumerate().flat_map(|(position, rule)| {
            http::each_match(&rule.matches).map(move |found| self::rule(sender, object, position, rule, found))
        }))
    });
    http::results(index, route, &bound)
}

fn rule(
    sender: Sender<'_>,
    object: &GRPCRoute,
    position: usize,
    rule: &GRPCRouteRule,
    found: Option<&GRPCRouteMatch>,
) -> Result<(Made, Option<Problem>), Problem> {
    let mut route = istio::HTTPRoute {
        name: http::rule_name(&object.metadata, rule.name.as_ref(), position),
        match_: found.map(matching::grpc).transpose()?.into_iter().collect(),
        ..istio::HTTPRoute::default()
    };
    for filter in &rule.filters {
        if let Some(Config::RequestMirror(mirror)) = &filter.config {
            let found = sender.find(Backend::from(&mirror.backend_ref))?;
            match found.problem {
                Some(problem) => return Err(problem),
                None => route.mirrors.push(filter::mirror(mirror, found.destination)),
            }
        } else {
            header_filter(filter, &mut route.headers)?;
        }
    }
    let backends: Vec<_> = rule
        .backend_refs
        .iter()
        .map(|given| (given, Backend::from(given)))
        .collect();
    let mut problem = None;
    if weightless(backends.iter().map(|(_, backend)| *backend)) {
        route.direct_response = Some(http::no_backend());
    } else {
        let weighted: Vec<_> = backends.iter().filter(|(_, backend)| backend.weight != 0).collect();
        for (given, backend) in &weighted {
            let found = sender.find(*backend)?;
            problem = found.problem.or(problem);
            let mut destination = HTTPRouteDestination {
                destination: Some(found.destination),
                weight: weight(*backend, weighted.len()),
                headers: None,
            };
            for filter in &given.filters {
                header_filter(filter, &mut destination.headers)?;
            }
            route.route.push(destination);
        }
    }
    Ok((Made { route, picker: None }, problem))
}

fn header_filter(filter: &GRPCRouteFilter, headers: &mut Option<Headers>) -> Result<(), Problem> {
    match (filter.type_, &filter.config) {
        (_, Some(Config::RequestHeaderModifier(change))) => {
            headers.get_or_insert_default().request = Some(filter::headers(change)?);
        }
        (_, Some(Config::ResponseHeaderModifier(change))) => {
            headers.get_or_insert_default().response = Some(filter::headers(change)?);
        }
        (GRPCRouteFilterType::RequestHeaderModifier | GRPCRouteFilterType::ResponseHeaderModifier, None) => {}
        (kind, _) => return Err(filter::unsupported(&matching::name(&kind))),
    }
    Ok(())
}
