//! What is spoken on a port, and how a service says so: by `appProtocol`, by the port's name, by well-known number.

use std::fmt;

/// An application protocol as the mesh distinguishes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC for browsers.
    GrpcWeb,
    /// HTTP/1.1.
    Http,
    /// A forward proxy's port.
    HttpProxy,
    /// HTTP/2 in clear text.
    Http2,
    /// HTTP over TLS that is passed through.
    Https,
    /// Bytes.
    Tcp,
    /// TLS with a server name.
    Tls,
    /// Datagrams.
    Udp,
    /// MongoDB's protocol.
    Mongo,
    /// Redis' protocol.
    Redis,
    /// MySQL's protocol.
    MySql,
    /// Not said, or not known: detected from the first bytes.
    #[default]
    Unsupported,
}

/// Servers on these ports speak first, which detection would wait for in vain.
const WELL_KNOWN_TCP: [u16; 4] = [25, 53, 3306, 27017];

impl Protocol {
    const NAMES: [(&'static str, Protocol); 12] = [
        ("tcp", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("grpc", Protocol::Grpc),
        ("grpc-web", Protocol::GrpcWeb),
        ("http", Protocol::Http),
        ("http_proxy", Protocol::HttpProxy),
        ("http2", Protocol::Http2),
        ("https", Protocol::Https),
        ("tls", Protocol::Tls),
        ("mongo", Protocol::Mongo),
        ("redis", Protocol::Redis),
        ("mysql", Protocol::MySql),
    ];

    /// From a name in any case.
    pub fn parse(name: &str) -> Protocol {
        let found = Self::NAMES
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or(Protocol::Unsupported, |(_, protocol)| protocol)
    }

    /// Of a port of a Kubernetes service. `transport` is `TCP`, `UDP`, ...
    pub fn of_port(port: u16, name: &str, transport: &str, app_protocol: Option<&str>) -> Protocol {
        if transport == "UDP" {
            return Protocol::Udp;
        }
        match app_protocol {
            Some("kubernetes.io/h2c") => return Protocol::Http2,
            Some("kubernetes.io/ws") => return Protocol::Http,
            Some("kubernetes.io/wss") => return Protocol::Https,
            _ => {}
        }
        let name = app_protocol.unwrap_or(name);
        const GRPC_WEB: &str = "grpc-web";
        if name
            .get(..GRPC_WEB.len())
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case(GRPC_WEB))
        {
            return Protocol::GrpcWeb;
        }
        let prefix = name.split_once('-').map_or(name, |(prefix, _)| prefix);
        match Protocol::parse(prefix) {
            Protocol::Unsupported if WELL_KNOWN_TCP.contains(&port) => Protocol::Tcp,
            protocol => protocol,
        }
    }

    /// Whether it is HTTP, which the proxies route by request.
    pub fn is_http(self) -> bool {
        matches!(
            self,
            Protocol::Http | Protocol::Http2 | Protocol::HttpProxy | Protocol::Grpc | Protocol::GrpcWeb
        )
    }

    /// Whether HTTP/2 carries it.
    pub fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb)
    }

    /// Whether connections are forwarded without a look inside.
    pub fn is_tcp(self) -> bool {
        use Protocol::{Https, Mongo, MySql, Redis, Tcp, Tls};
        matches!(self, Tcp | Https | Tls | Mongo | Redis | MySql)
    }

    /// Whether a TLS handshake comes first.
    pub fn is_tls(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Tls)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Grpc => "GRPC",
            Protocol::GrpcWeb => "GRPC-Web",
            Protocol::Http => "HTTP",
            Protocol::HttpProxy => "HTTP_PROXY",
            Protocol::Http2 => "HTTP2",
            Protocol::Https => "HTTPS",
            Protocol::Tcp => "TCP",
            Protocol::Tls => "TLS",
            Protocol::Udp => "UDP",
            Protocol::Mongo => "Mongo",
            Protocol::Redis => "Redis",
            Protocol::MySql => "MySQL",
            Protocol::Unsupported => "UnsupportedProtocol",
        })
    }
}
