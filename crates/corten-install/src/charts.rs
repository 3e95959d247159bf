//! The charts, as they are in `deploy/`, embedded.

use serde_json::{Map, Value, json};

use corten_template::{TemplateError, Templates};

/// A part of the mesh that is installed by a chart of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Resource definitions and what the cluster has once.
    Base,
    /// The control plane.
    Pilot,
    /// The node agent.
    Cni,
    /// The node proxy.
    Ztunnel,
    /// Gateways into the mesh; there may be several.
    Ingress,
    /// Gateways out of it.
    Egress,
    /// A gateway of one's own, for Helm alone.
    Gateway,
}

/// A chart's files.
struct Chart {
    name: &'static str,
    release: &'static str,
    defaults: &'static str,
    templates: &'static [(&'static str, &'static str)],
}

macro_rules! chart {
    ($name:literal, $release:literal, [$($template:literal),* $(,)?]) => {
        Chart {
            name: $name,
            release: $release,
            defaults: include_str!(concat!("../../../deploy/charts/", $name, "/values.yaml")),
            templates: &[
                ("_corten.tpl", include_str!("../../../deploy/lib/_corten.tpl")),
                $(($template, include_str!(concat!("../../../deploy/charts/", $name, "/templates/", $template)))),*
            ],
        }
    };
}

const BASE: Chart = chart!(
    "base",
    "istio-base",
    ["crds.yaml", "default-validator.yaml", "reader-serviceaccount.yaml"]
);
const ISTIOD: Chart = chart!(
    "istiod",
    "istiod",
    [
        "_injector.tpl",
        "_istiod.tpl",
        "autoscale.yaml",
        "clusterrole.yaml",
        "configmap-jwks.yaml",
        "configmap.yaml",
        "deployment.yaml",
        "injector-configmap.yaml",
        "injector.yaml",
        "networkpolicy.yaml",
        "poddisruptionbudget.yaml",
        "reader-clusterrole.yaml",
        "role.yaml",
        "service.yaml",
        "serviceaccount.yaml",
        "validator.yaml",
    ]
);
const CNI: Chart = chart!(
    "cni",
    "istio-cni",
    [
        "_cni.tpl",
        "clusterrole.yaml",
        "daemonset.yaml",
        "networkpolicy.yaml",
        "resourcequota.yaml",
        "serviceaccount.yaml",
    ]
);
const ZTUNNEL: Chart = chart!(
    "ztunnel",
    "ztunnel",
    [
        "_ztunnel.tpl",
        "daemonset.yaml",
        "networkpolicy.yaml",
        "rbac.yaml",
        "resourcequota.yaml",
        "serviceaccount.yaml",
    ]
);

/// The charts of gateways that installations bring have the same templates.
macro_rules! gateways {
    ($name:literal) => {
        chart!(
            $name,
            $name,
            [
                "_gateways.tpl",
                "autoscale.yaml",
                "deployment.yaml",
                "networkpolicy.yaml",
                "poddisruptionbudget.yaml",
                "role.yaml",
                "service.yaml",
                "serviceaccount.yaml",
            ]
        )
    };
}

const INGRESS: Chart = gateways!("istio-ingress");
const EGRESS: Chart = gateways!("istio-egress");
const GATEWAY: Chart = chart!(
    "gateway",
    "gateway",
    [
        "_gateway.tpl",
        "deployment.yaml",
        "hpa.yaml",
        "networkpolicy.yaml",
        "poddisruptionbudget.yaml",
        "role.yaml",
        "service.yaml",
        "serviceaccount.yaml",
    ]
);

macro_rules! profiles {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../deploy/profiles/", $name, ".yaml")))),*]
    };
}

/// What lies between the charts' values and the user's.
const PROFILES: &[(&str, &str)] = profiles!(
    "ambient",
    "default",
    "demo",
    "empty",
    "minimal",
    "openshift",
    "openshift-ambient",
    "preview",
    "remote",
    "stable",
    "platform-gke",
    "platform-k3d",
    "platform-k3s",
    "platform-microk8s",
    "platform-minikube",
    "platform-openshift",
);

/// The resource definitions that the base chart brings: Istio's kinds, made from this program's own types.
pub const DEFINITIONS: &str = include_str!("../../../deploy/charts/base/files/crds.yaml");

