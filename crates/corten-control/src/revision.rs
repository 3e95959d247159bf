//! Which objects are for this revision of the control plane: those without the label `istio.io/rev`, and those whose label names it.
//!
//! Workloads of Gateways, and the statuses of the Gateway API's objects, are each one revision's alone: there tags count too, the
//! label of the namespace, and who is the default.

use std::collections::{BTreeMap, BTreeSet};

use corten_core::NamespacedName;
use corten_gateway_api::reference::Key;
use corten_store_kube::{Kind, Part, kinds};
use serde_json::Value;

/// The label that names a revision.
pub(crate) const REVISION: &str = "istio.io/rev";
/// The label by which a Service or a webhook gives a revision another name.
pub(crate) const TAG: &str = "istio.io/tag";
/// The name of the webhook whose label names the default revision.
pub(crate) const DEFAULT_VALIDATOR: &str = "istiod-default-validator";
/// The tag, and the revision, of those who name none.
const DEFAULT: &str = "default";

/// Webhooks that may be tags, of which only the labels are read.
pub(crate) const TAG_WEBHOOKS: Kind = Kind {
    part: Part::Metadata,
    ..kinds::MUTATING_WEBHOOKS
};
/// The webhook that tells the default revision, of which only the labels are read.
pub(crate) const DEFAULT_WEBHOOKS: Kind = Kind {
    part: Part::Metadata,
    ..kinds::VALIDATING_WEBHOOKS
};

/// Whether an object may be read: its label names this revision, or it has none. Tags do not count here, as with Istio.
pub(crate) fn is_read(revision: &str, kind: Kind, object: &Value) -> bool {
    // A Gateway is configuration for proxies of any revision: whoever changes its label must not take the routes from those that run.
    let of_any = !kind.custom || kind == kinds::GATEWAYS || kind == kinds::GATEWAY_CLASSES;
    of_any || label(object, REVISION).is_none_or(|named| revision.is_empty() || named == revision)
}

fn label<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["labels"][name].as_str()
}

/// Another name of some revision, and of which.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    revision: String,
    tag: String,
}

/// This revision, by all its names, and what chooses one.
#[derive(Debug, Default)]
pub(crate) struct Revision {
    name: String,
    /// The namespace of control planes: Services there may be tags.
    system: String,
    tags: BTreeMap<(Kind, NamespacedName), Tag>,
    /// The revision that the default webhook names.
    default: Option<String>,
    /// The revisions that namespaces name; empty for those that name none.
    namespaces: BTreeMap<String, String>,
    /// The revisions that objects of the Gateway API and Ingresses name, where they do.
    objects: BTreeMap<(Kind, Key), String>,
}

impl Revision {
    /// A revision without another name.
    pub(crate) fn new(name: &str, system: &str) -> Revision {
        Revision {
            name: name.to_owned(),
            system: system.to_owned(),
            ..Revision::default()
        }
    }

    /// The name by which it is installed.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes an object, or that it is gone. Returns whether something may have become ours, or is no longer.
    pub(crate) fn see(&mut self, kind: Kind, key: &NamespacedName, object: Option<&Value>) -> bool {
        let named = object.and_then(|object| label(object, REVISION));
        if kind == kinds::NAMESPACES {
            let now = object.map(|_| named.unwrap_or_default().to_owned());
            return replaced(&mut self.namespaces, key.name.to_string(), now);
        }
        if kind == DEFAULT_WEBHOOKS {
            let now = named.filter(|_| &*key.name == DEFAULT_VALIDATOR).map(str::to_owned);
            return std::mem::replace(&mut self.default, now.clone()) != now;
        }
        if kind == TAG_WEBHOOKS || kind == kinds::SERVICES && &*key.namespace == self.system.as_str() {
            let tag = object.and_then(|object| label(object, TAG)).map(|tag| Tag {
                revision: named.unwrap_or_default().to_owned(),
                tag: tag.to_owned(),
            });
            return replaced(&mut self.tags, (kind, key.clone()), tag);
        }
        if kind.group == kinds::GATEWAYS.group || kind == kinds::INGRESSES {
            let place = (kind, Key::new(&key.namespace, &key.name));
            return replaced(&mut self.objects, place, named.map(str::to_owned));
        }
        false
    }

