//! Sets of field paths, as `managedFields` stores them (`fieldsV1`).

use super::shape::Shape;
use crate::go;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One step of a path, in its encoded form: `f:name`, `k:{"name":"a"}`, `v:"a"` or `i:0`.
pub(super) type Element = String;

/// A set of paths. A path is a member by itself; its children being members does not make it one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Set(BTreeMap<Element, Node>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    member: bool,
    children: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(Node::is_empty)
    }

    /// Adds a path. The empty path is the object itself, which nobody owns.
    pub(super) fn insert(&mut self, path: &[Element]) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let mut set = self;
        for element in parents {
            set = &mut set.0.entry(element.clone()).or_default().children;
        }
        set.0.entry(last.clone()).or_default().member = true;
    }

    /// Whether the path of one element is a member.
    pub(super) fn has(&self, element: &str) -> bool {
        self.0.get(element).is_some_and(|node| node.member)
    }

    /// What is below an element.
    pub(super) fn below(&self, element: &str) -> Option<&Set> {
        self.0
            .get(element)
            .map(|node| &node.children)
            .filter(|children| !children.is_empty())
    }

    pub(super) fn union(mut self, other: &Set) -> Set {
        for (element, node) in &other.0 {
            let ours = self.0.entry(element.clone()).or_default();
            ours.member |= node.member;
            ours.children = std::mem::take(&mut ours.children).union(&node.children);
        }
        self
    }

    pub(super) fn intersection(&self, other: &Set) -> Set {
        self.combine(other, |ours, theirs| ours && theirs)
    }

    pub(super) fn difference(&self, other: &Set) -> Set {
        self.combine(other, |ours, theirs| ours && !theirs)
    }

    fn combine(&self, other: &Set, member: fn(bool, bool) -> bool) -> Set {
        static ABSENT: Node = Node {
            member: false,
            children: Set(BTreeMap::new()),
        };
        let mut combined = Set::default();
        for (element, ours) in &self.0 {
            let theirs = other.0.get(element).unwrap_or(&ABSENT);
            let children = ours.children.combine(&theirs.children, member);
            let node = Node {
                member: member(ours.member, theirs.member),
                children,
            };
            if !node.is_empty() {
                combined.0.insert(element.clone(), node);
            }
        }
        combined
    }

    /// The set with the declared fields on the way to its members as members too: who owns something in a struct
    /// owns the struct, but not so for the keys of a map.
    pub(super) fn with_named_fields(&self, shape: Shape<'_>) -> Set {
        let mut named = Set::default();
        for (element, node) in &self.0 {
            let (inner, declared) = match element.strip_prefix("f:") {
                Some(name) => shape.field(name),
                None => (shape.items(), false),
            };
            let children = node.children.with_named_fields(inner);
            let member = node.member || (declared && !children.is_empty());
            named.0.insert(element.clone(), Node { member, children });
        }
        named
    }

    /// All members, as `.spec.containers[name="a"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect(&mut String::new(), &mut found);
        found
    }

    fn collect(&self, prefix: &mut String, found: &mut Vec<String>) {
        for (element, node) in &self.0 {
            let length = prefix.len();
            prefix.push_str(&display(element));
            if node.member {
                found.push(prefix.clone());
            }
            node.children.collect(prefix, found);
            prefix.truncate(length);
        }
    }

    /// The `fieldsV1` form.
    pub(super) fn to_fields(&self) -> Value {
        let mut fields = Map::new();
        for (element, node) in &self.0 {
            if node.is_empty() {
                continue;
            }
            let mut children = node.children.to_fields();
            if let Value::Object(children) = &mut children
                && node.member
                && !children.is_empty()
            {
                children.insert(".".to_owned(), Value::Object(Map::new()));
            }
            fields.insert(element.clone(), children);
        }
        Value::Object(fields)
    }

    /// Reads the `fieldsV1` form.
    pub(super) fn from_fields(fields: &Value) -> Result<Set, String> {
        let mut set = Set::default();
        for (element, children) in fields.as_object().into_iter().flatten() {
            if element == "." {
                continue;
            }
            let inner = Set::from_fields(children)?;
            let member = inner.is_empty() || children.get(".").is_some();
            set.0.insert(
                canonical(element)?,
                Node {
                    member,
                    children: inner,
                },
            );
        }
        Ok(set)
    }
}

/// The element with its JSON printed as we print it, so that equal elements are equal text.
fn canonical(element: &str) -> Result<Element, String> {
    let malformed = || format!("failed to parse path element {element:?}");
    let (kind, rest) = element.split_once(':').ok_or_else(malformed)?;
    match kind {
        "f" => Ok(element.to_owned()),
        "i" if rest.parse::<i64>().is_ok() => Ok(element.to_owned()),
        "v" | "k" => {
            let value: Value = serde_json::from_str(rest).map_err(|_| malformed())?;
            Ok(format!("{kind}:{}", scalar_text(&value)))
        }
        _ => Err(malformed()),
    }
}

/// JSON in which whole numbers have no fraction, however they were written.
pub(super) fn scalar_text(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => format!("{float:.0}"),
            _ => number.to_string(),
        },
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), scalar_text(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        value => value.to_string(),
    }
}

fn display(element: &str) -> String {
    let (kind, rest) = element.split_once(':').unwrap_or(("f", element));
    match kind {
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let keys: Vec<String> = keys
                .iter()
                .map(|(key, value)| format!("{key}={}", print_scalar(value)))
                .collect();
            format!("[{}]", keys.join(","))
        }
        "v" => {
            let value: Value = serde_json::from_str(rest).unwrap_or_default();
            format!("[={}]", print_scalar(&value))
        }
        "i" => format!("[{rest}]"),
        _ => format!(".{rest}"),
    }
}

fn print_scalar(value: &Value) -> String {
    match value {
        Value::String(text) => go::quote(text),
        value => value.to_string(),
    }
}
