//! Area `istio-analysis`: what each analyzer says of objects, and the catalogue of what can be said.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use corten_analysis::analyzers::{self, Analyzer};
use corten_analysis::{Sources, analyze, catalogue, message};
use corten_api::decode::{SpannedObject, document, objects};
use corten_api::diagnostic::Code;
use serde_json::Value;

use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// One case for each row, and one for the catalogue.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut push = |case: String, outcome: Outcome| {
        cases.push(Case {
            area: area.name.clone(),
            case,
            outcome,
        });
    };
    let index = data::document(&area.dir.join("cases.yaml"))?;
    let system = index["systemNamespace"].as_str().unwrap_or("istio-system");
    let inputs = area.dir.join("inputs");
    for (name, case) in data::rows(&index) {
        let outcome = match judged(case, &inputs, system) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        push(name, outcome);
    }
    let messages = area.dir.join("messages.yaml");
    if messages.is_file() {
        let differences = differences(&data::document(&messages)?);
        let outcome = match differences.is_empty() {
            true => Outcome::Passed,
            false => Outcome::Failed(differences.join("; ")),
        };
        push("messages.yaml".to_owned(), outcome);
    }
    Ok(cases)
}

fn judged(case: &Value, inputs: &Path, system: &str) -> Result<Outcome> {
    // Some certificates in the data have ended, others are meant to last.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut sources = Sources::new(system, i64::try_from(now)?);
    let tree = |file: &Value| -> Result<_> {
        let Some(file) = file.as_str() else { return Ok(None) };
        Ok(document(file, &read(&inputs.join(file))?).0)
    };
    if let Some(root) = tree(&case["meshConfig"])? {
        sources.set_mesh_config(&root);
    }
    if let Some(root) = tree(&case["meshNetworks"])? {
        sources.set_mesh_networks(&root);
    }
    sources.add_files(all(&case["inputs"], inputs)?);
    for number in 1.. {
        let Some(files) = case.get(format!("cluster{number}Inputs")) else {
            break;
        };
        sources.add_cluster(&format!("cluster{number}"), all(files, inputs)?);
    }
    sources.add_default_gateway();

    let analyzer = case["analyzer"].as_str();
    let chosen: Vec<&Analyzer> = match analyzer {
        None => analyzers::default_set().collect(),
        Some(name) => analyzers::ALL.iter().filter(|analyzer| analyzer.name == name).collect(),
    };
    if chosen.is_empty() {
        return Ok(Outcome::Failed(format!(
            "there is no analyzer {}",
            analyzer.unwrap_or_default()
        )));
    }
    let found = analyze(&sources.world(), chosen);
    let mut said: Vec<String> = found
        .iter()
        .map(|message| {
            let name = catalogue::of(message.code).map_or("", |kind| kind.name);
            shown(message.code.0, name, message::word(message.level), &message.origin())
        })
        .collect();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let rows = case["expected"].as_array().into_iter().flatten();
    let mut expected: Vec<String> = rows
        .map(|row| {
            let [code, name, level, resource] = ["code", "name", "level", "resource"].map(|field| text(row, field));
            shown(&code, &name, &level, &resource)
        })
        .collect();
    said.sort();
    expected.sort();
    let (missing, unexpected) = (without(&expected, &said), without(&said, &expected));
    if missing.is_empty() && unexpected.is_empty() {
        return Ok(Outcome::Passed);
    }
    Ok(Outcome::Failed(format!(
        "missing {missing:?}, unexpected {unexpected:?}"
    )))
}

fn shown(code: &str, name: &str, level: &str, resource: &str) -> String {
    format!("{level} {code} {name}: {resource}")
}

/// What a sorted list has more often than another.
fn without(list: &[String], other: &[String]) -> Vec<String> {
    let mut rest = other.to_vec();
    let mut found = Vec::new();
    for item in list {
        match rest.iter().position(|known| known == item) {
            Some(index) => _ = rest.remove(index),
            None => found.push(item.clone()),
        }
    }
    found
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn all(files: &Value, inputs: &Path) -> Result<Vec<SpannedObject>> {
    let mut found = Vec::new();
    for file in files.as_array().into_iter().flatten().filter_map(Value::as_str) {
        found.extend(objects(file, &read(&inputs.join(file))?).0);
    }
    Ok(found)
}

/// How the catalogue differs from a published one, whose templates have `%s`, `%v`, `%d` and `%q` for their arguments in order.
fn differences(published: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for row in published["messages"].as_array().into_iter().flatten() {
        let text = |field: &str| row[field].as_str().unwrap_or_default();
        let code = text("code");
        let Some(kind) = catalogue::ALL.iter().find(|kind| kind.code.0 == code) else {
            found.push(format!("{code} is not there"));
            continue;
        };
        if kind.name != text("name") || message::word(kind.level) != text("level") {
            found.push(format!("{code} is {} {}", message::word(kind.level), kind.name));
        }
        let words = |template: &str| {
            template
                .replace("%s", "%")
                .replace("%v", "%")
                .replace("%d", "%")
                .replace("%q", "%")
        };
        let values: Vec<(&str, &str)> = kind.parameters().map(|name| (name, "%")).collect();
        let ours = kind.text(&values).replace("\"%\"", "%");
        if ours != words(text("template")).trim_end() {
            found.push(format!("{code} says {ours:?}"));
        }
    }
    let known = |code: Code| {
        let rows = published["messages"].as_array().into_iter().flatten();
        rows.into_iter().any(|row| row["code"] == code.0)
    };
    for kind in catalogue::ALL
        .iter()
        .filter(|kind| kind.code.0.starts_with("IST") && !known(kind.code))
    {
        found.push(format!("{} is not published", kind.code));
    }
    found
}
