//! One YAML document chunk to spanned trees, over the events of `saphyr-parser`.
//!
//! Anchors are resolved here, within a budget, so that a short text cannot expand into a large tree. What a stream or
//! an object is, this file does not know.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use serde_json::Number;

use super::{
    Limits, Problem,
    map::Entries,
    node::{Data, Entry, Node},
    scalar,
};
use crate::diagnostic::{Code, Position};

/// Decodes the documents of a chunk that begins on line `first_line` of its file. A document that cannot be read ends
/// the chunk; those before it are returned.
pub(super) fn documents(text: &str, first_line: u32, limits: &Limits) -> (Vec<Node>, Vec<Problem>) {
    let mut indented = Indented::default();
    let mut patched = Cow::Borrowed(text);
    let mut attempts = 0;
    loop {
        let (documents, problems, stopped) = parse(&patched, first_line, &indented, limits);
        // YAML wants everything within brackets and quotes to be indented further than what it stands in; the readers of
        // Kubernetes do not, and closing brackets are often written that way. Only there can this error occur.
        match stopped.filter(|error| error.info().starts_with("invalid indentation")) {
            Some(error) if attempts < ATTEMPTS_MAX && text.len() <= INDENT_TEXT_MAX && indented.add(text, &error) => {
                attempts += 1;
                patched = Cow::Owned(indented.apply(text));
            }
            _ => return (documents, problems),
        }
    }
}

/// Texts longer than this are not read again and again for the sake of their indentation, and none more often than this.
const INDENT_TEXT_MAX: usize = 1 << 20;
const ATTEMPTS_MAX: usize = 32;

/// Lines within brackets and quotes that were indented further.
#[derive(Default)]
struct Indented(BTreeSet<usize>);

impl Indented {
    /// More than anyone indents.
    const SPACES: usize = 128;

    /// Adds the lines that an error is about; `false` if there is nothing to add.
    fn add(&mut self, text: &str, error: &ScanError) -> bool {
        let line = error.marker().line();
        if !error.info().ends_with("in quoted scalar") {
            return self.0.insert(line);
        }
        let column = self.column(*error.marker());
        let more = line + 1..=line + quoted_lines(text, line, column);
        let before = self.0.len();
        self.0.extend(more);
        self.0.len() > before
    }

    fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + self.0.len() * Self::SPACES);
        for (i, line) in text.split_inclusive('\n').enumerate() {
            if self.0.contains(&(i + 1)) {
                out.extend(std::iter::repeat_n(' ', Self::SPACES));
            }
            out.push_str(line);
        }
        out
    }

    fn column(&self, marker: Marker) -> usize {
        marker.col().saturating_sub(if self.0.contains(&marker.line()) {
            Self::SPACES
        } else {
            0
        })
    }
}

/// How many lines a quoted scalar goes on after the one it begins on.
fn quoted_lines(text: &str, line: usize, column: usize) -> usize {
    let rest: String = text.split_inclusive('\n').skip(line.saturating_sub(1)).collect();
    let mut chars = rest.chars().skip(column);
    let quote = chars.next();
    let mut lines = 0;
    while let Some(c) = chars.next() {
        match c {
            '\\' if quote == Some('"') => lines += usize::from(chars.next() == Some('\n')),
            '\n' => lines += 1,
            c if Some(c) == quote => break,
            _ => {}
        }
    }
    lines
}

fn parse(
    text: &str,
    first_line: u32,
    indented: &Indented,
    limits: &Limits,
) -> (Vec<Node>, Vec<Problem>, Option<ScanError>) {
    let mut builder = Builder {
        first_line,
        indented,
        limits,
        stack: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        copied: 0,
        documents: Vec::new(),
        problems: Vec::new(),
    };
    let mut parser = Parser::new_from_str(text);
    let mut stopped = None;
    while let Some(event) = parser.next_event() {
        let outcome = match event {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => builder.event(event, span.start),
            Err(error) => {
                let (at, message) = (builder.position(*error.marker()), format!("not YAML: {}", error.info()));
                stopped = Some(error);
                Err(Problem {
                    code: Code::SYNTAX,
                    at,
                    message,
                })
            }
        };
        if let Err(problem) = outcome {
            builder.problems.push(problem);
            break;
        }
    }
    (builder.documents, builder.problems, stopped)
}

enum Frame {
    List {
        at: Position,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        at: Position,
        anchor: usize,
        entries: Entries,
        key: Option<Key>,
    },
}

/// A key that waits for its value.
struct Key {
    at: Position,
    name: KeyName,
}

enum KeyName {
    Field(String),
    Merge,
    /// Was reported; the value is read and dropped.
    Unusable,
}

