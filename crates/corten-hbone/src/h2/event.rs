//! What a connection tells its driver, and why things end.

use std::fmt;

use rustls::pki_types::CertificateDer;

/// A stream of one connection.
///
/// Its slot is a small number that is free again once the stream has ended in both directions, fit to index a table beside
/// the connection. An id of a stream that has ended is recognized, and what is asked for it is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pub(crate) slot: u32,
    pub(crate) wire: u32,
}

impl StreamId {
    /// The place of the stream among the present ones: small, and used again later.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// The number of the stream on the wire.
    pub fn wire(self) -> u32 {
        self.wire
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.wire.fmt(f)
    }
}

/// Why a stream or a connection ended: the error codes of RFC 9113 §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reason(pub u32);

macro_rules! reasons {
    ($($name:ident = $code:literal, $doc:literal;)*) => {
        impl Reason {
            $(#[doc = $doc] pub const $name: Reason = Reason($code);)*

            /// The name of the code in the RFC, if it has one.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Reason::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    NO_ERROR = 0x0, "A graceful end.";
    PROTOCOL_ERROR = 0x1, "A rule of the protocol was broken.";
    INTERNAL_ERROR = 0x2, "Something unexpected inside.";
    FLOW_CONTROL_ERROR = 0x3, "More was sent than the window allows.";
    SETTINGS_TIMEOUT = 0x4, "Settings were not acknowledged in time.";
    STREAM_CLOSED = 0x5, "A frame for a stream that is half closed.";
    FRAME_SIZE_ERROR = 0x6, "A frame of a wrong size.";
    REFUSED_STREAM = 0x7, "Not processed: it may be tried again.";
    CANCEL = 0x8, "No longer wanted.";
    COMPRESSION_ERROR = 0x9, "Header compression state is lost.";
    CONNECT_ERROR = 0xa, "The connection behind a CONNECT broke.";
    ENHANCE_YOUR_CALM = 0xb, "A load that looks like an attack.";
    INADEQUATE_SECURITY = 0xc, "The transport is not good enough.";
    HTTP_1_1_REQUIRED = 0xd, "Use HTTP/1.1 instead.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}

/// The connection cannot go on. The GOAWAY that says so is in the output; send it, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("http/2 connection error {reason}: {detail}")]
pub struct ConnectionError {
    /// The code sent to the peer.
    pub reason: Reason,
    /// What the peer did, for the log and as debug data of the GOAWAY.
    pub detail: &'static str,
}

/// Decoded header fields, in the order they came, without the pseudo-header fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    pub(crate) bytes: &'a [u8],
    /// Lengths of names and values, which lie one after the other in `bytes`.
    pub(crate) fields: &'a [(u32, u32)],
}

impl<'a> Headers<'a> {
    /// All fields; names are lower case.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.bytes;
        self.fields.iter().map(move |&(name, value)| {
            let (field, after) = rest.split_at((name + value) as usize);
            rest = after;
            field.split_at(name as usize)
        })
    }

    /// The first value of a name.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(n, _)| *n == name.as_bytes()).map(|(_, value)| value)
    }

    /// All values of a name.
    pub fn get_all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(n, _)| *n == name.as_bytes())
            .map(|(_, value)| value)
    }
}

/// A request that opened a stream. Well-formed; whether the method is wanted is for the driver to judge.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `:method`.
    pub method: &'a [u8],
    /// `:authority`, empty when absent.
    pub authority: &'a [u8],
    /// `:scheme`, absent for CONNECT.
    pub scheme: Option<&'a [u8]>,
    /// `:path`, absent for CONNECT.
    pub path: Option<&'a [u8]>,
    /// The other fields.
    pub headers: Headers<'a>,
}

impl Request<'_> {
    /// Whether this asks for a tunnel.
    pub fn is_connect(&self) -> bool {
        self.method == b"CONNECT"
    }
}

/// The final response to a request of ours; informational ones are dropped.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// `:status`.
    pub status: u16,
    /// The other fields.
    pub headers: Headers<'a>,
}

/// Who is told what a connection receives, while it receives.
///
/// `'b` is the life of the bytes given to [`Connection::receive`]: data may be kept until then and written
/// with one vectored write instead of one write a record.
///
/// After `end` and a `send` with `end`, or after `reset`, a stream is gone and its slot may be used again.
pub trait Sink<'b> {
    /// The TLS handshake is done: who the peer is, its own certificate first. Called once, before anything else (by a
    /// [`Tunnel`](crate::Tunnel) only).
    fn secured(&mut self, _certificates: &[CertificateDer<'static>]) {}

    /// The peer opened a stream (server only). It is answered with [`Connection::respond`] at any later time.
    fn request(&mut self, stream: StreamId, request: Request<'_>);

    /// The peer answered (client only).
    fn response(&mut self, stream: StreamId, response: Response<'_>);

    /// Bytes of a stream. Each byte is to be given back once with [`Connection::release`] when it was passed on.
    fn data(&mut self, stream: StreamId, bytes: &'b [u8]);

    /// The peer sends no more on this stream.
    fn end(&mut self, stream: StreamId);

    /// The stream ended at once, by the peer or because it broke a rule. [`Reason::REFUSED_STREAM`] also when a GOAWAY
    /// says that the request was not looked at.
    fn reset(&mut self, stream: StreamId, reason: Reason);

    /// Fields after the data; `end` follows.
    fn trailers(&mut self, _stream: StreamId, _headers: Headers<'_>) {}

    /// The peer wants no further requests on this connection.
    fn go_away(&mut self, _reason: Reason, _debug: &[u8]) {}

    /// A PING of ours came back.
    fn pong(&mut self, _payload: [u8; 8]) {}
}
