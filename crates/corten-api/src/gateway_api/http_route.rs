//! HTTPRoute: how HTTP requests are routed.

use corten_core::{Duration, Host, Port};
use corten_derive::{Enumeration, Message, OneOf};

use super::shared::{
    BackendObjectReference, Fraction, GatewayDefaultScope, LocalObjectReference, ParentReference, RouteParentStatus,
    SessionPersistence,
};

/// Changes of headers.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPHeaderFilter {
    /// Values added to headers.
    #[api(max_items = 16, list_map_keys("name"), list_type = "map")]
    pub add: Vec<HTTPHeader>,
    /// Headers taken away.
    #[api(max_items = 16, list_type = "set")]
    pub remove: Vec<String>,
    /// Headers that get exactly this value.
    #[api(max_items = 16, list_map_keys("name"), list_type = "map")]
    pub set: Vec<HTTPHeader>,
}

/// The HTTP header.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPHeader {
    /// The name.
    #[api(
        required,
        max_length = 256,
        min_length = 1,
        pattern = r#"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"#
    )]
    pub name: String,
    /// The value.
    #[api(
        required,
        max_length = 4096,
        min_length = 1,
        when(experimental, pattern = r#"^[!-~]+([\t ]?[!-~]+)*$"#)
    )]
    pub value: String,
}

/// A destination that gets copies of requests; its answers are dropped.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "!(has(self.percent) && has(self.fraction))",
        "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter"
    )
)]
pub struct HTTPRequestMirrorFilter {
    /// The destination.
    #[api(required)]
    pub backend_ref: BackendObjectReference,
    /// The fraction.
    pub fraction: Option<Fraction>,
    /// Deprecated in favour of `percentage`.
    #[api(maximum = 100, minimum = 0)]
    pub percent: Option<i32>,
}

/// How HTTP requests for some host names are routed.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPRouteSpec {
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
        default = r#"[{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}]"#,
        max_items = 16,
        min_items = 1,
        list_type = "atomic",
        rule(
            "(self.size() > 0 ? self[0].matches.size() : 0) + (self.size() > 1 ? self[1].matches.size() : 0) + (self.size() > 2 ? self[2].matches.size() : 0) + (self.size() > 3 ? self[3].matches.size() : 0) + (self.size() > 4 ? self[4].matches.size() : 0) + (self.size() > 5 ? self[5].matches.size() : 0) + (self.size() > 6 ? self[6].matches.size() : 0) + (self.size() > 7 ? self[7].matches.size() : 0) + (self.size() > 8 ? self[8].matches.size() : 0) + (self.size() > 9 ? self[9].matches.size() : 0) + (self.size() > 10 ? self[10].matches.size() : 0) + (self.size() > 11 ? self[11].matches.size() : 0) + (self.size() > 12 ? self[12].matches.size() : 0) + (self.size() > 13 ? self[13].matches.size() : 0) + (self.size() > 14 ? self[14].matches.size() : 0) + (self.size() > 15 ? self[15].matches.size() : 0) <= 128",
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
    pub rules: Vec<HTTPRouteRule>,
    /// Whether the route is attached to default gateways as well.
    #[api(experimental)]
    pub use_default_gateways: Option<GatewayDefaultScope>,
}

