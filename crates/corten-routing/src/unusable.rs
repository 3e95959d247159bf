//! What a proxy would refuse, and with it all of the table that it stands in: left out, and said.
//!
//! Only what cannot be sent is left out, never more than the route it stands in: a match that no request can be compared with
//! takes none, and neither does a route whose action cannot be carried out.

use corten_api::{
    diagnostic::Diagnostic,
    istio::virtual_service::{
        AbortErrorType, HTTPBodySpecifier, HTTPMatchRequest, Headers, StringMatch, StringMatchMatchType,
        VirtualServiceSpec,
    },
    re2,
    validate::text,
};

use crate::notice::About;

/// The largest body that proxies answer with.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Leaves out of a VirtualService what proxies would refuse.
pub(crate) fn leave_out(spec: &mut VirtualServiceSpec, about: &About<'_>, said: &mut Vec<Diagnostic>) {
    let mut index = 0;
    spec.http.retain_mut(|route| {
        let at = format!("spec.http[{index}]");
        index += 1;
        let mut usable = true;
        if let Some(rewrite) = route
            .rewrite
            .as_ref()
            .and_then(|rewrite| rewrite.uri_regex_rewrite.as_ref())
            && let Err(problem) = re2::check(&rewrite.match_)
        {
            let message = format!("{problem}; the route is left out");
            said.push(about.unusable(format!("{at}.rewrite.uriRegexRewrite.match"), message));
            usable = false;
        }
        if let Some(answer) = &route.direct_response {
            let status = text::http_status(answer.status.into());
            let status = status.and_then(|()| {
                if answer.status < 600 {
                    Ok(())
                } else {
                    Err("600 is no status".to_owned())
                }
            });
            let body = answer.body.as_ref().and_then(|body| body.specifier.as_ref());
            let bytes = match body {
                Some(HTTPBodySpecifier::String(text)) => text.len(),
                Some(HTTPBodySpecifier::Bytes(bytes)) => bytes.0.len(),
                None => 0,
            };
            if let Err(problem) = status {
                let message = format!("{problem}; the route is left out");
                said.push(about.unusable(format!("{at}.directResponse.status"), message));
                usable = false;
            }
            if bytes > BODY_BYTES_MAX {
                let message = format!("{bytes} bytes are more than {BODY_BYTES_MAX}; the route is left out");
                said.push(about.unusable(format!("{at}.directResponse.body"), message));
                usable = false;
            }
        }
        if let Some(fault) = &mut route.fault
            && let Some(AbortErrorType::HttpStatus(status)) =
                fault.abort.as_ref().and_then(|abort| abort.error_type.as_ref())
            && !(200..600).contains(status)
        {
            let message = format!("{status} is no status from 200 to 599; no request is aborted");
            said.push(about.unusable(format!("{at}.fault.abort.httpStatus"), message));
            fault.abort = None;
        }
        headers(&format!("{at}.headers"), &mut route.headers, about, said);
        for (index, to) in route.route.iter_mut().enumerate() {
            headers(&format!("{at}.route[{index}].headers"), &mut to.headers, about, said);
        }
        if let Some(cors) = &mut route.cors_policy {
            let mut index = 0;
            let before = cors.allow_origins.len();
            cors.allow_origins.retain(|origin| {
                let nothing =
                    matches!(&origin.match_type, Some(StringMatchMatchType::Prefix(prefix)) if prefix.is_empty());
                let problem = expression(origin).or_else(|| nothing.then_some(re2::Problem::Empty));
                if let Some(problem) = &problem {
                    let message = format!("{problem}; such origins are not allowed");
                    said.push(about.unusable(format!("{at}.corsPolicy.allowOrigins[{index}]"), message));
                }
                index += 1;
                problem.is_none()
            });
            if cors.allow_origins.len() < before {
                // These would count where there are no others.
                cors.allow_origin.clear();
            }
        }
        let had_matches = !route.match_.is_empty();
        let mut index = 0;
        route.match_.retain(|wanted| {
            let at = format!("{at}.match[{index}]");
            index += 1;
            let before = said.len();
            for (field, problem) in of_match(wanted) {
                let message = format!("{problem}; no request matches, so the match is left out");
                said.push(about.unusable(format!("{at}.{field}.regex"), message));
            }
            said.len() == before
        });
        usable && (!had_matches || !route.match_.is_empty())
    });
}

