//! The ProxyConfig of MeshConfig and of annotations: how a proxy runs.

use std::collections::BTreeMap;

use corten_core::Duration;
use corten_derive::{Enumeration, Message, OneOf};

use super::destination_rule::{ClientTLSSettings, TcpKeepalive};
use super::proxy_config_resource::ProxyImage;
use super::workload_group::ReadinessProbe;

/// The zipkin.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Zipkin {
    /// The address.
    pub address: String,
}

/// The lightstep.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Lightstep {
    /// The address.
    pub address: String,
    /// The access token.
    pub access_token: String,
}

/// The datadog.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Datadog {
    /// The address.
    pub address: String,
}

/// The stackdriver.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Stackdriver {
    /// The debug.
    pub debug: bool,
    /// The max number of attributes.
    pub max_number_of_attributes: Option<i64>,
    /// The max number of annotations.
    pub max_number_of_annotations: Option<i64>,
    /// The max number of message events.
    pub max_number_of_message_events: Option<i64>,
}

/// The open census agent.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct OpenCensusAgent {
    /// The address.
    pub address: String,
    /// The context.
    pub context: Vec<OpenCensusAgentTraceContext>,
}

/// The tracing custom tag.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TracingCustomTag {
    /// The type.
    #[api(flatten)]
    pub type_: Option<TracingCustomTagType>,
}

/// The tracing custom tag type.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum TracingCustomTagType {
    /// The literal.
    Literal(TracingLiteral),
    /// The environment.
    Environment(TracingEnvironment),
    /// The header.
    Header(TracingRequestHeader),
}

/// The tracing literal.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TracingLiteral {
    /// The value.
    pub value: String,
}

/// The tracing environment.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TracingEnvironment {
    /// The name.
    pub name: String,
    /// The default value.
    pub default_value: String,
}

/// The tracing request header.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TracingRequestHeader {
    /// The name.
    pub name: String,
    /// The default value.
    pub default_value: String,
}

/// Where traces go, how many, and with which tags.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Tracing {
    /// The tracer.
    #[api(flatten)]
    pub tracer: Option<TracingTracer>,
    /// The custom tags.
    pub custom_tags: BTreeMap<String, TracingCustomTag>,
    /// The max path tag length.
    pub max_path_tag_length: u32,
    /// The sampling.
    pub sampling: f64,
    /// The tls settings.
    pub tls_settings: Option<ClientTLSSettings>,
    /// The enable istio tags.
    pub enable_istio_tags: Option<bool>,
}

/// The tracing tracer.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum TracingTracer {
    /// The zipkin.
    Zipkin(Zipkin),
    /// The lightstep.
    Lightstep(Lightstep),
    /// The datadog.
    Datadog(Datadog),
    /// The stackdriver.
    Stackdriver(Stackdriver),
    /// The open census agent.
    OpenCensusAgent(OpenCensusAgent),
}

/// The SDS.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct SDS {
    /// Whether it is on.
    pub enabled: bool,
    /// The k8s sa jwt path.
    pub k8s_sa_jwt_path: String,
}

/// The proxy protocol configuration.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProxyProtocolConfiguration {}

/// The topology.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Topology {
    /// The num trusted proxies.
    pub num_trusted_proxies: u32,
    /// The forward client cert details.
    pub forward_client_cert_details: ForwardClientCertDetails,
    /// Tells the backend who connected.
    pub proxy_protocol: Option<ProxyProtocolConfiguration>,
}

/// The crypto mb.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct CryptoMb {
    /// The poll delay.
    pub poll_delay: Option<Duration>,
    /// The fallback.
    pub fallback: Option<bool>,
}

/// The QAT.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct QAT {
    /// The poll delay.
    pub poll_delay: Option<Duration>,
    /// The fallback.
    pub fallback: Option<bool>,
}

/// The private key provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct PrivateKeyProvider {
    /// The provider.
    #[api(flatten)]
    pub provider: Option<PrivateKeyProviderProvider>,
}

/// The private key provider provider.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum PrivateKeyProviderProvider {
    /// The cryptomb.
    Cryptomb(CryptoMb),
    /// The qat.
    Qat(QAT),
}

/// The proxy stats matcher.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProxyStatsMatcher {
    /// The inclusion prefixes.
    pub inclusion_prefixes: Vec<String>,
    /// The inclusion suffixes.
    pub inclusion_suffixes: Vec<String>,
    /// The inclusion regexps.
    pub inclusion_regexps: Vec<String>,
}

/// The proxy headers server.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProxyHeadersServer {
    /// Whether it is off.
    pub disabled: Option<bool>,
    /// The value.
    pub value: String,
}

/// The request id.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RequestId {
    /// Whether it is off.
    pub disabled: Option<bool>,
}

/// The attempt count.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct AttemptCount {
    /// Whether it is off.
    pub disabled: Option<bool>,
}

/// The x forwarded host.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct XForwardedHost {
    /// Whether it is on.
    pub enabled: Option<bool>,
}

/// The x forwarded port.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct XForwardedPort {
    /// Whether it is on.
    pub enabled: Option<bool>,
}

