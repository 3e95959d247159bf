//! Checks of single values: addresses, names, header names and values, durations, regular expressions.
//!
//! Each says yes or why not; where the value stands is the caller's.

use std::net::IpAddr;

use corten_core::{Duration, Host, is_dns_label};

use crate::re2;

/// Why a value is refused.
pub type Refusal = Result<(), String>;

fn refuse(condition: bool, message: impl FnOnce() -> String) -> Refusal {
    if condition { Err(message()) } else { Ok(()) }
}

/// A text for a message: short, and harmless on a terminal.
pub(super) fn shown(text: &str) -> String {
    let shown: String = text.escape_debug().take(80).collect();
    format!("'{shown}'")
}

/// A fully qualified host name without wildcards.
pub fn fqdn(text: &str) -> Refusal {
    Host::from(text).check_fqdn().map_err(|e| e.to_string())
}

/// A host name whose first label may be a wildcard.
pub fn wildcard_domain(text: &str) -> Refusal {
    Host::from(text).check_wildcard().map_err(|e| e.to_string())
}

/// As [`wildcard_domain`]; for SNI at gateways, the names that Istio makes for its own multi-cluster traffic
/// (`outbound_.80_._.host`) are allowed as well.
pub fn gateway_domain(text: &str, sni: bool) -> Refusal {
    if !(sni && text.starts_with("outbound_")) || text.len() > 255 {
        return wildcard_domain(text);
    }
    let parts: Vec<&str> = text.split('_').collect();
    let [_, port, _, host, ..] = parts.as_slice() else {
        return Err(format!("{} must be of the form outbound_.PORT_._.HOST", shown(text)));
    };
    let good = port.trim_matches('.').contains(|c: char| c.is_ascii_digit())
        && host.trim_matches('.').contains(|c: char| c.is_ascii_alphabetic());
    refuse(!good, || {
        format!("{} must be of the form outbound_.PORT_._.HOST", shown(text))
    })
}

/// A wildcard that is not a whole label, such as `*-a.example.com`.
pub(super) fn partial_wildcard(text: &str) -> Refusal {
    let partial = text.contains('*') && text.len() != 1 && !text.starts_with("*.");
    refuse(partial, || {
        format!(
            "a wildcard must be the whole first label, as in '*.example.com', not {}",
            shown(text)
        )
    })
}

/// Whether this is an IP address; a zone (`fe80::1%eth0`) is allowed for IPv6.
pub(super) fn is_ip_address(text: &str) -> bool {
    match text.split_once('%') {
        Some((address, zone)) => !zone.is_empty() && matches!(address.parse(), Ok(IpAddr::V6(_))),
        None => text.parse::<IpAddr>().is_ok(),
    }
}

/// An IP address.
pub fn ip_address(text: &str) -> Refusal {
    refuse(!is_ip_address(text), || format!("{} is not an IP address", shown(text)))
}

/// An IP address, or a range of them such as `10.0.0.0/8`.
pub fn ip_subnet(text: &str) -> Refusal {
    let Some((address, bits)) = text.split_once('/') else {
        return ip_address(text);
    };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => {
            return Err(format!(
                "{} is not a range of IP addresses such as 10.0.0.0/8",
                shown(text)
            ));
        }
    };
    let plain = bits == "0" || (!bits.starts_with('0') && bits.bytes().all(|b| b.is_ascii_digit()));
    let good = plain && bits.parse::<u8>().is_ok_and(|bits| bits <= most);
    refuse(!good, || {
        format!("the length in {} must be a number from 0 to {most}", shown(text))
    })
}

/// A port number.
pub(super) fn port(number: impl Into<i64>) -> Refusal {
    let number = number.into();
    refuse(!(1..=65535).contains(&number), || {
        format!("port {number} is not between 1 and 65535")
    })
}

/// The name of a port.
pub fn port_name(text: &str) -> Refusal {
    refuse(!is_dns_label(text), || {
        format!(
            "port name {} must be letters, digits and '-', at most 63, with a letter or digit at both ends",
            shown(text)
        )
    })
}

/// A DNS label with a meaning to name in the message.
pub(super) fn label(text: &str, what: &str) -> Refusal {
    refuse(!is_dns_label(text), || {
        format!(
            "{what} {} must be letters, digits and '-', at most 63, with a letter or digit at both ends",
            shown(text)
        )
    })
}

