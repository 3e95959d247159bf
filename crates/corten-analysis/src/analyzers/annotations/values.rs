//! What the values of annotations may be, for those that injection reads.

use corten_api::codec::{Cx, decode_over};
use corten_api::decode::document;
use corten_api::validate::{Report, mesh_config::default_proxy_config, mesh_proxy_config};
use ipnet::IpNet;

/// Whether an annotation may have a value; every value is good for those that nobody reads closely.
pub(super) fn check(name: &str, value: &str) -> Result<(), String> {
    match name {
        "sidecar.istio.io/interceptionMode" => match value {
            "REDIRECT" | "TPROXY" | "NONE" => Ok(()),
            other => Err(format!("interceptionMode invalid, use REDIRECT,TPROXY,NONE: {other}")),
        },
        "status.sidecar.istio.io/port" => port(value),
        "readiness.status.sidecar.istio.io/initialDelaySeconds"
        | "readiness.status.sidecar.istio.io/periodSeconds"
        | "readiness.status.sidecar.istio.io/failureThreshold" => match value.parse::<u32>() {
            Ok(_) if !value.starts_with('+') => Ok(()),
            _ => Err(format!("{value:?} is not a number of 0 or more")),
        },
        "traffic.sidecar.istio.io/includeOutboundIPRanges" if value == "*" => Ok(()),
        "traffic.sidecar.istio.io/includeOutboundIPRanges" => named("includeIPRanges", ranges(value)),
        "traffic.sidecar.istio.io/excludeOutboundIPRanges" => named("excludeIPRanges", ranges(value)),
        "traffic.sidecar.istio.io/includeInboundPorts" if value == "*" => Ok(()),
        "traffic.sidecar.istio.io/includeInboundPorts" => named("includeInboundPorts", ports(value)),
        "traffic.sidecar.istio.io/excludeInboundPorts" => named("excludeInboundPorts", ports(value)),
        "traffic.sidecar.istio.io/excludeOutboundPorts" => named("excludeOutboundPorts", ports(value)),
        "traffic.sidecar.istio.io/excludeInterfaces"
        | "traffic.sidecar.istio.io/kubevirtInterfaces"
        | "istio.io/reroute-virtual-interfaces" => interfaces(value),
        "prometheus.istio.io/merge-metrics" => match value {
            "1" | "t" | "T" | "TRUE" | "true" | "True" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(()),
            _ => Err(format!("{value:?} is neither true nor false")),
        },
        "proxy.istio.io/config" => proxy_config(value),
        "sidecar.istio.io/proxyCPU"
        | "sidecar.istio.io/proxyCPULimit"
        | "sidecar.istio.io/proxyMemory"
        | "sidecar.istio.io/proxyMemoryLimit" => quantity(value),
        _ => Ok(()),
    }
}

fn named(name: &str, result: Result<(), String>) -> Result<(), String> {
    result.map_err(|problem| format!("{name} invalid: {problem}"))
}

fn port(text: &str) -> Result<(), String> {
    let digits = text.trim();
    match digits.parse::<u16>() {
        Ok(_) if !digits.starts_with('+') => Ok(()),
        _ => Err(format!("{text:?} is not a port")),
    }
}

fn ports(list: &str) -> Result<(), String> {
    match list.trim() {
        "" => Ok(()),
        list => list.split(',').try_for_each(port),
    }
}

fn ranges(list: &str) -> Result<(), String> {
    let range = |text: &str| match text.parse::<IpNet>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{text:?} is not a range of addresses such as 10.0.0.0/8")),
    };
    match list {
        "" => Ok(()),
        list => list.split(',').try_for_each(range),
    }
}

fn interfaces(list: &str) -> Result<(), String> {
    let interface = |name: &str| {
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        match name.trim() {
            "" => Err("an interface has no name".to_owned()),
            name if name.len() > 15 => Err(format!(
                "{name:?} is longer than the 15 characters of an interface's name"
            )),
            name if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(letters) => {
                Err(format!("{name:?} is not the name of an interface"))
            }
            _ => Ok(()),
        }
    };
    match list {
        "" => Ok(()),
        list => list.split(',').try_for_each(interface),
    }
}

/// An amount of CPU or memory, as Kubernetes writes it: `100m`, `128Mi`, `1e3`.
fn quantity(text: &str) -> Result<(), String> {
    const SUFFIXES: [&str; 16] = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let is_number = number.contains(|c: char| c.is_ascii_digit()) && number.matches('.').count() <= 1;
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|power| {
        let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
        !digits.is_empty() && digits.len() < 4 && digits.chars().all(|c| c.is_ascii_digit())
    });
    if is_number && (SUFFIXES.contains(&suffix) || exponent) {
        return Ok(());
    }
    Err(format!("{text:?} is not an amount such as 100m or 128Mi"))
}

fn proxy_config(text: &str) -> Result<(), String> {
    let (root, problems) = document("", text);
    if let Some(problem) = problems.first() {
        return Err(problem.message.clone());
    }
    let Some(root) = root else { return Ok(()) };
    let mut config = default_proxy_config();
    let mut cx = Cx::default();
    decode_over(&mut config, &root, &mut cx);
    if let Some(problem) = cx.into_problems().first() {
        return Err(format!("{}: {}", problem.path, problem.message));
    }
    let mut report = Report::default();
    mesh_proxy_config("", &config, &mut report);
    let refused = |finding: &corten_api::validate::Finding| finding.severity == corten_api::diagnostic::Severity::Error;
    match report.into_findings().into_iter().find(refused) {
        Some(finding) => Err(format!("{}: {}", finding.path.trim_start_matches('.'), finding.message)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn values_are_judged() {
        for (name, good, bad) in [
            ("sidecar.istio.io/interceptionMode", "TPROXY", "tproxy"),
            ("status.sidecar.istio.io/port", " 15020", "70000"),
            ("readiness.status.sidecar.istio.io/periodSeconds", "10", "-1"),
            ("traffic.sidecar.istio.io/includeOutboundIPRanges", "*", "10.0.0.0"),
            (
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                "10.0.0.0/8,fd00::/8",
                "*",
            ),
            ("traffic.sidecar.istio.io/includeInboundPorts", "", "80,x"),
            ("traffic.sidecar.istio.io/excludeInboundPorts", "80, 81", "*"),
            ("traffic.sidecar.istio.io/excludeInterfaces", "eth1,br-0", "eth1,"),
            ("istio.io/reroute-virtual-interfaces", "net1", "a-name-that-is-too-long"),
            ("prometheus.istio.io/merge-metrics", "True", "yes"),
            ("proxy.istio.io/config", "concurrency: 2", "concurrency: x"),
            ("proxy.istio.io/config", "{}", "no: such"),
            ("sidecar.istio.io/proxyCPU", "100m", "100x"),
            ("sidecar.istio.io/proxyMemory", "1.5Gi", "1.5.1"),
            ("sidecar.istio.io/proxyMemoryLimit", "1e9", "1\n"),
            ("sidecar.istio.io/proxyCPULimit", "1", ""),
        ] {
            assert_eq!(check(name, good), Ok(()), "{name}: {good}");
            assert!(check(name, bad).is_err(), "{name}: {bad}");
        }
        assert_eq!(check("sidecar.istio.io/proxyImage", "anything"), Ok(()));
    }
}
