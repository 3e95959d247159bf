//! What a pod's annotations may say: half a redirection, or none, would pass unnoticed.

use corten_core::Duration;
use serde_json::Value;

use crate::object::{PROXY_CONFIG, STATUS_PORT, truth};

/// What is wrong with the annotations, one line each, in the order of their names.
pub(crate) fn problems(annotations: &Value) -> Vec<String> {
    let entries = annotations.as_object().into_iter().flatten();
    let wrong = entries.filter_map(|(name, value)| {
        let value = value.as_str()?;
        let problem = problem(name, value)?;
        Some(format!("invalid value '{value}' for annotation '{name}': {problem}"))
    });
    wrong.collect()
}

fn problem(name: &str, value: &str) -> Option<String> {
    let number = |value: &str| match value.parse::<u32>() {
        Ok(_) => None,
        Err(_) => Some(format!("'{value}' is not a number")),
    };
    if let Some(setting) = name.strip_prefix("traffic.sidecar.istio.io/") {
        let found = match setting {
            "includeOutboundIPRanges" if value == "*" => None,
            "includeOutboundIPRanges" | "excludeOutboundIPRanges" => ranges(value),
            "includeInboundPorts" if value == "*" => None,
            "includeInboundPorts" | "excludeInboundPorts" | "excludeOutboundPorts" => ports(value),
            "excludeInterfaces" | "kubevirtInterfaces" => interfaces(value),
            _ => None,
        };
        return found.map(|found| {
            // Istio's names in its messages, for whoever looks for them.
            let parameter = match setting {
                "includeOutboundIPRanges" => "includeIPRanges",
                "excludeOutboundIPRanges" => "excludeIPRanges",
                other => other,
            };
            format!("{parameter} invalid: {found}")
        });
    }
    match name {
        "sidecar.istio.io/interceptionMode" if !["REDIRECT", "TPROXY", "NONE"].contains(&value) => {
            Some("it is not REDIRECT, TPROXY or NONE".to_owned())
        }
        STATUS_PORT => port(value),
        "readiness.status.sidecar.istio.io/initialDelaySeconds"
        | "readiness.status.sidecar.istio.io/periodSeconds"
        | "readiness.status.sidecar.istio.io/failureThreshold" => number(value),
        "istio.io/reroute-virtual-interfaces" => interfaces(value),
        "prometheus.istio.io/merge-metrics" if truth(value).is_none() => {
            Some("it is neither true nor false".to_owned())
        }
        PROXY_CONFIG => proxy_config(value).err(),
        "sidecar.istio.io/proxyCPU"
        | "sidecar.istio.io/proxyMemory"
        | "sidecar.istio.io/proxyCPULimit"
        | "sidecar.istio.io/proxyMemoryLimit" => quantity(value),
        _ => None,
    }
}

fn ranges(value: &str) -> Option<String> {
    let mut ranges = value.split(',').filter(|_| !value.is_empty());
    let wrong = ranges.find(|range| range.parse::<ipnet::IpNet>().is_err())?;
    Some(format!("'{wrong}' is not an address with a prefix length"))
}

fn port(value: &str) -> Option<String> {
    let wrong = value.trim().parse::<u16>().is_err();
    wrong.then(|| format!("'{value}' is not a port"))
}

fn ports(value: &str) -> Option<String> {
    let value = value.trim();
    value.split(',').filter(|_| !value.is_empty()).find_map(port)
}

fn interfaces(value: &str) -> Option<String> {
    let fits = |name: &str| {
        let name = name.trim();
        let sound = |c: char| !c.is_whitespace() && !c.is_control() && !"/:\"'`$;&|<>\\".contains(c);
        !name.is_empty() && name.len() < 16 && name.chars().all(sound)
    };
    let mut names = value.split(',').filter(|_| !value.is_empty());
    let wrong = names.find(|name| !fits(name))?;
    Some(format!("'{wrong}' is not the name of an interface"))
}

/// A quantity of Kubernetes: a decimal number with a suffix.
fn quantity(value: &str) -> Option<String> {
    let digits = value.trim_start_matches(['+', '-']);
    let end = digits
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let known = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .is_some_and(|power| power.parse::<i32>().is_ok());
    let fits =
        number.parse::<f64>().is_ok() && value.len() - digits.len() <= 1 && (known.contains(&suffix) || exponent);
    (!fits).then(|| format!("'{value}' is not a quantity, as in 100m or 128Mi"))
}

/// Reads a configuration of a proxy from YAML, and looks at what it says.
pub(crate) fn proxy_config(text: &str) -> Result<Value, String> {
    let (root, diagnostics) = corten_api::decode::document(PROXY_CONFIG, text);
    if let Some(wrong) = diagnostics.iter().find(|diagnostic| diagnostic.is_error()) {
        return Err(wrong.message.clone());
    }
    let value = root.map_or(Value::Null, |root| root.to_value());
    if !value.is_object() && !value.is_null() {
        return Err("it is not a configuration of a proxy".to_owned());
    }
    for name in ["drainDuration", "terminationDrainDuration"] {
        if let Some(text) = value[name].as_str()
            && Duration::parse_argument(text).is_err()
        {
            return Err(format!("{name}: '{text}' is not a duration"));
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(name: &str, value: &str, part: Option<&str>) {
        let found = problems(&json!({name: value}));
        match (found.first(), part) {
            (None, None) => {}
            (Some(found), Some(part)) => assert!(found.contains(part), "{found}"),
            other => panic!("{name}={value}: {other:?}"),
        }
    }

    #[test]
    fn values_are_looked_at() {
        let traffic = |name: &str| format!("traffic.sidecar.istio.io/{name}");
        check(&traffic("includeOutboundIPRanges"), "*", None);
        check(&traffic("includeOutboundIPRanges"), "10.0.0.0/8,fd00::/8", None);
        check(
            &traffic("includeOutboundIPRanges"),
            "10.0.0.0",
            Some("includeIPRanges invalid"),
        );
        check(&traffic("includeInboundPorts"), "80, 443", None);
        check(
            &traffic("includeInboundPorts"),
            "bad",
            Some("includeInboundPorts invalid"),
        );
        check(&traffic("excludeInboundPorts"), "*", Some("'*' is not a port"));
        check(&traffic("excludeInterfaces"), "net1,a b", Some("'a b'"));
        check("sidecar.istio.io/interceptionMode", "NONE", None);
        check("sidecar.istio.io/interceptionMode", "ALL", Some("REDIRECT"));
        check("sidecar.istio.io/proxyCPU", "100m", None);
        check("sidecar.istio.io/proxyMemory", "1e3", None);
        check("sidecar.istio.io/proxyMemory", "1Mb", Some("quantity"));
        check(PROXY_CONFIG, "concurrency: 1", None);
        check(PROXY_CONFIG, "[1]", Some("not a configuration"));
        check(PROXY_CONFIG, "drainDuration: soon", Some("not a duration"));
        check("somebody.example/else", "anything", None);
    }
}
