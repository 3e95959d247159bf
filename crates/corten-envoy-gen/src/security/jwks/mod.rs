//! The keys of issuers: when they are fetched, what is kept when that fails, and when they are forgotten.
//!
//! No clock and no network: moments are spans since any fixed moment, and whoever drives this fetches what it asks for and
//! says what came back. A source that hangs, lies or sends without end costs its own tokens, and nothing else.

mod key;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

use serde_json::Value;

pub use self::key::{Usable, usable};

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The issuer.
    pub issuer: String,
    /// The address of its keys; empty: the issuer's own configuration says it (OpenID Connect Discovery).
    pub uri: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uri.as_str() {
            "" => write!(f, "issuer {:?}", self.issuer),
            uri => write!(f, "issuer {:?} at {uri}", self.issuer),
        }
    }
}

/// How long an answer may take where a rule does not say.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// When things are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long keys are used before they are fetched again.
    pub refresh_interval: Duration,
    /// How long after a failure they are fetched again, while older ones are there; it doubles with each failure.
    pub retry_interval: Duration,
    /// The same while there are none, and all tokens are refused.
    pub retry_interval_empty: Duration,
    /// The longest that [`retry_interval`](Self::retry_interval) becomes.
    pub retry_interval_max: Duration,
    /// The longest that [`retry_interval_empty`](Self::retry_interval_empty) becomes.
    pub retry_interval_empty_max: Duration,
    /// Keys that nobody asks for, or that could not be fetched, for so long are forgotten.
    pub forget_after: Duration,
    /// The largest answer.
    pub bytes_max: usize,
    /// How many are fetched at a time. Half of them are kept for sources that answered last time: those that hang keep only each
    /// other waiting.
    pub fetches_max: usize,
}

impl Limits {
    /// How many are fetched at a time of which it is not known that they answer.
    fn unproven_max(&self) -> usize {
        self.fetches_max - self.fetches_max / 2
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            refresh_interval: Duration::from_secs(20 * 60),
            retry_interval: Duration::from_secs(60),
            retry_interval_empty: Duration::from_secs(1),
            retry_interval_max: Duration::from_secs(3600),
            retry_interval_empty_max: Duration::from_secs(60),
            forget_after: Duration::from_secs(7 * 24 * 3600),
            bytes_max: 1 << 20,
            fetches_max: 8,
        }
    }
}

/// Something to fetch, with a GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// For whom: handed back with the answer.
    pub source: Source,
    /// Which one it is of those for the source: handed back with the answer.
    pub attempt: u64,
    /// The address: `http` or `https`.
    pub url: String,
    /// The moment after which no answer counts.
    pub deadline: Duration,
    /// The largest answer that counts: whoever reads may stop after it.
    pub bytes_max: usize,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// What to fetch.
    pub fetches: Vec<Fetch>,
    /// Sources whose keys are others than before: whoever was told of them is to be told again.
    pub changed: Vec<Source>,
    /// What went wrong, for the log.
    pub failures: Vec<(Source, String)>,
}

/// The keys of all sources that are asked for.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    limits: Limits,
    entries: BTreeMap<Source, Entry>,
    attempts: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    keys: Option<Keys>,
    /// When the keys were fetched, or the source was first asked for.
    refreshed: Duration,
    used: Duration,
    timeout: Duration,
    failures: u32,
    /// Whether it had keys to tell when it was asked last.
    answered: bool,
    phase: Phase,
}

#[derive(Debug, Clone)]
struct Keys {
    /// As a set.
    text: Arc<str>,
    /// In an order of their own, to see whether they are others.
    sorted: Vec<String>,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Until this moment.
    Waiting(Duration),
    /// Asked where the keys are.
    Discovering { attempt: u64, deadline: Duration },
    /// Asked for the keys.
    Fetching { attempt: u64, deadline: Duration },
}

impl Cache {
    /// Without any keys.
    pub fn new(limits: Limits) -> Cache {
        Cache {
            limits,
            ..Cache::default()
        }
    }

    /// The keys of a source; `None`: there are none, and all its tokens are to be refused.
    pub fn keys(&self, source: &Source) -> Option<Arc<str>> {
        let keys = self.entries.get(source)?.keys.as_ref()?;
        Some(Arc::clone(&keys.text))
    }

