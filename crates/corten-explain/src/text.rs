//! A trace as text for people: what happened on the left, why on the right.

use std::fmt::{self, Display, Formatter};

use corten_envoy::google::protobuf::Duration;

use crate::trace::{Destination, EndpointShare, FilterVerdict, Hop, HttpTrace, Outcome, Setting, Trace, Verdict};
use crate::{Call, Entry};

/// How many things of a kind are listed.
const LISTED_MAX: usize = 8;
/// The width of the left column.
const LABEL: usize = 12;

/// A duration as people write it.
pub(crate) fn duration(duration: &Duration) -> String {
    let milliseconds = i128::from(duration.seconds) * 1000 + i128::from(duration.nanos) / 1_000_000;
    if milliseconds % 1000 != 0 {
        return format!("{milliseconds}ms");
    }
    let seconds = milliseconds / 1000;
    match seconds {
        0 => "0s".to_owned(),
        _ if seconds % 86_400 == 0 && seconds > 86_400 => format!("{}d", seconds / 86_400),
        _ if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        _ if seconds % 60 == 0 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// A share in percent, with as many digits as it needs.
pub(crate) fn percent(share: f64) -> String {
    let hundredths = (share * 10_000.0).round() / 100.0;
    format!("{hundredths}")
}

impl Display for Trace {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for (at, hop) in self.hops.iter().enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            write!(out, "{hop}")?;
        }
        Ok(())
    }
}

impl Display for Call {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if let Some(request) = &self.request {
            let scheme = if self.tls.is_some() { "https" } else { "http" };
            if request.method == "CONNECT" {
                write!(out, "CONNECT {}", request.host)?;
            } else {
                write!(out, "{} {scheme}://{}{}", request.method, request.host, request.path)?;
            }
        } else {
            write!(
                out,
                "{}{}",
                self.protocol.name(),
                if self.tls.is_some() { " in TLS" } else { "" }
            )?;
        }
        write!(out, " to {}", self.destination)?;
        match &self.entry {
            Entry::Direct => Ok(()),
            Entry::Redirected(port) => write!(out, ", redirected to {port}"),
            Entry::Internal(name) => write!(out, ", within the proxy, to {name}"),
        }
    }
}

fn line(out: &mut Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    writeln!(out, "  {label:LABEL$}  {text}")
}

/// Lines below an entry; what is too many is counted.
fn below<T>(out: &mut Formatter<'_>, items: &[T], show: impl Fn(&T) -> String) -> fmt::Result {
    // One more line is no longer than the line that would stand for it.
    let shown = if items.len() <= LISTED_MAX + 1 {
        items.len()
    } else {
        LISTED_MAX
    };
    for item in &items[..shown] {
        line(out, "", &format!("  {}", show(item)))?;
    }
    if shown < items.len() {
        line(out, "", &format!("  and {} more", items.len() - shown))?;
    }
    Ok(())
}

fn with_why(what: &str, why: &str) -> String {
    if why.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {why}")
    }
}

impl Display for Hop {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let at = if self.proxy.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.proxy)
        };
        writeln!(out, "{at}{}", self.call)?;
        if let Some(listener) = &self.listener {
            line(out, "listener", &with_why(&listener.name, &listener.because))?;
            let mut sees = vec![listener.transport.clone()];
            sees.extend((!listener.protocols.is_empty()).then(|| listener.protocols.join(", ")));
            sees.extend((!listener.server_name.is_empty()).then(|| format!("server name {}", listener.server_name)));
            line(out, "sees", &sees.join("; "))?;
        }
        if let Some(chain) = &self.filter_chain {
            line(out, "filter chain", &with_why(&chain.name, &chain.because))?;
        }
        if let Some(tls) = &self.tls {
            let asks = if tls.asks_for_certificate {
                "a certificate of the client is required"
            } else {
                "no certificate of the client is asked for"
            };
            let peer = if tls.peer.is_empty() || !tls.asks_for_certificate {
                String::new()
            } else {
                format!("; it is {}", tls.peer.join(", "))
            };
            line(
                out,
                "TLS",
                &format!("ends here, with the certificate of {}; {asks}{peer}", tls.certificate),
            )?;
        }
        let mut label = "filters";
        for filter in self
            .filters
            .iter()
            .filter(|filter| filter.verdict != Verdict::Passed || !filter.why.is_empty())
        {
            line(out, label, &filter_text(filter))?;
            below(out, &filter.policies, |policy| {
                let is = if policy.matched { "matches" } else { "does not match" };
                let shadow = if policy.shadow { ", tried out" } else { "" };
                with_why(
                    &format!("{} ({}{shadow}) {is}", policy.name, policy.action),
                    &policy.why,
                )
            })?;
            label = "";
        }
        if let Some(http) = &self.http {
            routing(out, http)?;
        }
        for destination in &self.destinations {
            cluster(out, destination)?;
        }
        if let Some(tunnel) = &self.tunnel {
            line(out, "tunnel", &format!("a CONNECT to {tunnel}"))?;
        }
        outcome(out, &self.outcome)
    }
}

