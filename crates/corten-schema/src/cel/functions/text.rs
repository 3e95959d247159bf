//! Text: regular expressions and URLs.

use super::{Declaration, Out, STRING_TYPE, Type, as_opaque, declare, error, no_overload, opaque, string, strings};
use cel::Value;
use cel::common::types::INT_TYPE;
use cel::objects::{Key, Map, Opaque};
use regex::Regex;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) fn declarations() -> Vec<Declaration> {
    let url = || Type::new_opaque_type("kubernetes.URL");
    vec![
        declare!(method "find"(STRING_TYPE, STRING_TYPE) => find),
        declare!(method "findAll"(STRING_TYPE, STRING_TYPE) => find_all),
        declare!(method "findAll"(STRING_TYPE, STRING_TYPE, INT_TYPE) => find_all),
        declare!(fn "isURL"(STRING_TYPE) => is_url),
        declare!(fn "url"(STRING_TYPE) => to_url),
        declare!(method "getScheme"(url()) => scheme),
        declare!(method "getHost"(url()) => host),
        declare!(method "getHostname"(url()) => hostname),
        declare!(method "getPort"(url()) => port),
        declare!(method "getEscapedPath"(url()) => escaped_path),
        declare!(method "getQuery"(url()) => query),
    ]
}

fn regex(function: &str, pattern: &Value) -> Result<Regex, cel::ExecutionError> {
    Regex::new(string(pattern)).map_err(|problem| error(function, format!("Illegal regex: {problem}")))
}

fn find(arguments: &[Value]) -> Out {
    let [text, pattern] = arguments else {
        return Err(no_overload("find"));
    };
    let regex = regex("find", pattern)?;
    let found = regex.find(string(text)).map_or("", |found| found.as_str());
    Ok(Value::from(found))
}

fn find_all(arguments: &[Value]) -> Out {
    let [text, pattern, limit @ ..] = arguments else {
        return Err(no_overload("findAll"));
    };
    let limit = match limit {
        [Value::Int(limit)] => usize::try_from(*limit).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let regex = regex("findAll", pattern)?;
    Ok(strings(
        regex
            .find_iter(string(text))
            .take(limit)
            .map(|found| found.as_str().to_owned()),
    ))
}

/// A URL in its parts, as Go's `url.ParseRequestURI` takes it: absolute, or an absolute path.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Opaque for Url {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.URL"
    }
}

impl Url {
    fn parse(text: &str) -> Option<Url> {
        if text.is_empty() || text.contains(|c: char| c.is_ascii_control() || c == ' ') {
            return None;
        }
        let (before_query, query) = text.split_once('?').unwrap_or((text, ""));
        if before_query.starts_with('/') {
            let path = before_query.to_owned();
            return Some(Url {
                scheme: String::new(),
                host: String::new(),
                path,
                query: query.to_owned(),
            });
        }
        let (scheme, rest) = before_query.split_once(':')?;
        let plausible = scheme.chars().next()?.is_ascii_alphabetic()
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        if !plausible {
            return None;
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash)),
            None => ("", rest),
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if !valid_host(host) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        Some(Url {
            scheme,
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    fn host_and_port(&self) -> (&str, &str) {
        match self.host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => (address, port.strip_prefix(':').unwrap_or_default()),
            None => self.host.split_once(':').unwrap_or((&self.host, "")),
        }
    }
}

/// A host without odd characters, and a port of digits.
fn valid_host(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let Some((_, port)) = rest.split_once(']') else {
            return false;
        };
        return port.is_empty()
            || port
                .strip_prefix(':')
                .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    !name.contains(['<', '>', '"', '^', '`', '{', '|', '}', '\\']) && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_url(arguments: &[Value]) -> Out {
    let [text] = arguments else {
        return Err(no_overload("isURL"));
    };
    Ok(Value::Bool(Url::parse(string(text)).is_some()))
}

fn to_url(arguments: &[Value]) -> Out {
    let [text] = arguments else {
        return Err(no_overload("url"));
    };
    let url = Url::parse(string(text));
    url.map(opaque).ok_or_else(|| {
        error(
            "url",
            format!("URL parse error during conversion from string: {:?}", string(text)),
        )
    })
}

fn part(arguments: &[Value], function: &str, read: fn(&Url) -> Value) -> Out {
    let [url] = arguments else {
        return Err(no_overload(function));
    };
    Ok(read(as_opaque::<Url>(url, function)?))
}

fn scheme(arguments: &[Value]) -> Out {
    part(arguments, "getScheme", |url| Value::from(url.scheme.as_str()))
}

fn host(arguments: &[Value]) -> Out {
    part(arguments, "getHost", |url| Value::from(url.host.as_str()))
}

fn hostname(arguments: &[Value]) -> Out {
    part(arguments, "getHostname", |url| Value::from(url.host_and_port().0))
}

fn port(arguments: &[Value]) -> Out {
    part(arguments, "getPort", |url| Value::from(url.host_and_port().1))
}

fn escaped_path(arguments: &[Value]) -> Out {
    part(arguments, "getEscapedPath", |url| Value::from(url.path.as_str()))
}

fn query(arguments: &[Value]) -> Out {
    part(arguments, "getQuery", |url| {
        let mut parameters: HashMap<Key, Vec<Value>> = HashMap::new();
        for parameter in url.query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            parameters
                .entry(Key::from(decode(name)))
                .or_default()
                .push(Value::from(decode(value)));
        }
        let lists = parameters
            .into_iter()
            .map(|(name, values)| (name, Value::List(Arc::new(values))))
            .collect();
        Value::Map(Map { map: Arc::new(lists) })
    })
}

/// Percent-decoding of a query; malformed escapes stay as they are.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        bytes.push(match (escaped, first) {
            (Some(byte), _) => byte,
            (None, b'+') => b' ',
            (None, byte) => *byte,
        });
        rest = if escaped.is_some() {
            tail.get(2..).unwrap_or_default()
        } else {
            tail
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
