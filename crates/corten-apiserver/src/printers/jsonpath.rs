//! The simple JSON paths of `additionalPrinterColumns`: fields, indices, wildcards and equality filters.

use std::str::FromStr;

use serde_json::Value;

/// A compiled path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Items in which the field at this path equals the value.
    Filter(Vec<String>, Value),
}

/// Why a text is not such a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsupported JSON path {path:?}: {why}")]
pub(crate) struct JsonPathError {
    path: String,
    why: &'static str,
}

impl FromStr for JsonPath {
    type Err = JsonPathError;

    fn from_str(path: &str) -> Result<Self, JsonPathError> {
        let fail = |why| JsonPathError {
            path: path.to_owned(),
            why,
        };
        let mut steps = Vec::new();
        let mut rest = path
            .trim()
            .trim_start_matches('{')
            .trim_end_matches('}')
            .trim_start_matches('$');
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let end = closing(inner).ok_or_else(|| fail("a bracket is not closed"))?;
                steps.push(bracket(&inner[..end]).ok_or_else(|| {
                    fail("between brackets stands an index, '*', a quoted field or ?(@.field==\"value\")")
                })?);
                rest = &inner[end + 1..];
            } else if let Some(inner) = rest.strip_prefix('.') {
                let (field, after) = field(inner);
                if field.is_empty() && !after.starts_with('[') {
                    return Err(fail("a field has no name"));
                }
                match field.as_str() {
                    "" => {}
                    "*" => steps.push(Step::All),
                    _ => steps.push(Step::Field(field)),
                }
                rest = after;
            } else {
                return Err(fail("a path begins with '.'"));
            }
        }
        Ok(Self(steps))
    }
}

impl JsonPath {
    /// Everything that the path leads to, in order.
    pub(crate) fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.apply(value)).collect();
        }
        found
    }
}

impl Step {
    fn apply<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => {
                let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let index = if *index < 0 { length + index } else { *index };
                usize::try_from(index)
                    .ok()
                    .and_then(|index| items.get(index))
                    .into_iter()
                    .collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            (Self::Filter(path, wanted), Value::Array(items)) => items
                .iter()
                .filter(|item| path.iter().fold(*item, |value, name| &value[name.as_str()]) == wanted)
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// The position of the bracket that closes the text, outside quotes.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(index),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A field name, in which a backslash makes the next character an ordinary one, and what follows it.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (name, &text[index..]),
            _ => name.push(character),
        }
    }
    (name, "")
}

fn bracket(inner: &str) -> Option<Step> {
    let inner = inner.trim();
    if inner == "*" {
        return Some(Step::All);
    }
    if let Ok(index) = inner.parse() {
        return Some(Step::Index(index));
    }
    if let Some(name) = quoted(inner) {
        return Some(Step::Field(name.to_owned()));
    }
    let filter = inner.strip_prefix("?(")?.strip_suffix(')')?.trim();
    let (path, wanted) = filter.strip_prefix("@.")?.split_once("==")?;
    let wanted = wanted.trim();
    let wanted = match quoted(wanted) {
        Some(text) => Value::from(text),
        None => serde_json::from_str(wanted).ok()?,
    };
    Some(Step::Filter(
        path.trim().split('.').map(str::to_owned).collect(),
        wanted,
    ))
}

fn quoted(text: &str) -> Option<&str> {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\''))
}
