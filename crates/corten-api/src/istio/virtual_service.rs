//! VirtualService: how requests and connections are routed.

use std::collections::BTreeMap;

use corten_core::{Duration, Host, Port};
use corten_derive::{Enumeration, Message, OneOf};

use crate::codec::Bytes;

/// The specification of a virtual service.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct VirtualServiceSpec {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The gateways.
    pub gateways: Vec<String>,
    /// The http.
    pub http: Vec<HTTPRoute>,
    /// The tls.
    pub tls: Vec<TLSRoute>,
    /// The tcp.
    pub tcp: Vec<TCPRoute>,
    /// The export to.
    pub export_to: Vec<String>,
}

/// The destination.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Destination {
    /// The host.
    #[api(required)]
    pub host: Host,
    /// The subset.
    pub subset: String,
    /// The port.
    pub port: Option<PortSelector>,
}

/// The HTTP route.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPRoute {
    /// The name.
    pub name: String,
    /// The match.
    #[api(null_items)]
    pub match_: Vec<HTTPMatchRequest>,
    /// The route.
    pub route: Vec<HTTPRouteDestination>,
    /// The redirect.
    pub redirect: Option<HTTPRedirect>,
    /// The direct response.
    pub direct_response: Option<HTTPDirectResponse>,
    /// The delegate.
    pub delegate: Option<Delegate>,
    /// The rewrite.
    pub rewrite: Option<HTTPRewrite>,
    /// The timeout.
    #[api(duration_rule)]
    pub timeout: Option<Duration>,
    /// The retries.
    pub retries: Option<HTTPRetry>,
    /// The fault.
    pub fault: Option<HTTPFaultInjection>,
    /// The mirror.
    pub mirror: Option<Destination>,
    /// The mirrors.
    pub mirrors: Vec<HTTPMirrorPolicy>,
    /// The mirror percent.
    #[api(also = "mirror_percent", nullable)]
    pub mirror_percent: Option<u32>,
    /// The mirror percentage.
    pub mirror_percentage: Option<Percent>,
    /// The cors policy.
    pub cors_policy: Option<CorsPolicy>,
    /// The headers.
    pub headers: Option<Headers>,
}

/// The delegate.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Delegate {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
}

/// The header operations.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HeaderOperations {
    /// The set.
    pub set: BTreeMap<String, String>,
    /// The add.
    pub add: BTreeMap<String, String>,
    /// The remove.
    pub remove: Vec<String>,
}

/// The headers.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Headers {
    /// The request.
    pub request: Option<HeaderOperations>,
    /// The response.
    pub response: Option<HeaderOperations>,
}

/// The TLS route.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TLSRoute {
    /// The match.
    #[api(required)]
    pub match_: Vec<TLSMatchAttributes>,
    /// The route.
    pub route: Vec<RouteDestination>,
}

/// The TCP route.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TCPRoute {
    /// The match.
    pub match_: Vec<L4MatchAttributes>,
    /// The route.
    pub route: Vec<RouteDestination>,
}

/// The HTTP match request.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPMatchRequest {
    /// The name.
    pub name: String,
    /// The uri.
    pub uri: Option<StringMatch>,
    /// The scheme.
    pub scheme: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// The authority.
    pub authority: Option<StringMatch>,
    /// The headers.
    pub headers: BTreeMap<String, StringMatch>,
    /// The port.
    pub port: Port,
    /// The source labels.
    pub source_labels: BTreeMap<String, String>,
    /// The gateways.
    pub gateways: Vec<String>,
    /// The query params.
    pub query_params: BTreeMap<String, StringMatch>,
    /// The ignore uri case.
    pub ignore_uri_case: bool,
    /// The without headers.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// The source namespace.
    pub source_namespace: String,
    /// The stat prefix.
    pub stat_prefix: String,
}

/// The HTTP route destination.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPRouteDestination {
    /// The destination.
    #[api(required)]
    pub destination: Option<Destination>,
    /// The weight.
    pub weight: i32,
    /// The headers.
    pub headers: Option<Headers>,
}

/// The route destination.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RouteDestination {
    /// The destination.
    #[api(required)]
    pub destination: Option<Destination>,
    /// The weight.
    pub weight: i32,
}

