//! Streams that ended a short while ago.
//!
//! Frames for a stream that we reset may still be under way and mean nothing; frames for one that the peer itself has ended are
//! a mistake. The last few are enough: a peer that is later than that is not answered, but its bytes are still counted.

/// How many are remembered.
const KEPT: usize = 64;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// We have reset it.
    WeReset,
    /// The peer has.
    PeerReset,
    /// Both sides were done.
    Ended,
}

#[derive(Default)]
pub(super) struct Recent {
    entries: Vec<(u32, How)>,
    oldest: usize,
}

impl Recent {
    pub(super) fn add(&mut self, wire: u32, how: How) {
        if self.entries.len() < KEPT {
            self.entries.push((wire, how));
        } else {
            self.entries[self.oldest] = (wire, how);
            self.oldest = (self.oldest + 1) % KEPT;
        }
    }

    pub(super) fn find(&self, wire: u32) -> Option<How> {
        self.entries
            .iter()
            .find(|(known, _)| *known == wire)
            .map(|(_, how)| *how)
    }
}
