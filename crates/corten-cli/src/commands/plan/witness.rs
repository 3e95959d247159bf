//! Requests that tell configurations apart: one for each condition that a route or policy asks for, and one that just misses it.
//!
//! They are taken from objects as they are written. What they cannot show is what nobody wrote a condition about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use serde::Serialize;
use serde_json::{Value, json};

use super::sample;

/// How many requests are made for one service.
const WITNESSES_MAX: usize = 320;
/// A path, and a text, that nobody writes a condition about.
const OTHER_PATH: &str = "/corten-plan/other";
const OTHER: &str = "corten-plan-other";

/// A request, as far as anybody asks about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Witness {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<String>,
    /// With its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, String>,
    /// The claims of its token, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claims: Option<String>,
}

impl Display for Witness {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let method = self.method.as_deref().unwrap_or("GET");
        write!(out, "{method} {}", self.path.as_deref().unwrap_or("/"))?;
        let mut with: Vec<String> = self.host.iter().map(|host| format!("host {host}")).collect();
        with.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        with.extend(self.claims.iter().map(|claims| format!("a token with {claims}")));
        if with.is_empty() {
            return Ok(());
        }
        write!(out, " with {}", with.join(" and "))
    }
}

impl Witness {
    /// Without saying what goes without saying.
    fn plain(mut self) -> Witness {
        self.method = self.method.filter(|method| method != "GET");
        self.path = self.path.filter(|path| path != "/");
        self
    }

    /// Both at once; nothing where they ask for different things.
    fn and(&self, other: &Witness) -> Option<Witness> {
        fn one(a: &Option<String>, b: &Option<String>) -> Option<Option<String>> {
            match (a, b) {
                (Some(a), Some(b)) if a != b => None,
                _ => Some(a.clone().or_else(|| b.clone())),
            }
        }
        let mut headers = self.headers.clone();
        for (name, value) in &other.headers {
            if headers
                .insert(name.clone(), value.clone())
                .is_some_and(|before| before != *value)
            {
                return None;
            }
        }
        Some(Witness {
            method: one(&self.method, &other.method)?,
            path: one(&self.path, &other.path)?,
            host: one(&self.host, &other.host)?,
            headers,
            claims: one(&self.claims, &other.claims)?,
        })
    }

    /// Both at once; where they ask for different things, what this one asks for: a route may make another request of it for who looks next.
    fn over(&self, other: &Witness) -> Witness {
        let mut headers = other.headers.clone();
        headers.extend(self.headers.clone());
        let one = |a: &Option<String>, b: &Option<String>| a.clone().or_else(|| b.clone());
        Witness {
            method: one(&self.method, &other.method),
            path: one(&self.path, &other.path),
            host: one(&self.host, &other.host),
            headers,
            claims: one(&self.claims, &other.claims),
        }
    }

    fn query(&mut self, name: &str, value: &str) {
        let path = self.path.get_or_insert_with(|| "/".to_owned());
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(&format!("{name}={value}"));
    }
}

/// The requests to try on a service, and whether there would have been more.
pub(super) fn of_service(objects: &[&Value], host: &str, namespace: &str, root: &str) -> (Vec<Witness>, bool) {
    let (mut routes, mut policies) = (BTreeSet::new(), BTreeSet::new());
    for object in objects {
        let (of, spec) = (text(&object["metadata"]["namespace"]), &object["spec"]);
        match text(&object["kind"]) {
            "VirtualService" if concerns(spec, of, host) => virtual_service(spec, &mut routes),
            "HTTPRoute" | "GRPCRoute" if of_mesh(spec, of, host) => gateway_route(spec, &mut routes),
            "AuthorizationPolicy" if of == namespace || of == root => policy(spec, &mut policies),
            "RequestAuthentication" if of == namespace || of == root => tokens(spec, &mut policies),
            _ => {}
        }
    }
    let mut found = vec![Witness::default()];
    let over = |some: Vec<Witness>| -> Vec<Witness> {
        let pairs = some
            .iter()
            .flat_map(|one| policies.iter().map(|policy| one.over(policy)));
        // Of more than can be tried, no more are made than it takes to notice.
        pairs.take(WITNESSES_MAX * 4).collect()
    };
    let own: Vec<Witness> = routes.iter().chain(&policies).cloned().collect();
    // What one policy allows another may deny: a request may have to please two besides its route.
    let (two, three) = (over(own.clone()), over(over(routes.iter().cloned().collect())));
    let mut seen: BTreeSet<Witness> = found.iter().cloned().collect();
    for witness in own.into_iter().chain(two).chain(three).map(Witness::plain) {
        if seen.contains(&witness) {
            continue;
        }
        if found.len() == WITNESSES_MAX {
            return (found, true);
        }
        seen.insert(witness.clone());
        found.push(witness);
    }
    (found, false)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Whether a VirtualService speaks of a host. One without hosts is a part of others.
fn concerns(spec: &Value, namespace: &str, host: &str) -> bool {
    let mut hosts = items(&spec["hosts"]).map(text).peekable();
    hosts.peek().is_none() || hosts.any(|written| is_host(written, namespace, host))
}

/// Whether a host as it is written in a namespace is, or includes, another.
fn is_host(written: &str, namespace: &str, host: &str) -> bool {
    match written.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix),
        None if written.contains('.') => written == host,
        None => host
            .strip_prefix(written)
            .is_some_and(|rest| rest.starts_with(&format!(".{namespace}."))),
    }
}

