//! The forms of output: columns and JSON as istioctl writes them.

use serde::{Serialize, ser::Error as _};

/// Rows as columns, each as wide as its widest cell and `gap`, the last one as it is: the form of istioctl's tables.
pub fn columns(rows: &[Vec<String>], gap: usize) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let last = row.len().saturating_sub(1);
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let width = if column == last { 0 } else { width + gap };
            text.push_str(&format!("{cell:<width$}"));
        }
        text.push('\n');
    }
    text
}

/// A row of texts.
pub fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// A value as JSON, indented by four as istioctl does it, with the last line end.
///
/// # Errors
///
/// The value cannot be serialized.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    let mut text = String::from_utf8(bytes).map_err(serde_json::Error::custom)?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [row(["NAME", "PODS"]), row(["a-long-name", "2"])];
        assert_eq!(columns(&rows, 1), "NAME        PODS\na-long-name 2\n");
    }

    #[test]
    fn json_is_indented_by_four() {
        let value = serde_json::json!({"a": [1], "b": []});
        assert_eq!(
            json(&value).expect("JSON"),
            "{\n    \"a\": [\n        1\n    ],\n    \"b\": []\n}\n"
        );
    }
}