/// Conditions, what is done to requests, and where they go.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "(has(self.backendRefs) && size(self.backendRefs) > 0) ? (!has(self.filters) || self.filters.all(f, !has(f.requestRedirect))): true",
        "RequestRedirect filter must not be used together with backendRefs"
    ),
    rule(
        "(has(self.filters) && self.filters.exists_one(f, has(f.requestRedirect) && has(f.requestRedirect.path) && f.requestRedirect.path.type == 'ReplacePrefixMatch' && has(f.requestRedirect.path.replacePrefixMatch))) ? ((size(self.matches) != 1 || !has(self.matches[0].path) || self.matches[0].path.type != 'PathPrefix') ? false : true) : true",
        "When using RequestRedirect filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified"
    ),
    rule(
        "(has(self.filters) && self.filters.exists_one(f, has(f.urlRewrite) && has(f.urlRewrite.path) && f.urlRewrite.path.type == 'ReplacePrefixMatch' && has(f.urlRewrite.path.replacePrefixMatch))) ? ((size(self.matches) != 1 || !has(self.matches[0].path) || self.matches[0].path.type != 'PathPrefix') ? false : true) : true",
        "When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified"
    ),
    rule(
        "(has(self.backendRefs) && self.backendRefs.exists_one(b, (has(b.filters) && b.filters.exists_one(f, has(f.requestRedirect) && has(f.requestRedirect.path) && f.requestRedirect.path.type == 'ReplacePrefixMatch' && has(f.requestRedirect.path.replacePrefixMatch))) )) ? ((size(self.matches) != 1 || !has(self.matches[0].path) || self.matches[0].path.type != 'PathPrefix') ? false : true) : true",
        "Within backendRefs, when using RequestRedirect filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified"
    ),
    rule(
        "(has(self.backendRefs) && self.backendRefs.exists_one(b, (has(b.filters) && b.filters.exists_one(f, has(f.urlRewrite) && has(f.urlRewrite.path) && f.urlRewrite.path.type == 'ReplacePrefixMatch' && has(f.urlRewrite.path.replacePrefixMatch))) )) ? ((size(self.matches) != 1 || !has(self.matches[0].path) || self.matches[0].path.type != 'PathPrefix') ? false : true) : true",
        "Within backendRefs, When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified"
    )
)]
pub struct HTTPRouteRule {
    /// Where the traffic goes, by weight.
    #[api(max_items = 16, list_type = "atomic")]
    pub backend_refs: Vec<HTTPBackendRef>,
    /// What is done to requests and responses on their way.
    #[api(
        max_items = 16,
        list_type = "atomic",
        rule(
            "!(self.exists(f, f.type == 'RequestRedirect') && self.exists(f, f.type == 'URLRewrite'))",
            "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both"
        ),
        rule("self.filter(f, f.type == 'CORS').size() <= 1", "CORS filter cannot be repeated"),
        rule(
            "self.filter(f, f.type == 'RequestHeaderModifier').size() <= 1",
            "RequestHeaderModifier filter cannot be repeated"
        ),
        rule(
            "self.filter(f, f.type == 'ResponseHeaderModifier').size() <= 1",
            "ResponseHeaderModifier filter cannot be repeated"
        ),
        rule(
            "self.filter(f, f.type == 'RequestRedirect').size() <= 1",
            "RequestRedirect filter cannot be repeated"
        ),
        rule(
            "self.filter(f, f.type == 'URLRewrite').size() <= 1",
            "URLRewrite filter cannot be repeated"
        )
    )]
    pub filters: Vec<HTTPRouteFilter>,
    /// The conditions, of which one must hold.
    #[api(
        default = r#"[{"path": {"type": "PathPrefix", "value": "/"}}]"#,
        max_items = 64,
        list_type = "atomic"
    )]
    pub matches: Vec<HTTPRouteMatch>,
    /// The name.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub name: Option<String>,
    /// How long requests may take.
    pub timeouts: Option<HTTPRouteTimeouts>,
    /// When a request is tried again.
    #[api(experimental)]
    pub retry: Option<HTTPRouteRetry>,
    /// Keeps the requests of a session at one endpoint.
    #[api(experimental)]
    pub session_persistence: Option<SessionPersistence>,
}

/// A destination with its weight and filters of its own.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
        "Must have port for Service reference"
    )
)]
pub struct HTTPBackendRef {
    /// What is done to requests and responses on their way.
    #[api(
        max_items = 16,
        list_type = "atomic",
        rule(
            "!(self.exists(f, f.type == 'RequestRedirect') && self.exists(f, f.type == 'URLRewrite'))",
            "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both"
        ),
        rule("self.filter(f, f.type == 'CORS').size() <= 1", "CORS filter cannot be repeated"),
        rule(
            "self.filter(f, f.type == 'RequestHeaderModifier').size() <= 1",
            "RequestHeaderModifier filter cannot be repeated"
        ),
        rule(
            "self.filter(f, f.type == 'ResponseHeaderModifier').size() <= 1",
            "ResponseHeaderModifier filter cannot be repeated"
        ),
        rule(
            "self.filter(f, f.type == 'RequestRedirect').size() <= 1",
            "RequestRedirect filter cannot be repeated"
        ),
        rule(
            "self.filter(f, f.type == 'URLRewrite').size() <= 1",
            "URLRewrite filter cannot be repeated"
        )
    )]
    pub filters: Vec<HTTPRouteFilter>,
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

