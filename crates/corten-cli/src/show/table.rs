//! Tables as the server makes them, printed in columns.

use serde_json::Value;

/// What a table shows besides the server's columns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options<'a> {
    pub(crate) wide: bool,
    pub(crate) namespaces: bool,
    pub(crate) labels: bool,
    pub(crate) headers: bool,
    /// Stands before each name, for example `deployment.apps`.
    pub(crate) prefix: Option<&'a str>,
}

/// The rows of a server's table, the headings first if asked for.
pub(crate) fn rows(table: &Value, options: &Options<'_>) -> Vec<Vec<String>> {
    let columns = array(&table["columnDefinitions"]);
    let shown: Vec<usize> = columns
        .iter()
        .enumerate()
        .filter(|(_, column)| options.wide || column["priority"].as_i64().unwrap_or(0) == 0)
        .map(|(index, _)| index)
        .collect();
    let mut rows = Vec::new();
    if options.headers {
        let mut heading = Vec::new();
        if options.namespaces {
            heading.push("NAMESPACE".to_owned());
        }
        heading.extend(
            shown
                .iter()
                .map(|index| columns[*index]["name"].as_str().unwrap_or("").to_uppercase()),
        );
        if options.labels {
            heading.push("LABELS".to_owned());
        }
        rows.push(heading);
    }
    for row in array(&table["rows"]) {
        let metadata = &row["object"]["metadata"];
        let mut line = Vec::new();
        if options.namespaces {
            line.push(metadata["namespace"].as_str().unwrap_or("").to_owned());
        }
        for index in &shown {
            let shown = cell(&row["cells"][*index]);
            let is_name = columns[*index]["format"] == "name";
            line.push(match options.prefix.filter(|_| is_name) {
                Some(prefix) => format!("{prefix}/{shown}"),
                None => shown,
            });
        }
        if options.labels {
            let labels = metadata["labels"].as_object().into_iter().flatten();
            let labels: Vec<String> = labels
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
                .collect();
            line.push(if labels.is_empty() {
                "<none>".to_owned()
            } else {
                labels.join(",")
            });
        }
        rows.push(line);
    }
    rows
}

/// Rows in columns three spaces apart, as kubectl has them.
pub(crate) fn lines(rows: &[Vec<String>]) -> String {
    lines_within(rows, &widths(rows))
}

/// The width of every column.
pub(crate) fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect()
}

/// Rows in columns of given widths; what is wider moves the rest of its line.
pub(crate) fn lines_within(rows: &[Vec<String>], widths: &[usize]) -> String {
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<0$}", widths.get(column).copied().unwrap_or(0)));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_is_printed_as_asked() {
        let table = json!({
            "columnDefinitions": [{"name": "Name", "format": "name"}, {"name": "Ready"}, {"name": "IP", "priority": 1}],
            "rows": [{"cells": ["a", 1, null], "object": {"metadata": {"namespace": "n", "labels": {"x": "y"}}}}],
        });
        let show = |options: Options<'_>| lines(&rows(&table, &options));
        assert_eq!(
            show(Options {
                headers: true,
                ..Options::default()
            }),
            "NAME   READY\na      1\n"
        );
        assert_eq!(
            show(Options {
                wide: true,
                headers: true,
                ..Options::default()
            }),
            "NAME   READY   IP\na      1\n"
        );
        let all = Options {
            namespaces: true,
            labels: true,
            prefix: Some("pod"),
            ..Options::default()
        };
        assert_eq!(show(all), "n   pod/a   1   x=y\n");
    }
}
