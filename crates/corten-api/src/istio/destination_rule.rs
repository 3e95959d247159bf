//! DestinationRule: subsets, load balancing, connection pools, TLS towards a host.

use std::collections::BTreeMap;

use corten_core::{Duration, Host, Port};
use corten_derive::{Enumeration, Message, OneOf};

use super::selector::WorkloadSelector;
use super::virtual_service::PortSelector;

/// The specification of a destination rule.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct DestinationRuleSpec {
    /// The host.
    #[api(required)]
    pub host: Host,
    /// The traffic policy.
    pub traffic_policy: Option<TrafficPolicy>,
    /// The subsets.
    pub subsets: Vec<Subset>,
    /// The export to.
    pub export_to: Vec<String>,
    /// The workload selector.
    pub workload_selector: Option<WorkloadSelector>,
}

/// The port traffic policy.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct PortTrafficPolicy {
    /// The port.
    pub port: Option<PortSelector>,
    /// The load balancer.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// The connection pool.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// The outlier detection.
    pub outlier_detection: Option<OutlierDetection>,
    /// The tls.
    pub tls: Option<ClientTLSSettings>,
}

/// The tunnel settings.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TunnelSettings {
    /// The protocol.
    pub protocol: String,
    /// The target host.
    #[api(required)]
    pub target_host: Host,
    /// The target port.
    #[api(required)]
    pub target_port: Port,
}

/// The proxy protocol.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProxyProtocol {
    /// The version.
    pub version: ProxyProtocolVersion,
}

/// The retry budget.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RetryBudget {
    /// The percent.
    #[api(maximum = 100, minimum = 0, nullable)]
    pub percent: Option<f64>,
    /// The min retry concurrency.
    pub min_retry_concurrency: u32,
    /// The budget interval.
    pub budget_interval: Option<Duration>,
}

/// The traffic policy.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TrafficPolicy {
    /// The load balancer.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// The connection pool.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// The outlier detection.
    pub outlier_detection: Option<OutlierDetection>,
    /// The tls.
    pub tls: Option<ClientTLSSettings>,
    /// The port level settings.
    #[api(max_items = 4096)]
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// The tunnel.
    pub tunnel: Option<TunnelSettings>,
    /// The proxy protocol.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The retry budget.
    pub retry_budget: Option<RetryBudget>,
}

/// The subset.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Subset {
    /// The name.
    #[api(required)]
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The traffic policy.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// The ring hash.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RingHash {
    /// The minimum ring size.
    pub minimum_ring_size: u64,
}

/// The mag lev.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct MagLev {
    /// The table size.
    pub table_size: u64,
}

/// The attribute.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Attribute {
    /// The name.
    #[api(required)]
    pub name: String,
    /// The value.
    pub value: String,
}

/// The HTTP cookie.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPCookie {
    /// The name.
    #[api(required)]
    pub name: String,
    /// The path.
    pub path: String,
    /// The ttl.
    pub ttl: Option<Duration>,
    /// The attributes.
    pub attributes: Vec<Attribute>,
}

/// The consistent hash LB.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ConsistentHashLB {
    /// The hash key.
    #[api(flatten)]
    pub hash_key: Option<ConsistentHashLBHashKey>,
    /// The hash algorithm.
    #[api(flatten)]
    pub hash_algorithm: Option<ConsistentHashLBHashAlgorithm>,
    /// The minimum ring size.
    pub minimum_ring_size: u64,
}

/// The consistent hash LB hash key.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum ConsistentHashLBHashKey {
    /// The http header name.
    HttpHeaderName(String),
    /// The http cookie.
    HttpCookie(HTTPCookie),
    /// The use source ip.
    UseSourceIp(bool),
    /// The http query parameter name.
    HttpQueryParameterName(String),
}

/// The consistent hash LB hash algorithm.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum ConsistentHashLBHashAlgorithm {
    /// The ring hash.
    RingHash(RingHash),
    /// The maglev.
    Maglev(MagLev),
}

