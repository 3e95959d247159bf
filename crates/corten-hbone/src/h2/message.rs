//! From a list of fields to a request, a response or trailers, with the rules of RFC 9113 §8.

use super::hpack::FieldList;
use super::{Headers, Request, Response};

/// The message breaks the rules; the stream is reset with PROTOCOL_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Default)]
struct Parts<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    status: Option<&'a [u8]>,
    headers: Headers<'a>,
    content_length: Option<u64>,
}

fn parts(list: &FieldList) -> Result<Parts<'_>, Malformed> {
    let mut parts = Parts::default();
    let mut offset = 0;
    for (place, (name, value)) in list.iter().enumerate() {
        if let [b':', pseudo @ ..] = name {
            let part = match pseudo {
                b"method" => &mut parts.method,
                b"scheme" => &mut parts.scheme,
                b"authority" => &mut parts.authority,
                b"path" => &mut parts.path,
                b"status" => &mut parts.status,
                _ => return Err(Malformed),
            };
            if !is_value(value) || part.replace(value).is_some() {
                return Err(Malformed);
            }
            offset += name.len() + value.len();
            continue;
        }
        let rest = list.fields.get(place..).ok_or(Malformed)?;
        parts.headers = Headers {
            bytes: &list.bytes[offset..],
            fields: rest,
        };
        parts.content_length = regular(parts.headers)?;
        break;
    }
    Ok(parts)
}

/// Checks all fields after the pseudo-header fields; returns the content length.
fn regular(headers: Headers<'_>) -> Result<Option<u64>, Malformed> {
    let mut content_length = None;
    for (name, value) in headers.iter() {
        if !is_name(name) || !is_value(value) {
            return Err(Malformed);
        }
        match name {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                return Err(Malformed);
            }
            b"te" if value != b"trailers" => return Err(Malformed),
            b"content-length" => {
                let length = number(value).ok_or(Malformed)?;
                if content_length.replace(length).is_some_and(|before| before != length) {
                    return Err(Malformed);
                }
            }
            _ => {}
        }
    }
    Ok(content_length)
}

/// A request, and how many bytes of body it announces.
pub(super) fn request(list: &FieldList) -> Result<(Request<'_>, Option<u64>), Malformed> {
    let parts = parts(list)?;
    let method = parts.method.filter(|method| !method.is_empty()).ok_or(Malformed)?;
    if parts.status.is_some() {
        return Err(Malformed);
    }
    let connect = method == b"CONNECT";
    let well_formed = match (parts.scheme, parts.path) {
        (None, None) => connect && parts.authority.is_some_and(|authority| !authority.is_empty()),
        (Some(scheme), Some(path)) => !connect && !scheme.is_empty() && !path.is_empty(),
        _ => false,
    };
    if !well_formed {
        return Err(Malformed);
    }
    let request = Request {
        method,
        authority: parts.authority.unwrap_or_default(),
        scheme: parts.scheme,
        path: parts.path,
        headers: parts.headers,
    };
    // A tunnel has no body that could have a length.
    Ok((request, parts.content_length.filter(|_| !connect)))
}

/// A response, and how many bytes of body it announces.
pub(super) fn response(list: &FieldList) -> Result<(Response<'_>, Option<u64>), Malformed> {
    let parts = parts(list)?;
    if parts.method.is_some() || parts.scheme.is_some() || parts.authority.is_some() || parts.path.is_some() {
        return Err(Malformed);
    }
    let status = match parts.status {
        Some([a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
            u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
        }
        _ => return Err(Malformed),
    };
    let response = Response {
        status,
        headers: parts.headers,
    };
    Ok((response, parts.content_length))
}

/// Trailers, which have no pseudo-header fields.
pub(super) fn trailers(list: &FieldList) -> Result<Headers<'_>, Malformed> {
    let headers = Headers {
        bytes: &list.bytes,
        fields: &list.fields,
    };
    regular(headers)?;
    Ok(headers)
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Visible ASCII without upper case, and no colon: RFC 9113 §8.2.1.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|byte| matches!(byte, b'!'..=b'~') && !byte.is_ascii_uppercase() && *byte != b':')
}

fn is_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !blank(value.first()) && !blank(value.last()) && !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
}
