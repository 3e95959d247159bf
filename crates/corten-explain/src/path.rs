//! What a connection manager does to paths before anybody matches them.

use corten_envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::PathWithEscapedSlashesAction,
};

/// A path, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Normalized {
    /// It goes on as this.
    Path(String),
    /// The request is answered 400.
    Rejected(&'static str),
    /// The client is sent to this one.
    Redirected(String),
}

/// Normalizes a path with its query as the connection manager says.
pub(crate) fn normalize(manager: &HttpConnectionManager, path: &str) -> Normalized {
    let (path_only, query) = match path.find(['?', '#']) {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let mut path_only = path_only.to_owned();
    let mut redirect = false;
    let escaped = escaped_slashes(&path_only);
    match manager.path_with_escaped_slashes_action() {
        PathWithEscapedSlashesAction::RejectRequest if escaped.is_some() => {
            return Normalized::Rejected("the path has escaped slashes");
        }
        PathWithEscapedSlashesAction::UnescapeAndForward => path_only = escaped.unwrap_or(path_only),
        PathWithEscapedSlashesAction::UnescapeAndRedirect => {
            redirect = escaped.is_some();
            path_only = escaped.unwrap_or(path_only);
        }
        _ => {}
    }
    if manager.normalize_path.as_ref().is_some_and(|value| value.value) {
        match canonical(&path_only) {
            Some(canonical) => path_only = canonical,
            None => return Normalized::Rejected("the path cannot be normalized"),
        }
    }
    if manager.merge_slashes {
        path_only = merged(&path_only);
    }
    let whole = format!("{path_only}{query}");
    if redirect {
        Normalized::Redirected(whole)
    } else {
        Normalized::Path(whole)
    }
}

/// The path with `%2f` and `%5c` as what they stand for; `None`: it has none.
fn escaped_slashes(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    let mut found = false;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let code = after.get(..2).map(str::to_ascii_lowercase);
        match code.as_deref() {
            Some("2f") => out.push('/'),
            Some("5c") => out.push('\\'),
            _ => {
                out.push('%');
                rest = after;
                continue;
            }
        }
        found = true;
        rest = &after[2..];
    }
    out.push_str(rest);
    found.then_some(out)
}

/// The path without `.` and `..`, with slashes for backslashes, and with what need not be escaped as it is. `None`: it has a zero byte or begins
/// with something other than a slash.
fn canonical(path: &str) -> Option<String> {
    if !path.starts_with(['/', '\\']) {
        return None;
    }
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(character) = rest.chars().next() {
        let code = (character == '%')
            .then(|| rest.get(1..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(0) => return None,
            Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') => {
                plain.push(char::from(byte));
                rest = &rest[3..];
            }
            _ => {
                plain.push(if character == '\\' { '/' } else { character });
                rest = &rest[character.len_utf8()..];
            }
        }
    }
    let mut out: Vec<&str> = Vec::new();
    let mut segments = plain[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => out.push(""),
            "." => {}
            ".." => {
                out.pop();
                if last {
                    out.push("");
                }
            }
            other => out.push(other),
        }
    }
    Some(format!("/{}", out.join("/")))
}

fn merged(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use corten_envoy::boolean;

    use super::*;

    #[test]
    fn paths_are_normalized_as_told() {
        let base = HttpConnectionManager {
            normalize_path: boolean(true),
            ..HttpConnectionManager::default()
        };
        let merging = HttpConnectionManager {
            merge_slashes: true,
            ..base.clone()
        };
        let decoding = HttpConnectionManager {
            path_with_escaped_slashes_action: PathWithEscapedSlashesAction::UnescapeAndForward.into(),
            ..merging.clone()
        };
        let none = HttpConnectionManager::default();
        for (manager, path, expected) in [
            (&none, "/a/../b//c", "/a/../b//c"),
            (&base, "/a/../b", "/b"),
            (&base, "/a/./b/.", "/a/b/"),
            (&base, "/a/b/..", "/a/"),
            (&base, "/../../b", "/b"),
            (&base, r"/a\b", "/a/b"),
            (&base, "/a/%2e%2e/b", "/b"),
            (&base, "/%61%7e%2F%5c", "/a~%2F%5c"),
            (&base, "/a//b", "/a//b"),
            (&base, "/a/../b?c=/../d", "/b?c=/../d"),
            (&merging, "//a//b", "/a/b"),
            (&merging, "/a%2fb", "/a%2fb"),
            (&decoding, "/a%2f%2Fb%5Cc", "/a/b/c"),
            (&decoding, "/a%2f..%2fb", "/b"),
        ] {
            assert_eq!(
                normalize(manager, path),
                Normalized::Path(expected.to_owned()),
                "{path}"
            );
        }
        assert!(matches!(normalize(&base, "/a%00"), Normalized::Rejected(_)));
        let redirecting = HttpConnectionManager {
            path_with_escaped_slashes_action: PathWithEscapedSlashesAction::UnescapeAndRedirect.into(),
            ..base
        };
        assert_eq!(
            normalize(&redirecting, "/a%2fb?x"),
            Normalized::Redirected("/a/b?x".to_owned())
        );
        assert_eq!(normalize(&redirecting, "/a/b"), Normalized::Path("/a/b".to_owned()));
    }
}
