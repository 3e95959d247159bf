//! Working on tunnels: the handshake, what arrives, what is to be written, keep-alive and end.

use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use std::time::Duration;

use corten_core::Identity;
use corten_hbone::h2::{Reason, StreamId};
use corten_hbone::{Progress, TunnelError};

use super::Shard;
use super::flow::{End, Phase};
use super::poll::{Slot, Token};
use super::sockets::connect_outcome;
use super::tunnel::{Event, Events, Owner, Stage, Transport, Wire};
use crate::telemetry::failure::{Code, Failure, Flag, Side};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence before the other side is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Where tunnels inside tunnels are opened.
const INNER_SCRATCH: usize = 64 << 10;
/// Reads of one tunnel before others have their turn.
const READS: usize = 4;

impl Shard {
    /// A tunnel has something to write, or may have.
    pub(super) fn touch(&mut self, slot: Slot) {
        if let Some(tunnel) = self.tunnels.get_mut(slot)
            && !tunnel.dirty
        {
            tunnel.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Does what a tunnel's socket has become ready for.
    pub(super) fn serve_tunnel(&mut self, slot: Slot) {
        let limit = self.common.config.limits.buffered_bytes_max;
        let Some(tunnel) = self.tunnels.get_mut(slot) else {
            return;
        };
        if tunnel.stage == Stage::Connecting {
            if !tunnel.writable {
                return;
            }
            let outcome = tunnel.fd().map_or(Ok(()), connect_outcome);
            if let Err(error) = outcome {
                let failure = Failure::connect(&error, tunnel.peer, Side::Network);
                return self.lose_tunnel(slot, &failure);
            }
            tunnel.stage = Stage::Handshaking;
            if let Some(local) = tunnel.fd().and_then(|fd| super::sockets::local_address(fd).ok()) {
                tunnel.local = local;
            }
            tunnel.began = self.now;
        }
        let pod = tunnel.pod;
        if tunnel.readable {
            if self.pods.get(pod).is_some_and(|pod| pod.buffered >= limit) {
                if let Some(pod) = self.pods.get_mut(pod) {
                    pod.stalled.push(slot);
                }
            } else {
                self.read_tunnel(slot);
            }
        }
        self.touch(slot);
    }

    fn read_tunnel(&mut self, slot: Slot) {
        let mut scratch = self.take_scratch();
        let read_baggage = self.common.config.response_baggage;
        for round in 0..=READS {
            let Some(tunnel) = self.tunnels.get_mut(slot) else {
                break;
            };
            if round == READS {
                // There is more, but it is others' turn.
                let pod = tunnel.pod;
                self.enqueue(pod, Token::Tunnel(slot));
                break;
            }
            let mut events = Events {
                list: Vec::new(),
                read_baggage,
            };
            let Transport::Socket(socket) = &tunnel.transport else {
                break;
            };
            let mut wire = Wire(std::os::fd::AsFd::as_fd(socket));
            let progress = tunnel.hbone.read(&mut wire, &mut scratch, &mut events);
            // The end may have been told together with the last bytes, and is not told again.
            let more = match progress {
                Ok(Progress::More) => true,
                Ok(Progress::Drained) => tunnel.ending,
                Ok(Progress::Closed) | Err(_) => false,
            };
            tunnel.readable = more;
            self.read_done(slot, events, progress);
            if !more {
                break;
            }
        }
        self.scratch = scratch;
    }

    /// Acts on what was read.
    fn read_done(&mut self, slot: Slot, events: Events<'_>, progress: Result<Progress, TunnelError>) {
        self.act(slot, events);
        match progress {
            Ok(Progress::Drained | Progress::More) => {}
            Ok(Progress::Closed) => {
                let text = "the tunnel was closed by the peer";
                self.lose_tunnel(
                    slot,
                    &Failure::new(Flag::Connect, Code::TunnelLost, Side::Network, text),
                );
            }
            Err(error) => {
                let failure = self.explain(slot, &error);
                // Its last words say why; they are written before it is closed.
                self.touch(slot);
                self.lose_tunnel(slot, &failure);
            }
        }
    }

    /// Goes on when the handshake has been completed.
    fn settle(&mut self, slot: Slot, peer: Option<Arc<Identity>>) {
        let Some(tunnel) = self.tunnels.get_mut(slot) else {
            return;
        };
        if tunnel.stage == Stage::Handshaking {
            tunnel.stage = Stage::Open;
        }
        tunnel.next_ping = self.now + PING_INTERVAL;
        tunnel.used_at = self.now;
        tunnel.peer_identity = peer;
        self.admit_waiting(slot);
    }

    /// Opens streams for flows that wait for this tunnel.
    pub(super) fn admit_waiting(&mut self, slot: Slot) {
        while let Some(tunnel) = self.tunnels.get_mut(slot) {
            if tunnel.stage != Stage::Open || tunnel.hbone.h2().openable() == 0 {
                return;
            }
            let Some(flow) = tunnel.waiting.pop_front() else { return };
            if self
                .flows
                .get(flow)
                .is_some_and(|flow| flow.phase == Phase::AwaitTunnel)
            {
                self.ask(flow, slot);
            }
        }
    }

    fn act(&mut self, slot: Slot, events: Events<'_>) {
        // Bytes of one stream that follow one another are written together.
        let mut parts: Vec<IoSlice<'_>> = Vec::new();
        let mut of: Option<StreamId> = None;
        for event in events.list {
            if let Event::Data(stream, bytes) = &event {
                if of != Some(*stream) {
                    self.arrived(slot, of, &mut parts);
                    of = Some(*stream);
                }
                parts.push(IoSlice::new(bytes));
                continue;
            }
            self.arrived(slot, of.take(), &mut parts);
            match event {
                Event::Data(..) => {}
                Event::Secured(peer) => self.settle(slot, peer),
                Event::Request(stream, head) => self.request(slot, stream, *head),
                Event::Response(stream, status, baggage) => self.response(slot, stream, status, baggage),
                Event::End(stream) => self.stream_ended(slot, stream),
                Event::Reset(stream, reason) => self.stream_reset(slot, stream, reason),
                Event::GoAway => self.retire(slot),
                Event::Pong => {
                    if let Some(tunnel) = self.tunnels.get_mut(slot) {
                        tunnel.ping_sent = None;
                        tunnel.next_ping = self.now + PING_INTERVAL;
                    }
                }
            }
        }
        self.arrived(slot, of, &mut parts);
        // Settings of the peer may have made room.
        self.admit_waiting(slot);
    }

    /// Bytes of a stream.
    fn arrived(&mut self, slot: Slot, stream: Option<StreamId>, parts: &mut Vec<IoSlice<'_>>) {
        let Some(stream) = stream else { return };
        let owner = self.tunnels.get(slot).and_then(|tunnel| tunnel.owner(stream));
        match owner {
            Some(Owner::Flow(flow)) => self.deliver(flow, slot, stream, parts),
            Some(Owner::Tunnel(inner)) => self.feed(inner, slot, stream, parts),
            None => {
                let total = parts.iter().map(|part| part.len()).sum();
                self.release(slot, stream, total);
            }
        }
        parts.clear();
    }

    /// Bytes for a tunnel inside a tunnel.
    fn feed(&mut self, inner: Slot, outer: Slot, stream: StreamId, parts: &[IoSlice<'_>]) {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.release(outer, stream, bytes.len());
        let mut scratch = std::mem::take(&mut self.inner_scratch);
        scratch.resize(INNER_SCRATCH, 0);
        let mut rest = bytes.as_slice();
        while !rest.is_empty()
            && let Some(tunnel) = self.tunnels.get_mut(inner)
        {
            let mut events = Events {
                list: Vec::new(),
                read_baggage: self.common.config.response_baggage,
            };
            let (taken, progress) = match tunnel.hbone.receive(rest, &mut scratch, &mut events) {
                Ok((taken, progress)) => (taken, Ok(progress)),
                Err(error) => (rest.len(), Err(error)),
            };
            rest = rest.get(taken..).unwrap_or_default();
            let over = !matches!(progress, Ok(Progress::Drained | Progress::More));
            self.read_done(inner, events, progress);
            if over {
                break;
            }
        }
        self.inner_scratch = scratch;
        self.touch(inner);
    }

    /// The peer has said all on a stream.
    fn stream_ended(&mut self, slot: Slot, stream: StreamId) {
        match self.tunnels.get(slot).and_then(|tunnel| tunnel.owner(stream)) {
            Some(Owner::Flow(flow)) => {
                let Some(known) = self.flows.get_mut(flow) else { return };
                if let Some(end) = known.end_in(slot) {
                    end.eof = true;
                }
                let pod = known.pod;
                self.enqueue(pod, Token::Caller(flow));
            }
            Some(Owner::Tunnel(inner)) => {
                let text = "the tunnel that carries this one was closed";
                self.lose_tunnel(
                    inner,
                    &Failure::new(Flag::Connect, Code::TunnelLost, Side::Network, text),
                );
            }
            None => {}
        }
    }

    /// A stream has ended at once.
    fn stream_reset(&mut self, slot: Slot, stream: StreamId, reason: Reason) {
        let owner = self.tunnels.get(slot).and_then(|tunnel| tunnel.owner(stream));
        if let (Some(tunnel), Some(owner)) = (self.tunnels.get_mut(slot), owner) {
            tunnel.disown(stream, owner);
        }
        match owner {
            Some(Owner::Flow(flow)) => self.flow_reset(flow, slot, reason),
            Some(Owner::Tunnel(inner)) => {
                let text = format!("the stream that carries this tunnel was reset: {reason}");
                self.lose_tunnel(inner, &Failure::new(Flag::H2, Code::StreamReset, Side::Network, text));
            }
            None => {}
        }
        self.stream_gone(slot);
    }

    fn flow_reset(&mut self, flow: Slot, slot: Slot, reason: Reason) {
        let Some(known) = self.flows.get_mut(flow) else { return };
        let retry = known.phase == Phase::AwaitResponse && reason == Reason::REFUSED_STREAM;
        let inbound = matches!(known.caller, End::Stream(_));
        if retry {
            // The peer has not looked at it: another tunnel will do.
            known.callee = End::Absent;
            self.retire(slot);
            return self.reach_by_tunnel(flow);
        }
        // These two say that the peer has simply gone; between proxies of Istio that is an ordinary end.
        let graceful = matches!(reason, Reason::CANCEL | Reason::NO_ERROR);
        if graceful && known.phase == Phase::Copying {
            if let Some(end) = known.end_in(slot) {
                end.eof = true;
                end.shut = true;
            }
            let pod = known.pod;
            // What it has sent before is still passed on.
            self.enqueue(pod, Token::Caller(flow));
            return;
        }
        let side = if inbound { Side::ClientProxy } else { Side::ServerProxy };
        let text = format!("the stream was reset by the peer: {reason}");
        self.finish(flow, Some(Failure::new(Flag::H2, Code::StreamReset, side, text)));
    }

    /// No new streams; it goes with the last one.
    pub(super) fn retire(&mut self, slot: Slot) {
        let Some(tunnel) = self.tunnels.get_mut(slot) else {
            return;
        };
        if tunnel.stage == Stage::Closing {
            return;
        }
        tunnel.stage = Stage::Closing;
        let waiting = std::mem::take(&mut tunnel.waiting);
        self.unpool(slot);
        for flow in waiting {
            self.reach_by_tunnel(flow);
        }
        self.stream_gone(slot);
    }

    /// Takes a tunnel out of its pod's pool.
    fn unpool(&mut self, slot: Slot) {
        let Some(tunnel) = self.tunnels.get(slot) else { return };
        let (Some(key), Some(pod)) = (&tunnel.key, self.pods.get_mut(tunnel.pod)) else {
            return;
        };
        if let Some(pooled) = pod.pool.get_mut(key) {
            pooled.retain(|other| *other != slot);
            if pooled.is_empty() {
                pod.pool.remove(key);
            }
        }
    }

    /// A stream has ended: somebody may use the room, or nobody is left.
    pub(super) fn stream_gone(&mut self, slot: Slot) {
        let Some(tunnel) = self.tunnels.get_mut(slot) else {
            return;
        };
        if tunnel.used > 0 || !tunnel.waiting.is_empty() {
            if !tunnel.waiting.is_empty() {
                self.admit_waiting(slot);
            }
            return;
        }
        let private = matches!(tunnel.transport, Transport::Stream { .. });
        if tunnel.stage == Stage::Closing || private {
            tunnel.stage = Stage::Closing;
            tunnel.hbone.close(Reason::NO_ERROR);
            self.touch(slot);
            self.ended.push(slot);
        }
    }

    /// A tunnel has broken: so have its flows.
    pub(super) fn lose_tunnel(&mut self, slot: Slot, failure: &Failure) {
        self.unpool(slot);
        let Some(tunnel) = self.tunnels.get_mut(slot) else {
            return;
        };
        let handshaking = matches!(tunnel.stage, Stage::Handshaking | Stage::Connecting);
        tunnel.stage = Stage::Closing;
        tunnel.readable = false;
        let waiting = std::mem::take(&mut tunnel.waiting);
        let owners: Vec<Owner> = std::mem::take(&mut tunnel.streams).into_iter().flatten().collect();
        tunnel.used = 0;
        // What a caller does wrong without a stream to log it with.
        let wrong = owners.is_empty() && matches!(failure.code, Code::Http2 | Code::TlsHandshake | Code::Revoked);
        if tunnel.key.is_none() && (handshaking || wrong) {
            let (pod, peer, local) = (tunnel.pod, tunnel.peer, tunnel.local);
            self.early_failure(pod, peer, local, failure);
        }
        for owner in owners {
            match owner {
                // Both sides had said all: what is still to be written does not need the tunnel.
                Owner::Flow(flow) if self.has_said_all(flow, slot) => {}
                Owner::Flow(flow) => self.finish(flow, Some(failure.clone())),
                Owner::Tunnel(inner) => self.lose_tunnel(inner, failure),
            }
        }
        for flow in waiting {
            self.finish(flow, Some(failure.clone()));
        }
        self.ended.push(slot);
    }

    /// Whether a flow's stream in a tunnel has ended in both directions.
    fn has_said_all(&mut self, flow: Slot, tunnel: Slot) -> bool {
        self.flows
            .get_mut(flow)
            .filter(|flow| flow.phase == Phase::Copying)
            .and_then(|flow| flow.end_in(tunnel))
            .is_some_and(|end| end.eof && end.shut)
    }

    /// Why a tunnel broke.
    fn explain(&mut self, slot: Slot, error: &TunnelError) -> Failure {
        let (handshaking, client) = self.tunnels.get(slot).map_or((false, false), |tunnel| {
            (tunnel.stage == Stage::Handshaking, tunnel.key.is_some())
        });
        let peer = if client { Side::ServerProxy } else { Side::ClientProxy };
        match error {
            TunnelError::Tls(tls) => {
                let failure = corten_identity::HandshakeFailure::from(tls);
                let revoked = failure.code().contains("revoked");
                let (flag, code) = if revoked {
                    (Flag::Revoked, Code::Revoked)
                } else {
                    (Flag::Tls, Code::TlsHandshake)
                };
                if revoked {
                    let reporter = if client { "source" } else { "destination" };
                    self.common.metrics.crl_rejections.add(&[("reporter", reporter)], 1);
                }
                Failure::new(flag, code, peer, format!("tls: {failure}"))
            }
            TunnelError::Http(http) => Failure::new(Flag::H2, Code::Http2, peer, http.to_string()),
            TunnelError::Alpn => Failure::new(Flag::Tls, Code::TlsHandshake, peer, error.to_string()),
            TunnelError::Io(_) | TunnelError::Truncated | TunnelError::Failed if handshaking => {
                Failure::new(Flag::Tls, Code::TlsHandshake, peer, format!("tls handshake: {error}"))
            }
            TunnelError::Io(_) | TunnelError::Truncated | TunnelError::Failed => {
                Failure::new(Flag::Connect, Code::TunnelLost, Side::Network, error.to_string())
            }
        }
    }

    /// Seals and writes what every tunnel has gathered, once; then names the streams that may go on.
    pub(super) fn flush(&mut self) {
        let mut next = 0;
        while let Some(&slot) = self.dirty.get(next) {
            next += 1;
            if let Err(failure) = self.flush_tunnel(slot) {
                self.lose_tunnel(slot, &failure);
            }
        }
        self.dirty.clear();
    }

    fn flush_tunnel(&mut self, slot: Slot) -> Result<(), Failure> {
        let Some(tunnel) = self.tunnels.get_mut(slot) else {
            return Ok(());
        };
        tunnel.dirty = false;
        let outcome = match &mut tunnel.transport {
            Transport::Socket(_) if tunnel.stage == Stage::Connecting || !tunnel.writable => return Ok(()),
            Transport::Socket(socket) => tunnel.hbone.flush(&mut Wire(std::os::fd::AsFd::as_fd(socket))),
            Transport::Stream { .. } => return self.flush_inner(slot),
        };
        match outcome {
            Ok(all) => tunnel.writable = all,
            Err(_) if tunnel.stage == Stage::Closing => return Ok(()),
            Err(error) => return Err(self.explain(slot, &error)),
        }
        self.writable_streams(slot);
        Ok(())
    }

    /// Lets streams go on that were held back.
    fn writable_streams(&mut self, slot: Slot) {
        while let Some(tunnel) = self.tunnels.get_mut(slot)
            && let Some(stream) = tunnel.hbone.h2().next_writable()
        {
            match tunnel.owner(stream) {
                Some(Owner::Flow(flow)) => {
                    let pod = tunnel.pod;
                    self.enqueue(pod, Token::Caller(flow));
                }
                Some(Owner::Tunnel(inner)) => self.touch(inner),
                None => {}
            }
        }
    }

    /// Seals what a tunnel inside a tunnel has gathered, and gives it to the one around it.
    fn flush_inner(&mut self, slot: Slot) -> Result<(), Failure> {
        let Some(tunnel) = self.tunnels.get_mut(slot) else {
            return Ok(());
        };
        let Transport::Stream {
            tunnel: outer,
            stream,
            carry,
        } = &mut tunnel.transport
        else {
            return Ok(());
        };
        let (outer, stream) = (*outer, *stream);
        let mut bytes = std::mem::take(carry);
        // One round of sealing at a time: what does not go out is not made.
        if bytes.is_empty()
            && let Err(error) = tunnel.hbone.flush(&mut Memory(&mut bytes))
        {
            return Err(self.explain(slot, &error));
        }
        let Some(around) = self.tunnels.get_mut(outer) else {
            return Ok(());
        };
        let sent = around.hbone.h2().send(stream, &bytes, false);
        self.touch(outer);
        bytes.drain(..sent);
        let all = bytes.is_empty();
        if let Some(tunnel) = self.tunnels.get_mut(slot)
            && let Transport::Stream { carry, .. } = &mut tunnel.transport
        {
            *carry = bytes;
        }
        if all {
            self.writable_streams(slot);
        }
        Ok(())
    }

    /// Closes tunnels with which it is over.
    pub(super) fn reap(&mut self) {
        for slot in std::mem::take(&mut self.ended) {
            let Some(tunnel) = self.tunnels.get_mut(slot) else {
                continue;
            };
            tunnel.hbone.close(Reason::NO_ERROR);
            if let Transport::Socket(socket) = &tunnel.transport
                && tunnel.writable
            {
                // Whoever does not take the last words does without.
                let _ = tunnel.hbone.flush(&mut Wire(std::os::fd::AsFd::as_fd(socket)));
            }
            self.unpool(slot);
            let Some(tunnel) = self.tunnels.remove(slot) else {
                continue;
            };
            if let Transport::Stream {
                tunnel: outer, stream, ..
            } = tunnel.transport
                && let Some(around) = self.tunnels.get_mut(outer)
            {
                around.disown(stream, Owner::Tunnel(slot));
                around.hbone.h2().reset(stream, Reason::NO_ERROR);
                self.touch(outer);
                self.stream_gone(outer);
            } else {
                if let Transport::Socket(socket) = tunnel.transport {
                    self.poll.forget(std::os::fd::AsFd::as_fd(&socket));
                    self.lingering.close(socket, self.now);
                }
                self.socket_gone(tunnel.pod, tunnel.key.is_some());
            }
        }
    }

    /// Once a second: who is late, who is silent, who is not needed.
    pub(super) fn tick_tunnels(&mut self) {
        let unused = self.common.config.connections.pool_unused_timeout;
        let connect = self.common.config.connections.connect_timeout;
        for slot in self.tunnels.slots() {
            let Some(tunnel) = self.tunnels.get_mut(slot) else {
                continue;
            };
            let age = self.now.saturating_duration_since(tunnel.began);
            match tunnel.stage {
                Stage::Connecting if age >= connect => {
                    let text = format!(
                        "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: {}",
                        tunnel.peer
                    );
                    let failure = Failure::new(Flag::NetworkPolicy, Code::ConnectTimeout, Side::Network, text);
                    self.lose_tunnel(slot, &failure);
                }
                Stage::Handshaking if age >= HANDSHAKE_TIMEOUT => {
                    let text = "the tls handshake was not completed in time";
                    self.lose_tunnel(slot, &Failure::new(Flag::Tls, Code::TlsHandshake, Side::Network, text));
                }
                Stage::Connecting | Stage::Handshaking => {}
                Stage::Open | Stage::Closing => {
                    tunnel.hbone.tick();
                    if let Some(sent) = tunnel.ping_sent {
                        if self.now.saturating_duration_since(sent) >= PING_TIMEOUT {
                            let text = "the other proxy does not answer pings";
                            let failure = Failure::new(Flag::Connect, Code::TunnelLost, Side::Network, text);
                            if tunnel.key.is_none() && tunnel.used == 0 {
                                let (pod, peer, local) = (tunnel.pod, tunnel.peer, tunnel.local);
                                self.early_failure(pod, peer, local, &failure);
                            }
                            self.lose_tunnel(slot, &failure);
                        }
                    } else if tunnel.next_ping <= self.now {
                        tunnel.ping_sent = Some(self.now);
                        tunnel.hbone.h2().ping(*b"corten\0\0");
                    }
                    self.touch(slot);
                    self.release_unused(slot, unused);
                }
            }
        }
    }

    fn release_unused(&mut self, slot: Slot, unused: Duration) {
        let Some(tunnel) = self.tunnels.get_mut(slot) else {
            return;
        };
        if tunnel.key.is_some()
            && tunnel.used == 0
            && tunnel.waiting.is_empty()
            && self.now.saturating_duration_since(tunnel.used_at) >= unused
        {
            self.retire(slot);
        }
    }
}

/// Memory as something to write to.
struct Memory<'a>(&'a mut Vec<u8>);

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
