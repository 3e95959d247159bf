//! What an installation says about injection: Istio's values, with Istio's defaults where they say nothing.

use std::collections::{BTreeMap, BTreeSet};

use corten_schema::patch::merge;
use serde_json::{Value, json};

/// The settings of injection: the ConfigMap `istio-sidecar-injector` of an installation.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The values of the installation, complete.
    pub values: Value,
    /// Pods that nobody says anything about are injected.
    pub by_default: bool,
    /// The templates that are used unless a pod names others.
    pub default_templates: Vec<String>,
    /// Names that stand for several templates.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Pods with such labels never get a proxy by default.
    pub never: Vec<Value>,
    /// Pods with such labels get one by default.
    pub always: Vec<Value>,
    /// Annotations that every injected pod gets.
    pub injected_annotations: BTreeMap<String, String>,
    /// Templates of the installation's own, as text.
    pub templates: BTreeMap<String, String>,
    /// Those among them that somebody wrote into the values, rather than that they came with a chart.
    pub written: BTreeSet<String>,
}

/// The defaults of Istio's chart, as far as injection looks at them.
fn defaults() -> Value {
    json!({
        "revision": "",
        "global": {
            "caAddress": "",
            "caName": "",
            "hub": "corten.dev",
            "imagePullPolicy": "",
            "imagePullSecrets": [],
            "istioNamespace": "istio-system",
            "logAsJson": false,
            "logging": {"level": "default:info"},
            "meshID": "",
            "mountMtlsCerts": false,
            "multiCluster": {"clusterName": ""},
            "nativeNftables": false,
            "network": "",
            "pilotCertProvider": "istiod",
            "proxy": {
                "capNetBindService": "false",
                "clusterDomain": "cluster.local",
                "componentLogLevel": "misc:error",
                "excludeIPRanges": "",
                "excludeInboundPorts": "",
                "excludeOutboundPorts": "",
                "holdApplicationUntilProxyStarts": false,
                "image": "proxyv2",
                "includeIPRanges": "*",
                "includeInboundPorts": "*",
                "includeOutboundPorts": "",
                "logLevel": "warning",
                "outlierLogPath": "",
                "privileged": false,
                "readinessFailureThreshold": 4,
                "readinessInitialDelaySeconds": 0,
                "readinessPeriodSeconds": 15,
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"cpu": "2", "memory": "1Gi"},
                },
                "startupProbe": {"enabled": true, "failureThreshold": 600},
                "statusPort": 15020,
                "tracer": "none",
            },
            "proxy_init": {"image": "proxyv2", "forceApplyIptables": false},
            "sds": {"token": {"aud": "istio-ca"}},
            "sts": {"servicePort": 0},
            "tag": "latest",
            "variant": "",
        },
        "pilot": {"cni": {"enabled": false, "provider": "default"}, "env": {}},
        "sidecarInjectorWebhook": {"rewriteAppHTTPProbe": true},
    })
}

impl Default for Config {
    fn default() -> Config {
        Config::new(&json!({}), &json!({}))
    }
}

impl Config {
    /// From the two entries of the ConfigMap: `values` and `config`, which may leave out anything.
    pub fn new(values: &Value, config: &Value) -> Config {
        // A null takes a default away.
        let values = merge(&defaults(), values);
        let webhook = &values["sidecarInjectorWebhook"];
        let list = |name: &str| {
            let listed = config[name].as_array().or_else(|| webhook[name].as_array());
            listed.cloned().unwrap_or_default()
        };
        let texts = |values: &[Value]| {
            let texts = values.iter().filter_map(|value| value.as_str().map(str::to_owned));
            texts.collect::<Vec<_>>()
        };
        let entries = |name: &str| {
            let given = config[name].as_object().or_else(|| webhook[name].as_object());
            given.into_iter().flatten()
        };
        let texts_of = |name: &str| {
            let given = entries(name);
            given
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect::<BTreeMap<String, String>>()
        };
        let mut default_templates = texts(&list("defaultTemplates"));
        if default_templates.is_empty() {
            default_templates.push("sidecar".to_owned());
        }
        let written = webhook["templates"].as_object().into_iter().flatten();
        let written: BTreeMap<String, String> = written
            .filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())))
            .collect();
        Config {
            by_default: match config["policy"].as_str() {
                Some(policy) => policy == "enabled",
                None => values["global"]["proxy"]["autoInject"] != "disabled",
            },
            default_templates,
            aliases: entries("aliases")
                .map(|(key, value)| (key.clone(), texts(value.as_array().map_or(&[], Vec::as_slice))))
                .collect(),
            never: list("neverInjectSelector"),
            always: list("alwaysInjectSelector"),
            injected_annotations: texts_of("injectedAnnotations"),
            written: written.keys().cloned().collect(),
            templates: texts_of("templates").into_iter().chain(written).collect(),
            values,
        }
    }

    /// The text of a template. Those of `built_in` are rendered by us, unless somebody wrote others of these names into the values.
    pub(crate) fn own_template(&self, name: &str, built_in: &[&str]) -> Option<&str> {
        let counts = self.written.contains(name) || !built_in.contains(&name);
        self.templates.get(name).filter(|_| counts).map(String::as_str)
    }
}
