//! The inference extension of the Gateway API: pools of model servers.

use std::collections::BTreeMap;

use corten_derive::{Enumeration, Message};

use crate::gateway_api::shared::Condition;
use crate::resource::{Column, Kind, Registered, Resource, Spec, Status, Version, registered};

/// The inference model rewrite spec.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferenceModelRewriteSpec {
    /// The pool ref.
    #[api(required)]
    pub pool_ref: InferenceModelRewriteSpecPoolRef,
    /// The rules, the most specific match winning.
    #[api(required)]
    pub rules: Vec<InferenceModelRewriteSpecRule>,
}

/// The inference model rewrite spec pool ref.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferenceModelRewriteSpecPoolRef {
    /// The API group.
    #[api(
        default = r#""inference.networking.k8s.io""#,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        default = r#""InferencePool""#,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: Option<String>,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
}

/// The inference model rewrite spec rule.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferenceModelRewriteSpecRule {
    /// The conditions, of which one must hold.
    pub matches: Vec<InferenceModelRewriteSpecRuleMatche>,
    /// The targets.
    #[api(min_items = 1)]
    pub targets: Vec<InferenceModelRewriteSpecRuleTarget>,
}

/// The inference model rewrite spec rule matche.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferenceModelRewriteSpecRuleMatche {
    /// The model.
    #[api(required)]
    pub model: InferenceModelRewriteSpecRuleMatcheModel,
}

/// The inference model rewrite spec rule matche model.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferenceModelRewriteSpecRuleMatcheModel {
    /// The type.
    #[api(default = r#""Exact""#)]
    pub type_: Option<InferenceModelRewriteSpecRuleMatcheModelType>,
    /// The value.
    #[api(required, min_length = 1)]
    pub value: String,
}

/// The inference model rewrite spec rule target.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferenceModelRewriteSpecRuleTarget {
    /// The model rewrite.
    #[api(required)]
    pub model_rewrite: String,
    /// The share of the traffic.
    #[api(maximum = 1000000, minimum = 1)]
    pub weight: Option<i32>,
}

/// The inference model rewrite status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferenceModelRewriteStatus {
    /// The aspects of the state.
    #[api(
        default = r#"[{"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Accepted"}]"#,
        max_items = 8,
        list_map_keys("type"),
        list_type = "map"
    )]
    pub conditions: Vec<Condition>,
}

/// The inference objective spec.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferenceObjectiveSpec {
    /// The pool ref.
    #[api(required)]
    pub pool_ref: InferenceObjectiveSpecPoolRef,
    /// The order among those of the same phase; higher comes first.
    #[api(schema = r#"{"format": null}"#)]
    pub priority: Option<i64>,
}

/// The inference objective spec pool ref.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferenceObjectiveSpecPoolRef {
    /// The API group.
    #[api(
        default = r#""inference.networking.k8s.io""#,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        default = r#""InferencePool""#,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: Option<String>,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
}

/// The inference objective status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferenceObjectiveStatus {
    /// The aspects of the state.
    #[api(
        default = r#"[{"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Ready"}]"#,
        max_items = 8,
        list_map_keys("type"),
        list_type = "map"
    )]
    pub conditions: Vec<Condition>,
}

/// The inference pool import status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolImportStatus {
    /// The controllers.
    #[api(required, max_items = 8, list_map_keys("name"), list_type = "map")]
    pub controllers: Vec<InferencePoolImportStatusController>,
}

/// The inference pool import status controller.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolImportStatusController {
    /// The aspects of the state.
    #[api(max_items = 8, list_map_keys("type"), list_type = "map")]
    pub conditions: Vec<Condition>,
    /// The exporting clusters.
    pub exporting_clusters: Vec<InferencePoolImportStatusControllerExportingCluster>,
    /// The name.
    #[api(
        required,
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"#
    )]
    pub name: String,
    /// The state for each parent.
    #[api(list_type = "atomic")]
    pub parents: Vec<InferencePoolImportStatusControllerParent>,
}