/// Something done to requests and responses on their way.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "!(has(self.cors) && self.type != 'CORS')",
        "filter.cors must be nil if the filter.type is not CORS"
    ),
    rule(
        "!(!has(self.cors) && self.type == 'CORS')",
        "filter.cors must be specified for CORS filter.type"
    ),
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
        "!(has(self.requestRedirect) && self.type != 'RequestRedirect')",
        "filter.requestRedirect must be nil if the filter.type is not RequestRedirect"
    ),
    rule(
        "!(!has(self.requestRedirect) && self.type == 'RequestRedirect')",
        "filter.requestRedirect must be specified for RequestRedirect filter.type"
    ),
    rule(
        "!(has(self.urlRewrite) && self.type != 'URLRewrite')",
        "filter.urlRewrite must be nil if the filter.type is not URLRewrite"
    ),
    rule(
        "!(!has(self.urlRewrite) && self.type == 'URLRewrite')",
        "filter.urlRewrite must be specified for URLRewrite filter.type"
    ),
    rule(
        "!(has(self.extensionRef) && self.type != 'ExtensionRef')",
        "filter.extensionRef must be nil if the filter.type is not ExtensionRef"
    ),
    rule(
        "!(!has(self.extensionRef) && self.type == 'ExtensionRef')",
        "filter.extensionRef must be specified for ExtensionRef filter.type"
    ),
    when(
        experimental,
        rule(
            "!(has(self.externalAuth) && self.type != 'ExternalAuth')",
            "filter.externalAuth must be nil if the filter.type is not ExternalAuth"
        ),
        rule(
            "!(!has(self.externalAuth) && self.type == 'ExternalAuth')",
            "filter.externalAuth must be specified for ExternalAuth filter.type"
        )
    )
)]
pub struct HTTPRouteFilter {
    /// The config.
    #[api(flatten, schema = r#"{"oneOf":false}"#)]
    pub config: Option<HTTPRouteFilterConfig>,
    /// The type.
    #[api(required)]
    pub type_: HTTPRouteFilterType,
}

/// What is done; it must be what `type` says.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum HTTPRouteFilterConfig {
    /// The cors.
    Cors(HTTPCORSFilter),
    /// The extension ref.
    ExtensionRef(LocalObjectReference),
    /// The request header modifier.
    RequestHeaderModifier(HTTPHeaderFilter),
    /// The request mirror.
    RequestMirror(HTTPRequestMirrorFilter),
    /// The request redirect.
    RequestRedirect(HTTPRequestRedirectFilter),
    /// The response header modifier.
    ResponseHeaderModifier(HTTPHeaderFilter),
    /// The url rewrite.
    UrlRewrite(HTTPURLRewriteFilter),
    /// The external auth.
    #[api(experimental)]
    ExternalAuth(HTTPExternalAuthFilter),
}

/// Which other origins may call from browsers.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPCORSFilter {
    /// The allow credentials.
    pub allow_credentials: Option<bool>,
    /// The allow headers.
    #[api(
        max_items = 64,
        list_type = "set",
        rule(
            "!('*' in self && self.size() > 1)",
            "AllowHeaders cannot contain '*' alongside other methods"
        ),
        items(max_length = 256, min_length = 1, pattern = r#"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"#)
    )]
    pub allow_headers: Vec<String>,
    /// The allow methods.
    #[api(
        max_items = 9,
        list_type = "set",
        rule(
            "!('*' in self && self.size() > 1)",
            "AllowMethods cannot contain '*' alongside other methods"
        )
    )]
    pub allow_methods: Vec<HTTPMethodWithWildcard>,
    /// The allow origins.
    #[api(
        max_items = 64,
        list_type = "set",
        rule(
            "!('*' in self && self.size() > 1)",
            "AllowOrigins cannot contain '*' alongside other origins"
        ),
        items(
            max_length = 253,
            min_length = 1,
            pattern = r#"(^\*$)|(^(http(s)?):\/\/(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:([0-9]{1,5}))?)$)"#
        )
    )]
    pub allow_origins: Vec<String>,
    /// The expose headers.
    #[api(
        max_items = 64,
        list_type = "set",
        items(max_length = 256, min_length = 1, pattern = r#"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"#)
    )]
    pub expose_headers: Vec<String>,
    /// The max age.
    #[api(default = "5", minimum = 1)]
    pub max_age: Option<i32>,
}

