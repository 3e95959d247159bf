//! Whether a route is for a request, and what the ones before it lacked.

use corten_envoy::envoy::config::core::v3::RuntimeFractionalPercent;
use corten_envoy::envoy::config::route::v3::{Route, RouteMatch, VirtualHost, route_match::PathSpecifier};
use corten_envoy::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use corten_envoy::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};

use crate::facts::Facts;
use crate::headers::{judge_cookie, judge_header, judge_query};
use crate::rbac::{judge_state, judge_uri_template};
use crate::regexes::matches_fully;
use crate::strings::{Judged, Relation, quoted};
use crate::trace::PassedOver;
use crate::values::judge_metadata;

/// A route that is taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) route: &'a Route,
    pub(crate) index: usize,
    pub(crate) share: f64,
    pub(crate) because: String,
}

/// The routes that are taken, with shares that sum up to 1 unless some calls find none, and those before them.
pub(crate) fn find<'a>(host: &'a VirtualHost, facts: &Facts) -> (Vec<Taken<'a>>, Vec<PassedOver>) {
    let (mut taken, mut passed_over) = (Vec::new(), Vec::new());
    let mut left = 1.0;
    for (index, route) in host.routes.iter().enumerate() {
        let nothing = RouteMatch::default();
        let demand = route.r#match.as_ref().unwrap_or(&nothing);
        let judged = judge(demand, facts);
        if !judged.yes {
            let name = name_of(route, index);
            passed_over.push(PassedOver {
                name,
                because: judged.why,
            });
            continue;
        }
        let share = left * fraction(demand.runtime_fraction.as_ref());
        if share > 0.0 {
            taken.push(Taken {
                route,
                index,
                share,
                because: judged.why,
            });
        }
        left -= share;
        if left <= f64::EPSILON {
            break;
        }
    }
    (taken, passed_over)
}

/// A route's name, or its place.
pub(crate) fn name_of(route: &Route, index: usize) -> String {
    if route.name.is_empty() {
        format!("#{index}")
    } else {
        route.name.clone()
    }
}

/// The share of calls that a fraction is for; all of them without one.
pub(crate) fn fraction(fraction: Option<&RuntimeFractionalPercent>) -> f64 {
    fraction
        .and_then(|fraction| fraction.default_value.as_ref())
        .map_or(1.0, share_of)
}

/// A fraction as a share: 1 is all.
pub(crate) fn share_of(percent: &FractionalPercent) -> f64 {
    let whole = match percent.denominator() {
        DenominatorType::Hundred => 100.0,
        DenominatorType::TenThousand => 10_000.0,
        DenominatorType::Million => 1_000_000.0,
    };
    (f64::from(percent.numerator) / whole).min(1.0)
}

/// Judges a request by what a route asks for.
pub(crate) fn judge(demand: &RouteMatch, facts: &Facts) -> Judged {
    let path = judge_path(demand, facts);
    if !path.yes {
        return path;
    }
    let mut has = vec![path.why];
    let mut judge = |judged: Judged| {
        has.push(judged.why.clone());
        (!judged.yes).then_some(judged)
    };
    let lookup = |name: &str| facts.header(name);
    let tls = facts.tls.as_ref();
    let presented = tls.is_some_and(|tls| tls.certificate.is_some());
    if demand.grpc.is_some() {
        let kind = facts.header("content-type").unwrap_or_default();
        let yes = kind == "application/grpc" || kind.starts_with("application/grpc+");
        let is = if yes { "is" } else { "is not" };
        if let Some(no) = judge(Judged::new(yes, format!("it {is} gRPC"))) {
            return no;
        }
    }
    for matcher in &demand.headers {
        if let Some(no) = judge(judge_header(matcher, lookup)) {
            return no;
        }
    }
    for matcher in &demand.query_parameters {
        if let Some(no) = judge(judge_query(matcher, facts.path_and_query())) {
            return no;
        }
    }
    for matcher in &demand.cookies {
        if let Some(no) = judge(judge_cookie(matcher, facts.header("cookie").as_deref())) {
            return no;
        }
    }
    if let Some(context) = &demand.tls_context {
        let is = if presented { "shows" } else { "does not show" };
        for wanted in [&context.presented, &context.validated].into_iter().flatten() {
            if let Some(no) = judge(Judged::new(
                wanted.value == presented,
                format!("the client {is} a certificate"),
            )) {
                return no;
            }
        }
    }
    for matcher in &demand.dynamic_metadata {
        if let Some(no) = judge(judge_metadata(matcher, &facts.metadata)) {
            return no;
        }
    }
    for matcher in &demand.filter_state {
        if let Some(no) = judge(judge_state(matcher, facts)) {
            return no;
        }
    }
    Judged::new(true, has.join("; "))
}

fn judge_path(demand: &RouteMatch, facts: &Facts) -> Judged {
    let path = facts.path();
    let sensitive = demand.case_sensitive.as_ref().is_none_or(|value| value.value);
    let folded = |text: &str| {
        if sensitive {
            text.to_owned()
        } else {
            text.to_ascii_lowercase()
        }
    };
    let judged = |yes: bool, relation: Relation, wanted: &str| {
        let case = if sensitive { "" } else { " in any case" };
        Judged::new(
            yes,
            format!("path {} {}{case}", quoted(path), relation.say(yes, wanted)),
        )
    };
    let connect = facts.header(":method").is_some_and(|method| method == "CONNECT");
    if path.is_empty() && connect && !matches!(demand.path_specifier, Some(PathSpecifier::ConnectMatcher(_))) {
        return Judged::new(false, "a CONNECT has no path");
    }
    match &demand.path_specifier {
        None => Judged::new(false, "it asks for no path, which Envoy does not accept"),
        Some(PathSpecifier::Prefix(wanted)) => {
            judged(folded(path).starts_with(&folded(wanted)), Relation::BeginsWith, wanted)
        }
        Some(PathSpecifier::Path(wanted)) => judged(folded(path) == folded(wanted), Relation::Is, wanted),
        Some(PathSpecifier::PathSeparatedPrefix(wanted)) => {
            let rest = folded(path).strip_prefix(&folded(wanted)).map(str::to_owned);
            let yes = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            judged(yes, Relation::IsBelow, wanted)
        }
        Some(PathSpecifier::SafeRegex(regex)) => match matches_fully(regex, path) {
            Ok(yes) => judged(yes, Relation::Matches, &regex.regex),
            Err(why) => Judged::new(false, why),
        },
        Some(PathSpecifier::ConnectMatcher(_)) => {
            let is = if connect { "is" } else { "is not" };
            Judged::new(connect, format!("it {is} a CONNECT"))
        }
        Some(PathSpecifier::PathMatchPolicy(extension)) => {
            let template = extension
                .typed_config
                .as_ref()
                .and_then(|any| corten_envoy::decode::<UriTemplateMatchConfig>(any).ok().flatten());
            match template {
                Some(template) => judge_uri_template(&template.path_template, facts),
                None => Judged::new(
                    false,
                    format!("{:?} is an extension that is not evaluated here", extension.name),
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests;
