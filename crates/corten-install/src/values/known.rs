//! Which values there are: those that are honoured, those that are accepted without effect, and why; everything else is a mistake.
//!
//! What is honoured is what the charts' own values name. A test holds that their templates use every one of them.

use serde_json::{Map, Value};

use super::path::Step;
use super::{at, merge};
use crate::charts::Component;

/// What was found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Values without effect.
    pub warnings: Vec<String>,
    /// Unknown values, and values of a wrong type.
    pub errors: Vec<String>,
}

/// The fields of an IstioOperator's spec.
const SPEC: [&str; 11] = [
    "profile",
    "hub",
    "tag",
    "revision",
    "namespace",
    "meshConfig",
    "components",
    "values",
    "unvalidatedValues",
    "compatibilityVersion",
    "installPackagePath",
];

/// The components of an IstioOperator.
const COMPONENTS: [&str; 6] = ["base", "pilot", "cni", "ztunnel", "ingressGateways", "egressGateways"];

/// What can be said of a component.
const COMPONENT: [&str; 7] = ["enabled", "namespace", "hub", "tag", "k8s", "name", "label"];

/// What can be said of a component's Kubernetes objects.
const K8S: [&str; 19] = [
    "affinity",
    "env",
    "hpaSpec",
    "imagePullPolicy",
    "nodeSelector",
    "overlays",
    "podAnnotations",
    "podDisruptionBudget",
    "priorityClassName",
    "readinessProbe",
    "replicaCount",
    "resources",
    "securityContext",
    "service",
    "serviceAnnotations",
    "strategy",
    "tolerations",
    "volumes",
    "volumeMounts",
];

/// Maps whose keys are the user's or Kubernetes', though the charts give them some.
const FREE: [&str; 6] = [
    "resources",
    "defaultResources",
    "updateStrategy",
    "podAnnotations",
    "meshConfig",
    "labels",
];

const CHART: &str = "a ConfigMap labelled gateway.istio.io/defaults-for-class says how gateways of a class are made, and the one that spec.infrastructure.parametersRef of a Gateway names how that one is";
const REMOTE: &str = "this version reads the configuration of its own cluster alone";
const AUTHORITY: &str = "certificates are the control plane's own or of the Secret cacerts";
const ALWAYS: &str = "Corten always works that way";
const TRACING: &str = "what is traced meshConfig and Telemetry say";
const REDIRECTION: &str = "sidecars are redirected by an init container, which needs NET_ADMIN, and not by the agent";

/// Values of Istio's charts that are accepted without effect, and why. What lies below one is meant with it.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("compatibilityVersion", "no default of Corten's depends on it"),
    (
        "global.proxy.outlierLogPath",
        "proxies write no log of ejections; their counters say how many there were",
    ),
    ("global.proxy_init.forceApplyIptables", ALWAYS),
    ("global.mountMtlsCerts", AUTHORITY),
    ("global.sts", "proxies exchange no tokens for others"),
    ("pilot.cni", REDIRECTION),
    ("istio_cni", REDIRECTION),
    ("cni.enabled", "components.cni.enabled says whether there are agents"),
    ("gatewayClasses", CHART),
    ("pilot.gatewayClasses", CHART),
    ("global.waypoint", CHART),
    ("global.caName", AUTHORITY),
    ("global.pilotCertProvider", AUTHORITY),
    ("global.certSigners", AUTHORITY),
    ("global.externalIstiod", REMOTE),
    ("global.istiod", "this version analyzes with `corten analyze` alone"),
    ("global.nativeNftables", ALWAYS),
    ("pilot.traceSampling", TRACING),
    ("global.tracer", TRACING),
    ("telemetry.v2.stackdriver", "metrics are Prometheus'"),
    (
        "pilot.taint",
        "nodes are not tainted: a pod waits for the agent of its node",
    ),
    ("experimental", "there are no experiments to turn on"),
    ("cni.provider", "the layout of the node's plugins is found out"),
    ("cni.ambient.configDir", "settings are variables of the agent"),
    ("cni.ambient.enableAmbientDetectionRetry", ALWAYS),
    (
        "cni.repair.repairPods",
        "pods are deleted or labelled: cni.repair.deletePods, cni.repair.labelPods",
    ),
    ("cni.repair.hub", "the agent itself repairs"),
    ("cni.repair.tag", "the agent itself repairs"),
    ("cni.global.nativeNftables", ALWAYS),
];

/// Values that are passed on, and of which something is to be known: whether it is, for a value that was given.
type Caveat = (&'static [&'static str], fn(&Value) -> bool, &'static str);

