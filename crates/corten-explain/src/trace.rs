//! What became of a call: a value that people read as text and programs as JSON.

use serde::{Deserialize, Serialize};

use crate::Call;

/// A call on its way, one hop for each listener that it passes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The hops; each but the first says which one led to it.
    pub hops: Vec<Hop>,
}

/// One listener that a call passes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// The proxy, by whatever name the caller gives it; empty: there is only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proxy: String,
    /// What led here; `None`: the call began here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// What arrived.
    pub call: Call,
    /// The listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenerMatched>,
    /// The filter chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter_chain: Option<ChainMatched>,
    /// The TLS that ends here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsTerminated>,
    /// What each filter said, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FilterVerdict>,
    /// How the request was routed, where this hop reads requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTrace>,
    /// The clusters that it may go to, with their shares of such calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Destination>,
    /// The authority of the CONNECT that the connection is put into on its way on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    /// How it ends.
    pub outcome: Outcome,
}

/// What led to a hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Via {
    /// The earlier hop's place in the trace.
    pub hop: usize,
    /// The cluster there.
    pub cluster: String,
    /// The endpoint there.
    pub endpoint: String,
}

/// The listener that took a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerMatched {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Why this one.
    pub because: String,
    /// What it found out by looking at the first bytes: `tls` or `raw_buffer`.
    pub transport: String,
    /// The application protocols it found, in the client's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<String>,
    /// The name of the server that it found in TLS.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_name: String,
}

/// The filter chain that took a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainMatched {
    /// Its name.
    pub name: String,
    /// What it asks for that the call has.
    pub because: String,
    /// Those that were not taken, with the first thing that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
}

/// TLS that ends at this proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsTerminated {
    /// The secret with the certificate that is shown.
    pub certificate: String,
    /// Whether a client must show a certificate.
    pub asks_for_certificate: bool,
    /// The secret with the authorities that a client's certificate must be of; empty: whatever is shown will do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub authorities: String,
    /// Who the client is, by its certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peer: Vec<String>,
}

/// Something that was not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// Its name, or its place if it has none.
    pub name: String,
    /// The first thing that decided against it.
    pub because: String,
}

/// What a filter did with the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Let it pass.
    Allowed,
    /// Ended it.
    Denied,
    /// May end, delay or change it: by lot, or by what somebody else says.
    Depends,
    /// Does not decide.
    Passed,
}

/// A filter and what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterVerdict {
    /// The filter's name.
    pub name: String,
    /// What it did.
    pub verdict: Verdict,
    /// Why, in words; empty where there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The policies it looked at, where it has such.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyVerdict>,
}

/// A policy and whether it speaks of the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVerdict {
    /// The policy's name.
    pub name: String,
    /// What it does with what it speaks of: `ALLOW`, `DENY` or `LOG`.
    pub action: String,
    /// Whether it is only tried out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// Whether it speaks of this call.
    pub matched: bool,
    /// What decided that.
    pub why: String,
}

/// How a request was routed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpTrace {
    /// The route configuration.
    pub route_config: String,
    /// Whether the listener names it, rather than holds it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_name: bool,
    /// The virtual host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_host: Option<String>,
    /// The domain of it that the host matched, and how.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// The routes before the one that was taken, and what each lacked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// The route; several if one of them is for a share of calls only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteTaken>,
}

/// A route that a request takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteTaken {
    /// Its name, or its place if it has none.
    pub name: String,
    /// Its place in the virtual host, from 0.
    pub index: usize,
    /// The share of such calls that take it: 1 is all.
    pub share: f64,
    /// What it asks for that the request has.
    pub because: String,
    /// What it does.
    pub action: String,
    /// What it sets: rewrites, headers, timeout, retries, mirrors and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// What is answered here, where nothing is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// How long the answer may take with all attempts, in milliseconds; 0: as long as it takes. `None`: nothing is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// When and how often it is tried again; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Whom a copy is sent to, whose answer nobody waits for, and for which share of such calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Destination>,
}

/// When and how often a request is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// How often at most, besides the first time.
    pub times: u32,
    /// On which conditions, by Envoy's names.
    pub on: Vec<String>,
    /// The statuses that `retriable-status-codes` means.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
    /// How long each attempt may take, in milliseconds; 0: as long as all of them.
    #[serde(default)]
    pub each_ms: u64,
}

impl Retries {
    /// Whether an answer with this status is a reason to try again.
    pub fn on_status(&self, status: u16) -> bool {
        self.on.iter().any(|condition| match &**condition {
            "5xx" => (500..600).contains(&status),
            "gateway-error" => (502..=504).contains(&status),
            "retriable-4xx" => status == 409,
            "retriable-status-codes" => self.statuses.contains(&status),
            other => other.parse() == Ok(status),
        })
    }

    /// Whether a connection that is closed before any answer is a reason to try again.
    pub fn on_reset(&self) -> bool {
        let conditions = ["5xx", "gateway-error", "reset", "reset-before-request"];
        self.on.iter().any(|condition| conditions.contains(&&**condition))
    }
}

/// A setting, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// What is set.
    pub name: String,
    /// To what.
    pub value: String,
}

impl Setting {
    pub(crate) fn new(name: &str, value: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            value: value.into(),
        }
    }
}

/// A cluster that a call may go to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// The cluster.
    pub cluster: String,
    /// The share of such calls: 1 is all.
    pub share: f64,
    /// The request as it is sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<crate::Request>,
    /// What the cluster is; `None`: the proxy does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// What is done to the headers of the answer on its way back, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response: Vec<HeaderChange>,
}

/// A change of a header; names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderChange {
    /// It is taken away.
    Remove(String),
    /// It has this value and no other.
    Set(String, String),
    /// It has this value if it is there.
    Replace(String, String),
    /// It has this value if it is not there.
    Default(String, String),
    /// This value is added to those that it has.
    Add(String, String),
}

