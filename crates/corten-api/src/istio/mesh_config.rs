//! MeshConfig: settings of the whole mesh.

use std::collections::BTreeMap;

use corten_core::{Duration, Port};
use corten_derive::{Enumeration, Message, OneOf};

use super::destination_rule::{
    ClientTLSSettings, ConnectionPoolSettings, LocalityLoadBalancerSetting, OutlierDetection, TcpKeepalive,
    ZoneAwareLoadBalancerSetting,
};
use super::proxy_config::ProxyConfig;
use super::virtual_service::HTTPRetry;
use crate::codec::Struct;

/// The mesh config outbound traffic policy.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct MeshConfigOutboundTrafficPolicy {
    /// The mode.
    pub mode: MeshConfigOutboundTrafficPolicyMode,
    /// TLS settings.
    pub tls: Option<ClientTLSSettings>,
}

/// The inbound traffic policy.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct InboundTrafficPolicy {
    /// The mode.
    pub mode: InboundTrafficPolicyMode,
}

/// The certificate data.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct CertificateData {
    /// The certificate data.
    #[api(flatten)]
    pub certificate_data: Option<CertificateDataCertificateData>,
    /// The cert signers.
    pub cert_signers: Vec<String>,
    /// The trust domains.
    pub trust_domains: Vec<String>,
}

/// The certificate data certificate data.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum CertificateDataCertificateData {
    /// The pem.
    Pem(String),
    /// The spiffe bundle url.
    SpiffeBundleUrl(String),
}

/// The service settings settings.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ServiceSettingsSettings {
    /// The cluster local.
    pub cluster_local: bool,
}

/// The service settings.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ServiceSettings {
    /// The settings.
    pub settings: Option<ServiceSettingsSettings>,
    /// The hosts.
    pub hosts: Vec<String>,
}

/// The service scope configs.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ServiceScopeConfigs {
    /// The namespace selector.
    pub namespace_selector: Option<LabelSelector>,
    /// The services selector.
    pub services_selector: Option<LabelSelector>,
    /// The scope.
    pub scope: ServiceScopeConfigsScope,
}

/// The CA.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct CA {
    /// The address.
    pub address: String,
    /// The tls settings.
    pub tls_settings: Option<ClientTLSSettings>,
    /// The request timeout.
    pub request_timeout: Option<Duration>,
    /// The istiod side.
    pub istiod_side: bool,
}

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

/// The default providers.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct DefaultProviders {
    /// The tracing.
    pub tracing: Vec<String>,
    /// The metrics.
    pub metrics: Vec<String>,
    /// The access logging.
    pub access_logging: Vec<String>,
}

/// The proxy path normalization.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProxyPathNormalization {
    /// The normalization.
    pub normalization: NormalizationType,
}

/// The TLS config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TLSConfig {
    /// The oldest version of TLS.
    pub min_protocol_version: TLSConfigTLSProtocol,
    /// The curves allowed for key exchange.
    pub ecdh_curves: Vec<String>,
    /// The cipher suites allowed.
    pub cipher_suites: Vec<String>,
}

/// The default traffic policy.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct DefaultTrafficPolicy {
    /// How many and how long-lived connections may be.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// When a failing endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
}

