//! Webhooks, roles and their bindings, network policies, and kinds shown by their creation time.

use serde_json::Value;

use super::core::{label_selector, list};
use super::{Printer, age, or_none};
use crate::object::{at, name, text};

pub(super) const CREATED: Printer = Printer {
    columns: &[("Name", "string", 0), ("Created At", "date", 0)],
    cells: |object, _| {
        vec![
            name(object).into(),
            at(object, &["metadata", "creationTimestamp"]).clone(),
        ]
    },
};

pub(super) const WEBHOOKS: Printer = Printer {
    columns: &[("Name", "string", 0), ("Webhooks", "integer", 0), ("Age", "string", 0)],
    cells: |object, now| {
        vec![
            name(object).into(),
            list(object, &["webhooks"]).len().into(),
            age::of(object, now),
        ]
    },
};

pub(super) const BINDINGS: Printer = Printer {
    columns: &[
        ("Name", "string", 0),
        ("Role", "string", 0),
        ("Age", "string", 0),
        ("Users", "string", 1),
        ("Groups", "string", 1),
        ("ServiceAccounts", "string", 1),
    ],
    cells: |object, now| {
        let role = format!(
            "{}/{}",
            text(object, &["roleRef", "kind"]),
            text(object, &["roleRef", "name"])
        );
        vec![
            name(object).into(),
            role.into(),
            age::of(object, now),
            subjects(object, "User").into(),
            subjects(object, "Group").into(),
            subjects(object, "ServiceAccount").into(),
        ]
    },
};

fn subjects(object: &Value, kind: &str) -> String {
    let of_kind = list(object, &["subjects"])
        .iter()
        .filter(|subject| subject["kind"] == kind);
    let shown: Vec<String> = of_kind
        .map(|subject| {
            let name = text(subject, &["name"]);
            if kind == "ServiceAccount" {
                format!("{}/{name}", text(subject, &["namespace"]))
            } else {
                name.to_owned()
            }
        })
        .collect();
    shown.join(", ")
}

pub(super) const NETWORK_POLICIES: Printer = Printer {
    columns: &[
        ("Name", "string", 0),
        ("Pod-Selector", "string", 0),
        ("Age", "string", 0),
    ],
    cells: |object, now| {
        vec![
            name(object).into(),
            or_none(&label_selector(at(object, &["spec", "podSelector"]))),
            age::of(object, now),
        ]
    },
};
