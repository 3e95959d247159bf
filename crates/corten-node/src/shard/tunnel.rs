//! A tunnel: TLS and HTTP/2 over a socket, or over a stream of another tunnel, and the streams in it.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use corten_core::Identity;
use corten_hbone::Tunnel as Hbone;
use corten_hbone::h2::{Reason, Request, Response, Sink, StreamId};
use rustls::pki_types::CertificateDer;

use super::pod::PoolKey;
use super::poll::Slot;
use crate::telemetry::baggage::Baggage;

/// One tunnel.
pub(crate) struct Tunnel {
    pub(crate) pod: Slot,
    /// Whom it was made for, if we made it.
    pub(crate) key: Option<PoolKey>,
    pub(crate) hbone: Hbone,
    pub(crate) transport: Transport,
    pub(crate) stage: Stage,
    /// Whose each stream is, by its slot.
    pub(crate) streams: Vec<Option<Owner>>,
    /// How many streams have an owner.
    pub(crate) used: usize,
    /// Flows that wait until a stream can be opened.
    pub(crate) waiting: VecDeque<Slot>,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) peer_identity: Option<Arc<Identity>>,
    /// Foreign source addresses can be used for what comes through it.
    pub(crate) transparent: bool,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other side has said that it ends: a read that gives little is not the last one.
    pub(crate) ending: bool,
    /// There is something to flush.
    pub(crate) dirty: bool,
    pub(crate) queued: bool,
    /// What has to happen by when: the handshake, or the answer to a ping.
    pub(crate) began: Instant,
    pub(crate) used_at: Instant,
    pub(crate) next_ping: Instant,
    pub(crate) ping_sent: Option<Instant>,
}

/// What carries a tunnel.
pub(crate) enum Transport {
    Socket(OwnedFd),
    /// A stream of another tunnel, and what that has not taken yet.
    Stream {
        tunnel: Slot,
        stream: StreamId,
        carry: Vec<u8>,
    },
}

/// How far a tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The TCP connection is being made.
    Connecting,
    /// TLS is being negotiated.
    Handshaking,
    /// Streams can be used.
    Open,
    /// No new streams; it ends with the last one.
    Closing,
}

/// Whose a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Flow(Slot),
    /// A tunnel inside this one.
    Tunnel(Slot),
}

impl Tunnel {
    pub(crate) fn new(
        pod: Slot,
        key: Option<PoolKey>,
        hbone: Hbone,
        transport: Transport,
        stage: Stage,
        (peer, local): (SocketAddr, SocketAddr),
        now: Instant,
    ) -> Box<Tunnel> {
        Box::new(Tunnel {
            pod,
            key,
            hbone,
            transport,
            stage,
            streams: Vec::new(),
            used: 0,
            waiting: VecDeque::new(),
            peer,
            local,
            peer_identity: None,
            transparent: false,
            readable: false,
            writable: false,
            ending: false,
            dirty: false,
            queued: false,
            began: now,
            used_at: now,
            next_ping: now,
            ping_sent: None,
        })
    }

    pub(crate) fn owner(&self, stream: StreamId) -> Option<Owner> {
        *self.streams.get(stream.slot())?
    }

    pub(crate) fn set_owner(&mut self, stream: StreamId, owner: Owner) {
        if self.streams.len() <= stream.slot() {
            self.streams.resize(stream.slot() + 1, None);
        }
        if self.streams[stream.slot()].replace(owner).is_none() {
            self.used += 1;
        }
    }

    /// A stream has no owner any more.
    pub(crate) fn disown(&mut self, stream: StreamId, owner: Owner) {
        if let Some(place) = self.streams.get_mut(stream.slot())
            && *place == Some(owner)
        {
            *place = None;
            self.used -= 1;
        }
        if self.used == 0 {
            self.streams = Vec::new();
        }
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.transport {
            Transport::Socket(socket) => Some(socket.as_fd()),
            Transport::Stream { .. } => None,
        }
    }
}

/// A socket as something to read from and write to.
pub(crate) struct Wire<'a>(pub(crate) BorrowedFd<'a>);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(super::sockets::receive(self.0, buffer)?)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(super::sockets::send(self.0, &[IoSlice::new(bytes)])?)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(super::sockets::send(self.0, parts)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a tunnel told while it was read.
pub(crate) enum Event<'b> {
    /// The handshake is done, with this peer.
    Secured(Option<Arc<Identity>>),
    Request(StreamId, Box<Head>),
    Response(StreamId, u16, Option<Box<Baggage>>),
    Data(StreamId, &'b [u8]),
    End(StreamId),
    Reset(StreamId, Reason),
    GoAway,
    Pong,
}

/// What we want to know of a request.
pub(crate) struct Head {
    pub(crate) connect: bool,
    pub(crate) authority: String,
    pub(crate) baggage: Option<Box<Baggage>>,
    pub(crate) forwarded_host: Option<Box<str>>,
    pub(crate) network: Option<String>,
}

/// Keeps what a tunnel tells, to be acted on when it has been read.
#[derive(Default)]
pub(crate) struct Events<'b> {
    pub(crate) list: Vec<Event<'b>>,
    /// Read baggage headers.
    pub(crate) read_baggage: bool,
}

impl Events<'_> {
    fn baggage<'h>(&self, values: impl Iterator<Item = &'h [u8]>) -> Option<Box<Baggage>> {
        if !self.read_baggage {
            return None;
        }
        let mut values = values.peekable();
        values.peek()?;
        Some(Box::new(corten_traffic::Baggage::parse(values).into()))
    }
}

impl<'b> Sink<'b> for Events<'b> {
    fn secured(&mut self, certificates: &[CertificateDer<'static>]) {
        let identity = certificates.first().and_then(corten_identity::peer_identity);
        self.list.push(Event::Secured(identity.map(Arc::new)));
    }

    fn request(&mut self, stream: StreamId, request: Request<'_>) {
        let headers = request.headers;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let head = Head {
            connect: request.is_connect(),
            authority: text(request.authority),
            baggage: self.baggage(headers.get_all("baggage")),
            forwarded_host: headers
                .get("forwarded")
                .and_then(corten_traffic::forwarded_host)
                .map(Box::from),
            network: headers.get("x-forwarded-network").map(text),
        };
        self.list.push(Event::Request(stream, Box::new(head)));
    }

    fn response(&mut self, stream: StreamId, response: Response<'_>) {
        let baggage = self.baggage(response.headers.get_all("baggage"));
        self.list.push(Event::Response(stream, response.status, baggage));
    }

    fn data(&mut self, stream: StreamId, bytes: &'b [u8]) {
        self.list.push(Event::Data(stream, bytes));
    }

    fn end(&mut self, stream: StreamId) {
        self.list.push(Event::End(stream));
    }

    fn reset(&mut self, stream: StreamId, reason: Reason) {
        self.list.push(Event::Reset(stream, reason));
    }

    fn go_away(&mut self, _reason: Reason, _debug: &[u8]) {
        self.list.push(Event::GoAway);
    }

    fn pong(&mut self, _payload: [u8; 8]) {
        self.list.push(Event::Pong);
    }
}
