//! How large the window of a stream has to be, seen from how its data comes in.
//!
//! A window serves two purposes: to fill the wire (bandwidth times delay), and to keep a little in stock, so that a reader that
//! was busy elsewhere finds something. All beyond that only lies in our own socket, takes memory, and makes whatever comes behind
//! it wait. How much lies there shows in each read: a sender held back by the wire gives small reads, one held back by us large ones.
//! So a window grows while it is used up and reads stay small, and shrinks by what reads bring beyond the stock.
//!
//! The stock is large while one stream has the connection to itself, and small while others have data in between: those
//! would wait for all of it.

use super::StreamId;

/// The stock of a stream that is alone: as much as is read at once.
const STOCK_ALONE: u32 = 512 << 10;
/// The stock of a stream that others are beside.
const STOCK_BESIDE: u32 = 32 << 10;
/// No window is made smaller than this.
pub(super) const WINDOW_LEAST: u32 = 32 << 10;
/// Others are beside a stream if they had data twice, and the last time less than so many bytes ago. In bytes, as there is no
/// clock here: the faster a transfer is, the sooner it has the connection to itself again.
const BESIDE: u64 = 16 << 20;

/// What was seen lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The stream of the latest data, and how much has come for it since nothing was left to read, or since another stream had data.
    latest: Option<StreamId>,
    run: u32,
    /// All data so far.
    total: u64,
    /// How often in a row, up to two, another stream had its turn before [`BESIDE`] was over; and when the last time was.
    turns: u8,
    turned: u64,
}

impl Pace {
    /// Data of a stream has come.
    pub(super) fn data(&mut self, stream: StreamId, bytes: u32) {
        if self.latest != Some(stream) {
            let soon = self.total - self.turned < BESIDE;
            self.turns = if soon { 2.min(self.turns + 1) } else { 1 };
            self.turned = self.total;
            self.latest = Some(stream);
            self.run = 0;
        }
        self.total += u64::from(bytes);
        self.run = self.run.saturating_add(bytes);
    }

    /// A read is over, and if `all`, nothing is left. Gives the stream of the latest data, how much of it had been waiting, and how
    /// much may.
    pub(super) fn read_over(&mut self, all: bool, others: bool) -> Option<(StreamId, u32, u32)> {
        let stream = self.latest?;
        let beside = others && self.turns == 2 && self.total - self.turned < BESIDE;
        let waited = self.run;
        if all {
            self.run = 0;
        }
        (waited > 0).then_some((stream, waited, if beside { STOCK_BESIDE } else { STOCK_ALONE }))
    }
}
