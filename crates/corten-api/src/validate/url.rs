//! URLs, as far as configuration needs them: their scheme, and whether they are of the right form.

use super::text::{Refusal, shown};

struct Url<'a> {
    scheme: &'a str,
}

/// Reads a URL. `request`: it must be absolute, or an absolute path.
fn parse(text: &str, request: bool) -> Option<Url<'_>> {
    if text.is_empty() && request || text.chars().any(|c| c < ' ' || c == '\u{7f}') {
        return None;
    }
    let text = if request {
        text
    } else {
        text.split_once('#').map_or(text, |(url, _)| url)
    };
    let (scheme, rest) = scheme(text)?;
    let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            return Some(Url { scheme });
        }
        let first = rest.split('/').next().unwrap_or_default();
        if request || first.contains(':') {
            return None;
        }
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) if !rest.starts_with('/') || !scheme.is_empty() => {
            rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash))
        }
        _ => ("", rest),
    };
    (escapes(path) && host(authority)).then_some(Url { scheme })
}

/// What is before the first colon, if it can be a scheme at all; `None`: a colon at the very beginning.
fn scheme(text: &str) -> Option<(&str, &str)> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i > 0 => return Some((text.get(..i)?, text.get(i + 1..)?)),
            ':' => return None,
            _ => break,
        }
    }
    Some(("", text))
}

fn host(authority: &str) -> bool {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = match (host.strip_prefix('['), host.rfind(']')) {
        (Some(_), Some(end)) => host.split_at(end + 1),
        (Some(_), None) => return false,
        _ => host.find(':').map_or((host, ""), |colon| host.split_at(colon)),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    port && escapes(name)
        && !name
            .contains(|c: char| c.is_ascii() && matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
}

fn escapes(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    parts.all(|part| part.len() >= 2 && part.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

/// A URL of scheme http or https.
pub(super) fn http(text: &str) -> Refusal {
    match parse(text, false).map(|url| url.scheme.to_ascii_lowercase()) {
        Some(scheme) if scheme == "http" || scheme == "https" => Ok(()),
        _ => Err(format!(
            "{} is not a URL that begins with http:// or https://",
            shown(text)
        )),
    }
}

/// Where a module is fetched from: a URL of scheme oci, http, https or file; without a scheme, an image name.
pub(super) fn module(text: &str) -> Refusal {
    if text.is_empty() {
        return Err("required".to_owned());
    }
    let url = match parse(text, true) {
        Some(url) => url.scheme.to_ascii_lowercase(),
        None => {
            let with_scheme = format!("http://{text}");
            match (parse(&with_scheme, true), parse(&with_scheme, false)) {
                (Some(_), Some(_)) => "http".to_owned(),
                _ => return Err(format!("{} is not a URL", shown(text))),
            }
        }
    };
    match url.as_str() {
        "" | "oci" | "http" | "https" | "file" => Ok(()),
        other => Err(format!("scheme {} is not one of oci, http, https, file", shown(other))),
    }
}
