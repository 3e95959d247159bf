//! The formats of names, label keys and values, ports and addresses: what each allows, and the sentence that says so.
//!
//! Knows strings only; where in an object they stand is the caller's business.

use std::net::IpAddr;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const WORD: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
const ENVIRONMENT: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// What is wrong with a string: sentences, none when it is right.
pub(super) type Faults = Vec<String>;

/// A format: a string in, its faults out.
pub(super) type Format = fn(&str) -> Faults;

fn fault(wrong: bool, text: &str) -> Faults {
    if wrong { vec![text.to_owned()] } else { Vec::new() }
}

fn limited(text: &str, most: usize) -> Faults {
    fault(text.len() > most, &format!("must be no more than {most} characters"))
}

fn is_label(text: &str) -> bool {
    let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(allowed)
        && bytes.last().is_some_and(allowed)
        && bytes.iter().all(|b| allowed(b) || *b == b'-')
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A DNS name of one or more labels.
pub(super) fn subdomain(text: &str) -> Faults {
    let mut faults = limited(text, 253);
    faults.extend(fault(!text.split('.').all(is_label), SUBDOMAIN));
    faults
}

/// One label of a DNS name.
pub(super) fn label(text: &str) -> Faults {
    let mut faults = limited(text, 63);
    if !is_label(text) {
        let dotted = text.split('.').all(is_label);
        faults.push(if dotted { "must not contain dots" } else { LABEL }.to_owned());
    }
    faults
}

/// A label that starts with a letter.
pub(super) fn label_1035(text: &str) -> Faults {
    let mut faults = limited(text, 63);
    let right = is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
    faults.extend(fault(!right, LABEL_1035));
    faults
}

/// What can stand in a path without being changed.
pub(super) fn path_segment(text: &str) -> Faults {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ['/', '%']
        .into_iter()
        .filter(|c| text.contains(*c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// A name with an optional DNS prefix, as label keys are.
pub(super) fn qualified(text: &str) -> Faults {
    let (prefix, name) = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => (None, *name),
        [prefix, name] => (Some(*prefix), *name),
        _ => {
            return vec![format!(
                "a qualified name {WORD} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    let mut faults = Vec::new();
    match prefix {
        Some("") => faults.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => faults.extend(subdomain(prefix).iter().map(|f| format!("prefix part {f}"))),
        None => {}
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push("name part must be no more than 63 characters".to_owned());
    }
    if !is_word(name) {
        faults.push(format!("name part {WORD}"));
    }
    faults
}

/// The value of a label.
pub(super) fn label_value(text: &str) -> Faults {
    let mut faults = limited(text, 63);
    faults.extend(fault(!text.is_empty() && !is_word(text), LABEL_VALUE));
    faults
}

/// A key of a config map or secret.
pub(super) fn config_key(text: &str) -> Faults {
    let mut faults = limited(text, 253);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(allowed) {
        faults.push(CONFIG_KEY.to_owned());
    }
    match text {
        "." | ".." => faults.push(format!("must not be '{text}'")),
        _ => faults.extend(fault(text.starts_with(".."), "must not start with '..'")),
    }
    faults
}

/// The name of an environment variable.
pub(super) fn environment(text: &str) -> Faults {
    let right = text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    fault(!right, ENVIRONMENT)
}

/// The name of a port.
pub(super) fn port_name(text: &str) -> Faults {
    let mut faults = limited(text, 15);
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    faults.extend(fault(
        text.is_empty() || !text.bytes().all(allowed),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    ));
    faults.extend(fault(
        !text.bytes().any(|b| b.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    ));
    faults.extend(fault(text.contains("--"), "must not contain consecutive hyphens"));
    faults.extend(fault(
        text.starts_with('-') || text.ends_with('-'),
        "must not begin or end with a hyphen",
    ));
    faults
}

/// The name of an HTTP header.
pub(super) fn header(text: &str) -> Faults {
    let right = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    fault(!right, HEADER)
}

/// An IP address.
pub(super) fn address(text: &str) -> Faults {
    fault(text.parse::<IpAddr>().is_err(), ADDRESS)
}

/// A range of IP addresses.
pub(super) fn cidr(text: &str) -> Faults {
    fault(parse_cidr(text).is_none(), CIDR)
}

/// Reads an address and the length of its prefix.
pub(super) fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length: u8 = length.parse().ok()?;
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
}

/// A path below a directory.
pub(super) fn descending_path(text: &str) -> Faults {
    let mut faults = fault(text.starts_with('/'), "must be a relative path");
    faults.extend(no_backsteps(text));
    faults
}

/// A path that does not go up.
pub(super) fn no_backsteps(text: &str) -> Faults {
    fault(text.split('/').any(|part| part == ".."), "must not contain '..'")
}
