//! Kubernetes Gateways: selectors that have no effect on them, and definitions of the Gateway API that are too old.

use std::sync::Arc;

use corten_api::istio::selector::WorkloadSelector;

use crate::catalogue;
use crate::objects::{Object, World};
use crate::report::Report;
use crate::selector;

const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";

const UNRELEASED: &str = "0.0.0-dev";

/// The oldest version of a definition with which its objects are taken.
const OLDEST: [(&str, [u64; 3]); 4] = [
    ("grpcroutes.gateway.networking.k8s.io", [1, 1, 0]),
    ("backendtlspolicies.gateway.networking.k8s.io", [1, 4, 0]),
    ("tlsroutes.gateway.networking.k8s.io", [1, 5, 0]),
    ("tcproutes.gateway.networking.k8s.io", [1, 6, 0]),
];

pub(super) fn selectors(world: &World, report: &mut Report) {
    let mut check = |object: &Arc<Object>, wanted: &Option<WorkloadSelector>, has_target: bool| {
        let Some(wanted) = wanted.as_ref().filter(|_| !has_target) else {
            return;
        };
        for pod in world
            .pods
            .iter()
            .filter(|pod| pod.object.namespace() == object.namespace())
        {
            if let Some(gateway) = pod.object.labels.get(GATEWAY_NAME)
                && selector::matches(&wanted.match_labels, &pod.object.labels)
            {
                let parameters = [("gateway", gateway.as_str())];
                report.add_once(&catalogue::INEFFECTIVE_SELECTOR, object, "spec.selector", &parameters);
            }
        }
    };
    for item in &world.authorization_policies {
        check(&item.object, &item.spec.selector, item.spec.target_ref.is_some());
    }
    for item in &world.request_authentications {
        check(&item.object, &item.spec.selector, item.spec.target_ref.is_some());
    }
    for item in &world.telemetries {
        check(&item.object, &item.spec.selector, item.spec.target_ref.is_some());
    }
    for item in &world.wasm_plugins {
        check(&item.object, &item.spec.selector, item.spec.target_ref.is_some());
    }
}

pub(super) fn definitions(world: &World, report: &mut Report) {
    for definition in &world.definitions {
        let Some((name, oldest)) = OLDEST.iter().find(|(name, _)| *name == definition.name()) else {
            continue;
        };
        let installed = definition.annotations.get(BUNDLE_VERSION);
        let Some((installed, numbers)) = installed.and_then(|text| version(text)) else {
            continue;
        };
        // Definitions that were made from no release say nothing of their age.
        if installed != UNRELEASED && numbers < *oldest {
            let parameters = [
                ("crd", *name),
                ("installedVersion", &*installed),
                ("minimumVersion", &*oldest.map(|number| number.to_string()).join(".")),
            ];
            let path = format!("metadata.annotations[{BUNDLE_VERSION}]");
            report.add_once(
                &catalogue::GATEWAY_API_CRD_VERSION_BELOW_MINIMUM,
                definition,
                &path,
                &parameters,
            );
        }
    }
}

/// A version as it is shown, and its three numbers; what is left out is 0. A release candidate counts as its release.
fn version(text: &str) -> Option<(String, [u64; 3])> {
    let text = text.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let mut numbers = [0; 3];
    let parts: Vec<&str> = core.split('.').collect();
    if parts.len() > numbers.len() {
        return None;
    }
    for (number, part) in numbers.iter_mut().zip(&parts) {
        *number = part.parse().ok()?;
    }
    Some((numbers.map(|number| number.to_string()).join(".") + rest, numbers))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_read() {
        for (text, expected) in [
            ("v1.4.0", Some(("1.4.0", [1, 4, 0]))),
            ("1.5", Some(("1.5.0", [1, 5, 0]))),
            ("v1.6.0-rc.1", Some(("1.6.0-rc.1", [1, 6, 0]))),
            ("v1.x", None),
            ("", None),
            ("1.2.3.4", None),
        ] {
            let expected = expected.map(|(text, numbers)| (text.to_owned(), numbers));
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
