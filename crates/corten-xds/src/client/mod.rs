//! The client: subscribes, applies what comes, acknowledges or rejects it, and comes back with what it has after a disconnect.

mod drive;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_grpc::Channel;
use corten_proto::discovery::Node;
use tokio::sync::mpsc;

pub use drive::run;
pub(crate) use session::Session;

/// Headers of the call that opens a stream (token, cluster), or why there are none.
pub type Metadata =
    Arc<dyn Fn() -> Result<Vec<(String, String)>, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// What [`run`] needs to know.
#[derive(Clone)]
pub struct Config {
    /// The connection to the server.
    pub channel: Channel,
    /// Who asks.
    pub node: Node,
    /// Asked at each new stream, so that a renewed token is used.
    pub metadata: Metadata,
    /// The types wanted, in the order in which they are asked for.
    pub subscriptions: Vec<Subscription>,
    /// The largest response accepted. ztunnel's is 200 MiB.
    pub message_bytes_max: usize,
}

/// A type of resources that the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// The type.
    pub type_url: &'static str,
    /// Only the names asked for by [`Demand::want`], instead of all.
    pub on_demand: bool,
}

/// A resource as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its version; opaque.
    pub version: String,
    /// Other names under which it was asked for.
    pub aliases: Vec<String>,
    /// The message, still encoded.
    pub body: Bytes,
}

/// A resource that the client has since before [`run`] (from its disk).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its type.
    pub type_url: &'static str,
    /// Its name.
    pub name: String,
    /// The version it had.
    pub version: String,
}

/// A resource that the client cannot accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What happens, as the handler is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// A stream has been opened.
    Connected,
    /// Resources came or went.
    Changes(Changes),
    /// The stream ended, or could not be opened; another attempt follows.
    Disconnected(Disconnected),
}

/// One response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Type of the resources.
    pub type_url: &'static str,
    /// Added and changed.
    pub resources: Vec<Named>,
    /// Gone, or asked for and unknown.
    pub removed: Vec<String>,
    /// Whether it is the first answer for this type since [`run`] began. It comes even where there is nothing to tell.
    pub first: bool,
    /// Size of the response.
    pub bytes: usize,
}

/// The end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnected {
    /// Which kind.
    pub cause: Cause,
    /// In words.
    pub reason: String,
    /// When the next attempt is made.
    pub retry_in: Duration,
}

/// Why a stream ended; the values of the label `reason` of ztunnel's metric for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// There was no connection or no stream to begin with.
    ConnectionError,
    /// The server ended the stream with an error.
    Error,
    /// The server ended the stream for the client to come again (it drains, or the connection is old).
    Reconnect,
    /// The server ended the stream without an error.
    Complete,
}

impl Cause {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::ConnectionError => "ConnectionError",
            Cause::Error => "Error",
            Cause::Reconnect => "Reconnect",
            Cause::Complete => "Complete",
        }
    }
}

/// Asks for names of a type that is subscribed on demand. Clones ask the same client.
#[derive(Debug, Clone)]
pub struct Demand(mpsc::Sender<(&'static str, String)>);

/// The client's end of [`Demand`].
#[derive(Debug)]
pub struct Demands(mpsc::Receiver<(&'static str, String)>);

/// A pair to ask for names with.
pub fn demand() -> (Demand, Demands) {
    let (sender, receiver) = mpsc::channel(1024);
    (Demand(sender), Demands(receiver))
}

impl Demand {
    /// Asks for a name; the answer comes to the handler, as a resource (its name or one of its aliases) or as removed.
    ///
    /// A name that led nowhere may be told later without being asked for again, but not across a reconnect: ask when it is needed.
    /// Waits while too many wait already. A client that has ended asks nothing any more.
    pub async fn want(&self, type_url: &'static str, name: String) {
        let _ = self.0.send((type_url, name)).await;
    }

    /// Like [`want`](Self::want), but gives up when too many wait; says whether the question was taken.
    pub fn try_want(&self, type_url: &'static str, name: String) -> bool {
        self.0.try_send((type_url, name)).is_ok()
    }
}
