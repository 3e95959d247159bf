//! What a route does with a request: where it goes, as what, and with which settings.

use corten_envoy::envoy::config::core::v3::{
    HeaderValueOption, data_source::Specifier, header_value_option::HeaderAppendAction,
};
use corten_envoy::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, RetryPolicy, Route, RouteAction,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
    route::Action,
    route_action::{
        ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
        hash_policy::PolicySpecifier,
    },
    route_match::PathSpecifier,
    weighted_cluster::{ClusterWeight, cluster_weight},
};

use crate::facts::Facts;
use crate::filters::Scope;
use crate::network::Ended;
use crate::regexes::substitute;
use crate::route::fraction;
use crate::text::{duration, percent};
use crate::trace::{Answer, Destination, HeaderChange, Outcome, Refusal, Retries, RouteTaken, Setting};
use crate::{Config, Request, cluster, format, host};

/// What Envoy waits for an answer where a route does not say.
const TIMEOUT_DEFAULT: &str = "15s";
const TIMEOUT_DEFAULT_MS: u64 = 15_000;
/// What is added to the host of a copy, so that its server can tell.
const COPY_SUFFIX: &str = "-shadow";

/// Does what the route says for its share of calls, and shows it.
pub(crate) fn run(
    config: &Config,
    scope: Scope<'_>,
    share: f64,
    facts: &Facts,
    shown: &mut RouteTaken,
    hop: &mut Ended,
) -> Outcome {
    let unsupported = |why: &str| Outcome::Refused {
        error: Refusal::Unsupported,
        status: None,
        why: why.to_owned(),
    };
    let Some(route) = scope.route else {
        return unsupported("there is no route");
    };
    match &route.action {
        Some(Action::Route(action)) => forward(config, scope, route, action, share, facts, shown, hop),
        Some(Action::Redirect(redirect)) => match location(redirect, route, facts) {
            Err(why) => unsupported(&why),
            Ok(location) => {
                let answer = Answer {
                    status: redirect_status(redirect),
                    location: Some(location.clone()),
                    ..Answer::default()
                };
                shown.action = format!("redirects to {location} ({})", answer.status);
                shown.answer = Some(answer.clone());
                Outcome::Answered(answer)
            }
        },
        Some(Action::DirectResponse(direct)) => {
            let answer = answer(direct);
            shown.action = format!("answers {}", answer.status);
            shown.answer = Some(answer.clone());
            Outcome::Answered(answer)
        }
        Some(Action::FilterAction(_)) => unsupported("the route leaves the request to a filter"),
        Some(Action::NonForwardingAction(_)) => unsupported("the route is for servers, not for proxies"),
        None => unsupported("the route does nothing, which Envoy does not accept"),
    }
}

fn answer(direct: &DirectResponseAction) -> Answer {
    let body = match direct.body.as_ref().and_then(|body| body.specifier.as_ref()) {
        Some(Specifier::InlineString(text)) => text.clone(),
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Specifier::Filename(name)) => format!("the file {name}"),
        _ => String::new(),
    };
    Answer {
        status: u16::try_from(direct.status).unwrap_or_default(),
        body,
        ..Answer::default()
    }
}

fn redirect_status(redirect: &RedirectAction) -> u16 {
    match redirect.response_code() {
        RedirectResponseCode::MovedPermanently => 301,
        RedirectResponseCode::Found => 302,
        RedirectResponseCode::SeeOther => 303,
        RedirectResponseCode::TemporaryRedirect => 307,
        RedirectResponseCode::PermanentRedirect => 308,
    }
}

/// Where a redirect points.
fn location(redirect: &RedirectAction, route: &Route, facts: &Facts) -> Result<String, String> {
    let scheme = match &redirect.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => "https",
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => scheme,
        _ => &facts.scheme,
    };
    let port = if redirect.port_redirect == 0 {
        String::new()
    } else {
        format!(":{}", redirect.port_redirect)
    };
    let requested = facts.request.as_ref().map_or("", |request| &*request.host);
    let host = if redirect.host_redirect.is_empty() {
        let bare = host::without_port(requested);
        let usual = match &*facts.scheme {
            "https" => ":443",
            _ => ":80",
        };
        let drops = !port.is_empty() || (scheme != facts.scheme && &requested[bare.len()..] == usual);
        if drops { bare } else { requested }
    } else {
        &redirect.host_redirect
    };
    let (path, query) = split(facts.path_and_query());
    let query = if redirect.strip_query { "" } else { query };
    let path = match &redirect.path_rewrite_specifier {
        Some(PathRewriteSpecifier::PathRedirect(to)) if to.contains('?') => to.clone(),
        Some(PathRewriteSpecifier::PathRedirect(to)) if !to.is_empty() => format!("{to}{query}"),
        Some(PathRewriteSpecifier::PrefixRewrite(to)) if !to.is_empty() => {
            format!("{}{query}", replace_match(route, path, to))
        }
        Some(PathRewriteSpecifier::RegexRewrite(rule)) => format!("{}{query}", substitute(rule, path)?),
        Some(PathRewriteSpecifier::PathRewrite(to)) if !to.is_empty() => {
            format!("{}{query}", format::filled(to, facts, false))
        }
        _ => format!("{path}{query}"),
    };
    Ok(format!("{scheme}://{host}{port}{path}"))
}

