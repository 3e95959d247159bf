//! The tree a text decodes to: the JSON data model, every value with the place it was written at.
//!
//! The tree knows nothing of schemas; YAML's tags, anchors and merge keys are gone by the time it exists.

use serde_json::{Map, Number, Value};

use crate::diagnostic::Position;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where the value begins.
    pub at: Position,
    /// The value.
    pub data: Data,
}

/// The JSON data model.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// `null`, or nothing at all after a key.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order written, without duplicate keys.
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where the key stands.
    pub at: Position,
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// A node of a value that has no text: everything at 1:1.
    pub fn from_value(value: &Value) -> Node {
        let at = Position { line: 1, column: 1 };
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(b) => Data::Bool(*b),
            Value::Number(n) => Data::Number(n.clone()),
            Value::String(s) => Data::String(s.clone()),
            Value::Array(items) => Data::List(items.iter().map(Node::from_value).collect()),
            Value::Object(map) => Data::Map(
                map.iter()
                    .map(|(key, value)| Entry {
                        at,
                        key: key.clone(),
                        value: Node::from_value(value),
                    })
                    .collect(),
            ),
        };
        Node { at, data }
    }

    /// The same data without places.
    pub fn to_value(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(b) => Value::Bool(*b),
            Data::Number(n) => Value::Number(n.clone()),
            Data::String(s) => Value::String(s.clone()),
            Data::List(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Data::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|e| (e.key.clone(), e.value.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// The value of a key, when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|e| e.key == key).map(|e| &e.value)
    }

    /// The string, when this is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::String(s) => Some(s),
            _ => None,
        }
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    /// The keys of a mapping; none for everything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for everything else.
    pub fn items(&self) -> &[Node] {
        match &self.data {
            Data::List(items) => items,
            _ => &[],
        }
    }

    /// What this is, for messages: `a string`, `a list`.
    pub fn described(&self) -> &'static str {
        match self.data {
            Data::Null => "null",
            Data::Bool(_) => "a boolean",
            Data::Number(_) => "a number",
            Data::String(_) => "a string",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    /// Where a field path (`spec.http[0].route`, `metadata.labels[a.b/c]`) stands: the place of its key or item, or
    /// that of the deepest part of it which was written.
    pub fn locate(&self, path: &str) -> Position {
        let mut node = self;
        let mut at = self.at;
        for segment in segments(path) {
            let found = match (&node.data, segment) {
                (Data::Map(entries), Segment::Key(key) | Segment::Bracket(key)) => entries
                    .iter()
                    .find(|e| same_field(&e.key, key))
                    .map(|e| (e.at, &e.value)),
                (Data::List(items), Segment::Bracket(index)) => index
                    .parse::<usize>()
                    .ok()
                    .and_then(|i| items.get(i))
                    .map(|item| (item.at, item)),
                _ => None,
            };
            let Some((place, next)) = found else { break };
            at = place;
            node = next;
        }
        at
    }
}

/// Removes what stands at a field path from a value, if anything does; items of lists become `null`, so that those after
/// them keep their numbers.
pub(crate) fn remove(value: &mut Value, path: &str) {
    let mut segments: Vec<Segment<'_>> = segments(path).collect();
    let Some(last) = segments.pop() else { return };
    let mut at = value;
    for segment in segments {
        let next = match (at, segment) {
            (Value::Object(map), Segment::Key(key) | Segment::Bracket(key)) => map.get_mut(key),
            (Value::Array(items), Segment::Bracket(index)) => index.parse().ok().and_then(|i: usize| items.get_mut(i)),
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return,
        }
    }
    match (at, last) {
        (Value::Object(map), Segment::Key(key) | Segment::Bracket(key)) => _ = map.remove(key),
        (Value::Array(items), Segment::Bracket(index)) => {
            if let Some(item) = index.parse().ok().and_then(|i: usize| items.get_mut(i)) {
                *item = Value::Null;
            }
        }
        _ => {}
    }
}

/// Protobuf's JSON form allows a field to be written as `maxRequests` or `max_requests`.
fn same_field(written: &str, wanted: &str) -> bool {
    written == wanted || (written.contains('_') && written.chars().filter(|c| *c != '_').eq_ignore_case(wanted.chars()))
}

trait EqIgnoreCase: Iterator<Item = char> + Sized {
    fn eq_ignore_case(self, other: impl Iterator<Item = char>) -> bool {
        self.map(|c| c.to_ascii_lowercase())
            .eq(other.map(|c| c.to_ascii_lowercase()))
    }
}

impl<I: Iterator<Item = char>> EqIgnoreCase for I {}

enum Segment<'a> {
    Key(&'a str),
    Bracket(&'a str),
}

fn segments(path: &str) -> impl Iterator<Item = Segment<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.is_empty() {
            return None;
        }
        if let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']').unwrap_or((inner, ""));
            rest = after;
            return Some(Segment::Bracket(index));
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        rest = after;
        Some(Segment::Key(key))
    })
}