/// An answer that sends the client elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPRequestRedirectFilter {
    /// The hostname.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub hostname: Option<Host>,
    /// The path.
    pub path: Option<HTTPPathModifier>,
    /// The port.
    #[api(format = "int32", maximum = 65535, minimum = 1)]
    pub port: Option<Port>,
    /// The scheme.
    pub scheme: Option<HTTPRequestRedirectFilterScheme>,
    /// The status code.
    #[api(default = "302", schema = r#"{"enum": [301, 302, 303, 307, 308], "format": null}"#)]
    pub status_code: Option<i64>,
}

/// How a path is changed.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "self.type == 'ReplaceFullPath' ? has(self.replaceFullPath) : true",
        "replaceFullPath must be specified when type is set to 'ReplaceFullPath'"
    ),
    rule(
        "has(self.replaceFullPath) ? self.type == 'ReplaceFullPath' : true",
        "type must be 'ReplaceFullPath' when replaceFullPath is set"
    ),
    rule(
        "self.type == 'ReplacePrefixMatch' ? has(self.replacePrefixMatch) : true",
        "replacePrefixMatch must be specified when type is set to 'ReplacePrefixMatch'"
    ),
    rule(
        "has(self.replacePrefixMatch) ? self.type == 'ReplacePrefixMatch' : true",
        "type must be 'ReplacePrefixMatch' when replacePrefixMatch is set"
    )
)]
pub struct HTTPPathModifier {
    /// The replacement.
    #[api(flatten, schema = r#"{"oneOf":false}"#)]
    pub replacement: Option<HTTPPathReplacement>,
    /// The type.
    #[api(required)]
    pub type_: HTTPPathModifierType,
}

/// The HTTP path replacement.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum HTTPPathReplacement {
    /// The replace full path.
    #[api(max_length = 1024)]
    ReplaceFullPath(String),
    /// The replace prefix match.
    #[api(max_length = 1024)]
    ReplacePrefixMatch(String),
}

/// Changes of host name and path before forwarding.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPURLRewriteFilter {
    /// The hostname.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub hostname: Option<Host>,
    /// The path.
    pub path: Option<HTTPPathModifier>,
}

/// Conditions on a request, which must all hold.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPRouteMatch {
    /// Headers.
    #[api(max_items = 16, list_map_keys("name"), list_type = "map")]
    pub headers: Vec<HTTPHeaderMatch>,
    /// The method.
    pub method: Option<HTTPMethod>,
    /// The path.
    #[api(default = r#"{"type": "PathPrefix", "value": "/"}"#)]
    pub path: Option<HTTPPathMatch>,
    /// Query parameters by name.
    #[api(max_items = 16, list_map_keys("name"), list_type = "map")]
    pub query_params: Vec<HTTPQueryParamMatch>,
}

/// How a header must look.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPHeaderMatch {
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
    pub type_: Option<HeaderMatchType>,
    /// The value.
    #[api(
        required,
        max_length = 4096,
        min_length = 1,
        when(experimental, pattern = r#"^[!-~]+([\t ]?[!-~]+)*$"#)
    )]
    pub value: String,
}