/// A path and its query, with the question mark.
fn split(path: &str) -> (&str, &str) {
    path.find(['?', '#']).map_or((path, ""), |at| path.split_at(at))
}

/// The path with what the route matched of it replaced: the prefix, or all of it.
fn replace_match(route: &Route, path: &str, to: &str) -> String {
    let matched = match route.r#match.as_ref().and_then(|demand| demand.path_specifier.as_ref()) {
        Some(PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix)) => prefix.len(),
        _ => path.len(),
    };
    format!("{to}{}", path.get(matched..).unwrap_or_default())
}

#[expect(
    clippy::too_many_arguments,
    reason = "a route's parts and the place where they are shown"
)]
fn forward(
    config: &Config,
    scope: Scope<'_>,
    route: &Route,
    action: &RouteAction,
    share: f64,
    facts: &Facts,
    shown: &mut RouteTaken,
    hop: &mut Ended,
) -> Outcome {
    shown.settings = settings(scope, route, action);
    shown.timeout_ms = Some(action.timeout.as_ref().map_or(TIMEOUT_DEFAULT_MS, milliseconds));
    shown.retries = retry_policy(scope, action).and_then(retried);
    let choices = match choices(action, facts) {
        Ok(choices) => choices,
        Err(why) => {
            return Outcome::Refused {
                error: Refusal::Unsupported,
                status: Some(503),
                why,
            };
        }
    };
    let names: Vec<String> = choices
        .iter()
        .map(|choice| {
            if choices.len() == 1 {
                choice.cluster.clone()
            } else {
                format!("{} ({} %)", choice.cluster, percent(choice.share))
            }
        })
        .collect();
    shown.action = format!("forwards to {}", names.join(", "));
    let begins = hop.destinations.len();
    for choice in choices {
        let request = match mutated(scope, action, route, &choice, facts) {
            Ok(request) => request,
            Err(why) => {
                return Outcome::Refused {
                    error: Refusal::Unsupported,
                    status: None,
                    why,
                };
            }
        };
        let upstream = cluster::upstream(config, &choice.cluster, facts, Some(&request), hop);
        for mirror in mirror_policies(scope, action) {
            let copy = copied(mirror, &request);
            let name = if mirror.cluster.is_empty() {
                facts
                    .header(&mirror.cluster_header.to_ascii_lowercase())
                    .unwrap_or_default()
            } else {
                mirror.cluster.clone()
            };
            shown.mirrors.push(Destination {
                upstream: cluster::upstream(config, &name, facts, Some(&copy), hop),
                cluster: name,
                share: share * choice.share * fraction(mirror.runtime_fraction.as_ref()),
                request: Some(copy),
                response: Vec::new(),
            });
        }
        let mut response = facts.response.clone();
        response.extend(changes(scope, route, &choice, facts));
        hop.destinations.push(Destination {
            cluster: choice.cluster,
            share: share * choice.share,
            request: Some(request),
            upstream,
            response,
        });
    }
    let missing = match action.cluster_not_found_response_code() {
        ClusterNotFoundResponseCode::ServiceUnavailable => 503,
        ClusterNotFoundResponseCode::NotFound => 404,
        ClusterNotFoundResponseCode::InternalServerError => 500,
    };
    cluster::outcome(&hop.destinations[begins..], Some(missing))
}

/// A cluster that may be chosen.
struct Choice<'a> {
    cluster: String,
    share: f64,
    weighted: Option<&'a ClusterWeight>,
}

