//! Decoding only the parts of an object that somebody reads, so that the rest costs neither memory nor allocations.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Which parts of an object are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// All but who manages which field.
    Whole,
    /// Names, labels, annotations.
    Metadata,
    /// What the mesh reads of a Pod.
    Pod,
    /// What the mesh reads of a Node.
    Node,
    /// What the mesh reads of an EndpointSlice.
    EndpointSlice,
    /// Names, labels, annotations, and the entries of a ConfigMap.
    Entries,
    /// What tells whether a custom resource definition is served.
    Definition,
}

/// What is kept of a value. Of a list, the same is kept of each item.
#[derive(Debug)]
pub(crate) enum Keep {
    /// All of it.
    All,
    /// Of an object, these members.
    Only(&'static [(&'static str, Keep)]),
    /// Of an object, all members but these.
    Without(&'static [&'static str], &'static [(&'static str, Keep)]),
}

const METADATA: Keep = Keep::Only(&[
    ("name", Keep::All),
    // Tells pods of a controller from those that only look so.
    ("generateName", Keep::All),
    ("namespace", Keep::All),
    ("uid", Keep::All),
    ("resourceVersion", Keep::All),
    ("generation", Keep::All),
    ("creationTimestamp", Keep::All),
    ("deletionTimestamp", Keep::All),
    ("labels", Keep::All),
    ("ownerReferences", Keep::All),
    (
        "annotations",
        Keep::Without(&["kubectl.kubernetes.io/last-applied-configuration"], &[]),
    ),
]);
const CONDITION: Keep = Keep::Only(&[("type", Keep::All), ("status", Keep::All)]);
const CONTAINER: Keep = Keep::Only(&[("name", Keep::All), ("ports", Keep::All), ("restartPolicy", Keep::All)]);

static WHOLE: Keep = Keep::Without(
    &[],
    &[(
        "metadata",
        Keep::Without(
            &["managedFields"],
            &[(
                "annotations",
                Keep::Without(&["kubectl.kubernetes.io/last-applied-configuration"], &[]),
            )],
        ),
    )],
);
static ONLY_METADATA: Keep = Keep::Only(&[("metadata", METADATA)]);
static ENTRIES: Keep = Keep::Only(&[("metadata", METADATA), ("data", Keep::All)]);
static POD: Keep = Keep::Only(&[
    ("metadata", METADATA),
    (
        "spec",
        Keep::Only(&[
            ("nodeName", Keep::All),
            ("serviceAccountName", Keep::All),
            ("hostNetwork", Keep::All),
            ("readinessGates", Keep::All),
            ("hostname", Keep::All),
            ("subdomain", Keep::All),
            ("containers", CONTAINER),
            ("initContainers", CONTAINER),
        ]),
    ),
    (
        "status",
        Keep::Only(&[
            ("phase", Keep::All),
            ("podIP", Keep::All),
            ("podIPs", Keep::All),
            ("hostIP", Keep::All),
            ("conditions", CONDITION),
        ]),
    ),
]);
static NODE: Keep = Keep::Only(&[
    ("metadata", METADATA),
    (
        "status",
        Keep::Only(&[
            ("addresses", Keep::All),
            ("conditions", CONDITION),
            ("nodeInfo", Keep::Only(&[("kubeletVersion", Keep::All)])),
        ]),
    ),
]);
static ENDPOINT_SLICE: Keep = Keep::Only(&[
    ("metadata", METADATA),
    ("addressType", Keep::All),
    ("ports", Keep::All),
    ("endpoints", Keep::All),
]);
static DEFINITION: Keep = Keep::Only(&[
    (
        "metadata",
        Keep::Only(&[("name", Keep::All), ("resourceVersion", Keep::All)]),
    ),
    (
        "spec",
        Keep::Only(&[("versions", Keep::Only(&[("name", Keep::All), ("served", Keep::All)]))]),
    ),
    ("status", Keep::Only(&[("conditions", CONDITION)])),
]);

