//! The resources that are served out of the box: their names, kinds, scopes and subresources.
//!
//! A table of facts. What a kind does on create or update is in `kinds`; custom resources are in `crd`.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

/// A resource by group, version and plural name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    /// The API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// The version, for example `v1`.
    pub version: Cow<'static, str>,
    /// The plural name in paths, for example `pods`.
    pub plural: Cow<'static, str>,
}

impl ResourceId {
    /// A resource known at compile time.
    pub const fn fixed(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            plural: Cow::Borrowed(plural),
        }
    }

    /// A resource named at run time.
    pub fn new(group: impl Into<String>, version: impl Into<String>, plural: impl Into<String>) -> Self {
        Self {
            group: Cow::Owned(group.into()),
            version: Cow::Owned(version.into()),
            plural: Cow::Owned(plural.into()),
        }
    }

    /// `apps/v1` or `v1`.
    pub fn api_version(&self) -> String {
        crate::object::api_version(&self.group, &self.version)
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            write!(f, "{}", self.plural)
        } else {
            write!(f, "{}.{}", self.plural, self.group)
        }
    }
}

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident = $group:literal / $version:literal / $plural:literal;)*) => {
        $($(#[$doc])* pub const $name: ResourceId = ResourceId::fixed($group, $version, $plural);)*
    };
}

resources! {
    /// Namespaces.
    NAMESPACES = "" / "v1" / "namespaces";
    /// Pods.
    PODS = "" / "v1" / "pods";
    /// Services.
    SERVICES = "" / "v1" / "services";
    /// Endpoints.
    ENDPOINTS = "" / "v1" / "endpoints";
    /// Nodes.
    NODES = "" / "v1" / "nodes";
    /// Config maps.
    CONFIG_MAPS = "" / "v1" / "configmaps";
    /// Secrets.
    SECRETS = "" / "v1" / "secrets";
    /// Service accounts.
    SERVICE_ACCOUNTS = "" / "v1" / "serviceaccounts";
    /// Events.
    EVENTS = "" / "v1" / "events";
    /// Deployments.
    DEPLOYMENTS = "apps" / "v1" / "deployments";
    /// Replica sets.
    REPLICA_SETS = "apps" / "v1" / "replicasets";
    /// Stateful sets.
    STATEFUL_SETS = "apps" / "v1" / "statefulsets";
    /// Daemon sets.
    DAEMON_SETS = "apps" / "v1" / "daemonsets";
    /// Revisions of stateful and daemon sets' templates.
    CONTROLLER_REVISIONS = "apps" / "v1" / "controllerrevisions";
    /// Leases.
    LEASES = "coordination.k8s.io" / "v1" / "leases";
    /// Endpoint slices.
    ENDPOINT_SLICES = "discovery.k8s.io" / "v1" / "endpointslices";
    /// Custom resource definitions.
    CUSTOM_RESOURCE_DEFINITIONS = "apiextensions.k8s.io" / "v1" / "customresourcedefinitions";
    /// Mutating webhooks.
    MUTATING_WEBHOOK_CONFIGURATIONS = "admissionregistration.k8s.io" / "v1" / "mutatingwebhookconfigurations";
    /// Validating webhooks.
    VALIDATING_WEBHOOK_CONFIGURATIONS = "admissionregistration.k8s.io" / "v1" / "validatingwebhookconfigurations";
    /// Roles.
    ROLES = "rbac.authorization.k8s.io" / "v1" / "roles";
    /// Role bindings.
    ROLE_BINDINGS = "rbac.authorization.k8s.io" / "v1" / "rolebindings";
    /// Cluster roles.
    CLUSTER_ROLES = "rbac.authorization.k8s.io" / "v1" / "clusterroles";
    /// Cluster role bindings.
    CLUSTER_ROLE_BINDINGS = "rbac.authorization.k8s.io" / "v1" / "clusterrolebindings";
    /// Network policies.
    NETWORK_POLICIES = "networking.k8s.io" / "v1" / "networkpolicies";
    /// Rules for calls from outside the cluster; nothing here acts on them.
    INGRESSES = "networking.k8s.io" / "v1" / "ingresses";
    /// Who acts on ingresses.
    INGRESS_CLASSES = "networking.k8s.io" / "v1" / "ingressclasses";
    /// How many pods a set is to have by its load; nothing here acts on them.
    HORIZONTAL_POD_AUTOSCALERS = "autoscaling" / "v2" / "horizontalpodautoscalers";
    /// How many pods of a set may be away; nothing here evicts any.
    POD_DISRUPTION_BUDGETS = "policy" / "v1" / "poddisruptionbudgets";
    /// Token reviews.
    TOKEN_REVIEWS = "authentication.k8s.io" / "v1" / "tokenreviews";
    /// Self subject reviews.
    SELF_SUBJECT_REVIEWS = "authentication.k8s.io" / "v1" / "selfsubjectreviews";
    /// Subject access reviews.
    SUBJECT_ACCESS_REVIEWS = "authorization.k8s.io" / "v1" / "subjectaccessreviews";
    /// Local subject access reviews.
    LOCAL_SUBJECT_ACCESS_REVIEWS = "authorization.k8s.io" / "v1" / "localsubjectaccessreviews";
    /// Self subject access reviews.
    SELF_SUBJECT_ACCESS_REVIEWS = "authorization.k8s.io" / "v1" / "selfsubjectaccessreviews";
    /// Self subject rules reviews.
    SELF_SUBJECT_RULES_REVIEWS = "authorization.k8s.io" / "v1" / "selfsubjectrulesreviews";
}

/// How a built-in resource is described to clients.
#[derive(Debug)]
pub(crate) struct Builtin {
    pub(crate) id: ResourceId,
    pub(crate) kind: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    /// Subresource name, its group/version/kind, its verbs.
    pub(crate) subresources: Vec<Subresource>,
    /// Answered at once and never stored, like a TokenReview.
    pub(crate) review: bool,
    /// Changes of anything but metadata and status count in `metadata.generation`.
    pub(crate) generation: bool,
}

/// A built-in subresource: its name, the API version and kind of its object, its verbs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subresource {
    pub(crate) name: &'static str,
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) verbs: &'static [&'static str],
}

