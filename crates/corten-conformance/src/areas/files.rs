//! Areas of plain configuration files: each must be read without a complaint and be accepted by validation.

use anyhow::Result;
use corten_api::{
    decode::{SpannedObject, objects},
    diagnostic::{Code, Diagnostic},
    validate,
};
use serde_json::Value;

use crate::accepted;
use crate::data::Area;
use crate::outcome::{Case, Outcome};

/// One case for each file.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        let text = std::fs::read_to_string(&path)?;
        let (found, mut diagnostics) = objects(&relative, &text);
        // Values of charts and descriptions of APIs lie among the objects; that they can be read is all there is to them.
        diagnostics.retain(|d| d.code != Code::NOT_AN_OBJECT);
        diagnostics.extend(found.iter().flat_map(validate::object));
        let errors: Vec<String> = diagnostics
            .iter()
            .filter(|d| d.is_error())
            .map(Diagnostic::to_string)
            .collect();
        let outcome = if errors.is_empty() {
            let written: Vec<Value> = found.iter().map(SpannedObject::to_value).collect();
            accepted::objects(&written)?;
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
    Ok(cases)
}
