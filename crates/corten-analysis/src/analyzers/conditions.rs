//! Conditions in status by which controllers say that something is wrong.

use corten_api::decode::Node;

use super::{
    AUTHORIZATION_POLICY, GRPC_ROUTE, HTTP_ROUTE, Input, KUBERNETES_GATEWAY, SERVICE, SERVICE_ENTRY, WORKLOAD_ENTRY,
};
use crate::catalogue;
use crate::objects::World;
use crate::report::Report;

const BOUND: &[&str] = &["istio.io/WaypointBound"];
const POLICY: &[&str] = &["ZtunnelAccepted", "WaypointAccepted"];
const GATEWAY_API: &[&str] = &["Accepted", "Programmed", "ResolvedRefs"];

/// The conditions that are bad when they are false, by kind.
const BAD_WHEN_FALSE: [(Input, &[&str]); 7] = [
    (SERVICE, BOUND),
    (SERVICE_ENTRY, BOUND),
    (WORKLOAD_ENTRY, BOUND),
    (AUTHORIZATION_POLICY, POLICY),
    (KUBERNETES_GATEWAY, GATEWAY_API),
    (HTTP_ROUTE, GATEWAY_API),
    (GRPC_ROUTE, GATEWAY_API),
];

pub(super) fn check(world: &World, report: &mut Report) {
    for (input, bad) in BAD_WHEN_FALSE {
        let objects = world.all.iter().filter(|object| object.is(input.group, input.kind));
        for object in objects {
            let Some(status) = object.spanned.root.get("status") else {
                continue;
            };
            for (path, condition) in conditions(status) {
                let text = |field: &str| condition.get(field).and_then(Node::as_str).unwrap_or_default();
                let kind = text("type");
                // A waypoint that takes a part of a policy says so by the reason.
                let in_part =
                    input == AUTHORIZATION_POLICY && kind == "WaypointAccepted" && text("reason") == "PartiallyInvalid";
                if in_part || (bad.contains(&kind) && text("status") == "False") {
                    let parameters = [
                        ("conditionType", kind),
                        ("reason", text("reason")),
                        ("message", text("message")),
                    ];
                    report.add_once(&catalogue::NEGATIVE_CONDITION_STATUS, object, &path, &parameters);
                }
            }
        }
    }
}

/// The conditions of an object and of its parents, with their paths.
fn conditions(status: &Node) -> Vec<(String, &Node)> {
    let parents = status.get("parents").map_or(&[][..], Node::items).iter().enumerate();
    let parents = parents.map(|(index, parent)| (format!("status.parents[{index}]"), parent));
    let holders = std::iter::once(("status".to_owned(), status)).chain(parents);
    let mut found = Vec::new();
    for (path, holder) in holders {
        let list = holder.get("conditions").map_or(&[][..], Node::items);
        let placed = |(index, condition)| (format!("{path}.conditions[{index}]"), condition);
        found.extend(list.iter().enumerate().map(placed));
    }
    found
}
