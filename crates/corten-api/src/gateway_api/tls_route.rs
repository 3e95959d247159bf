//! TLSRoute: where TLS connections go by server name.

use corten_core::Host;
use corten_derive::Message;

use super::shared::{BackendRef, GatewayDefaultScope, ParentReference, RouteParentStatus};

/// Where TLS connections go, by server name.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes, when(v1alpha2, schema = r#"{"required": ["rules"]}"#))]
pub struct TLSRouteSpec {
    /// The host names this route is for.
    #[api(required, max_items = 1024, list_type = "atomic", items(max_length = 253, min_length = 1, pattern = r#"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#), when(v1, min_items = 1, rule("self.all(h, !isIP(h))", "Hostnames cannot contain an IP"), rule(r#"self.all(h, !h.contains('*') ? h.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)$') : true)"#, "Hostnames must be valid based on RFC-1123"), rule(r#"self.all(h, h.contains('*') ? (h.startsWith('*.') && h.substring(2).matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)$')) : true)"#, "Wildcards on hostnames must be the first label, and the rest of hostname must be valid based on RFC-1123")), when(v1alpha3, min_items = 1, rule("self.all(h, !isIP(h))", "Hostnames cannot contain an IP"), rule(r#"self.all(h, !h.contains('*') ? h.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)$') : true)"#, "Hostnames must be valid based on RFC-1123"), rule(r#"self.all(h, h.contains('*') ? (h.startsWith('*.') && h.substring(2).matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)$')) : true)"#, "Wildcards on hostnames must be the first label, and the rest of hostname must be valid based on RFC-1123")))]
    pub hostnames: Vec<Host>,
    /// The gateways or services this route is attached to.
    #[api(
        max_items = 32,
        list_type = "atomic",
        when(
            experimental,
            rule(
                "self.all(p1, self.all(p2, p1.group == p2.group && p1.kind == p2.kind && p1.name == p2.name && (((!has(p1.__namespace__) || p1.__namespace__ == '') && (!has(p2.__namespace__) || p2.__namespace__ == '')) || (has(p1.__namespace__) && has(p2.__namespace__) && p1.__namespace__ == p2.__namespace__)) ? ((!has(p1.sectionName) || p1.sectionName == '') == (!has(p2.sectionName) || p2.sectionName == '') && (!has(p1.port) || p1.port == 0) == (!has(p2.port) || p2.port == 0)): true))",
                "sectionName or port must be specified when parentRefs includes 2 or more references to the same parent"
            ),
            rule(
                "self.all(p1, self.exists_one(p2, p1.group == p2.group && p1.kind == p2.kind && p1.name == p2.name && (((!has(p1.__namespace__) || p1.__namespace__ == '') && (!has(p2.__namespace__) || p2.__namespace__ == '')) || (has(p1.__namespace__) && has(p2.__namespace__) && p1.__namespace__ == p2.__namespace__ )) && (((!has(p1.sectionName) || p1.sectionName == '') && (!has(p2.sectionName) || p2.sectionName == '')) || ( has(p1.sectionName) && has(p2.sectionName) && p1.sectionName == p2.sectionName)) && (((!has(p1.port) || p1.port == 0) && (!has(p2.port) || p2.port == 0)) || (has(p1.port) && has(p2.port) && p1.port == p2.port))))",
                "sectionName or port must be unique when parentRefs includes 2 or more references to the same parent"
            )
        ),
        when(
            standard,
            rule(
                "self.all(p1, self.all(p2, p1.group == p2.group && p1.kind == p2.kind && p1.name == p2.name && (((!has(p1.__namespace__) || p1.__namespace__ == '') && (!has(p2.__namespace__) || p2.__namespace__ == '')) || (has(p1.__namespace__) && has(p2.__namespace__) && p1.__namespace__ == p2.__namespace__ )) ? ((!has(p1.sectionName) || p1.sectionName == '') == (!has(p2.sectionName) || p2.sectionName == '')) : true))",
                "sectionName must be specified when parentRefs includes 2 or more references to the same parent"
            ),
            rule(
                "self.all(p1, self.exists_one(p2, p1.group == p2.group && p1.kind == p2.kind && p1.name == p2.name && (((!has(p1.__namespace__) || p1.__namespace__ == '') && (!has(p2.__namespace__) || p2.__namespace__ == '')) || (has(p1.__namespace__) && has(p2.__namespace__) && p1.__namespace__ == p2.__namespace__ )) && (((!has(p1.sectionName) || p1.sectionName == '') && (!has(p2.sectionName) || p2.sectionName == '')) || (has(p1.sectionName) && has(p2.sectionName) && p1.sectionName == p2.sectionName))))",
                "sectionName must be unique when parentRefs includes 2 or more references to the same parent"
            )
        )
    )]
    pub parent_refs: Vec<ParentReference>,
    /// The rules, the most specific match winning.
    #[api(
        required,
        when(v1, max_items = 1),
        when(v1alpha3, max_items = 1),
        when(v1alpha2, max_items = 16),
        min_items = 1,
        list_type = "atomic",
        when(
            experimental,
            when(
                v1alpha2,
                rule(
                    "self.all(l1, !has(l1.name) || self.exists_one(l2, has(l2.name) && l1.name == l2.name))",
                    "Rule name must be unique within the route"
                )
            )
        )
    )]
    pub rules: Vec<TLSRouteRule>,
    /// Whether the route is attached to default gateways as well.
    #[api(experimental)]
    pub use_default_gateways: Option<GatewayDefaultScope>,
}

/// The TLS route rule.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct TLSRouteRule {
    /// Where the traffic goes, by weight.
    #[api(required, max_items = 16, min_items = 1, list_type = "atomic")]
    pub backend_refs: Vec<BackendRef>,
    /// The name.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub name: Option<String>,
}

/// The TLS route status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct TLSRouteStatus {
    /// The state for each parent.
    #[api(required, max_items = 32, list_type = "atomic")]
    pub parents: Vec<RouteParentStatus>,
}
