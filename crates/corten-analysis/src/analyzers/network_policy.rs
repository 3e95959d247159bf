//! NetworkPolicies beside the mesh.

use serde_json::Value;

use super::{Input, NAMESPACE, NETWORK_POLICY, POD};
use crate::beside::{self, Objects};
use crate::objects::World;
use crate::report::Report;

pub(super) fn check(world: &World, report: &mut Report) {
    let of = |input: Input| {
        world
            .all
            .iter()
            .filter(move |object| object.is(input.group, input.kind))
    };
    if of(NETWORK_POLICY).next().is_none() {
        return;
    }
    let values = |input: Input| -> Vec<Value> {
        let value = |mut value: Value, namespace: &str| {
            value["metadata"]["namespace"] = namespace.into();
            value
        };
        of(input)
            .map(|object| value(object.spanned.to_value(), object.namespace()))
            .collect()
    };
    let found = beside::network_policies(Objects {
        namespaces: &values(NAMESPACE),
        pods: &values(POD),
        network_policies: &values(NETWORK_POLICY),
    });
    for diagnostic in found {
        let Some(about) = diagnostic.object else { continue };
        let key = (about.namespace.as_str(), about.name.as_str());
        if let Some(object) = of(NETWORK_POLICY).find(|object| object.key() == key) {
            let text = match diagnostic.path.as_str() {
                "" => diagnostic.message,
                path => format!("{path}: {}", diagnostic.message),
            };
            report.add_text(diagnostic.code, diagnostic.severity, object, &diagnostic.path, text);
        }
    }
}
