//! TLS around an HTTP/2 connection, over anything that reads and writes without blocking.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};

use crate::h2::{self, Connection, ConnectionError, Sink};

/// Why a tunnel ended.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The handshake failed, or a record was not authentic.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
    /// The peer broke the rules of HTTP/2.
    #[error(transparent)]
    Http(#[from] ConnectionError),
    /// The transport failed.
    #[error("tunnel: {0}")]
    Io(#[from] io::Error),
    /// The peer hung up without saying that it would.
    #[error("the peer closed the connection in the middle")]
    Truncated,
    /// The peer does not speak HTTP/2 (ALPN).
    #[error("the peer does not offer http/2 by alpn")]
    Alpn,
}

/// How a read went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All that was there was read.
    Drained,
    /// There may be more to read at once.
    More,
    /// The peer has closed the tunnel in good order; nothing more comes.
    Closed,
}

/// A TLS connection with HTTP/2 inside.
///
/// A driver's turn: [`read`](Self::read) while the transport has something, act on the events through
/// [`h2`](Self::h2), [`flush`](Self::flush) once, then serve [`h2::Connection::next_writable`] and flush what that gave.
/// Everything is possible during the handshake as well, and waits for its end.
pub struct Tunnel {
    h2: Connection,
}

impl Tunnel {
    /// The side that dials. The configuration must ask for ALPN `h2`.
    pub fn client(
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
        settings: h2::Settings,
    ) -> Result<Tunnel, TunnelError> {
        let _ = (config, name);
        Ok(Tunnel {
            h2: Connection::client(settings),
        })
    }

    /// The side that was dialled.
    pub fn server(config: &Arc<ServerConfig>, settings: h2::Settings) -> Result<Tunnel, TunnelError> {
        let _ = config;
        Ok(Tunnel {
            h2: Connection::server(settings),
        })
    }

    /// The HTTP/2 connection inside.
    pub fn h2(&mut self) -> &mut Connection {
        &mut self.h2
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        false
    }

    /// The certificates of the peer, its own first; empty before the handshake is done.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &[]
    }

    /// Reads once from the transport and passes on what it means.
    ///
    /// `scratch` is where bytes are read to and decrypted in place; it can be shared by all tunnels of a thread, and must
    /// have at least 64 KiB. 256 KiB and more serve bulk best. Data given to the sink lies in it.
    /// Also after an error [`flush`](Self::flush) should be called once, so that the peer learns the reason.
    pub fn read<'b>(
        &mut self,
        transport: &mut impl Read,
        scratch: &'b mut [u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<Progress, TunnelError> {
        let _ = (transport, scratch, sink);
        Ok(Progress::Drained)
    }

    /// Takes bytes of the transport that lie in memory; all of them.
    pub fn receive<'b>(&mut self, bytes: &'b mut [u8], sink: &mut impl Sink<'b>) -> Result<Progress, TunnelError> {
        let _ = (bytes, sink);
        Ok(Progress::Drained)
    }

    /// Seals what has gathered and writes as much as the transport takes. Says whether everything is out; if not, it is
    /// to be called again when the transport is writable.
    pub fn flush(&mut self, transport: &mut impl Write) -> Result<bool, TunnelError> {
        let _ = transport;
        Ok(true)
    }

    /// Whether there is something to flush.
    pub fn wants_write(&self) -> bool {
        self.h2.wants_output()
    }

    /// Ends the tunnel after what was sent so far: GOAWAY, then close_notify. Flush, then close the transport.
    pub fn close(&mut self, reason: h2::Reason) {
        self.h2.go_away(reason);
    }

    /// About a second has passed: see [`h2::Connection::tick`].
    pub fn tick(&mut self) -> bool {
        self.h2.tick()
    }
}
