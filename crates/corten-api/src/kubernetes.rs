//! Kubernetes' own kinds that a mesh touches: Pods, Services, Namespaces and so on.
//!
//! The types are the ecosystem's (`k8s-openapi`), generated from Kubernetes' own definitions; only the way to them is
//! ours: with diagnostics that have a place, and with the rest of an object usable when a field is not.

pub use k8s_openapi::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, batch::v1 as batch, coordination::v1 as coordination,
    core::v1 as core, discovery::v1 as discovery, networking::v1 as networking, rbac::v1 as rbac,
};
pub use k8s_openapi::apimachinery::pkg::{apis::meta::v1 as meta, util::intstr::IntOrString};

use corten_schema::{Schema, kubernetes::schema, prune::unknown_fields, validate::validate};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    decode::{SpannedObject, remove},
    diagnostic::{Code, Diagnostic, Severity},
};

/// Whether this is an object of a built-in kind.
pub fn is_known(object: &SpannedObject) -> bool {
    schema_of(object).is_some()
}

fn schema_of(object: &SpannedObject) -> Option<&'static Schema> {
    schema(
        object.reference.group(),
        object.reference.version(),
        &object.reference.kind,
    )
}

/// What is wrong with the form of an object of a built-in kind; nothing for others.
pub fn check(object: &SpannedObject) -> Vec<Diagnostic> {
    examine(object, &given(object)).0
}

/// Decodes an object of a built-in kind. Fields that are not usable are left out; `None`: too little is left.
pub fn decode<T: DeserializeOwned>(object: &SpannedObject) -> (Option<T>, Vec<Diagnostic>) {
    let mut value = given(object);
    let (mut diagnostics, unusable) = examine(object, &value);
    for path in unusable.iter().rev() {
        remove(&mut value, path);
    }
    match serde_json::from_value(value) {
        Ok(decoded) => (Some(decoded), diagnostics),
        Err(error) => {
            diagnostics.push(object.diagnostic(Code::WRONG_TYPE, Severity::Error, "", format!("not usable: {error}")));
            (None, diagnostics)
        }
    }
}

/// The object without members that are `null`, which Kubernetes takes for absent.
fn given(object: &SpannedObject) -> Value {
    fn drop_nulls(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|_, member| !member.is_null());
                map.values_mut().for_each(drop_nulls);
            }
            Value::Array(items) => items.iter_mut().for_each(drop_nulls),
            _ => {}
        }
    }
    let mut value = object.to_value();
    drop_nulls(&mut value);
    value
}

/// The diagnostics of an object, and the paths of the values that are wrong.
fn examine(object: &SpannedObject, value: &Value) -> (Vec<Diagnostic>, Vec<String>) {
    let Some(schema) = schema_of(object) else {
        return (Vec::new(), Vec::new());
    };
    let unknown = unknown_fields(schema, value).into_iter().map(|path| {
        let message = "unknown field; remove it, or see whether it belongs elsewhere";
        object.diagnostic(Code::UNKNOWN_FIELD, Severity::Warning, &path, message)
    });
    let mut diagnostics: Vec<Diagnostic> = unknown.collect();
    let mut unusable = Vec::new();
    for error in validate(schema, value, None) {
        let text = error.to_string();
        let message = text.strip_prefix(&format!("{}: ", error.path)).unwrap_or(&text);
        diagnostics.push(object.diagnostic(Code::INVALID, Severity::Error, &error.path, message));
        unusable.push(error.path);
    }
    (diagnostics, unusable)
}

#[cfg(test)]
mod tests {
    use super::{core::Service, decode};
    use crate::decode::objects;

    #[test]
    fn what_is_wrong_is_left_out_and_reported() {
        let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  clusterIPs: 5\n  selektor: {app: a}\n  selector: {app: a}\n  ports:\n  - port: 80\n";
        let (found, _) = objects("f.yaml", text);
        let (service, diagnostics) = decode::<Service>(&found[0]);
        let places: Vec<String> = diagnostics
            .iter()
            .map(|d| {
                format!(
                    "{} {} {}",
                    d.location.as_ref().map_or_else(String::new, ToString::to_string),
                    d.severity,
                    d.path
                )
            })
            .collect();
        assert_eq!(
            places,
            ["f.yaml:7:3 warning spec.selektor", "f.yaml:6:3 error spec.clusterIPs"]
        );
        let spec = service.and_then(|s| s.spec).unwrap_or_default();
        assert_eq!(spec.ports.map(|ports| ports.len()), Some(1));
        assert_eq!(spec.cluster_ips, None);
    }
}
