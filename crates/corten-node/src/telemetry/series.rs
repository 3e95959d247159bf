//! The counters of connections, `istio_tcp_*`: one set for each combination of labels, found once per connection.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use corten_core::Identity;
use corten_traffic::{Service, Workload};

use super::baggage::Baggage;
use super::failure::Flag;

/// The counters of one combination of labels.
#[derive(Debug, Default)]
pub struct Series {
    opened: AtomicU64,
    closed: AtomicU64,
    failed: AtomicU64,
    /// Client to server.
    received: AtomicU64,
    /// Server to client.
    sent: AtomicU64,
}

impl Series {
    /// A connection was opened.
    pub fn open(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    /// A connection was closed.
    pub fn close(&self, failed: bool) {
        self.closed.fetch_add(1, Relaxed);
        if failed {
            self.failed.fetch_add(1, Relaxed);
        }
    }

    /// A connection failed before anybody could think it open.
    pub fn refuse(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// Bytes passed, from client to server and from server to client.
    pub fn add(&self, received: u64, sent: u64) {
        if received > 0 {
            self.received.fetch_add(received, Relaxed);
        }
        if sent > 0 {
            self.sent.fetch_add(sent, Relaxed);
        }
    }
}

/// Which proxy reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The caller's.
    Source,
    /// The called one's.
    Destination,
}

impl Reporter {
    /// As the label is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        }
    }
}

/// What the labels are made of.
#[derive(Clone, Copy, Debug)]
pub struct Parties<'a> {
    /// Who reports.
    pub reporter: Reporter,
    /// The workload that calls.
    pub source: Option<&'a Arc<Workload>>,
    /// What it says it is, where it is not known.
    pub source_baggage: Option<&'a Baggage>,
    /// Who it is by its certificate.
    pub source_identity: Option<&'a Arc<Identity>>,
    /// The workload that is called.
    pub destination: Option<&'a Arc<Workload>>,
    /// What it says it is, where it is not known.
    pub destination_baggage: Option<&'a Baggage>,
    /// The service that was meant.
    pub service: Option<&'a Arc<Service>>,
    /// The connection is mutual TLS.
    pub secure: bool,
}

/// All series, by the text of their labels.
#[derive(Debug, Default)]
pub struct Registry {
    series: Mutex<HashMap<Box<str>, Arc<Series>>>,
}

impl Registry {
    fn find(&self, labels: String) -> Arc<Series> {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        series.entry(labels.into()).or_default().clone()
    }

    /// Writes all of them in the text format.
    pub fn write(&self, out: &mut String) {
        type Counter = fn(&Series) -> &AtomicU64;
        let counters: [(&str, &str, Counter); 5] = [
            ("istio_tcp_connections_opened", "connections opened", |s| &s.opened),
            ("istio_tcp_connections_closed", "connections closed", |s| &s.closed),
            ("istio_tcp_received_bytes", "bytes from client to server", |s| {
                &s.received
            }),
            ("istio_tcp_sent_bytes", "bytes from server to client", |s| &s.sent),
            ("istio_tcp_connections_failed", "connections failed", |s| &s.failed),
        ];
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, help, counter) in counters {
            let _ = writeln!(
                out,
                "# HELP {name} The total number of TCP {help}.\n# TYPE {name} counter"
            );
            for (labels, series) in series.iter() {
                let value = counter(series).load(Relaxed);
                if value > 0 {
                    let _ = writeln!(out, "{name}_total{{{labels}}} {value}");
                }
            }
        }
    }
}

/// What a shard remembers of the registry, so that a connection costs no text.
pub struct Cache {
    registry: Arc<Registry>,
    known: HashMap<Key, Known>,
}

/// Addresses of what is kept alive in [`Known`].
#[derive(PartialEq, Eq, Hash)]
struct Key {
    reporter: Reporter,
    secure: bool,
    source: usize,
    identity: usize,
    destination: usize,
    service: usize,
}

struct Known {
    series: Arc<Series>,
    _source: Option<Arc<Workload>>,
    _identity: Option<Arc<Identity>>,
    _destination: Option<Arc<Workload>>,
    _service: Option<Arc<Service>>,
}

/// How many combinations a shard remembers; beyond, it begins anew.
const KNOWN_MAX: usize = 1024;

impl Cache {
    /// Of a registry.
    pub fn new(registry: Arc<Registry>) -> Cache {
        let known = HashMap::new();
        Cache { registry, known }
    }

    /// The counters of a connection.
    pub fn series(&mut self, parties: &Parties<'_>, flag: Flag) -> Arc<Series> {
        if flag != Flag::None || parties.source_baggage.is_some() || parties.destination_baggage.is_some() {
            return self.registry.find(labels(parties, flag));
        }
        fn address<T>(value: Option<&Arc<T>>) -> usize {
            value.map_or(0, |value| Arc::as_ptr(value).addr())
        }
        let key = Key {
            reporter: parties.reporter,
            secure: parties.secure,
            source: address(parties.source),
            identity: address(parties.source_identity),
            destination: address(parties.destination),
            service: address(parties.service),
        };
        if let Some(known) = self.known.get(&key) {
            return known.series.clone();
        }
        let series = self.registry.find(labels(parties, flag));
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(
            key,
            Known {
                series: series.clone(),
                _source: parties.source.cloned(),
                _identity: parties.source_identity.cloned(),
                _destination: parties.destination.cloned(),
                _service: parties.service.cloned(),
            },
        );
        series
    }
}

/// The labels of one side.
struct SideLabels<'a> {
    workload: &'a str,
    service: &'a str,
    revision: &'a str,
    namespace: &'a str,
    app: &'a str,
    cluster: &'a str,
    region: &'a str,
    zone: &'a str,
}

