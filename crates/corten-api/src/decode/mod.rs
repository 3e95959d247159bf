//! YAML and JSON texts to spanned trees and Kubernetes objects.
//!
//! Decoding is lenient: a text is split into documents first, so that what cannot be read costs its own document only,
//! and everything wrong is a diagnostic beside what is usable. What the fields of an object mean is the business of the
//! typed layer above.

mod json;
mod map;
mod node;
mod scalar;
#[cfg(test)]
mod tests;
mod yaml;

use std::sync::Arc;

use serde_json::Value;

pub(crate) use self::node::remove;
pub use self::node::{Data, Entry, Node};
use crate::diagnostic::{Code, Diagnostic, Location, ObjectRef, Position, Severity};

/// How much a text may ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest text.
    pub text_bytes: usize,
    /// The deepest nesting of lists and mappings.
    pub depth: usize,
    /// How much anchors and aliases may copy in one document.
    pub alias_bytes: usize,
}

impl Default for Limits {
    /// Room for every manifest a person or a chart writes; the API server itself takes objects of up to 3 MiB.
    fn default() -> Limits {
        Limits {
            text_bytes: 64 << 20,
            depth: 100,
            alias_bytes: 8 << 20,
        }
    }
}

/// Something wrong with a text, before it is known which object it belongs to.
#[derive(Debug)]
struct Problem {
    code: Code,
    at: Position,
    message: String,
}

/// A Kubernetes object as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct SpannedObject {
    /// Its version, kind, namespace and name, as far as written.
    pub reference: ObjectRef,
    /// The file it came from.
    pub file: Arc<str>,
    /// The whole object.
    pub root: Node,
}

impl SpannedObject {
    /// An object that did not come from a text, such as one watched from an API server.
    pub fn from_value(value: &Value) -> SpannedObject {
        let root = Node::from_value(value);
        SpannedObject {
            reference: reference(&root),
            file: Arc::from(""),
            root,
        }
    }

    /// The object without places.
    pub fn to_value(&self) -> Value {
        self.root.to_value()
    }

    /// A diagnostic about a field of this object, placed where the field stands.
    pub fn diagnostic(&self, code: Code, severity: Severity, path: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            severity,
            object: Some(self.reference.clone()),
            path: path.to_owned(),
            location: self.location(self.root.locate(path)),
            message: message.into(),
        }
    }

    /// A place in this object's file; `None` when it has no file.
    pub fn location(&self, position: Position) -> Option<Location> {
        (!self.file.is_empty()).then(|| Location {
            file: Arc::clone(&self.file),
            position,
        })
    }
}

/// Decodes a text into the trees of its documents; empty documents are left out.
pub fn documents(file: &str, text: &str) -> (Vec<Node>, Vec<Diagnostic>) {
    let (nodes, problems) = read(text, &Limits::default());
    let file = Arc::from(file);
    (nodes, problems.into_iter().map(|p| located(p, &file)).collect())
}

/// Decodes a text into Kubernetes objects: all documents, with `List` kinds flattened into their items.
///
/// `file` is only the name diagnostics carry.
pub fn objects(file: &str, text: &str) -> (Vec<SpannedObject>, Vec<Diagnostic>) {
    objects_within(file, text, &Limits::default())
}

/// As [`objects`], with limits of the caller's.
pub fn objects_within(file: &str, text: &str, limits: &Limits) -> (Vec<SpannedObject>, Vec<Diagnostic>) {
    let (nodes, problems) = read(text, limits);
    let file: Arc<str> = Arc::from(file);
    let mut diagnostics = Vec::new();
    let mut objects = Vec::new();
    for node in nodes {
        flatten(node, &file, &mut objects, &mut diagnostics);
    }
    let mut all: Vec<Diagnostic> = problems.into_iter().map(|p| attributed(p, &file, &objects)).collect();
    all.append(&mut diagnostics);
    (objects, all)
}

/// The tree of a text that holds exactly one document, such as a `MeshConfig`; `None` when it holds none.
pub fn document(file: &str, text: &str) -> (Option<Node>, Vec<Diagnostic>) {
    let (mut nodes, mut diagnostics) = documents(file, text);
    if let Some(second) = nodes.get(1) {
        let problem = Problem {
            code: Code::SYNTAX,
            at: second.at,
            message: "a second document where one is expected; only the first is used".to_owned(),
        };
        diagnostics.push(located(problem, &Arc::from(file)));
    }
    nodes.truncate(1);
    (nodes.pop(), diagnostics)
}

fn read(text: &str, limits: &Limits) -> (Vec<Node>, Vec<Problem>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > limits.text_bytes {
        let message = format!(
            "{} bytes are more than the {} that are read",
            text.len(),
            limits.text_bytes
        );
        return (
            Vec::new(),
            vec![Problem {
                code: Code::LIMIT,
                at: Position { line: 1, column: 1 },
                message,
            }],
        );
    }
    if text.trim_start().starts_with(['{', '[']) {
        match json::stream(text, limits) {
            Ok(read) => return read,
            // Braces begin YAML's flow mappings as well, which YAML tells apart; but depth is depth.
            Err(problem) if problem.code == Code::LIMIT => return (Vec::new(), vec![problem]),
            Err(_) => {}
        }
    }
    let mut nodes = Vec::new();
    let mut problems = Vec::new();
    for (first_line, chunk) in chunks(text) {
        let (documents, found) = yaml::documents(chunk, first_line, limits);
        nodes.extend(documents.into_iter().filter(|node| !node.is_null()));
        problems.extend(found);
    }
    (nodes, problems)
}

