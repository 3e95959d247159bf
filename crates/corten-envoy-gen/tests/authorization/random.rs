//! Policies and calls from a small world, so that they meet often.

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any},
    sample::select,
};
use serde_json::{Map, Value, json};

use super::{Asked, HTTP, ISSUER, TCP};

type Values = &'static [&'static str];

const PRINCIPALS: Values = &[
    "*",
    "cluster.local/ns/a/sa/x",
    "old/ns/a/sa/x",
    "far/ns/a/sa/x",
    "cluster.local/ns/a/*",
    "cluster.local/ns/a/sa/*",
    "*/ns/a/sa/x",
    "*/sa/x",
    "*d/ns/b/sa/y",
    "far*",
];
const NAMESPACES: Values = &["a", "b", "*", "a*", "*b", "a*b"];
const ACCOUNTS: Values = &["x", "a/x", "b/y", "shop/x"];
const TRUST_DOMAINS: Values = &["cluster.local", "old", "far", "*", "f*", "*local"];
const BLOCKS: Values = &["10.0.0.1", "10.0.0.0/24", "10.0.0.0/8", "192.168.0.0/16", "fd00::/8"];
const SUBJECTS: Values = &[
    "*",
    "https://issuer/x/me",
    "https://issuer/x/*",
    "*/me",
    "*me",
    "https://issuer*",
    "https://issuer/x/you",
    "me",
];
const METHODS: Values = &["GET", "POST", "P*", "*T", "*"];
const PATHS: Values = &["/a", "/a/*", "*/b", "*", "/a/{*}", "/{*}/b", "/{**}", "/a/{**}/c", "/"];
const HOSTS: Values = &["web", "WEB.shop", "*.shop", "web*", "*"];
const PORTS: Values = &["8080", "9090", "80"];
const HEADER: Values = &["one", "o*", "*e", "*", "two"];
const ROLES: Values = &["admin", "ad*", "*", "user"];
const SERVER_NAMES: Values = &["outbound_.80_._.web", "outbound*", "*"];

/// Some of these values.
fn some(values: Values) -> impl Strategy<Value = Vec<&'static str>> {
    vec(select(values), 1..3)
}

/// A field with values, or its negation.
fn field(name: &'static str, not_name: &'static str, values: Values) -> impl Strategy<Value = Vec<(String, Value)>> {
    (any::<bool>(), some(values))
        .prop_map(move |(negated, values)| vec![(if negated { not_name } else { name }.to_owned(), json!(values))])
}

fn object(fields: Vec<Vec<(String, Value)>>) -> Value {
    Value::Object(fields.into_iter().flatten().collect::<Map<String, Value>>())
}

fn source() -> impl Strategy<Value = Value> {
    let one = proptest::prop_oneof![
        4 => field("principals", "notPrincipals", PRINCIPALS),
        2 => field("namespaces", "notNamespaces", NAMESPACES),
        2 => field("serviceAccounts", "notServiceAccounts", ACCOUNTS),
        2 => field("trustDomains", "notTrustDomains", TRUST_DOMAINS),
        2 => field("ipBlocks", "notIpBlocks", BLOCKS),
        1 => field("requestPrincipals", "notRequestPrincipals", SUBJECTS),
    ];
    vec(one, 1..3).prop_map(|fields| json!({ "source": object(fields) }))
}

fn operation() -> impl Strategy<Value = Value> {
    let one = proptest::prop_oneof![
        2 => field("methods", "notMethods", METHODS),
        3 => field("paths", "notPaths", PATHS),
        1 => field("hosts", "notHosts", HOSTS),
        2 => field("ports", "notPorts", PORTS),
    ];
    vec(one, 1..3).prop_map(|fields| json!({ "operation": object(fields) }))
}

fn condition() -> impl Strategy<Value = Value> {
    let about = |key: &'static str, values: Values| {
        field("values", "notValues", values).prop_map(move |mut fields| {
            fields.push(("key".to_owned(), json!(key)));
            object(vec![fields])
        })
    };
    proptest::prop_oneof![
        about("source.ip", BLOCKS),
        about("source.namespace", NAMESPACES),
        about("source.principal", PRINCIPALS),
        about("source.serviceAccount", ACCOUNTS),
        about("source.trustDomain", TRUST_DOMAINS),
        about("destination.ip", &["10.1.0.1", "10.1.0.0/16", "10.2.0.0/16"]),
        about("destination.port", PORTS),
        about("connection.sni", SERVER_NAMES),
        about("request.headers[x-one]", HEADER),
        about("request.headers[:method]", METHODS),
        about("request.auth.principal", SUBJECTS),
        about("request.auth.audiences", &["a", "b", "*"]),
        about("request.auth.presenter", &["p", "*"]),
        about("request.auth.claims[role]", ROLES),
        about("request.auth.claims[nested][role]", ROLES),
    ]
}

