//! What policies say, by the words of Istio's reference: fields are all asked, of their values one, of `not` values none.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::{ADDRESS, Asked};

/// A condition can be had of this call, or not: calls without requests have none.
enum Said {
    Is(bool),
    OfRequests,
}

/// Whether the policies of all namespaces let the call in.
pub(crate) fn is_allowed(policies: &[Value], asked: &Asked) -> bool {
    let enforced: Vec<&Value> = policies.iter().filter(|policy| concerns(policy)).collect();
    let of = |action: &'static str| enforced.iter().filter(move |policy| policy["spec"]["action"] == action);
    if of("DENY").any(|policy| matches(policy, asked, true)) {
        return false;
    }
    of("ALLOW").next().is_none() || of("ALLOW").any(|policy| matches(policy, asked, false))
}

/// Whether a policy is for the workload and more than a dry run.
fn concerns(policy: &Value) -> bool {
    let meta = &policy["metadata"];
    let selected = policy["spec"]["selector"]["matchLabels"]["app"]
        .as_str()
        .is_none_or(|app| app == "web");
    (meta["namespace"] == "shop" || meta["namespace"] == "istio-system")
        && selected
        && meta["annotations"]["istio.io/dry-run"] != "true"
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn matches(policy: &Value, asked: &Asked, deny: bool) -> bool {
    let namespace = policy["metadata"]["namespace"].as_str().unwrap_or_default();
    list(&policy["spec"]["rules"]).iter().any(|rule| {
        // An ALLOW that asks what cannot be had allows nothing, not even by another of its sources.
        let mut unanswered = false;
        let mut all = |object: &Value, of: &dyn Fn(&str) -> Option<String>| {
            let mut holds = true;
            for (field, values) in object.as_object().into_iter().flatten() {
                let (negated, field) = match field.strip_prefix("not") {
                    Some(rest) => (true, format!("{}{}", rest[..1].to_lowercase(), &rest[1..])),
                    None => (false, field.clone()),
                };
                let Some(attribute) = of(&field) else { continue };
                match says(&attribute, list(values), asked, namespace) {
                    Said::Is(one) => holds &= one != negated,
                    Said::OfRequests => unanswered = true,
                }
            }
            holds
        };
        let named = |field: &str| Some(field.to_owned());
        let from: Vec<bool> = list(&rule["from"])
            .iter()
            .map(|from| all(&from["source"], &named))
            .collect();
        let to: Vec<bool> = list(&rule["to"])
            .iter()
            .map(|to| all(&to["operation"], &named))
            .collect();
        let when: Vec<bool> = list(&rule["when"])
            .iter()
            .map(|condition| {
                let key = condition["key"].as_str().unwrap_or_default();
                all(condition, &|field| (field == "values").then(|| key.to_owned()))
            })
            .collect();
        let one_of = |parts: &[bool]| parts.is_empty() || parts.contains(&true);
        (deny || !unanswered) && one_of(&from) && one_of(&to) && when.iter().all(|holds| *holds)
    })
}

/// Whether one of the values is the attribute's.
fn says(attribute: &str, values: &[Value], asked: &Asked, namespace: &str) -> Said {
    let any = |fits: &dyn Fn(&str) -> bool| Said::Is(values.iter().filter_map(Value::as_str).any(fits));
    let parts: Vec<&str> = asked.identity.as_deref().unwrap_or_default().split('/').collect();
    let (trust_domain, of, account) = match parts.as_slice() {
        [trust_domain, _, of, _, account] => (*trust_domain, *of, *account),
        _ => ("", "", ""),
    };
    let known = asked.identity.is_some();
    if attribute.starts_with("request") || ["methods", "paths", "hosts"].contains(&attribute) {
        if !asked.is_http() {
            return Said::OfRequests;
        }
        if let Some(path) = attribute.strip_prefix("request.auth.claims") {
            let names: Vec<&str> = path.trim_matches(['[', ']']).split("][").collect();
            return any(&|wanted| claim(asked, &names, wanted));
        }
    }
    match attribute {
        "principals" | "source.principal" => any(&|wanted| known && principal(wanted, asked)),
        "namespaces" | "source.namespace" => any(&|wanted| known && anywhere(wanted, of)),
        "serviceAccounts" | "source.serviceAccount" => {
            any(&|wanted| wanted.split_once('/').unwrap_or((namespace, wanted)) == (of, account))
        }
        "trustDomains" | "source.trustDomain" => any(&|wanted| {
            let same = |name: &str| name == "cluster.local" || name == "old";
            known && (glob(wanted, trust_domain) || same(wanted) && same(trust_domain))
        }),
        "ipBlocks" | "source.ip" => any(&|wanted| within(wanted, asked.address)),
        "destination.ip" => any(&|wanted| within(wanted, ADDRESS.parse().expect("an address"))),
        "ports" | "destination.port" => any(&|wanted| wanted == asked.port.to_string()),
        "connection.sni" => any(&|wanted| glob(wanted, if known { "outbound_.80_._.web" } else { "" })),
        "hosts" => any(&|wanted| glob(&wanted.to_lowercase(), &asked.host.to_lowercase())),
        "methods" | "request.headers[:method]" => any(&|wanted| glob(wanted, &asked.method)),
        "paths" => any(&|wanted| path(wanted, &asked.path)),
        "requestPrincipals" | "request.auth.principal" => any(&|wanted| request_principal(wanted, asked)),
        "request.headers[x-one]" => any(&|wanted| {
            let sent = asked.headers.first().map(|(_, value)| value.as_str());
            sent.is_some_and(|value| wanted == "*" || glob(wanted, value))
        }),
        "request.auth.audiences" => any(&|wanted| claim(asked, &["aud"], wanted)),
        "request.auth.presenter" => any(&|wanted| claim(asked, &["azp"], wanted)),
        other => panic!("{other} is not among the attributes of this test"),
    }
}

/// `*` is anything but nothing, `x*` begins and `*x` ends so.
fn glob(wanted: &str, value: &str) -> bool {
    match (wanted, wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        ("*", ..) => !value.is_empty(),
        (_, Some(end), _) => value.ends_with(end),
        (_, None, Some(start)) => value.starts_with(start),
        _ => value == wanted,
    }
}

/// `*` anywhere is any text.
fn anywhere(wanted: &str, value: &str) -> bool {
    match wanted.split_once('*') {
        Some((start, end)) => {
            value.len() >= start.len() + end.len() && value.starts_with(start) && value.ends_with(end)
        }
        None => value == wanted,
    }
}

/// The mesh's trust domain and its alias are the same, wherever a pattern names one of them in full.
fn principal(wanted: &str, asked: &Asked) -> bool {
    let Some(identity) = &asked.identity else { return false };
    let swapped = |identity: &str| match identity.split_once('/') {
        Some(("old", rest)) => format!("cluster.local/{rest}"),
        Some(("cluster.local", rest)) => format!("old/{rest}"),
        _ => identity.to_owned(),
    };
    // `*d` covers the alias, and so stands for both; `*` alone says nothing of trust domains.
    let names_one = match wanted.split('/').collect::<Vec<_>>().as_slice() {
        [first, _, _, _, _] => *first != "*" && (glob(first, "old") || glob(first, "cluster.local")),
        _ => false,
    };
    glob(wanted, identity) || names_one && glob(wanted, &swapped(identity))
}

fn within(wanted: &str, address: IpAddr) -> bool {
    match wanted.parse::<IpNet>() {
        Ok(net) => net.contains(&address),
        Err(_) => wanted.parse() == Ok(address),
    }
}

/// Segment by segment: `{*}` is one, `{**}` any number.
fn path(wanted: &str, path: &str) -> bool {
    if !wanted.contains('{') {
        return glob(wanted, path);
    }
    fn segments(wanted: &[&str], path: &[&str]) -> bool {
        match wanted {
            [] => path.is_empty(),
            ["{**}", rest @ ..] => (0..=path.len()).any(|taken| segments(rest, &path[taken..])),
            [first, rest @ ..] => match path {
                [segment, others @ ..] => {
                    (*first == "{*}" && !segment.is_empty() || first == segment) && segments(rest, others)
                }
                [] => false,
            },
        }
    }
    let split = |text: &'_ str| -> Vec<String> { text[1..].split('/').map(str::to_owned).collect() };
    let (wanted, path) = (split(wanted), split(path));
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    segments(&wanted, &path)
}

/// `issuer/subject`; the subject is what follows the last slash.
fn request_principal(wanted: &str, asked: &Asked) -> bool {
    let claim = |name: &str| asked.claims.as_ref().and_then(|claims| claims[name].as_str());
    let (Some(issuer), Some(subject)) = (claim("iss"), claim("sub")) else {
        return false;
    };
    match wanted.rsplit_once('/') {
        _ if wanted == "*" => true,
        Some((of, who)) if wanted.starts_with('*') => (of == "*" || issuer.ends_with(&of[1..])) && subject == who,
        Some((of, who)) if wanted.ends_with('*') => {
            issuer == of && (who == "*" || subject.starts_with(&who[..who.len() - 1]))
        }
        None if wanted.starts_with('*') => subject.ends_with(&wanted[1..]),
        None if wanted.ends_with('*') => issuer.starts_with(&wanted[..wanted.len() - 1]),
        Some((of, who)) => issuer == of && subject == who,
        None => issuer == wanted && subject.is_empty(),
    }
}

/// A claim is a text, or a list with a text.
fn claim(asked: &Asked, names: &[&str], wanted: &str) -> bool {
    let mut value = asked.claims.as_ref().unwrap_or(&Value::Null);
    for name in names {
        value = &value[*name];
    }
    let fits = |value: &Value| value.as_str().is_some_and(|text| glob(wanted, text));
    fits(value) || list(value).iter().any(fits)
}
