//! `as=Table` and `PartialObjectMetadata`: what `kubectl get` prints.
//!
//! The columns of a kind come from its strategy or its custom resource definition; this module makes the envelope.

use serde_json::{Value, json};

use crate::object::{self, Object};
use crate::printers::{self, Column, CustomColumns};
use crate::registry::Resource;

/// Turns objects into table rows.
pub(crate) struct Printer {
    columns: Vec<Column>,
    cells: Cells,
    /// Whether the column definitions have not been sent yet.
    first: bool,
}

enum Cells {
    Builtin(printers::Printer),
    Custom(CustomColumns),
}

impl Printer {
    pub(crate) fn new(resource: &Resource) -> Self {
        let custom = resource
            .custom
            .as_ref()
            .and_then(|custom| CustomColumns::parse(&custom.written()["additionalPrinterColumns"]).ok());
        let (columns, cells) = match custom {
            Some(custom) => (custom.columns(), Cells::Custom(custom)),
            None => {
                let printer = printers::printer(&resource.id);
                (printer.columns(), Cells::Builtin(printer))
            }
        };
        Self {
            columns,
            cells,
            first: true,
        }
    }

    /// One object of a watch. The definitions are part of the first event only.
    pub(crate) fn event(&mut self, object: &Value) -> Value {
        let version = object::resource_version(object);
        let mut value = self.table(
            json!({ "resourceVersion": version }),
            std::iter::once(object),
            "Metadata",
        );
        if !std::mem::take(&mut self.first) {
            value["columnDefinitions"] = Value::Null;
        }
        value
    }

    /// A whole table.
    pub(crate) fn list(&self, metadata: Value, objects: &[Object], include: &str) -> Value {
        self.table(metadata, objects.iter().map(|o| &**o), include)
    }

    fn table<'o>(&self, metadata: Value, objects: impl Iterator<Item = &'o Value>, include: &str) -> Value {
        let now = jiff::Timestamp::now();
        let definitions: Vec<Value> = self
            .columns
            .iter()
            .map(|column| {
                json!({
                    "name": column.name,
                    "type": column.type_,
                    "format": column.format,
                    "description": column.description,
                    "priority": column.priority,
                })
            })
            .collect();
        let rows: Vec<Value> = objects
            .map(|object| {
                let cells = match &self.cells {
                    Cells::Builtin(printer) => (printer.cells)(object, now),
                    Cells::Custom(columns) => columns.cells(object, now),
                };
                let mut row = json!({ "cells": cells });
                match include {
                    "None" => {}
                    "Object" => row["object"] = object.clone(),
                    _ => row["object"] = partial(object),
                }
                row
            })
            .collect();
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": definitions,
            "rows": rows,
        })
    }
}

/// An object without anything but its metadata.
pub(crate) fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}
