//! What matchers can see of a call at one point of its way.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value};

use crate::{Call, HeaderChange, Request, Tls};

/// What is known of a call while a proxy handles it. Filters add to it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Where it was to go.
    pub(crate) destination: SocketAddr,
    /// Where its connection comes from.
    pub(crate) source: SocketAddr,
    /// Where the request comes from, by what trusted proxies say.
    pub(crate) remote: IpAddr,
    /// The name of the server in its TLS, also where it is not opened here.
    pub(crate) server_name: String,
    /// Its TLS, if it ends here.
    pub(crate) tls: Option<Tls>,
    /// Its request, if requests are read here.
    pub(crate) request: Option<Request>,
    /// `https` or `http`, by the connection or by what a proxy before said.
    pub(crate) scheme: String,
    /// What listeners and filters wrote down about the connection, and whether internal listeners get to see it.
    pub(crate) state: BTreeMap<String, Noted>,
    /// What filters wrote down about the request, by filter.
    pub(crate) metadata: Map<String, Value>,
    /// What filters do to the headers of the answer.
    pub(crate) response: Vec<HeaderChange>,
}

/// A note about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// The note.
    pub(crate) value: String,
    /// How far connections to internal listeners carry it.
    pub(crate) carried: Carried,
}

/// How far a note is carried from listener to listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Not at all.
    Never,
    /// To the next.
    Once,
    /// To all.
    Always,
}

impl Facts {
    /// What is known when a connection arrives.
    pub(crate) fn new(call: &Call) -> Self {
        let state = call.filter_state.iter().map(|(key, value)| {
            let noted = Noted {
                value: value.value.clone(),
                carried: if value.lasting { Carried::Always } else { Carried::Never },
            };
            (key.clone(), noted)
        });
        Self {
            destination: call.destination,
            source: call.source,
            remote: call.source.ip(),
            server_name: String::new(),
            tls: None,
            request: None,
            scheme: "http".to_owned(),
            state: state.collect(),
            metadata: Map::new(),
            response: Vec::new(),
        }
    }

    /// The values of a header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        if name == ":scheme" {
            return Some(self.scheme.clone());
        }
        self.request.as_ref()?.get(name)
    }

    /// The path without its query; empty without a request.
    pub(crate) fn path(&self) -> &str {
        let path = self.request.as_ref().map_or("", |request| &*request.path);
        path.split(['?', '#']).next().unwrap_or_default()
    }

    /// The path with its query.
    pub(crate) fn path_and_query(&self) -> &str {
        self.request.as_ref().map_or("", |request| &*request.path)
    }

    /// The names of the client's certificate that are URIs.
    pub(crate) fn peer_uris(&self) -> &[String] {
        let certificate = self.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
        certificate.map_or(&[], |certificate| &certificate.uris)
    }
}