/// Splits a stream where a line begins with `---`, which no document can contain; each chunk with the line it begins on.
fn chunks(text: &str) -> Vec<(u32, &str)> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line) = (0, 1u32);
    let (mut offset, mut line) = (0, 1u32);
    let mut directives = false;
    for current in text.split_inclusive('\n') {
        let marker = current
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        // `%YAML` directives belong to the document whose marker follows them.
        if marker && !directives && offset > start {
            chunks.push((start_line, text.get(start..offset).unwrap_or_default()));
            (start, start_line) = (offset, line);
        }
        directives = match current.trim() {
            _ if marker => false,
            "" => directives,
            trimmed if trimmed.starts_with('#') => directives,
            _ => current.starts_with('%') && (directives || only_blank(text.get(start..offset).unwrap_or_default())),
        };
        offset += current.len();
        line = line.saturating_add(1);
    }
    chunks.push((start_line, text.get(start..).unwrap_or_default()));
    chunks
}

fn only_blank(text: &str) -> bool {
    text.lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim_end() == "---")
}

fn located(problem: Problem, file: &Arc<str>) -> Diagnostic {
    Diagnostic {
        location: Some(Location {
            file: Arc::clone(file),
            position: problem.at,
        }),
        ..Diagnostic::error(problem.code, problem.message)
    }
}

/// A problem inside an object that could be read is about that object: the last one that begins before it.
fn attributed(problem: Problem, file: &Arc<str>, objects: &[SpannedObject]) -> Diagnostic {
    let object = match problem.code {
        Code::DUPLICATE_KEY => objects
            .iter()
            .rev()
            .find(|o| o.root.at <= problem.at)
            .map(|o| o.reference.clone()),
        _ => None,
    };
    Diagnostic {
        object,
        ..located(problem, file)
    }
}

fn flatten(node: Node, file: &Arc<str>, objects: &mut Vec<SpannedObject>, diagnostics: &mut Vec<Diagnostic>) {
    let reference = reference(&node);
    let missing = [("apiVersion", &reference.api_version), ("kind", &reference.kind)]
        .into_iter()
        .find(|(_, v)| v.is_empty());
    if let Some((field, _)) = missing {
        let message = match node.get(field) {
            _ if !matches!(node.data, Data::Map(_)) => {
                format!("a Kubernetes object is a mapping, this is {}", node.described())
            }
            None => format!("a Kubernetes object needs the field {field}"),
            Some(value) => format!(
                "{field} must be a string that is not empty, this is {}",
                value.described()
            ),
        };
        diagnostics.push(located(
            Problem {
                code: Code::NOT_AN_OBJECT,
                at: node.at,
                message,
            },
            file,
        ));
        return;
    }
    let is_list = reference.kind.ends_with("List") && matches!(node.get("items").map(|n| &n.data), Some(Data::List(_)));
    if !is_list {
        let object = SpannedObject {
            reference,
            file: Arc::clone(file),
            root: node,
        };
        named_otherwise(&object, diagnostics);
        objects.push(object);
        return;
    }
    let Data::Map(entries) = node.data else { return };
    for entry in entries {
        if let ("items", Data::List(items)) = (entry.key.as_str(), entry.value.data) {
            for item in items {
                flatten(item, file, objects, diagnostics);
            }
        }
    }
}

/// Says of names that are none: `n`, `yes` and `12` without quotes are no texts, and the object would be taken for another one.
/// Whoever decodes an object of a kind of ours says it there.
fn named_otherwise(object: &SpannedObject, diagnostics: &mut Vec<Diagnostic>) {
    let version = &object.reference.api_version;
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if crate::kind(group, &object.reference.kind).is_some() {
        return;
    }
    let Some(metadata) = object.root.get("metadata") else {
        return;
    };
    for field in ["name", "namespace"] {
        if let Some(value) = metadata
            .get(field)
            .filter(|value| matches!(value.data, Data::Bool(_) | Data::Number(_)))
        {
            let message = format!(
                "a string (put the value in quotes) expected, this is {}",
                value.described()
            );
            let path = format!("metadata.{field}");
            diagnostics.push(object.diagnostic(Code::WRONG_TYPE, Severity::Error, &path, message));
        }
    }
}

fn reference(root: &Node) -> ObjectRef {
    let text = |node: Option<&Node>| node.and_then(Node::as_str).unwrap_or_default().to_owned();
    let metadata = root.get("metadata");
    ObjectRef {
        api_version: text(root.get("apiVersion")),
        kind: text(root.get("kind")),
        namespace: text(metadata.and_then(|m| m.get("namespace"))),
        name: text(metadata.and_then(|m| m.get("name"))),
    }
}
