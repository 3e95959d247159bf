//! Keeps the authority's keys: reads them, changes them when it is time, and publishes what everybody is to know.
//!
//! A self-made root lives in a Secret that all replicas share: each step of a change is written there first, over the
//! version that was read, and only then acted upon, so that replicas never disagree about what to sign with.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use corten_rt::Drain;
use rustls_pki_types::CertificateDer;

use crate::authority::{Authority, Policy, Published};
use crate::material::MaterialError;
use crate::metrics::Metrics;
use crate::plugged::{self, Files, PluggedError};
use crate::revocation;
use crate::root;
use crate::rotation::{Offered, Overlap, Rotation};
use crate::secret::{SecretError, SelfMade};

/// How often the Secret, or the files, are looked at.
const LOOK_SECRET: Duration = Duration::from_secs(5);
const LOOK_FILES: Duration = Duration::from_secs(1);
/// How often another replica may get in between a reading and a writing at the start.
const START_ATTEMPTS: u32 = 10;

/// A Secret as it was read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretEntries {
    /// The entries.
    pub data: BTreeMap<String, Vec<u8>>,
    /// Its version; empty: there was none.
    pub version: String,
}

impl std::fmt::Debug for SecretEntries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.data.keys().collect();
        f.debug_struct("SecretEntries")
            .field("data", &names)
            .field("version", &self.version)
            .finish()
    }
}

/// The Secret cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretAccessError {
    /// Another wrote it since it was read.
    #[error("another replica wrote it at the same time")]
    Conflict,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<SecretEntries, SecretAccessError>> + Send + 'a>>;

/// The way to the Secret of the self-made root ([`SECRET_NAME`](crate::SECRET_NAME)).
pub trait SecretAccess: Send + Sync + 'static {
    /// Reads it; empty when there is none.
    fn read(&self) -> Answer<'_>;
    /// Writes it over the version that was read, or makes it. Returns it with its new version.
    fn write(&self, entries: SecretEntries) -> Answer<'_>;
}

/// Where the keys are.
#[derive(Clone)]
pub enum KeySource {
    /// Made by ourselves, kept in a Secret.
    SelfMade(Arc<dyn SecretAccess>),
    /// Mounted by an operator.
    Plugged(PathBuf),
}

impl KeySource {
    /// Mounted keys where there are any, and otherwise a self-made root. Istio's order.
    pub fn choose(dir: PathBuf, secret: Arc<dyn SecretAccess>) -> Result<KeySource, PluggedError> {
        Ok(match plugged::read(&dir)? {
            Some(_) => KeySource::Plugged(dir),
            None => KeySource::SelfMade(secret),
        })
    }
}

/// What the keeper is told.
#[derive(Debug, Clone)]
pub struct KeeperSettings {
    /// The trust domain, which names a self-made root.
    pub trust_domain: String,
    /// What is signed.
    pub policy: Policy,
    /// How long old and new roots overlap; `None`: as long as certificates live.
    pub overlap: Option<Overlap>,
    /// Validity of a self-made root; `None`: ten years.
    pub root_lifetime: Option<Duration>,
    /// The roots that were published before we started.
    pub published: Vec<CertificateDer<'static>>,
}