fn choices<'a>(action: &'a RouteAction, facts: &Facts) -> Result<Vec<Choice<'a>>, String> {
    let single = |cluster: String| {
        Ok(vec![Choice {
            cluster,
            share: 1.0,
            weighted: None,
        }])
    };
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => single(name.clone()),
        Some(ClusterSpecifier::ClusterHeader(header)) => match facts.header(&header.to_ascii_lowercase()) {
            Some(name) => single(name),
            None => Err(format!("the header {header:?}, which names the cluster, is missing")),
        },
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let weight = |cluster: &ClusterWeight| cluster.weight.as_ref().map_or(0, |weight| weight.value);
            let total: u64 = weighted.clusters.iter().map(|cluster| u64::from(weight(cluster))).sum();
            if total == 0 {
                return Err("all of the clusters' weights are 0".to_owned());
            }
            let mut choices = Vec::new();
            for cluster in weighted.clusters.iter().filter(|cluster| weight(cluster) > 0) {
                #[expect(clippy::cast_precision_loss, reason = "weights are far from the limit")]
                let share = f64::from(weight(cluster)) / total as f64;
                let name = if cluster.name.is_empty() {
                    facts
                        .header(&cluster.cluster_header.to_ascii_lowercase())
                        .unwrap_or_default()
                } else {
                    cluster.name.clone()
                };
                choices.push(Choice {
                    cluster: name,
                    share,
                    weighted: Some(cluster),
                });
            }
            Ok(choices)
        }
        Some(ClusterSpecifier::ClusterSpecifierPlugin(name)) => Err(format!("the plugin {name:?} chooses the cluster")),
        Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) => Err("a plugin chooses the cluster".to_owned()),
        None => Err("the route names no cluster".to_owned()),
    }
}

/// The request as it is sent to a cluster.
fn mutated(
    scope: Scope<'_>,
    action: &RouteAction,
    route: &Route,
    choice: &Choice<'_>,
    facts: &Facts,
) -> Result<Request, String> {
    let mut request = facts.request.clone().unwrap_or_default();
    let (path, query) = split(&request.path);
    let (path, query) = (path.to_owned(), query.to_owned());
    let rewritten = if let Some(rule) = &action.regex_rewrite {
        Some(substitute(rule, &path)?)
    } else if action.path_rewrite_policy.is_some() {
        return Err("the route rewrites the path by an extension, which is not followed here".to_owned());
    } else if !action.path_rewrite.is_empty() {
        Some(format::filled(&action.path_rewrite, facts, false))
    } else {
        (!action.prefix_rewrite.is_empty()).then(|| replace_match(route, &path, &action.prefix_rewrite))
    };
    if let Some(rewritten) = rewritten.filter(|rewritten| *rewritten != path) {
        request.set("x-envoy-original-path", format!("{path}{query}"));
        request.path = format!("{rewritten}{query}");
    }
    // From the most specific to the least, so that the least specific has the last word, unless it is told otherwise.
    let mut scopes = Vec::new();
    if let Some(weighted) = choice.weighted {
        scopes.push((&weighted.request_headers_to_add, &weighted.request_headers_to_remove));
    }
    scopes.push((&route.request_headers_to_add, &route.request_headers_to_remove));
    scopes.extend(
        scope
            .host
            .map(|host| (&host.request_headers_to_add, &host.request_headers_to_remove)),
    );
    scopes.extend(
        scope
            .config
            .map(|config| (&config.request_headers_to_add, &config.request_headers_to_remove)),
    );
    if is_reversed(scope) {
        scopes.reverse();
    }
    for (add, remove) in scopes {
        remove.iter().for_each(|name| request.remove(name));
        add.iter().for_each(|option| add_header(&mut request, option, facts));
    }
    let literal = choice
        .weighted
        .and_then(|weighted| weighted.host_rewrite_specifier.as_ref())
        .map(|cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)| host.clone());
    let host = match (literal, &action.host_rewrite_specifier) {
        (Some(literal), _) => Some(literal),
        (None, Some(HostRewriteSpecifier::HostRewriteLiteral(host) | HostRewriteSpecifier::HostRewrite(host))) => {
            Some(host.clone())
        }
        (None, Some(HostRewriteSpecifier::HostRewriteHeader(header))) => facts.header(&header.to_ascii_lowercase()),
        (None, Some(HostRewriteSpecifier::HostRewritePathRegex(rule))) => Some(substitute(rule, &path)?),
        (None, Some(HostRewriteSpecifier::AutoHostRewrite(_)) | None) => None,
    };
    if let Some(host) = host.filter(|host| !host.is_empty() && *host != request.host) {
        if action.append_x_forwarded_host {
            request.set("x-forwarded-host", request.host.clone());
        }
        request.host = host;
    }
    Ok(request)
}

