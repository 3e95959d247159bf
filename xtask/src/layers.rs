//! Holds the crate graph to `layers.toml`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

/// Every way in which the workspace's manifests differ from `layers.toml`; empty when they agree.
pub(crate) fn check(layers: &str, metadata: &Value) -> Result<Vec<String>> {
    let table: toml::Table = layers.parse().context("layers.toml")?;
    let mut allowed: BTreeMap<&str, (i64, BTreeSet<&str>)> = BTreeMap::new();
    for (name, entry) in &table {
        let layer = entry
            .get("layer")
            .and_then(toml::Value::as_integer)
            .with_context(|| format!("{name} has no layer"))?;
        let uses = entry
            .get("uses")
            .and_then(toml::Value::as_array)
            .with_context(|| format!("{name} has no uses"))?;
        allowed.insert(name, (layer, uses.iter().filter_map(toml::Value::as_str).collect()));
    }

    let mut problems = Vec::new();
    for (name, (layer, uses)) in &allowed {
        for used in uses {
            match allowed.get(used) {
                None => problems.push(format!("layers.toml: {name} uses {used}, which has no entry")),
                Some((below, _)) if below >= layer => {
                    problems.push(format!(
                        "layers.toml: {name} (layer {layer}) uses {used} (layer {below}), which is not below it"
                    ));
                }
                Some(_) => {}
            }
        }
    }
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, uses)) = allowed.get(name) else {
            problems.push(format!("crate {name} has no entry in layers.toml"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // Tests may look across; only what ships is held to the graph.
            let used = dependency["name"].as_str().unwrap_or_default();
            if dependency["kind"] != "dev" && dependency["path"].is_string() && !uses.contains(used) {
                problems.push(format!(
                    "crate {name} depends on {used}, which layers.toml does not allow"
                ));
            }
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn edges_go_down_and_are_declared() {
        let layers = "[a]\nlayer = 0\nuses = []\n[b]\nlayer = 1\nuses = [\"a\"]\n[c]\nlayer = 1\nuses = [\"b\"]\n";
        let path = |name: &str, kind: Value| json!({"name": name, "path": "/x", "kind": kind});
        let metadata = json!({"packages": [
            {"name": "a", "dependencies": [path("b", Value::Null), path("c", json!("dev"))]},
            {"name": "b", "dependencies": [path("a", Value::Null), {"name": "serde", "kind": null}]},
            {"name": "d", "dependencies": []},
        ]});
        let problems = check(layers, &metadata).expect("the table is well formed");
        assert_eq!(
            problems,
            [
                "layers.toml: c (layer 1) uses b (layer 1), which is not below it",
                "crate a depends on b, which layers.toml does not allow",
                "crate d has no entry in layers.toml",
            ]
        );
    }
}
