//! The routes of what comes in: all of it to the workload.

use corten_envoy::{
    boolean,
    envoy::config::route::v3::{
        Decorator, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route, route_action, route_match,
    },
    seconds, uint32,
};
use corten_routing::{Service, ServicePort};

/// The routes to a port of the workload, for a service's port that leads there; `None`: for what no service leads to.
pub(crate) fn inbound_route(cluster: &str, of: Option<(&Service, &ServicePort)>) -> RouteConfiguration {
    let (name, operation) = match of {
        Some((service, port)) => (
            format!("inbound|http|{}", port.number),
            format!("{}:{}/*", service.host, port.number),
        ),
        None => ("inbound|http|0".to_owned(), ":0/*".to_owned()),
    };
    let action = RouteAction {
        timeout: Some(seconds(0)),
        max_stream_duration: Some(route_action::MaxStreamDuration {
            max_stream_duration: Some(seconds(0)),
            grpc_timeout_header_max: Some(seconds(0)),
            ..route_action::MaxStreamDuration::default()
        }),
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..RouteAction::default()
    };
    let to_workload = Route {
        name: "default".to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
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
        max_direct_response_body_size_bytes: uint32(1024 * 1024),
        ..RouteConfiguration::default()
    }
}
