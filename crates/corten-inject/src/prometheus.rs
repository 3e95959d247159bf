//! Metrics of the application and the proxy at one port: what scrapers are told is kept for the proxy, and leads to it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::injector::InjectError;
use crate::object::{annotation, metadata_mut, proxy_mut, push_env, truth};

const MERGE: &str = "prometheus.istio.io/merge-metrics";
/// The variable that tells the proxy where the application's metrics are.
const VARIABLE: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";
/// Ports of the proxy that hold no metrics of an application.
const RESERVED: [(u16, &str); 9] = [
    (15000, "Envoy's administration"),
    (15001, "outbound traffic"),
    (15004, "debugging of the control plane"),
    (15006, "inbound traffic"),
    (15008, "tunnels"),
    (15020, "status and merged metrics"),
    (15021, "health"),
    (15053, "names"),
    (15090, "Envoy's metrics, merged already"),
];

/// The annotations about metrics, by their meaning; scrapers take any sign between the words.
fn told(pod: &Value) -> BTreeMap<&'static str, (String, String)> {
    let entries = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let known = entries.filter_map(|(name, value)| {
        let plain: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let meaning = match plain.as_str() {
            "prometheus_io_scrape" => "scrape",
            "prometheus_io_port" => "port",
            "prometheus_io_path" => "path",
            "prometheus_istio_io_scrape_targets" => "targets",
            _ => return None,
        };
        Some((meaning, (name.clone(), value.as_str()?.to_owned())))
    });
    known.collect()
}

fn clear(pod: &mut Value) {
    let names: Vec<String> = told(pod).into_values().map(|(name, _)| name).collect();
    let annotations = metadata_mut(pod, "annotations");
    for name in names {
        annotations.remove(&name);
    }
    // Several spellings of one meaning are several annotations.
    if !told(pod).is_empty() {
        clear(pod);
    }
}

/// Takes away what an earlier injection put there.
pub(crate) fn restore(pod: &mut Value, status_port: &str) {
    if told(pod).get("port").is_some_and(|(_, port)| port == status_port) {
        clear(pod);
    }
}

/// Leads scrapers to the proxy.
pub(crate) fn merge(pod: &mut Value, mesh: &Value, status_port: &str) -> Result<(), InjectError> {
    let told = told(pod);
    let value = |name: &str| told.get(name).map(|(_, value)| value.clone());
    let unwanted = value("scrape").and_then(|value| truth(&value)) == Some(false);
    let wanted = annotation(pod, MERGE).and_then(truth);
    let wanted = wanted.unwrap_or_else(|| mesh["enablePrometheusMerge"].as_bool().unwrap_or(true));
    if unwanted || !wanted || value("port").as_deref() == Some(status_port) {
        return Ok(());
    }
    let targets = targets(&value("targets").unwrap_or_default());
    let check = |port: &str| {
        let number = port.parse::<u16>().ok().filter(|port| *port > 0);
        let number = number.ok_or_else(|| InjectError::Metrics(format!("invalid port '{port}'")))?;
        if number.to_string() == status_port {
            return Err(InjectError::Metrics(format!("port {number} conflicts with agent port")));
        }
        match RESERVED.iter().find(|(reserved, _)| *reserved == number) {
            Some((_, what)) => Err(InjectError::Metrics(format!("port {number} is reserved for {what}"))),
            None => Ok(()),
        }
    };
    for (port, _) in &targets {
        check(port)?;
    }
    let first = targets.first().cloned();
    let (port, path) = match first {
        Some((port, path)) => (port, path),
        None => (value("port").unwrap_or_default(), value("path").unwrap_or_default()),
    };
    if targets.is_empty() && !port.is_empty() {
        check(&port)?;
    }
    let scrape = value("scrape").unwrap_or_default();
    let said_anything = !(scrape.is_empty() && path.is_empty() && port.is_empty() && targets.is_empty());
    let mut kept = json!({"scrape": scrape, "path": path, "port": port});
    if !targets.is_empty() {
        let listed = targets.iter().map(|(port, path)| json!({"port": port, "path": path}));
        kept["targets"] = listed.collect();
    }
    if said_anything && let Some(proxy) = proxy_mut(pod) {
        push_env(proxy, VARIABLE, &kept.to_string());
    }
    clear(pod);
    let annotations = metadata_mut(pod, "annotations");
    for (name, value) in [("port", status_port), ("path", "/stats/prometheus"), ("scrape", "true")] {
        annotations.insert(format!("prometheus.io/{name}"), json!(value));
    }
    Ok(())
}

/// `PORT:PATH` with commas between; a path that is not said is `/metrics`.
fn targets(text: &str) -> Vec<(String, String)> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let split = entries.map(|entry| {
        let (port, path) = entry.split_once(':').unwrap_or((entry, ""));
        let path = Some(path.trim()).filter(|path| !path.is_empty()).unwrap_or("/metrics");
        (port.trim().to_owned(), path.to_owned())
    });
    let split: Vec<(String, String)> = split.collect();
    // One that is none makes the whole list none, as scrapers would get half of it.
    if split.iter().any(|(port, _)| port.is_empty()) {
        Vec::new()
    } else {
        split
    }
}
