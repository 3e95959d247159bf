//! EnvoyFilter: patches to generated Envoy configuration.

use std::collections::BTreeMap;

use corten_core::Port;
use corten_derive::{Enumeration, Message, OneOf};

use super::selector::PolicyTargetReference;
use super::sidecar::WorkloadSelector;
use crate::codec::Struct;

/// Patches to the Envoy configuration that the control plane generates.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "(has(self.workloadSelector) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    "only one of targetRefs or workloadSelector can be set"
))]
pub struct EnvoyFilterSpec {
    /// The workload selector.
    pub workload_selector: Option<WorkloadSelector>,
    /// The objects it is attached to.
    #[api(max_items = 16)]
    pub target_refs: Vec<PolicyTargetReference>,
    /// The patches, applied in order.
    pub config_patches: Vec<EnvoyConfigObjectPatch>,
    /// The order among filters; lower is applied first.
    pub priority: i32,
}

/// The envoy filter proxy match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyFilterProxyMatch {
    /// The proxy version.
    pub proxy_version: String,
    /// The metadata.
    pub metadata: BTreeMap<String, String>,
}

/// The cluster match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ClusterMatch {
    /// The port number.
    pub port_number: Port,
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The subset.
    pub subset: String,
    /// The name.
    pub name: String,
}

/// The route configuration match route match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RouteConfigurationMatchRouteMatch {
    /// The name.
    pub name: String,
    /// The action.
    pub action: RouteConfigurationMatchRouteMatchAction,
}

/// The virtual host match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct VirtualHostMatch {
    /// The name.
    pub name: String,
    /// The domain name.
    pub domain_name: String,
    /// The route.
    pub route: Option<RouteConfigurationMatchRouteMatch>,
}

/// The route configuration match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RouteConfigurationMatch {
    /// The port number.
    pub port_number: Port,
    /// The port name.
    pub port_name: String,
    /// The gateway.
    pub gateway: String,
    /// The vhost.
    pub vhost: Option<VirtualHostMatch>,
    /// The name.
    pub name: String,
}

/// The filter chain match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct FilterChainMatch {
    /// The name.
    pub name: String,
    /// The sni.
    pub sni: String,
    /// The transport protocol.
    pub transport_protocol: String,
    /// The application protocols.
    pub application_protocols: String,
    /// The filter.
    pub filter: Option<ListenerMatchFilterMatch>,
    /// The destination port.
    pub destination_port: u32,
    /// The transport socket.
    pub transport_socket: String,
}

/// The listener match filter match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ListenerMatchFilterMatch {
    /// The name.
    pub name: String,
    /// The sub filter.
    pub sub_filter: Option<ListenerMatchSubFilterMatch>,
}

/// The listener match sub filter match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ListenerMatchSubFilterMatch {
    /// The name.
    pub name: String,
}

/// The listener match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ListenerMatch {
    /// The port number.
    pub port_number: Port,
    /// The port name.
    pub port_name: String,
    /// The filter chain.
    pub filter_chain: Option<FilterChainMatch>,
    /// The listener filter.
    pub listener_filter: String,
    /// The name.
    pub name: String,
}

/// The waypoint match route match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct WaypointMatchRouteMatch {
    /// The name.
    pub name: String,
}

/// The waypoint match filter match sub filter match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct WaypointMatchFilterMatchSubFilterMatch {
    /// The name.
    pub name: String,
}

/// The waypoint match filter match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct WaypointMatchFilterMatch {
    /// The name.
    pub name: String,
    /// The sub filter.
    pub sub_filter: Option<WaypointMatchFilterMatchSubFilterMatch>,
}

/// The waypoint match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct WaypointMatch {
    /// The port number.
    #[api(rule("0 < self && self <= 65535", "port must be between 1-65535"))]
    pub port_number: Port,
    /// The route.
    pub route: Option<WaypointMatchRouteMatch>,
    /// The filter.
    pub filter: Option<WaypointMatchFilterMatch>,
}

