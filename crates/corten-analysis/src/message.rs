//! What analysis has to say: one message, its order among others, and its forms for people and programs.

use std::cmp::Reverse;
use std::sync::Arc;

use corten_api::diagnostic::{Code, Diagnostic, Location, ObjectRef, Severity};
use serde_json::{Value, json};

/// Where Istio explains its codes.
const DOCUMENTATION: &str = "https://istio.io/latest/docs/reference/config/analysis";

/// A message about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The code.
    pub code: Code,
    /// How bad it is.
    pub level: Severity,
    /// Which analyzer says it.
    pub analyzer: &'static str,
    /// The object it is about.
    pub object: ObjectRef,
    /// The cluster that the object is in.
    pub cluster: Arc<str>,
    /// The field; empty for the whole object.
    pub path: String,
    /// Where it stands, for objects of files.
    pub location: Option<Location>,
    /// What it says.
    pub text: String,
}

impl Message {
    /// What it is about: `Kind namespace/name`.
    pub fn origin(&self) -> String {
        self.object.to_string()
    }

    /// `file:line` of what it is about.
    pub fn reference(&self) -> Option<String> {
        let location = self.location.as_ref()?;
        Some(format!("{}:{}", location.file, location.position.line))
    }

    /// The line for people: `Warning [IST0102] (Namespace default) ...`. Clusters are named when there are several.
    pub fn line(&self, color: bool, names_cluster: bool) -> String {
        let (begin, end) = match self.level {
            _ if !color => ("", ""),
            Severity::Info => ("", "\x1b[0m"),
            Severity::Warning => ("\x1b[33m", "\x1b[0m"),
            Severity::Error => ("\x1b[1;31m", "\x1b[0m"),
        };
        let cluster = match names_cluster {
            true => format!(" [cluster-{}]", self.cluster),
            false => String::new(),
        };
        let place = self.reference().map(|place| format!(" {place}")).unwrap_or_default();
        let (level, code, origin, text) = (word(self.level), self.code, self.origin(), &self.text);
        format!("{begin}{level}{end} [{code}]{cluster} ({origin}{place}) {text}")
    }

    /// The form for programs, with istioctl's keys.
    pub fn to_value(&self, names_cluster: bool) -> Value {
        let mut value = json!({
            "code": self.code.0,
            "level": word(self.level),
            "message": self.text,
            "origin": self.origin(),
        });
        if self.code.0.starts_with("IST") {
            value["documentationUrl"] = format!("{DOCUMENTATION}/{}/", self.code.0.to_lowercase()).into();
        }
        if let Some(reference) = self.reference() {
            value["reference"] = reference.into();
        }
        if names_cluster {
            value["cluster"] = (*self.cluster).into();
        }
        value
    }

    fn order(&self) -> impl Ord + use<> {
        let place = self
            .location
            .as_ref()
            .map(|location| (location.file.to_string(), location.position));
        (
            self.cluster.to_string(),
            Reverse(self.level),
            self.code,
            self.object.kind.clone(),
            self.object.name.clone(),
            self.object.namespace.clone(),
            place,
            self.text.clone(),
        )
    }
}

impl From<Message> for Diagnostic {
    fn from(message: Message) -> Diagnostic {
        Diagnostic {
            code: message.code,
            severity: message.level,
            object: Some(message.object),
            path: message.path,
            location: message.location,
            message: message.text,
        }
    }
}

/// A level in istioctl's words.
pub fn word(level: Severity) -> &'static str {
    match level {
        Severity::Info => "Info",
        Severity::Warning => "Warning",
        Severity::Error => "Error",
    }
}

/// Puts the worst first.
pub fn sort(messages: &mut [Message]) {
    messages.sort_by_cached_key(|message| message.order());
}
