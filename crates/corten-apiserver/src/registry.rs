//! Which resources are served right now: the built-in table and the established custom resources.
//!
//! An immutable snapshot, replaced as a whole when a definition changes, so that one request sees one registry.

use std::collections::HashMap;
use std::sync::Arc;

use corten_schema::Schema;

use crate::crd::CustomVersion;
use crate::kinds::{self, Strategy};
use crate::resources::{self, ResourceId};

/// A served resource.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) id: ResourceId,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) singular: String,
    pub(crate) namespaced: bool,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) subresources: Vec<SubresourceInfo>,
    /// Answered at once and never stored.
    pub(crate) review: bool,
    /// Whether changes count in `metadata.generation`.
    pub(crate) generation: bool,
    /// The name of the shard: the same for all versions.
    pub(crate) storage: Arc<str>,
    /// What the kind does beyond the generic machinery.
    pub(crate) strategy: &'static dyn Strategy,
    /// The definition, when this is a custom resource.
    pub(crate) custom: Option<Arc<CustomVersion>>,
}

/// A served subresource.
#[derive(Clone, Debug)]
pub(crate) struct SubresourceInfo {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) verbs: Vec<&'static str>,
}

impl Resource {
    pub(crate) fn group(&self) -> &str {
        &self.id.group
    }

    pub(crate) fn plural(&self) -> &str {
        &self.id.plural
    }

    pub(crate) fn api_version(&self) -> String {
        self.id.api_version()
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&SubresourceInfo> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The schema of its objects.
    pub(crate) fn schema(&self) -> Option<&Schema> {
        match &self.custom {
            Some(custom) => Some(custom.schema()),
            None => corten_schema::kubernetes::schema(self.group(), &self.id.version, &self.kind),
        }
    }

    pub(crate) fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// The verbs of discovery.
    pub(crate) fn verbs(&self) -> &'static [&'static str] {
        if self.review {
            &["create"]
        } else {
            &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ]
        }
    }
}

/// All served resources.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// In the order of discovery.
    pub(crate) resources: Vec<Arc<Resource>>,
    by_id: HashMap<ResourceId, Arc<Resource>>,
}

impl Registry {
    /// The built-in resources and these custom ones.
    pub(crate) fn new(custom: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let mut registry = Self::default();
        for builtin in resources::BUILTINS.iter() {
            registry.add(Arc::new(from_builtin(builtin)));
        }
        for resource in custom {
            registry.add(resource);
        }
        registry
    }

    fn add(&mut self, resource: Arc<Resource>) {
        self.by_id.insert(resource.id.clone(), resource.clone());
        self.resources.push(resource);
    }

    /// A resource by group, version and plural.
    pub(crate) fn get(&self, id: &ResourceId) -> Option<&Arc<Resource>> {
        self.by_id.get(id)
    }

    /// Whether a group is served at all.
    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.resources.iter().any(|r| r.id.group == group)
    }

    /// The versions of a group, best first.
    pub(crate) fn versions(&self, group: &str) -> Vec<String> {
        let mut versions: Vec<String> = Vec::new();
        for resource in self.resources.iter().filter(|r| r.id.group == group) {
            if !versions.contains(&resource.id.version.to_string()) {
                versions.push(resource.id.version.to_string());
            }
        }
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        versions
    }

    /// The groups in the order of discovery, the core group first.
    pub(crate) fn groups(&self) -> Vec<String> {
        let mut groups: Vec<String> = Vec::new();
        for resource in &self.resources {
            if !groups.iter().any(|g| g == resource.group()) {
                groups.push(resource.group().to_owned());
            }
        }
        // Built-in groups come in the real server's order of priority; custom ones follow by name.
        groups.sort_by_key(|group| {
            let place = GROUP_ORDER.iter().position(|g| g == group);
            (place.unwrap_or(usize::MAX), group.clone())
        });
        groups
    }

    /// The resources of a group and version, by plural name.
    pub(crate) fn of_version(&self, group: &str, version: &str) -> Vec<&Arc<Resource>> {
        let mut found: Vec<_> = self
            .resources
            .iter()
            .filter(|r| r.id.group == group && r.id.version == version)
            .collect();
        found.sort_by(|a, b| a.id.plural.cmp(&b.id.plural));
        found
    }
}

const GROUP_ORDER: &[&str] = &[
    "",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
];

/// Kubernetes' order of versions: GA before beta before alpha, higher numbers first, everything else last.
pub(crate) fn version_priority(version: &str) -> (u8, u32, u32, std::cmp::Reverse<String>) {
    let parse = || -> Option<(u8, u32, u32)> {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        let (stage, minor) = match &rest[digits..] {
            "" => (3, ""),
            beta if beta.starts_with("beta") => (2, &beta[4..]),
            alpha if alpha.starts_with("alpha") => (1, &alpha[5..]),
            _ => return None,
        };
        let minor = if minor.is_empty() { 0 } else { minor.parse().ok()? };
        Some((stage, major, minor))
    };
    let (stage, major, minor) = parse().unwrap_or((0, 0, 0));
    (stage, major, minor, std::cmp::Reverse(version.to_owned()))
}

fn from_builtin(builtin: &'static resources::Builtin) -> Resource {
    let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
    Resource {
        id: builtin.id.clone(),
        kind: builtin.kind.to_owned(),
        list_kind: format!("{}List", builtin.kind),
        singular: builtin.singular.to_owned(),
        namespaced: builtin.namespaced,
        short_names: owned(builtin.short_names),
        categories: owned(builtin.categories),
        subresources: builtin
            .subresources
            .iter()
            .map(|s| SubresourceInfo {
                name: s.name.to_owned(),
                group: s.group.to_owned(),
                version: s.version.to_owned(),
                kind: s.kind.to_owned(),
                verbs: s.verbs.to_vec(),
            })
            .collect(),
        review: builtin.review,
        generation: builtin.generation,
        storage: format!("{}/{}", builtin.id.group, builtin.id.plural).into(),
        strategy: kinds::strategy(&builtin.id),
        custom: None,
    }
}