/// A trust domain.
pub fn trust_domain(text: &str) -> Refusal {
    let labels: Vec<&str> = text.split('.').collect();
    let good = !text.is_empty()
        && labels
            .iter()
            .enumerate()
            .all(|(i, label)| (i > 0 && i + 1 == labels.len() && label.is_empty()) || is_dns_label(label));
    refuse(!good, || {
        format!("trust domain {} must be DNS labels joined by dots", shown(text))
    })
}

/// A path of a unix socket; `@` begins an abstract one.
pub(super) fn unix_address(text: &str) -> Refusal {
    let good = text.starts_with('@') || (text.starts_with('/') && !text.ends_with('/'));
    refuse(!good, || {
        format!("{} is not the absolute path of a unix socket", shown(text))
    })
}

/// A duration of at least a millisecond, in whole milliseconds.
pub(super) fn duration(duration: Duration) -> Refusal {
    if duration < Duration::from_millis(1) {
        return Err(format!("{duration} is shorter than 1ms"));
    }
    refuse(duration.as_nanos() % 1_000_000 != 0, || {
        format!("{duration} is finer than a millisecond")
    })
}

/// A percentage of whole numbers.
pub(super) fn percent(value: i32) -> Refusal {
    refuse(!(0..=100).contains(&value), || {
        format!("{value} is not a percentage from 0 to 100")
    })
}

