//! JSON patch, RFC 6902. All operations hold or none does.

use super::{DEPTH_MAX, PatchError};
use serde_json::Value;

/// As many operations as the API server allows.
const OPERATIONS_MAX: usize = 10_000;
/// Values that `copy` may add in all. Without a limit each copy of the document into itself doubles it.
const COPIED_MAX: usize = 100_000;

/// The object after the operations of `patch`, a list.
pub fn json(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Some(operations) = patch.as_array() else {
        return Err(PatchError::Malformed(
            "a JSON patch must be a list of operations".to_owned(),
        ));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "the allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut patched = Patched {
        object: object.clone(),
        copied: 0,
    };
    for operation in operations {
        patched.step(operation)?;
    }
    Ok(patched.object)
}

struct Patched {
    object: Value,
    copied: usize,
}

impl Patched {
    fn step(&mut self, operation: &Value) -> Result<(), PatchError> {
        let op = text(operation, "op")?;
        let path = Pointer::parse(text(operation, "path")?)?;
        match op {
            "add" => self.add(&path, value(operation)?.clone()),
            "remove" => self.remove(&path).map(drop),
            "replace" => self.replace(&path, value(operation)?.clone()),
            "move" => {
                let from = Pointer::parse(text(operation, "from")?)?;
                if path.is_below(&from) {
                    return Err(from.fails("move", "a value cannot be moved into itself"));
                }
                let value = self.remove(&from)?;
                self.add(&path, value)
            }
            "copy" => {
                let from = Pointer::parse(text(operation, "from")?)?;
                let value = from
                    .get(&self.object)
                    .ok_or_else(|| from.fails("copy", "missing value"))?
                    .clone();
                self.copied += count(&value);
                if self.copied > COPIED_MAX {
                    return Err(PatchError::TooLarge(format!(
                        "copy operations may add at most {COPIED_MAX} values"
                    )));
                }
                self.add(&path, value)
            }
            "test" => {
                let found = path.get(&self.object).unwrap_or(&Value::Null);
                if same(found, value(operation)?) {
                    return Ok(());
                }
                Err(PatchError::Failed(format!(
                    "testing value {} failed: test failed",
                    path.text
                )))
            }
            op => Err(PatchError::Malformed(format!(
                "unexpected kind of operation in a JSON patch: {op:?}; there are add, remove, replace, move, copy and test"
            ))),
        }
    }

    fn add(&mut self, path: &Pointer<'_>, value: Value) -> Result<(), PatchError> {
        if path.tokens.len() + depth(&value) > DEPTH_MAX {
            return Err(PatchError::TooLarge(format!(
                "the patched object is nested deeper than {DEPTH_MAX}"
            )));
        }
        let Some((last, parents)) = path.tokens.split_last() else {
            self.object = value;
            return Ok(());
        };
        match walk(&mut self.object, parents) {
            Some(Value::Object(fields)) => {
                fields.insert(last.clone(), value);
                Ok(())
            }
            Some(Value::Array(items)) => {
                let index = if last == "-" {
                    Some(items.len())
                } else {
                    array_index(last)
                };
                let index = index.filter(|index| *index <= items.len());
                let index = index.ok_or_else(|| path.fails("add", "invalid index referenced"))?;
                items.insert(index, value);
                Ok(())
            }
            _ => Err(path.fails("add", "the parent is missing")),
        }
    }

    fn remove(&mut self, path: &Pointer<'_>) -> Result<Value, PatchError> {
        let missing = || path.fails("remove", "unable to remove nonexistent key");
        let Some((last, parents)) = path.tokens.split_last() else {
            return Ok(std::mem::take(&mut self.object));
        };
        match walk(&mut self.object, parents) {
            Some(Value::Object(fields)) => fields.remove(last).ok_or_else(missing),
            Some(Value::Array(items)) => {
                let index = array_index(last)
                    .filter(|index| *index < items.len())
                    .ok_or_else(missing)?;
                Ok(items.remove(index))
            }
            _ => Err(missing()),
        }
    }

    fn replace(&mut self, path: &Pointer<'_>, value: Value) -> Result<(), PatchError> {
        if path.tokens.len() + depth(&value) > DEPTH_MAX {
            return Err(PatchError::TooLarge(format!(
                "the patched object is nested deeper than {DEPTH_MAX}"
            )));
        }
        match walk(&mut self.object, &path.tokens) {
            Some(place) => {
                *place = value;
                Ok(())
            }
            None => Err(path.fails("replace", "missing value")),
        }
    }
}

fn text<'a>(operation: &'a Value, member: &str) -> Result<&'a str, PatchError> {
    operation.get(member).and_then(Value::as_str).ok_or_else(|| {
        PatchError::Malformed(format!(
            "an operation of a JSON patch lacks the member {member:?}: {operation}"
        ))
    })
}

fn value(operation: &Value) -> Result<&Value, PatchError> {
    operation.get("value").ok_or_else(|| {
        PatchError::Malformed(format!(
            "an operation of a JSON patch lacks the member \"value\": {operation}"
        ))
    })
}

/// A JSON pointer, RFC 6901.
struct Pointer<'a> {
    text: &'a str,
    tokens: Vec<String>,
}

impl<'a> Pointer<'a> {
    fn parse(text: &'a str) -> Result<Pointer<'a>, PatchError> {
        if text.is_empty() {
            return Ok(Pointer {
                text,
                tokens: Vec::new(),
            });
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PatchError::Malformed(format!(
                "the path {text:?} of a JSON patch must start with /"
            )));
        };
        let tokens = rest
            .split('/')
            .map(|token| token.replace("~1", "/").replace("~0", "~"))
            .collect();
        Ok(Pointer { text, tokens })
    }

    fn get<'v>(&self, object: &'v Value) -> Option<&'v Value> {
        self.tokens.iter().try_fold(object, |value, token| match value {
            Value::Object(fields) => fields.get(token),
            Value::Array(items) => items.get(array_index(token)?),
            _ => None,
        })
    }

    fn is_below(&self, other: &Pointer<'_>) -> bool {
        self.tokens.len() > other.tokens.len() && self.tokens.starts_with(&other.tokens)
    }

    fn fails(&self, op: &str, why: &str) -> PatchError {
        PatchError::Failed(format!("{op} operation does not apply: {:?}: {why}", self.text))
    }
}

fn walk<'v>(object: &'v mut Value, tokens: &[String]) -> Option<&'v mut Value> {
    tokens.iter().try_fold(object, |value, token| match value {
        Value::Object(fields) => fields.get_mut(token),
        Value::Array(items) => items.get_mut(array_index(token)?),
        _ => None,
    })
}

/// Array indexes have no sign and no leading zeros.
fn array_index(token: &str) -> Option<usize> {
    let plain = token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    if plain { token.parse().ok() } else { None }
}

/// Equality of JSON: numbers are equal when their values are.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (left, right) => left == right,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(count).sum::<usize>(),
        _ => 1,
    }
}
