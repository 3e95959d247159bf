//! DestinationRule: subsets, load balancing, connection pools, TLS towards a host.

use std::collections::BTreeMap;

use corten_core::{Duration, Host, Port};
use corten_derive::{Enumeration, Message, OneOf};

use super::selector::WorkloadSelector;
use super::virtual_service::PortSelector;

/// How to talk to a host once routing has chosen it: subsets, load balancing, connection pools, TLS.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct DestinationRuleSpec {
    /// The host the rule is for: a service name, short or full, or a wildcard.
    #[api(required)]
    pub host: Host,
    /// The policy for all of the host's endpoints.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named groups of endpoints, which routes can choose.
    pub subsets: Vec<Subset>,
    /// The namespaces that see it: `.` is this one, `*` all.
    pub export_to: Vec<String>,
    /// The clients the rule is for; all, when left out.
    pub workload_selector: Option<WorkloadSelector>,
}

/// The policy for one port, which replaces that of the host as a whole.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct PortTrafficPolicy {
    /// The port.
    pub port: Option<PortSelector>,
    /// How an endpoint is picked.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// How many and how long-lived connections may be.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// When a failing endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS settings.
    pub tls: Option<ClientTLSSettings>,
}

/// Tunnels TCP connections through HTTP requests to a proxy.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TunnelSettings {
    /// The method of the request: CONNECT (when left out) or POST.
    pub protocol: String,
    /// The host the tunnel leads to.
    #[api(required)]
    pub target_host: Host,
    /// The port the tunnel leads to.
    #[api(required)]
    pub target_port: Port,
}

/// Tells the backend who connected, in a PROXY protocol header.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProxyProtocol {
    /// The version.
    pub version: ProxyProtocolVersion,
}

/// A limit on retries in proportion to the requests under way.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RetryBudget {
    /// Retries at once, as a percentage of the requests under way.
    #[api(maximum = 100, minimum = 0, nullable)]
    pub percent: Option<f64>,
    /// Retries at once that are always allowed.
    pub min_retry_concurrency: u32,
    /// How long a request counts as under way.
    pub budget_interval: Option<Duration>,
}

/// Load balancing, connection pool, outlier detection and TLS towards a host.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TrafficPolicy {
    /// How an endpoint is picked.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// How many and how long-lived connections may be.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// When a failing endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS settings.
    pub tls: Option<ClientTLSSettings>,
    /// Policies for single ports, which replace the others.
    #[api(max_items = 4096)]
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Tunnels connections through a proxy.
    pub tunnel: Option<TunnelSettings>,
    /// Tells the backend who connected.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// A limit on retries.
    pub retry_budget: Option<RetryBudget>,
}

/// A named group of a host's endpoints.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Subset {
    /// The name.
    #[api(required)]
    pub name: String,
    /// The labels that endpoints of the subset have.
    pub labels: BTreeMap<String, String>,
    /// The policy for the subset, over that of the host.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// Consistent hashing on a ring.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct RingHash {
    /// The fewest points on the ring; more spread load more evenly.
    pub minimum_ring_size: u64,
}

/// Consistent hashing by Maglev's table.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct MagLev {
    /// The size of the table, a prime number.
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

/// A cookie to hash by; it is set when it is missing.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPCookie {
    /// The name.
    #[api(required)]
    pub name: String,
    /// The path.
    pub path: String,
    /// How long the cookie lives; 0 makes it a session cookie.
    pub ttl: Option<Duration>,
    /// The attributes.
    pub attributes: Vec<Attribute>,
}

/// Sends requests that look alike to the same endpoint.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ConsistentHashLB {
    /// What requests are told apart by.
    #[api(flatten)]
    pub hash_key: Option<ConsistentHashLBHashKey>,
    /// How the hash becomes an endpoint.
    #[api(flatten)]
    pub hash_algorithm: Option<ConsistentHashLBHashAlgorithm>,
    /// Deprecated in favour of the ring hash's own field.
    pub minimum_ring_size: u64,
}