/// Whether a route of the Gateway API is one of a service's clients.
fn of_mesh(spec: &Value, namespace: &str, host: &str) -> bool {
    items(&spec["parentRefs"])
        .filter(|parent| parent["kind"] == "Service")
        .any(|parent| {
            let of = parent["namespace"].as_str().unwrap_or(namespace);
            is_host(text(&parent["name"]), of, host)
        })
}

/// What satisfies a condition, and what just misses it.
struct Condition {
    yes: Box<dyn Fn(&mut Witness)>,
    no: Box<dyn Fn(&mut Witness)>,
}

impl Condition {
    fn new(yes: impl Fn(&mut Witness) + 'static, no: impl Fn(&mut Witness) + 'static) -> Self {
        Self {
            yes: Box::new(yes),
            no: Box::new(no),
        }
    }

    fn path(value: String) -> Self {
        let path = if value.starts_with('/') {
            value
        } else {
            format!("/{value}")
        };
        Self::new(
            move |it| it.path = Some(path.clone()),
            |it| it.path = Some(OTHER_PATH.to_owned()),
        )
    }

    fn method(value: String) -> Self {
        let other = if value == "GET" { "POST" } else { "GET" };
        Self::new(
            move |it| it.method = Some(value.clone()),
            move |it| it.method = Some(other.to_owned()),
        )
    }

    fn host(value: String) -> Self {
        Self::new(move |it| it.host = Some(value.clone()), |_| {})
    }

    fn header(name: &str, value: String) -> Self {
        let (own, other) = (name.to_ascii_lowercase(), name.to_ascii_lowercase());
        Self::new(
            move |it| _ = it.headers.insert(own.clone(), value.clone()),
            move |it| _ = it.headers.insert(other.clone(), OTHER.to_owned()),
        )
    }

    fn query(name: &str, value: String) -> Self {
        let (own, other) = (name.to_owned(), name.to_owned());
        Self::new(move |it| it.query(&own, &value), move |it| it.query(&other, OTHER))
    }

    /// The other way round.
    fn not(self) -> Self {
        Self {
            yes: self.no,
            no: self.yes,
        }
    }
}

/// A request that meets all conditions, and for each one that misses it alone.
fn of_conditions(conditions: &[Condition], found: &mut BTreeSet<Witness>) {
    for missed in std::iter::once(None).chain((0..conditions.len()).map(Some)) {
        let mut witness = Witness::default();
        for (at, condition) in conditions.iter().enumerate() {
            if missed == Some(at) {
                (condition.no)(&mut witness);
            } else {
                (condition.yes)(&mut witness);
            }
        }
        found.insert(witness);
    }
}

/// A text that Istio's `StringMatch` takes; nothing for an expression of which no example was found.
fn example(rule: &Value) -> Option<String> {
    if let Some(exact) = rule["exact"].as_str() {
        return Some(exact.to_owned());
    }
    if let Some(prefix) = rule["prefix"].as_str() {
        return Some(under(prefix));
    }
    match rule["regex"].as_str() {
        Some(regex) => sample::of(regex),
        // That it is there is all that is asked.
        None => Some("x".to_owned()),
    }
}

/// A text that begins so, and is not only this where it ends with a separator.
fn under(prefix: &str) -> String {
    if prefix.ends_with('/') {
        format!("{prefix}x")
    } else {
        prefix.to_owned()
    }
}

fn virtual_service(spec: &Value, found: &mut BTreeSet<Witness>) {
    for rule in items(&spec["http"]).flat_map(|route| items(&route["match"])) {
        let mut conditions = Vec::new();
        let mut add = |rule: &Value, make: fn(String) -> Condition| {
            if !rule.is_null() {
                conditions.extend(example(rule).map(make));
            }
        };
        add(&rule["uri"], Condition::path);
        add(&rule["method"], Condition::method);
        add(&rule["authority"], Condition::host);
        let entries = |key: &str| rule[key].as_object().cloned().unwrap_or_default();
        for (name, rule) in entries("headers") {
            conditions.extend(example(&rule).map(|value| Condition::header(&name, value)));
        }
        for (name, rule) in entries("withoutHeaders") {
            conditions.extend(example(&rule).map(|value| Condition::header(&name, value).not()));
        }
        for (name, rule) in entries("queryParams") {
            conditions.extend(example(&rule).map(|value| Condition::query(&name, value)));
        }
        of_conditions(&conditions, found);
    }
}

