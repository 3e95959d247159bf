//! Which pods are in the mesh, as far as objects show it.

use corten_api::kubernetes::core::{Container, PodSpec};

use crate::objects::{Item, Labels, Object, World};
use corten_api::kubernetes::{apps, core};

pub(crate) const INJECTION: &str = "istio-injection";
pub(crate) const REVISION: &str = "istio.io/rev";
pub(crate) const MODE: &str = "istio.io/dataplane-mode";
pub(crate) const INJECT: &str = "sidecar.istio.io/inject";
pub(crate) const PROXY: &str = "istio-proxy";
const REDIRECTION: &str = "ambient.istio.io/redirection";

/// The containers of a pod, and those that begin before them.
pub(crate) fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.containers.iter().chain(pod.init_containers.iter().flatten())
}

/// Whether an object belongs to the control plane, and not to a user.
pub(crate) fn is_control_plane(object: &Object) -> bool {
    object.labels.contains_key("istio") || object.labels.get("release").is_some_and(|release| release == "istio")
}

/// Whether a pod is in ambient mode: its traffic is redirected to the node's proxy.
pub(crate) fn pod_is_ambient(pod: &Object) -> bool {
    pod.annotations.get(REDIRECTION).is_some_and(|value| value == "enabled")
}

/// Whether a namespace asks for ambient mode, and not for sidecars.
pub(crate) fn namespace_is_ambient(namespace: &Object) -> bool {
    let label = |key: &str| namespace.labels.get(key).map_or("", String::as_str);
    label(INJECTION) != "enabled" && label(REVISION).is_empty() && label(MODE) == "ambient"
}

/// Whether a pod has a sidecar, or would get one.
pub(crate) fn pod_has_sidecar(pod: &Item<core::Pod>, world: &World) -> bool {
    let of_pod = pod.spec.spec.iter().flat_map(containers);
    is_injected(
        &pod.object.annotations,
        &pod.object.labels,
        pod.object.namespace(),
        of_pod,
        world,
    )
}

/// Whether the pods of a Deployment have a sidecar, or would get one.
pub(crate) fn deployment_has_sidecar(deployment: &Item<apps::Deployment>, world: &World) -> bool {
    let Some(spec) = &deployment.spec.spec else {
        return false;
    };
    let nothing = Labels::new();
    let metadata = spec.template.metadata.as_ref();
    let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
    let labels = metadata.and_then(|metadata| metadata.labels.as_ref());
    let of_pod = spec.template.spec.iter().flat_map(|pod| &pod.containers);
    let namespace = deployment.object.namespace();
    is_injected(
        annotations.unwrap_or(&nothing),
        labels.unwrap_or(&nothing),
        namespace,
        of_pod,
        world,
    )
}

fn is_injected<'a>(
    annotations: &Labels,
    labels: &Labels,
    namespace: &str,
    mut containers: impl Iterator<Item = &'a Container>,
    world: &World,
) -> bool {
    let proxy = containers.find(|container| container.name == PROXY);
    if proxy.is_some_and(|proxy| proxy.image.as_ref().is_some_and(|image| !image.is_empty())) {
        return true;
    }
    if let Some(says) = labels.get(INJECT).or_else(|| annotations.get(INJECT)) {
        return says == "true";
    }
    let namespace = world.namespace(namespace);
    namespace.is_some_and(|namespace| namespace.labels.get(INJECTION).is_some_and(|says| says == "enabled"))
}
