//! Workload kinds of the apps group.

use jiff::Timestamp;
use serde_json::Value;

use super::core::{label_selector, list};
use super::{Heading, NONE, Printer, age, or_none};
use crate::object::{at, name, text};

const NAME: Heading = ("Name", "string", 0);
const AGE: Heading = ("Age", "string", 0);
const CONTAINERS: Heading = ("Containers", "string", 1);
const IMAGES: Heading = ("Images", "string", 1);
const SELECTOR: Heading = ("Selector", "string", 1);

pub(super) const DEPLOYMENTS: Printer = Printer {
    columns: &[
        NAME,
        ("Ready", "string", 0),
        ("Up-to-date", "string", 0),
        ("Available", "string", 0),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let ready = format!("{}/{}", number(object, "readyReplicas"), desired(object));
        let updated = number(object, "updatedReplicas").into();
        let available = number(object, "availableReplicas").into();
        with_template(
            vec![
                name(object).into(),
                ready.into(),
                updated,
                available,
                age::of(object, now),
            ],
            object,
            true,
        )
    },
};

pub(super) const REPLICA_SETS: Printer = Printer {
    columns: &[
        NAME,
        ("Desired", "integer", 0),
        ("Current", "integer", 0),
        ("Ready", "integer", 0),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let current = number(object, "replicas").into();
        let ready = number(object, "readyReplicas").into();
        with_template(
            vec![
                name(object).into(),
                desired(object).into(),
                current,
                ready,
                age::of(object, now),
            ],
            object,
            true,
        )
    },
};

pub(super) const STATEFUL_SETS: Printer = Printer {
    columns: &[NAME, ("Ready", "string", 0), AGE, CONTAINERS, IMAGES],
    cells: |object, now| {
        let ready = format!("{}/{}", number(object, "readyReplicas"), desired(object));
        with_template(
            vec![name(object).into(), ready.into(), age::of(object, now)],
            object,
            false,
        )
    },
};

pub(super) const DAEMON_SETS: Printer = Printer {
    columns: &[
        NAME,
        ("Desired", "integer", 0),
        ("Current", "integer", 0),
        ("Ready", "integer", 0),
        ("Up-to-date", "integer", 0),
        ("Available", "integer", 0),
        ("Node Selector", "string", 0),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let mut cells = vec![name(object).into()];
        let counts = [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
        ];
        cells.extend(counts.map(|field| number(object, field).into()));
        let nodes = at(object, &["spec", "template", "spec", "nodeSelector"]);
        let nodes: Vec<String> = nodes
            .as_object()
            .into_iter()
            .flatten()
            .map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()))
            .collect();
        cells.push(or_none(&nodes.join(",")));
        cells.push(age::of(object, now));
        with_template(cells, object, true)
    },
};

pub(super) const CONTROLLER_REVISIONS: Printer = Printer {
    columns: &[NAME, ("Controller", "string", 0), ("Revision", "string", 0), AGE],
    cells: controller_revision,
};

fn controller_revision(object: &Value, now: Timestamp) -> Vec<Value> {
    let owners = list(object, &["metadata", "ownerReferences"]);
    let controller = owners.iter().find(|owner| owner["controller"] == true).map_or_else(
        || NONE.to_owned(),
        |owner| {
            // The kind with its group, in the form in which kubectl takes it: statefulset.apps/name.
            let group = text(owner, &["apiVersion"])
                .split_once('/')
                .map_or(String::new(), |(group, _)| format!(".{group}"));
            format!(
                "{}{group}/{}",
                text(owner, &["kind"]).to_lowercase(),
                text(owner, &["name"])
            )
        },
    );
    vec![
        name(object).into(),
        controller.into(),
        at(object, &["revision"]).as_i64().unwrap_or(0).into(),
        age::of(object, now),
    ]
}

fn desired(object: &Value) -> i64 {
    at(object, &["spec", "replicas"]).as_i64().unwrap_or(1)
}

fn number(object: &Value, field: &str) -> i64 {
    at(object, &["status", field]).as_i64().unwrap_or(0)
}

fn with_template(mut cells: Vec<Value>, object: &Value, selector: bool) -> Vec<Value> {
    let containers = list(object, &["spec", "template", "spec", "containers"]);
    let join = |field: &str| {
        containers
            .iter()
            .map(|container| text(container, &[field]))
            .collect::<Vec<_>>()
            .join(",")
    };
    cells.push(join("name").into());
    cells.push(join("image").into());
    if selector {
        cells.push(or_none(&label_selector(at(object, &["spec", "selector"]))));
    }
    cells
}
