//! A flow: one proxied connection, its two ends, and what has to be remembered to account for it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use corten_core::Identity;
use corten_hbone::h2::StreamId;
use corten_traffic::{InboundTarget, Name, Service, Upstream, Workload};

use super::poll::Slot;
use crate::telemetry::baggage::Baggage;
use crate::telemetry::series::Series;

/// Which way a flow goes, seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The pod calls.
    Outbound,
    /// The pod is called through a tunnel.
    InboundTunnel,
    /// The pod is called without one.
    InboundPlain,
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The pod's workload has not been told by the control plane yet.
    AwaitWorkload,
    /// A name is being resolved.
    AwaitAddress,
    /// There is no certificate yet.
    AwaitCertificate,
    /// The tunnel to the next hop is being made, or is full.
    AwaitTunnel,
    /// The next hop has been asked and has not answered.
    AwaitResponse,
    /// The TCP connection to the called side is being made.
    Connecting,
    /// Bytes pass.
    Copying,
}

/// One proxied connection.
pub(crate) struct Flow {
    pub(crate) pod: Slot,
    pub(crate) direction: Direction,
    pub(crate) phase: Phase,
    /// Where bytes of the caller come from.
    pub(crate) caller: End,
    /// Where they go.
    pub(crate) callee: End,
    /// Bytes passed from caller to callee.
    pub(crate) forth: u64,
    /// Bytes passed from callee to caller.
    pub(crate) back: u64,
    /// What of both has been counted already.
    pub(crate) counted: (u64, u64),
    /// In a ready queue.
    pub(crate) queued: bool,
    pub(crate) about: Box<About>,
}

/// What is told about a flow, and what its phases need before bytes pass.
pub(crate) struct About {
    pub(crate) started: Instant,
    /// The caller's address.
    pub(crate) source: SocketAddr,
    /// The address the connection was accepted for.
    pub(crate) destination: SocketAddr,
    /// Where the TCP connection goes, when that is another address.
    pub(crate) next_hop: Option<SocketAddr>,
    /// What a tunnel asks for.
    pub(crate) authority: Option<Box<str>>,
    /// The workload that calls.
    pub(crate) source_workload: Option<Arc<Workload>>,
    /// The workload that is called.
    pub(crate) destination_workload: Option<Arc<Workload>>,
    /// The service that was meant.
    pub(crate) service: Option<Arc<Service>>,
    /// Who the other side is by its certificate.
    pub(crate) peer_identity: Option<Arc<Identity>>,
    /// What the other side says it is.
    pub(crate) baggage: Option<Box<Baggage>>,
    /// The host the peer says it meant.
    pub(crate) forwarded_host: Option<Box<str>>,
    /// Outbound: the decision.
    pub(crate) upstream: Option<Box<Upstream>>,
    /// Inbound: the decision.
    pub(crate) target: Option<Box<InboundTarget>>,
    /// The policy that let the connection pass.
    pub(crate) allowed_by: Option<Name>,
    /// Counters; resolved when the connection is first accounted for.
    pub(crate) series: Option<Arc<Series>>,
    /// Bytes that came before there was anybody to take them.
    pub(crate) early: Vec<u8>,
    /// By when the present phase has to be over.
    pub(crate) deadline: Instant,
    /// The tunnel inside the tunnel has been begun.
    pub(crate) inside: bool,
    /// It counts among the connections that were opened.
    pub(crate) opened: bool,
    /// What came in could have a foreign source address.
    pub(crate) transparent: bool,
}

impl About {
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr, started: Instant) -> Box<About> {
        Box::new(About {
            started,
            source,
            destination,
            next_hop: None,
            authority: None,
            source_workload: None,
            destination_workload: None,
            service: None,
            peer_identity: None,
            baggage: None,
            forwarded_host: None,
            upstream: None,
            target: None,
            allowed_by: None,
            series: None,
            early: Vec::new(),
            deadline: started,
            inside: false,
            opened: false,
            transparent: false,
        })
    }
}

/// One end of a flow.
pub(crate) enum End {
    /// Not there yet.
    Absent,
    /// A TCP connection of its own.
    Socket(Leg),
    /// A stream of a tunnel.
    Stream(StreamEnd),
}

/// A TCP connection.
pub(crate) struct Leg {
    pub(crate) socket: OwnedFd,
    /// The kernel may have bytes for us.
    pub(crate) readable: bool,
    /// The kernel may take bytes.
    pub(crate) writable: bool,
    /// The other side has said that it ends: a read that gives little is not the last one.
    pub(crate) ending: bool,
    /// It is broken, or closed in both directions.
    pub(crate) broken: bool,
    /// All of its bytes have been read.
    pub(crate) eof: bool,
    /// It was told that no more comes.
    pub(crate) shut: bool,
    /// Bytes that the kernel has not taken.
    pub(crate) pending: Vec<u8>,
}

/// A stream of a tunnel.
pub(crate) struct StreamEnd {
    pub(crate) tunnel: Slot,
    pub(crate) stream: StreamId,
    /// The peer has sent all.
    pub(crate) eof: bool,
    /// We have sent all.
    pub(crate) shut: bool,
}

impl Leg {
    pub(crate) fn new(socket: OwnedFd) -> Leg {
        Leg {
            socket,
            readable: false,
            writable: false,
            ending: false,
            broken: false,
            eof: false,
            shut: false,
            pending: Vec::new(),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl End {
    pub(crate) fn leg(&mut self) -> Option<&mut Leg> {
        match self {
            End::Socket(leg) => Some(leg),
            End::Absent | End::Stream(_) => None,
        }
    }

    pub(crate) fn stream(&mut self) -> Option<&mut StreamEnd> {
        match self {
            End::Stream(stream) => Some(stream),
            End::Absent | End::Socket(_) => None,
        }
    }

    /// Everything was received from it and everything sent to it.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            End::Absent => true,
            End::Socket(leg) => leg.eof && leg.shut,
            End::Stream(stream) => stream.eof && stream.shut,
        }
    }
}

impl Flow {
    /// The end that is a stream of the given tunnel.
    pub(crate) fn end_in(&mut self, tunnel: Slot) -> Option<&mut StreamEnd> {
        [&mut self.caller, &mut self.callee]
            .into_iter()
            .find_map(|end| end.stream().filter(|stream| stream.tunnel == tunnel))
    }
}
