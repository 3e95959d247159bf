//! A container's environment and command line: values, references, expansion of `$(NAME)`.
//!
//! Pure: ConfigMaps, Secrets and services were read before and come as arguments.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};
use serde_json::Value;

use super::downward;

/// Where the values of ConfigMaps and Secrets come from: `(kind, name)` in the pod's namespace.
pub(crate) trait Sources {
    /// The object, unless there is none.
    fn get(&self, kind: SourceKind, name: &str) -> Option<&Value>;
}

/// The kinds that a pod may take values from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SourceKind {
    ConfigMap,
    Secret,
}

impl SourceKind {
    fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

impl Sources for HashMap<(SourceKind, String), Arc<Value>> {
    fn get(&self, kind: SourceKind, name: &str) -> Option<&Value> {
        HashMap::get(self, &(kind, name.to_owned())).map(AsRef::as_ref)
    }
}

/// Why a container's environment cannot be made; the message is the real kubelet's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum EnvError {
    #[error("{} \"{name}\" not found", .kind.word())]
    NoSource { kind: SourceKind, name: String },
    #[error("couldn't find key {key} in {} {namespace}/{name}", match kind { SourceKind::ConfigMap => "ConfigMap", SourceKind::Secret => "Secret" })]
    NoKey {
        kind: SourceKind,
        namespace: String,
        name: String,
        key: String,
    },
    #[error("{0}")]
    Field(#[from] downward::FieldError),
}

/// What surrounds the container.
pub(crate) struct Context<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) node: &'a str,
    pub(crate) pod_ips: &'a [IpAddr],
    pub(crate) host_ips: &'a [IpAddr],
    /// Variables of services, the weakest of all.
    pub(crate) services: BTreeMap<String, String>,
}

/// The environment of a container, in the order of its spec, services first.
pub(crate) fn environment(
    container: &Container,
    context: &Context<'_>,
    sources: &dyn Sources,
) -> Result<Vec<(String, String)>, EnvError> {
    let mut env = Environment::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(of), _) => (SourceKind::ConfigMap, &of.name, of.optional),
            (None, Some(of)) => (SourceKind::Secret, &of.name, of.optional),
            (None, None) => continue,
        };
        match sources.get(kind, name) {
            Some(object) => {
                for (key, value) in data(kind, object) {
                    env.set(format!("{prefix}{key}"), String::from_utf8_lossy(&value).into_owned());
                }
            }
            None if optional == Some(true) => {}
            None => {
                return Err(EnvError::NoSource {
                    kind,
                    name: name.clone(),
                });
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value_from, &variable.value) {
            (Some(source), _) => match referenced(source, container, context, sources)? {
                Some(value) => value,
                None => continue,
            },
            (None, Some(value)) => expand(value, |name| {
                env.get(name).or_else(|| context.services.get(name).map(String::as_str))
            }),
            (None, None) => String::new(),
        };
        env.set(variable.name.clone(), value);
    }
    let services = context.services.iter().filter(|(name, _)| env.get(name).is_none());
    let mut all: Vec<(String, String)> = services.map(|(name, value)| (name.clone(), value.clone())).collect();
    all.extend(env.variables);
    Ok(all)
}

/// Variables in order; a later one of the same name replaces the value of the earlier.
#[derive(Default)]
struct Environment {
    variables: Vec<(String, String)>,
    index: HashMap<String, usize>,
}

