//! Area `gateway-api-conformance`: the Gateway API's own suite. Objects are applied to a cluster that is none, statuses are what the
//! conversion writes, and calls are followed without sockets from outside through a gateway, or between pods with sidecars.

mod backend;
mod certificates;
mod cluster;
mod requests;
mod status;
mod traffic;

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use corten_gateway_api::class;
use serde_json::Value;

use crate::data::Area;
use crate::outcome::{Case, Outcome};
use certificates::Certificates;
use cluster::{CLASS, CONTROLLER, Cluster};
use requests::Last;

/// What objects say where they want a value of another that the suite made.
const COPY: &str = "{copy of ";

/// Runs every step of every test, each a case.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let certificates = Rc::new(Certificates::make()?);
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        let Some(name) = relative.strip_prefix("cases/") else {
            continue;
        };
        for test in documents(&path)? {
            let (file, steps) = (name.trim_end_matches(".yaml"), list(&test["steps"]));
            let mut push = |at: usize, step: &Value, outcome: Outcome| {
                let kind = kind(step);
                let named = step["name"].as_str().unwrap_or_default();
                cases.push(Case {
                    area: area.name.clone(),
                    case: format!("{file}: {} {kind} {named}", at + 1).trim_end().to_owned(),
                    outcome,
                });
            };
            if let Some(reason) = unwanted(&test) {
                for (at, step) in steps.iter().enumerate() {
                    push(at, step, Outcome::Skipped(reason.clone()));
                }
                continue;
            }
            let mut run = Test::begin(area, &certificates, &test).with_context(|| relative.clone())?;
            for (at, step) in steps.iter().enumerate() {
                let outcome = match run.step(steps, at) {
                    Ok(problems) if problems.is_empty() => Outcome::Passed,
                    Ok(problems) => Outcome::Failed(problems.join("; ")),
                    Err(error) => Outcome::Failed(format!("{error:#}")),
                };
                push(at, step, outcome);
            }
        }
    }
    Ok(cases)
}

/// Why a test is not for us: it is about what happens without a feature that we have, or the other way round.
fn unwanted(test: &Value) -> Option<String> {
    let has = |feature: &str| class::FEATURES.contains(&feature);
    if let Some(feature) = test["skipIfFeature"].as_str().filter(|feature| has(feature)) {
        return Some(format!("the test is for those who do not support {feature}"));
    }
    let missing = list(&test["features"])
        .iter()
        .chain(std::iter::once(&test["onlyIfFeature"]))
        .filter_map(Value::as_str)
        .find(|feature| !has(feature));
    missing.map(|feature| format!("the feature {feature} is not supported"))
}

/// One test on its way.
struct Test {
    cluster: Cluster,
    last: Option<Last>,
}

impl Test {
    fn begin(area: &Area, certificates: &Rc<Certificates>, test: &Value) -> Result<Test> {
        let mut cluster = Cluster::new(certificates, test["mode"] == "mesh")?;
        for manifest in list(&test["manifests"]) {
            for object in documents(&area.dir.join(text(manifest)))? {
                cluster.apply(object)?;
            }
        }
        cluster.reconcile()?;
        Ok(Test { cluster, last: None })
    }

    /// What is wrong with a step.
    fn step(&mut self, steps: &[Value], at: usize) -> Result<Vec<String>> {
        let step = &steps[at];
        let what = &step[kind(step)];
        match kind(step) {
            "patch" => {
                let by = self.filled(&what["patch"])?;
                self.cluster
                    .patch(text(&what["kind"]), text(&what["name"]), text(&what["type"]), &by)?;
            }
            "apply" => {
                let object = self.filled(what)?;
                self.cluster.apply(object)?;
            }
            "delete" => self.cluster.delete(text(&what["kind"]), text(&what["name"]))?,
            kind => {
                if let Some(problems) = status::check(&self.cluster, step)? {
                    return Ok(problems);
                }
                return requests::check(&self.cluster, steps, at, kind, &mut self.last);
            }
        }
        self.cluster.reconcile()?;
        Ok(Vec::new())
    }

    /// A value with what it wants of other objects.
    fn filled(&self, value: &Value) -> Result<Value> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix(COPY) {
                // `ENTRY from KIND NAMESPACE/NAME}`
                Some(asked) => {
                    let words: Vec<&str> = asked.trim_end_matches('}').split(' ').collect();
                    let [entry, "from", kind, name] = words[..] else {
                        anyhow::bail!("{text:?} is not understood")
                    };
                    self.cluster.entry(kind, name, entry)?.into()
                }
                None => value.clone(),
            },
            Value::Array(items) => Value::Array(items.iter().map(|item| self.filled(item)).collect::<Result<_>>()?),
            Value::Object(map) => {
                let filled = map.iter().map(|(key, value)| Ok((key.clone(), self.filled(value)?)));
                Value::Object(filled.collect::<Result<_>>()?)
            }
            other => other.clone(),
        })
    }
}

/// The kind of a step: the key beside its name.
fn kind(step: &Value) -> &str {
    let keys = step.as_object().into_iter().flatten();
    keys.map(|(key, _)| key.as_str())
        .find(|key| *key != "name")
        .unwrap_or_default()
}

/// The documents of a file, for our class.
fn documents(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let text = text
        .replace("{GATEWAY_CLASS_NAME}", CLASS)
        .replace("{CONTROLLER_NAME}", CONTROLLER);
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("parsing {}", path.display()))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
