//! Gateway: listeners and where they can be reached.

use std::collections::BTreeMap;

use corten_core::{Host, Port};
use corten_derive::{Enumeration, Message};

use super::shared::{Condition, GatewayDefaultScope, LabelSelector, ObjectReference, SecretObjectReference};

/// Listeners, and the class of what serves them.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GatewaySpec {
    /// Addresses that are asked for, or were given.
    #[api(
        max_items = 16,
        list_type = "atomic",
        rule(
            "self.all(a1, a1.type == 'IPAddress' && has(a1.value) ? self.exists_one(a2, a2.type == a1.type && has(a2.value) && a2.value == a1.value) : true )",
            "IPAddress values must be unique"
        ),
        rule(
            "self.all(a1, a1.type == 'Hostname'  && has(a1.value) ? self.exists_one(a2, a2.type == a1.type && has(a2.value) && a2.value == a1.value) : true )",
            "Hostname values must be unique"
        )
    )]
    pub addresses: Vec<GatewaySpecAddress>,
    /// The allowed listeners.
    pub allowed_listeners: Option<AllowedListeners>,
    /// The class that says which controller makes the gateway.
    #[api(required, max_length = 253, min_length = 1)]
    pub gateway_class_name: String,
    /// The infrastructure.
    pub infrastructure: Option<GatewayInfrastructure>,
    /// What the gateway listens for.
    #[api(
        required,
        max_items = 64,
        min_items = 1,
        list_map_keys("name"),
        list_type = "map",
        rule(
            "self.all(l, l.protocol in ['HTTP', 'TCP', 'UDP'] ? !has(l.tls) : true)",
            "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']"
        ),
        rule(
            "self.all(l, (l.protocol == 'HTTPS' && has(l.tls)) ? (l.tls.mode == '' || l.tls.mode == 'Terminate') : true)",
            "tls mode must be Terminate for protocol HTTPS"
        ),
        rule(
            "self.all(l, (l.protocol == 'TLS' ? has(l.tls) && has(l.tls.mode) && l.tls.mode != '' : true))",
            "tls mode must be set for protocol TLS"
        ),
        rule(
            "self.all(l, l.protocol in ['TCP', 'UDP']  ? (!has(l.hostname) || l.hostname == '') : true)",
            "hostname must not be specified for protocols ['TCP', 'UDP']"
        ),
        rule(
            "self.all(l1, self.exists_one(l2, l1.name == l2.name))",
            "Listener name must be unique within the Gateway"
        ),
        rule(
            "self.all(l1, self.exists_one(l2, l1.port == l2.port && l1.protocol == l2.protocol && (has(l1.hostname) && has(l2.hostname) ? l1.hostname == l2.hostname : !has(l1.hostname) && !has(l2.hostname))))",
            "Combination of port, protocol and hostname must be unique for each listener"
        )
    )]
    pub listeners: Vec<Listener>,
    /// TLS settings.
    pub tls: Option<GatewayTLSConfig>,
    /// The default scope.
    #[api(experimental)]
    pub default_scope: Option<GatewayDefaultScope>,
}

/// The gateway spec address.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes, rule(r#"self.type == 'Hostname' ? (!has(self.value) || self.value.matches(r"""^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$""")): true"#, r#"Hostname value must be empty or contain only valid characters (matching ^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$)"#), schema = r#"{"oneOf": [{"properties": {"type": {"enum": ["IPAddress"]}, "value": {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}}}, {"properties": {"type": {"not": {"enum": ["IPAddress"]}}}}]}"#)]
pub struct GatewaySpecAddress {
    /// The type.
    #[api(
        default = r#""IPAddress""#,
        max_length = 253,
        min_length = 1,
        pattern = r#"^Hostname|IPAddress|NamedAddress|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"#
    )]
    pub type_: Option<String>,
    /// The value.
    #[api(max_length = 253)]
    pub value: Option<String>,
}

/// The allowed listeners.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct AllowedListeners {
    /// The namespaces.
    #[api(default = r#"{"from": "None"}"#)]
    pub namespaces: Option<ListenerNamespaces>,
}