    /// Takes note of who is asked for, and how long an answer may take. What is to be done about it, [`step`](Self::step) says.
    pub fn want(&mut self, now: Duration, sources: impl IntoIterator<Item = (Source, Duration)>) {
        for (source, timeout) in sources {
            let entry = self.entries.entry(source).or_insert_with(|| Entry {
                keys: None,
                refreshed: now,
                used: now,
                timeout,
                failures: 0,
                answered: false,
                phase: Phase::Waiting(now),
            });
            entry.used = now;
            entry.timeout = timeout;
        }
    }

    /// What is to be done at a moment.
    pub fn step(&mut self, now: Duration) -> Step {
        let mut step = Step::default();
        self.forget(now, &mut step);
        for (source, entry) in &mut self.entries {
            if let Phase::Discovering { deadline, .. } | Phase::Fetching { deadline, .. } = entry.phase {
                if deadline > now {
                    continue;
                }
                let message = format!("no answer within {:?}", entry.timeout);
                entry.failed(now, &self.limits);
                step.failures.push((source.clone(), message));
            }
        }
        // Whoever has failed less goes before those who hang time after time; then those without keys, all of whose tokens are refused.
        let mut due: Vec<(u32, bool, Duration, &Source, bool)> = self
            .entries
            .iter()
            .filter_map(|(source, entry)| match entry.phase {
                Phase::Waiting(until) if until <= now => {
                    Some((entry.failures, entry.keys.is_some(), until, source, entry.answered))
                }
                _ => None,
            })
            .collect();
        due.sort();
        let mut room = self.room();
        let due = due.into_iter().filter(|(.., answered)| room.take(*answered));
        let due: Vec<Source> = due.map(|(.., source, _)| source.clone()).collect();
        for source in due {
            match self.start(&source, now) {
                Ok(fetch) => step.fetches.push(fetch),
                Err(message) => {
                    if let Some(entry) = self.entries.get_mut(&source) {
                        entry.failed(now, &self.limits);
                    }
                    step.failures.push((source, message));
                }
            }
        }
        step
    }

    /// The moment at which there is something to be done, unless an answer comes before.
    pub fn next(&self) -> Option<Duration> {
        let room = self.room();
        let moments = self.entries.values().map(|entry| {
            let forgotten = entry.used.min(entry.refreshed) + self.limits.forget_after;
            match entry.phase {
                // It waits for an answer to another.
                Phase::Waiting(_) if !room.is_for(entry.answered) => forgotten,
                Phase::Waiting(until)
                | Phase::Discovering { deadline: until, .. }
                | Phase::Fetching { deadline: until, .. } => until.min(forgotten),
            }
        });
        moments.min()
    }

    /// How many more can be fetched now.
    fn room(&self) -> Room {
        let running = || {
            let all = self.entries.values();
            all.filter(|entry| !matches!(entry.phase, Phase::Waiting(_)))
        };
        let unproven = running().filter(|entry| !entry.answered).count();
        Room {
            all: self.limits.fetches_max.saturating_sub(running().count()),
            unproven: self.limits.unproven_max().saturating_sub(unproven),
        }
    }

    /// Takes an answer: the body, or why there is none. An answer to what is no longer asked does not count.
    pub fn answer(&mut self, now: Duration, source: &Source, attempt: u64, answer: Result<&[u8], String>) -> Step {
        let mut step = Step::default();
        let Some(entry) = self.entries.get_mut(source) else {
            return step;
        };
        let bytes_max = self.limits.bytes_max;
        let body = answer.and_then(|body| {
            if body.len() > bytes_max {
                return Err(format!("the answer is larger than {bytes_max} bytes"));
            }
            Ok(body)
        });
        let outcome = match entry.phase {
            Phase::Discovering {
                attempt: asked,
                deadline,
            } if asked == attempt && now < deadline => {
                match body.and_then(location) {
                    Ok(url) => {
                        let attempt = next_attempt(&mut self.attempts);
                        // The time is for both: a source that is slow twice is too slow.
                        entry.phase = Phase::Fetching { attempt, deadline };
                        step.fetches.push(Fetch {
                            source: source.clone(),
                            attempt,
                            url,
                            deadline,
                            bytes_max,
                        });
                        return step;
                    }
                    Err(message) => Err(message),
                }
            }
            Phase::Fetching {
                attempt: asked,
                deadline,
            } if asked == attempt && now < deadline => body.and_then(read),
            _ => return step,
        };
        match outcome {
            Ok(keys) => {
                if entry.keys.as_ref().is_none_or(|held| held.sorted != keys.sorted) {
                    entry.keys = Some(keys);
                    step.changed.push(source.clone());
                }
                entry.refreshed = now;
                entry.failures = 0;
                entry.answered = true;
                entry.phase = Phase::Waiting(now + self.limits.refresh_interval);
            }
            Err(message) => {
                entry.failed(now, &self.limits);
                step.failures.push((source.clone(), message));
            }
        }
        step
    }

