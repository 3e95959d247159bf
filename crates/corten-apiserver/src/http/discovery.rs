//! Discovery: which groups, versions and resources are served, in the aggregated and in the old form.

use serde_json::{Value, json};

use crate::registry::{Registry, Resource};
use crate::resources::ResourceId;

/// `/api` in the old form.
pub(crate) fn core_versions() -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    })
}

/// `/apis` in the old form.
pub(crate) fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> = registry
        .groups()
        .iter()
        .filter(|g| !g.is_empty())
        .map(|g| group_entry(registry, g))
        .collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/G`.
pub(crate) fn group(registry: &Registry, name: &str) -> Option<Value> {
    registry.has_group(name).then(|| {
        let mut entry = group_entry(registry, name);
        entry["kind"] = json!("APIGroup");
        entry["apiVersion"] = json!("v1");
        entry
    })
}

fn group_entry(registry: &Registry, name: &str) -> Value {
    let versions: Vec<Value> = registry
        .versions(name)
        .iter()
        .map(|v| json!({ "groupVersion": format!("{name}/{v}"), "version": v }))
        .collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions.first() })
}

/// `/api/v1`, `/apis/G/V` in the old form.
pub(crate) fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let resources = registry.of_version(group, version);
    if resources.is_empty() {
        return None;
    }
    let mut list = Vec::new();
    for resource in resources {
        let mut entry = json!({
            "name": resource.plural(),
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": resource.verbs(),
        });
        add_names(&mut entry, resource);
        if !resource.review {
            entry["storageVersionHash"] = json!(hash(&resource.id));
        }
        list.push(entry);
        for subresource in &resource.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural(), subresource.name),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": subresource.kind,
                "verbs": subresource.verbs,
            });
            if (subresource.group.as_str(), subresource.version.as_str()) != (group, version) {
                entry["group"] = json!(subresource.group);
                entry["version"] = json!(subresource.version);
            }
            list.push(entry);
        }
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": crate::object::api_version(group, version),
        "resources": list,
    }))
}

fn add_names(entry: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
}

/// `/api` (the core group) or `/apis` (all others) in the aggregated form.
pub(crate) fn aggregated(registry: &Registry, core: bool, discovery_version: &str) -> Value {
    let groups: Vec<Value> = registry
        .groups()
        .iter()
        .filter(|g| g.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = registry
                .versions(group)
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = registry
                        .of_version(group, version)
                        .into_iter()
                        .map(|r| aggregated_resource(r))
                        .collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            let mut entry = json!({ "metadata": { "creationTimestamp": null }, "versions": versions });
            if !group.is_empty() {
                entry["metadata"]["name"] = json!(group);
            }
            entry
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{discovery_version}"),
        "metadata": {},
        "items": groups,
    })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|s| {
            json!({
                "subresource": s.name,
                "responseKind": kind(&s.group, &s.version, &s.kind),
                "verbs": s.verbs,
            })
        })
        .collect();
    let mut entry = json!({
        "resource": resource.plural(),
        "responseKind": kind(resource.group(), &resource.id.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs(),
    });
    add_names(&mut entry, resource);
    if !subresources.is_empty() {
        entry["subresources"] = json!(subresources);
    }
    entry
}

/// The opaque `storageVersionHash`.
fn hash(id: &ResourceId) -> String {
    use std::hash::{Hash, Hasher};

    use base64::Engine;
    // The standard hasher with fixed keys: the same for every run of one build, which is all clients may assume.
    let mut hasher = std::hash::DefaultHasher::new();
    id.hash(&mut hasher);
    base64::engine::general_purpose::STANDARD.encode(hasher.finish().to_be_bytes())
}
