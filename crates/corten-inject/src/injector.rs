//! The way of a pod through injection.

use std::collections::BTreeMap;

use corten_schema::kubernetes;
use corten_schema::patch::{PatchError, strategic};
use serde_json::{Value, json};

use crate::config::Config;
use crate::decide::{Decision, decide};
use crate::object::{PROXY, PROXY_CONFIG, annotation, container, containers_mut, is_set, label, text};
use crate::sidecar::{Draft, native};
use crate::{annotations, finish, gateway, overrides, proxy_config, template};

/// Why a pod cannot be injected.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// Annotations that cannot be used.
    #[error("{}", .0.join("; "))]
    Annotations(Vec<String>),
    /// A template that is not there.
    #[error("requested template \"{0}\" not found; have {1}")]
    Template(String, String),
    /// A template of the installation's own that cannot be rendered.
    #[error("template \"{0}\": {1}")]
    OwnTemplate(String, String),
    /// Metrics that cannot be merged.
    #[error("invalid prometheus scrape configuration: {0}")]
    Metrics(String),
    /// What was made does not fit the pod.
    #[error("the proxy does not fit the pod: {0}")]
    Merge(#[from] PatchError),
    /// An annotation of ours that is no JSON.
    #[error("annotation {0} cannot be read: {1}")]
    Json(&'static str, serde_json::Error),
}

/// What is known of one pod.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// The name of what made it: a Deployment's, say; empty: not known.
    pub owner_name: String,
    /// The namespace of that.
    pub owner_namespace: String,
    /// Its kind.
    pub owner_kind: String,
    /// Its API version.
    pub owner_api_version: String,
    /// How its proxy runs, as far as the mesh and its namespace say; null: as the mesh says.
    pub proxy_config: Value,
    /// What goes before the pod's own annotation.
    pub proxy_config_above: Value,
    /// Proxies are init containers that go on running.
    pub native_sidecars: bool,
    /// The user of its proxy; none: 1337.
    pub proxy_user: Option<u64>,
    /// The group of its proxy; none: 1337.
    pub proxy_group: Option<u64>,
    /// Variables for all that is injected, of the webhook's own path.
    pub variables: BTreeMap<String, String>,
}

/// What an installation injects.
#[derive(Clone, Debug, PartialEq)]
pub struct Injector {
    /// Its settings.
    pub config: Config,
    /// The mesh's configuration as it is written.
    pub mesh: Value,
    /// Its revision; empty: the default one.
    pub revision: String,
    /// The policy that its proxies keep to, such as `fips-140-3`.
    pub compliance_policy: Option<String>,
}

/// The templates that are always there.
const BUILT_IN: [&str; 3] = ["sidecar", "gateway", "grpc-simple"];

impl Injector {
    /// Whether a pod of that namespace gets a proxy.
    pub fn decide(&self, pod: &Value, namespace: &str) -> Decision {
        decide(&self.config, pod, namespace)
    }

    /// The configuration that proxies have where nobody else says anything.
    pub fn mesh_proxy_config(&self) -> Value {
        proxy_config::merge(&proxy_config::defaults(), &self.mesh["defaultConfig"])
    }

