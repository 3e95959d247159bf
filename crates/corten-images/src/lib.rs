//! What the built-in images run: `corten-echo` (`corten.dev/echo`) and `corten-load` (`corten.dev/load`), `corten-capture` (`corten.dev/capture`).
//!
//! Ordinary programs: they know nothing of the runtime that starts them, and run anywhere else just as well.

pub mod capture;
pub mod echo;
pub mod load;