fn gateway_route(spec: &Value, found: &mut BTreeSet<Witness>) {
    for rule in items(&spec["rules"]).flat_map(|rule| items(&rule["matches"])) {
        let mut conditions = Vec::new();
        let value = |rule: &Value| match text(&rule["type"]) {
            "RegularExpression" => sample::of(text(&rule["value"])),
            "PathPrefix" => Some(under(text(&rule["value"]))),
            _ => Some(text(&rule["value"]).to_owned()),
        };
        if !rule["path"].is_null() {
            conditions.extend(value(&rule["path"]).map(Condition::path));
        }
        match &rule["method"] {
            Value::String(method) => conditions.push(Condition::method(method.clone())),
            // A GRPCRoute's.
            Value::Object(method) => {
                let part = |key: &str| method.get(key).map_or("x", text).to_owned();
                conditions.push(Condition::path(format!("/{}/{}", part("service"), part("method"))));
            }
            _ => {}
        }
        for header in items(&rule["headers"]) {
            conditions.extend(value(header).map(|it| Condition::header(text(&header["name"]), it)));
        }
        for parameter in items(&rule["queryParams"]) {
            conditions.extend(value(parameter).map(|it| Condition::query(text(&parameter["name"]), it)));
        }
        of_conditions(&conditions, found);
    }
}

/// A text that a policy's `*`, `prefix*`, `*suffix` or template takes.
fn matching(pattern: &str) -> String {
    let filled = pattern.replace("{**}", "x").replace("{*}", "x");
    match (filled.strip_suffix('*'), filled.strip_prefix('*')) {
        (Some(prefix), _) => under(prefix),
        (None, Some(suffix)) => format!("x{suffix}"),
        (None, None) => filled,
    }
}

fn policy(spec: &Value, found: &mut BTreeSet<Witness>) {
    for rule in items(&spec["rules"]) {
        let mut operations = BTreeSet::from([Witness::default()]);
        for operation in items(&rule["to"]).map(|to| &to["operation"]) {
            self::operation(operation, &mut operations);
        }
        let mut asked = BTreeSet::from([Witness::default()]);
        let mut all = Witness::default();
        for condition in items(&rule["when"]) {
            for one in when(condition) {
                all = all.and(&one).unwrap_or(all);
                asked.insert(one);
            }
        }
        for principal in items(&rule["from"]).flat_map(|from| items(&from["source"]["requestPrincipals"])) {
            let principal = matching(text(principal));
            let (issuer, subject) = principal.split_once('/').unwrap_or((&principal, "x"));
            let token = claims(&json!({"iss": issuer, "sub": subject}));
            all = all.and(&token).unwrap_or(all);
            asked.insert(token);
        }
        asked.insert(all);
        for operation in &operations {
            found.extend(asked.iter().filter_map(|asked| operation.and(asked)));
        }
    }
}

/// One for each value of each list, and those that miss a list.
fn operation(operation: &Value, found: &mut BTreeSet<Witness>) {
    type Make = fn(String) -> Condition;
    let lists: [(&str, &str, Make); 3] = [
        ("methods", "notMethods", Condition::method),
        ("paths", "notPaths", Condition::path),
        ("hosts", "notHosts", Condition::host),
    ];
    let values = |key: &str| -> Vec<String> { items(&operation[key]).map(|it| matching(text(it))).collect() };
    let most = lists
        .iter()
        .flat_map(|(yes, no, _)| [values(yes).len(), values(no).len()])
        .max();
    for at in 0..most.unwrap_or(0) {
        let mut conditions = Vec::new();
        for (yes, no, make) in &lists {
            let pick = |values: Vec<String>| values.get(at.min(values.len().saturating_sub(1))).cloned();
            conditions.extend(pick(values(yes)).map(make));
            conditions.extend(pick(values(no)).map(|value| make(value).not()));
        }
        of_conditions(&conditions, found);
    }
}

fn claims(value: &Value) -> Witness {
    Witness {
        claims: Some(value.to_string()),
        ..Witness::default()
    }
}

