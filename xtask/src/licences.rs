//! Holds the dependencies to `deny.toml` without needing cargo-deny: licences, banned crates, sources.
//!
//! The file is cargo-deny's own form, so that whoever has that tool gets its deeper checks (advisories) from the same policy.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

/// Every dependency that the policy does not permit; empty when all is well.
pub(crate) fn check(policy: &str, metadata: &Value) -> Result<Vec<String>> {
    let policy: toml::Table = policy.parse().context("deny.toml")?;
    let allowed: BTreeSet<&str> = strings(&policy, "licenses", "allow");
    let banned: BTreeSet<&str> = policy
        .get("bans")
        .and_then(|bans| bans.get("deny")?.as_array())
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("crate")?.as_str())
        .collect();

    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or("no licence");
        if !permitted(licence, &allowed) {
            problems.push(format!("{name} is under {licence:?}, which deny.toml does not allow"));
        }
        if banned.contains(name) {
            problems.push(format!(
                "{name} is banned by deny.toml; `cargo tree -i {name}` says who wants it"
            ));
        }
        if package["source"]
            .as_str()
            .is_some_and(|source| !source.starts_with("registry+"))
        {
            problems.push(format!("{name} does not come from the registry"));
        }
    }
    Ok(problems)
}

fn strings<'a>(table: &'a toml::Table, section: &str, key: &str) -> BTreeSet<&'a str> {
    let list = table.get(section).and_then(|section| section.get(key)?.as_array());
    list.into_iter().flatten().filter_map(toml::Value::as_str).collect()
}

/// Whether an SPDX expression can be satisfied with the allowed licences. `AND` binds more strongly than `OR`.
fn permitted(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace(" WITH ", "+WITH+");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any(&mut rest, allowed) && rest.is_empty()
}

fn any(tokens: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut satisfied = all(tokens, allowed);
    while let [first, rest @ ..] = tokens
        && *first == "OR"
    {
        *tokens = rest;
        satisfied |= all(tokens, allowed);
    }
    satisfied
}

fn all(tokens: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut satisfied = one(tokens, allowed);
    while let [first, rest @ ..] = tokens
        && *first == "AND"
    {
        *tokens = rest;
        satisfied &= one(tokens, allowed);
    }
    satisfied
}

fn one(tokens: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    match *tokens {
        ["(", rest @ ..] => {
            *tokens = rest;
            let satisfied = any(tokens, allowed);
            *tokens = tokens.get(1..).unwrap_or_default();
            satisfied
        }
        [licence, rest @ ..] => {
            *tokens = rest;
            // A licence with an exception permits at least what the licence alone does.
            allowed.contains(licence.split("+WITH+").next().unwrap_or(licence))
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_expression(expression: &str, expect: bool) {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "ISC"]);
        assert_eq!(permitted(expression, &allowed), expect, "{expression}");
    }

    #[test]
    fn expressions() {
        check_expression("MIT", true);
        check_expression("GPL-3.0-only", false);
        check_expression("MIT OR GPL-2.0", true);
        check_expression("MIT/Apache-2.0", true);
        check_expression("MIT AND GPL-2.0", false);
        check_expression("(MIT OR GPL-2.0) AND ISC", true);
        check_expression("(GPL-2.0 OR LGPL-2.1) AND ISC", false);
        check_expression("Apache-2.0 WITH LLVM-exception", true);
        check_expression("no licence", false);
    }
}
