//! What is taken for an expression of RE2 here, a stock Envoy takes, and what is not, it does not.

use corten_stock_envoy::{Sent, bootstrap, program, validate};
use serde_json::{Value, json};

/// A listener whose routes match by these patterns.
fn matching(patterns: &[&str]) -> Value {
    let route =
        |pattern: &&str| json!({ "match": { "safeRegex": { "regex": pattern } }, "directResponse": { "status": 200 } });
    let routes: Vec<Value> = patterns.iter().map(route).collect();
    let router = json!({
        "name": "envoy.filters.http.router",
        "typedConfig": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "statPrefix": "a", "httpFilters": [router],
        "routeConfig": { "name": "a", "virtualHosts": [{ "name": "a", "domains": ["*"], "routes": routes }] },
    });
    bootstrap(&Sent {
        listeners: vec![json!({
            "name": "a", "address": { "socketAddress": { "address": "127.0.0.1", "portValue": 1 } },
            "filterChains": [{ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typedConfig": manager }] }],
        })],
        ..Sent::default()
    })
}

#[test]
fn an_envoy_takes_the_same_patterns() {
    let envoy = match program() {
        Ok(envoy) => envoy,
        Err(missing) => corten_rt::skip!("{missing}"),
    };
    let lines = include_str!("../../corten-api/src/re2/patterns.txt").lines();
    let (taken, refused): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with('+'));
    let pattern = |line: &&'static str| line.get(2..).unwrap_or_default();
    let taken: Vec<&str> = taken.iter().map(pattern).collect();
    let refused: Vec<&str> = refused.iter().map(pattern).collect();
    assert!(taken.len() > 50 && refused.len() > 50);
    if let Err(said) = validate(&envoy, &matching(&taken)) {
        panic!("{said}");
    }
    // Each of these needs a start of its own: some will do, and all have been asked when the list was made.
    let wrong: Vec<&str> = refused
        .into_iter()
        .step_by(5)
        .filter(|pattern| validate(&envoy, &matching(&[*pattern])).is_ok())
        .collect();
    assert!(wrong.is_empty(), "an Envoy takes these: {wrong:#?}");
}
