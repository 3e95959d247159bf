//! HBONE over HTTP/2 without I/O: frames, header compression, streams, flow control, the TLS tunnel.
//!
//! [`h2::Connection`] is one end of an HTTP/2 connection as a value: bytes of the peer go in, events come out through a
//! [`h2::Sink`], and what is to be sent gathers in one output until the driver takes it.
//! [`Tunnel`] puts TLS around it and moves bytes over any non-blocking `Read` and `Write`.
//! Neither knows sockets, clocks, threads, or what a CONNECT is for: the node proxy decides that.

pub mod h2;
mod tls;
mod tunnel;

pub use tunnel::{Progress, Tunnel, TunnelError};
