//! Moving bytes: from each end of a flow to the other, as much as both take now, never more than a turn's share.
//!
//! What a socket does not take is kept at its end, and nothing more is read for it; what a stream does not take is not read in the first place.
//! An end that has said all is passed on when everything before it is.

use std::io::IoSlice;

use corten_hbone::h2::{Reason, StreamId};
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::Shard;
use super::flow::{End, Leg, Phase};
use super::poll::{Slot, Token};
use super::tunnel::Owner;
use crate::telemetry::failure::{Code, Failure, Flag, Side};

/// Bytes moved in one direction of one flow before others have their turn.
pub(super) const SHARE: usize = 256 << 10;

/// What is kept of a buffer that has been written, so that a busy flow does not allocate each turn.
const KEEP: usize = 4 << 10;

/// Which direction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forth,
    Back,
}

/// Why bytes cannot be moved.
struct Broken {
    error: Errno,
    way: Way,
    /// The sending end broke, not the receiving one.
    reading: bool,
}

impl Shard {
    /// Moves what can be moved in both directions, and ends the flow when all is said.
    pub(super) fn pump(&mut self, slot: Slot) {
        let mut scratch = self.take_scratch();
        let outcome = self
            .pump_way(slot, Way::Forth, &mut scratch)
            .and_then(|()| self.pump_way(slot, Way::Back, &mut scratch));
        self.scratch = scratch;
        match outcome {
            Ok(()) => {
                let done = self
                    .flows
                    .get(slot)
                    .is_some_and(|flow| flow.phase == Phase::Copying && flow.caller.is_done() && flow.callee.is_done());
                if done {
                    self.finish(slot, None);
                }
            }
            Err(broken) => self.broke(slot, &broken),
        }
    }

    fn pump_way(&mut self, slot: Slot, way: Way, scratch: &mut [u8]) -> Result<(), Broken> {
        let Some(flow) = self.flows.get_mut(slot) else {
            return Ok(());
        };
        if flow.phase != Phase::Copying {
            return Ok(());
        }
        let pod = flow.pod;
        let (from, to, count) = match way {
            Way::Forth => (&mut flow.caller, &mut flow.callee, &mut flow.forth),
            Way::Back => (&mut flow.callee, &mut flow.caller, &mut flow.back),
        };
        let reading = |error| Broken {
            error,
            way,
            reading: true,
        };
        let writing = |error| Broken {
            error,
            way,
            reading: false,
        };
        let mut again = false;
        match (from, to) {
            (End::Socket(from), End::Socket(to)) => {
                let before = to.pending.len();
                write_pending(to).map_err(writing)?;
                let mut share = SHARE;
                while to.pending.is_empty() && from.readable && !from.eof && !to.shut {
                    if share == 0 {
                        again = true;
                        break;
                    }
                    let room = share.min(scratch.len());
                    let read = read_leg(from, &mut scratch[..room]).map_err(reading)?;
                    *count += read as u64;
                    share -= read;
                    let written = write_leg(to, &[IoSlice::new(&scratch[..read])]).map_err(writing)?;
                    to.pending.extend_from_slice(&scratch[written..read]);
                }
                if from.eof && to.pending.is_empty() {
                    shut(to);
                }
                let after = to.pending.len();
                self.account_buffer(pod, before, after);
            }
            (End::Socket(from), End::Stream(to)) => {
                let Some(tunnel) = self.tunnels.get_mut(to.tunnel) else {
                    return Ok(());
                };
                let mut share = SHARE;
                while from.readable && !from.eof && !to.shut {
                    if share == 0 {
                        again = true;
                        break;
                    }
                    let capacity = tunnel.hbone.h2().capacity(to.stream);
                    if capacity == 0 {
                        break;
                    }
                    let room = share.min(scratch.len()).min(capacity);
                    let read = read_leg(from, &mut scratch[..room]).map_err(reading)?;
                    if read > 0 {
                        let sent = tunnel.hbone.h2().send(to.stream, &scratch[..read], false);
                        debug_assert_eq!(sent, read, "no more was read than the stream takes");
                        *count += read as u64;
                        share -= read;
                    }
                }
                if from.eof && !to.shut {
                    to.shut = true;
                    let _ = tunnel.hbone.h2().send(to.stream, &[], true);
                }
                let tunnel = to.tunnel;
                self.touch(tunnel);
            }
            (End::Stream(from), End::Socket(to)) => {
                let before = to.pending.len();
                let written = write_pending(to).map_err(writing)?;
                if from.eof && to.pending.is_empty() {
                    shut(to);
                }
                let (tunnel, stream, after) = (from.tunnel, from.stream, to.pending.len());
                self.account_buffer(pod, before, after);
                if written > 0 {
                    self.release(tunnel, stream, written);
                }
            }
            // A flow that is copied has two ends, and one of them is a socket.
            (End::Absent | End::Stream(_), _) | (_, End::Absent) => {}
        }
        if again {
            self.enqueue(pod, Token::Caller(slot));
        }
        Ok(())
    }