/// Whether the most specific of headers' changes has the last word.
fn is_reversed(scope: Scope<'_>) -> bool {
    scope
        .config
        .is_some_and(|config| config.most_specific_header_mutations_wins)
}

/// What is done to the headers of an answer, in order.
fn changes(scope: Scope<'_>, route: &Route, choice: &Choice<'_>, facts: &Facts) -> Vec<HeaderChange> {
    let mut scopes = Vec::new();
    if let Some(weighted) = choice.weighted {
        scopes.push((&weighted.response_headers_to_add, &weighted.response_headers_to_remove));
    }
    scopes.push((&route.response_headers_to_add, &route.response_headers_to_remove));
    scopes.extend(
        scope
            .host
            .map(|host| (&host.response_headers_to_add, &host.response_headers_to_remove)),
    );
    scopes.extend(
        scope
            .config
            .map(|config| (&config.response_headers_to_add, &config.response_headers_to_remove)),
    );
    if is_reversed(scope) {
        scopes.reverse();
    }
    let mut changes = Vec::new();
    for (add, remove) in scopes {
        changes.extend(
            remove
                .iter()
                .map(|name| HeaderChange::Remove(name.to_ascii_lowercase())),
        );
        changes.extend(add.iter().filter_map(|option| change(option, facts)));
    }
    changes
}

