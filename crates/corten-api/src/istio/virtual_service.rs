//! VirtualService: how requests and connections are routed.

use std::collections::BTreeMap;

use corten_core::{Duration, Host, Port};
use corten_derive::{Enumeration, Message, OneOf};

use crate::codec::Bytes;

/// How requests and connections to some hosts are routed.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct VirtualServiceSpec {
    /// The hosts; none makes this a delegate of others.
    pub hosts: Vec<Host>,
    /// The gateways that route so; `mesh` stands for all sidecars.
    pub gateways: Vec<String>,
    /// Routes for HTTP, tried in order.
    pub http: Vec<HTTPRoute>,
    /// Routes for TLS by server name, tried in order.
    pub tls: Vec<TLSRoute>,
    /// Routes for connections, tried in order.
    pub tcp: Vec<TCPRoute>,
    /// The namespaces that see it: `.` is this one, `*` all.
    pub export_to: Vec<String>,
}

/// A host, or a subset or port of it.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Destination {
    /// The host.
    #[api(required)]
    pub host: Host,
    /// The subset, as a DestinationRule names it.
    pub subset: String,
    /// The port; needed when the host has several.
    pub port: Option<PortSelector>,
}

/// What happens to the requests that match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPRoute {
    /// The name.
    pub name: String,
    /// The conditions, of which one must hold; none matches all requests.
    #[api(null_items)]
    pub match_: Vec<HTTPMatchRequest>,
    /// The destinations, chosen by weight.
    pub route: Vec<HTTPRouteDestination>,
    /// Answers with a redirect.
    pub redirect: Option<HTTPRedirect>,
    /// Answers without asking anyone.
    pub direct_response: Option<HTTPDirectResponse>,
    /// Another VirtualService that decides.
    pub delegate: Option<Delegate>,
    /// Changes path and authority before forwarding.
    pub rewrite: Option<HTTPRewrite>,
    /// How long a request may take, retries included.
    #[api(duration_rule)]
    pub timeout: Option<Duration>,
    /// When a request is tried again.
    pub retries: Option<HTTPRetry>,
    /// Delays or failures for tests.
    pub fault: Option<HTTPFaultInjection>,
    /// A destination that gets a copy of each request; its answers are dropped.
    pub mirror: Option<Destination>,
    /// Destinations that get copies of requests.
    pub mirrors: Vec<HTTPMirrorPolicy>,
    /// Deprecated in favour of `mirrorPercentage`.
    #[api(also = "mirror_percent", nullable)]
    pub mirror_percent: Option<u32>,
    /// The share of requests copied to `mirror`.
    pub mirror_percentage: Option<Percent>,
    /// Which other origins may call from browsers.
    pub cors_policy: Option<CorsPolicy>,
    /// Changes of headers.
    pub headers: Option<Headers>,
}

/// A VirtualService that decides instead.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Delegate {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
}

/// Changes of headers.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HeaderOperations {
    /// Headers that get exactly this value.
    pub set: BTreeMap<String, String>,
    /// Values added to headers.
    pub add: BTreeMap<String, String>,
    /// Headers taken away.
    pub remove: Vec<String>,
}

/// Changes of headers, of requests and responses.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Headers {
    /// The request.
    pub request: Option<HeaderOperations>,
    /// The response.
    pub response: Option<HeaderOperations>,
}

/// Where TLS connections go, unopened.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TLSRoute {
    /// The conditions.
    #[api(required)]
    pub match_: Vec<TLSMatchAttributes>,
    /// The route.
    pub route: Vec<RouteDestination>,
}

/// Where connections go.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TCPRoute {
    /// The conditions.
    pub match_: Vec<L4MatchAttributes>,
    /// The route.
    pub route: Vec<RouteDestination>,
}

