//! HTTP/2 (RFC 9113) with header compression (RFC 7541), as a state machine that is fed bytes.
//!
//! How a driver uses it, once each turn of its loop:
//! 1. [`Connection::receive`] with everything that was read; the [`Sink`] is told what it meant.
//! 2. [`Connection::send`], [`respond`](Connection::respond), [`release`](Connection::release) and so on for all streams.
//! 3. The output of all of them is sealed and written once.
//! 4. [`Connection::next_writable`] names the streams that were held back and may send again.
//!
//! There is no send queue of a stream: what [`Connection::send`] does not accept stays with the caller, so back-pressure
//! reaches the place where the bytes come from.

mod connection;
mod event;
mod flood;
mod frame;
pub mod hpack;
mod message;
mod output;
mod pace;
mod receive;
mod recent;
mod settings;
mod stream;

#[cfg(test)]
mod tests;

pub use connection::{Connection, OpenError};
pub use event::{ConnectionError, Headers, Reason, Request, Response, Sink, StreamId};
pub use settings::{FloodLimits, Settings};