/// The listener namespaces.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ListenerNamespaces {
    /// Where from.
    #[api(default = r#""None""#)]
    pub from: Option<FromNamespaces>,
    /// The workloads it is for; all of the namespace, when left out.
    pub selector: Option<LabelSelector>,
}

/// Labels, annotations and parameters of what is made for a gateway.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GatewayInfrastructure {
    /// The annotations.
    #[api(max_properties = 16, rule(r#"self.all(key, key.matches(r"""^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$"""))"#, "Annotation keys must be in the form of an optional DNS subdomain prefix followed by a required name segment of up to 63 characters."), rule(r#"self.all(key, key.split("/")[0].size() < 253)"#, "If specified, the annotation key's prefix must be a DNS subdomain not longer than 253 characters in total."), values(max_length = 4096, min_length = 0))]
    pub annotations: BTreeMap<String, String>,
    /// The labels.
    #[api(max_properties = 8, rule(r#"self.all(key, key.matches(r"""^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$"""))"#, "Label keys must be in the form of an optional DNS subdomain prefix followed by a required name segment of up to 63 characters."), rule(r#"self.all(key, key.split("/")[0].size() < 253)"#, "If specified, the label key's prefix must be a DNS subdomain not longer than 253 characters in total."), values(max_length = 63, min_length = 0, pattern = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"))]
    pub labels: BTreeMap<String, String>,
    /// Further configuration, in an object of the controller's own kind.
    pub parameters_ref: Option<LocalParametersReference>,
}

/// The local parameters reference.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct LocalParametersReference {
    /// The API group.
    #[api(
        required,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: String,
    /// The kind.
    #[api(
        required,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: String,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
}

/// One port of a gateway, with the host name and routes it takes.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct Listener {
    /// Which routes may be attached.
    #[api(default = r#"{"namespaces": {"from": "Same"}}"#)]
    pub allowed_routes: Option<AllowedRoutes>,
    /// The hostname.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub hostname: Option<Host>,
    /// The name.
    #[api(
        required,
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub name: String,
    /// The port.
    #[api(required, format = "int32", maximum = 65535, minimum = 1)]
    pub port: Port,
    /// What is spoken.
    #[api(
        required,
        max_length = 255,
        min_length = 1,
        pattern = r#"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9]+$"#
    )]
    pub protocol: String,
    /// TLS settings.
    pub tls: Option<ListenerTLSConfig>,
}

/// Which routes may be attached to a listener.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct AllowedRoutes {
    /// The kinds.
    #[api(max_items = 8, list_type = "atomic")]
    pub kinds: Vec<RouteGroupKind>,
    /// The namespaces.
    #[api(default = r#"{"from": "Same"}"#)]
    pub namespaces: Option<RouteNamespaces>,
}

/// The route group kind.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct RouteGroupKind {
    /// The API group.
    #[api(
        default = r#""gateway.networking.k8s.io""#,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        required,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: String,
}

/// The route namespaces.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct RouteNamespaces {
    /// Where from.
    #[api(default = r#""Same""#, schema = r#"{"enum": ["All", "Selector", "Same"]}"#)]
    pub from: Option<FromNamespaces>,
    /// The workloads it is for; all of the namespace, when left out.
    pub selector: Option<LabelSelector>,
}

/// TLS of a listener.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "self.mode == 'Terminate' ? size(self.certificateRefs) > 0 || size(self.options) > 0 : true",
        "certificateRefs or options must be specified when mode is Terminate"
    )
)]
pub struct ListenerTLSConfig {
    /// The secrets with certificates and keys.
    #[api(max_items = 64, list_type = "atomic")]
    pub certificate_refs: Vec<SecretObjectReference>,
    /// The mode.
    #[api(default = r#""Terminate""#)]
    pub mode: Option<TLSModeType>,
    /// Settings that implementations define.
    #[api(max_properties = 16, values(max_length = 4096, min_length = 0))]
    pub options: BTreeMap<String, String>,
}

/// TLS towards clients and backends.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GatewayTLSConfig {
    /// The backend.
    pub backend: Option<GatewayBackendTLS>,
    /// The frontend.
    pub frontend: Option<FrontendTLSConfig>,
}

