//! The server: the resources there are, and for each client a session that says what to send it next.
//!
//! Nothing is queued for a client. Every change of a resource has a number, a session remembers the number up to which its client has been told,
//! and what is sent next is computed when there is room to send it: a slow client gets one merged update, however much has happened.

mod drive;
#[cfg(test)]
mod equal;
mod look;
mod resource;
mod response;
mod session;
mod store;
#[cfg(test)]
mod tests;

pub use drive::{Answer, Base, Observer, Shared, Stream, Variant, connect};
pub use look::Look;
pub use resource::{Keys, Resource};
pub use response::Response;
pub use session::{Event, Session, Status, WatchView};
pub use store::{Clock, Store, TypeConfig, View};
