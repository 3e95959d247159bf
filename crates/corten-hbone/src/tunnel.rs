//! TLS around an HTTP/2 connection, over anything that reads and writes without blocking.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ServerConfig};

use crate::h2::{self, Connection, ConnectionError, Sink};
use crate::tls::{self, Handshake, Opened, Records, Step};

#[cfg(test)]
mod tests;

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
    /// The peer hung up without saying that it would, with streams open or during the handshake.
    #[error("the peer closed the connection in the middle")]
    Truncated,
    /// The peer chose another protocol than HTTP/2 (ALPN).
    #[error("the peer does not speak http/2")]
    Alpn,
    /// The tunnel has failed before.
    #[error("the tunnel has failed before")]
    Failed,
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

/// Batches are sealed while less than this is still to be written: a little that could not go out before, such as the end
/// of the handshake, then leaves with the data behind it.
const SEAL_AHEAD: usize = 16 << 10;
/// The smallest buffer that a read can work with.
const SCRATCH_LEAST: usize = 64 << 10;

enum State {
    Handshaking(Box<Handshake>),
    Open(Box<Records>),
    Failed,
}

/// A TLS connection with HTTP/2 inside.
///
/// A driver's turn: [`read`](Self::read) while the transport has something, act on the events through
/// [`h2`](Self::h2), [`flush`](Self::flush) once, then serve [`h2::Connection::next_writable`] and flush what that gave.
/// Everything is possible during the handshake as well, and waits for its end.
pub struct Tunnel {
    h2: Connection,
    state: State,
    certificates: Vec<CertificateDer<'static>>,
    /// The beginning of a record of which the rest has not come.
    partial: Vec<u8>,
    sealed: Sealed,
    /// The driver wants to say goodbye.
    closing: bool,
    /// An alert to be sent last, and whether it was.
    alert: Option<AlertDescription>,
    peer_closed: bool,
    /// Something went wrong: nothing is read any more.
    failed: bool,
}

impl Tunnel {
    /// The side that dials. The configuration must ask for ALPN `h2`.
    pub fn client(
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
        settings: h2::Settings,
    ) -> Result<Tunnel, TunnelError> {
        let handshake = Handshake::client(config, name)?;
        let mut tunnel = Tunnel::new(handshake, Connection::client(settings));
        tunnel.handshake(&[])?;
        Ok(tunnel)
    }

    /// The side that was dialled.
    pub fn server(config: &Arc<ServerConfig>, settings: h2::Settings) -> Result<Tunnel, TunnelError> {
        Ok(Tunnel::new(Handshake::server(config)?, Connection::server(settings)))
    }

    fn new(handshake: Handshake, h2: Connection) -> Tunnel {
        Tunnel {
            h2,
            state: State::Handshaking(Box::new(handshake)),
            certificates: Vec::new(),
            partial: Vec::new(),
            sealed: Sealed::default(),
            closing: false,
            alert: None,
            peer_closed: false,
            failed: false,
        }
    }

    /// The HTTP/2 connection inside.
    pub fn h2(&mut self) -> &mut Connection {
        &mut self.h2
    }

