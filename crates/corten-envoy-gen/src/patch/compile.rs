//! Patches as they are written, made ready: their values are messages, and what cannot take effect is said.

use corten_api::{
    codec::Enumeration as _,
    diagnostic::Diagnostic,
    istio::envoy_filter::{
        EnvoyConfigObjectMatch, EnvoyConfigObjectPatch, EnvoyFilterApplyTo as ApplyTo,
        EnvoyFilterPatchOperation as Operation, EnvoyFilterSpec, FilterClass,
    },
};
use corten_envoy::{Patch as Value, unknown_types};
use corten_model::Name;
use corten_routing::{About, Config, Proxy};
use regex::Regex;
use serde_json::Value as Json;

/// The longest expression that versions of proxies are compared with.
const LONGEST_VERSION: usize = 1024;

/// A patch.
#[derive(Debug, Clone)]
pub(super) struct Patch {
    pub(super) namespace: Name,
    pub(super) name: Name,
    /// `spec.configPatches[INDEX]`.
    pub(super) path: String,
    pub(super) to: ApplyTo,
    pub(super) operation: Operation,
    pub(super) wanted: Option<EnvoyConfigObjectMatch>,
    pub(super) value: Option<Value>,
    version: Version,
}

/// The versions of proxies that a patch is for.
#[derive(Debug, Clone)]
enum Version {
    All,
    Like(Regex),
    None,
}

impl Patch {
    /// Whether it is for a proxy, as far as the proxy itself is asked for.
    pub(super) fn is_for(&self, proxy: &Proxy) -> bool {
        let version = match &self.version {
            Version::All => true,
            Version::Like(wanted) => !proxy.version.is_empty() && wanted.is_match(&proxy.version),
            Version::None => false,
        };
        let wanted = self.wanted.as_ref().and_then(|wanted| wanted.proxy.as_ref());
        let mut metadata = wanted.into_iter().flat_map(|wanted| &wanted.metadata);
        version && metadata.all(|(key, value)| proxy.said.get(key) == Some(value))
    }
}

/// The patches of a filter, and what of it takes no effect.
pub(super) fn compile(config: &Config<EnvoyFilterSpec>) -> (Vec<Patch>, Vec<Diagnostic>) {
    let about = About {
        api_version: "networking.istio.io/v1alpha3",
        ..About::networking("EnvoyFilter", &config.namespace, &config.name)
    };
    let (mut patches, mut said) = (Vec::new(), Vec::new());
    for (index, target) in config.spec.target_refs.iter().enumerate() {
        if !target.namespace.is_empty() && *target.namespace != *config.namespace {
            let message = format!(
                "takes no effect: targets are in the namespace of the EnvoyFilter, {}",
                config.namespace
            );
            said.push(about.no_effect(format!("spec.targetRefs[{index}].namespace"), message));
        }
    }
    for (index, written) in config.spec.config_patches.iter().enumerate() {
        let path = format!("spec.configPatches[{index}]");
        patches.extend(one(config, &about, path, written, &mut said));
    }
    (patches, said)
}

fn one(
    config: &Config<EnvoyFilterSpec>,
    about: &About<'_>,
    path: String,
    written: &EnvoyConfigObjectPatch,
    said: &mut Vec<Diagnostic>,
) -> Option<Patch> {
    // What is not written at all is validation's to say.
    let patch = written.patch.as_ref()?;
    let to = written.apply_to;
    if to == ApplyTo::Invalid || patch.operation == Operation::Invalid {
        return None;
    }
    let mut no_effect = |field: &str, message: String| said.push(about.no_effect(format!("{path}.{field}"), message));
    let operation = effective(to, patch.operation);
    if to == ApplyTo::Bootstrap {
        no_effect(
            "applyTo",
            "takes no effect: an Envoy's bootstrap is written beside it, before the control plane knows it".to_owned(),
        );
        return None;
    }
    if !takes(to, operation) {
        let message = format!(
            "takes no effect: {} is not among the operations on {}",
            patch.operation.name(),
            to.name()
        );
        no_effect("patch.operation", message);
        return None;
    }
    if patch.filter_class != FilterClass::Unspecified {
        no_effect(
            "patch.filterClass",
            "takes no effect: the place of a filter is where the operation puts it".to_owned(),
        );
    }
    unused_matches(written.match_.as_ref(), &mut no_effect);
    let value = match &patch.value {
        Some(_) if operation == Operation::Remove => {
            no_effect("patch.value", "takes no effect: what is removed needs none".to_owned());
            None
        }
        None => None,
        Some(value) => {
            let json = Json::Object(value.0.clone());
            for url in unknown_types(&json) {
                let message = format!("is left out: {url} is not a type of Envoy's messages");
                no_effect("patch.value", message);
            }
            match Value::of(type_of(to), &json) {
                Ok((value, unknown)) => {
                    if let Some(unknown) = unknown {
                        no_effect(
                            "patch.value",
                            format!("takes effect without what is unknown: {unknown}"),
                        );
                    }
                    Some((value, json))
                }
                Err(error) => {
                    if unknown_types(&json).is_empty() {
                        no_effect("patch.value", format!("is left out: {error}"));
                    }
                    return None;
                }
            }
        }
    };
    let whole = !matches!(
        operation,
        Operation::Merge | Operation::MergeAndReplaceList | Operation::Remove
    );
    if whole && let Some(field) = missing(to, value.as_ref().map(|(_, json)| json)) {
        no_effect(
            &format!("patch.value.{field}"),
            "is missing: Envoy refuses what has none; the patch is left out".to_owned(),
        );
        return None;
    }
    let version = version(written.match_.as_ref(), &mut no_effect);
    Some(Patch {
        namespace: Name::clone(&config.namespace),
        name: Name::clone(&config.name),
        path,
        to,
        operation,
        wanted: written.match_.clone(),
        value: value.map(|(value, _)| value),
        version,
    })
}

