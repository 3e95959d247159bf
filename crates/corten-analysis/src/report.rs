//! What analyzers write into: it places messages, and leaves out what is said already or is not to be said.

use std::collections::HashSet;
use std::sync::Arc;

use corten_api::decode::{Data, Node};
use corten_api::diagnostic::{Code, Severity};

use crate::catalogue::{MessageType, Parameter};
use crate::message::Message;
use crate::objects::Object;

/// The annotation by which an object says what is not to be said of it: codes, separated by commas, or `*`.
pub const SUPPRESS: &str = "galley.istio.io/analyze-suppress";

/// All that is said.
#[derive(Debug, Default)]
pub struct Report {
    analyzer: &'static str,
    messages: Vec<Message>,
    said: HashSet<String>,
}

impl Report {
    /// Messages from here on are of another analyzer.
    pub(crate) fn begin(&mut self, analyzer: &'static str) {
        self.analyzer = analyzer;
    }

    /// Everything.
    pub(crate) fn into_messages(self) -> Vec<Message> {
        self.messages
    }

    /// Says something of a field. The same words about the same field are said once; where the field is not written, once of the object.
    pub fn add(&mut self, kind: &MessageType, object: &Arc<Object>, path: &str, parameters: &[Parameter<'_>]) {
        let line = exact(&object.spanned.root, path).map(|_| path);
        self.say(kind.code, kind.level, object, path, line, kind.text(parameters));
    }

    /// Says something of an object once, however often there is a reason; the field is that of the first one.
    pub fn add_once(&mut self, kind: &MessageType, object: &Arc<Object>, path: &str, parameters: &[Parameter<'_>]) {
        self.say(kind.code, kind.level, object, path, None, kind.text(parameters));
    }

    /// Says something in words of the caller's.
    pub fn add_text(&mut self, code: Code, level: Severity, object: &Arc<Object>, path: &str, text: String) {
        self.say(code, level, object, path, Some(path), text);
    }

    fn say(
        &mut self,
        code: Code,
        level: Severity,
        object: &Arc<Object>,
        path: &str,
        place: Option<&str>,
        text: String,
    ) {
        let suppressed = object.annotations.get(SUPPRESS).is_some_and(|codes| {
            let mut codes = codes.split(',').map(str::trim);
            codes.any(|listed| listed == "*" || listed == code.0)
        });
        let reference = &object.spanned.reference;
        let place = place.unwrap_or_default();
        let same = format!(
            "{}\n{code}\n{}\n{reference}\n{place}\n{text}",
            object.cluster, reference.api_version
        );
        if suppressed || !self.said.insert(same) {
            return;
        }
        self.messages.push(Message {
            code,
            level,
            analyzer: self.analyzer,
            object: reference.clone(),
            cluster: Arc::clone(&object.cluster),
            path: path.to_owned(),
            location: object.spanned.location(object.spanned.root.locate(path)),
            text,
        });
    }
}

/// The value at a path of fields and indexes (`spec.http[0].route`), if it is written.
fn exact<'a>(root: &'a Node, path: &str) -> Option<&'a Node> {
    let mut node = root;
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let (step, behind) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        node = match &node.data {
            Data::List(items) => items.get(step.parse::<usize>().ok()?)?,
            _ => node.get(step)?,
        };
        rest = behind;
    }
    (!path.is_empty()).then_some(node)
}