/// The L4 match attributes.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct L4MatchAttributes {
    /// The destination subnets.
    pub destination_subnets: Vec<String>,
    /// The port.
    pub port: Port,
    /// The source subnet.
    pub source_subnet: String,
    /// The source labels.
    pub source_labels: BTreeMap<String, String>,
    /// The gateways.
    pub gateways: Vec<String>,
    /// The source namespace.
    pub source_namespace: String,
}

/// The TLS match attributes.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TLSMatchAttributes {
    /// The sni hosts.
    #[api(required)]
    pub sni_hosts: Vec<Host>,
    /// The destination subnets.
    pub destination_subnets: Vec<String>,
    /// The port.
    pub port: Port,
    /// The source labels.
    pub source_labels: BTreeMap<String, String>,
    /// The gateways.
    pub gateways: Vec<String>,
    /// The source namespace.
    pub source_namespace: String,
}

/// The HTTP redirect.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPRedirect {
    /// The uri.
    pub uri: String,
    /// The authority.
    pub authority: String,
    /// The redirect port.
    #[api(flatten)]
    pub redirect_port: Option<HTTPRedirectRedirectPort>,
    /// The scheme.
    pub scheme: String,
    /// The redirect code.
    pub redirect_code: u32,
    /// The prefix rewrite.
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

/// The HTTP direct response.
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

/// The HTTP rewrite.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPRewrite {
    /// The uri.
    pub uri: String,
    /// The authority.
    pub authority: String,
    /// The uri regex rewrite.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// The regex rewrite.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RegexRewrite {
    /// The match.
    pub match_: String,
    /// The rewrite.
    pub rewrite: String,
}

/// The string match.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct StringMatch {
    /// The match type.
    #[api(flatten)]
    pub match_type: Option<StringMatchMatchType>,
}

/// The string match match type.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum StringMatchMatchType {
    /// The exact.
    Exact(String),
    /// The prefix.
    Prefix(String),
    /// The regex.
    Regex(String),
}

/// The HTTP retry.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPRetry {
    /// The attempts.
    pub attempts: i32,
    /// The per try timeout.
    #[api(duration_rule)]
    pub per_try_timeout: Option<Duration>,
    /// The retry on.
    pub retry_on: String,
    /// The retry remote localities.
    #[api(nullable)]
    pub retry_remote_localities: Option<bool>,
    /// The retry ignore previous hosts.
    #[api(nullable)]
    pub retry_ignore_previous_hosts: Option<bool>,
    /// The backoff.
    #[api(duration_rule)]
    pub backoff: Option<Duration>,
}

/// The cors policy.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct CorsPolicy {
    /// The allow origin.
    pub allow_origin: Vec<String>,
    /// The allow origins.
    pub allow_origins: Vec<StringMatch>,
    /// The allow methods.
    pub allow_methods: Vec<String>,
    /// The allow headers.
    pub allow_headers: Vec<String>,
    /// The expose headers.
    pub expose_headers: Vec<String>,
    /// The max age.
    #[api(duration_rule)]
    pub max_age: Option<Duration>,
    /// The allow credentials.
    #[api(nullable)]
    pub allow_credentials: Option<bool>,
    /// The unmatched preflights.
    pub unmatched_preflights: UnmatchedPreflights,
}

/// The delay.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Delay {
    /// The percent.
    pub percent: i32,
    /// The http delay type.
    #[api(flatten)]
    pub http_delay_type: Option<DelayHttpDelayType>,
    /// The percentage.
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

/// The abort.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Abort {
    /// The error type.
    #[api(flatten)]
    pub error_type: Option<AbortErrorType>,
    /// The percentage.
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

/// The HTTP fault injection.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPFaultInjection {
    /// The delay.
    pub delay: Option<Delay>,
    /// The abort.
    pub abort: Option<Abort>,
}

/// The HTTP mirror policy.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPMirrorPolicy {
    /// The destination.
    #[api(required)]
    pub destination: Option<Destination>,
    /// The percentage.
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
    /// The value `UNSPECIFIED`.
    #[default]
    Unspecified,
    /// The value `FORWARD`.
    Forward,
    /// The value `IGNORE`.
    Ignore,
}