const GET_PATCH_UPDATE: &[&str] = &["get", "patch", "update"];

const fn status(group: &'static str, kind: &'static str) -> Subresource {
    Subresource {
        name: "status",
        group,
        version: "v1",
        kind,
        verbs: GET_PATCH_UPDATE,
    }
}

const SCALE: Subresource = Subresource {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: GET_PATCH_UPDATE,
};

fn stored(id: ResourceId, kind: &'static str, singular: &'static str, namespaced: bool) -> Builtin {
    Builtin {
        id,
        kind,
        singular,
        namespaced,
        short_names: &[],
        categories: &[],
        subresources: Vec::new(),
        review: false,
        generation: false,
    }
}

fn review(id: ResourceId, kind: &'static str, singular: &'static str, namespaced: bool) -> Builtin {
    Builtin {
        review: true,
        ..stored(id, kind, singular, namespaced)
    }
}

const fn core(name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Subresource {
    Subresource {
        name,
        group: "",
        version: "v1",
        kind,
        verbs,
    }
}

/// Every built-in resource, in the order of discovery.
pub(crate) static BUILTINS: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
    vec![
        Builtin {
            short_names: &["cm"],
            ..stored(CONFIG_MAPS, "ConfigMap", "configmap", true)
        },
        Builtin {
            short_names: &["ep"],
            ..stored(ENDPOINTS, "Endpoints", "endpoints", true)
        },
        Builtin {
            short_names: &["ev"],
            ..stored(EVENTS, "Event", "event", true)
        },
        Builtin {
            short_names: &["ns"],
            subresources: vec![core("finalize", "Namespace", &["update"]), status("", "Namespace")],
            ..stored(NAMESPACES, "Namespace", "namespace", false)
        },
        Builtin {
            short_names: &["no"],
            subresources: vec![status("", "Node")],
            ..stored(NODES, "Node", "node", false)
        },
        Builtin {
            short_names: &["po"],
            categories: &["all"],
            subresources: vec![
                core("attach", "PodAttachOptions", &["create", "get"]),
                Subresource {
                    name: "eviction",
                    group: "policy",
                    version: "v1",
                    kind: "Eviction",
                    verbs: &["create"],
                },
                core("exec", "PodExecOptions", &["create", "get"]),
                core("log", "Pod", &["get"]),
                core("portforward", "PodPortForwardOptions", &["create", "get"]),
                status("", "Pod"),
            ],
            generation: true,
            ..stored(PODS, "Pod", "pod", true)
        },
        stored(SECRETS, "Secret", "secret", true),
        Builtin {
            short_names: &["sa"],
            subresources: vec![Subresource {
                name: "token",
                group: "authentication.k8s.io",
                version: "v1",
                kind: "TokenRequest",
                verbs: &["create"],
            }],
            ..stored(SERVICE_ACCOUNTS, "ServiceAccount", "serviceaccount", true)
        },
        Builtin {
            short_names: &["svc"],
            categories: &["all"],
            subresources: vec![status("", "Service")],
            ..stored(SERVICES, "Service", "service", true)
        },
        Builtin {
            categories: &["api-extensions"],
            generation: true,
            ..stored(
                MUTATING_WEBHOOK_CONFIGURATIONS,
                "MutatingWebhookConfiguration",
                "mutatingwebhookconfiguration",
                false,
            )
        },
        Builtin {
            categories: &["api-extensions"],
            generation: true,
            ..stored(
                VALIDATING_WEBHOOK_CONFIGURATIONS,
                "ValidatingWebhookConfiguration",
                "validatingwebhookconfiguration",
                false,
            )
        },
        Builtin {
            short_names: &["crd", "crds"],
            categories: &["api-extensions"],
            subresources: vec![status("apiextensions.k8s.io", "CustomResourceDefinition")],
            generation: true,
            ..stored(
                CUSTOM_RESOURCE_DEFINITIONS,
                "CustomResourceDefinition",
                "customresourcedefinition",
                false,
            )
        },
        stored(CONTROLLER_REVISIONS, "ControllerRevision", "controllerrevision", true),
        Builtin {
            short_names: &["ds"],
            categories: &["all"],
            subresources: vec![status("apps", "DaemonSet")],
            generation: true,
            ..stored(DAEMON_SETS, "DaemonSet", "daemonset", true)
        },
        Builtin {
            short_names: &["deploy"],
            categories: &["all"],
            subresources: vec![SCALE, status("apps", "Deployment")],
            generation: true,
            ..stored(DEPLOYMENTS, "Deployment", "deployment", true)
        },
        Builtin {
            short_names: &["rs"],
            categories: &["all"],
            subresources: vec![SCALE, status("apps", "ReplicaSet")],
            generation: true,
            ..stored(REPLICA_SETS, "ReplicaSet", "replicaset", true)
        },
        Builtin {
            short_names: &["sts"],
            categories: &["all"],
            subresources: vec![SCALE, status("apps", "StatefulSet")],
            generation: true,
            ..stored(STATEFUL_SETS, "StatefulSet", "statefulset", true)
        },
        review(SELF_SUBJECT_REVIEWS, "SelfSubjectReview", "selfsubjectreview", false),
        review(TOKEN_REVIEWS, "TokenReview", "tokenreview", false),
        review(
            LOCAL_SUBJECT_ACCESS_REVIEWS,
            "LocalSubjectAccessReview",
            "localsubjectaccessreview",
            true,
        ),
        review(
            SELF_SUBJECT_ACCESS_REVIEWS,
            "SelfSubjectAccessReview",
            "selfsubjectaccessreview",
            false,
        ),
        review(
            SELF_SUBJECT_RULES_REVIEWS,
            "SelfSubjectRulesReview",
            "selfsubjectrulesreview",
            false,
        ),
        review(
            SUBJECT_ACCESS_REVIEWS,
            "SubjectAccessReview",
            "subjectaccessreview",
            false,
        ),
        stored(LEASES, "Lease", "lease", true),
        stored(ENDPOINT_SLICES, "EndpointSlice", "endpointslice", true),
        Builtin {
            short_names: &["netpol"],
            generation: true,
            ..stored(NETWORK_POLICIES, "NetworkPolicy", "networkpolicy", true)
        },
        Builtin {
            short_names: &["hpa"],
            categories: &["all"],
            subresources: vec![Subresource {
                version: "v2",
                ..status("autoscaling", "HorizontalPodAutoscaler")
            }],
            ..stored(
                HORIZONTAL_POD_AUTOSCALERS,
                "HorizontalPodAutoscaler",
                "horizontalpodautoscaler",
                true,
            )
        },
        Builtin {
            short_names: &["ing"],
            subresources: vec![status("networking.k8s.io", "Ingress")],
            generation: true,
            ..stored(INGRESSES, "Ingress", "ingress", true)
        },
        Builtin {
            generation: true,
            ..stored(INGRESS_CLASSES, "IngressClass", "ingressclass", false)
        },
        Builtin {
            short_names: &["pdb"],
            subresources: vec![status("policy", "PodDisruptionBudget")],
            generation: true,
            ..stored(
                POD_DISRUPTION_BUDGETS,
                "PodDisruptionBudget",
                "poddisruptionbudget",
                true,
            )
        },
        stored(CLUSTER_ROLE_BINDINGS, "ClusterRoleBinding", "clusterrolebinding", false),
        stored(CLUSTER_ROLES, "ClusterRole", "clusterrole", false),
        stored(ROLE_BINDINGS, "RoleBinding", "rolebinding", true),
        stored(ROLES, "Role", "role", true),
    ]
});