/// There are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The mounted ones cannot be used.
    #[error(transparent)]
    Plugged(#[from] PluggedError),
    /// They vanished since they were chosen.
    #[error("there are no signing keys in {0}")]
    NoFiles(PathBuf),
    /// The Secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The Secret cannot be read or written.
    #[error("the Secret of the root cannot be kept: {0}")]
    Access(#[from] SecretAccessError),
    /// No root can be made.
    #[error("cannot make a root: {0}")]
    Make(#[from] MaterialError),
    /// No list can be made.
    #[error("cannot sign a revocation list: {0}")]
    Revocation(rcgen::Error),
}

/// Keeps the keys.
pub struct Keeper {
    source: KeySource,
    settings: KeeperSettings,
    authority: Arc<Authority>,
    metrics: Arc<Metrics>,
    state: State,
}

enum State {
    SelfMade { entries: SecretEntries, made: SelfMade },
    Plugged { files: Files, rotation: Rotation },
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    /// Reads the keys, or makes them.
    pub async fn start(
        source: KeySource,
        settings: KeeperSettings,
        metrics: Arc<Metrics>,
        now: SystemTime,
    ) -> Result<Keeper, KeeperError> {
        let mut state = match &source {
            KeySource::SelfMade(secret) => start_self_made(&**secret, &settings, now).await?,
            KeySource::Plugged(dir) => {
                let files = plugged::read(dir)?.ok_or_else(|| KeeperError::NoFiles(dir.clone()))?;
                let rotation = Rotation::new(Arc::new(files.material(now)?), settings.overlap());
                State::Plugged { files, rotation }
            }
        };
        // What is left of a change that began before we started is trusted a while longer.
        state.rotation_mut().keep_published(settings.published.clone(), now);
        let authority = Authority::new(state.published(now)?, settings.policy);
        Ok(Keeper {
            source,
            settings,
            authority: Arc::new(authority),
            metrics,
            state,
        })
    }

    /// The authority that signs with the keys.
    pub fn authority(&self) -> Arc<Authority> {
        self.authority.clone()
    }

    /// Looks after the keys until told to stop.
    pub async fn run(mut self, mut drain: Drain) {
        loop {
            let now = SystemTime::now();
            let look = match self.source {
                KeySource::SelfMade(_) => LOOK_SECRET,
                KeySource::Plugged(_) => LOOK_FILES,
            };
            let due = self
                .state
                .rotation()
                .wake_at()
                .map(|at| at.duration_since(now).unwrap_or_default());
            tokio::select! {
                () = drain.wait() => return,
                () = tokio::time::sleep(due.unwrap_or(look).clamp(Duration::from_millis(100), look)) => {}
            }
            if let Err(error) = self.step(SystemTime::now()).await {
                tracing::warn!(%error, "the authority goes on with the keys it has");
            }
        }
    }

    /// Looks at the source, does what is due, and publishes what changed.
    pub async fn step(&mut self, now: SystemTime) -> Result<(), KeeperError> {
        let before = self.state.rotation().signer().clone();
        let lifetime = self.authority.longest_validity();
        let overlap = self.settings.overlap.unwrap_or_else(|| Overlap::of_lifetime(lifetime));
        match &mut self.state {
            State::SelfMade { entries, made } => {
                let KeySource::SelfMade(secret) = &self.source else {
                    return Ok(());
                };
                let found = secret.read().await?;
                let mut changed = found.version != entries.version;
                if changed {
                    match SelfMade::decode(&found.data, overlap, now)? {
                        Some(read) => *made = read,
                        None => tracing::warn!("the Secret of the root is gone; writing it again"),
                    }
                }
                made.overlap = overlap;
                let mut next = made.clone();
                let lifetime = self.settings.root_lifetime();
                if next.step(&self.settings.trust_domain, lifetime, now)? || found.version.is_empty() {
                    let mut wanted = found;
                    next.encode(&mut wanted.data);
                    // Written before it is acted upon; on a conflict the other's version is read the next time.
                    *entries = secret.write(wanted).await?;
                    *made = next;
                    changed = true;
                } else {
                    *entries = found;
                }
                if !changed {
                    return Ok(());
                }
            }
            State::Plugged { files, rotation } => {
                let KeySource::Plugged(dir) = &self.source else {
                    return Ok(());
                };
                let found = plugged::read(dir)?.ok_or_else(|| KeeperError::NoFiles(dir.clone()))?;
                let ticked = rotation.tick(now);
                if found == *files && !ticked {
                    return Ok(());
                }
                if found != *files {
                    let material = found.material(now)?;
                    *files = found;
                    rotation.set_overlap(overlap);
                    match rotation.offer(Arc::new(material), now) {
                        Offered::Same => {}
                        Offered::Switched => tracing::info!("signing with the keys that were plugged in"),
                        Offered::Announced(at) => tracing::info!(
                            seconds = at.duration_since(now).unwrap_or_default().as_secs(),
                            "the root of the keys that were plugged in is new: it is trusted first, and signed with later"
                        ),
                    }
                }
            }
        }
        if !self.state.rotation().signer().same_as(&before) {
            self.metrics.citadel_server_root_rotation_count();
            tracing::info!("the signing key changed");
        }
        self.authority.publish(self.state.published(now)?);
        Ok(())
    }
}

async fn start_self_made(
    secret: &dyn SecretAccess,
    settings: &KeeperSettings,
    now: SystemTime,
) -> Result<State, KeeperError> {
    let mut attempts = 0;
    loop {
        let mut entries = secret.read().await?;
        if let Some(made) = SelfMade::decode(&entries.data, settings.overlap(), now)? {
            return Ok(State::SelfMade { entries, made });
        }
        let lifetime = settings.root_lifetime();
        let made = SelfMade::generate(&settings.trust_domain, lifetime, settings.overlap(), now)?;
        made.encode(&mut entries.data);
        match secret.write(entries).await {
            Ok(entries) => {
                tracing::info!("made a root and put it into the Secret");
                return Ok(State::SelfMade { entries, made });
            }
            // Another replica was quicker; its root is the one.
            Err(SecretAccessError::Conflict) if attempts < START_ATTEMPTS => attempts += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

impl KeeperSettings {
    fn overlap(&self) -> Overlap {
        self.overlap
            .unwrap_or_else(|| Overlap::of_lifetime(self.policy.default_ttl))
    }

    fn root_lifetime(&self) -> Duration {
        self.root_lifetime.unwrap_or(root::ROOT_LIFETIME)
    }
}

impl State {
    fn rotation(&self) -> &Rotation {
        match self {
            State::SelfMade { made, .. } => &made.rotation,
            State::Plugged { rotation, .. } => rotation,
        }
    }

    fn rotation_mut(&mut self) -> &mut Rotation {
        match self {
            State::SelfMade { made, .. } => &mut made.rotation,
            State::Plugged { rotation, .. } => rotation,
        }
    }

    fn published(&self, now: SystemTime) -> Result<Published, KeeperError> {
        let rotation = self.rotation();
        let revocation = match self {
            State::SelfMade { made, .. } if made.revoked.is_empty() => None,
            State::SelfMade { made, .. } => {
                // By each key there is: a number is revoked whichever of them signed it.
                let lists = rotation
                    .materials()
                    .map(|material| revocation::list(material, &made.revoked, now));
                Some(lists.collect::<Result<String, _>>().map_err(KeeperError::Revocation)?)
            }
            State::Plugged { files, .. } => files
                .revocation
                .as_ref()
                .map(|lists| String::from_utf8_lossy(lists).into_owned()),
        };
        Ok(Published::new(rotation.signer().clone(), rotation.bundle(), revocation))
    }
}
