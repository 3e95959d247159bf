//! JSON paths as Kubernetes has them, in printer columns of custom kinds and in the output formats of commands, and templates of them.

mod template;

use std::str::FromStr;

use serde_json::Value;

pub use template::{Template, TemplateError};

/// A path into a value: fields, indices and slices, wildcards, filters, and fields at any depth.
#[derive(Clone, Debug, PartialEq)]
pub struct Path(Vec<Step>);

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no JSON path: {why}")]
pub struct PathError {
    path: String,
    why: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Descend(String),
    Filter {
        path: Vec<String>,
        comparison: Comparison,
        value: Value,
    },
    Has(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    Greater,
}

impl FromStr for Path {
    type Err = PathError;

    /// Reads a path, with or without braces around it.
    fn from_str(text: &str) -> Result<Self, PathError> {
        let text = text.trim().trim_start_matches('{').trim_end_matches('}');
        steps(text).map(Self)
    }
}

impl Path {
    /// Everything that the path leads to, in order.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.0.iter().fold(vec![value], |found, step| {
            found.into_iter().flat_map(|value| step.apply(value)).collect()
        })
    }
}

/// A found value as text: strings as they are, everything else as JSON.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Step {
    fn apply<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => position(*index, items.len())
                .and_then(|index| items.get(index))
                .into_iter()
                .collect(),
            (Self::Slice(from, to), Value::Array(items)) => {
                let bound = |bound: Option<i64>, default| {
                    bound.map_or(default, |bound| {
                        position(bound, items.len()).unwrap_or(0).min(items.len())
                    })
                };
                let (from, to) = (bound(*from, 0), bound(*to, items.len()));
                items.get(from..to).into_iter().flatten().collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            (
                Self::Filter {
                    path,
                    comparison,
                    value: wanted,
                },
                Value::Array(items),
            ) => items
                .iter()
                .filter(|item| comparison.holds(at(item, path), wanted))
                .collect(),
            (Self::Has(path), Value::Array(items)) => items.iter().filter(|item| !at(item, path).is_null()).collect(),
            (Self::Descend(name), _) => {
                let mut found = Vec::new();
                descend(name, value, &mut found);
                found
            }
            _ => Vec::new(),
        }
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        let numbers = || Some((left.as_f64()?, right.as_f64()?));
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => numbers().is_some_and(|(left, right)| left < right),
            Self::Greater => numbers().is_some_and(|(left, right)| left > right),
        }
    }
}

fn at<'v>(value: &'v Value, path: &[String]) -> &'v Value {
    path.iter().fold(value, |value, name| &value[name.as_str()])
}

fn descend<'v>(name: &str, value: &'v Value, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if key == name {
                    found.push(value);
                }
                descend(name, value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| descend(name, item, found)),
        _ => {}
    }
}

fn position(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if index < 0 { length + index } else { index }).ok()
}

fn steps(path: &str) -> Result<Vec<Step>, PathError> {
    let fail = |why| PathError {
        path: path.to_owned(),
        why,
    };
    let mut steps = Vec::new();
    let mut rest = path.trim().trim_start_matches(['$', '@']);
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix("..") {
            let (name, after) = field(inner);
            if name.is_empty() {
                return Err(fail("a field has no name"));
            }
            steps.push(Step::Descend(name));
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('.') {
            let (name, after) = field(inner);
            match name.as_str() {
                // All of it: `{.}`, and what is before a bracket.
                "" if (rest == "." && steps.is_empty()) || after.starts_with('[') => {}
                "" => return Err(fail("a field has no name")),
                "*" => steps.push(Step::All),
                _ => steps.push(Step::Field(name)),
            }
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('[') {
            let close = closing(inner, ']').ok_or_else(|| fail("a bracket is not closed"))?;
            steps.push(
                bracket(inner[..close].trim()).ok_or_else(|| fail("between brackets stands what is not understood"))?,
            );
            rest = &inner[close + 1..];
        } else {
            return Err(fail("a path begins with '.', for example {.metadata.name}"));
        }
    }
    Ok(steps)
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
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(name) = quoted(inner) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Ok(index) = inner.parse() {
        return Some(Step::Index(index));
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|inner| inner.strip_suffix(')')) {
        return filter_step(filter.trim());
    }
    let (from, to) = inner.split_once(':')?;
    let bound = |text: &str| {
        if text.is_empty() {
            Some(None)
        } else {
            text.parse().ok().map(Some)
        }
    };
    Some(Step::Slice(bound(from)?, bound(to)?))
}

fn filter_step(filter: &str) -> Option<Step> {
    let path = |text: &str| -> Option<Vec<String>> {
        Some(text.trim().strip_prefix("@.")?.split('.').map(str::to_owned).collect())
    };
    let comparisons = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    for (sign, comparison) in comparisons {
        if let Some((left, right)) = filter.split_once(sign) {
            let right = right.trim();
            let value = quoted(right)
                .map(Value::from)
                .or_else(|| serde_json::from_str(right).ok())?;
            return Some(Step::Filter {
                path: path(left)?,
                comparison,
                value,
            });
        }
    }
    Some(Step::Has(path(filter)?))
}

/// The position of a closing character outside quotes and inner brackets.
fn closing(text: &str, close: char) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, found) if found == close && depth == 0 => return Some(index),
            (None, '[') => depth += 1,
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<&str> {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\''))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, expect: Value) {
        let object = json!({
            "spec": {"hosts": ["a", "b"], "dotted.name": 1},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Accepted", "status": "False", "n": 2}]},
        });
        let path: Path = path.parse().expect("a path");
        assert_eq!(json!(path.find(&object)), expect);
    }

    #[test]
    fn paths() {
        check(".spec.hosts", json!([["a", "b"]]));
        check("$.spec.hosts[1]", json!(["b"]));
        check(".spec.hosts[-1]", json!(["b"]));
        check("{.spec.hosts[*]}", json!(["a", "b"]));
        check(".spec.hosts[0:1]", json!(["a"]));
        check(".spec['dotted.name']", json!([1]));
        check(".spec.['dotted.name']", json!([1]));
        check(".spec.dotted\\.name", json!([1]));
        check(".status.conditions[?(@.type==\"Ready\")].status", json!(["True"]));
        check(".status.conditions[?(@.n==2)].type", json!(["Accepted"]));
        check(".status.conditions[?(@.n>1)].type", json!(["Accepted"]));
        check("..type", json!(["Ready", "Accepted"]));
        check(".spec.absent.field", json!([]));
        check("..n", json!([2]));
        check(
            "{.}",
            json!([{"spec": {"hosts": ["a", "b"], "dotted.name": 1}, "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Accepted", "status": "False", "n": 2}]}}]),
        );
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for (bad, why) in [
            ("spec", "a path begins with '.', for example {.metadata.name}"),
            (".spec[", "a bracket is not closed"),
            (".spec[?(b)]", "between brackets stands what is not understood"),
            (".spec.", "a field has no name"),
            (".spec..", "a field has no name"),
        ] {
            let error = bad.parse::<Path>().expect_err(bad).to_string();
            assert_eq!(error, format!("{bad:?} is no JSON path: {why}"));
        }
    }
}
