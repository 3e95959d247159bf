//! The certificates of a node: kept fresh by a task of the control runtime, read by the data path without a lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use corten_core::Identity;
use corten_rt::Drain;
use rustls_pki_types::CertificateDer;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::ca_client::{Sign, SignError};
use crate::certificate::{Certificate, CertificateError};
use crate::files::Watched;
use crate::refusal::Refusal;
use crate::renewal::{Failure, Limits, Priority, Renewals};
use crate::request::{RequestError, SigningRequest};
use crate::revocation::RevocationList;
use crate::tls::{Bundle, TlsOptions};
use crate::trust::{Trust, TrustError};
use crate::view::CertificateView;

/// What [`Identities`] may be told.
#[derive(Debug)]
pub struct IdentitiesConfig {
    /// About TLS.
    pub tls: TlsOptions,
    /// When to ask.
    pub limits: Limits,
    /// A file of revocation lists (`CRL_PATH`), followed as it changes.
    pub revocation: Option<std::path::PathBuf>,
    /// The file of the authority's roots. When it changes, every certificate is asked for anew, so that a change of
    /// roots is known here after minutes instead of half a certificate's life.
    pub roots: Option<std::path::PathBuf>,
    /// How often files are looked at, and the longest sleep, so that a clock that was set is noticed.
    pub look_interval: Duration,
}

impl Default for IdentitiesConfig {
    fn default() -> Self {
        IdentitiesConfig {
            tls: TlsOptions::default(),
            limits: Limits::default(),
            revocation: None,
            roots: None,
            look_interval: Duration::from_secs(2),
        }
    }
}

/// How it stands with an identity.
#[derive(Debug, Clone)]
pub enum State {
    /// Not asked for by anybody.
    Unknown,
    /// Asked for; no answer yet.
    Initializing,
    /// There is a certificate. `failure`: why the last attempt to renew it failed.
    Available {
        /// The certificate.
        bundle: Arc<Bundle>,
        /// Why it could not be renewed so far.
        failure: Option<Arc<str>>,
    },
    /// There is none, and the last attempt failed.
    Unavailable(Arc<str>),
}

type Callback = Box<dyn Fn() + Send + Sync>;

/// All identities that a node holds.
///
/// [`current`](Self::current) may be called by any thread at any rate; [`run`](Self::run) is the one task that writes.
pub struct Identities {
    authority: Arc<dyn Sign>,
    config: IdentitiesConfig,
    published: ArcSwap<HashMap<Identity, State>>,
    renewals: Mutex<Renewals>,
    trusts: Mutex<Trusts>,
    work: Notify,
    callbacks: Mutex<Vec<Callback>>,
    revocation_file: Option<Watched>,
    roots_file: Option<Watched>,
}

/// The revocation lists in force, and the trust made of each set of roots, shared by the certificates that came with them.
#[derive(Default)]
struct Trusts {
    revocation: RevocationList,
    of_roots: HashMap<Vec<CertificateDer<'static>>, Arc<Trust>>,
}

/// A certificate could not be had.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Request(#[from] RequestError),
    #[error("{0}")]
    Sign(#[from] SignError),
    #[error("{0}")]
    Certificate(#[from] CertificateError),
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities").finish_non_exhaustive()
    }
}

impl Identities {
    /// Nothing is wanted and nothing happens before [`run`](Self::run).
    pub fn new(authority: Arc<dyn Sign>, config: IdentitiesConfig) -> Arc<Identities> {
        Arc::new(Identities {
            authority,
            published: ArcSwap::default(),
            renewals: Mutex::new(Renewals::new(config.limits.clone())),
            trusts: Mutex::default(),
            work: Notify::new(),
            callbacks: Mutex::default(),
            revocation_file: config.revocation.as_ref().map(Watched::new),
            roots_file: config.roots.as_ref().map(Watched::new),
            config,
        })
    }

    /// An identity is wanted; its certificate is fetched and kept fresh until it is forgotten. Any thread may call this.
    pub fn want(&self, identity: &Identity, priority: Priority) {
        let new = lock(&self.renewals).want(identity, priority, SystemTime::now());
        if new {
            self.publish(|states| {
                states.entry(identity.clone()).or_insert(State::Initializing);
            });
        }
        self.work.notify_one();
    }

    /// An identity is not wanted any more; its certificate is dropped.
    pub fn forget(&self, identity: &Identity) {
        lock(&self.renewals).forget(identity);
        self.publish(|states| {
            states.remove(identity);
        });
        self.drop_unused_trusts();
    }

