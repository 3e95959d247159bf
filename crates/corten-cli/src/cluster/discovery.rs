//! What a cluster serves, and the many names by which people call it.

use anyhow::{Result, bail};
use serde_json::Value;

use super::Cluster;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A served resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    short_names: Vec<String>,
    categories: Vec<String>,
    verbs: Vec<String>,
}

/// All resources of a cluster, in the server's order of preference.
#[derive(Clone, Debug)]
pub(crate) struct Resources(Vec<Resource>);

impl Resources {
    /// Asks the cluster.
    pub(crate) async fn of(cluster: &Cluster) -> Result<Self> {
        let mut all = Vec::new();
        for path in ["/api", "/apis"] {
            let list = cluster.request(http::Method::GET, path, AGGREGATED, None).await?;
            if list["kind"] != "APIGroupDiscoveryList" {
                bail!("the server does not know aggregated discovery (Kubernetes 1.30 and later do)");
            }
            all.extend(read(&list));
        }
        Ok(Self(all))
    }

    /// The resources that a word means: a plural, singular, short name or kind, each also with `.group` or `.version.group`; or a category.
    pub(crate) fn named(&self, word: &str) -> Result<Vec<&Resource>> {
        let lower = word.to_lowercase();
        let (name, rest) = lower.split_once('.').unwrap_or((lower.as_str(), ""));
        let called = |resource: &&Resource| {
            let named = resource.plural == name
                || resource.singular == name
                || resource.kind.to_lowercase() == name
                || resource.short_names.iter().any(|short| short == name);
            let in_group =
                rest.is_empty() || rest == resource.group || rest == format!("{}.{}", resource.version, resource.group);
            named && in_group
        };
        if let Some(found) = self.0.iter().find(called) {
            return Ok(vec![found]);
        }
        let in_category: Vec<&Resource> = self
            .0
            .iter()
            .filter(|resource| resource.categories.contains(&lower) && resource.verbs.iter().any(|verb| verb == "list"))
            .collect();
        if in_category.is_empty() {
            bail!("the server doesn't have a resource type {word:?}");
        }
        Ok(in_category)
    }

    /// The resource of a kind, in the version that the server prefers.
    pub(crate) fn of_group(&self, group: &str, kind: &str) -> Option<&Resource> {
        let is_it = |resource: &&Resource| resource.group == group && resource.kind == kind;
        self.0.iter().find(is_it)
    }

    /// The resource of an object's kind.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.0
            .iter()
            .find(|resource| resource.group == group && resource.version == version && resource.kind == kind)
    }
}

impl Resource {
    /// The path of a collection, or of one object of it.
    pub(crate) fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if let (true, Some(namespace)) = (self.namespaced, namespace) {
            path.push_str(&format!("/namespaces/{namespace}"));
        }
        path.push_str(&format!("/{}", self.plural));
        if let Some(name) = name {
            path.push_str(&format!("/{name}"));
        }
        path
    }

    /// `deployment.apps`, `pod`: the name that stands before an object's name.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.singular.clone()
        } else {
            format!("{}.{}", self.singular, self.group)
        }
    }
}

/// The resources in an aggregated discovery answer.
fn read(list: &Value) -> Vec<Resource> {
    let mut all = Vec::new();
    for group in array(&list["items"]) {
        let name = text(&group["metadata"]["name"]);
        for version in array(&group["versions"]) {
            for resource in array(&version["resources"]) {
                let kind = text(&resource["responseKind"]["kind"]);
                let singular = text(&resource["singularResource"]);
                all.push(Resource {
                    group: name.clone(),
                    version: text(&version["version"]),
                    plural: text(&resource["resource"]),
                    singular: if singular.is_empty() {
                        kind.to_lowercase()
                    } else {
                        singular
                    },
                    kind,
                    namespaced: resource["scope"] == "Namespaced",
                    short_names: array(&resource["shortNames"]).iter().map(text).collect(),
                    categories: array(&resource["categories"]).iter().map(text).collect(),
                    verbs: array(&resource["verbs"]).iter().map(text).collect(),
                });
            }
        }
    }
    all
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A few resources, as a server lists them.
    pub(crate) fn resources() -> Resources {
        let resource = |plural: &str, singular: &str, kind: &str, scope: &str, short: &str| {
            json!({"resource": plural, "singularResource": singular, "responseKind": {"kind": kind}, "scope": scope,
                "shortNames": [short], "categories": ["all"], "verbs": ["list"]})
        };
        Resources(read(&json!({"items": [
            {"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [
                resource("pods", "pod", "Pod", "Namespaced", "po"), resource("namespaces", "namespace", "Namespace", "Cluster", "ns"),
            ]}]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                resource("deployments", "deployment", "Deployment", "Namespaced", "deploy"),
            ]}]},
        ]})))
    }

    #[test]
    fn a_resource_goes_by_many_names() {
        let all = resources();
        for word in [
            "deployments",
            "deployment",
            "deploy",
            "Deployment",
            "deployments.apps",
            "deploy.v1.apps",
        ] {
            let found = all.named(word).expect("a resource");
            assert_eq!(found[0].qualified(), "deployment.apps", "{word}");
        }
        assert_eq!(all.named("all").expect("a category").len(), 3);
        assert!(all.named("deployments.batch").is_err());
        assert!(all.of_kind("apps/v1", "Deployment").is_some() && all.of_kind("v1", "Deployment").is_none());
    }

    #[test]
    fn paths() {
        let all = resources();
        let path = |word: &str, name| all.named(word).expect("a resource")[0].path(Some("n"), name);
        assert_eq!(path("po", None), "/api/v1/namespaces/n/pods");
        assert_eq!(path("ns", Some("x")), "/api/v1/namespaces/x");
        assert_eq!(path("deploy", Some("x")), "/apis/apps/v1/namespaces/n/deployments/x");
    }
}
