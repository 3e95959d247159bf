//! A pod's volumes on disk: made before its sandbox, kept up to date while it lives, gone with it.
//!
//! Decides nothing about contents ([`payload`] does) and mounts nothing into containers (the sandbox does).

pub(crate) mod atomic;
pub(crate) mod host;
pub(crate) mod payload;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_apiserver::{Client, Object, resources};
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Volume};
use tokio::sync::Mutex;

use super::env::{Context, SourceKind};
use host::HostPaths;
use payload::{has_payload, payload, references, tokens};

/// What a service account token is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRequest {
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    /// Empty for the API server's own.
    pub(crate) audience: Option<String>,
    pub(crate) seconds: i64,
    pub(crate) pod_name: String,
    pub(crate) pod_uid: String,
}

/// A token and when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) expires: Timestamp,
}

/// Where tokens come from.
pub(crate) type Tokens = Arc<dyn Fn(TokenRequest) -> BoxFuture<'static, Result<Token, String>> + Send + Sync>;

/// The objects read for a pod: absent ones are not in it.
pub(crate) type Found = HashMap<(SourceKind, String), Object>;

/// A volume that could not be made, and why.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {why}")]
pub(crate) struct VolumeError {
    volume: String,
    why: String,
}

/// What is known of the pod's place when its volumes are made.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) node: String,
    pub(crate) host_ips: Vec<IpAddr>,
    pub(crate) pod_ips: Vec<IpAddr>,
}

/// The volumes of one pod.
pub(crate) struct Volumes {
    dir: PathBuf,
    client: Client,
    tokens: Tokens,
    host: HostPaths,
    /// One writer at a time: setting up and refreshing may meet.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: HashMap<(String, String), Held>,
    mounted: Vec<PathBuf>,
}

struct Held {
    token: String,
    renew_at: Timestamp,
}

/// A token is asked for again when this part of its life is over, or after a day.
const RENEW_AFTER_PERCENT: i64 = 80;
const RENEW_AT_LEAST: SignedDuration = SignedDuration::from_hours(24);
const TOKEN_SECONDS: i64 = 3600;

impl Volumes {
    /// Volumes below `dir`, which is made when it is needed.
    pub(crate) fn new(dir: PathBuf, client: Client, tokens: Tokens, host: HostPaths) -> Self {
        Self {
            dir,
            client,
            tokens,
            host,
            state: Mutex::default(),
        }
    }

    /// Where a volume of the pod is on disk.
    pub(crate) fn path(&self, volume: &Volume) -> PathBuf {
        match &volume.host_path {
            Some(host) => self.host.find(&host.path),
            None => self.dir.join(kind(volume)).join(&volume.name),
        }
    }

    /// Makes all volumes, or brings them up to date; returns when a token has to be renewed.
    pub(crate) async fn make(&self, pod: &Pod, place: &Place) -> Result<Option<Timestamp>, VolumeError> {
        let mut state = self.state.lock().await;
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let mut renew_at: Option<Timestamp> = None;
        for volume in volumes {
            let made = self.make_one(&mut state, pod, place, volume).await;
            let renew = made.map_err(|why| VolumeError {
                volume: volume.name.clone(),
                why,
            })?;
            renew_at = [renew_at, renew].into_iter().flatten().min();
        }
        Ok(renew_at)
    }

