//! The keys of issuers of tokens: fetched, kept, and fetched again.
//!
//! What is to be done when is decided in [`corten_envoy_gen::security::jwks`]; this is what asks. An issuer that hangs, lies or
//! sends without end costs its own tokens; keys that were good stay while no others can be had.

mod client;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use corten_api::istio::request_authentication::RequestAuthenticationSpec;
use corten_envoy_gen::security::{
    authn,
    jwks::{Cache, Fetch, Limits, Source, Step},
};
use corten_model::Name;
use corten_routing::{KeySets, Table};
use corten_rt::Drain;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use ipnet::IpNet;
use tokio::sync::watch;

use self::client::Client;
use crate::metrics::Metrics;

/// An answer takes no longer, whatever a rule says: one that is slow keeps others waiting.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// So long is a policy with an issuer that was never asked before kept back, so that it does not refuse good tokens meanwhile.
const HOLD_MAX: Duration = Duration::from_secs(5);

/// How keys are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// How long keys are used before they are fetched again.
    pub refresh_interval: Duration,
    /// Roots that servers of keys may have beside the operating system's (PEM); the file need not be there.
    pub extra_roots: PathBuf,
    /// Networks that are never asked.
    pub blocked: Vec<IpNet>,
}

/// The sources that policies name.
pub(crate) type Wanted = Arc<BTreeMap<Source, Want>>;

/// Who wants the keys of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Want {
    /// How long an answer may take.
    timeout: Duration,
    /// The policies, by namespace and name.
    policies: BTreeSet<(Name, Name)>,
}

/// What is known of the keys that are wanted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Known {
    /// The keys.
    pub(crate) keys: Arc<KeySets>,
    /// The sources that have been asked, or have kept us waiting long enough.
    tried: BTreeSet<Source>,
    /// Why keys could not be fetched the last time, for people.
    problems: BTreeMap<Source, String>,
}

impl Known {
    /// Whether there is an answer, or none, to everything that is wanted.
    pub(crate) fn is_decided(&self, wanted: &Wanted) -> bool {
        self.undecided(wanted).next().is_none()
    }

    /// The policies, by namespace and name, that wait for a first answer; one that waits for several comes as often.
    pub(crate) fn undecided<'a>(&'a self, wanted: &'a Wanted) -> impl Iterator<Item = &'a (Name, Name)> {
        let waiting = wanted.iter().filter(|(source, _)| !self.tried.contains(*source));
        waiting.flat_map(|(_, want)| &want.policies)
    }

    /// What is wrong, a line for each source.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &String> {
        self.problems.values()
    }
}

/// The sources that policies name.
pub(crate) fn wanted(policies: &Table<RequestAuthenticationSpec>) -> Wanted {
    let mut wanted: BTreeMap<Source, Want> = BTreeMap::new();
    for (place, policy) in policies {
        for (source, timeout) in authn::sources([policy.as_ref()]) {
            let want = wanted.entry(source).or_default();
            want.timeout = want.timeout.max(timeout.min(TIMEOUT_MAX));
            want.policies.insert(place.clone());
        }
    }
    Arc::new(wanted)
}

/// What fetches.
pub(crate) struct Issuers {
    client: Arc<Client>,
    cache: Cache,
    began: Instant,
    wanted: watch::Receiver<Wanted>,
    known: watch::Sender<Arc<Known>>,
    /// Until when policies wait for the first answer of a source.
    held: BTreeMap<Source, Duration>,
    tried: BTreeSet<Source>,
    failures: BTreeMap<Source, String>,
    metrics: Arc<Metrics>,
}

type Fetches = FuturesUnordered<BoxFuture<'static, (Fetch, Result<Bytes, String>)>>;

impl Issuers {
    /// Nothing is fetched before it [runs](Self::run). What is known is sent to `known` when it is something else than before.
    pub(crate) fn new(
        settings: &IssuerSettings,
        wanted: watch::Receiver<Wanted>,
        known: watch::Sender<Arc<Known>>,
        metrics: Arc<Metrics>,
    ) -> Issuers {
        let limits = Limits {
            refresh_interval: settings.refresh_interval,
            fetches_max: 16,
            ..Limits::default()
        };
        Issuers {
            client: Arc::new(Client::new(settings.extra_roots.clone(), settings.blocked.clone())),
            cache: Cache::new(limits),
            began: Instant::now(),
            wanted,
            known,
            held: BTreeMap::new(),
            tried: BTreeSet::new(),
            failures: BTreeMap::new(),
            metrics,
        }
    }

