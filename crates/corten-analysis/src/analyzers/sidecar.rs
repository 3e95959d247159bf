//! Sidecars: selectors of nothing, several for one pod or namespace, and those where there is no sidecar.

use std::collections::BTreeMap;

use corten_api::istio::sidecar::SidecarSpec;

use crate::catalogue::{self, list};
use crate::membership::{namespace_is_ambient, pod_is_ambient};
use crate::objects::{Item, World};
use crate::report::Report;
use crate::selector;

fn names(sidecars: &[&Item<SidecarSpec>]) -> String {
    let mut names: Vec<&str> = sidecars.iter().map(|sidecar| sidecar.object.name()).collect();
    names.sort_unstable();
    list(names)
}

/// What selects a pod.
#[derive(Default)]
struct Selected<'a> {
    pod_is_ambient: bool,
    sidecars: Vec<&'a Item<SidecarSpec>>,
}

pub(super) fn selectors(world: &World, report: &mut Report) {
    let mut of_namespaces: BTreeMap<&str, Vec<&Item<SidecarSpec>>> = BTreeMap::new();
    let mut of_pods: BTreeMap<(&str, &str), Selected<'_>> = BTreeMap::new();
    for sidecar in &world.sidecars {
        let namespace = sidecar.object.namespace();
        let wanted = sidecar.spec.workload_selector.as_ref().map(|selector| &selector.labels);
        let Some(wanted) = wanted.filter(|labels| !labels.is_empty()) else {
            of_namespaces.entry(namespace).or_default().push(sidecar);
            continue;
        };
        let mut found = false;
        for pod in world.pods.iter().filter(|pod| pod.object.namespace() == namespace) {
            if selector::matches(wanted, &pod.object.labels) {
                found = true;
                let place = of_pods.entry(pod.object.key()).or_default();
                place.pod_is_ambient = pod_is_ambient(&pod.object);
                place.sidecars.push(sidecar);
            }
        }
        if !found {
            let path = selector::path("spec.workloadSelector.labels", wanted);
            let parameters = [("reftype", "selector"), ("refval", &*selector::text(wanted))];
            report.add(
                &catalogue::REFERENCED_RESOURCE_NOT_FOUND,
                &sidecar.object,
                &path,
                &parameters,
            );
        }
    }
    for (
        (namespace, pod),
        Selected {
            pod_is_ambient,
            sidecars,
        },
    ) in &of_pods
    {
        for sidecar in sidecars {
            if *pod_is_ambient {
                // There is no sidecar to be configured, so there is no conflict either.
                let reason = "selected workload is in ambient mode, the policy has no impact";
                report.add_once(
                    &catalogue::INEFFECTIVE_POLICY,
                    &sidecar.object,
                    "",
                    &[("reason", reason)],
                );
            } else if sidecars.len() > 1 {
                let parameters = [
                    ("conflictingSidecars", &*names(sidecars)),
                    ("namespace", *namespace),
                    ("workloadPod", *pod),
                ];
                let kind = &catalogue::CONFLICTING_SIDECAR_WORKLOAD_SELECTORS;
                report.add(kind, &sidecar.object, "metadata.name", &parameters);
            }
        }
    }
    for (namespace, sidecars) in &of_namespaces {
        let ambient = world
            .namespace(namespace)
            .is_some_and(|namespace| namespace_is_ambient(namespace));
        for sidecar in sidecars {
            if ambient {
                let reason = "namespace is in ambient mode, the policy has no impact";
                report.add_once(
                    &catalogue::INEFFECTIVE_POLICY,
                    &sidecar.object,
                    "",
                    &[("reason", reason)],
                );
            } else if sidecars.len() > 1 {
                let parameters = [("conflictingSidecars", &*names(sidecars)), ("namespace", *namespace)];
                let kind = &catalogue::MULTIPLE_SIDECARS_WITHOUT_WORKLOAD_SELECTORS;
                report.add_once(kind, &sidecar.object, "", &parameters);
            }
        }
    }
}
