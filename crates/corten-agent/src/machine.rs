//! What is to be done about the pods of a node: pure, one step at a time.
//!
//! It knows each pod's wish (whether it belongs to the mesh) and its stage (what has been done about it), and gives out [`Job`]s that bring
//! the stage to the wish, at most one at a time for a pod. Who carries them out reports back; what failed is tried again, later each
//! time. Time is an argument.
//!
//! **Leaving.** A pod that no longer belongs to the mesh is not simply cut off: connections that go through the proxy would break. Its
//! redirection ends at once, so that whatever it opens from then on goes its own way, and it is no longer announced, so that others
//! come directly; but the proxy keeps it, and the namespace keeps translating, until nothing of it goes through the proxy any more.
//! For the proxy that is an ordinary pod for a while longer: any proxy that speaks ZDS does this without knowing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::eligibility::Eligibility;
use crate::pod::{Map, Pod, Redirection};

/// What has been done about a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not been looked at: the agent has just started.
    Unknown,
    /// Nothing is in its namespace.
    Outside,
    /// It is enrolled.
    Enrolled,
    /// Its redirection has ended; the proxy still serves what it has.
    Leaving(Instant),
}

/// Something to be done for one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// See what is in its namespace, and take it up; if it belongs to the mesh, put right what is there.
    Inspect {
        /// Whether it belongs to the mesh.
        wanted: bool,
    },
    /// Hand it to the proxy, redirect its traffic, announce it.
    Join,
    /// End its redirection, no longer announce it; the proxy keeps it.
    Leave,
    /// See whether the proxy still has connections of it; if not, take it from the proxy and clean up.
    Drain {
        /// Whatever it still has: its time is over.
        force: bool,
    },
    /// It is gone: take it from the proxy.
    Forget,
    /// Write on it what it is.
    Annotate(Redirection),
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Inspected: our rules are there.
    Found,
    /// Not drained yet.
    Busy,
    /// It failed, and why.
    Failed(String),
}

/// A job with the pod it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The pod, as it is now.
    pub pod: Pod,
    /// What to do.
    pub job: Job,
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The first pause after a failure; each further one is twice as long.
    pub retry_min: Duration,
    /// The longest.
    pub retry_max: Duration,
    /// How long a pod that left is served at least: others may come through tunnels until they have heard.
    pub drain_min: Duration,
    /// How long at most; absent: until its last connection has ended.
    pub drain_max: Option<Duration>,
    /// How often is looked whether it still has connections.
    pub drain_interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(5),
            drain_min: Duration::from_secs(10),
            drain_max: None,
            drain_interval: Duration::from_secs(1),
        }
    }
}

#[derive(Debug)]
struct Entry {
    pod: Pod,
    /// Kubernetes has no such pod any more.
    is_deleted: bool,
    stage: Stage,
    /// A job is under way, the plugin's included.
    busy: Option<Job>,
    failures: u32,
    not_before: Option<Instant>,
    /// The pod as it was when its rules were made: what it wishes may change.
    joined_as: Option<crate::pod::Wishes>,
}

/// What the plugin's question about a pod comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is no such pod yet, or it is busy: ask again after the next change.
    Later,
    /// It does not belong to the mesh.
    NotOurs,
    /// It does, and is the asker's to enroll: [`Machine::done`] is to be told.
    Ours(Box<Pod>),
}

/// All pods of the node.
#[derive(Debug)]
pub struct Machine {
    eligibility: Eligibility,
    timing: Timing,
    namespaces: BTreeMap<String, Map>,
    pods: BTreeMap<String, Entry>,
    proxies: usize,
    started: bool,
}

impl Machine {
    /// No pods yet.
    pub fn new(eligibility: Eligibility, timing: Timing) -> Machine {
        Machine {
            eligibility,
            timing,
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            proxies: 0,
            started: false,
        }
    }

    /// A pod is there, or different.
    pub fn pod(&mut self, pod: Pod) {
        // One of the same name that was there before is gone, even if nobody has said so.
        let replaced = |entry: &Entry| {
            entry.pod.uid != pod.uid && entry.pod.name == pod.name && entry.pod.namespace == pod.namespace
        };
        for entry in self.pods.values_mut().filter(|entry| replaced(entry)) {
            entry.is_deleted = true;
            entry.not_before = None;
        }
        let started = self.started;
        let entry = self.pods.entry(pod.uid.clone()).or_insert_with(|| Entry {
            pod: Pod::default(),
            is_deleted: false,
            // What appears later has not been touched by an agent before this one.
            stage: if started { Stage::Outside } else { Stage::Unknown },
            busy: None,
            failures: 0,
            not_before: None,
            joined_as: None,
        });
        if entry.pod != pod {
            entry.not_before = None;
        }
        entry.pod = pod;
    }

