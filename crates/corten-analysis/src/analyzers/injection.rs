//! Injection of sidecars: namespaces that do not say whether they want it, pods that lack it or have another proxy than they would get.

use std::collections::BTreeMap;

use corten_api::codec::{Cx, decode_over};
use corten_api::decode::document;
use corten_api::istio::{proxy_config::ProxyConfig, proxy_config_resource::ProxyConfigSpec};
use corten_api::kubernetes::core;
use corten_api::kubernetes::core::{ConfigMap, PodSpec};
use serde_json::Value;

use crate::catalogue::{self, list};
use crate::membership::{INJECT, INJECTION, MODE, PROXY, REVISION, containers};
use crate::objects::{Item, Labels, World};
use crate::report::Report;
use crate::selector;

const INJECTOR: &str = "istio-sidecar-injector";

/// The ConfigMap with the injector's settings for a revision.
fn injector_name(revision: &str) -> String {
    match revision {
        "" | "default" => INJECTOR.to_owned(),
        revision => format!("{INJECTOR}-{revision}"),
    }
}

fn values(map: &ConfigMap) -> Value {
    let text = map.data.as_ref().and_then(|data| data.get("values"));
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

pub(super) fn namespaces_and_pods(world: &World, report: &mut Report) {
    let mut injected: Vec<&str> = Vec::new();
    for namespace in &world.namespaces {
        if namespace.name() == "istio-system" {
            continue;
        }
        let label = |key: &str| namespace.labels.get(key).map(String::as_str);
        let (injection, revision) = (label(INJECTION), label(REVISION));
        let mut modes: Vec<String> = injection.iter().map(|value| format!("{INJECTION}={value}")).collect();
        for key in [REVISION, MODE] {
            // Where injection is off, the others decide.
            if let Some(value) = label(key).filter(|_| injection.is_none_or(|value| value == "enabled")) {
                modes.push(format!("{key}={value}"));
            }
        }
        if modes.len() > 1 {
            let kind = &catalogue::NAMESPACE_MULTIPLE_INJECTION_LABELS;
            report.add_once(kind, namespace, "metadata.labels", &[("labels", &list(modes))]);
        }
        if label(MODE) == Some("ambient") {
            continue;
        }
        if injection.unwrap_or_default().is_empty() && revision.is_none() {
            if injects_by_default(world) {
                report.add_once(&catalogue::NAMESPACE_INJECTION_ENABLED_BY_DEFAULT, namespace, "", &[]);
            } else {
                let parameters = [("namespace", namespace.name())];
                report.add(
                    &catalogue::NAMESPACE_NOT_INJECTED,
                    namespace,
                    "metadata.name",
                    &parameters,
                );
            }
        } else if injection == Some("enabled") {
            injected.push(namespace.name());
        }
    }
    for pod in &world.pods {
        if injected.contains(&pod.object.namespace()) && lacks_proxy(pod) {
            let name = pod.object.full_name();
            report.add_once(&catalogue::POD_MISSING_PROXY, &pod.object, "", &[("podName", &name)]);
        }
    }
}

fn injects_by_default(world: &World) -> bool {
    let map = world.config_maps.iter().find(|map| map.object.name() == INJECTOR);
    map.is_some_and(|map| values(&map.spec)["sidecarInjectorWebhook"]["enableNamespacesByDefault"] == true)
}

fn lacks_proxy(pod: &Item<core::Pod>) -> bool {
    let (labels, annotations) = (&pod.object.labels, &pod.object.annotations);
    let says = labels.get(INJECT).or_else(|| annotations.get(INJECT));
    let declined = says.is_some_and(|says| says.eq_ignore_ascii_case("false"));
    let Some(spec) = &pod.spec.spec else { return false };
    let mut proxies = containers(spec).filter(|container| container.name == PROXY);
    let has_image = proxies
        .next()
        .is_some_and(|proxy| proxy.image.as_ref().is_some_and(|image| !image.is_empty()));
    !declined && spec.host_network != Some(true) && !has_image
}

pub(super) fn images(world: &World, report: &mut Report) {
    let is_injector = |map: &&Item<ConfigMap>| map.object.name().starts_with(INJECTOR);
    let wanted: BTreeMap<&str, String> = world
        .config_maps
        .iter()
        .filter(is_injector)
        .map(|map| (map.object.name(), proxy_image(&values(&map.spec))))
        .collect();
    for namespace in &world.namespaces {
        let label = |key: &str| namespace.labels.get(key).map(String::as_str);
        let revision = match (label(REVISION), label(INJECTION)) {
            (Some(revision), _) => revision,
            (None, Some("enabled")) => "default",
            _ => continue,
        };
        let Some(image) = wanted.get(injector_name(revision).as_str()) else {
            continue;
        };
        let mut others: Vec<&str> = Vec::new();
        for pod in world
            .pods
            .iter()
            .filter(|pod| pod.object.namespace() == namespace.name())
        {
            // Who names an image gets that.
            let chosen = pod.object.annotations.get("sidecar.istio.io/proxyImage");
            if chosen.is_none_or(String::is_empty) {
                let of_type = format!("{image}-{}", image_type(pod, world));
                let spec = pod.spec.spec.iter();
                let proxies = spec.flat_map(containers).filter(|container| container.name == PROXY);
                let is_other = |image_now: &str| image_now != image.as_str() && image_now != of_type;
                let differing = proxies.filter(|proxy| is_other(proxy.image.as_deref().unwrap_or_default()));
                others.extend(differing.map(|_| pod.object.name()));
            }
        }
        if !others.is_empty() {
            others.sort_unstable();
            let kind = &catalogue::PODS_ISTIO_PROXY_IMAGE_MISMATCH_IN_NAMESPACE;
            report.add_once(kind, namespace, "", &[("podNames", &list(others))]);
        }
    }
}

/// The image that injection uses: a whole one, or a name with hub and tag.
fn proxy_image(values: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let global = &values["global"];
    let image = text(&global["proxy"]["image"]);
    if image.contains('/') {
        return image;
    }
    format!("{}/{image}:{}", text(&global["hub"]), text(&global["tag"]))
}

/// The type of image for a pod: the mesh's, that of the root namespace, of its own, of its workload, of its annotation; the last one counts.
fn image_type(pod: &Item<core::Pod>, world: &World) -> String {
    let mesh = &world.mesh_config;
    let root = match mesh.root_namespace.as_str() {
        "" => "istio-system",
        root => root,
    };
    let of_kind = |wanted: fn(&Item<ProxyConfigSpec>, &str, &Item<core::Pod>) -> bool| {
        let mut found = world
            .proxy_configs
            .iter()
            .filter(move |config| wanted(config, root, pod));
        // Only the last of its kind is in force.
        found
            .next_back()
            .and_then(|config| config.spec.image.as_ref())
            .map(|image| image.image_type.clone())
    };
    let of_workloads = world.proxy_configs.iter().filter(|config| {
        let wanted = config.spec.selector.as_ref().map(|selector| &selector.match_labels);
        config.object.namespace() != root
            && config.object.namespace() == pod.object.namespace()
            && wanted.is_some_and(|wanted| selector::matches(wanted, &pod.object.labels))
    });
    let annotated = pod.object.annotations.get("proxy.istio.io/config").and_then(|text| {
        let mut config = ProxyConfig::default();
        decode_over(&mut config, &document("", text).0?, &mut Cx::default());
        config.image
    });
    let default = mesh.default_config.as_ref().and_then(|config| config.image.as_ref());
    let mut chosen: Vec<String> = default.iter().map(|image| image.image_type.clone()).collect();
    chosen.extend(of_kind(|config, root, _| config.object.namespace() == root));
    chosen.extend(of_kind(|config, root, pod| {
        let namespace = config.object.namespace();
        namespace != root && namespace == pod.object.namespace() && config.spec.selector.is_none()
    }));
    chosen.extend(of_workloads.filter_map(|config| Some(config.spec.image.as_ref()?.image_type.clone())));
    chosen.extend(annotated.map(|image| image.image_type));
    let last = chosen.into_iter().rfind(|kind| !kind.is_empty()).unwrap_or_default();
    if last == "default" { String::new() } else { last }
}

pub(super) fn automatic_images(world: &World, report: &mut Report) {
    for pod in &world.pods {
        // A pod that still says so was not injected.
        if pod.spec.spec.as_ref().is_some_and(has_automatic_image) {
            let parameters = [("resourceType", "Pod"), ("resourceName", pod.object.name())];
            report.add_once(
                &catalogue::IMAGE_AUTO_WITHOUT_INJECTION_ERROR,
                &pod.object,
                "",
                &parameters,
            );
        }
    }
    let webhooks = || {
        world
            .mutating_webhooks
            .iter()
            .flat_map(|item| item.spec.webhooks.iter().flatten())
    };
    let nothing = Labels::new();
    for deployment in &world.deployments {
        let Some(template) = deployment.spec.spec.as_ref().map(|spec| &spec.template) else {
            continue;
        };
        if !template.spec.as_ref().is_some_and(has_automatic_image) {
            continue;
        }
        let namespace = match deployment.object.namespace() {
            "" => "default",
            namespace => namespace,
        };
        let of_namespace = world
            .namespace(namespace)
            .map_or(&nothing, |namespace| &namespace.labels);
        let labels = template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.as_ref())
            .unwrap_or(&nothing);
        let injected = webhooks()
            .filter(|webhook| webhook.name.ends_with("istio.io"))
            .any(|webhook| {
                selector::selects(webhook.namespace_selector.as_ref(), of_namespace)
                    && selector::selects(webhook.object_selector.as_ref(), labels)
            });
        if !injected {
            let parameters = [
                ("resourceType", "Deployment"),
                ("resourceName", deployment.object.name()),
            ];
            report.add_once(
                &catalogue::IMAGE_AUTO_WITHOUT_INJECTION_WARNING,
                &deployment.object,
                "",
                &parameters,
            );
        }
    }
}

fn has_automatic_image(pod: &PodSpec) -> bool {
    let is_it = |container: &core::Container| container.name == PROXY && container.image.as_deref() == Some("auto");
    pod.containers.iter().any(is_it)
}