/// The load balancer settings.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct LoadBalancerSettings {
    /// The lb policy.
    #[api(flatten)]
    pub lb_policy: Option<LoadBalancerSettingsLbPolicy>,
    /// The locality lb setting.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// The zone aware lb setting.
    pub zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
    /// The warmup duration secs.
    #[api(duration_rule)]
    pub warmup_duration_secs: Option<Duration>,
    /// The warmup.
    pub warmup: Option<WarmupConfiguration>,
}

/// The load balancer settings lb policy.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum LoadBalancerSettingsLbPolicy {
    /// The simple.
    Simple(SimpleLB),
    /// The consistent hash.
    ConsistentHash(ConsistentHashLB),
    /// The backend utilization.
    BackendUtilization(BackendUtilizationLB),
}

/// The warmup configuration.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct WarmupConfiguration {
    /// The duration.
    #[api(required, duration_rule)]
    pub duration: Option<Duration>,
    /// The minimum percent.
    #[api(maximum = 100, minimum = 0, nullable)]
    pub minimum_percent: Option<f64>,
    /// The aggression.
    #[api(minimum = 0, nullable)]
    pub aggression: Option<f64>,
}

/// The tcp keepalive.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TcpKeepalive {
    /// The probes.
    pub probes: u32,
    /// The time.
    #[api(duration_rule)]
    pub time: Option<Duration>,
    /// The interval.
    #[api(duration_rule)]
    pub interval: Option<Duration>,
}

/// The TCP settings.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TCPSettings {
    /// The max connections.
    pub max_connections: i32,
    /// The connect timeout.
    #[api(duration_rule)]
    pub connect_timeout: Option<Duration>,
    /// The tcp keepalive.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// The max connection duration.
    #[api(duration_rule)]
    pub max_connection_duration: Option<Duration>,
    /// The idle timeout.
    pub idle_timeout: Option<Duration>,
}

/// The connection keepalive.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ConnectionKeepalive {
    /// The interval.
    #[api(duration_rule)]
    pub interval: Option<Duration>,
    /// The timeout.
    #[api(duration_rule)]
    pub timeout: Option<Duration>,
}

/// The HTTP settings.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPSettings {
    /// The http1 max pending requests.
    pub http1_max_pending_requests: i32,
    /// The http2 max requests.
    pub http2_max_requests: i32,
    /// The max requests per connection.
    pub max_requests_per_connection: i32,
    /// The max retries.
    pub max_retries: i32,
    /// The idle timeout.
    #[api(duration_rule)]
    pub idle_timeout: Option<Duration>,
    /// The h2 upgrade policy.
    pub h2_upgrade_policy: HTTPSettingsH2UpgradePolicy,
    /// The use client protocol.
    pub use_client_protocol: bool,
    /// The max concurrent streams.
    pub max_concurrent_streams: i32,
    /// The http2 keep alive.
    pub http2_keep_alive: Option<ConnectionKeepalive>,
}

/// The connection pool settings.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ConnectionPoolSettings {
    /// The tcp.
    pub tcp: Option<TCPSettings>,
    /// The http.
    pub http: Option<HTTPSettings>,
}

/// The outlier detection.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct OutlierDetection {
    /// The consecutive errors.
    pub consecutive_errors: i32,
    /// The split external local origin errors.
    pub split_external_local_origin_errors: bool,
    /// The consecutive local origin failures.
    #[api(nullable)]
    pub consecutive_local_origin_failures: Option<u32>,
    /// The consecutive gateway errors.
    #[api(nullable)]
    pub consecutive_gateway_errors: Option<u32>,
    /// The consecutive 5xx errors.
    #[api(nullable)]
    pub consecutive_5xx_errors: Option<u32>,
    /// The interval.
    #[api(duration_rule)]
    pub interval: Option<Duration>,
    /// The base ejection time.
    #[api(duration_rule)]
    pub base_ejection_time: Option<Duration>,
    /// The max ejection percent.
    pub max_ejection_percent: i32,
    /// The min health percent.
    pub min_health_percent: i32,
    /// The outlier detection http error codes.
    #[api(items(maximum = 599, minimum = 100))]
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// The client TLS settings.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ClientTLSSettings {
    /// The mode.
    pub mode: ClientTLSSettingsTLSmode,
    /// The client certificate.
    pub client_certificate: String,
    /// The private key.
    pub private_key: String,
    /// The ca certificates.
    pub ca_certificates: String,
    /// The credential name.
    pub credential_name: String,
    /// The subject alt names.
    pub subject_alt_names: Vec<String>,
    /// The sni.
    pub sni: String,
    /// The insecure skip verify.
    #[api(nullable)]
    pub insecure_skip_verify: Option<bool>,
    /// The ca crl.
    pub ca_crl: String,
}

