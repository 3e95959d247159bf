//! What a pod may know of itself: the fields behind `fieldRef` and `resourceFieldRef`, in variables and in volumes.
//!
//! Pure. Where a limit is not set, the machine's own size stands in for it, as on a node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Container;

use super::env::Context;

/// A reference that names nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FieldError {
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    #[error("fieldPath \"{0}\" does not support subscript")]
    Subscript(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
    #[error("quantity {0:?} is not a number with a known suffix")]
    Quantity(String),
}

/// The value of a pod field.
pub(crate) fn field(context: &Context<'_>, path: &str) -> Result<String, FieldError> {
    let meta = &context.pod.metadata;
    let spec = context.pod.spec.as_ref();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = match map {
            "metadata.annotations" => &meta.annotations,
            "metadata.labels" => &meta.labels,
            _ => return Err(FieldError::Subscript(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    let joined = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    Ok(match path {
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "spec.nodeName" => context.node.to_owned(),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "spec.restartPolicy" => text(spec.and_then(|spec| spec.restart_policy.as_ref())),
        "status.hostIP" => joined(&context.host_ips[..context.host_ips.len().min(1)]),
        "status.hostIPs" => joined(context.host_ips),
        "status.podIP" => joined(&context.pod_ips[..context.pod_ips.len().min(1)]),
        "status.podIPs" => joined(context.pod_ips),
        _ => return Err(FieldError::Field(path.to_owned())),
    })
}

/// A map as `key="value"` lines.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

/// A container's request or limit in units of `divisor`, rounded up.
pub(crate) fn resource(container: &Container, name: &str, divisor: Option<&str>) -> Result<String, FieldError> {
    let resources = container.resources.as_ref();
    let (amounts, kind, is_limit) = match name.split_once('.') {
        Some(("limits", kind)) => (resources.and_then(|of| of.limits.as_ref()), kind, true),
        Some(("requests", kind)) => (resources.and_then(|of| of.requests.as_ref()), kind, false),
        _ => return Err(FieldError::Resource(name.to_owned())),
    };
    if !matches!(kind, "cpu" | "memory" | "ephemeral-storage") && !kind.starts_with("hugepages-") {
        return Err(FieldError::Resource(name.to_owned()));
    }
    let amount = match amounts.and_then(|amounts| amounts.get(kind)) {
        Some(amount) => nanos(&amount.0)?,
        None if is_limit => machine(kind),
        None => 0,
    };
    let unit = match divisor {
        None | Some("" | "0") => NANOS,
        Some(divisor) => nanos(divisor)?.max(1),
    };
    Ok((amount.saturating_add(unit - 1) / unit).to_string())
}

const NANOS: i128 = 1_000_000_000;

/// What the machine has, where a container has no limit.
fn machine(kind: &str) -> i128 {
    let of = super::node::Host::read();
    match kind {
        "cpu" => i128::from(of.cpus) * NANOS,
        "memory" => i128::from(of.memory_bytes) * NANOS,
        _ => 0,
    }
}

/// A Kubernetes quantity (`500m`, `1.5Gi`, `1e3`) in billionths.
fn nanos(quantity: &str) -> Result<i128, FieldError> {
    let bad = || FieldError::Quantity(quantity.to_owned());
    let digits = quantity
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-'))
        .unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(digits);
    let scale: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => NANOS,
        "k" => NANOS * 1_000,
        "M" => NANOS * 1_000_000,
        "G" => NANOS * 1_000_000_000,
        "T" => NANOS * 1_000_000_000_000,
        "P" => NANOS * 1_000_000_000_000_000,
        "E" => NANOS * 1_000_000_000_000_000_000,
        "Ki" => NANOS << 10,
        "Mi" => NANOS << 20,
        "Gi" => NANOS << 30,
        "Ti" => NANOS << 40,
        "Pi" => NANOS << 50,
        "Ei" => NANOS << 60,
        _ => {
            let exponent: u32 = suffix
                .strip_prefix(['e', 'E'])
                .and_then(|of| of.parse().ok())
                .ok_or_else(bad)?;
            10i128
                .checked_pow(exponent)
                .and_then(|of| of.checked_mul(NANOS))
                .ok_or_else(bad)?
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| bad())?
    };
    let mut value = whole.checked_mul(scale).ok_or_else(bad)?;
    let mut place = scale;
    for digit in fraction.chars() {
        place /= 10;
        value = value.saturating_add(i128::from(digit.to_digit(10).ok_or_else(bad)?) * place);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_rounded_up_to_the_divisor() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "app",
            "resources": { "limits": { "cpu": "1500m", "memory": "1.5Gi" }, "requests": { "cpu": "1e1" } },
        }))
        .expect("a container");
        let check = |name: &str, divisor: Option<&str>, expect: &str| {
            assert_eq!(
                resource(&container, name, divisor).as_deref(),
                Ok(expect),
                "{name} / {divisor:?}"
            );
        };
        check("limits.cpu", None, "2");
        check("limits.cpu", Some("1m"), "1500");
        check("limits.memory", Some("1Mi"), "1536");
        check("limits.memory", Some("0"), "1610612736");
        check("requests.cpu", None, "10");
        check("requests.memory", None, "0");
        assert!(resource(&container, "limits.gpu", None).is_err());
        assert!(resource(&container, "limits.cpu", Some("1x")).is_err());
    }
}
