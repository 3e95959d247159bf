//! The functions of templates: Go's, and those of Helm that our charts use, with the same results.

use std::cmp::Ordering;

use corten_api::{decode, yaml};
use serde_json::{Map, Value};

use crate::Problem;
use crate::eval::{text, truth};

/// Calls a function.
pub(crate) fn call(name: &str, arguments: &[Value]) -> Result<Value, Problem> {
    let wrong = || format!("{name} does not take {}", Value::from(arguments.to_vec()));
    Ok(match (name, arguments) {
        ("not", [value]) => Value::from(!truth(value)),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => Value::from(rest.iter().any(|other| same(first, other))),
        ("ne", [left, right]) => Value::from(!same(left, right)),
        ("lt" | "le" | "gt" | "ge", [left, right]) => {
            let order = order(left, right).ok_or_else(wrong)?;
            Value::from(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
        ("default", [default]) => default.clone(),
        ("default", [default, value]) => if truth(value) { value } else { default }.clone(),
        ("coalesce", values) => values.iter().find(|value| truth(value)).cloned().unwrap_or(Value::Null),
        ("ternary", [yes, no, condition]) => if truth(condition) { yes } else { no }.clone(),
        ("empty", [value]) => Value::from(!truth(value)),
        ("quote", values) => {
            let quoted = values
                .iter()
                .filter(|value| !value.is_null())
                .map(|value| Value::from(text(value)).to_string());
            Value::from(quoted.collect::<Vec<_>>().join(" "))
        }
        ("toString", [value]) => Value::from(text(value)),
        ("int" | "int64", [value]) => Value::from(whole(value)),
        ("toYaml", [value]) => Value::from(yaml::document(value).trim_end_matches('\n')),
        ("toJson", [value]) => Value::from(value.to_string()),
        ("fromYaml", [Value::String(text)]) => from_yaml(text)?,
        ("dict", pairs) if pairs.len() % 2 == 0 => {
            let pairs = pairs.chunks(2).map(|pair| (text(&pair[0]), pair[1].clone()));
            Value::Object(pairs.collect())
        }
        ("list", items) => Value::from(items.to_vec()),
        ("concat", lists) => {
            let items = lists.iter().map(|list| list.as_array().ok_or_else(wrong));
            Value::from(
                items
                    .collect::<Result<Vec<_>, _>>()?
                    .into_iter()
                    .flatten()
                    .cloned()
                    .collect::<Vec<_>>(),
            )
        }
        ("append", [Value::Array(list), item]) => {
            let mut list = list.clone();
            list.push(item.clone());
            Value::from(list)
        }
        ("has", [item, Value::Array(list)]) => Value::from(list.contains(item)),
        ("has", [_, Value::Null]) => Value::from(false),
        ("hasKey", [Value::Object(map), key]) => Value::from(map.contains_key(&text(key))),
        ("get", [Value::Object(map), key]) => map.get(&text(key)).cloned().unwrap_or_else(|| Value::from("")),
        ("omit", [Value::Object(map), keys @ ..]) => {
            let mut map = map.clone();
            keys.iter().for_each(|key| {
                map.remove(&text(key));
            });
            Value::Object(map)
        }
        ("index", [value, keys @ ..]) => {
            let step = |at: &Value, key: &Value| match (at, key) {
                (Value::Object(map), key) => map.get(&text(key)).cloned(),
                (Value::Array(list), key) => {
                    let index = usize::try_from(whole(key)).ok()?;
                    list.get(index).cloned()
                }
                (Value::Null, _) => Some(Value::Null),
                _ => None,
            };
            let mut at = value.clone();
            for key in keys {
                at = match (step(&at, key), &at) {
                    (Some(next), _) => next,
                    (None, Value::Object(_)) => Value::Null,
                    _ => return Err(wrong()),
                };
            }
            at
        }
        ("deepCopy", [value]) => value.clone(),
        ("mergeOverwrite" | "mustMergeOverwrite", [first, rest @ ..]) => {
            let mut merged = first.clone();
            rest.iter().for_each(|other| merge(&mut merged, other));
            merged
        }
        ("kindIs", [Value::String(kind), value]) => Value::from(kind == kind_of(value)),
        ("indent" | "nindent", [spaces, Value::String(text)]) => {
            let pad = " ".repeat(usize::try_from(whole(spaces)).unwrap_or_default());
            let lines: Vec<String> = text.split('\n').map(|line| format!("{pad}{line}")).collect();
            let begin = if name == "nindent" { "\n" } else { "" };
            Value::from(format!("{begin}{}", lines.join("\n")))
        }
        ("trim", [value]) => Value::from(text(value).trim()),
        ("trimSuffix", [end, value]) => {
            let value = text(value);
            Value::from(value.strip_suffix(text(end).as_str()).unwrap_or(&value))
        }
        ("trimPrefix", [begin, value]) => {
            let value = text(value);
            Value::from(value.strip_prefix(text(begin).as_str()).unwrap_or(&value))
        }
        ("trunc", [length, value]) => {
            let length = usize::try_from(whole(length)).unwrap_or_default();
            Value::from(text(value).chars().take(length).collect::<String>())
        }
        ("replace", [old, new, value]) => Value::from(text(value).replace(&text(old), &text(new))),
        ("lower", [value]) => Value::from(text(value).to_lowercase()),
        ("contains", [part, value]) => Value::from(text(value).contains(&text(part))),
        ("hasPrefix", [begin, value]) => Value::from(text(value).starts_with(&text(begin))),
        ("hasSuffix", [end, value]) => Value::from(text(value).ends_with(&text(end))),
        ("join", [separator, Value::Array(items)]) => {
            Value::from(items.iter().map(text).collect::<Vec<_>>().join(&text(separator)))
        }
        ("splitList", [separator, value]) => {
            let (separator, value) = (text(separator), text(value));
            Value::from(value.split(&separator).map(Value::from).collect::<Vec<_>>())
        }
        ("printf", [Value::String(format), rest @ ..]) => Value::from(printf(format, rest)?),
        ("len", [Value::Array(list)]) => Value::from(list.len()),
        ("len", [Value::Object(map)]) => Value::from(map.len()),
        ("len", [Value::String(text)]) => Value::from(text.len()),
        ("fail", [message]) => return Err(text(message)),
        _ => {
            return Err(if KNOWN.contains(&name) {
                wrong()
            } else {
                format!("the function {name:?} is not known")
            });
        }
    })
}

/// The names above, to tell an unknown function from wrong arguments.
const KNOWN: [&str; 45] = [
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "default",
    "coalesce",
    "ternary",
    "empty",
    "quote",
    "toString",
    "int",
    "int64",
    "toYaml",
    "toJson",
    "fromYaml",
    "dict",
    "list",
    "concat",
    "append",
    "has",
    "hasKey",
    "get",
    "omit",
    "index",
    "deepCopy",
    "mergeOverwrite",
    "mustMergeOverwrite",
    "kindIs",
    "indent",
    "nindent",
    "trim",
    "trimSuffix",
    "trimPrefix",
    "trunc",
    "replace",
    "lower",
    "contains",
    "hasPrefix",
    "join",
    "splitList",
    "printf",
    "len",
];

/// Lays `over` over `base`: maps are merged key by key, everything else is replaced.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(key) {
                    Some(there) => merge(there, value),
                    None => {
                        base.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn whole(value: &Value) -> i64 {
    match value {
        #[expect(clippy::cast_possible_truncation, reason = "what Helm's int does")]
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|n| n as i64))
            .unwrap_or_default(),
        Value::String(text) => text.parse().unwrap_or_default(),
        Value::Bool(value) => i64::from(*value),
        _ => 0,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

fn from_yaml(text: &str) -> Result<Value, Problem> {
    let (documents, problems) = decode::documents("", text);
    if let Some(problem) = problems.first() {
        return Err(format!("fromYaml: {problem}"));
    }
    let document = documents.first().map(decode::Node::to_value);
    Ok(document.unwrap_or_else(|| Value::Object(Map::new())))
}

fn printf(format: &str, arguments: &[Value]) -> Result<String, Problem> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let verb = chars.next();
        if verb == Some('%') {
            out.push('%');
            continue;
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("printf {format:?} lacks an argument"))?;
        match verb {
            Some('s' | 'v' | 'd') => out.push_str(&text(value)),
            Some('q') => out.push_str(&Value::from(text(value)).to_string()),
            other => return Err(format!("printf does not know %{}", other.unwrap_or(' '))),
        }
    }
    Ok(out)
}