struct Builder<'a> {
    first_line: u32,
    indented: &'a Indented,
    limits: &'a Limits,
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    /// What anchors and aliases have copied so far, in bytes, about.
    copied: usize,
    documents: Vec<Node>,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    fn position(&self, marker: Marker) -> Position {
        let line = u32::try_from(marker.line())
            .unwrap_or(u32::MAX)
            .saturating_add(self.first_line - 1);
        Position {
            line,
            column: u32::try_from(self.indented.column(marker))
                .unwrap_or(u32::MAX)
                .saturating_add(1),
        }
    }

    fn event(&mut self, event: Event<'_>, start: Marker) -> Result<(), Problem> {
        let at = self.position(start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::DocumentEnd => {
                self.documents.extend(self.root.take());
            }
            Event::Scalar(text, style, anchor, tag) => self.scalar(at, text, style, anchor, tag)?,
            Event::Alias(anchor) => self.alias(at, anchor)?,
            Event::SequenceStart(anchor, _) => self.open(
                at,
                Frame::List {
                    at,
                    anchor,
                    items: Vec::new(),
                },
            )?,
            Event::MappingStart(anchor, _) => {
                self.open(
                    at,
                    Frame::Map {
                        at,
                        anchor,
                        entries: Entries::default(),
                        key: None,
                    },
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Frame::List { at, anchor, items }) => self.finish(
                    Node {
                        at,
                        data: Data::List(items),
                    },
                    anchor,
                )?,
                Some(Frame::Map {
                    at, anchor, entries, ..
                }) => {
                    self.finish(
                        Node {
                            at,
                            data: Data::Map(entries.finish()),
                        },
                        anchor,
                    )?;
                }
                None => {}
            },
        }
        Ok(())
    }

    fn open(&mut self, at: Position, frame: Frame) -> Result<(), Problem> {
        if self.stack.len() == self.limits.depth {
            let message = format!("nested more than {} levels deep", self.limits.depth);
            return Err(Problem {
                code: Code::LIMIT,
                at,
                message,
            });
        }
        self.stack.push(frame);
        Ok(())
    }

    fn scalar(
        &mut self,
        at: Position,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
    ) -> Result<(), Problem> {
        if style == ScalarStyle::Plain && tag.is_none() && text == "<<" && self.awaits_key() {
            self.await_value(at, KeyName::Merge);
            return Ok(());
        }
        let core_tag = tag
            .as_deref()
            .filter(|t| t.is_yaml_core_schema())
            .map(|t| t.suffix.as_str());
        let resolved = match core_tag.and_then(|tag| scalar::tagged(tag, &text)) {
            Some(resolved) => resolved,
            None if style == ScalarStyle::Plain => scalar::plain(&text),
            None => Ok(Data::String(text.into_owned())),
        };
        let data = resolved.unwrap_or_else(|message| {
            self.problems.push(Problem {
                code: Code::SYNTAX,
                at,
                message,
            });
            Data::Null
        });
        self.finish(Node { at, data }, anchor)
    }

    fn alias(&mut self, at: Position, anchor: usize) -> Result<(), Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            let message = "an alias inside the very value it stands for".to_owned();
            return Err(Problem {
                code: Code::SYNTAX,
                at,
                message,
            });
        };
        let depth = self.stack.len() + depth(node);
        self.copied += weight(node);
        if self.copied > self.limits.alias_bytes || depth > self.limits.depth {
            let message = format!(
                "aliases expand to more than {} bytes or {} levels; write the values out or split the document",
                self.limits.alias_bytes, self.limits.depth
            );
            return Err(Problem {
                code: Code::LIMIT,
                at,
                message,
            });
        }
        let node = node.clone();
        self.finish(node, 0)
    }

    fn awaits_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame::Map { key: None, .. }))
    }

    fn await_value(&mut self, at: Position, name: KeyName) {
        if let Some(Frame::Map { key, .. }) = self.stack.last_mut() {
            *key = Some(Key { at, name });
        }
    }

    /// A value is complete: remember its anchor and hand it to what contains it.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        if anchor != 0 {
            self.copied += weight(&node);
            if self.copied > self.limits.alias_bytes {
                let message = format!("anchors keep more than {} bytes", self.limits.alias_bytes);
                return Err(Problem {
                    code: Code::LIMIT,
                    at: node.at,
                    message,
                });
            }
            self.anchors.insert(anchor, node.clone());
        }
        if self.awaits_key() {
            let at = node.at;
            let name = match key_text(node) {
                Ok(name) => KeyName::Field(name),
                Err(message) => {
                    self.problems.push(Problem {
                        code: Code::SYNTAX,
                        at,
                        message,
                    });
                    KeyName::Unusable
                }
            };
            self.await_value(at, name);
            return Ok(());
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, key, .. }) => {
                let problem = match key.take() {
                    Some(Key {
                        at,
                        name: KeyName::Field(key),
                    }) => entries.insert(Entry { at, key, value: node }),
                    Some(Key {
                        at,
                        name: KeyName::Merge,
                    }) => entries.merge(at, node),
                    Some(Key {
                        name: KeyName::Unusable,
                        ..
                    })
                    | None => None,
                };
                self.problems.extend(problem);
            }
        }
        Ok(())
    }
}

/// Keys are strings in JSON; Kubernetes turns numbers and booleans into them.
fn key_text(node: Node) -> Result<String, String> {
    match node.data {
        Data::String(text) => Ok(text),
        Data::Bool(b) => Ok(b.to_string()),
        Data::Number(number) => Ok(float_key(&number)),
        other => {
            let what = Node {
                at: node.at,
                data: other,
            }
            .described();
            Err(format!("{what} cannot be a key; write a string"))
        }
    }
}

fn float_key(number: &Number) -> String {
    number.to_string()
}

fn weight(node: &Node) -> usize {
    const NODE_BYTES: usize = size_of::<Node>();
    NODE_BYTES
        + match &node.data {
            Data::Null | Data::Bool(_) | Data::Number(_) => 0,
            Data::String(text) => text.len(),
            Data::List(items) => items.iter().map(weight).sum(),
            Data::Map(entries) => entries
                .iter()
                .map(|e| size_of::<Entry>() + e.key.len() + weight(&e.value))
                .sum(),
        }
}

fn depth(node: &Node) -> usize {
    match &node.data {
        Data::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Data::Map(entries) => 1 + entries.iter().map(|e| depth(&e.value)).max().unwrap_or(0),
        _ => 0,
    }
}
