//! The policies that an Envoy enforces, by the names that its RBAC filters carry.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::envoy::{Dump, items, text};
use crate::table::{columns, row};

/// What stands for a filter that nothing passes.
const NOTHING: &str = "_anonymous_match_nothing_";
const CUSTOM: &str = "istio-ext-authz-";

/// The table of policies: action, name, and how many of its rules are there.
pub fn policies(dump: &Dump) -> String {
    let mut found: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for listener in dump.dynamic_listeners() {
        let chains = items(&listener["filterChains"]);
        for filter in chains.flat_map(|chain| items(&chain["filters"])) {
            match text(&filter["name"]) {
                "envoy.filters.network.http_connection_manager" | "envoy.http_connection_manager" => {
                    let inner = items(&filter["typedConfig"]["httpFilters"]);
                    for filter in inner.filter(|filter| filter["name"] == "envoy.filters.http.rbac") {
                        collect(&filter["typedConfig"], &mut found);
                    }
                }
                "envoy.filters.network.rbac" => collect(&filter["typedConfig"], &mut found),
                _ => {}
            }
        }
    }
    let mut rows = vec![row(["ACTION", "AuthorizationPolicy", "RULES"])];
    // In the order in which they count.
    for action in ["DENY", "ALLOW", "LOG", "CUSTOM"] {
        let of_action = found.iter().filter(|((of, _), _)| of == action);
        rows.extend(of_action.map(|((action, policy), rules)| row([action, policy, &rules.len().to_string()])));
    }
    columns(&rows, 3)
}

/// Adds the policies of one filter.
fn collect(filter: &Value, found: &mut BTreeMap<(String, String), BTreeSet<String>>) {
    let mut add = |action: &str, policy: String, rule: &str| {
        found
            .entry((action.to_owned(), policy))
            .or_default()
            .insert(rule.to_owned());
    };
    let names = |rules: &Value| -> Vec<String> {
        rules["policies"]
            .as_object()
            .into_iter()
            .flat_map(|it| it.keys().cloned())
            .collect()
    };
    let rules = &filter["rules"];
    // What is left out is the first of the enumeration.
    let action = rules["action"].as_str().unwrap_or("ALLOW");
    for name in names(rules) {
        let (policy, rule) = parsed(&name);
        add(action, policy, rule);
    }
    for name in names(&filter["shadowRules"])
        .iter()
        .filter(|name| name.starts_with(CUSTOM))
    {
        let (policy, rule) = parsed(name);
        add("CUSTOM", policy, rule);
    }
    if names(rules).is_empty() {
        add(action, NOTHING.to_owned(), "0");
    }
}

/// Policy and rule of `ns[NAMESPACE]-policy[NAME]-rule[NUMBER]`; another name stays whole.
fn parsed(name: &str) -> (String, &str) {
    let inner = name.strip_prefix(CUSTOM).unwrap_or(name);
    let parts = || {
        let (namespace, rest) = inner.strip_prefix("ns[")?.split_once("]-policy[")?;
        let (policy, rule) = rest.split_once("]-rule[")?;
        Some((format!("{policy}.{namespace}"), rule.strip_suffix(']')?))
    };
    parts().unwrap_or_else(|| (name.to_owned(), "0"))
}
