//! The streams of a connection: what is known of each, and how they are found.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::StreamId;

/// What is known of one stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its number on the wire; zero in a free slot.
    pub(super) wire: u32,
    pub(super) state: u16,
    /// Bytes we may send; negative after the peer has made its windows smaller.
    pub(super) send_window: i64,
    /// Bytes the peer may still send.
    pub(super) receive_window: u32,
    /// What the receive window is filled up to.
    pub(super) window: u32,
    /// Bytes that the driver has and has not released.
    pub(super) held: u32,
    /// The last batch in which it sent, how much, and whether any of it lies among the bulk.
    pub(super) batch: u32,
    pub(super) batch_bytes: u32,
    /// The part of the announced body that has not come yet.
    pub(super) body: Option<u64>,
}

/// Facts of [`Stream::state`].
pub(super) mod is {
    /// We have sent END_STREAM.
    pub(crate) const SENT_END: u16 = 1;
    /// The peer has.
    pub(crate) const RECEIVED_END: u16 = 2;
    /// The final response has been sent (server) or received (client).
    pub(crate) const ANSWERED: u16 = 4;
    /// The driver has more to send than it could.
    pub(crate) const WAITING: u16 = 8;
    /// It is in the queue of those that may send again.
    pub(crate) const QUEUED: u16 = 16;
    /// Something of it lies among the bulk of the current batch.
    pub(crate) const IN_BULK: u16 = 32;
    /// The peer was held back by the window alone when we last had read everything.
    pub(crate) const STARVED: u16 = 64;
    /// No longer open on the wire, but the driver still holds bytes of it.
    pub(crate) const CLOSED: u16 = 128;
    /// The answer may announce a length that it does not have.
    pub(crate) const NO_LENGTH: u16 = 256;
}

impl Stream {
    pub(super) fn has(&self, fact: u16) -> bool {
        self.state & fact != 0
    }

    pub(super) fn set(&mut self, fact: u16) {
        self.state |= fact;
    }

    pub(super) fn unset(&mut self, fact: u16) {
        self.state &= !fact;
    }
}

/// Numbers of streams are already spread well enough after one multiplication.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

/// All present streams, in slots that are used again.
#[derive(Default)]
pub(super) struct Streams {
    slots: Vec<Stream>,
    free: Vec<u32>,
    by_wire: HashMap<u32, u32, BuildHasherDefault<NumberHasher>>,
    /// Those open on the wire.
    open: usize,
}

impl Streams {
    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_wire.is_empty()
    }

    pub(super) fn insert(&mut self, stream: Stream) -> StreamId {
        let wire = stream.wire;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = stream;
                slot
            }
            None => {
                self.slots.push(stream);
                self.slots.len() as u32 - 1
            }
        };
        self.by_wire.insert(wire, slot);
        self.open += 1;
        StreamId { slot, wire }
    }

    pub(super) fn find(&self, wire: u32) -> Option<StreamId> {
        let slot = *self.by_wire.get(&wire)?;
        Some(StreamId { slot, wire })
    }

    pub(super) fn get(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.slots
            .get_mut(id.slot as usize)
            .filter(|stream| stream.wire == id.wire)
    }

    /// The stream no longer counts as open on the wire.
    pub(super) fn close(&mut self, id: StreamId) {
        if let Some(stream) = self.get(id)
            && !stream.has(is::CLOSED)
        {
            stream.set(is::CLOSED);
            self.open -= 1;
        }
    }

    /// Frees the slot.
    pub(super) fn remove(&mut self, id: StreamId) {
        self.close(id);
        if let Some(stream) = self.get(id) {
            stream.wire = 0;
            self.by_wire.remove(&id.wire);
            self.free.push(id.slot);
            if self.by_wire.is_empty() {
                self.free.clear();
                self.slots.clear();
            }
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut Stream)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter(|(_, stream)| stream.wire != 0)
            .map(|(slot, stream)| {
                let wire = stream.wire;
                let slot = slot as u32;
                (StreamId { slot, wire }, stream)
            })
    }

    pub(super) fn shrink(&mut self) {
        if self.by_wire.is_empty() {
            *self = Streams::default();
        } else if self.slots.capacity() > 2 * self.slots.len() {
            self.slots.shrink_to_fit();
            self.free.shrink_to_fit();
            self.by_wire.shrink_to_fit();
        }
    }
}
