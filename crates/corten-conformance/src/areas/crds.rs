//! Area `crds`: published CustomResourceDefinitions, which those generated from the product's types must equal.

use anyhow::Result;
use corten_api::{
    crds::{Channel, definitions, differences},
    decode::objects,
    diagnostic::Code,
};
use serde_json::Value;

use crate::data::Area;
use crate::outcome::{Case, Outcome};

/// One case for each definition, and for each file that holds none.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let generated = [Channel::Standard, Channel::Experimental].map(definitions);
    let [standard, experimental] = &generated;
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        let ours = if relative.contains("/standard/") {
            standard
        } else {
            experimental
        };
        let (found, diagnostics) = objects(&relative, &std::fs::read_to_string(&path)?);
        let before = cases.len();
        for object in found.iter().filter(|o| o.reference.kind == "CustomResourceDefinition") {
            let name = object.reference.name.as_str();
            let named = |d: &&Value| d.pointer("/metadata/name").and_then(Value::as_str) == Some(name);
            let found = ours
                .iter()
                .find(named)
                .map(|ours| differences(ours, &object.to_value()));
            let outcome = match found {
                None => Outcome::Failed("not generated".to_owned()),
                Some(found) if found.is_empty() => Outcome::Passed,
                Some(found) => Outcome::Failed(format!("{} differences: {}", found.len(), found.join("; "))),
            };
            cases.push(Case {
                area: area.name.clone(),
                case: format!("{relative}: {name}"),
                outcome,
            });
        }
        if cases.len() == before {
            let errors: Vec<String> = diagnostics
                .iter()
                .filter(|d| d.is_error() && d.code != Code::NOT_AN_OBJECT)
                .map(ToString::to_string)
                .collect();
            // A kustomization is no object; that it can be read is all there is to it.
            let outcome = if errors.is_empty() {
                Outcome::Passed
            } else {
                Outcome::Failed(errors.join("; "))
            };
            cases.push(Case {
                area: area.name.clone(),
                case: relative,
                outcome,
            });
        }
    }
    Ok(cases)
}