/// The envoy debug headers.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyDebugHeaders {
    /// Whether it is off.
    pub disabled: Option<bool>,
}

/// The metadata exchange headers.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct MetadataExchangeHeaders {
    /// The mode.
    pub mode: MetadataExchangeMode,
}

/// The set current client cert details.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct SetCurrentClientCertDetails {
    /// The subject.
    pub subject: Option<bool>,
    /// The cert.
    pub cert: Option<bool>,
    /// The chain.
    pub chain: Option<bool>,
    /// The dns.
    pub dns: Option<bool>,
    /// The uri.
    pub uri: Option<bool>,
}

/// The proxy headers.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProxyHeaders {
    /// The forwarded client cert.
    pub forwarded_client_cert: ForwardClientCertDetails,
    /// The set current client cert details.
    pub set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
    /// The request id.
    pub request_id: Option<RequestId>,
    /// The server.
    pub server: Option<ProxyHeadersServer>,
    /// The attempt count.
    pub attempt_count: Option<AttemptCount>,
    /// The envoy debug headers.
    pub envoy_debug_headers: Option<EnvoyDebugHeaders>,
    /// The metadata exchange headers.
    pub metadata_exchange_headers: Option<MetadataExchangeHeaders>,
    /// The preserve http1 header case.
    pub preserve_http1_header_case: Option<bool>,
    /// The x forwarded host.
    pub x_forwarded_host: Option<XForwardedHost>,
    /// The x forwarded port.
    pub x_forwarded_port: Option<XForwardedPort>,
}

/// The connection settings.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ConnectionSettings {
    /// The profile.
    pub profile: Profile,
    /// The listener per connection buffer limit bytes.
    pub listener_per_connection_buffer_limit_bytes: Option<i32>,
    /// The cluster per connection buffer limit bytes.
    pub cluster_per_connection_buffer_limit_bytes: Option<i32>,
    /// The http idle timeout.
    pub http_idle_timeout: Option<Duration>,
    /// The http max connection duration.
    pub http_max_connection_duration: Option<Duration>,
    /// The http drain timeout.
    pub http_drain_timeout: Option<Duration>,
    /// The http request timeout.
    pub http_request_timeout: Option<Duration>,
    /// The http request headers timeout.
    pub http_request_headers_timeout: Option<Duration>,
    /// The http stream idle timeout.
    pub http_stream_idle_timeout: Option<Duration>,
    /// The http max stream duration.
    pub http_max_stream_duration: Option<Duration>,
    /// The http max concurrent streams.
    pub http_max_concurrent_streams: Option<i32>,
    /// The http2 initial stream window size.
    pub http2_initial_stream_window_size: Option<i32>,
    /// The http2 initial connection window size.
    pub http2_initial_connection_window_size: Option<i32>,
    /// The http headers with underscores action.
    pub http_headers_with_underscores_action: HeadersWithUnderscoresAction,
    /// The http merge slashes.
    pub http_merge_slashes: Option<bool>,
    /// The http path with escaped slashes action.
    pub http_path_with_escaped_slashes_action: PathWithEscapedSlashesAction,
    /// The listener connection limit.
    pub listener_connection_limit: Option<i32>,
    /// The global downstream connection limit.
    pub global_downstream_connection_limit: Option<i32>,
}

/// How a proxy runs.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProxyConfig {
    /// The config path.
    pub config_path: String,
    /// The binary path.
    pub binary_path: String,
    /// The cluster name.
    #[api(flatten)]
    pub cluster_name: Option<ProxyConfigClusterName>,
    /// How long listeners that go away keep their connections.
    pub drain_duration: Option<Duration>,
    /// Where the control plane is: host:port.
    pub discovery_address: String,
    /// The discovery refresh delay.
    pub discovery_refresh_delay: Option<Duration>,
    /// The zipkin address.
    pub zipkin_address: String,
    /// The statsd udp address.
    pub statsd_udp_address: String,
    /// The envoy metrics service address.
    pub envoy_metrics_service_address: String,
    /// The proxy admin port.
    pub proxy_admin_port: i32,
    /// The availability zone.
    pub availability_zone: String,
    /// The control plane auth policy.
    pub control_plane_auth_policy: AuthenticationPolicy,
    /// The custom config file.
    pub custom_config_file: String,
    /// The stat name length.
    pub stat_name_length: i32,
    /// Worker threads; 0 is one for each core.
    pub concurrency: Option<i32>,
    /// The proxy bootstrap template path.
    pub proxy_bootstrap_template_path: String,
    /// The interception mode.
    pub interception_mode: InboundInterceptionMode,
    /// The tracing.
    pub tracing: Option<Tracing>,
    /// The sds.
    pub sds: Option<SDS>,
    /// The envoy access log service.
    pub envoy_access_log_service: Option<RemoteService>,
    /// The envoy metrics service.
    pub envoy_metrics_service: Option<RemoteService>,
    /// Environment variables of the proxy.
    pub proxy_metadata: BTreeMap<String, String>,
    /// The runtime values.
    pub runtime_values: BTreeMap<String, String>,
    /// The status port.
    pub status_port: i32,
    /// The extra stat tags.
    pub extra_stat_tags: Vec<String>,
    /// The gateway topology.
    pub gateway_topology: Option<Topology>,
    /// The termination drain duration.
    pub termination_drain_duration: Option<Duration>,
    /// The mesh id.
    pub mesh_id: String,
    /// The readiness probe.
    pub readiness_probe: Option<ReadinessProbe>,
    /// The proxy stats matcher.
    pub proxy_stats_matcher: Option<ProxyStatsMatcher>,
    /// Whether the application waits for the proxy.
    pub hold_application_until_proxy_starts: Option<bool>,
    /// The ca certificates pem.
    pub ca_certificates_pem: Vec<String>,
    /// The image.
    pub image: Option<ProxyImage>,
    /// The private key provider.
    pub private_key_provider: Option<PrivateKeyProvider>,
    /// The proxy headers.
    pub proxy_headers: Option<ProxyHeaders>,
    /// The file flush interval.
    pub file_flush_interval: Option<Duration>,
    /// The file flush min size kb.
    pub file_flush_min_size_kb: u32,
    /// The stats compression.
    pub stats_compression: Option<bool>,
    /// The connection settings.
    pub connection_settings: Option<ConnectionSettings>,
}