/// Requests of which a condition holds, one for each value.
fn when(condition: &Value) -> Vec<Witness> {
    let key = text(&condition["key"]);
    let inside = |prefix: &str| key.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(']'));
    let values = items(&condition["values"]).chain(items(&condition["notValues"]));
    let values = values.map(|value| matching(text(value)));
    let one = |value: String| {
        if let Some(name) = inside("request.headers[") {
            let mut witness = Witness::default();
            witness.headers.insert(name.to_ascii_lowercase(), value);
            return Some(witness);
        }
        if let Some(path) = inside("request.auth.claims[") {
            let nested = path.split("][").collect::<Vec<_>>();
            let inner = nested
                .iter()
                .rev()
                .fold(json!(value), |inner, name| json!({*name: inner}));
            let mut token = json!({"iss": "issuer", "sub": "subject"});
            for (name, value) in inner.as_object().into_iter().flatten() {
                token[name] = value.clone();
            }
            return Some(claims(&token));
        }
        match key {
            "request.auth.principal" => {
                let (issuer, subject) = value.split_once('/').unwrap_or((&value, "x"));
                Some(claims(&json!({"iss": issuer, "sub": subject})))
            }
            "request.auth.audiences" => Some(claims(&json!({"iss": "issuer", "sub": "subject", "aud": value}))),
            "request.auth.presenter" => Some(claims(&json!({"iss": "issuer", "sub": "subject", "azp": value}))),
            _ => None,
        }
    };
    values.filter_map(one).collect()
}

/// A token of each issuer, and one of an issuer that nobody knows.
fn tokens(spec: &Value, found: &mut BTreeSet<Witness>) {
    for rule in items(&spec["jwtRules"]) {
        let mut token = json!({"iss": text(&rule["issuer"]), "sub": "subject"});
        if let Some(audience) = items(&rule["audiences"]).next() {
            token["aud"] = audience.clone();
        }
        found.insert(claims(&token));
        found.insert(claims(&json!({"iss": OTHER, "sub": "subject"})));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(object: Value, expected: &[&str]) {
        let (found, more) = of_service(&[&object], "a.x.svc.cluster.local", "x", "istio-system");
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
        assert!(!more);
    }

    fn object(kind: &str, spec: &Value) -> Value {
        json!({"kind": kind, "metadata": {"namespace": "x", "name": "y"}, "spec": spec})
    }

    #[test]
    fn each_condition_of_a_route_is_met_and_missed() {
        let rule = json!({"uri": {"regex": "/v[0-9]/.*"}, "method": {"exact": "GET"}, "headers": {"End-User": {"exact": "jason"}},
            "queryParams": {"k": {"exact": "v"}}});
        let route = object("VirtualService", &json!({"hosts": ["a"], "http": [{"match": [rule]}]}));
        check(
            route,
            &[
                "GET /",
                "GET /corten-plan/other?k=v with end-user: jason",
                "GET /v0/?k=corten-plan-other with end-user: jason",
                "GET /v0/?k=v with end-user: corten-plan-other",
                "GET /v0/?k=v with end-user: jason",
                "POST /v0/?k=v with end-user: jason",
            ],
        );
        let other = json!({"hosts": ["b"], "http": [{"match": [{"uri": {"exact": "/b"}}]}]});
        check(object("VirtualService", &other), &["GET /"]);
    }

    #[test]
    fn routes_of_the_gateway_api_count_for_services() {
        let rules = json!([{"matches": [{"path": {"type": "PathPrefix", "value": "/v1/"}}, {"method": {"service": "S", "method": "M"}}]}]);
        let spec = json!({"parentRefs": [{"kind": "Service", "name": "a"}], "rules": rules});
        let expected = ["GET /", "GET /S/M", "GET /corten-plan/other", "GET /v1/x"];
        check(object("HTTPRoute", &spec), &expected);
    }

    #[test]
    fn policies_ask_for_values_and_for_none_of_others() {
        let spec = json!({"rules": [{
            "to": [{"operation": {"methods": ["POST"], "notPaths": ["/health*"]}}],
            "when": [{"key": "request.headers[x-team]", "values": ["red", "blue"]}],
        }]});
        check(
            object("AuthorizationPolicy", &spec),
            &[
                "GET /",
                "GET / with x-team: blue",
                "GET / with x-team: red",
                "GET /corten-plan/other",
                "GET /corten-plan/other with x-team: blue",
                "GET /corten-plan/other with x-team: red",
                "POST /corten-plan/other",
                "POST /corten-plan/other with x-team: blue",
                "POST /corten-plan/other with x-team: red",
                "POST /health",
                "POST /health with x-team: blue",
                "POST /health with x-team: red",
            ],
        );
    }

    #[test]
    fn tokens_are_of_the_issuers_that_are_known_and_of_one_that_is_not() {
        let spec = json!({"jwtRules": [{"issuer": "me", "audiences": ["us"]}]});
        check(
            object("RequestAuthentication", &spec),
            &[
                "GET /",
                r#"GET / with a token with {"aud":"us","iss":"me","sub":"subject"}"#,
                r#"GET / with a token with {"iss":"corten-plan-other","sub":"subject"}"#,
            ],
        );
    }
}
