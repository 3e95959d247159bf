//! Why a connection failed: one code, the side at fault, the policy if one decided, and words for the log.

use corten_traffic::Name;

/// Istio's response flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flag {
    /// Nothing failed.
    #[default]
    None,
    /// A policy forbids it.
    Deny,
    /// The other side could not be reached, and everything without a flag of its own.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// HTTP/2 failed.
    H2,
    /// The tunnel could not be opened in time.
    NetworkPolicy,
    /// There is no certificate.
    Identity,
    /// A certificate was revoked.
    Revoked,
}

impl Flag {
    /// As the label is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Flag::None => "-",
            Flag::Deny => "DENY",
            Flag::Connect => "CONNECT",
            Flag::Tls => "TLS_FAILURE",
            Flag::H2 => "H2_HANDSHAKE_FAILURE",
            Flag::NetworkPolicy => "NETWORK_POLICY",
            Flag::Identity => "IDENTITY_ERROR",
            Flag::Revoked => "CERT_REVOKED",
        }
    }
}

/// At whose door a failure lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The application that called.
    ClientApp,
    /// The proxy of the calling side.
    ClientProxy,
    /// What lies between, or it cannot be told.
    Network,
    /// The proxy of the called side.
    ServerProxy,
    /// The application that was called.
    ServerApp,
}

impl Side {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::ClientApp => "client app",
            Side::ClientProxy => "client proxy",
            Side::Network => "network",
            Side::ServerProxy => "server proxy",
            Side::ServerApp => "server app",
        }
    }
}

/// What happened, as one code that can be searched and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// A policy refused the connection.
    PolicyDenied,
    /// A policy that came later forbids it.
    PolicyChanged,
    /// The pod is not known to the control plane.
    WorkloadUnknown,
    /// No endpoint can be chosen.
    NoEndpoint,
    /// The waypoint or gateway cannot be found.
    NoGateway,
    /// The connection would come back to the proxy.
    SelfCall,
    /// A name could not be resolved.
    Resolve,
    /// The destination refused the TCP connection.
    ConnectRefused,
    /// The destination did not answer.
    ConnectTimeout,
    /// The connection to the destination failed in another way.
    ConnectFailed,
    /// There is no certificate for the pod.
    CertificateMissing,
    /// The TLS handshake failed.
    TlsHandshake,
    /// HTTP/2 was not spoken as it should be.
    Http2,
    /// The peer's proxy refused, with this status.
    Status(u16),
    /// A stream was reset.
    StreamReset,
    /// The connection broke while bytes passed.
    ConnectionReset,
    /// The tunnel broke or stopped answering.
    TunnelLost,
    /// A pod has as much as it may have.
    Limit,
    /// The pod left, or the proxy ended.
    Shutdown,
    /// The request in the tunnel was malformed or for somebody else.
    BadRequest,
    /// A certificate was revoked.
    Revoked,
    /// A mistake in this program.
    Internal,
}

impl Code {
    /// The code as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::PolicyDenied => "policy_denied",
            Code::PolicyChanged => "policy_changed",
            Code::WorkloadUnknown => "workload_unknown",
            Code::NoEndpoint => "no_endpoint",
            Code::NoGateway => "no_gateway",
            Code::SelfCall => "self_call",
            Code::Resolve => "resolve",
            Code::ConnectRefused => "connect_refused",
            Code::ConnectTimeout => "connect_timeout",
            Code::ConnectFailed => "connect_failed",
            Code::CertificateMissing => "certificate_missing",
            Code::TlsHandshake => "tls_handshake",
            Code::Http2 => "http2",
            Code::Status(_) => "refused_by_peer",
            Code::StreamReset => "stream_reset",
            Code::ConnectionReset => "connection_reset",
            Code::TunnelLost => "tunnel_lost",
            Code::Limit => "limit",
            Code::Shutdown => "shutdown",
            Code::BadRequest => "bad_request",
            Code::Revoked => "certificate_revoked",
            Code::Internal => "internal",
        }
    }
}

/// Why a connection failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Istio's flag.
    pub flag: Flag,
    /// Our code.
    pub code: Code,
    /// Whose fault.
    pub side: Side,
    /// The policy that decided.
    pub policy: Option<Name>,
    /// In words.
    pub text: String,
}

impl Failure {
    /// From its parts.
    pub fn new(flag: Flag, code: Code, side: Side, text: impl Into<String>) -> Failure {
        Failure {
            flag,
            code,
            side,
            policy: None,
            text: text.into(),
        }
    }

    /// With the policy that decided.
    pub fn by_policy(mut self, policy: Option<&Name>) -> Failure {
        self.policy = policy.cloned();
        self
    }

    /// A TCP connection that did not come about.
    pub fn connect(error: &std::io::Error, to: std::net::SocketAddr, side: Side) -> Failure {
        let code = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Code::ConnectRefused,
            std::io::ErrorKind::TimedOut => Code::ConnectTimeout,
            _ => Code::ConnectFailed,
        };
        Failure::new(Flag::Connect, code, side, format!("connection failed: {to}: {error}"))
    }
}
