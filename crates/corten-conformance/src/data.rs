//! Reading the data: which areas a folder has, and the YAML in them.
//!
//! The data is read with a YAML library of its own rather than with the product's decoder, so that the judge does not depend on the judged.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::outcome::{Case, Outcome};

/// One area of the data.
#[derive(Clone, Debug)]
pub(crate) struct Area {
    /// The folder's name, which chooses the runner.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) dir: PathBuf,
}

/// Where the data lies by default: `shared/testdata` beside the repository, or in the folder that `CORTEN_SHARED` names.
pub(crate) fn default_dir() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("CORTEN_SHARED").map_or(beside, PathBuf::from);
    let dir = shared.join("testdata");
    dir.canonicalize().unwrap_or(dir)
}

/// The areas of a folder, by name.
pub(crate) fn areas(root: &Path) -> Result<Vec<Area>> {
    let mut areas = Vec::new();
    for entry in std::fs::read_dir(root).with_context(|| format!("reading {}", root.display()))? {
        let entry = entry?;
        if entry.path().is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            areas.push(Area {
                name,
                dir: entry.path(),
            });
        }
    }
    areas.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(areas)
}

impl Area {
    /// All files below the area's folder with this extension, in order, with their path relative to the area.
    pub(crate) fn files(&self, extension: &str) -> Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|found| found == extension) {
                    let relative = path.strip_prefix(&self.dir).unwrap_or(&path).display().to_string();
                    found.push((relative, path));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// One case for each row of the area's index, judged with the index at hand; what cannot be judged has failed.
pub(crate) fn judged(area: &Area, judge: impl Fn(&Value, &Value) -> Result<Outcome>) -> Result<Vec<Case>> {
    let index = document(&area.dir.join("cases.yaml"))?;
    let cases = rows(&index).into_iter().map(|(name, row)| Case {
        area: area.name.clone(),
        case: name,
        outcome: judge(&index, row).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}"))),
    });
    Ok(cases.collect())
}

/// The one YAML document of a file.
pub(crate) fn document(path: &Path) -> Result<Value> {
    documents(path)?
        .into_iter()
        .next()
        .with_context(|| format!("{} is empty", path.display()))
}

/// All YAML documents of a file; empty ones are left out.
pub(crate) fn documents(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("parsing {}", path.display()))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// The rows of a table (a document with `cases:`) with their names made unique.
pub(crate) fn rows(table: &Value) -> Vec<(String, &Value)> {
    let mut seen = std::collections::HashMap::<String, usize>::new();
    let cases = table["cases"].as_array().into_iter().flatten();
    cases
        .enumerate()
        .map(|(index, case)| {
            let name = case["name"]
                .as_str()
                .map_or_else(|| (index + 1).to_string(), str::to_owned);
            let times = seen.entry(name.clone()).or_default();
            *times += 1;
            (if *times == 1 { name } else { format!("{name} #{times}") }, case)
        })
        .collect()
}