    /// Whether an object of the Gateway API, or an Ingress, has its status, and its workload, from this revision.
    pub(crate) fn owns(&self, kind: Kind, key: &Key) -> bool {
        let named = match self.objects.get(&(kind, key.clone())) {
            Some(named) => named.as_str(),
            None if key.namespace.is_empty() => "",
            // Of a namespace that is not known nothing speaks against it.
            None => match self.namespaces.get(&key.namespace) {
                Some(named) => named,
                None => return true,
            },
        };
        let mine = self.names();
        mine.contains(named) || named.is_empty() && (mine.contains(DEFAULT) || self.is_default())
    }

    /// All names of this revision. The one by which it is installed is another's where a tag says so, as with `default`.
    fn names(&self) -> BTreeSet<&str> {
        let tags = self.tags.values().filter(|tag| tag.revision == self.name);
        let tags = tags.map(|tag| tag.tag.as_str());
        let is_given_away = |tag: &Tag| tag.tag == self.name && tag.revision != self.name;
        let own = (!self.tags.values().any(is_given_away)).then_some(self.name.as_str());
        tags.chain(own).collect()
    }

    /// Whether those who name none are ours, for want of a tag that says whose they are.
    fn is_default(&self) -> bool {
        // What a tag's webhook is called depends on the namespace of the control plane.
        let is_tagged = self.tags.values().any(|tag| tag.tag == DEFAULT);
        self.default.as_deref() == Some(&self.name) && !is_tagged
    }
}