/// Conditions on a request, which must all hold.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPMatchRequest {
    /// The name.
    pub name: String,
    /// The path.
    pub uri: Option<StringMatch>,
    /// The scheme.
    pub scheme: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// The authority: host and port as the client sees them.
    pub authority: Option<StringMatch>,
    /// Headers by name; an empty match asks only that the header is there.
    pub headers: BTreeMap<String, StringMatch>,
    /// The port.
    pub port: Port,
    /// Labels of the workload that calls.
    pub source_labels: BTreeMap<String, String>,
    /// The gateways this is limited to.
    pub gateways: Vec<String>,
    /// Query parameters by name.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Whether case does not count in exact and prefix matches of the path.
    pub ignore_uri_case: bool,
    /// Headers that must not match.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// The namespace of the workload that calls.
    pub source_namespace: String,
    /// The name under which metrics of these requests are kept.
    pub stat_prefix: String,
}

/// A destination with its weight.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPRouteDestination {
    /// The destination.
    #[api(required)]
    pub destination: Option<Destination>,
    /// The share of the traffic.
    pub weight: i32,
    /// Headers.
    pub headers: Option<Headers>,
}

/// A destination with its weight.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RouteDestination {
    /// The destination.
    #[api(required)]
    pub destination: Option<Destination>,
    /// The share of the traffic.
    pub weight: i32,
}

/// Conditions on a connection, which must all hold.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct L4MatchAttributes {
    /// Ranges of addresses that are called.
    pub destination_subnets: Vec<String>,
    /// The port.
    pub port: Port,
    /// Not used.
    pub source_subnet: String,
    /// Labels of the workload that calls.
    pub source_labels: BTreeMap<String, String>,
    /// The gateways this is limited to.
    pub gateways: Vec<String>,
    /// The namespace of the workload that calls.
    pub source_namespace: String,
}

/// Conditions on a TLS connection, which must all hold.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TLSMatchAttributes {
    /// The server names that clients ask for.
    #[api(required)]
    pub sni_hosts: Vec<Host>,
    /// Ranges of addresses that are called.
    pub destination_subnets: Vec<String>,
    /// The port.
    pub port: Port,
    /// Labels of the workload that calls.
    pub source_labels: BTreeMap<String, String>,
    /// The gateways this is limited to.
    pub gateways: Vec<String>,
    /// The namespace of the workload that calls.
    pub source_namespace: String,
}

/// An answer that sends the client elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPRedirect {
    /// The uri.
    pub uri: String,
    /// The authority: host and port as the client sees them.
    pub authority: String,
    /// The port of the new location.
    #[api(flatten)]
    pub redirect_port: Option<HTTPRedirectRedirectPort>,
    /// The scheme.
    pub scheme: String,
    /// The status; 301 when left out.
    pub redirect_code: u32,
    /// What replaces the matched prefix of the path.
    pub prefix_rewrite: String,
}

/// The HTTP redirect redirect port.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum HTTPRedirectRedirectPort {
    /// The port.
    Port(Port),
    /// The derive port.
    DerivePort(RedirectPortSelection),
}

/// An answer without asking anyone.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPDirectResponse {
    /// The status.
    #[api(required)]
    pub status: u32,
    /// The body.
    pub body: Option<HTTPBody>,
}

/// The HTTP body.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPBody {
    /// The specifier.
    #[api(flatten)]
    pub specifier: Option<HTTPBodySpecifier>,
}

/// The HTTP body specifier.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum HTTPBodySpecifier {
    /// The string.
    String(String),
    /// The bytes.
    #[api(format = "byte")]
    Bytes(Bytes),
}

/// Changes of a request before it is forwarded.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPRewrite {
    /// What replaces the matched path or prefix.
    pub uri: String,
    /// The new authority.
    pub authority: String,
    /// A substitution in the path by regular expression.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// The regex rewrite.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RegexRewrite {
    /// The conditions.
    pub match_: String,
    /// The rewrite.
    pub rewrite: String,
}

