//! Templates of JSON paths: text, `{.path}`, `{"literal"}`, `{range .items[*]}...{end}`.

use std::str::FromStr;

use serde_json::Value;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Template),
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

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let template = parse(&mut rest, false)?;
        Ok(template)
    }
}

/// Parses until the end, or until the `{end}` of a range.
fn parse(rest: &mut &str, in_range: bool) -> Result<Template, String> {
    let mut parts = Vec::new();
    loop {
        let Some(open) = rest.find('{') else {
            if in_range {
                return Err("{range} has no {end}".to_owned());
            }
            if !rest.is_empty() {
                parts.push(Part::Text((*rest).to_owned()));
            }
            return Ok(Template(parts));
        };
        if open > 0 {
            parts.push(Part::Text(rest[..open].to_owned()));
        }
        let inner = &rest[open + 1..];
        let close = closing(inner, '}').ok_or_else(|| format!("{{{inner} is not closed"))?;
        let expression = inner[..close].trim();
        *rest = &inner[close + 1..];
        if expression == "end" {
            return if in_range {
                Ok(Template(parts))
            } else {
                Err("{end} without {range}".to_owned())
            };
        }
        if let Some(path) = expression.strip_prefix("range ") {
            let path = steps(path.trim())?;
            parts.push(Part::Range(path, parse(rest, true)?));
        } else if let Some(literal) = quoted(expression) {
            parts.push(Part::Text(unescape(literal)));
        } else {
            parts.push(Part::Path(steps(expression)?));
        }
    }
}

impl Template {
    /// A bare path, with or without its braces.
    pub(crate) fn path(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_start_matches('{').trim_end_matches('}');
        Ok(Self(vec![Part::Path(steps(text)?)]))
    }

    /// The template filled in from a value.
    pub(crate) fn render(&self, value: &Value) -> Result<String, anyhow::Error> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Path(path) => {
                    let found: Vec<String> = find(path, value).into_iter().map(plain).collect();
                    text.push_str(&found.join(" "));
                }
                Part::Range(path, body) => {
                    for item in find(path, value) {
                        text.push_str(&body.render(item)?);
                    }
                }
            }
        }
        Ok(text)
    }

    /// What a bare path finds, as a table's cell.
    pub(crate) fn cell(&self, value: &Value) -> String {
        let Some(Part::Path(path)) = self.0.first() else {
            return String::new();
        };
        let found: Vec<String> = find(path, value)
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

    /// Everything that a bare path finds.
    pub(crate) fn values<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self.0.first() {
            Some(Part::Path(path)) => find(path, value),
            _ => Vec::new(),
        }
    }
}

/// Text as it is, everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn find<'v>(path: &[Step], value: &'v Value) -> Vec<&'v Value> {
    path.iter().fold(vec![value], |found, step| {
        found.into_iter().flat_map(|value| step.apply(value)).collect()
    })
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

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let fail = |why: &str| format!("{path:?} is no JSON path: {why}");
    let mut steps = Vec::new();
    let mut rest = path.trim().trim_start_matches(['$', '@']);
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix("..") {
            let (name, after) = field(inner);
            steps.push(Step::Descend(name));
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('.') {
            let (name, after) = field(inner);
            match name.as_str() {
                "" => {}
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

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(template: &str, expect: &str) {
        let value = json!({
            "kind": "List",
            "items": [{"metadata": {"name": "a", "labels": {"x.y/z": "1"}}, "n": 1, "ok": true}, {"metadata": {"name": "b"}, "n": 2}],
        });
        let template: Template = template.parse().expect("a template");
        assert_eq!(template.render(&value).expect("it renders"), expect);
    }

    #[test]
    fn templates() {
        check("{.kind}", "List");
        check("is {.kind}!", "is List!");
        check("{.items[*].metadata.name}", "a b");
        check("{.items[0].metadata.name}{\"\\n\"}", "a\n");
        check("{.items[-1:].n}", "2");
        check("{range .items[*]}{.metadata.name}={.n};{end}", "a=1;b=2;");
        check("{.items[?(@.n==2)].metadata.name}", "b");
        check("{.items[?(@.metadata.name!=\"b\")].n}", "1");
        check("{.items[?(@.n>1)].n}", "2");
        check("{.items[?(@.ok)].n}", "1");
        check("{..name}", "a b");
        check("{.items[0].metadata.labels.x\\.y/z}", "1");
        check("{.items[0].metadata.labels['x.y/z']}", "1");
        check("{.items[0].metadata}", r#"{"labels":{"x.y/z":"1"},"name":"a"}"#);
        check("{.absent}", "");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in ["{.a", "{a}", "{range .a}{.b}", "{end}", "{.a[}", "{.a[?(b)]}"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cells() {
        let cell = |path: &str| {
            Template::path(path)
                .expect("a path")
                .cell(&json!({"a": [1, 2], "b": null}))
        };
        assert_eq!(
            (cell(".a[*]").as_str(), cell(".b").as_str(), cell(".c").as_str()),
            ("1,2", "<none>", "<none>")
        );
    }
}
