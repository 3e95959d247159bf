//! Quantities (`500m`, `1Gi`) and base64: what can be decoded at all, and requests and limits of resources.

use corten_schema::FieldError;
use serde_json::Value;

use super::{Faults, format, names};
use crate::object;

/// A quantity in billionths; fractions of that are lost.
pub(super) fn parse(value: &Value) -> Option<i128> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (digits, suffix) = rest.split_at(end);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // Numerator and denominator of the suffix, over a base of billionths.
    let (times, over): (i128, i128) = match suffix {
        "" => (1_000_000_000, 1),
        "n" => (1, 1),
        "u" => (1_000, 1),
        "m" => (1_000_000, 1),
        "k" => (1_000_000_000_000, 1),
        "M" => (1_000_000_000_000_000, 1),
        "G" => (1_000_000_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000_000_000, 1),
        "Ki" => (1_000_000_000 << 10, 1),
        "Mi" => (1_000_000_000 << 20, 1),
        "Gi" => (1_000_000_000 << 30, 1),
        "Ti" => (1_000_000_000 << 40, 1),
        "Pi" => (1_000_000_000 << 50, 1),
        "Ei" => (1_000_000_000 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let size = 10_i128.checked_pow(power.unsigned_abs())?;
            if power < 0 {
                (1_000_000_000, size)
            } else {
                (1_000_000_000_i128.checked_mul(size)?, 1)
            }
        }
    };
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let number: i128 = std::format!("{whole}{fraction}").parse().ok()?;
    // What is too large to count counts as the largest, as in the real API.
    let amount = number
        .checked_mul(times)
        .map_or(i128::MAX, |amount| amount / over.saturating_mul(scale));
    Some(if negative { -amount } else { amount })
}

/// Why a built-in object cannot be read although its fields have the right types.
pub(crate) fn undecodable(kind: &str, object: &Value) -> Option<String> {
    match kind {
        "Pod" => undecodable_pod(&object["spec"]),
        "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet" => {
            undecodable_pod(&object["spec"]["template"]["spec"])
        }
        "Secret" => undecodable_data(&object["data"]),
        "ConfigMap" => undecodable_data(&object["binaryData"]),
        "Node" => ["capacity", "allocatable"]
            .iter()
            .find_map(|key| undecodable_amounts(&object["status"][*key])),
        _ => None,
    }
}

fn undecodable_pod(spec: &Value) -> Option<String> {
    ["initContainers", "containers"]
        .iter()
        .flat_map(|list| object::items(&spec[*list]))
        .flat_map(|container| ["limits", "requests"].map(|key| &container["resources"][key]))
        .find_map(undecodable_amounts)
}

fn undecodable_amounts(amounts: &Value) -> Option<String> {
    let mut values = amounts.as_object().into_iter().flatten().map(|(_, value)| value);
    values.any(|value| !value.is_null() && parse(value).is_none()).then(|| {
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned()
    })
}

fn undecodable_data(data: &Value) -> Option<String> {
    use base64::Engine;
    data.as_object().into_iter().flatten().find_map(|(_, value)| {
        let error = base64::engine::general_purpose::STANDARD
            .decode(value.as_str()?)
            .err()?;
        let offset = match error {
            base64::DecodeError::InvalidByte(offset, _) | base64::DecodeError::InvalidLastSymbol(offset, _) => offset,
            _ => value.as_str()?.len(),
        };
        Some(std::format!("illegal base64 data at input byte {offset}"))
    })
}

const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// The requests and limits of a container.
pub(super) fn resources(faults: &mut Faults, path: &str, resources: &Value) {
    let (limits, requests) = (&resources["limits"], &resources["requests"]);
    amounts(faults, &std::format!("{path}.limits"), limits);
    for (name, request) in requests.as_object().into_iter().flatten() {
        amount(faults, &std::format!("{path}.requests[{name}]"), name, request);
        let limit = &limits[name.as_str()];
        let extended = name.contains('/') || name.starts_with("hugepages-");
        if limit.is_null() {
            if extended {
                faults.push(FieldError::required(
                    std::format!("{path}.limits"),
                    "Limit must be set for non overcommitable resources",
                ));
            }
        } else if extended && parse(request) != parse(limit) {
            let why = std::format!("must be equal to {name} limit of {}", plain(limit));
            faults.push(FieldError::invalid(
                std::format!("{path}.requests"),
                plain(request),
                why,
            ));
        } else if parse(request) > parse(limit) {
            let why = std::format!("must be less than or equal to {name} limit of {}", plain(limit));
            faults.push(FieldError::invalid(
                std::format!("{path}.requests"),
                plain(request),
                why,
            ));
        }
    }
}

fn amounts(faults: &mut Faults, path: &str, amounts: &Value) {
    for (name, value) in amounts.as_object().into_iter().flatten() {
        amount(faults, &std::format!("{path}[{name}]"), name, value);
    }
}

fn amount(faults: &mut Faults, path: &str, name: &str, value: &Value) {
    let standard = COMPUTE.contains(&name) || name.starts_with("hugepages-");
    let before = faults.len();
    format(faults, path, name, names::qualified);
    if !standard && !name.contains('/') {
        if faults.len() == before && !matches!(name, "pods" | "services" | "storage") {
            faults.push(FieldError::invalid(
                path,
                name,
                "must be a standard resource type or fully qualified",
            ));
        }
        faults.push(FieldError::invalid(
            path,
            name,
            "must be a standard resource for containers",
        ));
    }
    let Some(billionths) = parse(value) else { return };
    if billionths < 0 {
        faults.push(FieldError::invalid(
            path,
            plain(value),
            "must be greater than or equal to 0",
        ));
    }
    if name.contains('/') && billionths % 1_000_000_000 != 0 {
        let shown = std::format!("{}m", billionths / 1_000_000);
        faults.push(FieldError::invalid(path, shown, "must be an integer"));
    }
}

/// A quantity as text.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