    async fn make_one(
        &self,
        state: &mut State,
        pod: &Pod,
        place: &Place,
        volume: &Volume,
    ) -> Result<Option<Timestamp>, String> {
        let path = self.path(volume);
        if let Some(host) = &volume.host_path {
            host::prepare(&path, host.type_.as_deref().unwrap_or_default())?;
            return Ok(None);
        }
        if let Some(empty) = &volume.empty_dir {
            make_empty(state, &path, empty.medium.as_deref() == Some("Memory"))?;
            return Ok(None);
        }
        if !has_payload(volume) {
            return Err(format!(
                "volumes of type {} are not served here; emptyDir, hostPath, configMap, secret, projected and downwardAPI are",
                kind(volume)
            ));
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let found = find(&self.client, namespace, references(volume)).await?;
        let now = Timestamp::now();
        let mut renew_at = None;
        for wanted in tokens(volume) {
            let key = (volume.name.clone(), wanted.path.clone());
            if state.held.get(&key).is_none_or(|held| held.renew_at <= now) {
                let seconds = wanted.expiration_seconds.unwrap_or(TOKEN_SECONDS);
                let token = (self.tokens)(request(pod, wanted.audience.clone(), seconds)).await?;
                let life = token.expires.duration_since(now);
                let renew = (life * i32::try_from(RENEW_AFTER_PERCENT).unwrap_or(80) / 100).min(RENEW_AT_LEAST);
                let held = Held {
                    token: token.token,
                    renew_at: now + renew.max(SignedDuration::from_secs(1)),
                };
                state.held.insert(key.clone(), held);
            }
            renew_at = renew_at
                .into_iter()
                .chain(state.held.get(&key).map(|held| held.renew_at))
                .min();
        }
        let context = Context {
            pod,
            node: &place.node,
            pod_ips: &place.pod_ips,
            host_ips: &place.host_ips,
            services: BTreeMap::new(),
        };
        let token = |path: &str| {
            state
                .held
                .get(&(volume.name.clone(), path.to_owned()))
                .map(|held| held.token.clone())
        };
        let files = payload(volume, &context, &found, &token).map_err(|error| error.to_string())?;
        atomic::write(&path, &files, now).map_err(|error| format!("writing {}: {error}", path.display()))?;
        Ok(renew_at)
    }

    /// Removes everything, file systems in memory first.
    pub(crate) async fn remove(&self) {
        let mut state = self.state.lock().await;
        for path in std::mem::take(&mut state.mounted) {
            if let Err(error) = corten_linux::mounts::detach(&path) {
                tracing::warn!(path = %path.display(), %error, "an emptyDir in memory was not unmounted");
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&self.dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.dir.display(), %error, "a pod's volumes were not removed");
        }
    }
}

fn make_empty(state: &mut State, path: &Path, memory: bool) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    if path.exists() {
        return Ok(());
    }
    let described = |error: std::io::Error| format!("making {}: {error}", path.display());
    std::fs::create_dir_all(path).map_err(described)?;
    if memory {
        corten_linux::mounts::tmpfs(path, 0o777).map_err(described)?;
        state.mounted.push(path.to_owned());
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).map_err(described)
}

fn request(pod: &Pod, audience: Option<String>, seconds: i64) -> TokenRequest {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    TokenRequest {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        service_account: account
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
        audience: audience.filter(|audience| !audience.is_empty()),
        seconds,
        pod_name: pod.metadata.name.clone().unwrap_or_default(),
        pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
    }
}

/// Reads ConfigMaps and Secrets; those that do not exist are left out.
pub(crate) async fn find(client: &Client, namespace: &str, wanted: Vec<(SourceKind, String)>) -> Result<Found, String> {
    let mut found = Found::new();
    for (kind, name) in wanted {
        let resource = match kind {
            SourceKind::ConfigMap => &resources::CONFIG_MAPS,
            SourceKind::Secret => &resources::SECRETS,
        };
        match client.get(resource, namespace, &name).await {
            Ok(object) => {
                found.insert((kind, name), object);
            }
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status.to_string()),
        }
    }
    Ok(found)
}

/// The ConfigMaps and Secrets that a pod's volumes and variables refer to.
pub(crate) fn all_references(pod: &Pod) -> Vec<(SourceKind, String)> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut all: Vec<_> = spec.volumes.iter().flatten().flat_map(references).collect();
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        all.extend(super::env::references(container));
    }
    all.sort();
    all.dedup();
    all
}

/// The volume's type, as its field is called.
fn kind(volume: &Volume) -> &'static str {
    let kinds = [
        (volume.empty_dir.is_some(), "emptyDir"),
        (volume.host_path.is_some(), "hostPath"),
        (volume.config_map.is_some(), "configMap"),
        (volume.secret.is_some(), "secret"),
        (volume.projected.is_some(), "projected"),
        (volume.downward_api.is_some(), "downwardAPI"),
        (volume.persistent_volume_claim.is_some(), "persistentVolumeClaim"),
        (volume.csi.is_some(), "csi"),
        (volume.nfs.is_some(), "nfs"),
        (volume.ephemeral.is_some(), "ephemeral"),
        (volume.image.is_some(), "image"),
    ];
    kinds.iter().find(|(is, _)| *is).map_or("unknown", |(_, name)| name)
}

/// Tokens of the API that `client` speaks to, bound to the pod that asks.
pub(crate) fn api_tokens(client: Client) -> Tokens {
    Arc::new(move |wanted| {
        let client = client.clone();
        Box::pin(async move {
            let (namespace, account) = (&wanted.namespace, &wanted.service_account);
            let request = serde_json::json!({
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {
                    "audiences": Vec::from_iter(&wanted.audience),
                    "expirationSeconds": wanted.seconds,
                    "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": wanted.pod_name, "uid": wanted.pod_uid },
                },
            });
            let failed = |why: String| format!("failed to fetch token: {why}");
            let answer = client.create_token(namespace, account, &request).await;
            let answer = answer.map_err(|status| failed(status.to_string()))?;
            let text = |field: &str| answer["status"][field].as_str().unwrap_or_default();
            let expires = text("expirationTimestamp").parse();
            Ok(Token {
                token: text("token").to_owned(),
                expires: expires.map_err(|error| failed(format!("its end is not a time: {error}")))?,
            })
        })
    })
}