/// How the path must look.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes, rule("(self.type in ['Exact','PathPrefix']) ? self.value.startsWith('/') : true", "value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']"), rule("(self.type in ['Exact','PathPrefix']) ? !self.value.contains('//') : true", "must not contain '//' when type one of ['Exact', 'PathPrefix']"), rule("(self.type in ['Exact','PathPrefix']) ? !self.value.contains('/./') : true", "must not contain '/./' when type one of ['Exact', 'PathPrefix']"), rule("(self.type in ['Exact','PathPrefix']) ? !self.value.contains('/../') : true", "must not contain '/../' when type one of ['Exact', 'PathPrefix']"), rule("(self.type in ['Exact','PathPrefix']) ? !self.value.contains('%2f') : true", "must not contain '%2f' when type one of ['Exact', 'PathPrefix']"), rule("(self.type in ['Exact','PathPrefix']) ? !self.value.contains('%2F') : true", "must not contain '%2F' when type one of ['Exact', 'PathPrefix']"), rule("(self.type in ['Exact','PathPrefix']) ? !self.value.contains('#') : true", "must not contain '#' when type one of ['Exact', 'PathPrefix']"), rule("(self.type in ['Exact','PathPrefix']) ? !self.value.endsWith('/..') : true", "must not end with '/..' when type one of ['Exact', 'PathPrefix']"), rule("(self.type in ['Exact','PathPrefix']) ? !self.value.endsWith('/.') : true", "must not end with '/.' when type one of ['Exact', 'PathPrefix']"), rule("self.type in ['Exact','PathPrefix'] || self.type == 'RegularExpression'", "type must be one of ['Exact', 'PathPrefix', 'RegularExpression']"), rule(r#"(self.type in ['Exact','PathPrefix']) ? self.value.matches(r"""^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$""") : true"#, "must only contain valid characters (matching ^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$) for types ['Exact', 'PathPrefix']"))]
pub struct HTTPPathMatch {
    /// The type.
    #[api(default = r#""PathPrefix""#)]
    pub type_: Option<PathMatchType>,
    /// The value.
    #[api(default = r#""/""#, max_length = 1024)]
    pub value: Option<String>,
}

/// How a query parameter must look.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPQueryParamMatch {
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
    pub type_: Option<QueryParamMatchType>,
    /// The value.
    #[api(required, max_length = 1024, min_length = 1)]
    pub value: String,
}

/// How long requests may take.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "!(has(self.request) && has(self.backendRequest) && duration(self.request) != duration('0s') && duration(self.backendRequest) > duration(self.request))",
        "backendRequest timeout cannot be longer than request timeout"
    )
)]
pub struct HTTPRouteTimeouts {
    /// For one attempt at a backend.
    #[api(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
    pub backend_request: Option<Duration>,
    /// From the first byte of the request to the last of the response.
    #[api(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
    pub request: Option<Duration>,
}

/// The HTTP route status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPRouteStatus {
    /// The state for each parent.
    #[api(required, max_items = 32, list_type = "atomic")]
    pub parents: Vec<RouteParentStatus>,
}

/// A service that is asked whether a request may pass.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "self.protocol == 'GRPC' ? has(self.grpc) : true",
        "grpc must be specified when protocol is set to 'GRPC'"
    ),
    rule(
        "has(self.grpc) ? self.protocol == 'GRPC' : true",
        "protocol must be 'GRPC' when grpc is set"
    ),
    rule(
        "self.protocol == 'HTTP' ? has(self.http) : true",
        "http must be specified when protocol is set to 'HTTP'"
    ),
    rule(
        "has(self.http) ? self.protocol == 'HTTP' : true",
        "protocol must be 'HTTP' when http is set"
    )
)]
pub struct HTTPExternalAuthFilter {
    /// The destination.
    #[api(required)]
    pub backend_ref: BackendObjectReference,
    /// The forward body.
    pub forward_body: Option<ForwardBodyConfig>,
    /// The protocol config.
    #[api(flatten, schema = r#"{"oneOf":false}"#)]
    pub protocol_config: Option<HTTPExternalAuthConfig>,
    /// What is spoken.
    #[api(required)]
    pub protocol: HTTPRouteExternalAuthProtocol,
}

/// The HTTP external auth config.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum HTTPExternalAuthConfig {
    /// The grpc.
    Grpc(GRPCAuthConfig),
    /// The http.
    Http(HTTPAuthConfig),
}

/// The forward body config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ForwardBodyConfig {
    /// The max size.
    #[api(minimum = 0)]
    pub max_size: Option<i32>,
}

/// The GRPC auth config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GRPCAuthConfig {
    /// The allowed headers.
    #[api(max_items = 64, list_type = "set")]
    pub allowed_headers: Vec<String>,
}

/// The HTTP auth config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPAuthConfig {
    /// The allowed headers.
    #[api(max_items = 64, list_type = "set")]
    pub allowed_headers: Vec<String>,
    /// The allowed response headers.
    #[api(max_items = 64, list_type = "set")]
    pub allowed_response_headers: Vec<String>,
    /// The path.
    #[api(
        max_length = 1024,
        pattern = "^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$"
    )]
    pub path: Option<String>,
}