    /// Takes a certificate from before the process began, if it is good still. It serves like any other; whoever
    /// [wants](Self::want) its identity has a fresh one asked for at once.
    pub fn restore(&self, certificate: Certificate) -> Result<(), CertificateError> {
        let bundle = Arc::new(self.load(certificate)?);
        let certificate = bundle.certificate();
        if SystemTime::now() >= certificate.not_after {
            return Ok(());
        }
        let identity = certificate.identity.clone();
        self.publish(|states| {
            let state = State::Available {
                bundle: bundle.clone(),
                failure: None,
            };
            states.insert(identity.clone(), state);
        });
        Ok(())
    }

    /// Drops certificates that were restored and that nobody wants.
    pub fn forget_unwanted(&self) {
        let renewals = lock(&self.renewals);
        self.publish(|states| states.retain(|identity, _| renewals.is_wanted(identity)));
        drop(renewals);
        self.drop_unused_trusts();
    }

    /// All certificates that there are and that have not expired.
    pub fn bundles(&self) -> Vec<Arc<Bundle>> {
        let published = self.published.load();
        published.keys().filter_map(|identity| self.current(identity)).collect()
    }

    /// The certificate of an identity, if there is one that has not expired. Lock-free.
    pub fn current(&self, identity: &Identity) -> Option<Arc<Bundle>> {
        match self.published.load().get(identity) {
            Some(State::Available { bundle, .. }) if SystemTime::now() < bundle.certificate().not_after => {
                Some(bundle.clone())
            }
            _ => None,
        }
    }

    /// How it stands with an identity. Lock-free.
    pub fn state(&self, identity: &Identity) -> State {
        match self.published.load().get(identity) {
            None => State::Unknown,
            Some(State::Available { bundle, failure }) if SystemTime::now() >= bundle.certificate().not_after => {
                let why = failure.as_deref().unwrap_or("no attempt to renew it was made");
                State::Unavailable(format!("the certificate expired and was not renewed: {why}").into())
            }
            Some(state) => state.clone(),
        }
    }

