//! Templates of an installation's own: Go's text with Istio's data and functions, to the part of a pod that is laid over it.
//!
//! What templates see of pods and of configuration has the names that it has in Go (`.Spec.Containers`), which are told from those
//! of YAML by a mark, so that what is written out again has its own names.

use corten_api::{decode, yaml};
use corten_template::Templates;
use serde_json::{Map, Value, json};

use crate::injector::{InjectError, image};
use crate::object::{PROXY, text};
use crate::sidecar::{Draft, with_network};

/// The mark of an object whose fields have their names in Go.
const MARK: &str = "\u{0}go";
/// Fields whose keys are anybody's texts.
const MAPS: [&str; 8] = [
    "labels",
    "annotations",
    "nodeSelector",
    "limits",
    "requests",
    "matchLabels",
    "proxyMetadata",
    "overhead",
];
/// Names in Go that are not the name in YAML with its first letter large.
const NAMES: [(&str, &str); 9] = [
    ("apiVersion", "APIVersion"),
    ("uid", "UID"),
    ("dnsPolicy", "DNSPolicy"),
    ("dnsConfig", "DNSConfig"),
    ("fsGroup", "FSGroup"),
    ("tcpSocket", "TCPSocket"),
    ("httpGet", "HTTPGet"),
    ("tty", "TTY"),
    ("seLinuxOptions", "SELinuxOptions"),
];

/// What a template makes of a pod.
///
/// # Errors
///
/// It is no template, cannot be run with this pod, or what it makes is no YAML.
pub(crate) fn pod(draft: &Draft<'_>, name: &str, template: &str) -> Result<Value, InjectError> {
    let wrong = |problem: String| InjectError::OwnTemplate(name.to_owned(), problem);
    let mut templates = Templates::default();
    templates
        .add(name, template)
        .map_err(|error| wrong(error.to_string()))?;
    let rendered = templates
        .render_with(&data(draft), &|_| String::new(), &call)
        .map_err(|error| wrong(error.to_string()))?;
    let made = rendered.into_iter().map(|(_, text)| text).collect::<String>();
    let (root, problems) = decode::document(name, &made);
    if let Some(problem) = problems.iter().find(|problem| problem.is_error()) {
        return Err(wrong(format!("what it makes cannot be read: {}", problem.message)));
    }
    match root.map_or(Value::Null, |root| root.to_value()) {
        Value::Null => Ok(json!({})),
        made @ Value::Object(_) => Ok(made),
        other => Err(wrong(format!("what it makes is no part of a pod: {other}"))),
    }
}

/// What templates see.
fn data(draft: &Draft<'_>) -> Value {
    let subject = draft.subject;
    let mode = &draft.mesh["inboundTrafficPolicy"]["mode"];
    let kind = text(&subject.proxy_config["image"]["imageType"]);
    json!({
        "TypeMeta": go(&json!({ "kind": subject.owner_kind, "apiVersion": subject.owner_api_version })),
        "DeploymentMeta": go(&json!({ "name": subject.owner_name, "namespace": subject.owner_namespace })),
        "ObjectMeta": go(&draft.pod["metadata"]),
        "Spec": go(&draft.pod["spec"]),
        "ProxyConfig": go(&subject.proxy_config),
        "MeshConfig": go(draft.mesh),
        "Values": draft.config.values,
        "Revision": draft.revision,
        "ProxyImage": image(&draft.config.values, draft.pod, "/global/proxy/image", &kind),
        "ProxyInitImage": image(&draft.config.values, draft.pod, "/global/proxy_init/image", &kind),
        "NativeSidecars": subject.native_sidecars,
        "ProxyUID": subject.proxy_user.unwrap_or(1337),
        "ProxyGID": subject.proxy_group.unwrap_or(1337),
        "InboundTrafficPolicyMode": mode.as_str().unwrap_or("PASSTHROUGH"),
        "CompliancePolicy": draft.compliance_policy.unwrap_or_default(),
    })
}

