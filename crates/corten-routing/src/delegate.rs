//! Delegation: routes of a VirtualService that another one details.

use std::collections::{BTreeMap, HashMap};

use corten_api::{
    diagnostic::{Code, Diagnostic, ObjectRef, Severity},
    istio::virtual_service::{HTTPMatchRequest, HTTPRoute, StringMatch, StringMatchMatchType},
};
use corten_model::Name;

use crate::virtual_service::{Semantics, VirtualService};

/// A delegation that takes no effect.
const DELEGATE: Code = Code("CRT0201");

/// The VirtualServices that take effect by themselves, with the routes of their delegates in place of those that delegate.
pub(crate) fn merged(all: Vec<VirtualService>, diagnostics: &mut Vec<Diagnostic>) -> Vec<VirtualService> {
    let (roots, delegates): (Vec<_>, Vec<_>) = all.into_iter().partition(|service| !service.spec.hosts.is_empty());
    let delegates: HashMap<(Name, Name), VirtualService> = delegates
        .into_iter()
        .map(|service| ((Name::clone(&service.namespace), Name::clone(&service.name)), service))
        .collect();
    let resolve = |mut root: VirtualService| {
        let delegating = root.spec.http.iter().any(|route| route.delegate.is_some());
        if root.semantics != Semantics::Istio || !delegating {
            return root;
        }
        let routes = std::mem::take(&mut root.spec.http);
        for (index, route) in routes.into_iter().enumerate() {
            let Some(to) = &route.delegate else {
                root.spec.http.push(route);
                continue;
            };
            let namespace = if to.namespace.is_empty() {
                &*root.namespace
            } else {
                to.namespace.as_str()
            };
            let found = delegates.get(&(Name::from(namespace), Name::from(to.name.as_str())));
            let seen = found.filter(|delegate| delegate.visibility.includes(&root.namespace));
            let Some(delegate) = seen else {
                let why = if found.is_some() {
                    "is not exported to this namespace"
                } else {
                    "does not exist, or has hosts of its own"
                };
                let message = format!("the route is left out: VirtualService {namespace}/{} {why}", to.name);
                diagnostics.push(diagnostic(&root, &format!("spec.http[{index}].delegate"), message));
                continue;
            };
            // A delegate has no delegates of its own.
            let details = delegate.spec.http.iter().filter(|detail| detail.delegate.is_none());
            for detail in details.cloned() {
                if let Some(merged) = merge_route(&route, detail) {
                    root.spec.http.push(merged);
                } else {
                    let message = format!(
                        "a route of VirtualService {namespace}/{} is left out: it cannot match together with this one",
                        to.name
                    );
                    diagnostics.push(diagnostic(&root, &format!("spec.http[{index}].match"), message));
                }
            }
        }
        root
    };
    roots.into_iter().map(resolve).collect()
}

fn diagnostic(service: &VirtualService, path: &str, message: String) -> Diagnostic {
    Diagnostic {
        code: DELEGATE,
        severity: Severity::Warning,
        object: Some(ObjectRef {
            api_version: "networking.istio.io/v1".to_owned(),
            kind: "VirtualService".to_owned(),
            namespace: service.namespace.to_string(),
            name: service.name.to_string(),
        }),
        path: path.to_owned(),
        location: None,
        message,
    }
}

/// A delegate's route under the root's: what it does not say is the root's. `None`: the two never match together.
pub fn merge_route(root: &HTTPRoute, mut detail: HTTPRoute) -> Option<HTTPRoute> {
    detail.match_ = merge_matches(&root.match_, &detail.match_)?;
    detail.name = match (root.name.is_empty(), detail.name.is_empty()) {
        (false, false) => format!("{}-{}", root.name, detail.name),
        (false, true) => root.name.clone(),
        (true, _) => detail.name,
    };
    fn fill<T: Clone>(own: &mut Option<T>, inherited: &Option<T>) {
        if own.is_none() {
            own.clone_from(inherited);
        }
    }
    fill(&mut detail.rewrite, &root.rewrite);
    fill(&mut detail.direct_response, &root.direct_response);
    fill(&mut detail.timeout, &root.timeout);
    fill(&mut detail.retries, &root.retries);
    fill(&mut detail.fault, &root.fault);
    fill(&mut detail.mirror, &root.mirror);
    fill(&mut detail.mirror_percent, &root.mirror_percent);
    fill(&mut detail.mirror_percentage, &root.mirror_percentage);
    fill(&mut detail.cors_policy, &root.cors_policy);
    fill(&mut detail.headers, &root.headers);
    if detail.mirrors.is_empty() {
        detail.mirrors.clone_from(&root.mirrors);
    }
    detail.delegate = None;
    Some(detail)
}

