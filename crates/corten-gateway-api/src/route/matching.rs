//! Matches of HTTP and gRPC routes.

use std::collections::BTreeMap;

use corten_api::{
    codec::Field,
    gateway_api::{
        grpc_route::{GRPCHeaderMatchType, GRPCMethodMatchType, GRPCRouteMatch},
        http_route::{HTTPRouteMatch, HeaderMatchType, PathMatchType, QueryParamMatchType},
    },
    istio::virtual_service::{HTTPMatchRequest, StringMatch, StringMatchMatchType as Text},
};

use crate::condition::Problem;

fn text(text: Text) -> StringMatch {
    StringMatch { match_type: Some(text) }
}

/// The name of a value of an enumeration.
pub(crate) fn name(value: &impl Field) -> String {
    value.encode().as_str().unwrap_or_default().to_owned()
}

/// The match of an HTTP route. A path that is not given is every path.
pub(crate) fn http(given: &HTTPRouteMatch) -> HTTPMatchRequest {
    let path = given.path.clone().unwrap_or_default();
    let value = path.value.unwrap_or_else(|| "/".to_owned());
    let uri = match path.type_.unwrap_or(PathMatchType::PathPrefix) {
        PathMatchType::PathPrefix => {
            let trimmed = value.strip_suffix('/').filter(|_| value != "/");
            Text::Prefix(trimmed.map(str::to_owned).unwrap_or(value))
        }
        PathMatchType::Exact => Text::Exact(value),
        PathMatchType::RegularExpression => Text::Regex(value),
    };
    let headers = given.headers.iter().map(|header| {
        let value = header.value.clone();
        let fits = match header.type_.unwrap_or(HeaderMatchType::Exact) {
            HeaderMatchType::Exact => Text::Exact(value),
            HeaderMatchType::RegularExpression => Text::Regex(value),
        };
        (header.name.clone(), text(fits))
    });
    let parameters = given.query_params.iter().map(|parameter| {
        let value = parameter.value.clone();
        let fits = match parameter.type_.unwrap_or(QueryParamMatchType::Exact) {
            QueryParamMatchType::Exact => Text::Exact(value),
            QueryParamMatchType::RegularExpression => Text::Regex(value),
        };
        (parameter.name.clone(), text(fits))
    });
    HTTPMatchRequest {
        uri: Some(text(uri)),
        headers: first_of_each(headers),
        query_params: first_of_each(parameters),
        method: given.method.as_ref().map(|method| text(Text::Exact(name(method)))),
        ..HTTPMatchRequest::default()
    }
}

/// The match of a gRPC route; calls have the path `/service/method`.
pub(crate) fn grpc(given: &GRPCRouteMatch) -> Result<HTTPMatchRequest, Problem> {
    let uri = match &given.method {
        None => None,
        Some(method) => {
            let exact = method.type_.unwrap_or(GRPCMethodMatchType::Exact) == GRPCMethodMatchType::Exact;
            Some(match (&method.service, &method.method) {
                (None, None) => {
                    let message = "gRPC match must have method or service defined";
                    return Err(Problem::new("InvalidConfiguration", message));
                }
                (Some(service), None) if exact => Text::Prefix(format!("/{service}/")),
                (Some(service), None) => Text::Regex(format!("/{service}/.+")),
                (None, Some(method)) => Text::Regex(format!("/[^/]+/{method}")),
                (Some(service), Some(method)) if exact => Text::Exact(format!("/{service}/{method}")),
                (Some(service), Some(method)) => Text::Regex(format!("/{service}/{method}")),
            })
        }
    };
    let headers = given.headers.iter().map(|header| {
        let value = header.value.clone();
        let fits = match header.type_.unwrap_or(GRPCHeaderMatchType::Exact) {
            GRPCHeaderMatchType::Exact => Text::Exact(value),
            GRPCHeaderMatchType::RegularExpression => Text::Regex(value),
        };
        (header.name.clone(), text(fits))
    });
    Ok(HTTPMatchRequest {
        uri: uri.map(text),
        headers: first_of_each(headers),
        ..HTTPMatchRequest::default()
    })
}

/// Of several entries with one name the first counts, which is what the Gateway API says; names of headers are compared
/// as they are written.
fn first_of_each(entries: impl Iterator<Item = (String, StringMatch)>) -> BTreeMap<String, StringMatch> {
    let mut map = BTreeMap::new();
    for (name, fits) in entries {
        map.entry(name).or_insert(fits);
    }
    map
}