/// When a request is tried again.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HTTPRouteRetry {
    /// The attempts.
    #[api(minimum = 1, schema = r#"{"format": null}"#)]
    pub attempts: Option<i64>,
    /// The backoff.
    #[api(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
    pub backoff: Option<Duration>,
    /// The codes.
    #[api(
        list_type = "set",
        items(maximum = 599, minimum = 400, schema = r#"{"format": null}"#)
    )]
    pub codes: Vec<i64>,
}

/// The HTTP method with wildcard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum HTTPMethodWithWildcard {
    /// The value `GET`.
    #[default]
    #[api(name = "GET")]
    Get,
    /// The value `HEAD`.
    #[api(name = "HEAD")]
    Head,
    /// The value `POST`.
    #[api(name = "POST")]
    Post,
    /// The value `PUT`.
    #[api(name = "PUT")]
    Put,
    /// The value `DELETE`.
    #[api(name = "DELETE")]
    Delete,
    /// The value `CONNECT`.
    #[api(name = "CONNECT")]
    Connect,
    /// The value `OPTIONS`.
    #[api(name = "OPTIONS")]
    Options,
    /// The value `TRACE`.
    #[api(name = "TRACE")]
    Trace,
    /// The value `PATCH`.
    #[api(name = "PATCH")]
    Patch,
    /// The value `*`.
    #[api(name = "*")]
    Any,
}

/// The HTTP path modifier type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum HTTPPathModifierType {
    /// The value `ReplaceFullPath`.
    #[default]
    ReplaceFullPath,
    /// The value `ReplacePrefixMatch`.
    ReplacePrefixMatch,
}

/// The HTTP request redirect filter scheme.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum HTTPRequestRedirectFilterScheme {
    /// The value `http`.
    #[default]
    #[api(name = "http")]
    Http,
    /// The value `https`.
    #[api(name = "https")]
    Https,
}

/// The HTTP route filter type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum HTTPRouteFilterType {
    /// The value `RequestHeaderModifier`.
    #[default]
    RequestHeaderModifier,
    /// The value `ResponseHeaderModifier`.
    ResponseHeaderModifier,
    /// The value `RequestMirror`.
    RequestMirror,
    /// The value `RequestRedirect`.
    RequestRedirect,
    /// The value `URLRewrite`.
    URLRewrite,
    /// The value `ExtensionRef`.
    ExtensionRef,
    /// The value `CORS`.
    #[api(name = "CORS")]
    Cors,
    /// The value `ExternalAuth`.
    #[api(experimental)]
    ExternalAuth,
}

/// The header match type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum HeaderMatchType {
    /// The value `Exact`.
    #[default]
    Exact,
    /// The value `RegularExpression`.
    RegularExpression,
}

/// The HTTP method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum HTTPMethod {
    /// The value `GET`.
    #[default]
    #[api(name = "GET")]
    Get,
    /// The value `HEAD`.
    #[api(name = "HEAD")]
    Head,
    /// The value `POST`.
    #[api(name = "POST")]
    Post,
    /// The value `PUT`.
    #[api(name = "PUT")]
    Put,
    /// The value `DELETE`.
    #[api(name = "DELETE")]
    Delete,
    /// The value `CONNECT`.
    #[api(name = "CONNECT")]
    Connect,
    /// The value `OPTIONS`.
    #[api(name = "OPTIONS")]
    Options,
    /// The value `TRACE`.
    #[api(name = "TRACE")]
    Trace,
    /// The value `PATCH`.
    #[api(name = "PATCH")]
    Patch,
}

/// The path match type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum PathMatchType {
    /// The value `Exact`.
    #[default]
    Exact,
    /// The value `PathPrefix`.
    PathPrefix,
    /// The value `RegularExpression`.
    RegularExpression,
}

/// The query param match type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum QueryParamMatchType {
    /// The value `Exact`.
    #[default]
    Exact,
    /// The value `RegularExpression`.
    RegularExpression,
}

/// The HTTP route external auth protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum HTTPRouteExternalAuthProtocol {
    /// The value `HTTP`.
    #[default]
    #[api(name = "HTTP")]
    Http,
    /// The value `GRPC`.
    #[api(name = "GRPC")]
    Grpc,
}