/// The settings of the whole mesh.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct MeshConfig {
    /// The port that captured connections of workloads arrive at.
    pub proxy_listen_port: i32,
    /// The port that captured connections to workloads arrive at.
    pub proxy_inbound_listen_port: i32,
    /// The proxy http port.
    pub proxy_http_port: i32,
    /// How long proxies try to connect.
    pub connect_timeout: Option<Duration>,
    /// The hbone idle timeout.
    pub hbone_idle_timeout: Option<Duration>,
    /// How long to wait for the first bytes when the protocol is not declared.
    pub protocol_detection_timeout: Option<Duration>,
    /// The tcp keepalive.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// The ingress class.
    pub ingress_class: String,
    /// The ingress service.
    pub ingress_service: String,
    /// The ingress controller mode.
    pub ingress_controller_mode: IngressControllerMode,
    /// The ingress selector.
    pub ingress_selector: String,
    /// The enable tracing.
    pub enable_tracing: bool,
    /// Where proxies write access logs; empty is nowhere.
    pub access_log_file: String,
    /// The access log format.
    pub access_log_format: String,
    /// The access log encoding.
    pub access_log_encoding: AccessLogEncoding,
    /// The enable envoy access log service.
    pub enable_envoy_access_log_service: bool,
    /// The disable envoy listener log.
    pub disable_envoy_listener_log: bool,
    /// The configuration of proxies.
    pub default_config: Option<ProxyConfig>,
    /// What happens to connections to unknown hosts.
    pub outbound_traffic_policy: Option<MeshConfigOutboundTrafficPolicy>,
    /// The inbound traffic policy.
    pub inbound_traffic_policy: Option<InboundTrafficPolicy>,
    /// The config sources.
    pub config_sources: Vec<ConfigSource>,
    /// Whether proxies use mutual TLS wherever the other side can.
    pub enable_auto_mtls: Option<bool>,
    /// The trust domain of the mesh's identities.
    pub trust_domain: String,
    /// Trust domains that count as the same.
    pub trust_domain_aliases: Vec<String>,
    /// The ca certificates.
    pub ca_certificates: Vec<CertificateData>,
    /// The default service export to.
    pub default_service_export_to: Vec<String>,
    /// The default virtual service export to.
    pub default_virtual_service_export_to: Vec<String>,
    /// The default destination rule export to.
    pub default_destination_rule_export_to: Vec<String>,
    /// The namespace whose policies hold for the whole mesh.
    pub root_namespace: String,
    /// The locality lb setting.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// The zone aware lb setting.
    pub zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
    /// The dns refresh rate.
    pub dns_refresh_rate: Option<Duration>,
    /// The h2 upgrade policy.
    pub h2_upgrade_policy: MeshConfigH2UpgradePolicy,
    /// The inbound cluster stat name.
    pub inbound_cluster_stat_name: String,
    /// The outbound cluster stat name.
    pub outbound_cluster_stat_name: String,
    /// The certificates.
    pub certificates: Vec<Certificate>,
    /// Settings of single services.
    pub service_settings: Vec<ServiceSettings>,
    /// The service scope configs.
    pub service_scope_configs: Vec<ServiceScopeConfigs>,
    /// The enable prometheus merge.
    pub enable_prometheus_merge: Option<bool>,
    /// The verify certificate at client.
    pub verify_certificate_at_client: Option<bool>,
    /// The ca.
    pub ca: Option<CA>,
    /// Where traces, logs and authorization questions can go.
    pub extension_providers: Vec<MeshConfigExtensionProvider>,
    /// Providers used where a Telemetry names none.
    pub default_providers: Option<DefaultProviders>,
    /// The namespaces the control plane looks at.
    pub discovery_selectors: Vec<LabelSelector>,
    /// How paths are normalized before policies see them.
    pub path_normalization: Option<ProxyPathNormalization>,
    /// The default http retry policy.
    pub default_http_retry_policy: Option<HTTPRetry>,
    /// The default inbound http retry policy.
    pub default_inbound_http_retry_policy: Option<HTTPRetry>,
    /// The mesh m TLS.
    #[api(name = "meshMTLS")]
    pub mesh_mtls: Option<TLSConfig>,
    /// The tls defaults.
    pub tls_defaults: Option<TLSConfig>,
    /// The default traffic policy.
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    /// The service entry visibility.
    pub service_entry_visibility: Option<ServiceEntryVisibility>,
}

/// The label selector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct LabelSelector {
    /// The match labels.
    pub match_labels: BTreeMap<String, String>,
    /// The match expressions.
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// The label selector requirement.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct LabelSelectorRequirement {
    /// The key.
    pub key: String,
    /// The operator.
    pub operator: String,
    /// The values.
    pub values: Vec<String>,
}

