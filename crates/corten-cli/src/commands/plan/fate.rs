//! What becomes of a call, without what differs between two configurations for no reason that matters: addresses, names of pods.

use std::collections::{BTreeMap, BTreeSet};

use corten_explain::{Hop, Outcome, Trace};
use serde::Serialize;

use crate::mesh::world::{Known, Pod};

/// What becomes of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(super) struct Fate {
    /// Where it ends, each with its share of such calls.
    pub(super) ends: Vec<String>,
    /// How it is sent: timeouts, retries, limits, whether by mutual TLS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) how: Vec<String>,
}

/// The fate of a call that was followed.
pub(super) fn of(trace: &Trace, known: &Known) -> Fate {
    if trace.hops.is_empty() {
        return Fate {
            ends: vec!["100% goes by no proxy".to_owned()],
            how: Vec::new(),
        };
    }
    let mut reading = Reading {
        trace,
        known,
        ends: BTreeMap::new(),
        how: BTreeSet::new(),
    };
    let begins: Vec<usize> = (0..trace.hops.len())
        .filter(|at| trace.hops[*at].via.is_none())
        .collect();
    for at in &begins {
        // Without a proxy of the client, each hop is one of the servers that take the call in turn.
        reading.walk(*at, 1.0 / begins.len() as f64);
    }
    let mut ends: Vec<(f64, String)> = reading.ends.into_iter().map(|(what, share)| (share, what)).collect();
    ends.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    Fate {
        ends: ends
            .into_iter()
            .map(|(share, what)| format!("{}% {what}", percent(share)))
            .collect(),
        how: reading.how.into_iter().collect(),
    }
}

fn percent(share: f64) -> String {
    format!("{}", (share * 1000.0).round() / 10.0)
}

struct Reading<'a> {
    trace: &'a Trace,
    known: &'a Known,
    ends: BTreeMap<String, f64>,
    how: BTreeSet<String>,
}

impl Reading<'_> {
    fn end(&mut self, share: f64, what: String) {
        *self.ends.entry(what).or_default() += share;
    }

    fn walk(&mut self, at: usize, share: f64) {
        let hop = &self.trace.hops[at];
        let proxy = self.named(&hop.proxy);
        match &hop.outcome {
            Outcome::Refused { error, status, .. } => {
                let status = status.map_or_else(|| "the connection is closed".to_owned(), |status| status.to_string());
                self.end(share, format!("is refused by {proxy}: {}, {status}", error.name()));
            }
            Outcome::Answered(answer) => {
                let location = answer.location.as_ref().map(|to| format!(" to {to}"));
                let location = location.unwrap_or_default();
                self.end(
                    share,
                    format!("is answered by {proxy} with {}{location}", answer.status),
                );
            }
            Outcome::Forwarded => self.onward(at, hop, share, &proxy),
        }
    }

    /// Where a hop sends a call.
    fn onward(&mut self, at: usize, hop: &Hop, share: f64, proxy: &str) {
        // How a server's proxy hands on what has arrived is nobody's concern but its own.
        let arrives = hop.destinations.iter().all(|it| it.cluster.starts_with("inbound|"));
        for route in hop.http.iter().filter(|_| !arrives).flat_map(|http| &http.routes) {
            self.how
                .extend(route.settings.iter().map(|it| format!("{} {}", it.name, it.value)));
        }
        if hop.destinations.is_empty() {
            self.end(share, format!("passes {proxy}"));
        }
        for destination in &hop.destinations {
            let share = share * destination.share;
            if destination.cluster.starts_with("inbound|") {
                self.end(share, format!("reaches {proxy}"));
                continue;
            }
            let Some(upstream) = &destination.upstream else {
                self.end(
                    share,
                    format!("has nowhere to go: there is no cluster {}", destination.cluster),
                );
                continue;
            };
            self.how
                .extend(upstream.settings.iter().map(|it| format!("{} {}", it.name, it.value)));
            self.how.insert(format!("endpoints by {}", upstream.policy));
            let usable: Vec<_> = upstream.endpoints.iter().filter(|it| it.share > 0.0).collect();
            if usable.is_empty() {
                self.end(share, format!("goes to {}", self.host(&destination.cluster)));
            }
            for endpoint in usable {
                let share = share * endpoint.share;
                if endpoint.transport.mode != "plain" {
                    self.how.insert(format!("sent by {}", endpoint.transport.mode));
                }
                match self.next(at, &destination.cluster, &endpoint.address) {
                    Some(next) => self.walk(next, share),
                    None => {
                        let pod = self.pod_at(&endpoint.address);
                        let name = pod.map_or_else(|| self.host(&destination.cluster), |pod| workload(&pod));
                        self.end(share, format!("reaches {name}"));
                    }
                }
            }
        }
    }

    /// The hop that shows what an endpoint does with the call: its own, or that of a pod of its kind.
    fn next(&self, at: usize, cluster: &str, endpoint: &str) -> Option<usize> {
        let of_cluster = |hop: &Hop| {
            hop.via
                .as_ref()
                .is_some_and(|via| via.hop == at && via.cluster == cluster)
        };
        let hops = || (0..self.trace.hops.len()).filter(|to| of_cluster(&self.trace.hops[*to]));
        let own = |to: &usize| {
            self.trace.hops[*to]
                .via
                .as_ref()
                .is_some_and(|via| via.endpoint == endpoint)
        };
        hops().find(own).or_else(|| {
            let kind = self.pod_at(endpoint)?.kind();
            hops().find(|to| {
                self.known
                    .pod(&self.trace.hops[*to].proxy)
                    .is_ok_and(|pod| pod.kind() == kind)
            })
        })
    }

    fn pod_at(&self, address: &str) -> Option<Pod> {
        let address: std::net::SocketAddr = address.parse().ok()?;
        self.known.pod_at(&address.ip().to_string())
    }

    /// A proxy by what its pod belongs to.
    fn named(&self, proxy: &str) -> String {
        self.known
            .pod(proxy)
            .map_or_else(|_| proxy.to_owned(), |pod| workload(&pod))
    }

    /// A cluster by whom it is for.
    fn host(&self, cluster: &str) -> String {
        match cluster.splitn(4, '|').collect::<Vec<_>>()[..] {
            [_, port, "", host] => format!("{host}:{port}"),
            [_, port, subset, host] => format!("subset {subset} of {host}:{port}"),
            _ => cluster.to_owned(),
        }
    }
}

/// What a pod belongs to: its name without what tells it from others of its kind.
pub(super) fn workload(pod: &Pod) -> String {
    let hash = pod
        .labels
        .get("pod-template-hash")
        .or_else(|| pod.labels.get("controller-revision-hash"));
    let base = hash
        .and_then(|hash| pod.name.split_once(&format!("-{hash}")))
        .map(|(base, _)| base);
    let ordinal = pod.labels.get("apps.kubernetes.io/pod-index");
    let base = base.or_else(|| pod.name.strip_suffix(&format!("-{}", ordinal?)));
    format!("{}.{}", base.unwrap_or(&pod.name), pod.namespace)
}
