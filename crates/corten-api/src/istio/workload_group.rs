//! WorkloadGroup: a template of WorkloadEntries.

use std::collections::BTreeMap;

use corten_core::Port;
use corten_derive::{Message, OneOf};

use super::workload_entry::WorkloadEntrySpec;

/// A template of workload entries, for workloads that register themselves.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct WorkloadGroupSpec {
    /// Labels and annotations of the entries.
    pub metadata: Option<ObjectMeta>,
    /// The entry that workloads begin with.
    #[api(required)]
    pub template: Option<WorkloadEntrySpec>,
    /// How the proxy finds out whether the workload is ready.
    pub probe: Option<ReadinessProbe>,
}

/// The object meta.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ObjectMeta {
    /// The labels.
    #[api(max_properties = 256)]
    pub labels: BTreeMap<String, String>,
    /// The annotations.
    #[api(max_properties = 256)]
    pub annotations: BTreeMap<String, String>,
}

/// The readiness probe.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ReadinessProbe {
    /// Seconds before the first probe.
    #[api(minimum = 0)]
    pub initial_delay_seconds: i32,
    /// Seconds an answer may take.
    #[api(minimum = 0)]
    pub timeout_seconds: i32,
    /// Seconds between probes.
    #[api(minimum = 0)]
    pub period_seconds: i32,
    /// Successes in a row before it counts as ready.
    #[api(minimum = 0)]
    pub success_threshold: i32,
    /// Failures in a row before it no longer does.
    #[api(minimum = 0)]
    pub failure_threshold: i32,
    /// The health check method.
    #[api(flatten)]
    pub health_check_method: Option<ReadinessProbeHealthCheckMethod>,
}

/// The readiness probe health check method.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum ReadinessProbeHealthCheckMethod {
    /// Asks over HTTP.
    HttpGet(HTTPHealthCheckConfig),
    /// Connects.
    TcpSocket(TCPHealthCheckConfig),
    /// Runs a command.
    Exec(ExecHealthCheckConfig),
    /// The grpc.
    Grpc(GrpcHealthCheckConfig),
}

/// The HTTP health check config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPHealthCheckConfig {
    /// The path.
    pub path: String,
    /// The port.
    #[api(required, rule("0 < self && self <= 65535", "port must be between 1-65535"))]
    pub port: Port,
    /// The host.
    pub host: String,
    /// The scheme.
    #[api(rule(r#"self in ["", "HTTP", "HTTPS"]"#, "scheme must be one of [HTTP, HTTPS]"))]
    pub scheme: String,
    /// The http headers.
    pub http_headers: Vec<HTTPHeader>,
}

/// The grpc health check config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct GrpcHealthCheckConfig {
    /// The port.
    #[api(rule("0 < self && self <= 65535", "port must be between 1-65535"))]
    pub port: Port,
    /// The service, as a host name or `namespace/host`.
    pub service: String,
}

/// The HTTP header.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct HTTPHeader {
    /// The name.
    #[api(pattern = "^[-_A-Za-z0-9]+$")]
    pub name: String,
    /// The value.
    pub value: String,
}

/// The TCP health check config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TCPHealthCheckConfig {
    /// The host.
    pub host: String,
    /// The port.
    #[api(required, rule("0 < self && self <= 65535", "port must be between 1-65535"))]
    pub port: Port,
}

/// The exec health check config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ExecHealthCheckConfig {
    /// The command.
    #[api(required, items(min_length = 1))]
    pub command: Vec<String>,
}