/// The version of the charts and, unless another tag is set, of the images.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The profiles' names.
pub fn profiles() -> impl Iterator<Item = &'static str> {
    let names = PROFILES.iter().map(|(name, _)| *name);
    names.filter(|name| !name.starts_with("platform-"))
}

/// The platforms' names.
pub fn platforms() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().filter_map(|(name, _)| name.strip_prefix("platform-"))
}

impl Component {
    /// All that `corten install` knows, in the order in which they are installed.
    pub const ALL: [Component; 6] = [
        Self::Base,
        Self::Pilot,
        Self::Cni,
        Self::Ztunnel,
        Self::Ingress,
        Self::Egress,
    ];

    fn chart(self) -> Chart {
        match self {
            Self::Base => BASE,
            Self::Pilot => ISTIOD,
            Self::Cni => CNI,
            Self::Ztunnel => ZTUNNEL,
            Self::Ingress => INGRESS,
            Self::Egress => EGRESS,
            Self::Gateway => GATEWAY,
        }
    }

    /// The name in IstioOperator files and values.
    pub fn key(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Pilot => "pilot",
            Self::Cni => "cni",
            Self::Ztunnel => "ztunnel",
            Self::Ingress => "ingressGateways",
            Self::Egress => "egressGateways",
            Self::Gateway => "gateway",
        }
    }

    /// The name of a gateway of this kind that says no other, which is also the one under which values of all of them stand; none: it
    /// is no gateway of an installation.
    pub fn gateway(self) -> Option<&'static str> {
        match self {
            Self::Ingress => Some("istio-ingressgateway"),
            Self::Egress => Some("istio-egressgateway"),
            _ => None,
        }
    }

    /// What users read.
    pub fn title(self) -> &'static str {
        match self {
            Self::Base => "Istio core",
            Self::Pilot => "Istiod",
            Self::Cni => "CNI",
            Self::Ztunnel => "Ztunnel",
            Self::Ingress => "Ingress gateways",
            Self::Egress => "Egress gateways",
            Self::Gateway => "Gateway",
        }
    }

    /// The chart's directory in `deploy/charts`.
    pub fn chart_name(self) -> &'static str {
        self.chart().name
    }

    /// The release that Istio's guides install it as, and that the objects' labels name.
    pub fn release(self) -> &'static str {
        self.chart().release
    }

    /// The chart's own values.
    pub fn defaults(self) -> Value {
        let mut values = tree(self.chart().defaults);
        values["_internal_defaults_do_not_set"].take()
    }

    /// The texts of the chart's templates, one after the other.
    #[cfg(test)]
    pub(crate) fn template_text(self) -> String {
        self.chart().templates.iter().map(|(_, text)| *text).collect()
    }

    /// The texts of the chart's objects.
    pub fn render(self, values: &Value, release: &Release<'_>) -> Result<Vec<(String, String)>, TemplateError> {
        let chart = self.chart();
        let mut templates = Templates::default();
        for (name, text) in chart.templates {
            templates.add(&format!("{}/templates/{name}", chart.name), text)?;
        }
        let mut all = tree(chart.defaults);
        crate::values::merge(&mut all, values);
        let root = json!({
            "Values": all,
            "Release": {
                "Name": release.name,
                "Namespace": release.namespace,
                "Service": "Helm",
                "IsInstall": !release.is_upgrade,
                "IsUpgrade": release.is_upgrade,
            },
            "Chart": {"Name": chart.name, "Version": VERSION, "AppVersion": VERSION},
            "Files": {},
        });
        templates.render(&root, &file)
    }
}

/// As what a chart is installed.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where its objects go.
    pub namespace: &'a str,
    /// There is one already.
    pub is_upgrade: bool,
}

/// A file of a chart; empty if there is none.
fn file(name: &str) -> String {
    if name == "files/crds.yaml" {
        return DEFINITIONS.to_owned();
    }
    let profile = name
        .strip_prefix("files/profile-")
        .and_then(|name| name.strip_suffix(".yaml"));
    let found = PROFILES.iter().find(|(known, _)| Some(*known) == profile);
    found.map(|(_, text)| (*text).to_owned()).unwrap_or_default()
}

/// One of our own files, which tests hold to be well formed.
fn tree(text: &str) -> Value {
    let (documents, problems) = corten_api::decode::documents("", text);
    debug_assert!(problems.is_empty(), "{problems:?}");
    let document = documents.first().map(corten_api::decode::Node::to_value);
    document.unwrap_or_else(|| Value::Object(Map::new()))
}