/// With the names of Go.
fn go(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| {
                let of = NAMES.iter().find(|(name, _)| name == key);
                let value = if MAPS.contains(&key.as_str()) {
                    value.clone()
                } else {
                    go(value)
                };
                (of.map_or_else(|| large(key), |(_, of)| (*of).to_owned()), value)
            });
            let marked = std::iter::once((MARK.to_owned(), Value::Bool(true)));
            Value::Object(fields.chain(marked).collect())
        }
        Value::Array(list) => list.iter().map(go).collect(),
        other => other.clone(),
    }
}

/// With the names of YAML again.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) if map.contains_key(MARK) => {
            let fields = map.iter().filter(|(key, _)| *key != MARK).map(|(key, value)| {
                let of = NAMES.iter().find(|(_, name)| name == key);
                (of.map_or_else(|| small(key), |(of, _)| (*of).to_owned()), plain(value))
            });
            Value::Object(fields.collect())
        }
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        Value::Array(list) => list.iter().map(plain).collect(),
        other => other.clone(),
    }
}

fn large(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn small(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// The functions that Istio's templates have besides; some have names of others, and do something else.
fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    Some(Ok(match (name, arguments) {
        ("annotation", [of, key, otherwise]) => {
            let known = of["Annotations"][text(key).as_str()].as_str().map(str::to_owned);
            json!(known.unwrap_or_else(|| text(otherwise)))
        }
        ("valueOrDefault", [value, otherwise]) => {
            let nothing = value.is_null() || value == "";
            if nothing { otherwise } else { value }.clone()
        }
        ("isset", [map, key]) => json!(map.get(text(key)).is_some()),
        ("toJSON" | "structToJSON" | "protoToJSON" | "toJson", [value]) => match plain(value) {
            Value::Null => json!("{}"),
            value => json!(value.to_string()),
        },
        ("fromJSON", [Value::String(text)]) => match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => return Some(Err(format!("fromJSON: {error}"))),
        },
        ("toYaml", [value]) => json!(yaml::document(&plain(value))),
        // The first line stands where it is called.
        ("indent", [spaces, Value::String(text)]) => {
            let pad = " ".repeat(usize::try_from(spaces.as_u64().unwrap_or_default()).unwrap_or_default());
            json!(text.split('\n').collect::<Vec<_>>().join(&format!("\n{pad}")))
        }
        ("toLower", [value]) => json!(text(value).to_lowercase()),
        ("directory", [path]) => {
            let path = text(path);
            json!(path.rfind('/').map_or("", |end| &path[..=end]))
        }
        ("formatDuration" | "kubevirtInterfaces" | "excludeInterfaces", [value]) => value.clone(),
        ("excludeInboundPort", [port, excluded]) => json!(without_port(&text(port), &text(excluded))),
        ("includeInboundPorts", [containers]) => json!(ports(containers, &|_| true)),
        ("applicationPorts", [containers]) => json!(ports(containers, &|name| name != PROXY)),
        ("appendMultusNetwork", [networks, network]) => json!(with_network(&text(networks), &text(network))),
        ("strdict", words) => {
            let pairs = words
                .chunks(2)
                .map(|pair| (text(&pair[0]), json!(pair.get(1).map(text).unwrap_or_default())));
            Value::Object(pairs.collect())
        }
        ("mergeMaps", maps) => Value::Object(merged(maps)),
        ("toJsonMap", maps) => json!(Value::Object(merged(maps)).to_string()),
        ("omitNil", [Value::Object(map)]) => {
            let set = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(set.map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        _ => return None,
    }))
}

fn merged(maps: &[Value]) -> Map<String, Value> {
    let entries = maps.iter().filter_map(Value::as_object).flatten();
    entries.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A list of ports with one more, unless it is none, or in it.
fn without_port(port: &str, excluded: &str) -> String {
    let listed: Vec<&str> = excluded
        .split(',')
        .map(str::trim)
        .filter(|port| !port.is_empty())
        .collect();
    if ["", "0"].contains(&port.trim()) || listed.contains(&port.trim()) {
        return excluded.to_owned();
    }
    [&listed[..], &[port.trim()]].concat().join(",")
}

/// The ports of TCP that containers list.
fn ports(containers: &Value, wanted: &dyn Fn(&str) -> bool) -> String {
    let containers = containers.as_array().into_iter().flatten();
    let wanted = containers.filter(|container| wanted(container["Name"].as_str().unwrap_or_default()));
    let ports = wanted.flat_map(|container| container["Ports"].as_array().into_iter().flatten());
    let tcp = ports.filter(|port| !["UDP", "SCTP"].contains(&port["Protocol"].as_str().unwrap_or_default()));
    tcp.map(|port| text(&port["ContainerPort"]))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Injector, Subject};

    fn inject(template: &str) -> Result<Value, String> {
        let values = json!({ "sidecarInjectorWebhook": { "templates": { "own": template } }, "global": { "hub": "h", "tag": "t" } });
        let injector = Injector {
            config: Config::new(&values, &json!({})),
            mesh: json!({ "defaultConfig": { "proxyMetadata": { "A_B": "c" } } }),
            revision: String::new(),
            compliance_policy: None,
        };
        let pod = json!({
            "metadata": { "name": "p", "annotations": { "inject.istio.io/templates": "own", "Is/There": "yes" }, "labels": { "app": "web" } },
            "spec": {
                "containers": [{ "name": "app", "image": "app", "ports": [{ "containerPort": 80 }, { "containerPort": 53, "protocol": "UDP" }] }],
                "securityContext": { "fsGroup": 7 },
            },
        });
        let subject = Subject {
            namespace: "n",
            owner_name: "web".to_owned(),
            ..Subject::default()
        };
        injector.inject(&pod, &subject).map_err(|error| error.to_string())
    }

    /// What an expression gives, as the value of an annotation.
    #[track_caller]
    fn check(expression: &str, expected: &str) {
        let template = format!("metadata:\n  annotations:\n    out: {{{{ {expression} | quote }}}}\n");
        let pod = inject(&template).unwrap();
        assert_eq!(pod["metadata"]["annotations"]["out"], expected, "{expression}");
    }

    #[test]
    fn templates_see_what_they_see_in_istio() {
        check(".ObjectMeta.Name", "p");
        check(".DeploymentMeta.Name", "web");
        check("(index .Spec.Containers 0).Image", "app");
        check(".ProxyImage", "h/proxyv2:t");
        check(".ProxyConfig.StatusPort", "15020");
        check("index .ProxyConfig.ProxyMetadata `A_B`", "c");
        check("annotation .ObjectMeta `Is/There` `no`", "yes");
        check("annotation .ObjectMeta `Not/There` 5", "5");
        check("valueOrDefault .ObjectMeta.Namespace `default`", "default");
        check("isset .ObjectMeta.Labels `app`", "true");
        check("includeInboundPorts .Spec.Containers", "80");
        check("excludeInboundPort 15020 `1, 2`", "1,2,15020");
        check("toJSON .ObjectMeta.Labels", r#"{"app":"web"}"#);
        check("structToJSON .Spec.SecurityContext", r#"{"fsGroup":7}"#);
        check("toYaml .Spec.SecurityContext", "fsGroup: 7\n");
        check("directory `/a/b`", "/a/");
        check("indent 2 `a\nb`", "a\n  b");
        check(
            "toJsonMap (strdict `a` `b`) .ObjectMeta.Labels",
            r#"{"a":"b","app":"web"}"#,
        );
        check(".ProxyUID", "1337");
    }

    #[test]
    fn what_cannot_be_rendered_keeps_the_pod_from_being_made() {
        let refused = |template: &str| inject(template).unwrap_err();
        assert!(refused("{{ if }}").contains("own"), "{}", refused("{{ if }}"));
        let unknown = refused("a: {{ env `HOME` `` }}");
        assert!(unknown.contains("\"env\" is not known"), "{unknown}");
        assert!(refused("a: [").contains("cannot be read"));
        assert!(refused("- a").contains("no part of a pod"));
    }
}
