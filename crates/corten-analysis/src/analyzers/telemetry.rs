//! Telemetries: selectors of nothing, several for one pod or namespace, providers that are missing or on their way out.

use std::collections::BTreeMap;

use corten_api::istio::extension_providers::MeshConfigExtensionProviderProvider;
use corten_api::istio::telemetry::TelemetrySpec;

use crate::catalogue::{self, list};
use crate::objects::{Item, World};
use crate::report::Report;
use crate::selector;

fn names(telemetries: &[&Item<TelemetrySpec>]) -> String {
    let mut names: Vec<&str> = telemetries.iter().map(|telemetry| telemetry.object.name()).collect();
    names.sort_unstable();
    list(names)
}

pub(super) fn providers(world: &World, report: &mut Report) {
    let defaults = world.mesh_config.default_providers.as_ref();
    if defaults.is_some_and(|providers| !providers.access_logging.is_empty()) {
        return;
    }
    for telemetry in &world.telemetries {
        for (index, logging) in telemetry.spec.access_logging.iter().enumerate() {
            if logging.disabled != Some(true) && logging.providers.is_empty() {
                let parameters = [
                    ("name", telemetry.object.name()),
                    ("namespace", telemetry.object.namespace()),
                ];
                let path = format!("spec.accessLogging[{index}]");
                report.add_once(
                    &catalogue::INVALID_TELEMETRY_PROVIDER,
                    &telemetry.object,
                    &path,
                    &parameters,
                );
            }
        }
    }
}

pub(super) fn lightstep(world: &World, report: &mut Report) {
    let is_it = |name: &str| {
        let mut providers = world
            .mesh_config
            .extension_providers
            .iter()
            .filter(|provider| provider.name == name);
        let lightstep = |provider: &Option<MeshConfigExtensionProviderProvider>| {
            matches!(provider, Some(MeshConfigExtensionProviderProvider::Lightstep(_)))
        };
        providers.any(|provider| lightstep(&provider.provider))
    };
    for telemetry in &world.telemetries {
        for (i, tracing) in telemetry.spec.tracing.iter().enumerate() {
            for (j, provider) in tracing.providers.iter().enumerate() {
                if is_it(&provider.name) {
                    let detail = format!(
                        "The Lightstep provider {} is deprecated, please migrate to OpenTelemetry provider.",
                        provider.name
                    );
                    let path = format!("spec.tracing[{i}].providers[{j}].name");
                    report.add_once(&catalogue::DEPRECATED, &telemetry.object, &path, &[("detail", &detail)]);
                }
            }
        }
    }
}

pub(super) fn selectors(world: &World, report: &mut Report) {
    let mut of_pods: BTreeMap<(&str, &str), Vec<&Item<TelemetrySpec>>> = BTreeMap::new();
    for telemetry in &world.telemetries {
        let wanted = telemetry.spec.selector.as_ref().map(|selector| &selector.match_labels);
        let Some(wanted) = wanted.filter(|labels| !labels.is_empty()) else {
            continue;
        };
        let mut found = false;
        for pod in world
            .pods
            .iter()
            .filter(|pod| pod.object.namespace() == telemetry.object.namespace())
        {
            if selector::matches(wanted, &pod.object.labels) {
                found = true;
                of_pods.entry(pod.object.key()).or_default().push(telemetry);
            }
        }
        if !found {
            let path = selector::path("spec.selector.matchLabels", wanted);
            let parameters = [("reftype", "selector"), ("refval", &*selector::text(wanted))];
            report.add(
                &catalogue::REFERENCED_RESOURCE_NOT_FOUND,
                &telemetry.object,
                &path,
                &parameters,
            );
        }
    }
    for ((namespace, pod), telemetries) in of_pods.iter().filter(|(_, list)| list.len() > 1) {
        for telemetry in telemetries {
            let parameters = [
                ("conflictingTelemetries", &*names(telemetries)),
                ("namespace", *namespace),
                ("workloadPod", *pod),
            ];
            let kind = &catalogue::CONFLICTING_TELEMETRY_WORKLOAD_SELECTORS;
            report.add(kind, &telemetry.object, "metadata.name", &parameters);
        }
    }
}

pub(super) fn namespace_wide(world: &World, report: &mut Report) {
    let mut of_namespaces: BTreeMap<&str, Vec<&Item<TelemetrySpec>>> = BTreeMap::new();
    for telemetry in world
        .telemetries
        .iter()
        .filter(|telemetry| telemetry.spec.selector.is_none())
    {
        of_namespaces
            .entry(telemetry.object.namespace())
            .or_default()
            .push(telemetry);
    }
    for (namespace, telemetries) in of_namespaces.iter().filter(|(_, list)| list.len() > 1) {
        for telemetry in telemetries {
            let parameters = [
                ("conflictingTelemetries", &*names(telemetries)),
                ("namespace", *namespace),
            ];
            let kind = &catalogue::MULTIPLE_TELEMETRIES_WITHOUT_WORKLOAD_SELECTORS;
            report.add_once(kind, &telemetry.object, "", &parameters);
        }
    }
}