const CAVEATS: &[Caveat] = &[
    (
        &["global", "logAsJson"],
        |wanted| *wanted == Value::Bool(true),
        "node proxies write JSON; the control plane, the agents and what starts sidecars and gateways write text",
    ),
    (
        &["gateways", "istio-ingressgateway", "enabled"],
        |enabled| *enabled == Value::Bool(false),
        "this leaves nothing out: components.ingressGateways[0].enabled=false does",
    ),
    (
        &["gateways", "istio-egressgateway", "enabled"],
        |enabled| *enabled == Value::Bool(false),
        "this leaves nothing out: components.egressGateways[0].enabled=false does",
    ),
];

/// The tree of what is honoured, as `spec.values` has it.
fn honoured() -> Value {
    let mut tree = Value::Object(Map::new());
    for component in Component::ALL {
        let defaults = component.defaults();
        // What is said at the top is for all charts that have it, so that what a chart alone has is not repeated there.
        if component != Component::Base && component.gateway().is_none() {
            let mut own = Map::new();
            own.insert(component.key().to_owned(), defaults.clone());
            merge(&mut tree, &Value::Object(own));
        }
        merge(&mut tree, &defaults);
    }
    merge(
        &mut tree,
        &serde_json::json!({"profile": "", "global": {"platform": "", "profile": ""}, "platform": ""}),
    );
    for name in Component::ALL.into_iter().filter_map(Component::gateway) {
        tree["gateways"][name]["enabled"] = Value::Bool(false);
    }
    tree
}

/// Checks what was asked for.
pub fn check(spec: &Value) -> Report {
    let mut report = Report::default();
    fields(spec, "", &SPEC, &mut report);
    for (name, component) in spec["components"].as_object().into_iter().flatten() {
        if !COMPONENTS.contains(&name.as_str()) {
            report
                .errors
                .push(unknown(&format!("components.{name}"), name, COMPONENTS.into_iter()));
            continue;
        }
        let of = |component: &Value, path: &str, report: &mut Report| {
            fields(component, path, &COMPONENT, report);
            fields(&component["k8s"], &format!("{path}k8s."), &K8S, report);
        };
        match component {
            Value::Array(gateways) => {
                for (index, gateway) in gateways.iter().enumerate() {
                    of(gateway, &format!("components.{name}[{index}]."), &mut report);
                }
            }
            component => of(component, &format!("components.{name}."), &mut report),
        }
    }
    if spec["installPackagePath"].is_string() {
        report
            .warnings
            .push("installPackagePath has no effect: the charts are built in".to_owned());
    }
    if spec["compatibilityVersion"].is_string() {
        report
            .warnings
            .push("compatibilityVersion has no effect: no default of Corten's depends on it".to_owned());
    }
    if spec["values"].is_object() {
        let known = honoured();
        walk(&spec["values"], &known, "", &mut report);
        for (path, holds, why) in CAVEATS {
            if holds(at(&spec["values"], path)) {
                report.warnings.push(format!("values.{}: {why}", path.join(".")));
            }
        }
    }
    for mesh in [&spec["meshConfig"], &spec["values"]["meshConfig"]] {
        report.warnings.extend(mesh_config(mesh));
    }
    report
}

/// Checks the values of a chart that is installed with Helm alone, as its own values.yaml has them.
pub fn check_chart(component: Component, values: &Value) -> Report {
    let mut report = Report::default();
    let mut known = component.defaults();
    merge(
        &mut known,
        &serde_json::json!({"profile": "", "platform": "", "global": {"platform": "", "profile": ""}}),
    );
    walk(values, &known, "", &mut report);
    report
}

/// What the control plane would say of the mesh's configuration.
fn mesh_config(mesh: &Value) -> Vec<String> {
    if !mesh.is_object() {
        return Vec::new();
    }
    let text = corten_api::yaml::document(mesh);
    let (root, problems) = corten_api::decode::document("meshConfig", &text);
    let mut said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    if let Some(root) = root {
        let (_, wrong) = corten_api::validate::mesh_config::over_defaults(&root);
        said.extend(
            wrong
                .into_iter()
                .map(|it| format!("meshConfig.{}: {}", it.path, it.message)),
        );
    }
    said
}

fn fields(value: &Value, path: &str, known: &[&'static str], report: &mut Report) {
    for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
        if !known.contains(&name.as_str()) {
            report
                .errors
                .push(unknown(&format!("{path}{name}"), name, known.iter().copied()));
        }
    }
}

