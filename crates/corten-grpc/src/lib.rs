//! gRPC without generated code: a client [`Channel`] over one HTTP/2 connection, and a server that tells its handlers who calls.
//!
//! Messages are `prost` types; calls go through `tonic`'s low-level pieces. Connections, TLS, keepalive, limits and drain are here.
//! Knows nothing of discovery, certificates authorities or Kubernetes, and never decides who may call what.

mod body;
mod channel;
mod codec;
mod executor;
mod peer;
mod router;
mod server;

pub use body::{Message, Messages};
pub use channel::{Channel, Prepare, Target, TlsConnector, TlsSourceError};
pub use codec::{ProstCodec, ProstDecoder, ProstEncoder};
pub use peer::Peer;
pub use router::{HttpRequest, HttpResponse, Router};
pub use server::{Listener, Settings, TlsAcceptor, serve};

pub use tonic::{Code, Request, Response, Status, Streaming};
