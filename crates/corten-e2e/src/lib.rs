//! The end-to-end harness: builds the shipped binaries once, starts `corten up` with a state directory of its own, and cleans up.
//!
//! Uses the runtime only as a user does: by its command line and its API. Its panics are test failures.

mod binaries;
mod host;
mod runtime;

use std::time::{Duration, Instant};

pub use host::{Processes, everything_gone, interfaces};
pub use runtime::{As, Output, Runtime};

/// Tries until `condition` holds; fails with its last complaint when the deadline has passed.
///
/// # Panics
/// If the condition does not come to hold in time.
#[track_caller]
pub fn eventually<T>(deadline: Duration, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(complaint) if begin.elapsed() > deadline => panic!("after {deadline:?} still: {complaint}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
