//! The routes of what comes in: all of it to the workload.

use corten_core::Protocol;
use corten_envoy::{
    boolean,
    envoy::config::route::v3::{Decorator, Route, RouteAction, RouteConfiguration, VirtualHost, route, route_action},
    seconds, uint32,
};
use corten_routing::{Service, ServicePort};

use super::{DIRECT_BODY, matching, retry};
use crate::Context;

/// The routes to a port of the workload, for a service's port that leads there; `None`: for what no service leads to.
pub(crate) fn inbound_route(
    cx: &Context<'_>,
    cluster: &str,
    of: Option<(&Service, &ServicePort)>,
) -> RouteConfiguration {
    let (name, operation) = match of {
        Some((service, port)) => (
            format!("inbound|http|{}", port.number),
            format!("{}:{}/*", service.host, port.number),
        ),
        None => ("inbound|http|0".to_owned(), ":0/*".to_owned()),
    };
    let is_grpc = of.is_some_and(|(_, port)| matches!(port.protocol, Protocol::Grpc | Protocol::GrpcWeb));
    let action = RouteAction {
        timeout: Some(seconds(0)),
        max_stream_duration: Some(route_action::MaxStreamDuration {
            max_stream_duration: Some(seconds(0)),
            grpc_timeout_header_max: Some(seconds(0)),
            ..route_action::MaxStreamDuration::default()
        }),
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        retry_policy: if is_grpc {
            None
        } else {
            retry::inbound(cx.mesh().default_inbound_http_retry_policy.as_ref())
        },
        ..RouteAction::default()
    };
    let to_workload = Route {
        name: "default".to_owned(),
        r#match: Some(matching::everything()),
        decorator: Some(Decorator {
            operation,
            ..Decorator::default()
        }),
        action: Some(route::Action::Route(action)),
        ..Route::default()
    };
    RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name,
            domains: vec!["*".to_owned()],
            routes: vec![to_workload],
            ..VirtualHost::default()
        }],
        validate_clusters: boolean(false),
        max_direct_response_body_size_bytes: uint32(DIRECT_BODY),
        ..RouteConfiguration::default()
    }
}