/// The inference pool import status controller exporting cluster.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolImportStatusControllerExportingCluster {
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
}

/// The inference pool import status controller parent.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolImportStatusControllerParent {
    /// The aspects of the state.
    #[api(max_items = 8, list_map_keys("type"), list_type = "map")]
    pub conditions: Vec<Condition>,
    /// The controller.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"#
    )]
    pub controller_name: Option<String>,
    /// The parent.
    #[api(required)]
    pub parent_ref: InferencePoolImportStatusControllerParentParentRef,
}

/// The inference pool import status controller parent parent ref.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolImportStatusControllerParentParentRef {
    /// The API group.
    #[api(
        default = r#""gateway.networking.k8s.io""#,
        max_length = 253,
        min_length = 0,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        default = r#""Gateway""#,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: Option<String>,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
    /// The namespace.
    #[api(max_length = 63, min_length = 1, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub namespace: Option<String>,
}

/// The inference pool spec.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolSpec {
    /// The app protocol.
    #[api(default = r#""http""#)]
    pub app_protocol: Option<InferencePoolSpecAppProtocol>,
    /// The endpoint picker ref.
    #[api(required)]
    pub endpoint_picker_ref: InferencePoolSpecEndpointPickerRef,
    /// The workloads it is for; all of the namespace, when left out.
    #[api(required)]
    pub selector: InferencePoolSpecSelector,
    /// The target ports.
    #[api(
        required,
        max_items = 8,
        min_items = 1,
        list_type = "atomic",
        rule(
            "self.all(p1, self.exists_one(p2, p1.number==p2.number))",
            "port number must be unique"
        )
    )]
    pub target_ports: Vec<InferencePoolSpecTargetPort>,
}

/// The inference pool spec endpoint picker ref.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "self.kind != 'Service' || has(self.port)",
        "port is required when kind is 'Service' or unspecified (defaults to 'Service')"
    )
)]
pub struct InferencePoolSpecEndpointPickerRef {
    /// The failure mode.
    #[api(default = r#""FailClose""#)]
    pub failure_mode: Option<InferencePoolSpecEndpointPickerRefFailureMode>,
    /// The API group.
    #[api(
        default = r#""""#,
        max_length = 253,
        min_length = 0,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        default = r#""Service""#,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: Option<String>,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
    /// The port.
    pub port: Option<InferencePoolSpecEndpointPickerRefPort>,
}

/// The inference pool spec endpoint picker ref port.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolSpecEndpointPickerRefPort {
    /// The number.
    #[api(required, maximum = 65535, minimum = 1)]
    pub number: i32,
}

/// The inference pool spec selector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolSpecSelector {
    /// The match labels.
    #[api(
        required,
        max_properties = 64,
        min_properties = 1,
        values(
            max_length = 63,
            min_length = 0,
            pattern = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
        )
    )]
    pub match_labels: BTreeMap<String, String>,
}

/// The inference pool spec target port.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolSpecTargetPort {
    /// The number.
    #[api(required, maximum = 65535, minimum = 1)]
    pub number: i32,
}

/// The inference pool status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolStatus {
    /// The state for each parent.
    #[api(max_items = 32, list_type = "atomic")]
    pub parents: Vec<InferencePoolStatusParent>,
}

/// The inference pool status parent.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolStatusParent {
    /// The aspects of the state.
    #[api(max_items = 8, list_map_keys("type"), list_type = "map")]
    pub conditions: Vec<Condition>,
    /// The controller.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"#
    )]
    pub controller_name: Option<String>,
    /// The parent.
    #[api(required)]
    pub parent_ref: InferencePoolStatusParentParentRef,
}

/// The inference pool status parent parent ref.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolStatusParentParentRef {
    /// The API group.
    #[api(
        default = r#""gateway.networking.k8s.io""#,
        max_length = 253,
        min_length = 0,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        default = r#""Gateway""#,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: Option<String>,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
    /// The namespace.
    #[api(max_length = 63, min_length = 1, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub namespace: Option<String>,
}

/// The inference model rewrite spec rule matche model type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum InferenceModelRewriteSpecRuleMatcheModelType {
    /// The value `Exact`.
    #[default]
    Exact,
}

