//! What the suite's backends answer: programs that say who they are and what they saw.

use std::time::Duration;

use corten_explain::{Call, Protocol};
use serde_json::Value;

/// What a port of a backend speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Http,
    /// HTTP/2 without TLS, which gRPC is.
    Http2,
    Tcp,
    Udp,
    /// TLS, with the certificate of this secret, and HTTP or bytes within.
    Tls {
        secret: String,
        http: bool,
    },
}

/// What a pod's port speaks; `None`: nobody listens.
pub(super) fn port(pod: &Value, number: u16) -> Option<Port> {
    let container = &pod["spec"]["containers"][0];
    let image = container["image"].as_str().unwrap_or_default();
    let variables = container["env"].as_array().into_iter().flatten();
    let has = |name: &str| {
        variables
            .clone()
            .any(|variable| variable["name"] == name && variable["value"] != "")
    };
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let secret = pod["spec"]["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|volume| volume["secret"]["secretName"].as_str());
    let tls = |http: bool| {
        let secret = format!("{namespace}/{}", secret.unwrap_or_default());
        Port::Tls { secret, http }
    };
    if image.contains("coredns") {
        return (number == 53).then_some(Port::Udp);
    }
    if image.contains("echo-advanced") {
        return match number {
            8080 => Some(Port::Http),
            8443 => Some(tls(true)),
            9090 => Some(Port::Tcp),
            7070 => Some(Port::Http2),
            _ => None,
        };
    }
    if has("UDP_ECHO_SERVER") {
        return (number == 8080).then_some(Port::Udp);
    }
    let bytes = has("TCP_ECHO_SERVER");
    match number {
        3000 if bytes => Some(Port::Tcp),
        3000 if has("GRPC_ECHO_SERVER") => Some(Port::Http2),
        3000 => Some(Port::Http),
        3001 => Some(Port::Http2),
        8443 if has("TLS_SERVER_CERT") => Some(tls(!bytes)),
        _ => None,
    }
}

/// An answer of a backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// The status; `None`: the connection is closed instead.
    pub(super) status: Option<u16>,
    /// gRPC's status, of requests of gRPC.
    pub(super) grpc: Option<&'static str>,
    pub(super) headers: Vec<(String, String)>,
    /// What it takes.
    pub(super) delay: Duration,
}

/// What the backend answers to a request that it reads; `attempt` counts from 0.
pub(super) fn answer(call: &Call, attempt: u64) -> Answer {
    let mut answer = Answer {
        status: Some(200),
        ..Answer::default()
    };
    let Some(request) = &call.request else { return answer };
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let asked = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let is_grpc = request
        .get("content-type")
        .is_some_and(|kind| kind.starts_with("application/grpc"));
    if is_grpc {
        answer.grpc = Some("OK");
        return answer;
    }
    if let Some(set) = request.get("x-echo-set-header") {
        let pairs = set.split(',').filter_map(|pair| pair.split_once(':'));
        let pairs = pairs.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        answer.headers.extend(pairs);
    }
    if path.starts_with("/retry") {
        let fails = asked("succeedAfter")
            .and_then(|after| after.parse().ok())
            .is_some_and(|after: u64| attempt < after);
        if fails {
            answer.status = asked("responseCode").and_then(|code| code.parse().ok());
            answer.delay = asked("delayRetry").and_then(duration).unwrap_or_default();
        }
        return answer;
    }
    answer.delay = asked("delay").and_then(duration).unwrap_or_default();
    if let Some(status) = path
        .strip_prefix("/status/")
        .and_then(|status| status.trim_end_matches('/').parse().ok())
    {
        answer.status = Some(status);
    }
    answer
}

/// A duration such as `500ms` or `1s`.
fn duration(text: &str) -> Option<Duration> {
    if let Some(number) = text.strip_suffix("ms") {
        return number.parse().ok().map(Duration::from_millis);
    }
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Why a backend cannot read what comes; `None`: it can.
pub(super) fn misread(port: &Port, call: &Call) -> Option<&'static str> {
    match (port, call.tls.is_some()) {
        (Port::Tls { .. }, false) => Some("the backend expects TLS"),
        (Port::Http | Port::Http2 | Port::Tcp | Port::Udp, true) => Some("the backend expects no TLS"),
        (Port::Http, false) if call.protocol == Protocol::Http2 => Some("the backend speaks HTTP/1.1"),
        (Port::Http2, false) if call.protocol != Protocol::Http2 => Some("the backend speaks HTTP/2"),
        _ => None,
    }
}
