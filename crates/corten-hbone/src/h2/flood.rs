//! Counting what a peer can do at no cost to itself.

use super::{ConnectionError, FloodLimits, Reason};

/// Counters since the last tick.
#[derive(Default)]
pub(super) struct Flood {
    resets: u32,
    pings: u32,
    settings: u32,
    idle_frames: u32,
    errors: u32,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Reset,
    Ping,
    Settings,
    IdleFrame,
    Error,
}

impl Flood {
    /// Counts one more.
    pub(super) fn count(&mut self, kind: Kind, limits: &FloodLimits) -> Result<(), ConnectionError> {
        let (counter, limit, detail) = match kind {
            Kind::Reset => (
                &mut self.resets,
                limits.resets,
                "too many streams reset before they were answered",
            ),
            Kind::Ping => (&mut self.pings, limits.pings, "too many pings"),
            Kind::Settings => (&mut self.settings, limits.settings, "too many settings frames"),
            Kind::IdleFrame => (
                &mut self.idle_frames,
                limits.idle_frames,
                "too many frames that carry nothing",
            ),
            Kind::Error => (&mut self.errors, limits.errors, "too many streams with errors"),
        };
        *counter += 1;
        if *counter > limit {
            return Err(ConnectionError {
                reason: Reason::ENHANCE_YOUR_CALM,
                detail,
            });
        }
        Ok(())
    }

    /// Starts anew; whether anything had been counted.
    pub(super) fn tick(&mut self) -> bool {
        let Flood {
            resets,
            pings,
            settings,
            idle_frames,
            errors,
        } = std::mem::take(self);
        resets + pings + settings + idle_frames + errors > 0
    }
}