/// Puts a value, or removes it. Returns whether that made a difference.
pub(crate) fn replaced<K: Ord, V: PartialEq + Clone>(map: &mut BTreeMap<K, V>, key: K, now: Option<V>) -> bool {
    match now {
        Some(now) => map.insert(key, now.clone()) != Some(now),
        None => map.remove(&key).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HTTP_ROUTES: Kind = kinds::CONVERTED[1];

    fn object(name: &str, labels: &Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": name, "labels": labels}})
    }

    #[test]
    fn configuration_is_read_by_the_revision_that_it_names() {
        for (kind, labels, expect) in [
            (kinds::AUTHORIZATION_POLICIES, json!(null), true),
            (kinds::AUTHORIZATION_POLICIES, json!({"app": "a"}), true),
            (kinds::AUTHORIZATION_POLICIES, json!({"istio.io/rev": "canary"}), true),
            (kinds::AUTHORIZATION_POLICIES, json!({"istio.io/rev": "stable"}), false),
            (kinds::AUTHORIZATION_POLICIES, json!({"istio.io/rev": ""}), false),
            (HTTP_ROUTES, json!({"istio.io/rev": "stable"}), false),
            // What runs, and what it runs behind, is no configuration.
            (kinds::PODS, json!({"istio.io/rev": "stable"}), true),
            (kinds::SERVICES, json!({"istio.io/rev": "stable"}), true),
            (kinds::NAMESPACES, json!({"istio.io/rev": "stable"}), true),
            (kinds::INGRESSES, json!({"istio.io/rev": "stable"}), true),
            (kinds::GATEWAYS, json!({"istio.io/rev": "stable"}), true),
        ] {
            assert_eq!(
                is_read("canary", kind, &object("o", &labels)),
                expect,
                "{} with {labels}",
                kind.kind
            );
        }
    }

    struct World(Revision);

    impl World {
        fn put(&mut self, kind: Kind, namespace: &str, name: &str, labels: &Value) -> bool {
            let object = json!({"metadata": {"labels": labels}});
            self.0.see(kind, &NamespacedName::new(namespace, name), Some(&object))
        }

        fn owns(&self, namespace: &str, name: &str) -> bool {
            self.0.owns(kinds::GATEWAYS, &Key::new(namespace, name))
        }
    }

    #[test]
    fn a_gateway_is_of_the_revision_that_it_or_its_namespace_names_by_any_name() {
        let mut world = World(Revision::new("canary", "istio-system"));
        assert!(world.owns("later", "unlabelled"), "nothing is known of the namespace");
        assert!(world.put(kinds::NAMESPACES, "", "plain", &json!({})));
        assert!(world.put(kinds::NAMESPACES, "", "ours", &json!({REVISION: "canary"})));
        assert!(world.put(kinds::NAMESPACES, "", "tagged", &json!({REVISION: "prod"})));
        assert!(world.put(kinds::GATEWAYS, "plain", "named", &json!({REVISION: "canary"})));
        assert!(!world.put(kinds::GATEWAYS, "plain", "named", &json!({REVISION: "canary"})));
        assert!(world.put(kinds::GATEWAYS, "ours", "others", &json!({REVISION: "stable"})));
        let owned = |world: &World| {
            [
                ("plain", "a"),
                ("plain", "named"),
                ("ours", "a"),
                ("ours", "others"),
                ("tagged", "a"),
            ]
            .map(|(namespace, name)| world.owns(namespace, name))
        };
        assert_eq!(owned(&world), [false, true, true, false, false]);

        // A tag is a Service of the system namespace, or a webhook.
        let tag = json!({REVISION: "canary", TAG: "prod"});
        assert!(!world.put(kinds::SERVICES, "elsewhere", "istiod-revision-tag-prod", &tag));
        assert_eq!(owned(&world), [false, true, true, false, false]);
        assert!(world.put(kinds::SERVICES, "istio-system", "istiod-revision-tag-prod", &tag));
        assert_eq!(owned(&world), [false, true, true, false, true]);
        let moved = json!({REVISION: "stable", TAG: "prod"});
        assert!(world.put(kinds::SERVICES, "istio-system", "istiod-revision-tag-prod", &moved));
        assert_eq!(owned(&world), [false, true, true, false, false]);
        assert!(world.put(TAG_WEBHOOKS, "", "istio-revision-tag-prod", &tag));
        assert_eq!(owned(&world), [false, true, true, false, true]);

        // Who names none is of the default revision, and a tag goes before that.
        assert!(world.put(DEFAULT_WEBHOOKS, "", DEFAULT_VALIDATOR, &json!({REVISION: "canary"})));
        assert_eq!(owned(&world), [true, true, true, false, true]);
        let default = json!({REVISION: "stable", TAG: "default"});
        assert!(world.put(TAG_WEBHOOKS, "", "istio-revision-tag-default", &default));
        assert_eq!(owned(&world), [false, true, true, false, true]);
        let key = NamespacedName::new("", "istio-revision-tag-default");
        assert!(world.0.see(TAG_WEBHOOKS, &key, None));
        assert_eq!(owned(&world), [true, true, true, false, true]);
    }

    #[test]
    fn those_who_name_none_are_of_the_revision_called_default() {
        let mut world = World(Revision::new("default", "istio-system"));
        world.put(kinds::NAMESPACES, "", "plain", &json!({}));
        world.put(kinds::GATEWAYS, "plain", "theirs", &json!({REVISION: "canary"}));
        assert_eq!((world.owns("plain", "a"), world.owns("plain", "theirs")), (true, false));
    }
    #[test]
    fn whoever_is_tagged_as_the_default_is_it_alone() {
        let mut revisions = ["default", "canary"].map(|name| World(Revision::new(name, "mesh")));
        let owners = |revisions: &[World; 2]| {
            [("plain", "unlabelled"), ("plain", "named")]
                .map(|(namespace, name)| revisions.each_ref().map(|one| one.owns(namespace, name)))
        };
        for one in &mut revisions {
            one.put(kinds::NAMESPACES, "", "plain", &json!({}));
            one.put(kinds::GATEWAYS, "plain", "named", &json!({REVISION: "default"}));
            one.put(DEFAULT_WEBHOOKS, "", DEFAULT_VALIDATOR, &json!({REVISION: "default"}));
        }
        assert_eq!(owners(&revisions), [[true, false]; 2]);
        // The webhook of a mesh elsewhere than in `istio-system` is called after its namespace, too.
        let (webhook, service) = ("istio-revision-tag-default-mesh", "istiod-revision-tag-default");
        for (kind, namespace, name) in [(TAG_WEBHOOKS, "", webhook), (kinds::SERVICES, "mesh", service)] {
            let tag = json!({REVISION: "canary", TAG: "default"});
            for one in &mut revisions {
                assert!(one.put(kind, namespace, name, &tag));
            }
            assert_eq!(owners(&revisions), [[false, true]; 2], "by {name}");
            for one in &mut revisions {
                assert!(one.0.see(kind, &NamespacedName::new(namespace, name), None));
            }
            assert_eq!(owners(&revisions), [[true, false]; 2]);
        }
    }
}
