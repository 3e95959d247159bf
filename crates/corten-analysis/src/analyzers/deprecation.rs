//! Fields and kinds that are no longer meant to be used.

use corten_api::decode::Node;

use crate::catalogue::DEPRECATED;
use crate::objects::World;
use crate::report::Report;

const REMOVED_GROUP: &str = "rbac.istio.io";
const REMOVED_KINDS: [&str; 4] = ["ClusterRbacConfig", "RbacConfig", "ServiceRole", "ServiceRoleBinding"];

pub(super) fn check(world: &World, report: &mut Report) {
    for service in &world.virtual_services {
        for (index, route) in service.spec.http.iter().enumerate() {
            let delay = route.fault.as_ref().and_then(|fault| fault.delay.as_ref());
            if delay.is_some_and(|delay| delay.percent > 0) {
                let path = format!("spec.http[{index}].fault.delay.percent");
                let detail = "HTTPRoute.fault.delay.percent is deprecated; use HTTPRoute.fault.delay.percentage";
                report.add_once(&DEPRECATED, &service.object, &path, &[("detail", detail)]);
            }
        }
    }
    for sidecar in &world.sidecars {
        let policy = sidecar.spec.outbound_traffic_policy.as_ref();
        if policy.is_some_and(|policy| policy.egress_proxy.is_some()) {
            let path = "spec.outboundTrafficPolicy.egressProxy";
            let detail = "OutboundTrafficPolicy.EgressProxy ignored";
            report.add_once(&DEPRECATED, &sidecar.object, path, &[("detail", detail)]);
        }
    }
    for definition in &world.definitions {
        let spec = definition.spanned.root.get("spec");
        let group = spec.and_then(|spec| spec.get("group")).and_then(Node::as_str);
        let kind = spec
            .and_then(|spec| spec.get("names")?.get("kind"))
            .and_then(Node::as_str);
        if let Some(kind) = kind.filter(|kind| group == Some(REMOVED_GROUP) && REMOVED_KINDS.contains(kind)) {
            let detail = format!("Custom resource type {REMOVED_GROUP} {kind} is removed");
            report.add_once(&DEPRECATED, definition, "spec.names.kind", &[("detail", &detail)]);
        }
    }
}
