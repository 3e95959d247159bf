//! The control plane's metrics, under istiod's names, in Prometheus' text form.
//!
//! Written here rather than with a metrics library, since those append `_total` to counters, which most of istiod's names do not have.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, WORKLOAD_TYPE};

/// A number that goes up, or is set.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Numbers by the value of one label.
#[derive(Debug, Default)]
pub(crate) struct Family(Mutex<BTreeMap<String, u64>>);

impl Family {
    pub(crate) fn add(&self, label: &str, more: u64) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match values.get_mut(label) {
            Some(value) => *value += more,
            None => {
                values.insert(label.to_owned(), more);
            }
        }
    }

    fn values(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long things took, or how large they were.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    buckets: Vec<AtomicU64>,
    /// In millionths.
    sum: AtomicU64,
}

const SECONDS: &[f64] = &[0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];
const SECONDS_FINE: &[f64] = &[0.01, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];
const BYTES: &[f64] = &[1.0, 10_000.0, 1_000_000.0, 4_000_000.0, 10_000_000.0, 40_000_000.0];

impl Histogram {
    fn new(bounds: &'static [f64]) -> Histogram {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram {
            bounds,
            buckets,
            sum: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    pub(crate) fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let mut count = 0;
        let comma = if labels.is_empty() { "" } else { "," };
        let bounds = self.bounds.iter().map(|bound| bound.to_string());
        for (bucket, bound) in self.buckets.iter().zip(bounds.chain(["+Inf".to_owned()])) {
            count += bucket.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
        }
        let braces = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let sum = self.sum.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{name}_sum{braces} {sum}\n{name}_count{braces} {count}");
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Clients connected.
    pub(crate) clients: Number,
    /// Responses sent, by short type.
    pub(crate) pushes: Family,
    /// Size of responses.
    pub(crate) config_size: Histogram,
    /// From the first event of a change until a client is sent it.
    pub(crate) convergence: Histogram,
    /// From the first event until the push begins.
    pub(crate) debounce: Histogram,
    /// Computing a push.
    pub(crate) push_time: Histogram,
    /// Pushes by what led to them.
    pub(crate) triggers: Family,
    /// Rejections by short type.
    pub(crate) rejects: Family,
    /// Acknowledgements of responses that are not the last.
    pub(crate) expired_nonces: Family,
    /// Streams that ended with an error of ours.
    pub(crate) internal_errors: Number,
    /// Clients that were refused.
    pub(crate) authentication_failures: Number,
    /// Answers of the addresses of issuers' keys.
    pub(crate) key_fetches: Number,
    /// Such that did not come.
    pub(crate) key_fetch_failures: Number,
    /// Services known.
    pub(crate) services: Number,
    /// Events of objects, by kind and what happened.
    pub(crate) events: Family,
    /// Largest request.
    pub(crate) received_max: Number,
    /// Objects that passed validation, by resource.
    pub(crate) validation_passed: Family,
    /// Objects that were refused, by resource.
    pub(crate) validation_failed: Family,
    /// Requests for validation that were none.
    pub(crate) validation_http_errors: Number,
    /// Pods that were to be injected, or not.
    pub(crate) injection_requests: Number,
    /// Pods that got a proxy.
    pub(crate) injection_success: Number,
    /// Pods that could not be made.
    pub(crate) injection_failures: Number,
    /// Pods that get none.
    pub(crate) injection_skipped: Number,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        Metrics {
            clients: Number::default(),
            pushes: Family::default(),
            config_size: Histogram::new(BYTES),
            convergence: Histogram::new(SECONDS),
            debounce: Histogram::new(SECONDS_FINE),
            push_time: Histogram::new(SECONDS_FINE),
            triggers: Family::default(),
            rejects: Family::default(),
            expired_nonces: Family::default(),
            internal_errors: Number::default(),
            authentication_failures: Number::default(),
            key_fetches: Number::default(),
            key_fetch_failures: Number::default(),
            services: Number::default(),
            events: Family::default(),
            received_max: Number::default(),
            validation_passed: Family::default(),
            validation_failed: Family::default(),
            validation_http_errors: Number::default(),
            injection_requests: Number::default(),
            injection_success: Number::default(),
            injection_failures: Number::default(),
            injection_skipped: Number::default(),
        }
    }

