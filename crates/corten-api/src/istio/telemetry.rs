//! Telemetry: metrics, traces and access logs.

use std::collections::BTreeMap;

use corten_core::Duration;
use corten_derive::{Enumeration, Message, OneOf};

use super::selector::{PolicyTargetReference, WorkloadSelector};

/// Metrics, traces and access logs of some workloads.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    "only one of targetRefs or selector can be set"
))]
pub struct TelemetrySpec {
    /// The workloads it is for; all of the namespace, when left out.
    pub selector: Option<WorkloadSelector>,
    /// The one object it is attached to; deprecated in favour of `targetRefs`.
    pub target_ref: Option<PolicyTargetReference>,
    /// The objects it is attached to.
    #[api(max_items = 16)]
    pub target_refs: Vec<PolicyTargetReference>,
    /// The tracing.
    pub tracing: Vec<Tracing>,
    /// The metrics.
    pub metrics: Vec<Metrics>,
    /// The access logging.
    pub access_logging: Vec<AccessLogging>,
}

/// The tracing selector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TracingSelector {
    /// The mode.
    pub mode: WorkloadMode,
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
    /// The formatter.
    Formatter(TracingFormatter),
}

/// The tracing literal.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TracingLiteral {
    /// The value.
    #[api(required, min_length = 1)]
    pub value: String,
}

/// The tracing environment.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TracingEnvironment {
    /// The name.
    #[api(required, min_length = 1)]
    pub name: String,
    /// The default value.
    pub default_value: String,
}

/// The tracing request header.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TracingRequestHeader {
    /// The name.
    #[api(required, min_length = 1)]
    pub name: String,
    /// The default value.
    pub default_value: String,
}

/// The tracing formatter.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TracingFormatter {
    /// The value.
    #[api(required, min_length = 1)]
    pub value: String,
}

/// Where traces go, how many, and with which tags.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Tracing {
    /// The conditions.
    pub match_: Option<TracingSelector>,
    /// The providers, by name.
    pub providers: Vec<ProviderRef>,
    /// The share of requests traced when nobody decided before.
    #[api(maximum = 100, minimum = 0, nullable)]
    pub random_sampling_percentage: Option<f64>,
    /// Whether no spans are sent.
    #[api(nullable)]
    pub disable_span_reporting: Option<bool>,
    /// The custom tags.
    pub custom_tags: BTreeMap<String, TracingCustomTag>,
    /// The use request id for trace sampling.
    #[api(nullable)]
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// The enable istio tags.
    #[api(nullable)]
    pub enable_istio_tags: Option<bool>,
    /// The disable context propagation.
    #[api(nullable)]
    pub disable_context_propagation: Option<bool>,
}

/// The provider ref.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ProviderRef {
    /// The name.
    #[api(required, min_length = 1)]
    pub name: String,
}

/// Which metrics go where.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Metrics {
    /// The providers, by name.
    pub providers: Vec<ProviderRef>,
    /// The overrides.
    pub overrides: Vec<MetricsOverrides>,
    /// The reporting interval.
    #[api(duration_rule)]
    pub reporting_interval: Option<Duration>,
}

/// The metric selector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct MetricSelector {
    /// The metric match.
    #[api(flatten)]
    pub metric_match: Option<MetricSelectorMetricMatch>,
    /// The mode.
    pub mode: WorkloadMode,
}

/// The metric selector metric match.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum MetricSelectorMetricMatch {
    /// The metric.
    Metric(IstioMetric),
    /// The custom metric.
    #[api(min_length = 1)]
    CustomMetric(String),
}

/// The tag override.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    rule(
        r#"((has(self.operation) ? self.operation : "") == "UPSERT") ? (self.value != "") : true"#,
        "value must be set when operation is UPSERT"
    ),
    rule(
        r#"((has(self.operation) ? self.operation : "") == "REMOVE") ? !has(self.value) : true"#,
        "value must not be set when operation is REMOVE"
    )
)]
pub struct TagOverride {
    /// The operation.
    pub operation: TagOverrideOperation,
    /// The value.
    pub value: String,
}

/// Changes of some metrics.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct MetricsOverrides {
    /// The conditions.
    pub match_: Option<MetricSelector>,
    /// Whether it is off.
    #[api(nullable)]
    pub disabled: Option<bool>,
    /// The tag overrides.
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// The log selector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct LogSelector {
    /// The mode.
    pub mode: WorkloadMode,
}

/// The access logging filter.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct AccessLoggingFilter {
    /// An expression of CEL; requests for which it is true are logged.
    pub expression: String,
}

/// Where access logs go, and of which requests.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct AccessLogging {
    /// The conditions.
    pub match_: Option<LogSelector>,
    /// The providers, by name.
    pub providers: Vec<ProviderRef>,
    /// Whether it is off.
    #[api(nullable)]
    pub disabled: Option<bool>,
    /// The filter.
    pub filter: Option<AccessLoggingFilter>,
}

/// The workload mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum WorkloadMode {
    /// Both sides.
    #[default]
    ClientAndServer,
    /// Requests that leave the workload.
    Client,
    /// Requests that arrive at the workload.
    Server,
}

/// The istio metric.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum IstioMetric {
    /// The value `ALL_METRICS`.
    #[default]
    AllMetrics,
    /// The value `REQUEST_COUNT`.
    RequestCount,
    /// The value `REQUEST_DURATION`.
    RequestDuration,
    /// The value `REQUEST_SIZE`.
    RequestSize,
    /// The value `RESPONSE_SIZE`.
    ResponseSize,
    /// The value `TCP_OPENED_CONNECTIONS`.
    TcpOpenedConnections,
    /// The value `TCP_CLOSED_CONNECTIONS`.
    TcpClosedConnections,
    /// The value `TCP_SENT_BYTES`.
    TcpSentBytes,
    /// The value `TCP_RECEIVED_BYTES`.
    TcpReceivedBytes,
    /// The value `GRPC_REQUEST_MESSAGES`.
    GrpcRequestMessages,
    /// The value `GRPC_RESPONSE_MESSAGES`.
    GrpcResponseMessages,
}

/// The tag override operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum TagOverrideOperation {
    /// Sets the tag.
    #[default]
    Upsert,
    /// Takes the tag away.
    Remove,
}
