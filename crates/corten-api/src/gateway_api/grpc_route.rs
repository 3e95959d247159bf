//! GRPCRoute: how gRPC calls are routed.

use corten_core::{Host, Port};
use corten_derive::{Enumeration, Message, OneOf};

use super::http_route::{HTTPHeaderFilter, HTTPRequestMirrorFilter};
use super::shared::{
    GatewayDefaultScope, LocalObjectReference, ParentReference, RouteParentStatus, SessionPersistence,
};

/// How gRPC calls for some host names are routed.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GRPCRouteSpec {
    /// The host names this route is for.
    #[api(
        max_items = 16,
        list_type = "atomic",
        items(
            max_length = 253,
            min_length = 1,
            pattern = r#"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
        )
    )]
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
        max_items = 16,
        list_type = "atomic",
        rule(
            "(self.size() > 0 ? (has(self[0].matches) ? self[0].matches.size() : 0) : 0) + (self.size() > 1 ? (has(self[1].matches) ? self[1].matches.size() : 0) : 0) + (self.size() > 2 ? (has(self[2].matches) ? self[2].matches.size() : 0) : 0) + (self.size() > 3 ? (has(self[3].matches) ? self[3].matches.size() : 0) : 0) + (self.size() > 4 ? (has(self[4].matches) ? self[4].matches.size() : 0) : 0) + (self.size() > 5 ? (has(self[5].matches) ? self[5].matches.size() : 0) : 0) + (self.size() > 6 ? (has(self[6].matches) ? self[6].matches.size() : 0) : 0) + (self.size() > 7 ? (has(self[7].matches) ? self[7].matches.size() : 0) : 0) + (self.size() > 8 ? (has(self[8].matches) ? self[8].matches.size() : 0) : 0) + (self.size() > 9 ? (has(self[9].matches) ? self[9].matches.size() : 0) : 0) + (self.size() > 10 ? (has(self[10].matches) ? self[10].matches.size() : 0) : 0) + (self.size() > 11 ? (has(self[11].matches) ? self[11].matches.size() : 0) : 0) + (self.size() > 12 ? (has(self[12].matches) ? self[12].matches.size() : 0) : 0) + (self.size() > 13 ? (has(self[13].matches) ? self[13].matches.size() : 0) : 0) + (self.size() > 14 ? (has(self[14].matches) ? self[14].matches.size() : 0) : 0) + (self.size() > 15 ? (has(self[15].matches) ? self[15].matches.size() : 0) : 0) <= 128",
            "While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a route must be less than 128"
        ),
        when(
            experimental,
            rule(
                "self.all(l1, !has(l1.name) || self.exists_one(l2, has(l2.name) && l1.name == l2.name))",
                "Rule name must be unique within the route"
            )
        )
    )]
    pub rules: Vec<GRPCRouteRule>,
    /// Whether the route is attached to default gateways as well.
    #[api(experimental)]
    pub use_default_gateways: Option<GatewayDefaultScope>,
}

/// Conditions, what is done to calls, and where they go.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GRPCRouteRule {
    /// Where the traffic goes, by weight.
    #[api(max_items = 16, list_type = "atomic")]
    pub backend_refs: Vec<GRPCBackendRef>,
    /// What is done to requests and responses on their way.
    #[api(
        max_items = 16,
        list_type = "atomic",
        rule(
            "self.filter(f, f.type == 'RequestHeaderModifier').size() <= 1",
            "RequestHeaderModifier filter cannot be repeated"
        ),
        rule(
            "self.filter(f, f.type == 'ResponseHeaderModifier').size() <= 1",
            "ResponseHeaderModifier filter cannot be repeated"
        )
    )]
    pub filters: Vec<GRPCRouteFilter>,
    /// The conditions, of which one must hold.
    #[api(max_items = 64, list_type = "atomic")]
    pub matches: Vec<GRPCRouteMatch>,
    /// The name.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub name: Option<String>,
    /// Keeps the requests of a session at one endpoint.
    #[api(experimental)]
    pub session_persistence: Option<SessionPersistence>,
}

/// The GRPC backend ref.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
        "Must have port for Service reference"
    )
)]
pub struct GRPCBackendRef {
    /// What is done to requests and responses on their way.
    #[api(
        max_items = 16,
        list_type = "atomic",
        rule(
            "self.filter(f, f.type == 'RequestHeaderModifier').size() <= 1",
            "RequestHeaderModifier filter cannot be repeated"
        ),
        rule(
            "self.filter(f, f.type == 'ResponseHeaderModifier').size() <= 1",
            "ResponseHeaderModifier filter cannot be repeated"
        )
    )]
    pub filters: Vec<GRPCRouteFilter>,
    /// The API group.
    #[api(
        default = r#""""#,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        default = r#""Service""#,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: Option<String>,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
    /// The namespace.
    #[api(max_length = 63, min_length = 1, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub namespace: Option<String>,
    /// The port.
    #[api(format = "int32", maximum = 65535, minimum = 1)]
    pub port: Option<Port>,
    /// The share of the traffic.
    #[api(default = "1", maximum = 1000000, minimum = 0)]
    pub weight: Option<i32>,
}

