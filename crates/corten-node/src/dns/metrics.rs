//! Counts of DNS questions, with Istio's names and labels.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use corten_traffic::{Name, Workload};

/// Upper bounds of the buckets, in seconds.
const BUCKETS: [f64; 6] = [0.0005, 0.001, 0.01, 0.1, 1.0, 5.0];

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// By what questions are told apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Labels {
    kind: &'static str,
    transport: Transport,
    service: Name,
    revision: Name,
}

impl Labels {
    /// Labels of a question of a type from a workload, if that is known.
    pub(super) fn new(kind: &'static str, transport: Transport, client: Option<&Workload>) -> Labels {
        let name = |name: Option<&Name>| {
            name.filter(|name| !name.is_empty())
                .cloned()
                .unwrap_or_else(|| "unknown".into())
        };
        Labels {
            kind,
            transport,
            service: name(client.map(|client| &client.canonical_name)),
            revision: name(client.map(|client| &client.canonical_revision)),
        }
    }
}

/// The counts of a node.
#[derive(Debug, Default)]
pub struct DnsMetrics(Mutex<BTreeMap<Labels, Counts>>);

#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    upstream: u64,
    failures: u64,
    /// Durations at most as long as each bound.
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
}

impl DnsMetrics {
    /// A question came.
    pub(super) fn asked(&self, labels: &Labels) {
        self.with(labels, |counts| counts.requests += 1);
    }

    /// A question was passed on, took so long, and was answered or not.
    pub(super) fn forwarded(&self, labels: &Labels, duration: Duration, answered: bool) {
        let seconds = duration.as_secs_f64();
        self.with(labels, |counts| {
            counts.upstream += 1;
            counts.failures += u64::from(!answered);
            counts.seconds += seconds;
            for (count, bound) in counts.buckets.iter_mut().zip(BUCKETS) {
                *count += u64::from(seconds <= bound);
            }
        });
    }

    fn with(&self, labels: &Labels, change: impl FnOnce(&mut Counts)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(labels) {
            Some(counts) => change(counts),
            None => change(all.entry(labels.clone()).or_default()),
        }
    }

    /// Appends all of them in the OpenMetrics text format.
    pub fn write(&self, out: &mut String) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counter = |name: &str, help: &str, value: fn(&Counts) -> u64| {
            head(out, name, help, "counter");
            for (labels, counts) in all.iter() {
                let _ = writeln!(out, "{name}_total{{{labels}}} {}", value(counts));
            }
        };
        counter("istio_dns_requests", "Total number of DNS requests", |counts| {
            counts.requests
        });
        counter(
            "istio_dns_upstream_requests",
            "Total number of DNS requests forwarded upstream",
            |counts| counts.upstream,
        );
        counter(
            "istio_dns_upstream_failures",
            "Total number of DNS requests forwarded upstream that failed",
            |counts| counts.failures,
        );
        let name = "istio_dns_upstream_request_duration_seconds";
        head(out, name, "Time it took to get an answer from upstream", "histogram");
        for (labels, counts) in all.iter().filter(|(_, counts)| counts.upstream > 0) {
            for (count, bound) in counts.buckets.iter().zip(BUCKETS) {
                let _ = writeln!(out, "{name}_bucket{{le=\"{bound:?}\",{labels}}} {count}");
            }
            let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\",{labels}}} {}", counts.upstream);
            let _ = writeln!(out, "{name}_sum{{{labels}}} {}", counts.seconds);
            let _ = writeln!(out, "{name}_count{{{labels}}} {}", counts.upstream);
        }
    }
}

impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let transport = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        write!(
            f,
            "request_query_type=\"{}\",request_protocol=\"{transport}\"",
            self.kind
        )?;
        write!(f, ",source_canonical_service=\"{}\"", escaped(&self.service))?;
        write!(f, ",source_canonical_revision=\"{}\"", escaped(&self.revision))
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DnsMetrics, Labels, Transport};

    #[test]
    fn counts_and_durations() {
        let metrics = DnsMetrics::default();
        let labels = Labels::new("A", Transport::Udp, None);
        metrics.asked(&labels);
        metrics.asked(&labels);
        metrics.forwarded(&labels, Duration::from_millis(2), true);
        metrics.forwarded(&labels, Duration::from_secs(9), false);
        let mut text = String::new();
        metrics.write(&mut text);
        let who = "request_query_type=\"A\",request_protocol=\"udp\",source_canonical_service=\"unknown\",source_canonical_revision=\"unknown\"";
        for line in [
            format!("istio_dns_requests_total{{{who}}} 2"),
            format!("istio_dns_upstream_requests_total{{{who}}} 2"),
            format!("istio_dns_upstream_failures_total{{{who}}} 1"),
            format!("istio_dns_upstream_request_duration_seconds_bucket{{le=\"0.001\",{who}}} 0"),
            format!("istio_dns_upstream_request_duration_seconds_bucket{{le=\"0.01\",{who}}} 1"),
            format!("istio_dns_upstream_request_duration_seconds_bucket{{le=\"+Inf\",{who}}} 2"),
            format!("istio_dns_upstream_request_duration_seconds_sum{{{who}}} 9.002"),
        ] {
            assert!(text.contains(&(line + "\n")), "{text}");
        }
    }
}