/// Leaves out changes of headers that cannot be made.
fn headers(at: &str, headers: &mut Option<Headers>, about: &About<'_>, said: &mut Vec<Diagnostic>) {
    let Some(headers) = headers else { return };
    for (side, operations) in [("request", &mut headers.request), ("response", &mut headers.response)] {
        let Some(operations) = operations else { continue };
        for (operation, values) in [("set", &mut operations.set), ("add", &mut operations.add)] {
            values.retain(|name, value| {
                let problem = match name.is_empty() || name.chars().any(char::is_control) {
                    true => Err("it is no name of a header".to_owned()),
                    false => text::header_value(value),
                };
                if let Err(problem) = &problem {
                    let message = format!("{problem}; the header stays as it is");
                    said.push(about.unusable(format!("{at}.{side}.{operation}[{name}]"), message));
                }
                problem.is_ok()
            });
        }
        operations.remove.retain(|name| {
            let usable = !name.is_empty() && !name.chars().any(char::is_control);
            if !usable {
                let message = "it is no name of a header; it is left out";
                said.push(about.unusable(format!("{at}.{side}.remove[{name}]"), message));
            }
            usable
        });
    }
}

/// The expressions of a match that cannot be read, by their fields.
fn of_match(wanted: &HTTPMatchRequest) -> Vec<(String, re2::Problem)> {
    let uri = wanted.uri.iter().map(|value| ("uri".to_owned(), value));
    let single = [
        ("scheme", &wanted.scheme),
        ("method", &wanted.method),
        ("authority", &wanted.authority),
    ];
    let single = single
        .into_iter()
        .filter_map(|(field, value)| Some((field.to_owned(), value.as_ref()?)));
    let named = [
        ("headers", &wanted.headers),
        ("withoutHeaders", &wanted.without_headers),
        ("queryParams", &wanted.query_params),
    ];
    let named = named.into_iter().flat_map(|(field, values)| {
        let values = values.iter();
        values.map(move |(name, value)| (format!("{field}[{name}]"), value))
    });
    // A star alone is the sign for any value there, not an expression.
    let is_any =
        |value: &StringMatch| matches!(&value.match_type, Some(StringMatchMatchType::Regex(regex)) if regex == "*");
    uri.chain(single.chain(named).filter(|(_, value)| !is_any(value)))
        .filter_map(|(field, value)| Some((field, expression(value)?)))
        .collect()
}

/// What is wrong with the expression of a match, if it has one.
fn expression(value: &StringMatch) -> Option<re2::Problem> {
    match &value.match_type {
        Some(StringMatchMatchType::Regex(regex)) => re2::check(regex).err(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use corten_api::istio::mesh_config::MeshConfig;
    use corten_model::Settings;
    use serde_json::json;

    use crate::World;

    #[test]
    fn only_what_cannot_be_sent_is_left_out() {
        let to = json!([{ "destination": { "host": "a" } }]);
        let service = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": { "name": "v", "namespace": "n" },
            "spec": { "hosts": ["a"], "http": [
                { "name": "one of two", "route": to,
                  "match": [{ "uri": { "regex": "/a(?!b)" } }, { "headers": { "x": { "regex": "*" } }, "uri": { "regex": "/v1/{id}" } }] },
                { "name": "none", "route": to, "match": [{ "queryParams": { "q": { "regex": "(" } } }] },
                { "name": "rewrite", "route": to, "rewrite": { "uriRegexRewrite": { "match": "[", "rewrite": "/" } } },
                { "name": "cors", "route": to, "corsPolicy": {
                    "allowOrigin": ["*"], "allowOrigins": [{ "regex": "a**" }] } },
            ] },
        });
        let mut world = World::new(Settings::default(), MeshConfig::default());
        world.put([&service]);
        let snapshot = world.snapshot();
        let services = &snapshot.catalog.virtual_services;
        let spec = &services.iter().next().expect("it is there").spec;
        let routes: Vec<(&str, usize)> = spec
            .http
            .iter()
            .map(|route| (route.name.as_str(), route.match_.len()))
            .collect();
        assert_eq!(routes, [("one of two", 1), ("cors", 0)]);
        let cors = spec.http[1].cors_policy.as_ref().expect("a policy");
        assert!(
            cors.allow_origins.is_empty() && cors.allow_origin.is_empty(),
            "nobody is let in instead"
        );
        let said: Vec<String> = services
            .diagnostics()
            .iter()
            .map(|said| format!("{} {}", said.code, said.path))
            .collect();
        assert_eq!(
            said,
            [
                "CRT0213 spec.http[0].match[0].uri.regex",
                "CRT0213 spec.http[1].match[0].queryParams[q].regex",
                "CRT0213 spec.http[2].rewrite.uriRegexRewrite.match",
                "CRT0213 spec.http[3].corsPolicy.allowOrigins[0]",
            ]
        );
    }
}
