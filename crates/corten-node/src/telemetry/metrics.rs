//! The node's metrics apart from those of connections, and all of them as text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::series::{Registry, label};
use crate::dns::DnsMetrics;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Up or down.
    pub fn add(&self, count: i64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// Is now.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// How many.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Counters by labels, for what happens seldom.
#[derive(Debug, Default)]
pub struct Family(Mutex<BTreeMap<String, u64>>);

impl Family {
    /// So many more of what has these labels.
    pub fn add(&self, labels: &[(&str, impl AsRef<str>)], count: u64) {
        let mut text = String::new();
        for (name, value) in labels {
            label(&mut text, name, value.as_ref());
        }
        *self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(text)
            .or_default() += count;
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        head(out, name, help, "counter");
        for (labels, value) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(out, "{name}_total{{{labels}}} {value}");
        }
    }
}

/// All metrics of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections.
    pub traffic: Arc<Registry>,
    /// Open sockets of the calling side and of the called side.
    pub sockets_open: [Gauge; 2],
    /// Pods served.
    pub proxies_active: Gauge,
    /// Pods that could not be started.
    pub proxies_pending: Gauge,
    /// Pods started.
    pub proxies_started: Counter,
    /// Pods stopped.
    pub proxies_stopped: Counter,
    /// Ends of discovery streams, by reason.
    pub xds_terminations: Family,
    /// Discovery messages, by type.
    pub xds_messages: Family,
    /// Bytes of discovery messages, by type.
    pub xds_bytes: Family,
    /// Names resolved for connections.
    pub on_demand_dns: Family,
    /// Questions of pods.
    pub dns: Arc<DnsMetrics>,
    /// Peers refused because their certificate was revoked, by reporter.
    pub crl_rejections: Family,
    /// Pods that had as much as they may, told at most every few seconds.
    pub limits: Family,
}

impl Metrics {
    /// Everything, in the OpenMetrics text format. `tag` is the version.
    pub fn text(&self, tag: &str) -> String {
        let mut out = String::with_capacity(16 << 10);
        head(&mut out, "istio_build", "Istio component build info", "gauge");
        let _ = writeln!(out, "istio_build{{component=\"ztunnel\",tag=\"{tag}\"}} 1");
        self.traffic.write(&mut out);
        head(
            &mut out,
            "istio_tcp_sockets_open",
            "The number of open sockets",
            "gauge",
        );
        for (reporter, gauge) in ["source", "destination"].iter().zip(&self.sockets_open) {
            let _ = writeln!(out, "istio_tcp_sockets_open{{reporter=\"{reporter}\"}} {}", gauge.get());
        }
        self.on_demand_dns
            .write(&mut out, "istio_on_demand_dns", "Names resolved for connections");
        self.crl_rejections.write(
            &mut out,
            "istio_crl_policy_rejections",
            "Peers refused because their certificate was revoked",
        );
        self.limits.write(
            &mut out,
            "corten_pod_limit_reached",
            "Pods that had as much as they may, at most once in ten seconds",
        );
        head(
            &mut out,
            "istio_crl_untracked_connections",
            "Connections that a later revocation would not close: none, all are known",
            "counter",
        );
        self.xds_terminations.write(
            &mut out,
            "istio_xds_connection_terminations",
            "The total number of completed connections to xds server",
        );
        self.xds_messages
            .write(&mut out, "istio_xds_message", "Total number of messages received");
        self.xds_bytes
            .write(&mut out, "istio_xds_message_bytes", "Total number of bytes received");
        let pods = [
            (
                "workload_manager_active_proxy_count",
                "The total number of active proxies",
                self.proxies_active.get(),
            ),
            (
                "workload_manager_pending_proxy_count",
                "The total number of pending proxies",
                self.proxies_pending.get(),
            ),
        ];
        for (name, help, value) in pods {
            head(&mut out, name, help, "gauge");
            let _ = writeln!(out, "{name} {value}");
        }
        let counts = [
            (
                "workload_manager_proxies_started",
                "The total number of proxies that were started",
                &self.proxies_started,
            ),
            (
                "workload_manager_proxies_stopped",
                "The total number of proxies that were stopped",
                &self.proxies_stopped,
            ),
        ];
        for (name, help, counter) in counts {
            head(&mut out, name, help, "counter");
            let _ = writeln!(out, "{name}_total {}", counter.get());
        }
        self.dns.write(&mut out);
        runtime(&mut out);
        process(&mut out);
        out.push_str("# EOF\n");
        out
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

/// The runtime of the control side; the data path has threads of its own, without one.
fn runtime(out: &mut String) {
    let Ok(handle) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let metrics = handle.metrics();
    for (name, help, value) in [
        (
            "tokio_num_workers",
            "Threads of the control side's runtime",
            metrics.num_workers(),
        ),
        (
            "tokio_num_alive_tasks",
            "Tasks of the control side",
            metrics.num_alive_tasks(),
        ),
        (
            "tokio_global_queue_depth",
            "Tasks that wait for a thread",
            metrics.global_queue_depth(),
        ),
    ] {
        head(out, name, help, "gauge");
        let _ = writeln!(out, "{name} {value}");
    }
    type Count = fn(&tokio::runtime::RuntimeMetrics, usize) -> u64;
    let counts: [(&str, &str, Count); 2] = [
        (
            "tokio_worker_park_count",
            "Times a thread had nothing to do",
            tokio::runtime::RuntimeMetrics::worker_park_count,
        ),
        (
            "tokio_worker_park_unpark_count",
            "Times a thread had nothing to do, and then something",
            tokio::runtime::RuntimeMetrics::worker_park_unpark_count,
        ),
    ];
    for (name, help, count) in counts {
        head(out, name, help, "counter");
        for worker in 0..metrics.num_workers() {
            let _ = writeln!(out, "{name}_total{{worker=\"{worker}\"}} {}", count(&metrics, worker));
        }
    }
    let busy = "tokio_worker_total_busy_duration_seconds";
    head(out, busy, "Time a thread had work", "counter");
    for worker in 0..metrics.num_workers() {
        let seconds = metrics.worker_total_busy_duration(worker).as_secs_f64();
        let _ = writeln!(out, "{busy}_total{{worker=\"{worker}\"}} {seconds}");
    }
}

/// What the kernel knows of this process.
fn process(out: &mut String) {
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        head(out, "process_open_fds", "Number of open file descriptors", "gauge");
        let _ = writeln!(out, "process_open_fds {}", files.count());
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    head(out, "process_max_fds", "Maximum number of file descriptors", "gauge");
    let _ = writeln!(out, "process_max_fds {}", limit.unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_a_type_for_each_name_and_an_end() {
        let metrics = Metrics::default();
        metrics.xds_messages.add(&[("url", "a\"b")], 2);
        metrics.sockets_open[0].add(3);
        let text = metrics.text("1.2.3");
        assert!(text.contains("istio_build{component=\"ztunnel\",tag=\"1.2.3\"} 1\n"));
        assert!(text.contains("istio_xds_message_total{url=\"a\\\"b\"} 2\n"));
        assert!(text.contains("istio_tcp_sockets_open{reporter=\"source\"} 3\n"));
        assert!(text.ends_with("# EOF\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = name.strip_suffix("_total").unwrap_or(name);
            assert!(text.contains(&format!("# TYPE {base} ")), "{name}");
        }
    }
}