fn rule() -> impl Strategy<Value = Value> {
    let sources = option::weighted(0.6, vec(source(), 1..3));
    let operations = option::weighted(0.5, vec(operation(), 1..3));
    let conditions = option::weighted(0.3, vec(condition(), 1..3));
    (sources, operations, conditions).prop_map(|(from, to, when)| {
        let mut rule = json!({});
        for (key, part) in [("from", from), ("to", to), ("when", when)] {
            if let Some(part) = part {
                rule[key] = json!(part);
            }
        }
        rule
    })
}

fn policy() -> impl Strategy<Value = Value> {
    let actions = select(&["ALLOW", "ALLOW", "DENY", "AUDIT"][..]);
    let annotations = proptest::prop_oneof![9 => Just(json!({})), 1 => Just(json!({ "istio.io/dry-run": "true" }))];
    let selectors = proptest::prop_oneof![
        3 => Just(json!(null)),
        1 => Just(json!({ "matchLabels": { "app": "web" } })),
        1 => Just(json!({ "matchLabels": { "app": "other" } })),
    ];
    (actions, annotations, selectors, vec(rule(), 0..3)).prop_map(|(action, annotations, selector, rules)| {
        let mut policy = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "annotations": annotations }, "spec": { "action": action, "rules": rules },
        });
        if !selector.is_null() {
            policy["spec"]["selector"] = selector;
        }
        policy
    })
}

/// Some policies: of the namespace, of the mesh, or of another namespace.
pub(crate) fn policies() -> impl Strategy<Value = Vec<Value>> {
    let placed = (policy(), select(&["shop", "shop", "istio-system", "other"][..]));
    vec(placed, 0..4).prop_map(|policies| {
        let named = policies.into_iter().enumerate().map(|(i, (mut policy, namespace))| {
            policy["metadata"]["name"] = json!(format!("p{i}"));
            policy["metadata"]["namespace"] = json!(namespace);
            policy
        });
        named.collect()
    })
}

fn claims() -> impl Strategy<Value = Value> {
    let role = || {
        option::of(proptest::prop_oneof![
            Just(json!("admin")),
            Just(json!(["user", "other"])),
            Just(json!(7))
        ])
    };
    let audience = proptest::prop_oneof![Just(json!("a")), Just(json!(["b", "c"])), Just(json!(null))];
    (select(&["me", "you"][..]), audience, any::<bool>(), role(), role()).prop_map(
        |(subject, audience, presented, role, nested)| {
            let mut claims = json!({ "iss": ISSUER, "sub": subject });
            let members = [
                ("aud", Some(audience).filter(|audience| !audience.is_null())),
                ("azp", presented.then(|| json!("p"))),
                ("role", role),
                ("nested", nested.map(|role| json!({ "role": role }))),
            ];
            for (key, value) in members {
                if let Some(value) = value {
                    claims[key] = value;
                }
            }
            claims
        },
    )
}

fn call() -> impl Strategy<Value = Asked> {
    let identities = select(
        &[
            "cluster.local/ns/a/sa/x",
            "cluster.local/ns/a/sa/y",
            "cluster.local/ns/b/sa/y",
            "cluster.local/ns/shop/sa/x",
            "cluster.local/ns/ab/sa/x",
            "old/ns/a/sa/x",
            "old/ns/b/sa/y",
        ][..],
    );
    let client = (
        option::weighted(0.8, identities),
        select(&["10.0.0.1", "10.0.0.7", "10.3.0.1", "192.168.1.1", "172.16.0.1"][..]),
    );
    let called = (
        select(&[HTTP, HTTP, TCP][..]),
        select(&["web", "web.shop", "other"][..]),
        select(&["GET", "POST", "PUT"][..]),
        select(&["/", "/a", "/a/b", "/a/b/c", "/b", "/x/y/z"][..]),
    );
    let carried = (
        option::of(select(&["one", "two", ""][..])),
        option::weighted(0.6, claims()),
    );
    (client, called, carried).prop_map(
        |((identity, address), (port, host, method, path), (header, claims))| Asked {
            identity: identity.map(str::to_owned),
            address: address.parse().expect("an address"),
            port,
            host: host.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            headers: header
                .map(|value| ("x-one".to_owned(), value.to_owned()))
                .into_iter()
                .collect(),
            claims,
        },
    )
}

/// Some calls.
pub(crate) fn calls() -> impl Strategy<Value = Vec<Asked>> {
    vec(call(), 8)
}