impl<'a> SideLabels<'a> {
    fn of(workload: Option<&'a Arc<Workload>>, baggage: Option<&'a Baggage>) -> SideLabels<'a> {
        fn text(value: &Option<String>) -> &str {
            value.as_deref().unwrap_or("")
        }
        match (workload, baggage) {
            (Some(w), _) => SideLabels {
                workload: &w.workload_name,
                service: &w.canonical_name,
                revision: &w.canonical_revision,
                namespace: &w.namespace,
                app: &w.canonical_name,
                cluster: &w.cluster,
                region: &w.locality.region,
                zone: &w.locality.zone,
            },
            (None, Some(b)) => SideLabels {
                workload: text(&b.workload),
                service: text(&b.service),
                revision: text(&b.revision),
                namespace: text(&b.namespace),
                app: text(&b.workload),
                cluster: text(&b.cluster),
                region: text(&b.region),
                zone: text(&b.zone),
            },
            (None, None) => SideLabels {
                workload: "",
                service: "",
                revision: "",
                namespace: "",
                app: "",
                cluster: "",
                region: "",
                zone: "",
            },
        }
    }
}

/// The labels as text, in Istio's order.
fn labels(parties: &Parties<'_>, flag: Flag) -> String {
    let mut out = String::with_capacity(1024);
    let source = SideLabels::of(parties.source, parties.source_baggage);
    let destination = SideLabels::of(parties.destination, parties.destination_baggage);
    let identity = |identity: Option<&Identity>| identity.map(ToString::to_string).unwrap_or_default();
    let source_principal = identity(parties.source_identity.map(AsRef::as_ref));
    let destination_principal = identity(parties.destination.map(|workload| &*workload.identity));
    let service = parties.service;
    let pairs = [
        ("reporter", parties.reporter.as_str()),
        ("source_workload", source.workload),
        ("source_canonical_service", source.service),
        ("source_canonical_revision", source.revision),
        ("source_workload_namespace", source.namespace),
        ("source_principal", &source_principal),
        ("source_app", source.app),
        ("source_version", source.revision),
        ("source_cluster", source.cluster),
        ("destination_service", service.map_or("", |service| &service.hostname)),
        (
            "destination_service_namespace",
            service.map_or("", |service| &service.namespace),
        ),
        ("destination_service_name", service.map_or("", |service| &service.name)),
        ("destination_workload", destination.workload),
        ("destination_canonical_service", destination.service),
        ("destination_canonical_revision", destination.revision),
        ("destination_workload_namespace", destination.namespace),
        ("destination_principal", &destination_principal),
        ("destination_app", destination.app),
        ("destination_version", destination.revision),
        ("destination_cluster", destination.cluster),
        ("request_protocol", "tcp"),
        ("response_flags", flag.as_str()),
        (
            "connection_security_policy",
            if parties.secure { "mutual_tls" } else { "unknown" },
        ),
    ];
    for (name, value) in pairs {
        label(&mut out, name, value);
    }
    // Left out together where nothing is known of any place, so that meshes without localities have no empty labels.
    let places = [
        ("source_region", source.region),
        ("source_zone", source.zone),
        ("destination_region", destination.region),
        ("destination_zone", destination.zone),
    ];
    if places.iter().any(|(_, value)| !value.is_empty()) {
        for (name, value) in places {
            label(&mut out, name, value);
        }
    }
    out
}

/// Adds a label; what is missing is `unknown`.
pub(crate) fn label(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    for character in if value.is_empty() { "unknown" } else { value }.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn nobody() -> Parties<'static> {
        Parties {
            reporter: Reporter::Source,
            source: None,
            source_baggage: None,
            source_identity: None,
            destination: None,
            destination_baggage: None,
            service: None,
            secure: false,
        }
    }

    #[test]
    fn what_is_missing_is_unknown_and_places_are_left_out() {
        expect![[r#"reporter="source",source_workload="unknown",source_canonical_service="unknown",source_canonical_revision="unknown",source_workload_namespace="unknown",source_principal="unknown",source_app="unknown",source_version="unknown",source_cluster="unknown",destination_service="unknown",destination_service_namespace="unknown",destination_service_name="unknown",destination_workload="unknown",destination_canonical_service="unknown",destination_canonical_revision="unknown",destination_workload_namespace="unknown",destination_principal="unknown",destination_app="unknown",destination_version="unknown",destination_cluster="unknown",request_protocol="tcp",response_flags="DENY",connection_security_policy="unknown""#]]
        .assert_eq(&labels(&nobody(), Flag::Deny));
    }

    #[test]
    fn baggage_names_the_app_by_its_workload() {
        let baggage = Baggage {
            workload: Some("web\"1".into()),
            region: Some("r".into()),
            ..Baggage::default()
        };
        let text = labels(
            &Parties {
                source_baggage: Some(&baggage),
                ..nobody()
            },
            Flag::None,
        );
        assert!(text.contains(r#"source_app="web\"1","#), "{text}");
        assert!(
            text.ends_with(
                r#"source_region="r",source_zone="unknown",destination_region="unknown",destination_zone="unknown""#
            ),
            "{text}"
        );
    }

    #[test]
    fn a_combination_is_counted_once_and_only_what_happened_is_written() {
        let registry = Arc::new(Registry::default());
        let mut cache = Cache::new(registry.clone());
        cache.series(&nobody(), Flag::None).open();
        cache.series(&nobody(), Flag::None).open();
        cache.series(&nobody(), Flag::Deny).close(true);
        let mut text = String::new();
        registry.write(&mut text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("istio_tcp_connections_opened_total{reporter=") && lines[0].ends_with(" 2"));
        assert!(lines[2].starts_with("istio_tcp_connections_failed_total{"));
    }
}