    /// In Prometheus' text form; `version` and `uptime` are of this process.
    pub(crate) fn render(&self, version: &str, uptime: Duration) -> String {
        let mut text = String::with_capacity(4096);
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let gauge = |text: &mut String, name: &str, labels: &str, help: &str, value: f64| {
            head(text, name, "gauge", help);
            let _ = writeln!(text, "{name}{labels} {value}");
        };
        let labels = format!("{{component=\"pilot\",tag=\"{version}\"}}");
        gauge(&mut text, "istio_build", &labels, "Istio component build info", 1.0);
        let labels = format!("{{version=\"{version}\"}}");
        gauge(
            &mut text,
            "pilot_info",
            &labels,
            "Pilot version and build information.",
            1.0,
        );
        gauge(
            &mut text,
            "istiod_uptime_seconds",
            "",
            "Current istiod server uptime in seconds",
            uptime.as_secs_f64(),
        );
        let clients = self.clients.get() as f64;
        gauge(
            &mut text,
            "pilot_xds",
            &labels,
            "Number of endpoints connected to this pilot using XDS.",
            clients,
        );
        let services = self.services.get() as f64;
        gauge(
            &mut text,
            "pilot_services",
            "",
            "Total services known to pilot.",
            services,
        );
        let received = self.received_max.get() as f64;
        gauge(
            &mut text,
            "pilot_xds_recv_max",
            "",
            "The largest XDS request seen.",
            received,
        );

        let counter = |text: &mut String, name: &str, help: &str, value: u64| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
        };
        counter(
            &mut text,
            "pilot_total_xds_internal_errors",
            "Total number of internal XDS errors in pilot.",
            self.internal_errors.get(),
        );
        counter(
            &mut text,
            "pilot_xds_authentication_failures",
            "Discovery clients that were refused.",
            self.authentication_failures.get(),
        );
        for (name, help, number) in [
            (
                "sidecar_injection_requests_total",
                "Total number of sidecar injection requests.",
                &self.injection_requests,
            ),
            (
                "sidecar_injection_success_total",
                "Total number of successful sidecar injection requests.",
                &self.injection_success,
            ),
            (
                "sidecar_injection_failure_total",
                "Total number of failed sidecar injection requests.",
                &self.injection_failures,
            ),
            (
                "sidecar_injection_skip_total",
                "Total number of skipped sidecar injection requests.",
                &self.injection_skipped,
            ),
        ] {
            counter(&mut text, name, help, number.get());
        }
        counter(
            &mut text,
            "pilot_jwks_resolver_network_fetch_success_total",
            "Answers of issuers of tokens that held keys.",
            self.key_fetches.get(),
        );
        counter(
            &mut text,
            "pilot_jwks_resolver_network_fetch_fail_total",
            "Questions to issuers of tokens that brought no keys.",
            self.key_fetch_failures.get(),
        );
        counter(
            &mut text,
            "galley_validation_http_error",
            "Resource validation http serve errors",
            self.validation_http_errors.get(),
        );
        for (name, help, family, label) in [
            (
                "galley_validation_passed",
                "Resource is valid",
                &self.validation_passed,
                "resource",
            ),
            (
                "galley_validation_failed",
                "Resource validation failed",
                &self.validation_failed,
                "resource",
            ),
            (
                "pilot_xds_pushes",
                "Pilot build and send errors for lds, rds, cds and eds.",
                &self.pushes,
                "type",
            ),
            (
                "pilot_total_xds_rejects",
                "Total number of XDS responses from pilot rejected by proxy.",
                &self.rejects,
                "type",
            ),
            (
                "pilot_xds_expired_nonce",
                "Total number of XDS requests with an expired nonce.",
                &self.expired_nonces,
                "type",
            ),
            (
                "pilot_push_triggers",
                "Total number of times a push was triggered, labeled by reason for the push.",
                &self.triggers,
                "type",
            ),
            (
                "pilot_k8s_events",
                "Events of Kubernetes objects.",
                &self.events,
                "type",
            ),
        ] {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            for (value, count) in family.values() {
                let _ = writeln!(text, "{name}{{{label}=\"{value}\"}} {count}");
            }
        }
        for (name, help, histogram, labels) in [
            (
                "pilot_proxy_convergence_time",
                "Delay in seconds between config change and a proxy receiving all required configuration.",
                &self.convergence,
                "",
            ),
            (
                "pilot_debounce_time",
                "Delay in seconds between the first config enters debouncing and the merged push request is pushed into the push queue.",
                &self.debounce,
                "",
            ),
            (
                "pilot_xds_push_time",
                "Total time in seconds Pilot takes to push lds, rds, cds and eds.",
                &self.push_time,
                "type=\"wds\"",
            ),
            (
                "pilot_xds_config_size_bytes",
                "Distribution of configuration sizes pushed to clients.",
                &self.config_size,
                "",
            ),
        ] {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
            histogram.write(&mut text, name, labels);
        }
        text
    }
}