    /// The HTTP/2 connection inside, to look at.
    pub fn connection(&self) -> &Connection {
        &self.h2
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Handshaking(_))
    }

    /// The certificates of the peer, its own first; empty before the handshake is done.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Reads once from the transport and passes on what it means.
    ///
    /// `scratch` is where bytes are read to and opened in place; it can be shared by all tunnels of a thread, and must
    /// have at least 64 KiB. 256 KiB and more serve bulk best. Data given to the sink lies in it.
    /// Also after an error [`flush`](Self::flush) should be called once, so that the peer learns the reason.
    pub fn read<'b>(
        &mut self,
        transport: &mut impl Read,
        scratch: &'b mut [u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<Progress, TunnelError> {
        debug_assert!(scratch.len() >= SCRATCH_LEAST, "a read needs a larger buffer");
        let kept = self.partial.len();
        let read = loop {
            match transport.read(&mut scratch[kept..]) {
                Ok(0) => return self.end_of_transport(),
                Ok(read) => break read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Drained),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        };
        scratch[..kept].copy_from_slice(&self.partial);
        self.partial.clear();
        let filled = kept + read;
        let full = filled == scratch.len();
        let (bytes, _) = scratch.split_at_mut(filled);
        self.take(bytes, sink)?;
        if self.peer_closed {
            return Ok(Progress::Closed);
        }
        self.h2.read_over(!full);
        if full {
            return Ok(Progress::More);
        }
        Ok(Progress::Drained)
    }

    /// The same for a transport that is in memory: takes as many bytes as `scratch` has room for, and says how many.
    pub fn receive<'b>(
        &mut self,
        bytes: &[u8],
        scratch: &'b mut [u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<(usize, Progress), TunnelError> {
        let kept = self.partial.len();
        let taken = bytes.len().min(scratch.len().saturating_sub(kept));
        let (filled, _) = scratch.split_at_mut(kept + taken);
        filled[..kept].copy_from_slice(&self.partial);
        filled[kept..].copy_from_slice(&bytes[..taken]);
        self.partial.clear();
        self.take(filled, sink)?;
        if self.peer_closed {
            return Ok((taken, Progress::Closed));
        }
        self.h2.read_over(taken == bytes.len());
        if taken < bytes.len() {
            return Ok((taken, Progress::More));
        }
        Ok((taken, Progress::Drained))
    }

    fn end_of_transport(&mut self) -> Result<Progress, TunnelError> {
        let harmless = self.h2.streams() == 0 && self.partial.is_empty() && !self.is_handshaking();
        if self.peer_closed || harmless {
            self.peer_closed = true;
            return Ok(Progress::Closed);
        }
        Err(self.fail(TunnelError::Truncated))
    }

    /// All whole records of the bytes, and the rest kept for later.
    fn take<'b>(&mut self, bytes: &'b mut [u8], sink: &mut impl Sink<'b>) -> Result<(), TunnelError> {
        if self.failed {
            return Err(TunnelError::Failed);
        }
        let mut rest = bytes;
        while !self.peer_closed {
            match tls::record_length(rest) {
                Some(Ok(length)) if length <= rest.len() => {
                    let (record, after) = rest.split_at_mut(length);
                    rest = after;
                    if let Err(error) = self.record(record, sink) {
                        return Err(self.fail(error));
                    }
                }
                Some(Err(error)) => return Err(self.fail(error.into())),
                Some(Ok(_)) | None => break,
            }
        }
        if !self.peer_closed {
            self.partial.extend_from_slice(rest);
        }
        Ok(())
    }

    fn record<'b>(&mut self, record: &'b mut [u8], sink: &mut impl Sink<'b>) -> Result<(), TunnelError> {
        match &mut self.state {
            State::Open(records) => match records.open(record)? {
                Opened::Data(data) => self.h2.receive(data, sink)?,
                Opened::Nothing => {}
                Opened::Closed => {
                    if self.h2.streams() > 0 {
                        return Err(TunnelError::Truncated);
                    }
                    self.peer_closed = true;
                }
            },
            State::Handshaking(_) => {
                self.handshake(record)?;
                if !self.is_handshaking() {
                    sink.secured(&self.certificates);
                }
            }
            State::Failed => return Err(TunnelError::Failed),
        }
        Ok(())
    }

    /// Goes on with the handshake, with one more record.
    fn handshake(&mut self, record: &[u8]) -> Result<(), TunnelError> {
        let State::Handshaking(handshake) = std::mem::replace(&mut self.state, State::Failed) else {
            return Err(TunnelError::Failed);
        };
        match handshake.step(record, self.sealed.room())? {
            Step::Blocked(handshake) => self.state = State::Handshaking(handshake),
            Step::Done(done) => {
                self.certificates = done.certificates;
                self.state = State::Open(Box::new(done.records));
                if done.alpn.is_some_and(|alpn| alpn != b"h2") {
                    return Err(TunnelError::Alpn);
                }
            }
        }
        Ok(())
    }

    /// Prepares what the peer is told about an error. What was to be sent otherwise is dropped, except for a GOAWAY.
    fn fail(&mut self, error: TunnelError) -> TunnelError {
        self.failed = true;
        self.alert = match &error {
            // The GOAWAY says it.
            TunnelError::Http(_) => Some(AlertDescription::CloseNotify),
            TunnelError::Alpn => Some(AlertDescription::NoApplicationProtocol),
            TunnelError::Tls(rustls::Error::AlertReceived(_)) => None,
            TunnelError::Tls(rustls::Error::DecryptError) => Some(AlertDescription::BadRecordMac),
            TunnelError::Tls(_) => Some(AlertDescription::UnexpectedMessage),
            TunnelError::Io(_) | TunnelError::Truncated | TunnelError::Failed => None,
        };
        if !matches!(error, TunnelError::Http(_)) {
            self.h2.take_output(|_| ());
        }
        error
    }

    /// Seals what has gathered and writes as much as the transport takes. Says whether everything is out; if not, it is
    /// to be called again when the transport is writable.
    pub fn flush(&mut self, transport: &mut impl Write) -> Result<bool, TunnelError> {
        loop {
            if let State::Open(records) = &mut self.state
                && self.sealed.len() < SEAL_AHEAD
            {
                if self.h2.wants_output() {
                    records.seal(&self.h2.output.lanes(), self.sealed.room())?;
                    self.h2.output.clear();
                } else if self.closing && self.alert.is_none() {
                    self.alert = Some(AlertDescription::CloseNotify);
                }
                if let Some(alert) = self.alert
                    && !self.h2.wants_output()
                {
                    records.seal_alert(alert, self.sealed.room())?;
                    // Nothing may follow an alert.
                    self.state = State::Failed;
                }
            }
            if self.sealed.len() == 0 {
                return Ok(true);
            }
            match self.sealed.write(transport) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether there is something to flush.
    pub fn wants_write(&self) -> bool {
        match self.state {
            State::Open(_) => self.sealed.len() > 0 || self.h2.wants_output() || self.closing || self.alert.is_some(),
            State::Handshaking(_) | State::Failed => self.sealed.len() > 0,
        }
    }

    /// Ends the tunnel after what was sent so far: GOAWAY, then close_notify. Flush, then close the transport.
    pub fn close(&mut self, reason: h2::Reason) {
        self.h2.go_away(reason);
        self.closing = true;
    }

    /// About a second has passed: see [`h2::Connection::tick`].
    pub fn tick(&mut self) -> bool {
        let again = self.h2.tick();
        if !again {
            self.partial.shrink_to_fit();
            self.sealed.shrink();
        }
        again
    }
}

/// Records that are to be written.
#[derive(Default)]
struct Sealed {
    records: Vec<u8>,
    /// How many bytes are written already.
    written: usize,
}

impl Sealed {
    /// Bytes still to be written.
    fn len(&self) -> usize {
        self.records.len() - self.written
    }

    /// Where more can be appended.
    fn room(&mut self) -> &mut Vec<u8> {
        self.records.drain(..self.written);
        self.written = 0;
        &mut self.records
    }

    fn write(&mut self, transport: &mut impl Write) -> io::Result<()> {
        match transport.write(&self.records[self.written..])? {
            0 => return Err(ErrorKind::WriteZero.into()),
            written => self.written += written,
        }
        if self.len() == 0 {
            self.records.clear();
            self.written = 0;
        }
        Ok(())
    }

    fn shrink(&mut self) {
        if self.records.is_empty() {
            self.records = Vec::new();
        }
    }
}