fn unknown<'a>(path: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    format!("unknown value {path}{}", hint(name, known))
}

/// Compares with what is known. Below a list or an empty map everything is the user's.
fn walk(value: &Value, known: &Value, path: &str, report: &mut Report) {
    let (Value::Object(map), Value::Object(names)) = (value, known) else {
        return;
    };
    for (name, value) in map {
        let here = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let honoured = names.get(name);
        if let Some(why) = without_effect(&here, honoured) {
            report.warnings.push(format!("values.{here} has no effect: {why}"));
            continue;
        }
        let Some(honoured) = honoured else {
            // Some names below are honoured, and others of the same map are not.
            if WITHOUT_EFFECT
                .iter()
                .any(|(known, _)| known.starts_with(&format!("{here}.")))
            {
                walk(value, &Value::Object(Map::new()), &here, report);
                continue;
            }
            let near = names.keys().map(String::as_str);
            report.errors.push(unknown(&format!("values.{here}"), name, near));
            continue;
        };
        if let Some(expected) = mismatch(value, honoured) {
            report
                .errors
                .push(format!("values.{here} is {value}, and should be {expected}"));
            continue;
        }
        let free = FREE.contains(&name.as_str()) || honoured.as_object().is_some_and(Map::is_empty);
        if !free {
            walk(value, honoured, &here, report);
        }
    }
}

/// Why a value has no effect. One that has some parts with effect is looked into.
fn without_effect(path: &str, honoured: Option<&Value>) -> Option<&'static str> {
    let (_, why) = WITHOUT_EFFECT.iter().find(|(known, _)| {
        // A component's own values may say what is said for all.
        let own = ["pilot.", "cni.", "ztunnel."]
            .iter()
            .find_map(|own| path.strip_prefix(own));
        // And what is a component's own may stand at the top, as in its chart.
        let bare = known.strip_prefix("pilot.").or_else(|| known.strip_prefix("cni."));
        let is_or_beneath =
            |known: &str| path == known || path.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'));
        is_or_beneath(known) || own == Some(*known) || bare.is_some_and(is_or_beneath)
    })?;
    honoured.is_none().then_some(why)
}

fn mismatch(value: &Value, honoured: &Value) -> Option<&'static str> {
    match honoured {
        _ if value.is_null() => None,
        Value::Bool(_) if !value.is_boolean() => Some("true or false"),
        Value::Object(_) if !value.is_object() => Some("a map"),
        Value::Array(_) if !value.is_array() => Some("a list, as in [a, b]"),
        Value::Number(_) if !value.is_number() => {
            // Shares such as 25% are texts, and numbers may be.
            let number = value
                .as_str()
                .is_some_and(|text| text.trim_end_matches('%').parse::<f64>().is_ok());
            (!number).then_some("a number")
        }
        Value::String(_) if value.is_object() || value.is_array() => Some("a text"),
        _ => None,
    }
}

/// Checks where a `--set` points: at a field of an IstioOperator's spec.
pub fn spec_path(setting: &str, steps: &[Step]) -> Result<(), String> {
    let Some(Step::Name(first)) = steps.first() else {
        return Err(format!(
            "--set {setting}: a path begins with a name, such as values or components"
        ));
    };
    if SPEC.contains(&first.as_str()) {
        return Ok(());
    }
    let known = honoured();
    if !known[first].is_null()
        || WITHOUT_EFFECT
            .iter()
            .any(|(path, _)| path.split('.').next() == Some(first))
    {
        return Err(format!(
            "--set {setting}: unknown value {first}; values of charts stand under values: --set values.{setting}"
        ));
    }
    Err(format!("--set {setting}: {}", unknown(first, first, SPEC.into_iter())))
}

/// ` (did you mean "x"?)`, if something is near.
pub fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"))
}