fn filter_text(filter: &FilterVerdict) -> String {
    let verdict = match filter.verdict {
        Verdict::Allowed => " allows",
        Verdict::Denied => " denies",
        Verdict::Depends => " may interfere",
        Verdict::Passed => "",
    };
    with_why(&format!("{}{verdict}", filter.name), &filter.why)
}

fn routing(out: &mut Formatter<'_>, http: &HttpTrace) -> fmt::Result {
    line(
        out,
        "routes",
        &format!(
            "{}{}",
            http.route_config,
            if http.by_name { "" } else { " (the listener's own)" }
        ),
    )?;
    if let Some(host) = &http.virtual_host {
        line(out, "virtual host", &with_why(host, &http.domain))?;
    }
    let mut label = "route";
    for route in &http.routes {
        let share = if route.share < 1.0 {
            format!(", for {} %", percent(route.share))
        } else {
            String::new()
        };
        line(out, label, &with_why(&format!("{}{share}", route.name), &route.because))?;
        line(out, "", &format!("  {}", route.action))?;
        below(out, &route.settings, setting)?;
        label = "";
    }
    if !http.passed_over.is_empty() {
        line(
            out,
            "not taken",
            &passed_over(&http.passed_over[0].name, &http.passed_over[0].because),
        )?;
        below(out, &http.passed_over[1..], |passed| {
            passed_over(&passed.name, &passed.because)
        })?;
    }
    Ok(())
}

fn passed_over(name: &str, because: &str) -> String {
    format!("{name}: {because}")
}

fn setting(setting: &Setting) -> String {
    format!("{}: {}", setting.name, setting.value)
}

fn cluster(out: &mut Formatter<'_>, destination: &Destination) -> fmt::Result {
    let share = if destination.share < 1.0 {
        format!(", {} % of the calls", percent(destination.share))
    } else {
        String::new()
    };
    let Some(upstream) = &destination.upstream else {
        let mut parts = destination.cluster.split('|').skip(2);
        let why = match (parts.next(), parts.next()) {
            (Some(subset), Some(host)) if !subset.is_empty() => {
                format!("; does a DestinationRule for {host} have the subset {subset:?}?")
            }
            _ => String::new(),
        };
        return line(
            out,
            "cluster",
            &format!("{}{share}: the proxy does not have it{why}", destination.cluster),
        );
    };
    let kind = format!("{}, {}", upstream.discovery, upstream.policy);
    line(out, "cluster", &format!("{}{share}: {kind}", destination.cluster))?;
    below(out, &upstream.settings, setting)?;
    let mut ordered: Vec<&EndpointShare> = upstream.endpoints.iter().collect();
    ordered.sort_by(|a, b| b.share.total_cmp(&a.share));
    let note = if upstream.note.is_empty() {
        count(upstream.endpoints.len())
    } else {
        upstream.note.clone()
    };
    line(out, "endpoints", &note)?;
    below(out, &ordered, |endpoint| endpoint_text(endpoint))
}

fn count(number: usize) -> String {
    match number {
        0 => "none".to_owned(),
        number => number.to_string(),
    }
}

fn endpoint_text(endpoint: &EndpointShare) -> String {
    let mut text = format!("{:22} {:>6} %", endpoint.address, percent(endpoint.share));
    let mut push = |part: String| {
        if !part.is_empty() {
            text.push_str("  ");
            text.push_str(&part);
        }
    };
    let transport = &endpoint.transport;
    push(if transport.matched.is_empty() {
        transport.mode.clone()
    } else {
        format!("{} ({})", transport.mode, transport.matched)
    });
    push(if transport.sni.is_empty() {
        String::new()
    } else {
        format!("sni {}", transport.sni)
    });
    push(if transport.sans.is_empty() {
        String::new()
    } else {
        format!("san {}", transport.sans.join(" or "))
    });
    push(if endpoint.priority == 0 {
        String::new()
    } else {
        format!("priority {}", endpoint.priority)
    });
    push(endpoint.locality.clone());
    push(if matches!(&*endpoint.health, "UNKNOWN" | "HEALTHY") {
        String::new()
    } else {
        endpoint.health.clone()
    });
    push(endpoint.target.map_or(String::new(), |target| format!("for {target}")));
    text
}

fn outcome(out: &mut Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    match outcome {
        Outcome::Forwarded => line(out, "outcome", "forwarded"),
        Outcome::Answered(answer) => {
            let location = answer
                .location
                .as_ref()
                .map_or(String::new(), |location| format!(" with location {location}"));
            let body = if answer.body.is_empty() {
                String::new()
            } else {
                format!(" with the body {}", crate::strings::quoted(&answer.body))
            };
            line(out, "outcome", &format!("answered {}{location}{body}", answer.status))
        }
        Outcome::Refused { error, status, why } => {
            let status = status.map_or(String::new(), |status| format!(" ({status})"));
            let mut lines = why.lines();
            line(
                out,
                "outcome",
                &format!("{}{status}: {}", error.name(), lines.next().unwrap_or_default()),
            )?;
            let rest: Vec<&str> = lines.collect();
            below(out, &rest, |line| (*line).to_owned())
        }
    }
}
