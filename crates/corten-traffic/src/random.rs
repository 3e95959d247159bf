//! Numbers that follow from one seed, so that a decision is a function of its arguments.

/// A short sequence (splitmix64). Not for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a limit; `None` if there is none.
    pub(crate) fn below(&mut self, limit: u64) -> Option<u64> {
        (limit > 0).then(|| ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64)
    }
}
