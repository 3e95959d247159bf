//! Patches of EnvoyFilters that do nothing, or that depend on what others did before them.

use std::collections::BTreeSet;

use corten_api::istio::envoy_filter::{
    EnvoyConfigObjectMatchObjectTypes, EnvoyConfigObjectPatch, EnvoyFilterApplyTo as ApplyTo,
    EnvoyFilterPatchOperation as Operation,
};

use crate::catalogue::{self, MessageType};
use crate::objects::World;
use crate::report::Report;

pub(super) fn check(world: &World, report: &mut Report) {
    // Names of filters that some versions of the proxy alone get, as far as they came up.
    let mut of_versions: BTreeSet<String> = BTreeSet::new();
    for filter in &world.envoy_filters {
        for (index, patch) in filter.spec.config_patches.iter().enumerate() {
            let Some(operation) = patch.patch.as_ref().map(|patch| patch.operation) else {
                break;
            };
            let name = filter_name(patch);
            let depends = filter.spec.priority == 0;
            let by_version = of_versions.contains(&name);
            if let Some(kind) = judged(operation, patch.apply_to, depends, by_version) {
                let path = format!("spec.configPatches[{index}].patch.value");
                report.add(kind, &filter.object, &path, &[]);
            }
            let proxy = patch.match_.as_ref().and_then(|found| found.proxy.as_ref());
            if proxy.is_some_and(|proxy| !proxy.proxy_version.is_empty()) {
                of_versions.insert(name);
            }
        }
    }
}

fn judged(operation: Operation, to: ApplyTo, depends: bool, by_version: bool) -> Option<&'static MessageType> {
    let of_routes = matches!(to, ApplyTo::RouteConfiguration | ApplyTo::HttpRoute);
    let relative = || {
        let kind = if by_version {
            &catalogue::ENVOY_FILTER_USES_RELATIVE_OPERATION_WITH_PROXY_VERSION
        } else {
            &catalogue::ENVOY_FILTER_USES_RELATIVE_OPERATION
        };
        depends.then_some(kind)
    };
    match operation {
        Operation::Add => of_routes.then_some(&catalogue::ENVOY_FILTER_USES_ADD_OPERATION_INCORRECTLY),
        Operation::Remove if of_routes => Some(&catalogue::ENVOY_FILTER_USES_REMOVE_OPERATION_INCORRECTLY),
        Operation::Replace if !matches!(to, ApplyTo::NetworkFilter | ApplyTo::HttpFilter | ApplyTo::VirtualHost) => {
            Some(&catalogue::ENVOY_FILTER_USES_REPLACE_OPERATION_INCORRECTLY)
        }
        Operation::Remove | Operation::Replace | Operation::InsertBefore | Operation::InsertAfter => relative(),
        _ => None,
    }
}

/// The name of the filter that a patch brings, or that it is put beside.
fn filter_name(patch: &EnvoyConfigObjectPatch) -> String {
    let Some(value) = patch.patch.as_ref().and_then(|patch| patch.value.as_ref()) else {
        return String::new();
    };
    if let Some(name) = value.0.get("name") {
        return name.to_string();
    }
    let types = patch.match_.as_ref().and_then(|found| found.object_types.as_ref());
    let Some(EnvoyConfigObjectMatchObjectTypes::Listener(listener)) = types else {
        return String::new();
    };
    let filter = listener.filter_chain.as_ref().and_then(|chain| chain.filter.as_ref());
    filter.map(|filter| filter.name.clone()).unwrap_or_default()
}
