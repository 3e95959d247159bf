//! Custom resources: what their kind is called, and their decoding as a whole.
//!
//! A kind has one Rust type for all its versions, because its versions differ in name only; the few fields that one
//! version alone has are marked in the type.

use crate::{
    codec::{Cx, Field, Json, JsonMap, SchemaCx},
    decode::{Node, SpannedObject},
    diagnostic::{Code, Diagnostic, Severity},
    metadata::Metadata,
};

/// What a kind is called and how it is served.
#[derive(Debug)]
pub struct Kind {
    /// The API group.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The name in URLs.
    pub plural: &'static str,
    /// Short names for the command line.
    pub short_names: &'static [&'static str],
    /// Groups of kinds for the command line.
    pub categories: &'static [&'static str],
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// The versions, in the order of the published definition.
    pub versions: &'static [Version],
    /// The columns of `get`.
    pub columns: &'static [Column],
    /// Whether an object must have a spec.
    pub spec_required: bool,
    /// Annotations of the definition.
    pub annotations: &'static [(&'static str, &'static str)],
    /// Facts of the schema of the object's spec that its type does not have elsewhere, a JSON object.
    pub spec_facts: &'static str,
    /// Facts of the schema of the status, a JSON object.
    pub status_facts: &'static str,
    /// Facts of the schema of the whole object, a JSON object.
    pub root_facts: &'static str,
    /// The channel of the Gateway API; Istio's kinds are all standard.
    pub experimental: bool,
}

/// A version of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Version {
    /// The name.
    pub name: &'static str,
    /// Whether it is served.
    pub served: bool,
    /// Whether it is the one stored.
    pub storage: bool,
    /// The warning to those who use it; empty when it is not deprecated.
    pub deprecation: &'static str,
    /// The columns of `get`, where they are not those of the kind.
    pub columns: Option<&'static [Column]>,
    /// Whether only the experimental channel serves it.
    pub experimental: bool,
}

/// A column of `get`.
#[derive(Debug)]
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// The JSON path of the value.
    pub path: &'static str,
    /// The type of the value.
    pub kind: &'static str,
    /// The description; empty for none.
    pub description: &'static str,
    /// Columns above 0 are shown by `-o wide` only.
    pub priority: i32,
}

/// The spec of a kind: what makes it one.
pub trait Spec: Field + Default + 'static {
    /// The status of the kind.
    type Status: Status;
    /// The kind.
    const KIND: &'static Kind;
}

/// The status of a kind.
pub trait Status: Field + Default + 'static {
    /// Whether there is one.
    const EXISTS: bool = true;
}

/// The status of kinds that have none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoStatus;

impl Status for NoStatus {
    const EXISTS: bool = false;
}

impl Field for NoStatus {
    fn decode(node: &Node, cx: &mut Cx) -> Option<NoStatus> {
        cx.warn(Code::UNKNOWN_FIELD, node.at, "objects of this kind have no status");
        None
    }
    fn encode(&self) -> Json {
        Json::Null
    }
    fn is_absent(&self) -> bool {
        true
    }
    fn schema(_: &SchemaCx) -> Json {
        Json::Null
    }
}

/// An object of a kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resource<S: Spec> {
    /// Name, labels and so on.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: S,
    /// What is.
    pub status: Option<S::Status>,
}

impl<S: Spec> Resource<S> {
    /// Decodes an object, whose group and kind the caller has seen to fit.
    pub fn decode(object: &SpannedObject) -> (Resource<S>, Vec<Diagnostic>) {
        let mut cx = Cx::default();
        let mut resource = Resource {
            metadata: Metadata::default(),
            spec: S::default(),
            status: None,
        };
        for entry in object.root.entries().iter().filter(|e| !e.value.is_null()) {
            cx.field(&entry.key, |cx| match entry.key.as_str() {
                "apiVersion" | "kind" => {}
                "metadata" => resource.metadata = Metadata::decode(&entry.value, cx).unwrap_or_default(),
                "spec" => resource.spec = S::decode(&entry.value, cx).unwrap_or_default(),
                "status" => resource.status = S::Status::decode(&entry.value, cx),
                _ => cx.warn(
                    Code::UNKNOWN_FIELD,
                    entry.at,
                    "unknown field; did you mean to put it under spec?",
                ),
            });
        }
        let problems = cx.into_problems().into_iter().map(|p| Diagnostic {
            code: p.code,
            severity: if p.path.starts_with("status") {
                Severity::Warning
            } else {
                p.severity
            },
            object: Some(object.reference.clone()),
            path: p.path,
            location: object.location(p.at),
            message: p.message,
        });
        (resource, problems.collect())
    }

    /// The object as JSON, in a version of its kind.
    pub fn encode(&self, version: &str) -> Json {
        let mut out = JsonMap::new();
        out.insert(
            "apiVersion".to_owned(),
            Json::from(format!("{}/{version}", S::KIND.group)),
        );
        out.insert("kind".to_owned(), Json::from(S::KIND.kind));
        out.insert("metadata".to_owned(), self.metadata.encode());
        out.insert("spec".to_owned(), self.spec.encode());
        if let Some(status) = &self.status {
            out.insert("status".to_owned(), status.encode());
        }
        Json::Object(out)
    }
}

/// A kind with what can be done with it without knowing its type.
#[derive(Debug, Clone, Copy)]
pub struct Registered {
    /// The kind.
    pub kind: &'static Kind,
    /// Decodes an object only for its diagnostics.
    pub check: fn(&SpannedObject) -> Vec<Diagnostic>,
    /// Decodes an object and encodes it again.
    pub normalize: fn(&SpannedObject) -> Json,
    /// The schema of the spec.
    pub spec_schema: fn(&SchemaCx) -> Json,
    /// Whether objects have a status.
    pub has_status: bool,
    /// The schema of the status.
    pub status_schema: fn(&SchemaCx) -> Json,
}

/// The entry of a kind in a table of kinds.
pub const fn registered<S: Spec>() -> Registered {
    Registered {
        kind: S::KIND,
        check: |object| Resource::<S>::decode(object).1,
        normalize: |object| Resource::<S>::decode(object).0.encode(object.reference.version()),
        spec_schema: S::schema,
        has_status: S::Status::EXISTS,
        status_schema: S::Status::schema,
    }
}

impl Kind {
    /// The version of a name, if it is served.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name && v.served)
    }
}