/// The consistent hash LB hash key.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum ConsistentHashLBHashKey {
    /// By the value of this header.
    HttpHeaderName(String),
    /// By a cookie.
    HttpCookie(HTTPCookie),
    /// By the address of the client.
    UseSourceIp(bool),
    /// By the value of this query parameter.
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

/// How an endpoint is picked.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct LoadBalancerSettings {
    /// The algorithm.
    #[api(flatten)]
    pub lb_policy: Option<LoadBalancerSettingsLbPolicy>,
    /// Which places are preferred.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// Preference for the own zone as far as it has capacity.
    pub zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
    /// Deprecated in favour of `warmup`.
    #[api(duration_rule)]
    pub warmup_duration_secs: Option<Duration>,
    /// New endpoints get their share of the load slowly.
    pub warmup: Option<WarmupConfiguration>,
}

/// The load balancer settings lb policy.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum LoadBalancerSettingsLbPolicy {
    /// One of the algorithms without settings.
    Simple(SimpleLB),
    /// The same endpoint for requests that look alike.
    ConsistentHash(ConsistentHashLB),
    /// By the load that endpoints report.
    BackendUtilization(BackendUtilizationLB),
}

/// How the load of new endpoints grows.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct WarmupConfiguration {
    /// How long an endpoint counts as new.
    #[api(required, duration_rule)]
    pub duration: Option<Duration>,
    /// The share an endpoint begins with.
    #[api(maximum = 100, minimum = 0, nullable)]
    pub minimum_percent: Option<f64>,
    /// The curve: 1 is a straight line, more grows faster at first.
    #[api(minimum = 0, nullable)]
    pub aggression: Option<f64>,
}

/// Probes of connections on which nothing happens.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TcpKeepalive {
    /// Unanswered probes before a connection counts as dead.
    pub probes: u32,
    /// Silence before the first probe.
    #[api(duration_rule)]
    pub time: Option<Duration>,
    /// Time between probes.
    #[api(duration_rule)]
    pub interval: Option<Duration>,
}

/// Connections of all protocols.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TCPSettings {
    /// The most connections to one host.
    pub max_connections: i32,
    /// How long connecting may take.
    #[api(duration_rule)]
    pub connect_timeout: Option<Duration>,
    /// The tcp keepalive.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// How long a connection may live.
    #[api(duration_rule)]
    pub max_connection_duration: Option<Duration>,
    /// How long a connection may be idle.
    pub idle_timeout: Option<Duration>,
}

/// HTTP/2 pings on idle connections.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ConnectionKeepalive {
    /// Time between pings.
    #[api(duration_rule)]
    pub interval: Option<Duration>,
    /// How long an answer may take.
    #[api(duration_rule)]
    pub timeout: Option<Duration>,
}

/// Requests of HTTP and gRPC.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPSettings {
    /// The most requests that wait for a connection.
    pub http1_max_pending_requests: i32,
    /// The most requests at once.
    pub http2_max_requests: i32,
    /// Requests before a connection is closed; 0 is no limit.
    pub max_requests_per_connection: i32,
    /// The most retries at once.
    pub max_retries: i32,
    /// How long a connection without requests is kept.
    #[api(duration_rule)]
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 towards the host becomes HTTP/2.
    pub h2_upgrade_policy: HTTPSettingsH2UpgradePolicy,
    /// Whether the host is spoken to in the protocol of the client.
    pub use_client_protocol: bool,
    /// The most requests at once on one HTTP/2 connection.
    pub max_concurrent_streams: i32,
    /// Pings on HTTP/2 connections.
    pub http2_keep_alive: Option<ConnectionKeepalive>,
}

/// How many and how long-lived connections and requests may be.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ConnectionPoolSettings {
    /// The tcp.
    pub tcp: Option<TCPSettings>,
    /// The http.
    pub http: Option<HTTPSettings>,
}

