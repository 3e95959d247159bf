//! What a control plane holds for a proxy beside what the proxy has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Number, Value};

use crate::envoy::{Dump, items, text};
use crate::table::json;

/// How many lines around a difference are shown.
const AROUND: usize = 3;
/// How many lines two texts may have to be compared line by line; of larger ones all is shown.
const LINES_MAX: usize = 4000;

/// Clusters, listeners and routes, each as a line that says whether they match, and the differences below it.
pub fn compare(control: &Dump, proxy: &Dump) -> String {
    let parts = [
        (
            "Clusters",
            "ClustersConfigDump",
            vec![
                ("dynamicActiveClusters", "/cluster"),
                ("dynamicWarmingClusters", "/cluster"),
            ],
        ),
        (
            "Listeners",
            "ListenersConfigDump",
            vec![
                ("dynamicListeners", "/activeState/listener"),
                ("dynamicListeners", "/warmingState/listener"),
            ],
        ),
        (
            "Routes",
            "RoutesConfigDump",
            vec![("dynamicRouteConfigs", "/routeConfig")],
        ),
    ];
    let mut out = String::new();
    for (title, section, lists) in parts {
        let found = |dump: &Dump| by_name(dump.entries(section, &lists));
        let differences = differences(&found(control), &found(proxy));
        let loaded = if title == "Routes" {
            loaded(proxy)
        } else {
            String::new()
        };
        if differences.is_empty() {
            out.push_str(&format!("{title} Match{loaded}\n"));
        } else {
            out.push_str(&format!("{title} Don't Match{loaded}\n"));
            out.push_str("--- Control plane\n+++ Proxy\n");
            out.push_str(&differences);
        }
    }
    out
}

/// When the proxy got its routes last.
fn loaded(proxy: &Dump) -> String {
    let section = proxy.section("RoutesConfigDump").unwrap_or_default();
    let last = items(&section["dynamicRouteConfigs"])
        .map(|it| text(&it["lastUpdated"]))
        .max();
    last.filter(|it| !it.is_empty())
        .map_or_else(String::new, |at| format!(" (RDS last loaded at {at})"))
}

/// Resources in one form, by name.
fn by_name(resources: Vec<&Value>) -> BTreeMap<String, String> {
    let named = resources.into_iter().map(|resource| {
        // What cannot be written as JSON does not come from it.
        let shown = json(&plain(resource)).unwrap_or_default();
        (text(&resource["name"]).to_owned(), shown)
    });
    named.collect()
}

/// Numbers as whole ones where they are, nothing that says nothing.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|it| it.fract() == 0.0 && it.abs() < 9e15);
            let written = whole
                .and_then(|it| format!("{it:.0}").parse::<i64>().ok())
                .map(Number::from);
            Value::Number(written.unwrap_or_else(|| number.clone()))
        }
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}

/// The differences of all resources, as text; nothing where there are none.
fn differences(control: &BTreeMap<String, String>, proxy: &BTreeMap<String, String>) -> String {
    let names: BTreeSet<&String> = control.keys().chain(proxy.keys()).collect();
    let mut out = String::new();
    for name in names {
        match (control.get(name), proxy.get(name)) {
            (Some(one), Some(other)) if one == other => {}
            (Some(_), None) => out.push_str(&format!("- {name}: the proxy does not have it\n")),
            (None, Some(_)) => out.push_str(&format!("+ {name}: only the proxy has it\n")),
            (one, other) => {
                out.push_str(&format!("@@ {name}\n"));
                let lines = |text: Option<&String>| -> Vec<String> {
                    text.map(|it| it.lines().map(str::to_owned).collect())
                        .unwrap_or_default()
                };
                out.push_str(&unified(&lines(one), &lines(other)));
            }
        }
    }
    out
}

