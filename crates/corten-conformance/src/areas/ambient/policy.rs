//! Area `istio-ambient-policy`: pairs of a file with policies and a file with what node proxies get for them.

use anyhow::Result;
use corten_xds_gen::authorization_message;
use serde_json::{Value, json};

use super::{mesh, settings, shown};
use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// Runs the pairs.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        let Some(name) = relative.strip_suffix(".input.yaml") else {
            continue;
        };
        let expected = data::documents(&area.dir.join(format!("{name}.expected.yaml")))?;
        let mesh = mesh(
            settings(&json!({ "systemNamespace": "istio-system" })),
            &data::documents(&path)?,
        );
        let snapshot = mesh.snapshot();
        // What stands for all that is strict is the same for every mesh, and not part of the pairs.
        let policies = snapshot
            .policies()
            .filter(|policy| !policy.name.starts_with("istio_converted_static"));
        let ours: Vec<Value> = policies
            .map(|policy| shown::policy(&authorization_message(policy)))
            .collect();
        let theirs: Vec<Value> = expected.iter().map(shown::normalized).collect();
        let outcome = if ours == theirs {
            Outcome::Passed
        } else {
            Outcome::Failed(format!("{}, expected {}", json!(ours), json!(theirs)))
        };
        cases.push(Case {
            area: area.name.clone(),
            case: name.to_owned(),
            outcome,
        });
    }
    Ok(cases)
}