/// When a failing endpoint is left out for a while.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct OutlierDetection {
    /// Deprecated in favour of the two fields that tell errors apart.
    pub consecutive_errors: i32,
    /// Whether failures to connect are counted apart from error answers.
    pub split_external_local_origin_errors: bool,
    /// Failures to connect in a row before an endpoint is left out.
    #[api(nullable)]
    pub consecutive_local_origin_failures: Option<u32>,
    /// Answers 502, 503 or 504 in a row before an endpoint is left out.
    #[api(nullable)]
    pub consecutive_gateway_errors: Option<u32>,
    /// Answers from 500 to 599 in a row before an endpoint is left out.
    #[api(nullable)]
    pub consecutive_5xx_errors: Option<u32>,
    /// How often endpoints are looked at.
    #[api(duration_rule)]
    pub interval: Option<Duration>,
    /// How long an endpoint is left out, times how often it was.
    #[api(duration_rule)]
    pub base_ejection_time: Option<Duration>,
    /// The most endpoints left out at once.
    pub max_ejection_percent: i32,
    /// Below this share of healthy endpoints, none is left out.
    pub min_health_percent: i32,
    /// The outlier detection http error codes.
    #[api(items(maximum = 599, minimum = 100))]
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// TLS towards a host.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ClientTLSSettings {
    /// Whether and how TLS is used.
    pub mode: ClientTLSSettingsTLSmode,
    /// The file with the certificate to show.
    pub client_certificate: String,
    /// The file with its key.
    pub private_key: String,
    /// The file with the authorities to trust.
    pub ca_certificates: String,
    /// The secret that holds certificate, key and authorities.
    pub credential_name: String,
    /// Names of which the host's certificate must have one.
    pub subject_alt_names: Vec<String>,
    /// The server name to send.
    pub sni: String,
    /// Whether the host's certificate is taken unverified.
    #[api(nullable)]
    pub insecure_skip_verify: Option<bool>,
    /// The file with the list of revoked certificates.
    pub ca_crl: String,
}

/// Weights for the traffic of one place.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Distribute {
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: BTreeMap<String, u32>,
}

/// The locality load balancer setting failover.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct LocalityLoadBalancerSettingFailover {
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
}

/// Weights and failover between places.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct LocalityLoadBalancerSetting {
    /// Which share of the traffic of a place goes to which others.
    pub distribute: Vec<Distribute>,
    /// Where the traffic of a region goes when its endpoints fail.
    pub failover: Vec<LocalityLoadBalancerSettingFailover>,
    /// Labels by which endpoints are preferred, the first counting most.
    pub failover_priority: Vec<String>,
    /// Whether it is on.
    #[api(nullable)]
    pub enabled: Option<bool>,
}

/// The zone aware load balancer setting failover.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ZoneAwareLoadBalancerSettingFailover {
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
}

/// The zone aware load balancer setting.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ZoneAwareLoadBalancerSetting {
    /// Whether it is on.
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

/// Weights from the utilization that endpoints report with their responses.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct BackendUtilizationLB {
    /// How long an endpoint must have reported before its weight counts.
    pub weight_stabilization_period: Option<Duration>,
    /// After how long without a report a weight is forgotten.
    pub weight_expiration_period: Option<Duration>,
    /// How often weights are computed.
    pub weight_update_period: Option<Duration>,
    /// How much errors count as utilization.
    pub error_utilization_penalty_percent: u32,
    /// The reported metrics that make up utilization.
    pub metric_names_for_computing_utilization: Vec<String>,
}

/// The proxy protocol version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ProxyProtocolVersion {
    /// The text form.
    #[default]
    V1,
    /// The binary form.
    V2,
}

/// The simple LB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum SimpleLB {
    /// Left to the mesh.
    #[default]
    Unspecified,
    /// Deprecated name of the next.
    LeastConn,
    /// Any endpoint.
    Random,
    /// The address that was called.
    Passthrough,
    /// One after the other.
    RoundRobin,
    /// The less busy of two picked at random.
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
    /// No TLS.
    #[default]
    Disable,
    /// TLS in which only the host shows a certificate.
    Simple,
    /// TLS with a certificate given here.
    Mutual,
    /// TLS with the workload's own certificate.
    IstioMutual,
}