    /// A pod is gone.
    pub fn pod_removed(&mut self, namespace: &str, name: &str) {
        let mut pods = self.pods.values_mut();
        let found = pods.find(|entry| !entry.is_deleted && entry.pod.namespace == namespace && entry.pod.name == name);
        if let Some(entry) = found {
            entry.is_deleted = true;
            entry.not_before = None;
        }
    }

    /// A namespace has these labels.
    pub fn namespace(&mut self, name: &str, labels: Map) {
        if self.namespaces.get(name) != Some(&labels) {
            self.namespaces.insert(name.to_owned(), labels);
            let pods = self.pods.values_mut();
            for entry in pods.filter(|entry| entry.pod.namespace == name) {
                entry.not_before = None;
            }
        }
    }

    /// A namespace is gone.
    pub fn namespace_removed(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// How many node proxies are connected.
    pub fn proxies(&mut self, count: usize) {
        if count > self.proxies {
            // Who waits for one need not wait longer.
            self.pods.values_mut().for_each(|entry| entry.not_before = None);
        }
        self.proxies = count;
    }

    /// All pods that were there at the start are known and have been inspected.
    pub fn start(&mut self) {
        self.started = true;
    }

    /// The pods, for who has to look at all of them.
    pub fn all(&self) -> impl Iterator<Item = (&Pod, Stage)> {
        self.pods.values().map(|entry| (&entry.pod, entry.stage))
    }

    /// The namespaces whose pods do not belong to the mesh unless a pod says so itself, and of which no pod here does.
    pub fn outside(&self) -> BTreeSet<String> {
        let plain = |name: &String, labels: &Map| {
            let pod = Pod {
                namespace: name.clone(),
                ..Pod::default()
            };
            self.eligibility.check(&pod, labels).is_err()
        };
        let namespaces = self.namespaces.iter().filter(|(name, labels)| plain(name, labels));
        let mut outside: BTreeSet<String> = namespaces.map(|(name, _)| name.clone()).collect();
        for entry in self.pods.values().filter(|entry| self.wanted(&entry.pod)) {
            outside.remove(&entry.pod.namespace);
        }
        outside
    }

    /// Whether a pod belongs to the mesh.
    fn wanted(&self, pod: &Pod) -> bool {
        static NONE: Map = Map::new();
        let namespace = self.namespaces.get(&pod.namespace).unwrap_or(&NONE);
        self.eligibility.check(pod, namespace).is_ok()
    }

    /// The plugin asks about a pod that is about to start; with its uid, where it is known.
    ///
    /// As long as it can wait, a pod that belongs to the mesh is not begun with before there is a proxy for it.
    pub fn plugin(&mut self, namespace: &str, name: &str, uid: &str, can_wait: bool) -> Verdict {
        let found = self.pods.values().find(|entry| {
            let named = entry.pod.namespace == namespace && entry.pod.name == name;
            named && !entry.is_deleted && (uid.is_empty() || entry.pod.uid == uid)
        });
        let Some(entry) = found else { return Verdict::Later };
        if !self.namespaces.contains_key(namespace) || entry.busy.is_some() {
            return Verdict::Later;
        }
        let pod = entry.pod.clone();
        if !self.wanted(&pod) {
            return Verdict::NotOurs;
        }
        if self.proxies == 0 && can_wait {
            return Verdict::Later;
        }
        if let Some(entry) = self.pods.get_mut(&pod.uid) {
            entry.busy = Some(Job::Join);
            entry.joined_as = Some(pod.wishes());
        }
        Verdict::Ours(Box::new(pod))
    }

    /// What can be done now.
    pub fn tasks(&mut self, now: Instant) -> Vec<Task> {
        let mut tasks = Vec::new();
        let uids: Vec<String> = self.pods.keys().cloned().collect();
        for uid in uids {
            let Some(entry) = self.pods.get(&uid) else { continue };
            let waits = entry.busy.is_some() || entry.not_before.is_some_and(|at| at > now);
            let Some(job) = (!waits).then(|| self.next(entry, now)).flatten() else {
                continue;
            };
            let Some(entry) = self.pods.get_mut(&uid) else { continue };
            if matches!(job, Job::Join | Job::Inspect { wanted: true }) {
                entry.joined_as = Some(entry.pod.wishes());
            }
            entry.busy = Some(job.clone());
            tasks.push(Task {
                pod: entry.pod.clone(),
                job,
            });
        }
        self.pods
            .retain(|_, entry| !entry.is_deleted || entry.busy.is_some() || entry.stage != Stage::Outside);
        tasks
    }

    /// When to ask for tasks again, if nothing happens before.
    pub fn wake_at(&self) -> Option<Instant> {
        let waiting = self.pods.values().filter(|entry| entry.busy.is_none());
        let at = |entry: &Entry| match (entry.not_before, entry.stage) {
            (None, Stage::Leaving(since)) => Some(since + self.timing.drain_min),
            (not_before, _) => not_before,
        };
        waiting.filter_map(at).min()
    }

    /// What to do next about a pod.
    fn next(&self, entry: &Entry, now: Instant) -> Option<Job> {
        let pod = &entry.pod;
        if entry.is_deleted || pod.is_terminal {
            return (entry.stage != Stage::Outside).then_some(Job::Forget);
        }
        if pod.host_network {
            return None;
        }
        match (self.wanted(pod), entry.stage) {
            (wanted, Stage::Unknown) => Some(Job::Inspect { wanted }),
            (true, Stage::Outside | Stage::Leaving(_)) => {
                if pod.addresses.is_empty() {
                    // It has no network yet: its turn comes with the plugin.
                    return None;
                }
                // Without a proxy its traffic would lead nowhere: it stays as it is, and says that it waits.
                if self.proxies == 0 {
                    return (pod.redirection() == Redirection::None).then_some(Job::Annotate(Redirection::Pending));
                }
                Some(Job::Join)
            }
            (true, Stage::Enrolled) if entry.joined_as.as_ref().is_some_and(|as_| *as_ != pod.wishes()) => {
                Some(Job::Join)
            }
            (true, Stage::Enrolled) => {
                (pod.redirection() != Redirection::Enabled).then_some(Job::Annotate(Redirection::Enabled))
            }
            (false, Stage::Enrolled) => Some(Job::Leave),
            (false, Stage::Leaving(since)) => {
                if pod.redirection() != Redirection::None {
                    return Some(Job::Annotate(Redirection::None));
                }
                let force = self.timing.drain_max.is_some_and(|max| now >= since + max);
                (force || now >= since + self.timing.drain_min).then_some(Job::Drain { force })
            }
            (false, Stage::Outside) => {
                (pod.redirection() != Redirection::None).then_some(Job::Annotate(Redirection::None))
            }
        }
    }

    /// A job has ended. Whether it is the first of a row of failures, which are worth telling the user about.
    pub fn done(&mut self, uid: &str, outcome: &Outcome, now: Instant) -> bool {
        let timing = self.timing;
        let Some(entry) = self.pods.get_mut(uid) else {
            return false;
        };
        let Some(job) = entry.busy.take() else { return false };
        if let Outcome::Failed(_) = outcome {
            entry.failures += 1;
            let doubled = timing.retry_min.saturating_mul(1 << (entry.failures - 1).min(16));
            entry.not_before = Some(now + doubled.min(timing.retry_max));
            return entry.failures == 1;
        }
        entry.failures = 0;
        entry.not_before = None;
        match job {
            Job::Inspect { .. } if *outcome == Outcome::Found => entry.stage = Stage::Enrolled,
            Job::Inspect { .. } | Job::Forget => entry.stage = Stage::Outside,
            Job::Join => entry.stage = Stage::Enrolled,
            Job::Leave => entry.stage = Stage::Leaving(now),
            Job::Drain { .. } if *outcome == Outcome::Busy => entry.not_before = Some(now + timing.drain_interval),
            Job::Drain { .. } => entry.stage = Stage::Outside,
            // What was written comes back with the pod; until then it is taken for written.
            Job::Annotate(redirection) => {
                match redirection.value() {
                    Some(value) => entry
                        .pod
                        .annotations
                        .insert(crate::pod::REDIRECTION.into(), value.into()),
                    None => entry.pod.annotations.remove(crate::pod::REDIRECTION),
                };
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
