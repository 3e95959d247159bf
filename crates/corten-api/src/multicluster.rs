//! The multi-cluster services API: services of several clusters under one name.

use corten_derive::{Enumeration, Message};

use crate::codec::Timestamp;
use crate::resource::{Column, Kind, Registered, Resource, Spec, Status, Version, registered};

/// The service export status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ServiceExportStatus {
    /// The aspects of the state.
    #[api(list_map_keys("type"), list_type = "map")]
    pub conditions: Vec<ServiceExportCondition>,
}

/// The service export condition.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ServiceExportCondition {
    /// When the state changed last.
    pub last_transition_time: Option<Timestamp>,
    /// What there is to say, for people.
    pub message: Option<String>,
    /// Why, in one word, for programs.
    pub reason: Option<String>,
    /// The status.
    #[api(required)]
    pub status: ServiceExportConditionStatus,
    /// The type.
    #[api(required)]
    pub type_: String,
}

/// The service import spec.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ServiceImportSpec {
    /// The ips.
    #[api(max_items = 1)]
    pub ips: Vec<String>,
    /// The ports.
    #[api(required, list_type = "atomic")]
    pub ports: Vec<ServiceImportSpecPort>,
    /// The session affinity.
    pub session_affinity: Option<String>,
    /// The session affinity config.
    pub session_affinity_config: Option<ServiceImportSpecSessionAffinityConfig>,
    /// The type.
    #[api(required)]
    pub type_: ServiceImportSpecType,
}

/// The service import spec port.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ServiceImportSpecPort {
    /// The app protocol.
    pub app_protocol: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The port.
    #[api(required)]
    pub port: i32,
    /// What is spoken.
    pub protocol: Option<String>,
}

/// The service import spec session affinity config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ServiceImportSpecSessionAffinityConfig {
    /// The client ip.
    #[api(name = "clientIP")]
    pub client_ip: Option<ServiceImportSpecSessionAffinityConfigClientIP>,
}

/// The service import spec session affinity config client IP.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ServiceImportSpecSessionAffinityConfigClientIP {
    /// Seconds an answer may take.
    pub timeout_seconds: Option<i32>,
}

/// The service import status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ServiceImportStatus {
    /// The clusters.
    #[api(list_map_keys("cluster"), list_type = "map")]
    pub clusters: Vec<ServiceImportStatusCluster>,
}

/// The service import status cluster.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ServiceImportStatusCluster {
    /// The cluster.
    #[api(required)]
    pub cluster: String,
}

/// The service export condition status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum ServiceExportConditionStatus {
    /// The value `True`.
    #[default]
    True,
    /// The value `False`.
    False,
    /// The value `Unknown`.
    Unknown,
}

/// The service import spec type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum ServiceImportSpecType {
    /// The value `ClusterSetIP`.
    #[default]
    ClusterSetIP,
    /// The value `Headless`.
    Headless,
}

/// Nothing: the object itself says it all.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ServiceExportSpec {}

impl Spec for ServiceExportSpec {
    type Status = ServiceExportStatus;
    const KIND: &'static Kind = &Kind {
        group: "multicluster.x-k8s.io",
        kind: "ServiceExport",
        plural: "serviceexports",
        short_names: &["svcex"],
        categories: &[],
        namespaced: true,
        versions: &[Version {
            name: "v1alpha1",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[Column {
            name: "Age",
            path: ".metadata.creationTimestamp",
            kind: "date",
            description: "How long the object has existed.",
            priority: 0,
        }],
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: "",
        root_facts: r#"{"properties": {"spec": null}}"#,
        experimental: false,
    };
}
/// A ServiceExport object.
pub type ServiceExport = Resource<ServiceExportSpec>;

impl Spec for ServiceImportSpec {
    type Status = ServiceImportStatus;
    const KIND: &'static Kind = &Kind {
        group: "multicluster.x-k8s.io",
        kind: "ServiceImport",
        plural: "serviceimports",
        short_names: &["svcim"],
        categories: &[],
        namespaced: true,
        versions: &[Version {
            name: "v1alpha1",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[
            Column {
                name: "Type",
                path: ".spec.type",
                kind: "string",
                description: "",
                priority: 0,
            },
            Column {
                name: "IP",
                path: ".spec.ips",
                kind: "string",
                description: "",
                priority: 0,
            },
            Column {
                name: "Age",
                path: ".metadata.creationTimestamp",
                kind: "date",
                description: "How long the object has existed.",
                priority: 0,
            },
        ],
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: false,
    };
}
/// A ServiceImport object.
pub type ServiceImport = Resource<ServiceImportSpec>;

impl Status for ServiceExportStatus {}
impl Status for ServiceImportStatus {}

/// All kinds of this API.
pub const KINDS: &[Registered] = &[registered::<ServiceExportSpec>(), registered::<ServiceImportSpec>()];