/// The GRPC route filter.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "!(has(self.requestHeaderModifier) && self.type != 'RequestHeaderModifier')",
        "filter.requestHeaderModifier must be nil if the filter.type is not RequestHeaderModifier"
    ),
    rule(
        "!(!has(self.requestHeaderModifier) && self.type == 'RequestHeaderModifier')",
        "filter.requestHeaderModifier must be specified for RequestHeaderModifier filter.type"
    ),
    rule(
        "!(has(self.responseHeaderModifier) && self.type != 'ResponseHeaderModifier')",
        "filter.responseHeaderModifier must be nil if the filter.type is not ResponseHeaderModifier"
    ),
    rule(
        "!(!has(self.responseHeaderModifier) && self.type == 'ResponseHeaderModifier')",
        "filter.responseHeaderModifier must be specified for ResponseHeaderModifier filter.type"
    ),
    rule(
        "!(has(self.requestMirror) && self.type != 'RequestMirror')",
        "filter.requestMirror must be nil if the filter.type is not RequestMirror"
    ),
    rule(
        "!(!has(self.requestMirror) && self.type == 'RequestMirror')",
        "filter.requestMirror must be specified for RequestMirror filter.type"
    ),
    rule(
        "!(has(self.extensionRef) && self.type != 'ExtensionRef')",
        "filter.extensionRef must be nil if the filter.type is not ExtensionRef"
    ),
    rule(
        "!(!has(self.extensionRef) && self.type == 'ExtensionRef')",
        "filter.extensionRef must be specified for ExtensionRef filter.type"
    )
)]
pub struct GRPCRouteFilter {
    /// The config.
    #[api(flatten, schema = r#"{"oneOf":false}"#)]
    pub config: Option<GRPCRouteFilterConfig>,
    /// The type.
    #[api(required)]
    pub type_: GRPCRouteFilterType,
}

/// The GRPC route filter config.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum GRPCRouteFilterConfig {
    /// The extension ref.
    ExtensionRef(LocalObjectReference),
    /// The request header modifier.
    RequestHeaderModifier(HTTPHeaderFilter),
    /// The request mirror.
    RequestMirror(HTTPRequestMirrorFilter),
    /// The response header modifier.
    ResponseHeaderModifier(HTTPHeaderFilter),
}

/// The GRPC route match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GRPCRouteMatch {
    /// Headers.
    #[api(max_items = 16, list_map_keys("name"), list_type = "map")]
    pub headers: Vec<GRPCHeaderMatch>,
    /// The method.
    pub method: Option<GRPCMethodMatch>,
}

/// The GRPC header match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GRPCHeaderMatch {
    /// The name.
    #[api(
        required,
        max_length = 256,
        min_length = 1,
        pattern = r#"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"#
    )]
    pub name: String,
    /// The type.
    #[api(default = r#""Exact""#)]
    pub type_: Option<GRPCHeaderMatchType>,
    /// The value.
    #[api(required, max_length = 4096, min_length = 1)]
    pub value: String,
}

/// Which service and method is called.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes, rule("has(self.type) ? has(self.service) || has(self.method) : true", "One or both of 'service' or 'method' must be specified"), rule(r#"(!has(self.type) || self.type == 'Exact') && has(self.service) ? self.service.matches(r"""^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$"""): true"#, r#"service must only contain valid characters (matching ^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$)"#), rule(r#"(!has(self.type) || self.type == 'Exact') && has(self.method) ? self.method.matches(r"""^[A-Za-z_][A-Za-z_0-9]*$"""): true"#, "method must only contain valid characters (matching ^[A-Za-z_][A-Za-z_0-9]*$)"))]
pub struct GRPCMethodMatch {
    /// The method.
    #[api(max_length = 1024)]
    pub method: Option<String>,
    /// The service, as a host name or `namespace/host`.
    #[api(max_length = 1024)]
    pub service: Option<String>,
    /// The type.
    #[api(default = r#""Exact""#)]
    pub type_: Option<GRPCMethodMatchType>,
}

/// The GRPC route status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GRPCRouteStatus {
    /// The state for each parent.
    #[api(required, max_items = 32, list_type = "atomic")]
    pub parents: Vec<RouteParentStatus>,
}

/// The GRPC route filter type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum GRPCRouteFilterType {
    /// The value `ResponseHeaderModifier`.
    #[default]
    ResponseHeaderModifier,
    /// The value `RequestHeaderModifier`.
    RequestHeaderModifier,
    /// The value `RequestMirror`.
    RequestMirror,
    /// The value `ExtensionRef`.
    ExtensionRef,
}

/// The GRPC header match type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum GRPCHeaderMatchType {
    /// The value `Exact`.
    #[default]
    Exact,
    /// The value `RegularExpression`.
    RegularExpression,
}

/// The GRPC method match type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum GRPCMethodMatchType {
    /// The value `Exact`.
    #[default]
    Exact,
    /// The value `RegularExpression`.
    RegularExpression,
}