    /// The pod with its proxy.
    ///
    /// # Errors
    ///
    /// An annotation cannot be used, or a template is not there: the pod is not to be made.
    pub fn inject(&self, pod: &Value, subject: &Subject<'_>) -> Result<Value, InjectError> {
        let problems = annotations::problems(&pod["metadata"]["annotations"]);
        if !problems.is_empty() {
            return Err(InjectError::Annotations(problems));
        }
        let own;
        let pod = match overrides::without_platform_user(pod, subject) {
            Some(changed) => {
                own = changed;
                &own
            }
            None => pod,
        };
        let mut subject = subject.clone();
        if subject.proxy_config.is_null() {
            subject.proxy_config = self.mesh_proxy_config();
        }
        if let Some(own) = annotation(pod, PROXY_CONFIG) {
            let own = annotations::proxy_config(own).map_err(|problem| InjectError::Annotations(vec![problem]))?;
            subject.proxy_config = proxy_config::merge(&subject.proxy_config, &own);
        }
        subject.proxy_config = proxy_config::merge(&subject.proxy_config, &subject.proxy_config_above);
        self.place(pod, &mut subject);
        let status_port = text(&self.mesh_proxy_config()["statusPort"]);
        let stripped = overrides::stripped(pod, &status_port)?;
        let schema = kubernetes::schema("", "v1", "Pod");
        let (mut merged, mut made) = (pod.clone(), json!({}));
        for name in self.templates(pod) {
            let draft = Draft {
                config: &self.config,
                mesh: &self.mesh,
                revision: &self.revision,
                compliance_policy: self.compliance_policy.as_deref(),
                subject: &subject,
                pod: &stripped,
            };
            let part = match (self.config.own_template(&name, &BUILT_IN), name.as_str()) {
                (Some(own), _) => template::pod(&draft, &name, own)?,
                (None, "sidecar") => draft.pod(),
                (None, "gateway") => gateway::pod(&draft),
                (None, "grpc-simple") => gateway::grpc(&draft),
                (None, _) => {
                    let own = self.config.templates.keys().map(String::as_str);
                    let known: Vec<&str> = BUILT_IN.into_iter().chain(own).collect();
                    return Err(InjectError::Template(name, known.join(", ")));
                }
            };
            if let Some(schema) = schema {
                made = strategic(schema, &made, &part)?;
                move_customization(&mut merged, &made, subject.native_sidecars);
                merged = strategic(schema, &merged, &part)?;
            }
        }
        merged = overrides::reapply(merged, pod, &made, &subject.proxy_config)?;
        finish::finish(&mut merged, pod, &made, self, &subject)?;
        Ok(merged)
    }

    /// Cluster and network, as far as the pod or the webhook's path says something else than the values.
    fn place(&self, pod: &Value, subject: &mut Subject<'_>) {
        let value = |path: &str| self.config.values.pointer(path).filter(|value| is_set(value)).map(text);
        if let Some(cluster) = value("/global/multiCluster/clusterName") {
            subject
                .variables
                .entry("ISTIO_META_CLUSTER_ID".to_owned())
                .or_insert(cluster);
        }
        if let Some(network) = value("/global/network") {
            subject
                .variables
                .entry("ISTIO_META_NETWORK".to_owned())
                .or_insert(network);
        }
        if let Some(network) = label(pod, "topology.istio.io/network") {
            subject
                .variables
                .insert("ISTIO_META_NETWORK".to_owned(), network.to_owned());
        }
    }

    /// The templates of a pod, in their order.
    fn templates(&self, pod: &Value) -> Vec<String> {
        let named = annotation(pod, "inject.istio.io/templates");
        let named = named.map(|named| named.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>());
        let named = named.unwrap_or_else(|| self.config.default_templates.clone());
        let expanded = named.into_iter().flat_map(|name| match self.config.aliases.get(&name) {
            Some(names) => names.clone(),
            None => vec![name],
        });
        expanded.collect()
    }
}

/// What a user says about the proxy stands among the containers; where the proxy is an init container, it belongs there.
fn move_customization(pod: &mut Value, made: &Value, native_by_default: bool) {
    let concerned = native(pod, native_by_default)
        && container(made, "initContainers", PROXY).is_some()
        && container(pod, "containers", PROXY).is_some();
    if !concerned {
        return;
    }
    let listed = containers_mut(pod, "containers");
    if let Some(place) = listed.iter().position(|container| container["name"] == PROXY) {
        let own = listed.remove(place);
        containers_mut(pod, "initContainers").push(own);
    }
}

