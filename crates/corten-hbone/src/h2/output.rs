//! What is to be sent, gathered until the driver writes it.
//!
//! There are two lanes, and a batch is both of them, the urgent one first: control frames and the first bytes of
//! each stream are not to wait behind a bulk transfer that was faster to fill the batch.
//! Once bytes of a stream lie in the bulk lane, all that the stream sends in the same batch goes there too.

/// How much of one stream passes as urgent in a batch. A request or a small response fits; bulk does not.
pub(super) const SMALL: usize = 16 << 10;

/// A smaller room for bulk is no room: frames of a few bytes cost more than they bring.
const ROOM_LEAST: usize = 4 << 10;

#[derive(Default)]
pub(crate) struct Output {
    pub(crate) urgent: Vec<u8>,
    pub(super) bulk: Vec<u8>,
    /// Counts batches; the streams remember in which they last sent.
    pub(super) batch: u32,
    /// Bytes in the urgent lane that only answer what the peer did.
    pub(super) answers: usize,
    /// Whether anything was sent since the last tick.
    used: bool,
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.bulk.is_empty()
    }

    pub(super) fn bulk_room(&self, limit: usize) -> usize {
        match limit.saturating_sub(self.bulk.len()) {
            0..ROOM_LEAST => 0,
            room => room,
        }
    }

    /// What a stream that has put `sent` bytes into this batch may still put into the urgent lane.
    pub(super) fn urgent_room(&self, limit: usize, sent: u32) -> usize {
        SMALL
            .saturating_sub(sent as usize)
            .min(limit.saturating_sub(self.urgent.len()))
    }

    /// Both lanes, in the order to send them.
    pub(crate) fn lanes(&self) -> [&[u8]; 2] {
        [&self.urgent, &self.bulk]
    }

    /// The batch has been taken; the next begins. Memory stays, as it will be needed again soon.
    pub(crate) fn clear(&mut self) {
        self.urgent.clear();
        self.bulk.clear();
        self.batch = self.batch.wrapping_add(1);
        self.answers = 0;
        self.used = true;
    }

    /// Gives memory back if nothing was sent since the last time.
    pub(super) fn tick(&mut self) -> bool {
        if !self.used && self.is_empty() {
            self.urgent = Vec::new();
            self.bulk = Vec::new();
        }
        std::mem::take(&mut self.used)
    }
}