fn is_token(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn header(text: &str, good: bool) -> Refusal {
    if text.is_empty() {
        return Err("a header name must not be empty".to_owned());
    }
    refuse(!good, || format!("{} is not a header name", shown(text)))
}

/// A header name of letters, digits, `-` and `_`.
pub fn strict_header_name(text: &str) -> Refusal {
    header(
        text,
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
    )
}

/// A header name of letters, digits and `-`, as Kubernetes wants it for probes.
pub(super) fn probe_header_name(text: &str) -> Refusal {
    header(text, text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

/// A header name in a CORS policy.
pub(super) fn cors_header_name(text: &str) -> Refusal {
    header(text, is_token(text))
}

/// A header to match on: a header name, a pseudo header, or a claim of a token (`@request.auth.claims.group`).
pub fn matched_header_name(text: &str) -> Refusal {
    let pseudo = matches!(text, ":method" | ":scheme" | ":authority" | ":path" | ":status");
    header(text, is_claim(text) || pseudo || is_token(text))
}

/// Whether a header to match on stands for a claim of a token.
pub(super) fn is_claim(text: &str) -> bool {
    const PREFIX: &str = "@request.auth.claims";
    let (Some(prefix), Some(rest)) = (text.get(..PREFIX.len()), text.get(PREFIX.len()..)) else {
        return false;
    };
    prefix.eq_ignore_ascii_case(PREFIX)
        && ((rest.starts_with('.') && rest.len() > 1)
            || (rest.starts_with('[') && rest.ends_with(']') && rest.len() > 2))
}

/// Whether a header names the authority of a request.
pub(super) fn is_authority(text: &str) -> bool {
    text.eq_ignore_ascii_case(":authority") || text.eq_ignore_ascii_case("host")
}

/// A request header to set or add; the authority is one.
pub(super) fn changed_request_header(text: &str) -> Refusal {
    if text.is_empty() {
        return Err("a header name must not be empty".to_owned());
    }
    refuse(text.starts_with(':') && !is_authority(text), || {
        format!("pseudo header {} cannot be changed", shown(text))
    })
}

/// A header to remove, or to set or add in a response.
pub(super) fn changed_header(text: &str) -> Refusal {
    if text.is_empty() {
        return Err("a header name must not be empty".to_owned());
    }
    refuse(text.starts_with(':') || text.eq_ignore_ascii_case("host"), || {
        format!("{} cannot be changed here", shown(text))
    })
}

/// The value of a header: printable, with balanced `%COMMAND(arguments)%` as Envoy reads them; `%%` is a percent sign.
pub fn header_value(text: &str) -> Refusal {
    if text.chars().any(|c| (c < ' ' && c != '\t') || c == '\u{7f}') {
        return Err(format!("header value {} has a control character", shown(text)));
    }
    commands(text).map_err(|problem| format!("header value {}: {problem}", shown(text)))
}

#[derive(Clone, Copy, PartialEq)]
enum In {
    Literal,
    Command,
    Arguments,
    ArrayString,
    ArrayNext,
    String,
    ArgumentsEnd,
    CommandEnd,
}

fn commands(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    let mut state = In::Literal;
    let mut position = 0;
    while let Some(byte) = bytes.get(position).copied() {
        let next = bytes.get(position + 1).copied();
        state = match (state, byte) {
            (In::Literal, b'%') => match next {
                None => return Err("a percent sign at the end; write %% for a percent sign"),
                Some(b'%') => {
                    position += 1;
                    In::Literal
                }
                Some(_) => In::Command,
            },
            (In::Command, b'%') | (In::CommandEnd, b'%') => In::Literal,
            (In::Command, b'(') => In::Arguments,
            (In::Arguments, b'[') => In::ArrayString,
            (In::Arguments, b' ') => In::Arguments,
            (In::Arguments, _) => In::String,
            (In::ArrayNext, b',') => In::ArrayString,
            (In::ArrayNext, b']') => In::ArgumentsEnd,
            (In::ArrayNext, b' ') => In::ArrayNext,
            (In::ArrayNext, _) => return Err("',' or ']' expected in the arguments"),
            (In::ArrayString, b'"') => In::String,
            (In::ArrayString, b' ') => In::ArrayString,
            (In::ArrayString, _) => return Err("a string in double quotes expected in the arguments"),
            (In::String, b'\\') => {
                if next.is_none() {
                    return Err("a backslash at the end");
                }
                position += 1;
                In::String
            }
            (In::String, b')') | (In::ArgumentsEnd, b')') => In::CommandEnd,
            (In::String, b'"') => In::ArrayNext,
            (In::ArgumentsEnd, b' ') => In::ArgumentsEnd,
            (In::ArgumentsEnd, _) => return Err("')' expected after the arguments"),
            (In::CommandEnd, b' ') => In::CommandEnd,
            (In::CommandEnd, _) => return Err("'%' expected at the end of the command"),
            (unchanged, _) => unchanged,
        };
        position += 1;
    }
    if state == In::Literal {
        Ok(())
    } else {
        Err("a command that does not end with '%'; write %% for a percent sign")
    }
}

/// An HTTP status that a proxy can answer with.
pub fn http_status(status: i64) -> Refusal {
    refuse(!(200..=600).contains(&status), || {
        format!("status {status} is not between 200 and 599")
    })
}

/// A regular expression in RE2's syntax.
pub(super) fn regex(text: &str) -> Refusal {
    const MOST: usize = 1024;
    if text.len() > MOST {
        return Err(format!("a regular expression has at most {MOST} characters"));
    }
    compile(text)
}

/// A regular expression of any length.
pub(super) fn compile(text: &str) -> Refusal {
    match re2::check(text) {
        // Who may not leave it empty says so otherwise.
        Ok(()) | Err(re2::Problem::Empty) => Ok(()),
        Err(problem) => Err(format!(
            "{} is not a regular expression (RE2 syntax): {problem}",
            shown(text)
        )),
    }
}

/// Splits `host:port`; the brackets of an IPv6 address are taken off.
pub(super) fn host_port(text: &str) -> Result<(&str, &str), String> {
    let wrong = || format!("{} must be of the form host:port", shown(text));
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    if let Some(inner) = host.strip_prefix('[') {
        return inner
            .strip_suffix(']')
            .filter(|inner| !inner.contains(['[', ']']))
            .map(|host| (host, port))
            .ok_or_else(wrong);
    }
    if host.contains([':', '[', ']']) || port.contains(['[', ']']) {
        return Err(wrong());
    }
    Ok((host, port))
}

/// An address `host:port` of a service or host.
pub(super) fn proxy_address(text: &str) -> Refusal {
    let (host, number) = host_port(text)?;
    let number: i64 = number
        .parse()
        .map_err(|_| format!("{} must end with a port number", shown(text)))?;
    port(number)?;
    refuse(fqdn(host).is_err() && !is_ip_address(host), || {
        format!("{} is neither a host name nor an IP address", shown(host))
    })
}
