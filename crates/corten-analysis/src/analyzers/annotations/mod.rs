//! Annotations of Istio on Kubernetes' objects: unknown, misplaced, deprecated, invalid, unsettled.

mod known;
mod values;

use std::sync::Arc;

use crate::catalogue;
use crate::objects::{Object, World};
use crate::report::Report;

/// Written by the control plane itself.
const OURS: [&str; 3] = [
    "sidecar.istio.io/status",
    "gateway.istio.io/controller-version",
    "istio.io/rev",
];
/// Written into pods by injection where the CNI plugin redirects.
const OF_INJECTION: [&str; 4] = [
    "sidecar.istio.io/interceptionMode",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
];
const INJECT: &str = "sidecar.istio.io/inject";

fn objects(world: &World) -> impl Iterator<Item = &Arc<Object>> {
    let services = world.services.iter().map(|item| &item.object);
    let pods = world.pods.iter().map(|item| &item.object);
    let deployments = world.deployments.iter().map(|item| &item.object);
    world.namespaces.iter().chain(services).chain(pods).chain(deployments)
}

/// Whether an annotation is Istio's business; one of Kubernetes' own is.
fn is_istios(name: &str) -> bool {
    let domain = name.split('/').next().unwrap_or_default();
    name == "kubernetes.io/ingress.class" || domain.ends_with("istio.io")
}

pub(super) fn known(world: &World, report: &mut Report) {
    for object in objects(world) {
        for (name, value) in &object.annotations {
            if is_istios(name) && !OURS.contains(&name.as_str()) {
                check(object, name, value, report);
            }
        }
    }
}

fn check(object: &Arc<Object>, name: &str, value: &str, report: &mut Report) {
    let path = format!("metadata.annotations[{name}]");
    let Some(annotation) = known::find(name) else {
        report.add(&catalogue::UNKNOWN_ANNOTATION, object, &path, &[("annotation", name)]);
        return;
    };
    // Who writes the label, too, knows that the annotation is deprecated.
    if annotation.is_deprecated && !(name == INJECT && object.labels.contains_key(INJECT)) {
        let extra = if name == INJECT {
            r#" in favor of the "sidecar.istio.io/inject" label"#
        } else {
            ""
        };
        let parameters = [("annotation", name), ("extra", extra)];
        report.add(&catalogue::DEPRECATED_ANNOTATION, object, &path, &parameters);
    }
    let kind = object.spanned.reference.kind.as_str();
    if annotation.kinds.contains(&"Any") {
        return;
    }
    if !annotation.kinds.contains(&kind) {
        let kinds = annotation.kinds.join(", ");
        let parameters = [("annotation", name), ("kind", &*kinds)];
        report.add(&catalogue::MISPLACED_ANNOTATION, object, &path, &parameters);
    } else if let Err(problem) = values::check(name, value) {
        let parameters = [("annotation", name), ("problem", &*problem)];
        report.add(&catalogue::INVALID_ANNOTATION, object, &path, &parameters);
    }
}

pub(super) fn alpha(world: &World, report: &mut Report) {
    let redirected_by_plugin = |object: &Object| {
        let pod = world.pods.iter().find(|pod| std::ptr::eq(&*pod.object, object));
        pod.is_some_and(|pod| {
            let before = pod
                .spec
                .spec
                .iter()
                .flat_map(|spec| spec.init_containers.iter().flatten());
            !before.into_iter().any(|container| container.name == "istio-init")
        })
    };
    for object in objects(world) {
        let by_plugin = redirected_by_plugin(object);
        for name in object.annotations.keys().map(String::as_str) {
            let written_by_us = OURS.contains(&name) || (by_plugin && OF_INJECTION.contains(&name));
            if is_istios(name) && !written_by_us && known::find(name).is_some_and(|annotation| annotation.is_alpha) {
                let path = format!("metadata.annotations[{name}]");
                report.add(&catalogue::ALPHA_ANNOTATION, object, &path, &[("annotation", name)]);
            }
        }
    }
}
