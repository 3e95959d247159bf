//! The extension providers of MeshConfig: where traces, logs and authorization questions can go.

use std::collections::BTreeMap;

use corten_core::{Duration, Port};
use corten_derive::{Enumeration, Message, OneOf};

use crate::codec::Struct;

/// The envoy external authorization request body.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyExternalAuthorizationRequestBody {
    /// The max request bytes.
    pub max_request_bytes: u32,
    /// The allow partial message.
    pub allow_partial_message: bool,
    /// The pack as bytes.
    pub pack_as_bytes: bool,
}

/// The envoy external authorization http provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyExternalAuthorizationHttpProvider {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// What is put before the path of the question.
    pub path_prefix: String,
    /// Whether requests are let through when nobody answers.
    pub fail_open: bool,
    /// Whether the route is chosen again after headers were changed.
    pub clear_route_cache: bool,
    /// The status of the answer when nobody answers.
    pub status_on_error: String,
    /// The include headers in check.
    pub include_headers_in_check: Vec<String>,
    /// The include request headers in check.
    pub include_request_headers_in_check: Vec<String>,
    /// The include additional headers in check.
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// The include request body in check.
    pub include_request_body_in_check: Option<EnvoyExternalAuthorizationRequestBody>,
    /// The headers to upstream on allow.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// The headers to downstream on deny.
    pub headers_to_downstream_on_deny: Vec<String>,
    /// The headers to downstream on allow.
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// The envoy external authorization grpc provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyExternalAuthorizationGrpcProvider {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// Whether requests are let through when nobody answers.
    pub fail_open: bool,
    /// Whether the route is chosen again after headers were changed.
    pub clear_route_cache: bool,
    /// The status of the answer when nobody answers.
    pub status_on_error: String,
    /// The include request body in check.
    pub include_request_body_in_check: Option<EnvoyExternalAuthorizationRequestBody>,
}

/// The zipkin tracing provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ZipkinTracingProvider {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// The longest path kept as a tag.
    pub max_tag_length: u32,
    /// The enable 64bit trace id.
    pub enable_64bit_trace_id: bool,
    /// The path.
    pub path: String,
    /// The trace context option.
    pub trace_context_option: TraceContextOption,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// Headers.
    pub headers: Vec<HttpHeader>,
}

/// The lightstep tracing provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct LightstepTracingProvider {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// The access token.
    pub access_token: String,
    /// The longest path kept as a tag.
    pub max_tag_length: u32,
}

/// The datadog tracing provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct DatadogTracingProvider {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// The longest path kept as a tag.
    pub max_tag_length: u32,
}

/// The sky walking tracing provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct SkyWalkingTracingProvider {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// The access token.
    pub access_token: String,
}

/// The logging.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Logging {
    /// The labels.
    pub labels: BTreeMap<String, String>,
}

/// The stackdriver provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct StackdriverProvider {
    /// The debug.
    pub debug: bool,
    /// The max number of attributes.
    pub max_number_of_attributes: Option<i64>,
    /// The max number of annotations.
    pub max_number_of_annotations: Option<i64>,
    /// The max number of message events.
    pub max_number_of_message_events: Option<i64>,
    /// The longest path kept as a tag.
    pub max_tag_length: u32,
    /// The logging.
    pub logging: Option<Logging>,
}

/// The open census agent tracing provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct OpenCensusAgentTracingProvider {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// The context.
    pub context: Vec<OpenCensusAgentTracingProviderTraceContext>,
    /// The longest path kept as a tag.
    pub max_tag_length: u32,
}

/// The prometheus metrics provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct PrometheusMetricsProvider {}

/// The envoy file access log provider log format.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyFileAccessLogProviderLogFormat {
    /// The log format.
    #[api(flatten)]
    pub log_format: Option<EnvoyFileAccessLogProviderLogFormatLogFormat>,
}

/// The envoy file access log provider log format log format.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum EnvoyFileAccessLogProviderLogFormatLogFormat {
    /// The text.
    Text(String),
    /// The labels.
    Labels(Struct),
}

/// The envoy file access log provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyFileAccessLogProvider {
    /// The path.
    pub path: String,
    /// The log format.
    pub log_format: Option<EnvoyFileAccessLogProviderLogFormat>,
    /// The omit empty values.
    pub omit_empty_values: bool,
}

/// The envoy http grpc V3 log provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyHttpGrpcV3LogProvider {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// The log name.
    pub log_name: String,
    /// The filter state objects to log.
    pub filter_state_objects_to_log: Vec<String>,
    /// The additional request headers to log.
    pub additional_request_headers_to_log: Vec<String>,
    /// The additional response headers to log.
    pub additional_response_headers_to_log: Vec<String>,
    /// The additional response trailers to log.
    pub additional_response_trailers_to_log: Vec<String>,
}

/// The envoy tcp grpc V3 log provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyTcpGrpcV3LogProvider {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// The log name.
    pub log_name: String,
    /// The filter state objects to log.
    pub filter_state_objects_to_log: Vec<String>,
}