/// The nearest name, if it is near enough to be meant: letters are changed, added, left out or swapped with their neighbour.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let most = (name.chars().count() / 3).max(1);
    known
        .map(|known| (strsim::osa_distance(&lower, &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(values: Value) -> (Vec<String>, Vec<String>) {
        let report = check(&json!({ "values": values }));
        (report.warnings, report.errors)
    }

    #[test]
    fn what_is_honoured_passes() {
        let values = json!({
            "pilot": {"autoscaleEnabled": false, "env": {"ANY": "1"}, "resources": {"limits": {"cpu": 2}}, "rollingMaxSurge": "30%"},
            "global": {"hub": "x", "proxy": {"clusterDomain": "c.local"}, "platform": "gke", "meshNetworks": {"n": {}}},
            "cni": {"ambient": {"dnsCapture": false}, "excludeNamespaces": ["a"]},
            "ztunnel": {"terminationGracePeriodSeconds": 30, "labels": {"a": "b"}},
            "meshConfig": {"trustDomain": "t"},
        });
        assert_eq!(said(values), (vec![], vec![]));
    }

    #[test]
    fn what_has_no_effect_is_named_with_the_reason() {
        let (warnings, errors) = said(json!({
            "sidecarInjectorWebhook": {"templates": {"mine": "spec: {}"}, "rewriteAppHTTPProbe": false},
            "pilot": {"traceSampling": 1, "cni": {"enabled": true}},
            "global": {"proxy": {"logLevel": "debug", "clusterDomain": "c", "outlierLogPath": "/x"}, "sts": {"servicePort": 1}},
            "gateways": {"istio-ingressgateway": {"enabled": false, "env": {"A": "b"}}, "securityContext": {"runAsUser": 1}},
        }));
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(warnings.len(), 5, "{warnings:?}");
        for expected in [
            "values.global.sts has no effect: proxies exchange no tokens for others",
            "values.gateways.istio-ingressgateway.enabled: this leaves nothing out: components.ingressGateways[0].enabled=false does",
        ] {
            assert!(warnings.iter().any(|it| it == expected), "{warnings:?}");
        }
    }

    #[test]
    fn charts_values_may_stand_at_the_top() {
        let (warnings, errors) =
            said(json!({"traceSampling": 1, "taint": {"enabled": true}, "ambient": {"configDir": "x", "ipv6": false}}));
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(warnings.len(), 3, "{warnings:?}");
    }

    #[test]
    fn mistakes_name_the_nearest() {
        for (values, expected) in [
            (
                json!({"pilot": {"replicaCuont": 2}}),
                "unknown value values.pilot.replicaCuont (did you mean \"replicaCount\"?)",
            ),
            (
                json!({"global": {"badKey": "badValue"}}),
                "unknown value values.global.badKey",
            ),
            (
                json!({"zztunnel": {}}),
                "unknown value values.zztunnel (did you mean \"ztunnel\"?)",
            ),
            (
                json!({"pilot": {"autoscaleEnabled": "no"}}),
                "values.pilot.autoscaleEnabled is \"no\", and should be true or false",
            ),
            (
                json!({"pilot": {"tolerations": "x"}}),
                "values.pilot.tolerations is \"x\", and should be a list, as in [a, b]",
            ),
            (json!({"global": 1}), "values.global is 1, and should be a map"),
            (
                json!({"pilot": {"replicaCount": "many"}}),
                "values.pilot.replicaCount is \"many\", and should be a number",
            ),
        ] {
            assert_eq!(said(values), (vec![], vec![expected.to_owned()]));
        }
        let report = check(
            &json!({"profil": "x", "components": {"pilots": {}, "pilot": {"enable": true, "k8s": {"replicas": 1}}}}),
        );
        assert_eq!(report.errors.len(), 4, "{report:?}");
        let steps = |path: &str| super::super::path::parse(path).unwrap();
        assert!(
            spec_path("pilot.x=1", &steps("pilot.x"))
                .unwrap_err()
                .contains("--set values.pilot.x=1")
        );
        assert!(
            spec_path("profle=x", &steps("profle"))
                .unwrap_err()
                .contains("did you mean \"profile\"?")
        );
    }

    #[test]
    fn every_value_of_the_charts_is_used_by_a_template() {
        fn leaves(value: &Value, name: &str, into: &mut Vec<String>) {
            match value {
                Value::Object(map) if !map.is_empty() && !FREE.contains(&name) => {
                    map.iter().for_each(|(name, value)| leaves(value, name, into));
                }
                _ => into.push(name.to_owned()),
            }
        }
        // What injection reads of them, it reads by path.
        let injection = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../corten-inject/src");
        let injection: String = std::fs::read_dir(injection)
            .unwrap()
            .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
            .collect();
        for component in Component::ALL.into_iter().chain([Component::Gateway]) {
            let text = component.template_text();
            let mut names = Vec::new();
            leaves(&component.defaults(), "", &mut names);
            for name in names {
                let used = text.contains(&format!(".{name}")) || text.contains(&format!("\"{name}\""));
                let passed_on = component == Component::Pilot
                    && ["/", "\""]
                        .iter()
                        .any(|before| injection.contains(&format!("{before}{name}\"")));
                assert!(used || passed_on, "{}: nothing uses {name}", component.key());
            }
        }
    }
}