/// The whole name of an image: as the pod says, or of hub, name, tag and kind.
pub(crate) fn image(values: &Value, pod: &Value, path: &str, kind: &str) -> String {
    let value = |path: &str| values.pointer(path).map(text).unwrap_or_default();
    let named = annotation(pod, "sidecar.istio.io/proxyImage").map_or_else(|| value(path), str::to_owned);
    if named.contains('/') {
        return named;
    }
    let name = match value(path) {
        none if none.is_empty() => "proxyv2".to_owned(),
        name => name,
    };
    let kind = match annotation(pod, "sidecar.istio.io/proxyImageType") {
        Some(own) => own.to_owned(),
        None if kind.is_empty() => value("/global/variant"),
        None => kind.to_owned(),
    };
    let tag = value("/global/tag");
    let tag = if kind.is_empty() {
        tag
    } else {
        let known = ["-distroless", "-debug"];
        let plain = known.iter().find_map(|end| tag.strip_suffix(end)).unwrap_or(&tag);
        if kind == "default" {
            plain.to_owned()
        } else {
            format!("{plain}-{kind}")
        }
    };
    format!("{}/{name}:{tag}", value("/global/hub"))
}

/// Variables that the path of a webhook says: `/NAME/VALUE/...`, with `--slash--` for a slash, or `/:ENV:NAME=VALUE...`.
pub fn variables_of_path(path: &str) -> BTreeMap<String, String> {
    let path = path.trim_matches('/');
    let named = |name: &str| match name {
        "cluster" => "ISTIO_META_CLUSTER_ID".to_owned(),
        "net" => "ISTIO_META_NETWORK".to_owned(),
        other => other.to_uppercase(),
    };
    if path.starts_with(":ENV:") {
        let pairs = path.split(":ENV:").filter_map(|pair| pair.split_once('='));
        let pairs = pairs.filter(|(name, _)| !name.is_empty());
        return pairs.map(|(name, value)| (named(name), value.to_owned())).collect();
    }
    let parts: Vec<&str> = path.split('/').collect();
    let pairs = parts.chunks_exact(2).filter(|pair| !pair[0].is_empty());
    pairs
        .map(|pair| (named(pair[0]), pair[1].replace("--slash--", "/")))
        .collect()
}

/// The first version of a kubelet that runs init containers beside the others as it should.
const NATIVE_SINCE: (u32, u32) = (1, 33);

/// Whether a kubelet of this version (`v1.33.1`, `1.34+`, ...) runs proxies as init containers that go on running.
pub fn runs_native_sidecars(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= NATIVE_SINCE,
        _ => false,
    }
}

/// The user and group that OpenShift leaves to the proxies of a namespace with these annotations: the last of its range, which no
/// application gets.
pub fn openshift_ids(annotations: &Value) -> (Option<u64>, Option<u64>) {
    let last = |name: &str| {
        let block = annotations[name].as_str()?.split(',').next()?;
        match block.split_once('/') {
            Some((start, size)) => {
                let end = start.parse::<u64>().ok()?.checked_add(size.parse().ok()?)?;
                end.checked_sub(1)
            }
            None => block.split_once('-')?.1.parse().ok(),
        }
    };
    let users = last("openshift.io/sa.scc.uid-range");
    (users, last("openshift.io/sa.scc.supplemental-groups").or(users))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_get_the_last_user_of_a_range() {
        for (range, last) in [
            ("1000620000/10000", Some(1_000_629_999)),
            ("1000-1999", Some(1999)),
            ("0/0", None),
            ("18446744073709551615/2", None),
            ("x/1", None),
        ] {
            let annotations = serde_json::json!({ "openshift.io/sa.scc.uid-range": range });
            assert_eq!(openshift_ids(&annotations), (last, last), "{range}");
        }
    }

    #[test]
    fn a_path_says_variables() {
        let of = |path: &str| {
            variables_of_path(path)
                .into_iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(""), [""; 0]);
        assert_eq!(
            of("/cluster/one/net/a--slash--b/"),
            ["ISTIO_META_CLUSTER_ID=one", "ISTIO_META_NETWORK=a/b"]
        );
        assert_eq!(of("/:ENV:net=n:ENV:x=:ENV:=y"), ["ISTIO_META_NETWORK=n", "X="]);
    }
}