/// Every match of the root with every match of the delegate, both to hold; those that contradict each other are left out.
/// `None`: one of the delegate's contradicts all of the root's.
pub fn merge_matches(root: &[HTTPMatchRequest], detail: &[HTTPMatchRequest]) -> Option<Vec<HTTPMatchRequest>> {
    if root.is_empty() {
        return Some(detail.to_vec());
    }
    if detail.is_empty() {
        return Some(root.to_vec());
    }
    let mut merged = Vec::new();
    for own in detail {
        let before = merged.len();
        merged.extend(
            root.iter()
                .filter(|outer| !conflicts(outer, own))
                .map(|outer| merge_match(outer, own)),
        );
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn merge_match(root: &HTTPMatchRequest, detail: &HTTPMatchRequest) -> HTTPMatchRequest {
    fn either<T: Clone>(own: &Option<T>, inherited: &Option<T>) -> Option<T> {
        own.clone().or_else(|| inherited.clone())
    }
    fn union<V: Clone>(own: &BTreeMap<String, V>, inherited: &BTreeMap<String, V>) -> BTreeMap<String, V> {
        let mut all = inherited.clone();
        all.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
        all
    }
    let text = |own: &str, inherited: &str| if own.is_empty() { inherited } else { own }.to_owned();
    HTTPMatchRequest {
        name: match (root.name.is_empty(), detail.name.is_empty()) {
            (false, false) => format!("{}-{}", root.name, detail.name),
            _ => text(&detail.name, &root.name),
        },
        uri: either(&detail.uri, &root.uri),
        scheme: either(&detail.scheme, &root.scheme),
        method: either(&detail.method, &root.method),
        authority: either(&detail.authority, &root.authority),
        headers: union(&detail.headers, &root.headers),
        without_headers: union(&detail.without_headers, &root.without_headers),
        port: if detail.port.is_given() { detail.port } else { root.port },
        source_labels: union(&detail.source_labels, &root.source_labels),
        source_namespace: text(&detail.source_namespace, &root.source_namespace),
        gateways: if detail.gateways.is_empty() {
            root.gateways.clone()
        } else {
            detail.gateways.clone()
        },
        query_params: union(&detail.query_params, &root.query_params),
        ignore_uri_case: detail.ignore_uri_case || root.ignore_uri_case,
        stat_prefix: text(&detail.stat_prefix, &root.stat_prefix),
    }
}

/// Whether two matches are not known to be able to hold together, the delegate's within the root's.
pub fn conflicts(root: &HTTPMatchRequest, detail: &HTTPMatchRequest) -> bool {
    let text = |a: &Option<StringMatch>, b: &Option<StringMatch>| texts_conflict(a.as_ref(), b.as_ref());
    let maps = |a: &BTreeMap<String, StringMatch>, b: &BTreeMap<String, StringMatch>| {
        a.iter()
            .any(|(key, value)| b.get(key).is_some_and(|other| texts_conflict(Some(value), Some(other))))
    };
    text(&root.uri, &detail.uri)
        || text(&root.scheme, &detail.scheme)
        || text(&root.method, &detail.method)
        || text(&root.authority, &detail.authority)
        || maps(&root.headers, &detail.headers)
        || maps(&root.without_headers, &detail.without_headers)
        || maps(&root.query_params, &detail.query_params)
        || (root.ignore_uri_case != detail.ignore_uri_case && root.uri.is_some() && detail.uri.is_some())
        || (root.port.is_given() && detail.port.is_given() && root.port != detail.port)
        || root
            .source_labels
            .iter()
            .any(|(key, value)| detail.source_labels.get(key).is_some_and(|other| other != value))
        || (!root.source_namespace.is_empty()
            && !detail.source_namespace.is_empty()
            && root.source_namespace != detail.source_namespace)
        || (!root.gateways.is_empty()
            && !detail.gateways.is_empty()
            && detail.gateways.iter().any(|gateway| !root.gateways.contains(gateway)))
}

fn texts_conflict(root: Option<&StringMatch>, detail: Option<&StringMatch>) -> bool {
    use StringMatchMatchType::{Exact, Prefix, Regex};
    let (Some(root), Some(detail)) = (
        root.and_then(|m| m.match_type.as_ref()),
        detail.and_then(|m| m.match_type.as_ref()),
    ) else {
        return false;
    };
    match (root, detail) {
        (Regex(_), _) | (_, Regex(_)) => true,
        (Exact(root), Exact(detail)) => root != detail,
        (Exact(_), Prefix(_)) => true,
        (Prefix(root), Exact(detail) | Prefix(detail)) => !detail.starts_with(root.as_str()),
    }
}
