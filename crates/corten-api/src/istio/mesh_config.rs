//! MeshConfig: settings of the whole mesh.

use std::collections::BTreeMap;

use corten_core::Duration;
use corten_derive::{Enumeration, Message, OneOf};

use super::destination_rule::{
    ClientTLSSettings, ConnectionPoolSettings, LocalityLoadBalancerSetting, OutlierDetection, TcpKeepalive,
    ZoneAwareLoadBalancerSetting,
};
use super::extension_providers::MeshConfigExtensionProvider;
use super::proxy_config::ProxyConfig;
use super::virtual_service::HTTPRetry;

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
    /// Unknown hosts cannot be reached.
    #[default]
    RegistryOnly,
    /// Unknown hosts can be reached.
    AllowAny,
    /// Unknown hosts can be reached, looked up by the proxy.
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

/// The normalization type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum NormalizationType {
    /// As Istio does it: base.
    #[default]
    Default,
    /// Paths stay as they are.
    None,
    /// As RFC 3986 says.
    Base,
    /// Repeated slashes become one as well.
    MergeSlashes,
    /// Escaped slashes are decoded as well.
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