    fn forget(&mut self, now: Duration, step: &mut Step) {
        let after = self.limits.forget_after;
        self.entries.retain(|_, entry| entry.used + after > now);
        for (source, entry) in &mut self.entries {
            if entry.keys.is_some() && entry.refreshed + after <= now {
                // Older than anybody would vouch for: the issuer may have withdrawn them long ago.
                entry.keys = None;
                step.changed.push(source.clone());
            }
            if entry.keys.is_none() && entry.refreshed + after <= now {
                entry.refreshed = now;
            }
        }
    }

    fn start(&mut self, source: &Source, now: Duration) -> Result<Fetch, String> {
        let discovers = source.uri.is_empty();
        let url = if discovers {
            format!(
                "{}/.well-known/openid-configuration",
                source.issuer.trim_end_matches('/')
            )
        } else {
            source.uri.clone()
        };
        check(&url)?;
        let attempt = next_attempt(&mut self.attempts);
        let entry = self
            .entries
            .get_mut(source)
            .ok_or_else(|| "nobody asks for it".to_owned())?;
        let deadline = now + entry.timeout;
        entry.phase = if discovers {
            Phase::Discovering { attempt, deadline }
        } else {
            Phase::Fetching { attempt, deadline }
        };
        Ok(Fetch {
            source: source.clone(),
            attempt,
            url,
            deadline,
            bytes_max: self.limits.bytes_max,
        })
    }
}

/// How many fetches may begin.
#[derive(Debug, Clone, Copy)]
struct Room {
    all: usize,
    /// Of those, for sources that are not known to answer.
    unproven: usize,
}

impl Room {
    fn is_for(self, answered: bool) -> bool {
        self.all > 0 && (answered || self.unproven > 0)
    }

    /// Takes a place, if there is one.
    fn take(&mut self, answered: bool) -> bool {
        let there = self.is_for(answered);
        if there {
            self.all -= 1;
            self.unproven -= usize::from(!answered);
        }
        there
    }
}

impl Entry {
    fn failed(&mut self, now: Duration, limits: &Limits) {
        let (first, longest) = match self.keys {
            Some(_) => (limits.retry_interval, limits.retry_interval_max),
            None => (limits.retry_interval_empty, limits.retry_interval_empty_max),
        };
        let wait = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.answered = false;
        self.phase = Phase::Waiting(now + wait);
    }
}

fn next_attempt(attempts: &mut u64) -> u64 {
    *attempts += 1;
    *attempts
}

fn check(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(()),
        _ => Err(format!("{url:?} is not an address of http or https")),
    }
}

/// Where an issuer's configuration says its keys are.
fn location(body: &[u8]) -> Result<String, String> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| format!("the issuer's configuration is not JSON: {error}"))?;
    let url = value["jwks_uri"]
        .as_str()
        .ok_or_else(|| "the issuer's configuration has no jwks_uri".to_owned())?;
    check(url)?;
    Ok(url.to_owned())
}

/// Reads a set of keys. What is none is not handed on, whatever it is: proxies show their configuration.
fn read(body: &[u8]) -> Result<Keys, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not text".to_owned())?;
    let usable = usable(text);
    let Some(keys) = usable.keys else {
        return Err(format!(
            "the answer has no key that can be used: {}",
            usable.problems.join("; ")
        ));
    };
    let value: Value = serde_json::from_str(&keys).unwrap_or_default();
    let mut sorted: Vec<String> = value["keys"]
        .as_array()
        .into_iter()
        .flatten()
        .map(Value::to_string)
        .collect();
    sorted.sort();
    Ok(Keys {
        text: Arc::from(keys),
        sorted,
    })
}

/// Whether keys may be fetched from an address: machines of clouds hand out secrets on some, which an address in a policy
/// must not reach.
pub fn is_reachable(address: IpAddr) -> bool {
    let v4 = match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
    };
    match (v4, address) {
        (Some(v4), _) => {
            !(v4.is_link_local() || v4.octets() == [100, 100, 100, 200] || v4.octets() == [168, 63, 129, 16])
        }
        (None, IpAddr::V6(v6)) => {
            !(v6.is_unicast_link_local() || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254])
        }
        (None, IpAddr::V4(_)) => true,
    }
}
