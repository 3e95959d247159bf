//! Areas that no runner knows: every case is listed, and skipped.

use anyhow::Result;

use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// Lists the rows of every table of the area; a file that is no table counts as one case when the area has no index.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut push = |case: String| {
        let outcome = Outcome::Skipped("no runner knows this area".to_owned());
        cases.push(Case {
            area: area.name.clone(),
            case,
            outcome,
        });
    };
    let index = area.dir.join("cases.yaml");
    if index.is_file() {
        for (name, _) in data::rows(&data::document(&index)?) {
            push(name);
        }
        return Ok(cases);
    }
    for (relative, path) in area.files("yaml")? {
        // Inputs beside tables may be broken on purpose: such a file is one case, like any other that is no table.
        let table = data::document(&path).unwrap_or_default();
        let rows = data::rows(&table);
        if rows.is_empty() {
            push(relative);
        } else {
            for (name, _) in rows {
                push(format!("{relative}: {name}"));
            }
        }
    }
    Ok(cases)
}
