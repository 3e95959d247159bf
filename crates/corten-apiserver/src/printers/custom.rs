//! Custom resources: the columns that their definition asks for.

use corten_schema::jsonpath::{Path, PathError, plain};
use jiff::Timestamp;
use serde_json::Value;

use super::{Column, age};
use crate::object::{name, text};

/// The columns of one version of a custom resource.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    columns: Vec<(Column, Path)>,
}

impl Columns {
    /// The columns in `additionalPrinterColumns`, or name and age when there are none.
    ///
    /// Fails on the first path that is not understood; the definition is then invalid.
    pub(crate) fn parse(asked: &Value) -> Result<Self, PathError> {
        let mut columns = Vec::new();
        for column in asked.as_array().into_iter().flatten() {
            let path = text(column, &["jsonPath"]).parse()?;
            let column = Column {
                name: text(column, &["name"]).to_owned(),
                type_: text(column, &["type"]).to_owned(),
                format: text(column, &["format"]).to_owned(),
                description: text(column, &["description"]).to_owned(),
                priority: column["priority"].as_i64().unwrap_or(0),
            };
            columns.push((column, path));
        }
        if columns.is_empty() {
            let path = ".metadata.creationTimestamp".parse()?;
            let column = Column {
                name: "Age".to_owned(),
                type_: "date".to_owned(),
                format: String::new(),
                description: String::new(),
                priority: 0,
            };
            columns.push((column, path));
        }
        Ok(Self { columns })
    }

    /// The columns in order, the name first.
    pub(crate) fn columns(&self) -> Vec<Column> {
        let name = Column {
            name: "Name".to_owned(),
            type_: "string".to_owned(),
            format: "name".to_owned(),
            description: String::new(),
            priority: 0,
        };
        std::iter::once(name)
            .chain(self.columns.iter().map(|(column, _)| column.clone()))
            .collect()
    }

    /// The cells of one object.
    pub(crate) fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let own = self
            .columns
            .iter()
            .map(|(column, path)| cell(&column.type_, &path.find(object), now));
        std::iter::once(name(object).into()).chain(own).collect()
    }
}

/// What a path found, in the form of the column's type; null when it found nothing that fits.
fn cell(type_: &str, found: &[&Value], now: Timestamp) -> Value {
    let Some(first) = found.first().filter(|first| !first.is_null()) else {
        return Value::Null;
    };
    match (type_, first) {
        ("integer", Value::Number(number)) => number.as_i64().map_or(Value::Null, Value::from),
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (*first).clone(),
        ("integer" | "number" | "boolean", _) => Value::Null,
        ("date", Value::String(_)) => age::since(first, now).into(),
        ("date", _) => Value::Null,
        (_, Value::String(only)) if found.len() == 1 => only.as_str().into(),
        _ if found.len() == 1 => first.to_string().into(),
        _ => {
            let shown: Vec<String> = found.iter().map(|value| plain(value)).collect();
            shown.join(",").into()
        }
    }
}