/// The authority's counters and the ends of its certificates, under istiod's names.
pub(crate) fn authority(values: &corten_ca::MetricsValues, published: &corten_ca::Published) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("citadel_server_csr_count", values.citadel_server_csr_count),
        (
            "citadel_server_authentication_failure_count",
            values.citadel_server_authentication_failure_count,
        ),
        (
            "citadel_server_csr_parsing_err_count",
            values.citadel_server_csr_parsing_err_count,
        ),
        (
            "citadel_server_id_extraction_err_count",
            values.citadel_server_id_extraction_err_count,
        ),
        (
            "citadel_server_csr_sign_err_count",
            values.citadel_server_csr_sign_err_count,
        ),
        (
            "citadel_server_success_cert_issuance_count",
            values.citadel_server_success_cert_issuance_count,
        ),
        (
            "citadel_server_root_rotation_count",
            values.citadel_server_root_rotation_count,
        ),
    ] {
        let _ = writeln!(text, "# TYPE {name} counter\n{name} {value}");
    }
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    };
    let end = seconds(published.signer.not_after());
    let left = published
        .signer
        .not_after()
        .duration_since(SystemTime::now())
        .unwrap_or_default()
        .as_secs();
    for (name, value) in [
        ("citadel_server_root_cert_expiry_timestamp", end),
        ("citadel_server_root_cert_expiry_seconds", left),
        ("citadel_server_cert_chain_expiry_timestamp", end),
        ("citadel_server_cert_chain_expiry_seconds", left),
    ] {
        let _ = writeln!(text, "# TYPE {name} gauge\n{name} {value}");
    }
    text
}

/// A type as metrics and tools call it.
pub(crate) fn short_type(type_url: &str) -> &str {
    match type_url {
        ADDRESS_TYPE | WORKLOAD_TYPE => "wds",
        AUTHORIZATION_TYPE => "wads",
        "type.googleapis.com/envoy.config.cluster.v3.Cluster" => "cds",
        "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment" => "eds",
        "type.googleapis.com/envoy.config.listener.v3.Listener" => "lds",
        "type.googleapis.com/envoy.config.route.v3.RouteConfiguration" => "rds",
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret" => "sds",
        "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig" => "ecds",
        "type.googleapis.com/istio.networking.nds.v1.NameTable" => "nds",
        "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig" => "pcds",
        // A client chooses it, so it is no label.
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_istiods() {
        let metrics = Metrics::new();
        metrics.pushes.add("wds", 3);
        metrics.convergence.observe(0.2);
        metrics.convergence.observe(100.0);
        let text = metrics.render("1.2.3", Duration::from_secs(5));
        for line in [
            "istio_build{component=\"pilot\",tag=\"1.2.3\"} 1",
            "pilot_xds{version=\"1.2.3\"} 0",
            "pilot_xds_pushes{type=\"wds\"} 3",
            "pilot_proxy_convergence_time_bucket{le=\"0.1\"} 0",
            "pilot_proxy_convergence_time_bucket{le=\"0.5\"} 1",
            "pilot_proxy_convergence_time_bucket{le=\"+Inf\"} 2",
            "pilot_proxy_convergence_time_sum 100.2",
            "pilot_xds_push_time_count{type=\"wds\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