/// The distribute.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Distribute {
    /// The from.
    pub from: String,
    /// The to.
    pub to: BTreeMap<String, u32>,
}

/// The locality load balancer setting failover.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct LocalityLoadBalancerSettingFailover {
    /// The from.
    pub from: String,
    /// The to.
    pub to: String,
}

/// The locality load balancer setting.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct LocalityLoadBalancerSetting {
    /// The distribute.
    pub distribute: Vec<Distribute>,
    /// The failover.
    pub failover: Vec<LocalityLoadBalancerSettingFailover>,
    /// The failover priority.
    pub failover_priority: Vec<String>,
    /// The enabled.
    #[api(nullable)]
    pub enabled: Option<bool>,
}

/// The zone aware load balancer setting failover.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ZoneAwareLoadBalancerSettingFailover {
    /// The from.
    pub from: String,
    /// The to.
    pub to: String,
}

/// The zone aware load balancer setting.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ZoneAwareLoadBalancerSetting {
    /// The enabled.
    #[api(nullable)]
    pub enabled: Option<bool>,
    /// The failover.
    pub failover: Vec<ZoneAwareLoadBalancerSettingFailover>,
    /// The failover priority.
    pub failover_priority: Vec<String>,
    /// The min cluster size.
    #[api(maximum = 4294967295, minimum = 1, nullable)]
    pub min_cluster_size: Option<u64>,
}

/// The backend utilization LB.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct BackendUtilizationLB {
    /// The weight stabilization period.
    pub weight_stabilization_period: Option<Duration>,
    /// The weight expiration period.
    pub weight_expiration_period: Option<Duration>,
    /// The weight update period.
    pub weight_update_period: Option<Duration>,
    /// The error utilization penalty percent.
    pub error_utilization_penalty_percent: u32,
    /// The metric names for computing utilization.
    pub metric_names_for_computing_utilization: Vec<String>,
}

/// The proxy protocol version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ProxyProtocolVersion {
    /// The value `V1`.
    #[default]
    V1,
    /// The value `V2`.
    V2,
}

/// The simple LB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum SimpleLB {
    /// The value `UNSPECIFIED`.
    #[default]
    Unspecified,
    /// The value `LEAST_CONN`.
    LeastConn,
    /// The value `RANDOM`.
    Random,
    /// The value `PASSTHROUGH`.
    Passthrough,
    /// The value `ROUND_ROBIN`.
    RoundRobin,
    /// The value `LEAST_REQUEST`.
    LeastRequest,
}

/// The HTTP settings H2 upgrade policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum HTTPSettingsH2UpgradePolicy {
    /// The value `DEFAULT`.
    #[default]
    Default,
    /// The value `DO_NOT_UPGRADE`.
    DoNotUpgrade,
    /// The value `UPGRADE`.
    Upgrade,
}

/// The client TLS settings TL smode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ClientTLSSettingsTLSmode {
    /// The value `DISABLE`.
    #[default]
    Disable,
    /// The value `SIMPLE`.
    Simple,
    /// The value `MUTUAL`.
    Mutual,
    /// The value `ISTIO_MUTUAL`.
    IstioMutual,
}