/// The envoy filter patch.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyFilterPatch {
    /// The operation.
    pub operation: EnvoyFilterPatchOperation,
    /// The value.
    pub value: Option<Struct>,
    /// The filter class.
    pub filter_class: FilterClass,
}

/// The envoy config object match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(r#"has(self.context) ? ((self.context == "WAYPOINT") ? has(self.waypoint) : !has(self.waypoint)) : !has(self.waypoint)"#, "only support waypointMatch when context is WAYPOINT"))]
pub struct EnvoyConfigObjectMatch {
    /// The context.
    pub context: PatchContext,
    /// The proxy.
    pub proxy: Option<EnvoyFilterProxyMatch>,
    /// The object types.
    #[api(flatten)]
    pub object_types: Option<EnvoyConfigObjectMatchObjectTypes>,
}

/// The envoy config object match object types.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum EnvoyConfigObjectMatchObjectTypes {
    /// The listener.
    Listener(ListenerMatch),
    /// The route configuration.
    RouteConfiguration(RouteConfigurationMatch),
    /// The cluster.
    Cluster(ClusterMatch),
    /// The waypoint.
    Waypoint(WaypointMatch),
}

/// The envoy config object patch.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyConfigObjectPatch {
    /// The apply to.
    pub apply_to: EnvoyFilterApplyTo,
    /// The conditions.
    pub match_: Option<EnvoyConfigObjectMatch>,
    /// The patch.
    pub patch: Option<EnvoyFilterPatch>,
}

/// The envoy filter apply to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum EnvoyFilterApplyTo {
    /// The value `INVALID`.
    #[default]
    Invalid,
    /// The value `LISTENER`.
    Listener,
    /// The value `FILTER_CHAIN`.
    FilterChain,
    /// The value `NETWORK_FILTER`.
    NetworkFilter,
    /// The value `HTTP_FILTER`.
    HttpFilter,
    /// The value `ROUTE_CONFIGURATION`.
    RouteConfiguration,
    /// The value `VIRTUAL_HOST`.
    VirtualHost,
    /// The value `HTTP_ROUTE`.
    HttpRoute,
    /// The value `CLUSTER`.
    Cluster,
    /// The value `EXTENSION_CONFIG`.
    ExtensionConfig,
    /// The value `BOOTSTRAP`.
    Bootstrap,
    /// The value `LISTENER_FILTER`.
    ListenerFilter,
}

/// The patch context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum PatchContext {
    /// The value `ANY`.
    #[default]
    Any,
    /// The value `SIDECAR_INBOUND`.
    SidecarInbound,
    /// The value `SIDECAR_OUTBOUND`.
    SidecarOutbound,
    /// The value `GATEWAY`.
    Gateway,
    /// The value `WAYPOINT`.
    Waypoint,
}

/// The route configuration match route match action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum RouteConfigurationMatchRouteMatchAction {
    /// The value `ANY`.
    #[default]
    Any,
    /// The value `ROUTE`.
    Route,
    /// The value `REDIRECT`.
    Redirect,
    /// The value `DIRECT_RESPONSE`.
    DirectResponse,
}

/// The envoy filter patch operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum EnvoyFilterPatchOperation {
    /// The value `INVALID`.
    #[default]
    Invalid,
    /// The value `MERGE`.
    Merge,
    /// The value `ADD`.
    Add,
    /// The value `REMOVE`.
    Remove,
    /// The value `INSERT_BEFORE`.
    InsertBefore,
    /// The value `INSERT_AFTER`.
    InsertAfter,
    /// The value `INSERT_FIRST`.
    InsertFirst,
    /// The value `REPLACE`.
    Replace,
    /// The value `MERGE_AND_REPLACE_LIST`.
    MergeAndReplaceList,
}

/// The filter class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum FilterClass {
    /// The value `UNSPECIFIED`.
    #[default]
    Unspecified,
    /// The value `AUTHN`.
    Authn,
    /// The value `AUTHZ`.
    Authz,
    /// The value `STATS`.
    Stats,
}
