//! How a proxy runs: the mesh's configuration of proxies, with what ProxyConfigs and its pod's annotation change in it.

use corten_api::{
    codec::{Cx, FieldProblem, decode_over},
    decode::Node,
    istio::{proxy_config::ProxyConfig, proxy_config_resource::ProxyConfigSpec},
};
use corten_core::{LabelMap, Labels};

use crate::config::{Config, Table};

/// The annotation of a pod that changes its proxy's configuration: YAML of some of its fields.
pub const ANNOTATION: &str = "proxy.istio.io/config";

/// A workload whose proxy is configured.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a LabelMap,
    /// What its annotation [`ANNOTATION`] says, read; `None`: it has none.
    pub annotation: Option<&'a Node>,
}

/// The configuration of a workload's proxy.
///
/// Each of these changes what those before it say: the mesh's, the ProxyConfig of the root namespace, the one of the workload's
/// namespace, the workload's annotation, and the ProxyConfig that selects the workload; of several, the oldest. What is wrong with
/// the annotation comes beside it, and the rest of the annotation counts.
pub fn effective(
    mesh: &ProxyConfig,
    configs: &Table<ProxyConfigSpec>,
    root_namespace: &str,
    workload: &Workload<'_>,
) -> (ProxyConfig, Vec<FieldProblem>) {
    let mut made = mesh.clone();
    let oldest = |namespace: &str, wanted: &dyn Fn(&ProxyConfigSpec) -> bool| {
        let there = configs.values().filter(|config| *config.namespace == *namespace);
        let chosen = there.filter(|config| wanted(&config.spec));
        chosen.min_by(|a, b| age(a).cmp(&age(b))).cloned()
    };
    let of_all = |spec: &ProxyConfigSpec| spec.selector.is_none();
    let selects = |spec: &ProxyConfigSpec| {
        let labels = spec.selector.as_ref().map(|selector| &selector.match_labels);
        labels.is_some_and(|labels| !labels.is_empty() && Labels(labels).is_subset_of(workload.labels))
    };
    let own = (workload.namespace != root_namespace).then_some(workload.namespace);
    for namespace in [Some(root_namespace), own].into_iter().flatten() {
        if let Some(config) = oldest(namespace, &of_all) {
            apply(&mut made, &config.spec);
        }
    }
    let problems = workload.annotation.map_or_else(Vec::new, |node| merge(&mut made, node));
    if let Some(config) = oldest(workload.namespace, &selects) {
        apply(&mut made, &config.spec);
    }
    (made, problems)
}

fn age<S>(config: &Config<S>) -> (i64, &str, &str) {
    config.age()
}

/// Changes a configuration by what is written of it: variables are added one by one, other fields replaced.
pub fn merge(config: &mut ProxyConfig, written: &Node) -> Vec<FieldProblem> {
    let mut cx = Cx::default();
    let before = std::mem::take(&mut config.proxy_metadata);
    decode_over(config, written, &mut cx);
    let added = std::mem::replace(&mut config.proxy_metadata, before);
    config.proxy_metadata.extend(added);
    cx.into_problems()
}

fn apply(config: &mut ProxyConfig, spec: &ProxyConfigSpec) {
    config.concurrency = spec.concurrency.or(config.concurrency);
    let variables = spec.environment_variables.iter();
    config
        .proxy_metadata
        .extend(variables.map(|(name, value)| (name.clone(), value.clone())));
    if spec.image.is_some() {
        config.image.clone_from(&spec.image);
    }
}

#[cfg(test)]
mod tests {
    use corten_api::decode::Node;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{ConfigKind, Configs};

    #[track_caller]
    fn check(objects: &[Value], annotation: Value, expect: (Option<i32>, &[(&str, &str)], &str)) {
        let mut configs = Configs::default();
        for object in objects {
            assert_eq!(configs.put(ConfigKind::ProxyConfig, object), []);
        }
        let mesh = ProxyConfig {
            concurrency: Some(1),
            proxy_metadata: [("A".to_owned(), "mesh".to_owned())].into(),
            ..ProxyConfig::default()
        };
        let node = Node::from_value(&annotation);
        let labels: LabelMap = [("app".to_owned(), "a".to_owned())].into_iter().collect();
        let workload = Workload {
            namespace: "shop",
            labels: &labels,
            annotation: (!annotation.is_null()).then_some(&node),
        };
        let (made, problems) = effective(&mesh, &configs.proxy_configs, "istio-system", &workload);
        assert!(problems.is_empty(), "{problems:?}");
        let variables: Vec<(&str, &str)> = made
            .proxy_metadata
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let image = made.image.map(|image| image.image_type).unwrap_or_default();
        assert_eq!((made.concurrency, variables.as_slice(), image.as_str()), expect);
    }

    #[test]
    fn the_nearest_counts() {
        let of = |namespace: &str, name: &str, day: u8, spec: Value| {
            json!({
                "apiVersion": "networking.istio.io/v1beta1", "kind": "ProxyConfig", "spec": spec,
                "metadata": { "name": name, "namespace": namespace, "creationTimestamp": format!("2024-01-0{day}T00:00:00Z") },
            })
        };
        let root = of(
            "istio-system",
            "r",
            1,
            json!({ "concurrency": 2, "environmentVariables": { "B": "root" } }),
        );
        let own = of(
            "shop",
            "n",
            1,
            json!({ "concurrency": 3, "image": { "imageType": "debug" } }),
        );
        let later = of("shop", "a", 2, json!({ "concurrency": 9 }));
        let selected = of(
            "shop",
            "w",
            1,
            json!({ "concurrency": 0, "selector": { "matchLabels": { "app": "a" } } }),
        );
        let others = of(
            "shop",
            "o",
            1,
            json!({ "concurrency": 8, "selector": { "matchLabels": { "app": "b" } } }),
        );
        let elsewhere = of("bank", "e", 1, json!({ "concurrency": 7 }));
        check(&[], Value::Null, (Some(1), &[("A", "mesh")], ""));
        check(
            &[root.clone(), elsewhere],
            Value::Null,
            (Some(2), &[("A", "mesh"), ("B", "root")], ""),
        );
        check(&[own.clone(), later], Value::Null, (Some(3), &[("A", "mesh")], "debug"));
        let annotation = json!({ "concurrency": 4, "proxyMetadata": { "A": "pod" } });
        check(
            std::slice::from_ref(&own),
            annotation.clone(),
            (Some(4), &[("A", "pod")], "debug"),
        );
        check(
            &[root, own, selected, others],
            annotation,
            (Some(0), &[("A", "pod"), ("B", "root")], "debug"),
        );
    }
}