/// How a text must look.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct StringMatch {
    /// Compared as a whole, from the start, or by regular expression.
    #[api(flatten)]
    pub match_type: Option<StringMatchMatchType>,
}

/// The string match match type.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum StringMatchMatchType {
    /// Exactly this.
    Exact(String),
    /// Beginning with this.
    Prefix(String),
    /// All of it matched by this regular expression (RE2).
    Regex(String),
}

/// When and how often a request is tried again.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPRetry {
    /// How often; 0 is never.
    pub attempts: i32,
    /// How long each attempt may take.
    #[api(duration_rule)]
    pub per_try_timeout: Option<Duration>,
    /// The conditions and status codes, separated by commas.
    pub retry_on: String,
    /// Whether retries may go to other places.
    #[api(nullable)]
    pub retry_remote_localities: Option<bool>,
    /// Whether retries avoid endpoints that failed.
    #[api(nullable)]
    pub retry_ignore_previous_hosts: Option<bool>,
    /// The least time between attempts.
    #[api(duration_rule)]
    pub backoff: Option<Duration>,
}

/// Which other origins may call from browsers (CORS).
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct CorsPolicy {
    /// Deprecated in favour of `allowOrigins`.
    pub allow_origin: Vec<String>,
    /// The origins.
    pub allow_origins: Vec<StringMatch>,
    /// The allow methods.
    pub allow_methods: Vec<String>,
    /// The allow headers.
    pub allow_headers: Vec<String>,
    /// The expose headers.
    pub expose_headers: Vec<String>,
    /// How long a browser may remember the answer.
    #[api(duration_rule)]
    pub max_age: Option<Duration>,
    /// The allow credentials.
    #[api(nullable)]
    pub allow_credentials: Option<bool>,
    /// What happens to preflight requests of other origins.
    pub unmatched_preflights: UnmatchedPreflights,
}

/// Holds some requests back.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Delay {
    /// Deprecated in favour of `percentage`.
    pub percent: i32,
    /// The http delay type.
    #[api(flatten)]
    pub http_delay_type: Option<DelayHttpDelayType>,
    /// The share that is affected.
    pub percentage: Option<Percent>,
}

/// The delay http delay type.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum DelayHttpDelayType {
    /// The fixed delay.
    #[api(duration_rule)]
    FixedDelay(Duration),
    /// The exponential delay.
    #[api(duration_rule)]
    ExponentialDelay(Duration),
}

/// Fails some requests.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Abort {
    /// The error type.
    #[api(flatten)]
    pub error_type: Option<AbortErrorType>,
    /// The share that is affected.
    pub percentage: Option<Percent>,
}

/// The abort error type.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum AbortErrorType {
    /// The http status.
    HttpStatus(i32),
    /// The grpc status.
    GrpcStatus(String),
    /// The http2 error.
    Http2Error(String),
}

/// Delays and failures on purpose, for tests.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPFaultInjection {
    /// The delay.
    pub delay: Option<Delay>,
    /// The abort.
    pub abort: Option<Abort>,
}

/// A destination that gets copies of requests.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPMirrorPolicy {
    /// The destination.
    #[api(required)]
    pub destination: Option<Destination>,
    /// The share that is affected.
    pub percentage: Option<Percent>,
}

/// The port selector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct PortSelector {
    /// The number.
    pub number: Port,
}

/// The percent.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Percent {
    /// The value.
    pub value: f64,
}

/// The redirect port selection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum RedirectPortSelection {
    /// The value `FROM_PROTOCOL_DEFAULT`.
    #[default]
    FromProtocolDefault,
    /// The value `FROM_REQUEST_PORT`.
    FromRequestPort,
}

/// The unmatched preflights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum UnmatchedPreflights {
    /// Forwarded.
    #[default]
    Unspecified,
    /// Forwarded to the destination.
    Forward,
    /// Answered as if there were no policy.
    Ignore,
}
