//! What is watched of the API server, and what of that is waited for before anything is served.

use corten_api::resource::Kind as Defined;
use corten_gateway_api::deploy;
use corten_model::ObjectKind;
use corten_routing::ConfigKind;
use corten_store_kube::{Selection, Source, kinds};

use crate::revision;
use crate::settings::Settings;

/// The ConfigMap of the mesh's configuration; that of a revision ends with its name.
const MESH_CONFIG_NAME: &str = "istio";

/// The ConfigMap of the mesh's configuration.
pub(crate) fn mesh_config_name(revision: &str) -> String {
    match revision {
        "" | "default" => MESH_CONFIG_NAME.to_owned(),
        revision => format!("{MESH_CONFIG_NAME}-{revision}"),
    }
}

/// What is watched. Of kinds that may not be read, those that say who may do what, and where connections end, are waited for: without
/// them a mesh would be more open than it was configured. Without the others it does less.
pub(crate) fn source(settings: &Settings) -> Source {
    let only = |name: &str| Some(format!("metadata.name={name}"));
    let configuration = Selection {
        namespace: Some(settings.namespace.clone()),
        fields: only(&mesh_config_name(&settings.revision)),
        ..Selection::default()
    };
    let of_gateways = Selection {
        labels: Some(deploy::MANAGED.to_owned()),
        ..Selection::default()
    };
    let class_defaults = Selection {
        namespace: Some(settings.namespace.clone()),
        labels: Some(deploy::CLASS_DEFAULTS.to_owned()),
        ..Selection::default()
    };
    let default_validator = Selection {
        fields: only(revision::DEFAULT_VALIDATOR),
        ..Selection::default()
    };
    let tags = Selection {
        labels: Some(revision::TAG.to_owned()),
        ..Selection::default()
    };
    let configured = ConfigKind::defined().filter_map(|(kind, defined)| Some((kind, custom(defined)?)));
    let configured = configured.map(|(kind, watched)| (watched, is_for_safety(kind)));
    // Of nodes localities are read, and their addresses for the statuses of Ingresses; what has neither is reached like anything else.
    let model = kinds::MESH.into_iter().map(|kind| (kind, kind != kinds::NODES));
    // Routes that are not known lead nowhere; a backend's TLS that is not known would be plaintext.
    let converted = kinds::CONVERTED
        .into_iter()
        .map(|kind| (kind, kind.kind == "BackendTLSPolicy"));
    let of_workloads = kinds::OF_WORKLOADS
        .into_iter()
        .fold(Source::new(), |source, kind| source.optional(kind, of_gateways.clone()));
    model
        .chain(converted)
        .chain(configured)
        .fold(of_workloads, |source, (kind, needed)| {
            if needed {
                source.watch(kind)
            } else {
                source.optional(kind, Selection::default())
            }
        })
        .select(kinds::CONFIG_MAPS, configuration)
        .optional(kinds::CLASS_DEFAULTS, class_defaults)
        .optional(kinds::DEPLOYMENTS, of_gateways.clone())
        .optional(revision::DEFAULT_WEBHOOKS, default_validator)
        .optional(revision::TAG_WEBHOOKS, tags)
}

/// Whether a mesh would be more open without a kind than with it.
fn is_for_safety(kind: ConfigKind) -> bool {
    !matches!(
        kind,
        ConfigKind::VirtualService | ConfigKind::Gateway | ConfigKind::Telemetry | ConfigKind::ProxyConfig
    )
}

/// A kind that only L7 proxies are configured from, as it is watched.
fn custom(defined: &'static Defined) -> Option<kinds::Kind> {
    let is_of_model = ObjectKind::of(defined.group, defined.kind).is_some();
    let version = defined.versions.iter().find(|version| version.storage)?;
    (!is_of_model).then(|| kinds::Kind::custom(defined.group, version.name, defined.kind, defined.plural))
}