    /// Fetches what is wanted, until drain.
    pub(crate) async fn run(mut self, mut drain: Drain) {
        let mut fetches = Fetches::new();
        loop {
            let next = self.follow(&mut fetches);
            let until = tokio::time::Instant::from_std(self.began + next.unwrap_or(HOLD_MAX));
            let answered = tokio::select! {
                biased;
                () = drain.wait() => return,
                changed = self.wanted.changed() => match changed {
                    Ok(()) => continue,
                    // Nobody wants anything any more.
                    Err(_) => return drain.wait().await,
                },
                answered = fetches.next(), if !fetches.is_empty() => answered,
                () = tokio::time::sleep_until(until), if next.is_some() => continue,
            };
            if let Some((fetch, answer)) = answered {
                self.answer(&fetch, answer, &mut fetches);
            }
        }
    }

    /// Brings everything up to this moment; yields the next at which there is something to do.
    fn follow(&mut self, fetches: &mut Fetches) -> Option<Duration> {
        let now = self.began.elapsed();
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let sources = wanted.iter().map(|(source, want)| (source.clone(), want.timeout));
        self.cache.want(now, sources);
        let step = self.cache.step(now);
        self.take(step, &wanted, fetches);
        self.tried.retain(|source| wanted.contains_key(source));
        self.failures.retain(|source, _| wanted.contains_key(source));
        self.held.retain(|source, _| wanted.contains_key(source));
        for source in wanted.keys() {
            if self.tried.contains(source) {
                continue;
            }
            // It may have been wanted before.
            let decided = self.cache.keys(source).is_some() || {
                let until = *self.held.entry(source.clone()).or_insert(now + HOLD_MAX);
                until <= now
            };
            if decided {
                self.tried.insert(source.clone());
            }
        }
        self.held.retain(|source, _| !self.tried.contains(source));
        self.tell(&wanted);
        self.held.values().copied().chain(self.cache.next()).min()
    }

    fn answer(&mut self, fetch: &Fetch, answer: Result<Bytes, String>, fetches: &mut Fetches) {
        let counter = match &answer {
            Ok(_) => &self.metrics.key_fetches,
            Err(_) => &self.metrics.key_fetch_failures,
        };
        counter.add(1);
        let wanted = Arc::clone(&self.wanted.borrow());
        let body = match &answer {
            Ok(body) => Ok(&**body),
            Err(problem) => Err(problem.clone()),
        };
        let now = self.began.elapsed();
        let step = self.cache.answer(now, &fetch.source, fetch.attempt, body);
        if step.fetches.is_empty() && step.failures.is_empty() {
            self.tried.insert(fetch.source.clone());
            if self.failures.remove(&fetch.source).is_some() {
                tracing::info!(source = %fetch.source, "the keys can be fetched again");
            }
        }
        self.take(step, &wanted, fetches);
    }

    /// Does what is to be done.
    fn take(&mut self, step: Step, wanted: &Wanted, fetches: &mut Fetches) {
        for fetch in step.fetches {
            let (client, began) = (Arc::clone(&self.client), self.began);
            fetches.push(Box::pin(async move {
                let until = tokio::time::Instant::from_std(began + fetch.deadline);
                let answer = client.get(&fetch.url, fetch.bytes_max);
                let answer = match tokio::time::timeout_at(until, answer).await {
                    Ok(answer) => answer.map_err(|error| format!("{}: {error}", fetch.url)),
                    Err(_) => Err(format!("{}: no answer in time", fetch.url)),
                };
                (fetch, answer)
            }));
        }
        for (source, reason) in step.failures {
            self.tried.insert(source.clone());
            let effect = match self.cache.keys(&source) {
                Some(_) => "the keys fetched before are used",
                None => "all its tokens are refused",
            };
            let policies = wanted.get(&source).map(|want| &want.policies);
            let policies = policies.into_iter().flatten();
            let policies: Vec<String> = policies
                .map(|(namespace, name)| format!("{namespace}/{name}"))
                .collect();
            let problem = format!(
                "RequestAuthentication {}: the keys of {source} could not be fetched: {reason}; {effect}",
                policies.join(", ")
            );
            if self.failures.get(&source) == Some(&problem) {
                tracing::debug!("{problem}");
            } else {
                tracing::warn!("{problem}");
                self.failures.insert(source, problem);
            }
        }
    }

    /// Says what is known, if it is something else than before.
    fn tell(&self, wanted: &Wanted) {
        let keys = wanted.keys().filter_map(|source| {
            let keys = self.cache.keys(source)?;
            Some(((source.issuer.clone(), source.uri.clone()), keys))
        });
        let known = Known {
            keys: Arc::new(keys.collect()),
            tried: self.tried.clone(),
            problems: self.failures.clone(),
        };
        self.known.send_if_modified(|held| {
            let is_new = **held != known;
            if is_new {
                *held = Arc::new(known);
            }
            is_new
        });
    }
}