/// The envoy open telemetry log provider log format.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyOpenTelemetryLogProviderLogFormat {
    /// The text.
    pub text: String,
    /// The labels.
    pub labels: Option<Struct>,
}

/// The envoy open telemetry log provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvoyOpenTelemetryLogProvider {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// The log name.
    pub log_name: String,
    /// The log format.
    pub log_format: Option<EnvoyOpenTelemetryLogProviderLogFormat>,
}

/// The dynatrace api.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct DynatraceApi {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// The http.
    pub http: Option<HttpService>,
}

/// The dynatrace sampler.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct DynatraceSampler {
    /// The tenant.
    pub tenant: String,
    /// The cluster id.
    pub cluster_id: i32,
    /// The root spans per minute.
    pub root_spans_per_minute: u32,
    /// The http service.
    pub http_service: Option<DynatraceApi>,
}

/// The open telemetry tracing provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct OpenTelemetryTracingProvider {
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
    /// The longest path kept as a tag.
    pub max_tag_length: u32,
    /// The http.
    pub http: Option<HttpService>,
    /// The grpc.
    pub grpc: Option<GrpcService>,
    /// The resource detectors.
    pub resource_detectors: Option<ResourceDetectors>,
    /// The service attribute enrichment.
    pub service_attribute_enrichment: ServiceAttributeEnrichment,
    /// The sampling.
    #[api(flatten)]
    pub sampling: Option<OpenTelemetryTracingProviderSampling>,
}

/// The open telemetry tracing provider sampling.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum OpenTelemetryTracingProviderSampling {
    /// The dynatrace sampler.
    DynatraceSampler(DynatraceSampler),
}

/// The SDS provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct SDSProvider {
    /// The name.
    pub name: String,
    /// The service, as a host name or `namespace/host`.
    pub service: String,
    /// The port.
    pub port: Port,
}

/// The http service.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HttpService {
    /// The path.
    pub path: String,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// Headers.
    pub headers: Vec<HttpHeader>,
}

/// The http header.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HttpHeader {
    /// The name.
    pub name: String,
    /// The header value.
    #[api(flatten)]
    pub header_value: Option<HttpHeaderHeaderValue>,
}

/// The http header header value.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum HttpHeaderHeaderValue {
    /// The value.
    Value(String),
    /// The env name.
    EnvName(String),
}

/// The environment resource detector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct EnvironmentResourceDetector {}

/// The dynatrace resource detector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct DynatraceResourceDetector {}

/// The resource detectors.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ResourceDetectors {
    /// The environment.
    pub environment: Option<EnvironmentResourceDetector>,
    /// The dynatrace.
    pub dynatrace: Option<DynatraceResourceDetector>,
}

/// The grpc service.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct GrpcService {
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// The initial metadata.
    pub initial_metadata: Vec<HttpHeader>,
}

/// The mesh config extension provider.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct MeshConfigExtensionProvider {
    /// The name.
    pub name: String,
    /// The provider.
    #[api(flatten)]
    pub provider: Option<MeshConfigExtensionProviderProvider>,
}

/// The mesh config extension provider provider.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum MeshConfigExtensionProviderProvider {
    /// The envoy ext authz http.
    EnvoyExtAuthzHttp(EnvoyExternalAuthorizationHttpProvider),
    /// The envoy ext authz grpc.
    EnvoyExtAuthzGrpc(EnvoyExternalAuthorizationGrpcProvider),
    /// The zipkin.
    Zipkin(ZipkinTracingProvider),
    /// The lightstep.
    Lightstep(LightstepTracingProvider),
    /// The datadog.
    Datadog(DatadogTracingProvider),
    /// The stackdriver.
    Stackdriver(StackdriverProvider),
    /// The opencensus.
    Opencensus(OpenCensusAgentTracingProvider),
    /// The skywalking.
    Skywalking(SkyWalkingTracingProvider),
    /// The opentelemetry.
    Opentelemetry(OpenTelemetryTracingProvider),
    /// The prometheus.
    Prometheus(PrometheusMetricsProvider),
    /// The envoy file access log.
    EnvoyFileAccessLog(EnvoyFileAccessLogProvider),
    /// The envoy http als.
    EnvoyHttpAls(EnvoyHttpGrpcV3LogProvider),
    /// The envoy tcp als.
    EnvoyTcpAls(EnvoyTcpGrpcV3LogProvider),
    /// The envoy otel als.
    EnvoyOtelAls(EnvoyOpenTelemetryLogProvider),
    /// The sds.
    Sds(SDSProvider),
}

/// The trace context option.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum TraceContextOption {
    /// The value `USE_B3`.
    #[default]
    UseB3,
    /// The value `USE_B3_WITH_W3C_PROPAGATION`.
    UseB3WithW3cPropagation,
}

/// The open census agent tracing provider trace context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum OpenCensusAgentTracingProviderTraceContext {
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

/// The service attribute enrichment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ServiceAttributeEnrichment {
    /// The value `ISTIO_CANONICAL`.
    #[default]
    IstioCanonical,
    /// The value `OTEL_SEMANTIC_CONVENTIONS`.
    OtelSemanticConventions,
}
