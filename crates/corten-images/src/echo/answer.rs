//! What the server answers with: who it is and what it saw.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use http::request::Parts;
use serde::Serialize;

use super::identity::Identity;

/// The content of an answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer<'a> {
    #[serde(flatten)]
    identity: &'a Identity,
    protocol: String,
    method: String,
    path: String,
    host: String,
    peer: String,
    headers: BTreeMap<String, Vec<String>>,
    body: String,
}

impl<'a> Answer<'a> {
    /// The answer to a request with this body.
    pub(crate) fn new(identity: &'a Identity, request: &Parts, body: &[u8], peer: SocketAddr) -> Self {
        let mut headers = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in &request.headers {
            headers
                .entry(name.to_string())
                .or_default()
                .push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        let host = request.uri.authority().map(|authority| authority.to_string());
        let host = host
            .or_else(|| headers.get("host")?.first().cloned())
            .unwrap_or_default();
        Self {
            identity,
            protocol: format!("{:?}", request.version),
            method: request.method.to_string(),
            path: request
                .uri
                .path_and_query()
                .map_or("/", http::uri::PathAndQuery::as_str)
                .to_owned(),
            host,
            // An IPv4 caller of a socket for both families is shown as what it is.
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string(),
            headers,
            body: String::from_utf8_lossy(body).into_owned(),
        }
    }

    /// As one line of JSON.
    pub(crate) fn json(&self) -> String {
        let mut text = serde_json::to_string(self).expect("strings serialize");
        text.push('\n');
        text
    }

    /// As lines of `name: value`.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let identity = self.identity;
        let lines = [
            ("pod", &identity.pod),
            ("namespace", &identity.namespace),
            ("node", &identity.node),
            ("service account", &identity.service_account),
            ("version", &identity.version),
            ("protocol", &self.protocol),
            ("method", &self.method),
            ("path", &self.path),
            ("host", &self.host),
            ("peer", &self.peer),
        ];
        for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
            let _ = writeln!(text, "{name}: {value}");
        }
        for (name, values) in &self.headers {
            for value in values {
                let _ = writeln!(text, "header {name}: {value}");
            }
        }
        if !self.body.is_empty() {
            let _ = writeln!(text, "body: {}", self.body);
        }
        text
    }
}