impl Environment {
    fn set(&mut self, name: String, value: String) {
        match self.index.get(&name) {
            Some(i) => self.variables[*i].1 = value,
            None => {
                self.index.insert(name.clone(), self.variables.len());
                self.variables.push((name, value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|i| self.variables[*i].1.as_str())
    }
}

fn referenced(
    source: &EnvVarSource,
    container: &Container,
    context: &Context<'_>,
    sources: &dyn Sources,
) -> Result<Option<String>, EnvError> {
    if let Some(field) = &source.field_ref {
        return Ok(Some(downward::field(context, &field.field_path)?));
    }
    if let Some(resource) = &source.resource_field_ref {
        let of = match resource.container_name.as_deref() {
            Some(name) => super::status::spec_of(context.pod, name).unwrap_or(container),
            None => container,
        };
        let divisor = resource.divisor.as_ref().map(|divisor| divisor.0.as_str());
        return Ok(Some(downward::resource(of, &resource.resource, divisor)?));
    }
    let (kind, name, key, optional) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(of), _) => (SourceKind::ConfigMap, &of.name, &of.key, of.optional),
        (None, Some(of)) => (SourceKind::Secret, &of.name, &of.key, of.optional),
        (None, None) => return Ok(Some(String::new())),
    };
    let optional = optional == Some(true);
    let Some(object) = sources.get(kind, name) else {
        if optional {
            return Ok(None);
        }
        return Err(EnvError::NoSource {
            kind,
            name: name.clone(),
        });
    };
    match data(kind, object).remove(key.as_str()) {
        Some(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
        None if optional => Ok(None),
        None => Err(EnvError::NoKey {
            kind,
            namespace: context.pod.metadata.namespace.clone().unwrap_or_default(),
            name: name.clone(),
            key: key.clone(),
        }),
    }
}

/// The entries of a ConfigMap or Secret as bytes. What is not valid base64 was refused by the API and is left out.
pub(crate) fn data(kind: SourceKind, object: &Value) -> BTreeMap<&str, Vec<u8>> {
    use base64::Engine as _;
    let strings = |field: &str| object[field].as_object().into_iter().flatten();
    let decoded = |field: &'static str| {
        strings(field).filter_map(|(key, value)| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str()?).ok()?;
            Some((key.as_str(), bytes))
        })
    };
    match kind {
        SourceKind::ConfigMap => strings("data")
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?.as_bytes().to_vec())))
            .chain(decoded("binaryData"))
            .collect(),
        SourceKind::Secret => decoded("data").collect(),
    }
}

/// Replaces `$(NAME)` by its value where there is one; `$$` is a plain `$`, all else stays as it is.
pub(crate) fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The words of `command` and `args` with the environment's values in them.
pub(crate) fn expand_words(words: &[String], env: &[(String, String)]) -> Vec<String> {
    let lookup = |name: &str| {
        env.iter()
            .rev()
            .find(|(of, _)| of == name)
            .map(|(_, value)| value.as_str())
    };
    words.iter().map(|word| expand(word, lookup)).collect()
}

/// The variables by which a container finds services that existed when it started.
///
/// `services` are those of the pod's namespace, and always `default/kubernetes`.
pub(crate) fn service_variables<'a>(services: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for service in services {
        let ip = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        let ports = service["spec"]["ports"].as_array().map_or(&[][..], Vec::as_slice);
        let (Some(name), Some(first)) = (service["metadata"]["name"].as_str(), ports.first()) else {
            continue;
        };
        if ip.is_empty() || ip == "None" {
            continue;
        }
        let prefix = name.replace('-', "_").to_uppercase();
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.to_owned()
        };
        let number = |port: &Value| port["port"].as_u64().unwrap_or_default();
        let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
        let url = |port: &Value| format!("{}://{host}:{}", protocol(port).to_lowercase(), number(port));
        variables.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
        variables.insert(format!("{prefix}_SERVICE_PORT"), number(first).to_string());
        variables.insert(format!("{prefix}_PORT"), url(first));
        for port in ports {
            if let Some(name) = port["name"].as_str().filter(|name| !name.is_empty()) {
                let name = name.replace('-', "_").to_uppercase();
                variables.insert(format!("{prefix}_SERVICE_PORT_{name}"), number(port).to_string());
            }
            let own = format!("{prefix}_PORT_{}_{}", number(port), protocol(port));
            variables.insert(own.clone(), url(port));
            variables.insert(format!("{own}_PROTO"), protocol(port).to_lowercase());
            variables.insert(format!("{own}_PORT"), number(port).to_string());
            variables.insert(format!("{own}_ADDR"), ip.to_owned());
        }
    }
    variables
}

/// The ConfigMaps and Secrets that a container's environment refers to.
pub(crate) fn references(container: &Container) -> Vec<(SourceKind, String)> {
    let mut all = Vec::new();
    for from in container.env_from.iter().flatten() {
        all.extend(
            from.config_map_ref
                .iter()
                .map(|of| (SourceKind::ConfigMap, of.name.clone())),
        );
        all.extend(from.secret_ref.iter().map(|of| (SourceKind::Secret, of.name.clone())));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        all.extend(
            source
                .config_map_key_ref
                .iter()
                .map(|of| (SourceKind::ConfigMap, of.name.clone())),
        );
        all.extend(
            source
                .secret_key_ref
                .iter()
                .map(|of| (SourceKind::Secret, of.name.clone())),
        );
    }
    all
}