/// Two texts as one, with a sign before each line that only one has, and some lines around.
fn unified(one: &[String], other: &[String]) -> String {
    let signed = signed(one, other);
    let is_near = |at: usize| {
        let around = at.saturating_sub(AROUND)..signed.len().min(at + AROUND + 1);
        signed[around].iter().any(|(sign, _)| *sign != ' ')
    };
    let mut out = String::new();
    let mut left_out = false;
    for (at, (sign, line)) in signed.iter().enumerate() {
        if is_near(at) {
            if left_out && !out.is_empty() {
                out.push_str("  ...\n");
            }
            left_out = false;
            out.push_str(&format!("{sign} {line}\n"));
        } else {
            left_out = true;
        }
    }
    out
}

/// All lines with their signs: by the longest part that both have in common.
fn signed<'a>(one: &'a [String], other: &'a [String]) -> Vec<(char, &'a str)> {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one_rest, other_rest) = (&one[same..], &other[same..]);
    let end = one_rest
        .iter()
        .rev()
        .zip(other_rest.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (one_rest, other_rest) = (&one_rest[..one_rest.len() - end], &other_rest[..other_rest.len() - end]);
    let mut lines: Vec<(char, &str)> = one[..same].iter().map(|line| (' ', line.as_str())).collect();
    if one_rest.len().max(other_rest.len()) > LINES_MAX {
        lines.extend(one_rest.iter().map(|line| ('-', line.as_str())));
        lines.extend(other_rest.iter().map(|line| ('+', line.as_str())));
    } else {
        // `common[a][b]`: how many lines what begins at a and b has in common.
        let mut common = vec![vec![0_u32; other_rest.len() + 1]; one_rest.len() + 1];
        for a in (0..one_rest.len()).rev() {
            for b in (0..other_rest.len()).rev() {
                common[a][b] = if one_rest[a] == other_rest[b] {
                    common[a + 1][b + 1] + 1
                } else {
                    common[a + 1][b].max(common[a][b + 1])
                };
            }
        }
        let (mut a, mut b) = (0, 0);
        while a < one_rest.len() || b < other_rest.len() {
            if a < one_rest.len() && b < other_rest.len() && one_rest[a] == other_rest[b] {
                lines.push((' ', &one_rest[a]));
                (a, b) = (a + 1, b + 1);
            } else if b == other_rest.len() || (a < one_rest.len() && common[a + 1][b] >= common[a][b + 1]) {
                lines.push(('-', &one_rest[a]));
                a += 1;
            } else {
                lines.push(('+', &other_rest[b]));
                b += 1;
            }
        }
    }
    lines.extend(one[one.len() - end..].iter().map(|line| (' ', line.as_str())));
    lines
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn dump(clusters: Value, routes: Value) -> Dump {
        let section = |name: &str, list: &str, entries: Value| json!({"@type": format!("type.googleapis.com/envoy.admin.v3.{name}"), list: entries});
        Dump::of(json!({"configs": [
            section("ClustersConfigDump", "dynamic_active_clusters", clusters),
            section("RoutesConfigDump", "dynamic_route_configs", routes),
        ]}))
        .expect("a dump")
    }

    #[test]
    fn what_differs_is_shown_with_a_little_around_it() {
        let kind = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
        let cluster = |name: &str, timeout: &str, ratio: Value| json!({"cluster": {"@type": kind, "name": name, "connect_timeout": timeout, "metadata": {"filter_metadata": {"a": {"b": ratio}}}}});
        let control = dump(
            json!([
                cluster("a", "1s", json!(3)),
                cluster("b", "1s", json!(0.5)),
                cluster("d", "1s", json!(1))
            ]),
            json!([]),
        );
        let proxy = dump(
            json!([
                cluster("a", "1s", json!(3.0)),
                cluster("b", "2s", json!(0.5)),
                cluster("c", "1s", json!(1))
            ]),
            json!([{"last_updated": "2026-11-21T12:00:00Z"}]),
        );
        expect![[r#"
            Clusters Don't Match
            --- Control plane
            +++ Proxy
            @@ b
              {
                  "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            -     "connectTimeout": "1s",
            +     "connectTimeout": "2s",
                  "metadata": {
                      "filterMetadata": {
                          "a": {
            + c: only the proxy has it
            - d: the proxy does not have it
            Listeners Match
            Routes Match (RDS last loaded at 2026-11-21T12:00:00Z)
        "#]]
        .assert_eq(&compare(&control, &proxy));
    }
}
