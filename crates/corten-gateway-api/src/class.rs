//! Classes of gateways: which controllers are ours, and what each means.

use corten_api::{
    codec::Timestamp,
    gateway_api::{GatewayClass, gateway_class::GatewayClassStatus},
};

use crate::{Settings, condition::Conditions};

/// The controller of ordinary gateways.
pub const GATEWAY_CONTROLLER: &str = "istio.io/gateway-controller";
/// The controller of gateways in other clusters, which are only known of.
pub const REMOTE_CONTROLLER: &str = "istio.io/unmanaged-gateway";
/// The controller of waypoints.
pub const MESH_CONTROLLER: &str = "istio.io/mesh-controller";
/// The controller of gateways between networks.
pub const EAST_WEST_CONTROLLER: &str = "istio.io/eastwest-controller";

/// The features of the Gateway API that are supported, by the names that its conformance suite has for them, in order.
pub const FEATURES: [&str; 59] = [
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "GRPCRouteRequestHeaderModifier",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayInfrastructurePropagation",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendRequestRedirect",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "Mesh",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
];

/// What a controller's gateways are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ordinary ones.
    Gateway,
    /// In another cluster.
    Remote,
    /// Waypoints.
    Waypoint,
    /// Between networks.
    EastWest,
}

/// Which addresses a gateway shows when it has none from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Hostname,
    Ip,
    Both,
}

impl Role {
    /// The role of a controller; `None`: not one of ours.
    pub fn of_controller(controller: &str, settings: &Settings) -> Option<Role> {
        match controller {
            GATEWAY_CONTROLLER => Some(Role::Gateway),
            REMOTE_CONTROLLER => Some(Role::Remote),
            MESH_CONTROLLER => Some(Role::Waypoint),
            EAST_WEST_CONTROLLER if settings.east_west => Some(Role::EastWest),
            _ => None,
        }
    }

    /// The role of a class that needs no object.
    pub fn of_built_in(class: &str, settings: &Settings) -> Option<Role> {
        match class {
            "istio" => Some(Role::Gateway),
            "istio-remote" => Some(Role::Remote),
            "istio-waypoint" => Some(Role::Waypoint),
            "istio-east-west" if settings.east_west => Some(Role::EastWest),
            _ => None,
        }
    }

    /// Whether others may add listeners by ListenerSets.
    pub(crate) fn takes_listener_sets(self) -> bool {
        self == Role::Gateway
    }

    /// What a Deployment and a Service of a gateway are called.
    pub fn workload_name(self, gateway: &str, class: &str) -> String {
        match self {
            Role::Gateway | Role::Remote => format!("{gateway}-{class}"),
            Role::Waypoint | Role::EastWest => gateway.to_owned(),
        }
    }

    pub(crate) fn shown(self) -> Shown {
        match self {
            Role::Gateway | Role::Remote => Shown::Hostname,
            Role::Waypoint | Role::EastWest => Shown::Both,
        }
    }
}

/// The status of a class; `None`: it is another's.
pub fn status(class: &GatewayClass, settings: &Settings, now: Timestamp) -> Option<GatewayClassStatus> {
    Role::of_controller(&class.spec.controller_name, settings)?;
    let mut status = class.status.clone().unwrap_or_default();
    status.conditions = Conditions::default()
        .good("Accepted", "Accepted", "Handled by Istio controller")
        .over(&status.conditions, class.metadata.generation, now);
    Some(status)
}
