//! A call, as it arrives at a proxy.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// How a call comes to the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// To a socket that a listener is bound to.
    Direct,
    /// Redirected by the pod's rules to a port of the proxy: 15001 on the way out, 15006 on the way in.
    Redirected(u16),
    /// From within the proxy, to an internal listener by its name.
    Internal(String),
}

/// What a call speaks inside of its TLS, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.0.
    #[serde(rename = "http/1.0")]
    Http10,
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "http/2")]
    Http2,
    /// Anything else, where the client speaks first.
    #[serde(rename = "tcp")]
    Tcp,
}

impl Protocol {
    /// Whether it is a version of HTTP.
    pub fn is_http(self) -> bool {
        self != Self::Tcp
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Tcp => "TCP",
        }
    }
}

/// A client's certificate, as far as policies look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// Names that are URIs, such as `spiffe://cluster.local/ns/default/sa/client`.
    pub uris: Vec<String>,
    /// Names that are host names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
}

/// What the client says when it opens TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// The server's name that it asks for; empty: none.
    pub sni: String,
    /// The protocols that it offers, the one it likes most first.
    pub alpn: Vec<String>,
    /// The certificate that it shows when asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// The only secret whose certificate it accepts of the server, by its name in the configuration; `None`: whichever comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepts: Option<String>,
    /// Whether it gives up on a server that does not ask for its certificate.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mutual_only: bool,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The method; `GET` by default.
    pub method: String,
    /// The authority, or `Host`: with a port if it was sent with one.
    pub host: String,
    /// The path with its query; `/` by default.
    pub path: String,
    /// Further headers, in order; names in lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            host: String::new(),
            path: "/".to_owned(),
            headers: Vec::new(),
        }
    }
}

impl Request {
    /// Adds a header; its name in whatever case.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// The values of a header, joined as Envoy joins them; `None`: there is none. Names with a colon are what the request line says.
    pub fn get(&self, name: &str) -> Option<String> {
        match name {
            ":method" => return Some(self.method.clone()),
            ":path" => return Some(self.path.clone()),
            ":authority" | "host" => return (!self.host.is_empty()).then(|| self.host.clone()),
            _ => {}
        }
        let name = name.to_ascii_lowercase();
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// Replaces all values of a header by one.
    pub fn set(&mut self, name: &str, value: String) {
        match name {
            ":method" => self.method = value,
            ":path" => self.path = value,
            ":authority" | "host" => self.host = value,
            _ => {
                self.remove(name);
                self.headers.push((name.to_ascii_lowercase(), value));
            }
        }
    }

    /// Takes a header away.
    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }
}

/// What an earlier listener of the same proxy wrote down about a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What it wrote.
    pub value: String,
    /// Whether the listeners after this one see it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lasting: bool,
}

/// One call, as it arrives at a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// How it comes.
    pub entry: Entry,
    /// Where the client wanted to go, before any redirection.
    pub destination: SocketAddr,
    /// Where the connection comes from.
    pub source: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its TLS; `None`: it is plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The request, if it speaks HTTP. Of a call inside of a TLS that this proxy does not open it is still there: the next may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// The connection inside of the request, if that is a CONNECT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<Box<Call>>,
    /// What earlier listeners of the same proxy wrote down about the connection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filter_state: BTreeMap<String, Note>,
    /// The time by which tokens are judged, in seconds since 1970; `None`: no token is too old or too young.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<u64>,
}

impl Call {
    /// A plain TCP call to an address, from 10.0.0.1, straight to a socket.
    pub fn new(destination: SocketAddr) -> Self {
        Self {
            entry: Entry::Direct,
            destination,
            source: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000),
            protocol: Protocol::Tcp,
            tls: None,
            request: None,
            inside: None,
            filter_state: BTreeMap::new(),
            now: None,
        }
    }

    /// The same call as its client's sidecar sees it.
    #[must_use]
    pub fn outbound(mut self) -> Self {
        self.entry = Entry::Redirected(15001);
        self
    }

    /// The same call as its server's sidecar sees it.
    #[must_use]
    pub fn inbound(mut self) -> Self {
        self.entry = Entry::Redirected(15006);
        self
    }

    /// The same call speaking HTTP/1.1.
    #[must_use]
    pub fn http(mut self, request: Request) -> Self {
        self.protocol = Protocol::Http1;
        self.request = Some(request);
        self
    }

    /// The same call inside of TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The call that opens a tunnel to `end` for this one: a CONNECT to `authority` over mutual TLS, by whom `identity` (a URI) names.
    #[must_use]
    pub fn tunnelled(self, end: SocketAddr, authority: &str, identity: String) -> Self {
        let connect = Request {
            method: "CONNECT".to_owned(),
            host: authority.to_owned(),
            path: String::new(),
            headers: Vec::new(),
        };
        let tls = Tls {
            alpn: vec!["h2".to_owned()],
            certificate: Some(Certificate {
                uris: vec![identity],
                dns: Vec::new(),
            }),
            ..Tls::default()
        };
        let outer = Call {
            source: self.source,
            now: self.now,
            ..Call::new(end)
        };
        Call {
            protocol: Protocol::Http2,
            inside: Some(Box::new(self)),
            ..outer.http(connect).tls(tls)
        }
    }
}
