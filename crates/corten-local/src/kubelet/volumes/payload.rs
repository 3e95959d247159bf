//! The files of a configMap, secret, downwardAPI or projected volume: names, contents and modes.
//!
//! Pure: the objects were read and the tokens requested before; writing the files is [`super::atomic`]'s.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, ServiceAccountTokenProjection, Volume};

use crate::kubelet::downward;
use crate::kubelet::env::{Context, SourceKind, Sources, data};

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
}

/// The files of a volume by their path in it.
pub(crate) type Payload = BTreeMap<String, File>;

/// Why a volume cannot be filled; worded as the real kubelet words it in its `FailedMount` Event.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PayloadError {
    #[error("{kind} \"{name}\" not found")]
    NoSource { kind: &'static str, name: String },
    #[error("configmap references non-existent config key: {0}")]
    NoConfigKey(String),
    #[error("references non-existent secret key: {0}")]
    NoSecretKey(String),
    #[error("{0}")]
    Field(#[from] downward::FieldError),
    #[error("{0}")]
    Token(String),
    #[error("{0} is not served here")]
    Unsupported(&'static str),
}

const DEFAULT_MODE: i32 = 0o644;

/// Whether [`payload`] makes this volume's files.
pub(crate) fn has_payload(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// The service account tokens that a volume wants.
pub(crate) fn tokens(volume: &Volume) -> impl Iterator<Item = &ServiceAccountTokenProjection> {
    let sources = volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten());
    sources.filter_map(|source| source.service_account_token.as_ref())
}

/// The ConfigMaps and Secrets that a volume takes its files from.
pub(crate) fn references(volume: &Volume) -> Vec<(SourceKind, String)> {
    let mut of = Vec::new();
    if let Some(source) = &volume.config_map {
        of.push((SourceKind::ConfigMap, source.name.clone()));
    }
    if let Some(source) = &volume.secret {
        of.push((SourceKind::Secret, source.secret_name.clone().unwrap_or_default()));
    }
    for source in volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten())
    {
        if let Some(source) = &source.config_map {
            of.push((SourceKind::ConfigMap, source.name.clone()));
        }
        if let Some(source) = &source.secret {
            of.push((SourceKind::Secret, source.name.clone()));
        }
    }
    of
}

/// The files of a volume. `token` gives the token of a projection by its path.
pub(crate) fn payload(
    volume: &Volume,
    context: &Context<'_>,
    sources: &dyn Sources,
    token: &dyn Fn(&str) -> Option<String>,
) -> Result<Payload, PayloadError> {
    let mut files = Payload::new();
    if let Some(of) = &volume.config_map {
        let mode = of.default_mode.unwrap_or(DEFAULT_MODE);
        objects(
            &mut files,
            sources,
            (SourceKind::ConfigMap, &of.name),
            of.items.as_deref(),
            mode,
            of.optional,
        )?;
    } else if let Some(of) = &volume.secret {
        let mode = of.default_mode.unwrap_or(DEFAULT_MODE);
        let name = of.secret_name.as_deref().unwrap_or_default();
        objects(
            &mut files,
            sources,
            (SourceKind::Secret, name),
            of.items.as_deref(),
            mode,
            of.optional,
        )?;
    } else if let Some(of) = &volume.downward_api {
        fields(
            &mut files,
            context,
            of.items.as_deref(),
            of.default_mode.unwrap_or(DEFAULT_MODE),
        )?;
    } else if let Some(of) = &volume.projected {
        let mode = of.default_mode.unwrap_or(DEFAULT_MODE);
        for source in of.sources.iter().flatten() {
            if let Some(of) = &source.config_map {
                objects(
                    &mut files,
                    sources,
                    (SourceKind::ConfigMap, &of.name),
                    of.items.as_deref(),
                    mode,
                    of.optional,
                )?;
            } else if let Some(of) = &source.secret {
                objects(
                    &mut files,
                    sources,
                    (SourceKind::Secret, &of.name),
                    of.items.as_deref(),
                    mode,
                    of.optional,
                )?;
            } else if let Some(of) = &source.downward_api {
                fields(&mut files, context, of.items.as_deref(), mode)?;
            } else if let Some(of) = &source.service_account_token {
                let missing = || PayloadError::Token(format!("no token for {}", of.path));
                let data = token(&of.path).ok_or_else(missing)?.into_bytes();
                put(&mut files, &of.path, data, mode);
            } else if source.cluster_trust_bundle.is_some() {
                return Err(PayloadError::Unsupported("a projected clusterTrustBundle"));
            }
        }
    }
    Ok(files)
}

fn put(files: &mut Payload, path: &str, data: Vec<u8>, mode: i32) {
    let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
    files.insert(path.to_owned(), File { data, mode });
}

/// The entries of one ConfigMap or Secret: all, or those of `items`.
fn objects(
    files: &mut Payload,
    sources: &dyn Sources,
    (kind, name): (SourceKind, &str),
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: Option<bool>,
) -> Result<(), PayloadError> {
    let optional = optional == Some(true);
    let Some(object) = sources.get(kind, name) else {
        if optional {
            return Ok(());
        }
        let kind = match kind {
            SourceKind::ConfigMap => "configmap",
            SourceKind::Secret => "secret",
        };
        return Err(PayloadError::NoSource {
            kind,
            name: name.to_owned(),
        });
    };
    let mut entries = data(kind, object);
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, value) in entries {
            put(files, key, value, mode);
        }
        return Ok(());
    };
    for item in items {
        match entries.remove(item.key.as_str()) {
            Some(value) => put(files, &item.path, value, item.mode.unwrap_or(mode)),
            None if optional => {}
            None => {
                return Err(match kind {
                    SourceKind::ConfigMap => PayloadError::NoConfigKey(item.key.clone()),
                    SourceKind::Secret => PayloadError::NoSecretKey(item.key.clone()),
                });
            }
        }
    }
    Ok(())
}

fn fields(
    files: &mut Payload,
    context: &Context<'_>,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: i32,
) -> Result<(), PayloadError> {
    for item in items.unwrap_or_default() {
        let value = if let Some(of) = &item.field_ref {
            downward::field(context, &of.field_path)?
        } else if let Some(of) = &item.resource_field_ref {
            let name = of.container_name.as_deref().unwrap_or_default();
            let Some(container) = crate::kubelet::status::spec_of(context.pod, name) else {
                continue;
            };
            downward::resource(container, &of.resource, of.divisor.as_ref().map(|of| of.0.as_str()))?
        } else {
            continue;
        };
        put(files, &item.path, value.into_bytes(), item.mode.unwrap_or(mode));
    }
    Ok(())
}