    /// Bytes of a stream for a flow: written at once if the socket takes them, else kept.
    pub(super) fn deliver(&mut self, slot: Slot, tunnel: Slot, stream: StreamId, parts: &[IoSlice<'_>]) {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let Some(flow) = self.flows.get_mut(slot) else {
            return self.release(tunnel, stream, total);
        };
        let pod = flow.pod;
        let from_caller = matches!(&flow.caller, End::Stream(end) if end.tunnel == tunnel);
        let (way, to) = if from_caller {
            flow.forth += total as u64;
            (Way::Forth, &mut flow.callee)
        } else {
            flow.back += total as u64;
            (Way::Back, &mut flow.caller)
        };
        let End::Socket(leg) = to else {
            // Nobody is there to take it: the flow is not connected yet, and a peer that sends before it is answered waits for its window.
            flow.about.early.extend(parts.iter().flat_map(|part| part.iter()));
            return;
        };
        let (before, mut written, mut failure) = (leg.pending.len(), 0, None);
        if leg.shut {
            written = total;
        } else if flow.phase == Phase::Copying && leg.pending.is_empty() && leg.writable {
            match write_leg(leg, parts) {
                Ok(count) => written = count,
                Err(error) => {
                    failure = Some(Broken {
                        error,
                        way,
                        reading: false,
                    })
                }
            }
        }
        if failure.is_none() {
            let mut skip = written;
            for part in parts {
                if skip >= part.len() {
                    skip -= part.len();
                } else {
                    leg.pending.extend_from_slice(&part[skip..]);
                    skip = 0;
                }
            }
        }
        let after = leg.pending.len();
        self.account_buffer(pod, before, after);
        match failure {
            Some(broken) => {
                self.release(tunnel, stream, total);
                self.broke(slot, &broken);
            }
            None if written > 0 => self.release(tunnel, stream, written),
            None => {}
        }
    }

    /// The peer may send so much more on a stream.
    pub(super) fn release(&mut self, tunnel: Slot, stream: StreamId, bytes: usize) {
        if let Some(known) = self.tunnels.get_mut(tunnel) {
            known.hbone.h2().release(stream, bytes);
            self.touch(tunnel);
        }
    }

    /// Ends a flow because one of its sockets broke.
    fn broke(&mut self, slot: Slot, broken: &Broken) {
        let side = match (broken.way, broken.reading) {
            (Way::Forth, true) | (Way::Back, false) => Side::ClientApp,
            (Way::Forth, false) | (Way::Back, true) => Side::ServerApp,
        };
        let what = if broken.reading { "reading" } else { "writing" };
        let text = format!("{what} failed: {}", std::io::Error::from(broken.error));
        self.finish(
            slot,
            Some(Failure::new(Flag::Connect, Code::ConnectionReset, side, text)),
        );
    }

    /// Gives up what a finished flow still holds of a tunnel.
    pub(super) fn drop_stream(&mut self, slot: Slot, tunnel: Slot, stream: StreamId, reason: Option<Reason>) {
        if let Some(known) = self.tunnels.get_mut(tunnel) {
            known.disown(stream, Owner::Flow(slot));
            if let Some(reason) = reason {
                known.hbone.h2().reset(stream, reason);
            }
            known.used_at = self.now;
            self.touch(tunnel);
            self.stream_gone(tunnel);
        }
    }
}

/// Reads, and notes what that says about the socket.
fn read_leg(leg: &mut Leg, buffer: &mut [u8]) -> Result<usize, Errno> {
    match super::sockets::receive(leg.fd(), buffer) {
        Ok(0) => {
            leg.eof = true;
            leg.readable = false;
            Ok(0)
        }
        Ok(count) => {
            // Less than was asked for means that no more is there, and that more will be told; except the end, which may have been told already.
            if count < buffer.len() && !leg.ending {
                leg.readable = false;
            }
            Ok(count)
        }
        Err(Errno::AGAIN) => {
            leg.readable = false;
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Writes what it takes.
fn write_leg(leg: &mut Leg, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let mut written = 0;
    // The kernel takes so many parts at a time.
    for some in parts.chunks(1024) {
        let total: usize = some.iter().map(|part| part.len()).sum();
        if total == 0 {
            continue;
        }
        if !leg.writable {
            break;
        }
        match super::sockets::send(leg.fd(), some) {
            Ok(count) => {
                leg.writable = count == total;
                written += count;
            }
            Err(Errno::AGAIN) => leg.writable = false,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Writes what was kept; says how much of it.
fn write_pending(leg: &mut Leg) -> Result<usize, Errno> {
    if leg.pending.is_empty() || !leg.writable {
        return Ok(0);
    }
    let pending = std::mem::take(&mut leg.pending);
    let written = write_leg(leg, &[IoSlice::new(&pending)])?;
    leg.pending = pending;
    leg.pending.drain(..written);
    if leg.pending.is_empty() && leg.pending.capacity() > KEEP {
        leg.pending = Vec::new();
    }
    Ok(written)
}

/// Tells a socket that no more comes.
fn shut(leg: &mut Leg) {
    if !leg.shut {
        leg.shut = true;
        // A socket that is gone already is told by a read.
        let _ = rustix::net::shutdown(&leg.socket, Shutdown::Write);
    }
}
