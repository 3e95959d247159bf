//! What of an object no part of the mesh acts on, for whoever writes it: said when it is written, not only afterwards in its status.

use corten_api::{
    decode::SpannedObject,
    diagnostic::{Code, Diagnostic, Severity},
};
use serde_json::Value;

use super::authorization;
use crate::{
    input::{Object, ObjectKind, Reader},
    settings::Settings,
};

/// Nobody acts on objects of the kind.
pub const KIND_UNUSED: Code = Code("CRT0102");
/// Not everybody who might be meant acts on objects of the kind.
const KIND_OF_PROXIES: Code = Code("CRT0108");
/// Kinds that say what proxies of layer 7 do with requests.
const LAYER_7: [&str; 10] = [
    "VirtualService",
    "DestinationRule",
    "Gateway",
    "Sidecar",
    "RequestAuthentication",
    "EnvoyFilter",
    "Telemetry",
    "WasmPlugin",
    "TrafficExtension",
    "ProxyConfig",
];
/// A code of ours: an AuthorizationPolicy is not enforced as written.
const POLICY_DIFFERS: Code = Code("CRT0103");

/// The fields of an Istio object that the mesh does not honour, or the object itself where it honours none. Nothing is said about other
/// groups' kinds: other controllers act on them.
pub fn unhonoured(object: &Value, settings: &Settings) -> Vec<Diagnostic> {
    let spanned = SpannedObject::from_value(object);
    let (group, kind) = (spanned.reference.group(), spanned.reference.kind.as_str());
    if !group.ends_with(".istio.io") || corten_api::kind(group, kind).is_none() {
        return Vec::new();
    }
    let whole = |code, message: String| vec![spanned.diagnostic(code, Severity::Warning, "", message)];
    if LAYER_7.contains(&kind) {
        let message = format!(
            "{kind} takes effect where connections pass a sidecar or a gateway: node proxies work at layer 4 and do not act on it"
        );
        return whole(KIND_OF_PROXIES, message);
    }
    if ObjectKind::of(group, kind).is_none() {
        let message = format!("no part of the mesh acts on {kind}: the object is kept, and changes nothing");
        return whole(KIND_UNUSED, message);
    }
    let Some(Object::AuthorizationPolicy(policy)) = Reader::default().read(object).object else {
        return Vec::new();
    };
    let converted = authorization::convert(&policy, settings);
    if !converted.diagnostics.is_empty() {
        return converted.diagnostics;
    }
    let complaint = converted.complaint.into_iter();
    complaint
        .flat_map(|(_, message)| whole(POLICY_DIFFERS, message))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(api_version: &str, kind: &str, spec: Value, expect: &[&str]) {
        let object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "n"}, "spec": spec});
        let found = unhonoured(&object, &Settings::default());
        let said: Vec<String> = found.iter().map(|d| format!("{} {}", d.code, d.path)).collect();
        assert_eq!(said, expect, "{found:?}");
    }

    #[test]
    fn what_layer_4_cannot_do_is_said() {
        const POLICY: (&str, &str) = ("security.istio.io/v1", "AuthorizationPolicy");
        let methods = json!({"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]});
        check(
            POLICY.0,
            POLICY.1,
            methods.clone(),
            &["CRT0101 spec.rules[0].to[0].operation.methods"],
        );
        let mut attached = methods;
        attached["targetRefs"] = json!([{"kind": "Service", "group": "", "name": "a"}]);
        check(POLICY.0, POLICY.1, attached, &[]);
        check(POLICY.0, POLICY.1, json!({}), &[]);
        check(POLICY.0, POLICY.1, json!({"action": "AUDIT"}), &["CRT0103 "]);
        check("networking.istio.io/v1", "VirtualService", json!({}), &["CRT0108 "]);
        check("networking.istio.io/v1alpha3", "EnvoyFilter", json!({}), &["CRT0108 "]);
        check("networking.istio.io/v1", "WorkloadGroup", json!({}), &["CRT0102 "]);
        check("networking.istio.io/v1", "ServiceEntry", json!({}), &[]);
        check("gateway.networking.k8s.io/v1", "HTTPRoute", json!({}), &[]);
        check("example.org/v1", "Thing", json!({}), &[]);
    }
}