fn change(option: &HeaderValueOption, facts: &Facts) -> Option<HeaderChange> {
    let header = option.header.as_ref()?;
    let (name, value) = (
        header.key.to_ascii_lowercase(),
        format::filled(&header.value, facts, true),
    );
    if value.is_empty() && !option.keep_empty_value {
        return None;
    }
    let append = option.append.as_ref().map(|append| append.value);
    Some(match (append, option.append_action()) {
        (Some(false), _) | (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => HeaderChange::Set(name, value),
        (None, HeaderAppendAction::AddIfAbsent) => HeaderChange::Default(name, value),
        (None, HeaderAppendAction::OverwriteIfExists) => HeaderChange::Replace(name, value),
        _ => HeaderChange::Add(name, value),
    })
}

fn mirror_policies<'a>(scope: Scope<'a>, action: &'a RouteAction) -> &'a [RequestMirrorPolicy] {
    let own = &action.request_mirror_policies;
    match scope.host {
        Some(host) if own.is_empty() => &host.request_mirror_policies,
        _ => own,
    }
}

/// A copy of a request as it is sent to whom it is mirrored to.
fn copied(mirror: &RequestMirrorPolicy, request: &Request) -> Request {
    let mut copy = request.clone();
    if !mirror.disable_shadow_host_suffix_append && !copy.host.is_empty() {
        let bare = host::without_port(&copy.host).len();
        copy.host.insert_str(bare, COPY_SUFFIX);
    }
    copy
}

fn retry_policy<'a>(scope: Scope<'a>, action: &'a RouteAction) -> Option<&'a RetryPolicy> {
    action
        .retry_policy
        .as_ref()
        .or_else(|| scope.host.and_then(|host| host.retry_policy.as_ref()))
}

/// When a policy tries again; `None`: never.
fn retried(policy: &RetryPolicy) -> Option<Retries> {
    let conditions = policy.retry_on.split(',').map(str::trim);
    let retries = Retries {
        times: policy.num_retries.as_ref().map_or(1, |times| times.value),
        on: conditions
            .filter(|condition| !condition.is_empty())
            .map(str::to_owned)
            .collect(),
        statuses: policy
            .retriable_status_codes
            .iter()
            .filter_map(|status| u16::try_from(*status).ok())
            .collect(),
        each_ms: policy.per_try_timeout.as_ref().map_or(0, milliseconds),
    };
    (retries.times > 0 && !retries.on.is_empty()).then_some(retries)
}

fn milliseconds(time: &corten_envoy::google::protobuf::Duration) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or_default();
    let nanos = u64::try_from(time.nanos).unwrap_or_default();
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

fn add_header(request: &mut Request, option: &HeaderValueOption, facts: &Facts) {
    let Some(header) = &option.header else { return };
    let value = format::filled(&header.value, facts, true);
    if value.is_empty() && !option.keep_empty_value {
        return;
    }
    let there = request.get(&header.key.to_ascii_lowercase()).is_some();
    // The old way of saying it still counts where it is used.
    let append = option.append.as_ref().map(|append| append.value);
    match (append, option.append_action()) {
        (Some(false), _) | (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => {
            request.set(&header.key.to_ascii_lowercase(), value)
        }
        (None, HeaderAppendAction::AddIfAbsent) if there => {}
        (None, HeaderAppendAction::OverwriteIfExists) if there => request.set(&header.key.to_ascii_lowercase(), value),
        (None, HeaderAppendAction::OverwriteIfExists) => {}
        _ => request.headers.push((header.key.to_ascii_lowercase(), value)),
    }
}

/// What a route sets, for people.
fn settings(scope: Scope<'_>, route: &Route, action: &RouteAction) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut push = |name: &str, value: String| {
        if !value.is_empty() {
            settings.push(Setting::new(name, value));
        }
    };
    if let Some(rule) = &action.regex_rewrite {
        let pattern = rule.pattern.as_ref().map_or("", |pattern| &*pattern.regex);
        push("rewrite path", format!("{pattern} to {}", rule.substitution));
    } else {
        push(
            "rewrite path",
            format!("{}{}", action.prefix_rewrite, action.path_rewrite),
        );
    }
    push(
        "rewrite host",
        match &action.host_rewrite_specifier {
            Some(HostRewriteSpecifier::HostRewriteLiteral(host) | HostRewriteSpecifier::HostRewrite(host)) => {
                host.clone()
            }
            Some(HostRewriteSpecifier::HostRewriteHeader(header)) => format!("what the header {header:?} says"),
            Some(HostRewriteSpecifier::AutoHostRewrite(_)) => "the endpoint's name".to_owned(),
            Some(HostRewriteSpecifier::HostRewritePathRegex(_)) => "a part of the path".to_owned(),
            None => String::new(),
        },
    );
    let names = |options: &[HeaderValueOption]| {
        let names = options
            .iter()
            .filter_map(|option| option.header.as_ref())
            .map(|header| format!("{}={}", header.key, header.value));
        names.collect::<Vec<_>>().join(", ")
    };
    push("request headers", names(&route.request_headers_to_add));
    push("request headers removed", route.request_headers_to_remove.join(", "));
    push("response headers", names(&route.response_headers_to_add));
    push("response headers removed", route.response_headers_to_remove.join(", "));
    push(
        "timeout",
        match &action.timeout {
            None => format!("{TIMEOUT_DEFAULT} (Envoy's default)"),
            Some(time) if time.seconds == 0 && time.nanos == 0 => "none".to_owned(),
            Some(time) => duration(time),
        },
    );
    push(
        "idle timeout",
        action.idle_timeout.as_ref().map_or(String::new(), duration),
    );
    let retry = retry_policy(scope, action);
    push("retries", retry.map_or_else(|| "none".to_owned(), retries));
    for mirror in mirror_policies(scope, action) {
        let to = if mirror.cluster.is_empty() {
            format!("what the header {:?} says", mirror.cluster_header)
        } else {
            mirror.cluster.clone()
        };
        push(
            "mirror",
            format!("{} % to {to}", percent(fraction(mirror.runtime_fraction.as_ref()))),
        );
    }
    for policy in &action.hash_policy {
        push(
            "hash by",
            match &policy.policy_specifier {
                Some(PolicySpecifier::Header(header)) => format!("header {}", header.header_name),
                Some(PolicySpecifier::Cookie(cookie)) => format!("cookie {}", cookie.name),
                Some(PolicySpecifier::ConnectionProperties(_)) => "source address".to_owned(),
                Some(PolicySpecifier::QueryParameter(parameter)) => format!("query parameter {}", parameter.name),
                Some(PolicySpecifier::FilterState(state)) => format!("note {}", state.key),
                None => String::new(),
            },
        );
    }
    settings
}

fn retries(policy: &RetryPolicy) -> String {
    let times = policy.num_retries.as_ref().map_or(1, |times| times.value);
    let mut text = format!(
        "{times} on {}",
        if policy.retry_on.is_empty() {
            "nothing"
        } else {
            &policy.retry_on
        }
    );
    if !policy.retriable_status_codes.is_empty() {
        let codes: Vec<String> = policy.retriable_status_codes.iter().map(u32::to_string).collect();
        text.push_str(&format!(" ({})", codes.join(", ")));
    }
    if let Some(time) = &policy.per_try_timeout {
        text.push_str(&format!(", each up to {}", duration(time)));
    }
    if let Some(time) = policy
        .retry_back_off
        .as_ref()
        .and_then(|back_off| back_off.base_interval.as_ref())
    {
        text.push_str(&format!(", {} apart", duration(time)));
    }
    text
}