/// The service entry visibility policy.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ServiceEntryVisibilityPolicy {
    /// The visibility.
    pub visibility: Visibility,
    /// The matching rules.
    pub matching_rules: Vec<MatchRule>,
}

/// The match rule.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct MatchRule {
    /// The matcher.
    #[api(flatten)]
    pub matcher: Option<MatchRuleMatcher>,
}

/// The match rule matcher.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum MatchRuleMatcher {
    /// The namespace selector.
    NamespaceSelector(LabelSelector),
}

/// The service entry visibility.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ServiceEntryVisibility {
    /// The default visibility.
    pub default_visibility: Visibility,
    /// The apply to sidecars.
    pub apply_to_sidecars: bool,
    /// The policies.
    pub policies: Vec<ServiceEntryVisibilityPolicy>,
}

/// The config source.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ConfigSource {
    /// The address.
    pub address: String,
    /// The tls settings.
    pub tls_settings: Option<ClientTLSSettings>,
    /// The subscribed resources.
    pub subscribed_resources: Vec<Resource>,
}

/// The certificate.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Certificate {
    /// The secret name.
    pub secret_name: String,
    /// The dns names.
    pub dns_names: Vec<String>,
}

/// The ingress controller mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum IngressControllerMode {
    /// The value `UNSPECIFIED`.
    #[default]
    Unspecified,
    /// The value `OFF`.
    Off,
    /// The value `DEFAULT`.
    Default,
    /// The value `STRICT`.
    Strict,
}

/// The auth policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum AuthPolicy {
    /// The value `NONE`.
    #[default]
    None,
    /// The value `MUTUAL_TLS`.
    MutualTls,
}

/// The access log encoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum AccessLogEncoding {
    /// The value `TEXT`.
    #[default]
    Text,
    /// The value `JSON`.
    Json,
}

/// The mesh config outbound traffic policy mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum MeshConfigOutboundTrafficPolicyMode {
    /// The value `REGISTRY_ONLY`.
    #[default]
    RegistryOnly,
    /// The value `ALLOW_ANY`.
    AllowAny,
    /// The value `ALLOW_ANY_DYNAMIC_DNS`.
    #[api(number = 3)]
    AllowAnyDynamicDns,
}

/// The inbound traffic policy mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum InboundTrafficPolicyMode {
    /// The value `PASSTHROUGH`.
    #[default]
    Passthrough,
    /// The value `LOCALHOST`.
    Localhost,
}

/// The mesh config H2 upgrade policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum MeshConfigH2UpgradePolicy {
    /// The value `DO_NOT_UPGRADE`.
    #[default]
    DoNotUpgrade,
    /// The value `UPGRADE`.
    Upgrade,
}

/// The service scope configs scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ServiceScopeConfigsScope {
    /// The value `LOCAL`.
    #[default]
    Local,
    /// The value `GLOBAL`.
    Global,
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

/// The normalization type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum NormalizationType {
    /// The value `DEFAULT`.
    #[default]
    Default,
    /// The value `NONE`.
    None,
    /// The value `BASE`.
    Base,
    /// The value `MERGE_SLASHES`.
    MergeSlashes,
    /// The value `DECODE_AND_MERGE_SLASHES`.
    DecodeAndMergeSlashes,
}

/// The TLS config TLS protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum TLSConfigTLSProtocol {
    /// The value `TLS_AUTO`.
    #[default]
    TlsAuto,
    /// The value `TLSV1_2`.
    #[api(name = "TLSV1_2")]
    Tlsv12,
    /// The value `TLSV1_3`.
    #[api(name = "TLSV1_3")]
    Tlsv13,
}

/// The resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum Resource {
    /// The value `SERVICE_REGISTRY`.
    #[default]
    ServiceRegistry,
}

/// The visibility.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum Visibility {
    /// The value `VISIBILITY_UNSPECIFIED`.
    #[default]
    VisibilityUnspecified,
    /// The value `NONE`.
    None,
    /// The value `NAMESPACE`.
    Namespace,
    /// The value `PUBLIC`.
    Public,
}
