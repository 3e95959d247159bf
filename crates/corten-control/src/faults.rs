//! What is wrong with objects that L7 proxies are configured from: fields that take no effect, objects that conflict, and resources
//! that proxies rejected, said in the status of the object that is responsible.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::diagnostic::{Diagnostic, ObjectRef};
use corten_api::resource::Kind as Defined;
use corten_core::NamespacedName;
use corten_routing::ConfigKind;
use corten_store_kube::{Condition, Kind, StatusOf, StatusWriter};

use crate::clients::Rejection;

/// Whether all that an object says takes effect. It is there only while that is not so.
const HONOURED: &str = "corten.dev/Honoured";
/// Whether proxies accept what is made of an object. It is there only while one does not.
const ACCEPTED: &str = "corten.dev/ProxyAccepted";

const OF: StatusOf = StatusOf {
    manager: "corten-configuration",
    types: &[HONOURED, ACCEPTED],
    events: true,
};

/// How much a condition says; what is more is counted.
const SAID_MAX: usize = 5;

/// An object: its group, kind, namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Object {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Object {
    fn of(reference: &ObjectRef) -> Object {
        Object {
            group: reference.group().to_owned(),
            kind: reference.kind.clone(),
            namespace: reference.namespace.clone(),
            name: reference.name.clone(),
        }
    }

    /// From the path by which resources name the object they come from:
    /// `/apis/networking.istio.io/v1/namespaces/NAMESPACE/destination-rule/NAME`.
    pub(crate) fn of_path(path: &str) -> Option<Object> {
        let mut parts = path.strip_prefix("/apis/")?.split('/');
        let (group, _, _, namespace, kind, name) = (
            parts.next()?,
            parts.next()?,
            parts.next()?,
            parts.next()?,
            parts.next()?,
            parts.next()?,
        );
        // `destination-rule` for DestinationRule.
        let kind: String = kind
            .split('-')
            .map(|word| {
                let mut letters = word.chars();
                letters.next().map_or_else(String::new, |first| {
                    first.to_ascii_uppercase().to_string() + letters.as_str()
                })
            })
            .collect();
        Some(Object {
            group: group.to_owned(),
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Its kind as the API serves it; none: it is not one whose status is ours to write.
    fn kind(&self) -> Option<Kind> {
        let (_, defined): (ConfigKind, &'static Defined) =
            ConfigKind::defined().find(|(_, defined)| *defined.group == *self.group && *defined.kind == *self.kind)?;
        let version = defined.versions.iter().find(|version| version.storage)?;
        Some(Kind::custom(defined.group, version.name, defined.kind, defined.plural))
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What is wrong, by object.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Found when an object was read.
    read: BTreeMap<Object, Vec<String>>,
    /// Found when all of it was put together.
    derived: BTreeMap<Object, Vec<String>>,
    /// By the connection and the resource that is rejected.
    rejected: BTreeMap<Object, BTreeMap<(String, String), String>>,
    /// Objects whose status may have to be written.
    changed: BTreeSet<Object>,
}

impl Faults {
    /// What was wrong with an object when it was read. What of it is new is logged.
    pub(crate) fn read(&mut self, group: &str, kind: &str, namespace: &str, name: &str, found: &[Diagnostic]) {
        let object = Object {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        for diagnostic in found {
            tracing::warn!("{diagnostic}");
        }
        let said: Vec<String> = found.iter().map(said).collect();
        let known = self.read.get(&object).map_or(&[][..], Vec::as_slice);
        if known == said {
            return;
        }
        if said.is_empty() {
            self.read.remove(&object);
        } else {
            self.read.insert(object.clone(), said);
        }
        self.changed.insert(object);
    }

    /// An object is gone.
    pub(crate) fn forget(&mut self, group: &str, kind: &str, namespace: &str, name: &str) {
        let object = Object {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.read.remove(&object);
        self.rejected.remove(&object);
        self.changed.remove(&object);
    }

    /// All that is found when everything is put together, in the place of what was found before.
    pub(crate) fn derived(&mut self, found: &[Diagnostic]) {
        let mut derived: BTreeMap<Object, Vec<String>> = BTreeMap::new();
        for diagnostic in found {
            let Some(reference) = &diagnostic.object else { continue };
            let all = derived.entry(Object::of(reference)).or_default();
            let said = said(diagnostic);
            if !all.contains(&said) {
                all.push(said);
            }
        }
        let before = std::mem::replace(&mut self.derived, derived);
        for (object, said) in &self.derived {
            if before.get(object) != Some(said) {
                for one in said {
                    tracing::warn!(%object, "{one}");
                }
                self.changed.insert(object.clone());
            }
        }
        let gone = before.into_keys().filter(|object| !self.derived.contains_key(object));
        self.changed.extend(gone);
    }

    /// A proxy rejects a resource, or does so no longer.
    pub(crate) fn rejected(&mut self, rejection: &Rejection) {
        let place = (rejection.connection.clone(), rejection.resource.clone());
        match &rejection.reason {
            Some(reason) => {
                for object in &rejection.objects {
                    let all = self.rejected.entry(object.clone()).or_default();
                    all.insert(place.clone(), reason.clone());
                    self.changed.insert(object.clone());
                }
            }
            // What it was made of when it was rejected may be another object than now.
            None => self.rejected.retain(|object, all| {
                if all.remove(&place).is_some() {
                    self.changed.insert(object.clone());
                }
                !all.is_empty()
            }),
        }
    }

    /// Says in the status of each object about which something is different what is wrong with it.
    pub(crate) fn write(&mut self, writer: &StatusWriter) {
        for object in std::mem::take(&mut self.changed) {
            if let Some(kind) = object.kind() {
                let conditions = self.conditions(&object);
                let place = NamespacedName::new(&object.namespace, &object.name);
                writer.set(kind, place, OF, conditions);
            }
        }
    }

    fn conditions(&self, object: &Object) -> Vec<Condition> {
        let false_ = |type_: &str, reason: &str, message: String| Condition {
            type_: type_.to_owned(),
            status: Some(false),
            reason: reason.to_owned(),
            message,
            observed_generation: None,
        };
        let mut wanted = Vec::new();
        let found = [&self.read, &self.derived]
            .into_iter()
            .filter_map(|all| all.get(object));
        let found: Vec<&str> = found.flatten().map(String::as_str).collect();
        if !found.is_empty() {
            wanted.push(false_(HONOURED, "NotHonoured", several(&found)));
        }
        if let Some(all) = self.rejected.get(object) {
            let said: Vec<String> = all
                .iter()
                .map(|((connection, resource), reason)| format!("{connection} rejects {resource}: {reason}"))
                .collect();
            let said: Vec<&str> = said.iter().map(String::as_str).collect();
            wanted.push(false_(ACCEPTED, "RejectedByProxy", several(&said)));
        }
        wanted
    }
}

fn said(diagnostic: &Diagnostic) -> String {
    match diagnostic.path.as_str() {
        "" => diagnostic.message.clone(),
        path => format!("{path}: {}", diagnostic.message),
    }
}

fn several(all: &[&str]) -> String {
    let mut text = all[..all.len().min(SAID_MAX)].join("; ");
    if all.len() > SAID_MAX {
        text.push_str(&format!("; and {} more", all.len() - SAID_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use corten_routing::About;

    use super::*;

    fn route() -> Object {
        Object::of_path("/apis/networking.istio.io/v1/namespaces/shop/virtual-service/web").expect("an object")
    }

    fn conditions(faults: &Faults) -> Vec<(String, String)> {
        let all = faults.conditions(&route()).into_iter();
        all.map(|condition| (condition.reason, condition.message)).collect()
    }

    #[test]
    fn what_is_wrong_is_said_while_it_is() {
        let mut faults = Faults::default();
        let about = About::networking("VirtualService", "shop", "web");
        faults.derived(&[about.no_effect("spec.http[0]", "never reached")]);
        assert_eq!(
            conditions(&faults),
            [("NotHonoured".to_owned(), "spec.http[0]: never reached".to_owned())]
        );
        let mut rejection = Rejection {
            resource: "rds 80".to_owned(),
            objects: vec![route()],
            connection: "web.shop-1".to_owned(),
            reason: Some("bad regex".to_owned()),
        };
        faults.rejected(&rejection);
        assert_eq!(conditions(&faults)[1].1, "web.shop-1 rejects rds 80: bad regex");
        assert!(faults.changed.remove(&route()));
        faults.derived(&[]);
        // The resource may be another object's by now.
        rejection.reason = None;
        rejection.objects.clear();
        faults.rejected(&rejection);
        assert_eq!(conditions(&faults), []);
        assert!(faults.changed.contains(&route()), "the condition is to be removed");
        assert!(route().kind().is_some_and(|kind| kind.plural == "virtualservices"));
    }
}