/// The proxy config cluster name.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum ProxyConfigClusterName {
    /// The service cluster.
    ServiceCluster(String),
    /// The tracing service name.
    TracingServiceName(TracingServiceName),
}

/// The remote service.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RemoteService {
    /// The address.
    pub address: String,
    /// The tls settings.
    pub tls_settings: Option<ClientTLSSettings>,
    /// The tcp keepalive.
    pub tcp_keepalive: Option<TcpKeepalive>,
}

/// The authentication policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum AuthenticationPolicy {
    /// The value `NONE`.
    #[default]
    None,
    /// The value `MUTUAL_TLS`.
    MutualTls,
    /// The value `INHERIT`.
    #[api(number = 1000)]
    Inherit,
}

/// The open census agent trace context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum OpenCensusAgentTraceContext {
    /// The value `UNSPECIFIED`.
    #[default]
    Unspecified,
    /// The value `W3C_TRACE_CONTEXT`.
    W3cTraceContext,
    /// The value `GRPC_BIN`.
    GrpcBin,
    /// The value `CLOUD_TRACE_CONTEXT`.
    CloudTraceContext,
    /// The value `B3`.
    B3,
}

/// The forward client cert details.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ForwardClientCertDetails {
    /// The value `UNDEFINED`.
    #[default]
    Undefined,
    /// The value `SANITIZE`.
    Sanitize,
    /// The value `FORWARD_ONLY`.
    ForwardOnly,
    /// The value `APPEND_FORWARD`.
    AppendForward,
    /// The value `SANITIZE_SET`.
    SanitizeSet,
    /// The value `ALWAYS_FORWARD_ONLY`.
    AlwaysForwardOnly,
}

/// The tracing service name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum TracingServiceName {
    /// The value `APP_LABEL_AND_NAMESPACE`.
    #[default]
    AppLabelAndNamespace,
    /// The value `CANONICAL_NAME_ONLY`.
    CanonicalNameOnly,
    /// The value `CANONICAL_NAME_AND_NAMESPACE`.
    CanonicalNameAndNamespace,
}

/// The inbound interception mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum InboundInterceptionMode {
    /// Redirected by the kernel, which hides the client's address.
    #[default]
    Redirect,
    /// Redirected by the kernel, which keeps the client's address.
    Tproxy,
    /// Not redirected.
    None,
}

/// The metadata exchange mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum MetadataExchangeMode {
    /// The value `UNDEFINED`.
    #[default]
    Undefined,
    /// The value `IN_MESH`.
    InMesh,
}

/// The profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum Profile {
    /// The value `SIDECAR`.
    #[default]
    Sidecar,
    /// The value `EDGE`.
    Edge,
}

/// The headers with underscores action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum HeadersWithUnderscoresAction {
    /// The value `HEADERS_WITH_UNDERSCORES_UNSPECIFIED`.
    #[default]
    HeadersWithUnderscoresUnspecified,
    /// The value `HEADERS_WITH_UNDERSCORES_ALLOW`.
    HeadersWithUnderscoresAllow,
    /// The value `HEADERS_WITH_UNDERSCORES_REJECT_REQUEST`.
    HeadersWithUnderscoresRejectRequest,
    /// The value `HEADERS_WITH_UNDERSCORES_DROP_HEADER`.
    HeadersWithUnderscoresDropHeader,
}

/// The path with escaped slashes action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum PathWithEscapedSlashesAction {
    /// The value `PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED`.
    #[default]
    PathWithEscapedSlashesUnspecified,
    /// The value `KEEP_UNCHANGED`.
    KeepUnchanged,
    /// The value `REJECT_REQUEST`.
    RejectRequest,
    /// The value `UNESCAPE_AND_REDIRECT`.
    UnescapeAndRedirect,
    /// The value `UNESCAPE_AND_FORWARD`.
    UnescapeAndForward,
}