/// The inference pool spec app protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum InferencePoolSpecAppProtocol {
    /// The value `http`.
    #[default]
    #[api(name = "http")]
    Http,
    /// The value `kubernetes.io/h2c`.
    #[api(name = "kubernetes.io/h2c")]
    KubernetesIoH2c,
}

/// The inference pool spec endpoint picker ref failure mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum InferencePoolSpecEndpointPickerRefFailureMode {
    /// The value `FailOpen`.
    #[default]
    FailOpen,
    /// The value `FailClose`.
    FailClose,
}

/// Nothing: the object itself says it all.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct InferencePoolImportSpec {}

impl Spec for InferenceModelRewriteSpec {
    type Status = InferenceModelRewriteStatus;
    const KIND: &'static Kind = &Kind {
        group: "inference.networking.x-k8s.io",
        kind: "InferenceModelRewrite",
        plural: "inferencemodelrewrites",
        short_names: &[],
        categories: &[],
        namespaced: true,
        versions: &[Version {
            name: "v1alpha2",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[
            Column {
                name: "Inference Pool",
                path: ".spec.poolRef.name",
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
        annotations: &[("inference.networking.k8s.io/bundle-version", "v1.5.0")],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: false,
    };
}
/// A InferenceModelRewrite object.
pub type InferenceModelRewrite = Resource<InferenceModelRewriteSpec>;

impl Spec for InferenceObjectiveSpec {
    type Status = InferenceObjectiveStatus;
    const KIND: &'static Kind = &Kind {
        group: "inference.networking.x-k8s.io",
        kind: "InferenceObjective",
        plural: "inferenceobjectives",
        short_names: &[],
        categories: &[],
        namespaced: true,
        versions: &[Version {
            name: "v1alpha2",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[
            Column {
                name: "Inference Pool",
                path: ".spec.poolRef.name",
                kind: "string",
                description: "",
                priority: 0,
            },
            Column {
                name: "Priority",
                path: ".spec.priority",
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
        annotations: &[("inference.networking.k8s.io/bundle-version", "v1.5.0")],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: false,
    };
}
/// A InferenceObjective object.
pub type InferenceObjective = Resource<InferenceObjectiveSpec>;

impl Spec for InferencePoolImportSpec {
    type Status = InferencePoolImportStatus;
    const KIND: &'static Kind = &Kind {
        group: "inference.networking.x-k8s.io",
        kind: "InferencePoolImport",
        plural: "inferencepoolimports",
        short_names: &["infpimp"],
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
        columns: &[],
        spec_required: false,
        annotations: &[("inference.networking.k8s.io/bundle-version", "v1.5.0")],
        spec_facts: "",
        status_facts: "",
        root_facts: r#"{"properties": {"spec": null}}"#,
        experimental: false,
    };
}
/// A InferencePoolImport object.
pub type InferencePoolImport = Resource<InferencePoolImportSpec>;

impl Spec for InferencePoolSpec {
    type Status = InferencePoolStatus;
    const KIND: &'static Kind = &Kind {
        group: "inference.networking.k8s.io",
        kind: "InferencePool",
        plural: "inferencepools",
        short_names: &["infpool"],
        categories: &[],
        namespaced: true,
        versions: &[Version {
            name: "v1",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api-inference-extension/pull/1173",
            ),
            ("inference.networking.k8s.io/bundle-version", "v1.5.0"),
        ],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: false,
    };
}
/// A InferencePool object.
pub type InferencePool = Resource<InferencePoolSpec>;

impl Status for InferenceModelRewriteStatus {}
impl Status for InferenceObjectiveStatus {}
impl Status for InferencePoolImportStatus {}
impl Status for InferencePoolStatus {}

/// All kinds of this API.
pub const KINDS: &[Registered] = &[
    registered::<InferenceModelRewriteSpec>(),
    registered::<InferenceObjectiveSpec>(),
    registered::<InferencePoolImportSpec>(),
    registered::<InferencePoolSpec>(),
];