impl Part {
    pub(crate) fn keep(self) -> &'static Keep {
        match self {
            Part::Whole => &WHOLE,
            Part::Metadata => &ONLY_METADATA,
            Part::Pod => &POD,
            Part::Node => &NODE,
            Part::EndpointSlice => &ENDPOINT_SLICE,
            Part::Entries => &ENTRIES,
            Part::Definition => &DEFINITION,
        }
    }
}

impl Keep {
    /// What is kept of a member; `None`: nothing.
    fn member(&'static self, name: &str) -> Option<&'static Keep> {
        let listed = |members: &'static [(&'static str, Keep)]| {
            let found = members.iter().find(|(member, _)| *member == name);
            found.map(|(_, keep)| keep)
        };
        match self {
            Keep::All => Some(&Keep::All),
            Keep::Only(members) => listed(members),
            Keep::Without(dropped, _) if dropped.contains(&name) => None,
            Keep::Without(_, members) => Some(listed(members).unwrap_or(&Keep::All)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &'static Keep {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self {
            Keep::All => Value::deserialize(deserializer),
            Keep::Only(_) | Keep::Without(..) => deserializer.deserialize_any(Kept(self)),
        }
    }
}

/// Where something is left out, the value is walked by this visitor; everywhere else by `serde_json`'s own.
struct Kept(&'static Keep);

impl<'de> Visitor<'de> for Kept {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(member) = members.next_key_seed(Member(self.0))? {
            match member {
                Some((name, keep)) => {
                    kept.insert(name, members.next_value_seed(keep)?);
                }
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        while let Some(item) = items.next_element_seed(self.0)? {
            kept.push(item);
        }
        Ok(Value::Array(kept))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// Reads a member's name and says whether and how it is kept.
struct Member(&'static Keep);

impl<'de> DeserializeSeed<'de> for Member {
    type Value = Option<(String, &'static Keep)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Member {
    type Value = Option<(String, &'static Keep)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.member(name).map(|keep| (name.to_owned(), keep)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(part: Part, object: Value, expected: Value) {
        let text = object.to_string();
        let mut reader = serde_json::Deserializer::from_str(&text);
        let kept = part.keep().deserialize(&mut reader).expect("it is JSON");
        assert_eq!(kept, expected);
    }

    #[test]
    fn whole_objects_lose_only_their_managers() {
        check(
            Part::Whole,
            json!({"kind": "X", "metadata": {"name": "a", "managedFields": [{"manager": "m"}],
                "annotations": {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
                "spec": {"managedFields": [1, 2.5, null, true, {"a": []}]}}),
            json!({"kind": "X", "metadata": {"name": "a", "annotations": {"a": "b"}},
                "spec": {"managedFields": [1, 2.5, null, true, {"a": []}]}}),
        );
    }

    #[test]
    fn of_pods_only_what_is_read_is_kept() {
        check(
            Part::Pod,
            json!({"metadata": {"name": "p", "generateName": "p-", "labels": {"a": "b"}, "managedFields": []},
                "spec": {"nodeName": "n", "volumes": [{"name": "v"}], "containers": [{"name": "c", "env": [], "ports": [{"containerPort": 1}]}]},
                "status": {"podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [], "conditions": [{"type": "Ready", "status": "True", "message": "m"}]}}),
            json!({"metadata": {"name": "p", "generateName": "p-", "labels": {"a": "b"}},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"containerPort": 1}]}]},
                "status": {"podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready", "status": "True"}]}}),
        );
    }

    #[test]
    fn values_of_another_form_than_expected_are_kept_as_they_are() {
        check(
            Part::Pod,
            json!({"metadata": {"name": "p"}, "spec": "x", "status": null}),
            json!({"metadata": {"name": "p"}, "spec": "x", "status": null}),
        );
    }
}