/// What an operation is where something is patched that has no place among others.
fn effective(to: ApplyTo, operation: Operation) -> Operation {
    let has_place = matches!(
        to,
        ApplyTo::HttpFilter | ApplyTo::NetworkFilter | ApplyTo::HttpRoute | ApplyTo::ListenerFilter
    );
    match operation {
        Operation::InsertAfter | Operation::InsertBefore | Operation::InsertFirst if !has_place => Operation::Add,
        other => other,
    }
}

fn takes(to: ApplyTo, operation: Operation) -> bool {
    let merges = matches!(operation, Operation::Merge | Operation::MergeAndReplaceList);
    match to {
        ApplyTo::RouteConfiguration => merges,
        ApplyTo::ExtensionConfig => operation == Operation::Add,
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::Cluster | ApplyTo::HttpRoute => {
            operation != Operation::Replace
        }
        _ => true,
    }
}

/// The type of a patch's value.
fn type_of(to: ApplyTo) -> &'static str {
    match to {
        ApplyTo::Listener => "envoy.config.listener.v3.Listener",
        ApplyTo::FilterChain => "envoy.config.listener.v3.FilterChain",
        ApplyTo::NetworkFilter => "envoy.config.listener.v3.Filter",
        ApplyTo::ListenerFilter => "envoy.config.listener.v3.ListenerFilter",
        ApplyTo::HttpFilter => "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        ApplyTo::RouteConfiguration => "envoy.config.route.v3.RouteConfiguration",
        ApplyTo::VirtualHost => "envoy.config.route.v3.VirtualHost",
        ApplyTo::HttpRoute => "envoy.config.route.v3.Route",
        ApplyTo::Cluster => "envoy.config.cluster.v3.Cluster",
        ApplyTo::ExtensionConfig => "envoy.config.core.v3.TypedExtensionConfig",
        ApplyTo::Bootstrap | ApplyTo::Invalid => "envoy.config.bootstrap.v3.Bootstrap",
    }
}

/// The first field that something new must have and has not.
fn missing(to: ApplyTo, value: Option<&Json>) -> Option<&'static str> {
    let required: &[&'static str] = match to {
        ApplyTo::VirtualHost => &["name", "domains"],
        ApplyTo::HttpRoute => &["match"],
        ApplyTo::FilterChain => &["filters"],
        _ => &["name"],
    };
    let is_there = |field: &str| {
        let value = value.and_then(|value| value.get(field));
        value.is_some_and(|value| !value.is_null() && value != "")
    };
    required.iter().find(|field| !is_there(field)).copied()
}

fn version(wanted: Option<&EnvoyConfigObjectMatch>, no_effect: &mut dyn FnMut(&str, String)) -> Version {
    let wanted = wanted.and_then(|wanted| wanted.proxy.as_ref());
    let Some(text) = wanted
        .map(|wanted| wanted.proxy_version.as_str())
        .filter(|text| !text.is_empty())
    else {
        return Version::All;
    };
    let problem = if text.len() > LONGEST_VERSION {
        format!("is longer than {LONGEST_VERSION} characters")
    } else {
        match Regex::new(text) {
            Ok(wanted) => return Version::Like(wanted),
            Err(error) => error.to_string(),
        }
    };
    let message = format!("cannot be compared, so that the patch is for no proxy: {problem}");
    no_effect("match.proxy.proxyVersion", message);
    Version::None
}

/// Conditions that nothing is known to fulfil or to fail.
fn unused_matches(wanted: Option<&EnvoyConfigObjectMatch>, no_effect: &mut dyn FnMut(&str, String)) {
    use corten_api::istio::envoy_filter::EnvoyConfigObjectMatchObjectTypes::Listener;
    let Some(Listener(listener)) = wanted.and_then(|wanted| wanted.object_types.as_ref()) else {
        return;
    };
    let why = "takes no effect: listeners have no such thing to compare it with";
    if !listener.port_name.is_empty() {
        no_effect("match.listener.portName", why.to_owned());
    }
    let chain = listener.filter_chain.as_ref();
    if chain.is_some_and(|chain| !chain.transport_socket.is_empty()) {
        no_effect("match.listener.filterChain.transportSocket", why.to_owned());
    }
}
