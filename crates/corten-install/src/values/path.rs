//! `--set a.b[0].c=value`: paths and values as istioctl reads them.

use serde_json::{Map, Value};

/// A setting of the command line cannot be read, or not be put where it points.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// There is no `=`.
    #[error("{0:?} is not of the form path=value, as in profile=ambient")]
    NoValue(String),
    /// The path is no path.
    #[error(
        "{path:?} is no path: {problem}; write it as in values.global.proxy.clusterDomain or components.ingressGateways[0].enabled"
    )]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a map.
    Name(String),
    /// Into a list.
    Index(usize),
    /// To the element of a list that has this at this key: `[name:discovery]`.
    Where(String, String),
    /// To the element of a list that is this: `[:30m]`, or `[30m]` where a value stands.
    Is(String),
}

/// Splits `path=value`; with `text` the value stays a text, whatever it looks like.
pub fn setting(argument: &str, text: bool) -> Result<(Vec<Step>, Value), SetError> {
    let (path, value) = argument
        .split_once('=')
        .ok_or_else(|| SetError::NoValue(argument.to_owned()))?;
    let value = if text { Value::from(value) } else { scalar(value) };
    Ok((parse(path)?, value))
}

/// What a value on the command line is: true and false, numbers, null, lists and maps in YAML's flow form, else a text.
fn scalar(text: &str) -> Value {
    match text {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        "null" => return Value::Null,
        _ => {}
    }
    // 007, +1 and 1.30 are texts, as tags and identifiers are.
    let whole = text.parse::<i64>().ok().map(Value::from);
    let fraction = || text.parse::<f64>().ok().filter(|_| text.contains('.')).map(Value::from);
    if let Some(number) = whole.or_else(fraction) {
        let same = number.to_string();
        if same == text {
            return number;
        }
    }
    if text.starts_with(['[', '{']) {
        let (documents, problems) = corten_api::decode::documents("", text);
        if let ([document], true) = (&documents[..], problems.is_empty()) {
            return document.to_value();
        }
    }
    Value::from(text)
}

/// Splits a path: names by dots, a dot of a name behind a backslash, elements of lists in brackets.
pub fn parse(path: &str) -> Result<Vec<Step>, SetError> {
    let wrong = |problem: &str| SetError::Path {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let mut steps = Vec::new();
    let mut name = String::new();
    let mut chars = path.chars().peekable();
    let mut after_bracket = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next) => name.push(next),
                None => return Err(wrong("nothing stands behind the backslash")),
            },
            '.' => {
                if name.is_empty() && !after_bracket {
                    return Err(wrong("a name is empty"));
                }
                if !name.is_empty() {
                    steps.push(Step::Name(std::mem::take(&mut name)));
                }
                after_bracket = chars.peek() == Some(&'[');
            }
            '[' => {
                if !name.is_empty() {
                    steps.push(Step::Name(std::mem::take(&mut name)));
                }
                let mut inner = String::new();
                let mut closed = false;
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => inner.extend(chars.next()),
                        ']' => {
                            closed = true;
                            break;
                        }
                        c => inner.push(c),
                    }
                }
                if !closed || inner.is_empty() {
                    return Err(wrong("a bracket is empty, or not closed"));
                }
                steps.push(match (inner.parse(), inner.split_once(':')) {
                    (Ok(index), _) => Step::Index(index),
                    (_, Some(("", value))) => Step::Is(value.to_owned()),
                    (_, Some((key, value))) => Step::Where(key.to_owned(), value.to_owned()),
                    (_, None) => Step::Is(inner),
                });
                after_bracket = true;
            }
            c => {
                name.push(c);
                after_bracket = false;
            }
        }
    }
    if !name.is_empty() {
        steps.push(Step::Name(name));
    } else if !after_bracket {
        return Err(wrong("a name is empty"));
    }
    Ok(steps)
}

/// Puts a value where a path points, making what is missing on the way. An index may be the one behind a list's end.
pub fn put(tree: &mut Value, steps: &[Step], value: Value) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        *tree = value;
        return Ok(());
    };
    match step {
        Step::Name(name) => {
            if tree.is_null() {
                *tree = Value::Object(Map::new());
            }
            let Value::Object(map) = tree else {
                return Err(format!("{name:?} cannot be set in {tree}"));
            };
            put(map.entry(name.clone()).or_insert(Value::Null), rest, value)
        }
        step => {
            if tree.is_null() {
                *tree = Value::Array(Vec::new());
            }
            let Value::Array(list) = tree else {
                return Err(format!("an element of a list cannot be set in {tree}"));
            };
            let at = match step {
                Step::Index(index) => *index,
                step => find(list, step).ok_or_else(|| format!("no element of the list is {}", describe(step)))?,
            };
            if at == list.len() {
                list.push(Value::Null);
            }
            let length = list.len();
            let element = list
                .get_mut(at)
                .ok_or_else(|| format!("the list has {length} elements, so there is none with index {at}"))?;
            put(element, rest, value)
        }
    }
}

/// Takes away what a path points to; whether there was anything.
pub fn remove(tree: &mut Value, steps: &[Step]) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        return false;
    };
    match (step, tree) {
        (Step::Name(name), Value::Object(map)) if rest.is_empty() => map.remove(name).is_some(),
        (Step::Name(name), Value::Object(map)) => map.get_mut(name).is_some_and(|next| remove(next, rest)),
        (step, Value::Array(list)) => {
            let at = match step {
                Step::Index(index) => (*index < list.len()).then_some(*index),
                step => find(list, step),
            };
            match at {
                Some(at) if rest.is_empty() => {
                    list.remove(at);
                    true
                }
                Some(at) => remove(&mut list[at], rest),
                None => false,
            }
        }
        _ => false,
    }
}

fn find(list: &[Value], step: &Step) -> Option<usize> {
    let is = |value: &Value, text: &str| match value {
        Value::String(value) => value == text,
        other => {
            let written = other.to_string();
            written == text
        }
    };
    list.iter().position(|element| match step {
        Step::Where(key, value) => is(&element[key], value),
        Step::Is(value) => is(element, value),
        _ => false,
    })
}

fn describe(step: &Step) -> String {
    match step {
        Step::Where(key, value) => format!("[{key}:{value}]"),
        Step::Is(value) => format!("[{value}]"),
        Step::Index(index) => format!("[{index}]"),
        Step::Name(name) => name.clone(),
    }
}