    /// Whether our trust still holds for a peer's chain that was accepted before: the answer changes with roots and
    /// revocation lists. `None`: the identity has no certificate.
    pub fn recheck(
        &self,
        identity: &Identity,
        chain: &[CertificateDer<'_>],
        usage: crate::Usage,
    ) -> Option<Result<(), Refusal>> {
        let bundle = self.current(identity)?;
        Some(bundle.trust().verify(chain, usage, SystemTime::now()))
    }

    /// `callback` is called after each change of any certificate or state, by the thread that made it; it must not block.
    pub fn on_change(&self, callback: impl Fn() + Send + Sync + 'static) {
        lock(&self.callbacks).push(Box::new(callback));
    }

    /// All identities with their certificates, by name.
    pub fn dump(&self) -> Vec<CertificateView> {
        let published = self.published.load();
        let mut views: Vec<CertificateView> = published
            .keys()
            .map(|identity| match self.state(identity) {
                State::Available { bundle, .. } => {
                    CertificateView::new(identity.to_string(), "Available".to_owned(), Some(bundle.certificate()))
                }
                State::Unavailable(why) => {
                    CertificateView::new(identity.to_string(), format!("Unavailable: {why}"), None)
                }
                State::Initializing | State::Unknown => {
                    CertificateView::new(identity.to_string(), "Initializing".to_owned(), None)
                }
            })
            .collect();
        views.sort_by(|a, b| a.identity.cmp(&b.identity));
        views
    }

    /// Fetches and renews until told to stop.
    pub async fn run(self: Arc<Self>, mut drain: Drain) {
        let mut under_way: JoinSet<(Identity, Result<Certificate, FetchError>)> = JoinSet::new();
        let mut looked = tokio::time::Instant::now();
        self.follow_revocation();
        let mut roots = self.read_roots();
        loop {
            self.start_due(&mut under_way);
            let sleep = self.until_due();
            tokio::select! {
                () = drain.wait() => return,
                () = self.work.notified() => {}
                () = tokio::time::sleep(sleep) => {}
                Some(ended) = under_way.join_next() => match ended {
                    Ok((identity, result)) => self.ended(&identity, result),
                    Err(error) => tracing::error!(%error, "a certificate request panicked"),
                },
            }
            if looked.elapsed() >= self.config.look_interval {
                looked = tokio::time::Instant::now();
                self.follow_revocation();
                if let Some(changed) = self.read_roots()
                    && let Some(before) = roots.replace(changed.clone())
                    && before != changed
                {
                    tracing::info!("the authority's roots changed; asking for all certificates anew");
                    lock(&self.renewals).renew_all(SystemTime::now());
                }
            }
        }
    }

    /// The roots' file, if it may be another than the last time.
    fn read_roots(&self) -> Option<Vec<u8>> {
        self.roots_file.as_ref()?.changed().ok()?
    }

    fn start_due(&self, under_way: &mut JoinSet<(Identity, Result<Certificate, FetchError>)>) {
        loop {
            let next = lock(&self.renewals).next(SystemTime::now());
            let Some(identity) = next else { return };
            under_way.spawn(fetch(self.authority.clone(), identity));
        }
    }

    fn until_due(&self) -> Duration {
        let due = lock(&self.renewals).wake_at();
        let until = |at: SystemTime| at.duration_since(SystemTime::now()).unwrap_or_default();
        let longest = self.config.look_interval;
        due.map_or(longest, until).min(longest)
    }

    fn ended(&self, identity: &Identity, result: Result<Certificate, FetchError>) {
        let loaded = result.and_then(|certificate| self.load(certificate).map_err(FetchError::from));
        let (now, random) = (SystemTime::now(), rand::random::<f64>());
        match loaded {
            Ok(bundle) => {
                let certificate = bundle.certificate();
                let (from, until) = (certificate.not_before, certificate.not_after);
                if !lock(&self.renewals).signed(identity, from, until, now, random) {
                    return;
                }
                tracing::debug!(%identity, serial = certificate.serial, "certificate received");
                let state = State::Available {
                    bundle: Arc::new(bundle),
                    failure: None,
                };
                self.publish(|states| {
                    states.insert(identity.clone(), state.clone());
                });
                self.drop_unused_trusts();
            }
            Err(error) => {
                let failure = match &error {
                    FetchError::Sign(SignError::Unavailable(_)) => Failure::Unavailable,
                    _ => Failure::Refused,
                };
                if !lock(&self.renewals).failed(identity, failure, now, random) {
                    return;
                }
                tracing::warn!(%identity, %error, "no certificate; trying again later");
                let why: Arc<str> = error.to_string().into();
                self.publish(|states| {
                    let state = states.entry(identity.clone()).or_insert(State::Initializing);
                    match state {
                        State::Available { failure, .. } => *failure = Some(why.clone()),
                        state => *state = State::Unavailable(why.clone()),
                    }
                });
            }
        }
    }

    fn load(&self, certificate: Certificate) -> Result<Bundle, CertificateError> {
        let trust = lock(&self.trusts).of(&certificate.roots)?;
        Bundle::new(certificate, trust, self.config.tls)
    }

    /// Takes a changed revocation list into every certificate's configurations.
    fn follow_revocation(&self) {
        let Some(file) = &self.revocation_file else { return };
        let path = file.path().display();
        let list = match file.changed() {
            Ok(None) => return,
            Ok(Some(bytes)) => RevocationList::parse(&bytes).map_err(|error| error.to_string()),
            // Istio mounts the list as optional: no file, nobody is revoked.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => Err(error.to_string()),
        };
        match list {
            Ok(list) => {
                tracing::info!(%path, "revocation lists read");
                self.revoke(list);
            }
            Err(error) => {
                tracing::warn!(%path, error, "cannot use the revocation lists; those from before stay in force")
            }
        }
    }

    /// Puts revocation lists in force: for new handshakes at once; peers that are connected are for
    /// [`recheck`](Self::recheck).
    pub fn revoke(&self, list: RevocationList) {
        *lock(&self.trusts) = Trusts {
            revocation: list,
            of_roots: HashMap::new(),
        };
        self.publish(|states| {
            for state in states.values_mut() {
                let State::Available { bundle, .. } = state else {
                    continue;
                };
                match bundle.certificate().reload(|certificate| self.load(certificate)) {
                    Ok(reloaded) => *bundle = Arc::new(reloaded),
                    Err(error) => tracing::error!(%error, "cannot take revocation lists into a certificate"),
                }
            }
        });
    }

    /// Publishes changed states, then tells those who wait.
    fn publish(&self, change: impl Fn(&mut HashMap<Identity, State>)) {
        self.published.rcu(|states| {
            let mut states = HashMap::clone(states);
            change(&mut states);
            states
        });
        for callback in lock(&self.callbacks).iter() {
            callback();
        }
    }

    fn drop_unused_trusts(&self) {
        // One reference is the table's own.
        lock(&self.trusts)
            .of_roots
            .retain(|_, trust| Arc::strong_count(trust) > 1);
    }
}

impl Trusts {
    fn of(&mut self, roots: &[CertificateDer<'static>]) -> Result<Arc<Trust>, TrustError> {
        if let Some(known) = self.of_roots.get(roots) {
            return Ok(known.clone());
        }
        let trust = Arc::new(Trust::new(roots, self.revocation.clone())?);
        self.of_roots.insert(roots.to_vec(), trust.clone());
        Ok(trust)
    }
}

/// Every value under these locks is whole after each statement, so that a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn fetch(authority: Arc<dyn Sign>, identity: Identity) -> (Identity, Result<Certificate, FetchError>) {
    let result = async {
        let request = SigningRequest::new(&identity)?;
        let answer = authority.sign(&identity, request.pem()).await?;
        Ok(request.finish(&answer)?)
    };
    let result = result.await;
    (identity, result)
}