impl HeaderChange {
    /// Makes the change.
    pub fn apply(&self, headers: &mut Vec<(String, String)>) {
        let has = |headers: &[(String, String)], name: &str| headers.iter().any(|(key, _)| key == name);
        match self {
            Self::Remove(name) => headers.retain(|(key, _)| key != name),
            Self::Replace(name, _) if !has(headers, name) => {}
            Self::Set(name, value) | Self::Replace(name, value) => {
                headers.retain(|(key, _)| key != name);
                headers.push((name.clone(), value.clone()));
            }
            Self::Default(name, _) if has(headers, name) => {}
            Self::Default(name, value) | Self::Add(name, value) => headers.push((name.clone(), value.clone())),
        }
    }
}

/// What a cluster is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    /// How it knows its endpoints: `EDS`, `STRICT_DNS`, `ORIGINAL_DST` and so on.
    pub discovery: String,
    /// How it chooses among them.
    pub policy: String,
    /// Limits, ejection, pools and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// Why the endpoints have these shares, where that is not plain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointShare>,
}

/// An endpoint and its share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointShare {
    /// Its address: `ip:port`, a path, or `internal:listener`.
    pub address: String,
    /// The share of the cluster's calls: 1 is all.
    pub share: f64,
    /// Its weight.
    pub weight: u32,
    /// Its priority, 0 being the first.
    pub priority: u32,
    /// Its health as it was sent.
    pub health: String,
    /// Where it is: `region/zone/subzone`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub locality: String,
    /// The address that is meant, where the endpoint is an internal listener that reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<std::net::SocketAddr>,
    /// How it is spoken to.
    pub transport: Choice,
}

/// How an endpoint is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// The match of the cluster that chose it; empty: the cluster has one for all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub matched: String,
    /// `plain`, `tls` (the server shows a certificate), `mtls` (both do), or the name of another transport socket.
    pub mode: String,
    /// The name that the server is asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sni: String,
    /// The names of which the server's certificate must have one; empty: whichever the roots vouch for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<String>,
    /// The protocols offered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
    /// The secret with the certificate that is shown; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub certificate: String,
    /// The secret with the authorities that the server's certificate must be of; empty: any will do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub authorities: String,
}

/// An answer that the proxy itself gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Where a redirect points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The body.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Further headers, with names in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

/// Why a call ends at a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Nobody listens there.
    NoListener,
    /// The listener has no filter chain for it: the connection is closed.
    NoFilterChain,
    /// The listener has several filter chains for it: Envoy would not have accepted it.
    MultipleFilterChains,
    /// No virtual host has the domain.
    NoVirtualHost,
    /// No route matches.
    NoRoute,
    /// Plain HTTP is redirected to HTTPS.
    TlsRedirect,
    /// The filters expect HTTP in the clear, and something else comes.
    ProtocolError,
    /// Plain text where TLS is expected, or a certificate that the client does not accept.
    TlsError,
    /// One side expects mutual TLS, and the other does not.
    MtlsError,
    /// A policy denies.
    Denied,
    /// A token is missing or not good.
    Unauthenticated,
    /// A fault is injected.
    Aborted,
    /// A filter answers for another reason.
    BadRequest,
    /// The proxy does not have the cluster.
    NoCluster,
    /// The cluster has no endpoint that may be used.
    NoEndpoint,
    /// The configuration has something that cannot be followed here, or that Envoy would not have accepted.
    Unsupported,
}

impl Refusal {
    /// Its name, as it is in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoListener => "no-listener",
            Self::NoFilterChain => "no-filter-chain",
            Self::MultipleFilterChains => "multiple-filter-chains",
            Self::NoVirtualHost => "no-virtual-host",
            Self::NoRoute => "no-route",
            Self::TlsRedirect => "tls-redirect",
            Self::ProtocolError => "protocol-error",
            Self::TlsError => "tls-error",
            Self::MtlsError => "mtls-error",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Aborted => "aborted",
            Self::BadRequest => "bad-request",
            Self::NoCluster => "no-cluster",
            Self::NoEndpoint => "no-endpoint",
            Self::Unsupported => "unsupported",
        }
    }
}

/// How a hop ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// The call goes on to the hop's destinations.
    Forwarded,
    /// The proxy answers, as it was told to.
    Answered(Answer),
    /// The call ends here.
    Refused {
        /// Why, in a word.
        error: Refusal,
        /// The status that the client gets; `None`: the connection is closed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Why, in words.
        why: String,
    },
}

impl Hop {
    /// A hop of which only the call and the proxy's name are known so far, and that lets the call pass.
    pub fn new(proxy: String, call: Call) -> Hop {
        Hop {
            proxy,
            via: None,
            call,
            listener: None,
            filter_chain: None,
            tls: None,
            filters: Vec::new(),
            http: None,
            destinations: Vec::new(),
            tunnel: None,
            outcome: Outcome::Forwarded,
        }
    }

    /// Why the call ends here; `None`: it goes on, or is answered.
    pub fn refusal(&self) -> Option<Refusal> {
        match &self.outcome {
            Outcome::Refused { error, .. } => Some(*error),
            Outcome::Forwarded | Outcome::Answered(_) => None,
        }
    }
}

impl Trace {
    /// The last hops: those that led to no other.
    pub fn ends(&self) -> impl Iterator<Item = &Hop> {
        let led: std::collections::HashSet<usize> = self
            .hops
            .iter()
            .filter_map(|hop| hop.via.as_ref())
            .map(|via| via.hop)
            .collect();
        self.hops
            .iter()
            .enumerate()
            .filter(move |(at, _)| !led.contains(at))
            .map(|(_, hop)| hop)
    }
}
