//! How objects are printed: tables, YAML, JSON, names, and templates of JSON paths.

pub(crate) mod table;

use std::str::FromStr;

use anyhow::Result;
use corten_schema::jsonpath::{Path, PathError, Template, TemplateError, plain};
use serde_json::Value;

use corten_api::yaml;

/// The value of `-o`.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// A table; all columns when wide.
    Table {
        wide: bool,
    },
    Json,
    Yaml,
    /// `kind.group/name`.
    Name,
    /// A template of JSON paths.
    JsonPath(Template),
    /// Columns with a heading and a path each.
    Columns(Vec<(String, Path)>),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text
            .split_once('=')
            .map_or((text, None), |(name, rest)| (name, Some(rest)));
        match (name, rest) {
            ("wide", None) => Ok(Self::Table { wide: true }),
            ("json", None) => Ok(Self::Json),
            ("yaml", None) => Ok(Self::Yaml),
            ("name", None) => Ok(Self::Name),
            ("jsonpath", Some(template)) => {
                let template = template.parse().map_err(|error: TemplateError| error.to_string())?;
                Ok(Self::JsonPath(template))
            }
            ("custom-columns", Some(columns)) => {
                let column = |column: &str| {
                    let (heading, path) = column
                        .split_once(':')
                        .ok_or_else(|| format!("{column:?} is not HEADING:PATH"))?;
                    let path = path.parse().map_err(|error: PathError| error.to_string())?;
                    Ok((heading.to_owned(), path))
                };
                columns
                    .split(',')
                    .map(column)
                    .collect::<Result<_, String>>()
                    .map(Self::Columns)
            }
            _ => Err(format!(
                "{text:?} is no output format; there are wide, json, yaml, name, jsonpath=TEMPLATE and custom-columns=HEADING:PATH,..."
            )),
        }
    }
}

/// Prints objects in any format but a table. `single` prints one object as itself rather than as a list.
pub(crate) fn objects(
    format: &Format,
    objects: &[Value],
    single: bool,
    names: impl Fn(&Value) -> String,
) -> Result<String> {
    let whole = || match objects {
        [only] if single => only.clone(),
        _ => {
            serde_json::json!({"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}})
        }
    };
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(&whole())? + "\n",
        Format::Yaml => yaml::document(&whole()),
        Format::Name => objects.iter().map(|object| names(object) + "\n").collect(),
        Format::JsonPath(template) => template.render(&whole()),
        Format::Columns(columns) => {
            let mut rows = vec![columns.iter().map(|(heading, _)| heading.clone()).collect::<Vec<_>>()];
            for object in objects {
                rows.push(columns.iter().map(|(_, path)| cell(path, object)).collect());
            }
            table::lines(&rows)
        }
        Format::Table { .. } => unreachable!("tables are asked from the server"),
    })
}

/// What a path finds, as a table's cell.
fn cell(path: &Path, object: &Value) -> String {
    let found: Vec<String> = path
        .find(object)
        .into_iter()
        .filter(|found| !found.is_null())
        .map(plain)
        .collect();
    if found.is_empty() {
        "<none>".to_owned()
    } else {
        found.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells() {
        let object = serde_json::json!({"a": [1, 2], "b": null});
        let cell = |path: &str| cell(&path.parse().expect("a path"), &object);
        assert_eq!([cell(".a[*]"), cell(".b"), cell(".c")], ["1,2", "<none>", "<none>"]);
    }
}