/// The gateway backend TLS.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GatewayBackendTLS {
    /// The client certificate ref.
    pub client_certificate_ref: Option<SecretObjectReference>,
}

/// The frontend TLS config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct FrontendTLSConfig {
    /// The default.
    #[api(required)]
    pub default: TLSConfig,
    /// The per port.
    #[api(
        max_items = 64,
        list_map_keys("port"),
        list_type = "map",
        rule(
            "self.all(t1, self.exists_one(t2, t1.port == t2.port))",
            "Port for TLS configuration must be unique within the Gateway"
        )
    )]
    pub per_port: Vec<TLSPortConfig>,
}

/// The TLS config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct TLSConfig {
    /// The validation.
    pub validation: Option<FrontendTLSValidation>,
}

/// The frontend TLS validation.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct FrontendTLSValidation {
    /// The objects with the authorities to trust.
    #[api(required, max_items = 16, min_items = 1, list_type = "atomic")]
    pub ca_certificate_refs: Vec<ObjectReference>,
    /// The mode.
    #[api(default = r#""AllowValidOnly""#)]
    pub mode: Option<FrontendValidationModeType>,
}

/// The TLS port config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct TLSPortConfig {
    /// The port.
    #[api(required, format = "int32", maximum = 65535, minimum = 1)]
    pub port: Port,
    /// TLS settings.
    #[api(required)]
    pub tls: TLSConfig,
}

/// Where the gateway can be reached, and the state of its listeners.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GatewayStatus {
    /// Addresses that are asked for, or were given.
    #[api(max_items = 16, list_type = "atomic")]
    pub addresses: Vec<GatewayStatusAddress>,
    /// The attached listener sets.
    pub attached_listener_sets: Option<i32>,
    /// The aspects of the state.
    #[api(
        default = r#"[{"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Accepted"}, {"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Programmed"}]"#,
        max_items = 8,
        list_map_keys("type"),
        list_type = "map"
    )]
    pub conditions: Vec<Condition>,
    /// What the gateway listens for.
    #[api(max_items = 64, list_map_keys("name"), list_type = "map")]
    pub listeners: Vec<ListenerStatus>,
}

/// The gateway status address.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes, rule(r#"self.type == 'Hostname' ? self.value.matches(r"""^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"""): true"#, r#"Hostname value must only contain valid characters (matching ^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$)"#), schema = r#"{"oneOf": [{"properties": {"type": {"enum": ["IPAddress"]}, "value": {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}}}, {"properties": {"type": {"not": {"enum": ["IPAddress"]}}}}]}"#)]
pub struct GatewayStatusAddress {
    /// The type.
    #[api(
        default = r#""IPAddress""#,
        max_length = 253,
        min_length = 1,
        pattern = r#"^Hostname|IPAddress|NamedAddress|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"#
    )]
    pub type_: Option<String>,
    /// The value.
    #[api(required, max_length = 253, min_length = 1)]
    pub value: String,
}

/// The state of a listener.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ListenerStatus {
    /// How many routes are attached.
    #[api(required)]
    pub attached_routes: i32,
    /// The aspects of the state.
    #[api(required, max_items = 8, list_map_keys("type"), list_type = "map")]
    pub conditions: Vec<Condition>,
    /// The name.
    #[api(
        required,
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub name: String,
    /// The kinds of routes that can be attached.
    #[api(max_items = 8, list_type = "atomic")]
    pub supported_kinds: Vec<RouteGroupKind>,
}

/// The from namespaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum FromNamespaces {
    /// The value `All`.
    #[default]
    All,
    /// The value `Selector`.
    Selector,
    /// The value `Same`.
    Same,
    /// The value `None`.
    None,
}

/// The TLS mode type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum TLSModeType {
    /// The value `Terminate`.
    #[default]
    Terminate,
    /// The value `Passthrough`.
    Passthrough,
}

/// The frontend validation mode type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum FrontendValidationModeType {
    /// The value `AllowValidOnly`.
    #[default]
    AllowValidOnly,
    /// The value `AllowInsecureFallback`.
    AllowInsecureFallback,
}
