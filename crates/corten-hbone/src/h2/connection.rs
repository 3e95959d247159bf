//! One end of an HTTP/2 connection.

use super::{ConnectionError, Reason, Settings, Sink, StreamId};

/// Why no stream could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// All streams that the peer allows are open.
    #[error("the peer allows no more streams at a time")]
    Full,
    /// The connection is closing, or all stream numbers are used up.
    #[error("the connection takes no new streams")]
    Closing,
}

/// One end of an HTTP/2 connection, client or server.
pub struct Connection {
    settings: Settings,
    output: Vec<u8>,
}

impl Connection {
    /// The end that opens streams. Its preface is in the output at once.
    pub fn client(settings: Settings) -> Connection {
        Connection {
            settings,
            output: Vec::new(),
        }
    }

    /// The end that answers.
    pub fn server(settings: Settings) -> Connection {
        Connection {
            settings,
            output: Vec::new(),
        }
    }

    /// Takes bytes of the peer and tells the sink what they meant. Frames may be cut anywhere between two calls.
    ///
    /// After an error the output holds a GOAWAY; nothing further is taken.
    pub fn receive<'b>(&mut self, bytes: &'b [u8], sink: &mut impl Sink<'b>) -> Result<(), ConnectionError> {
        let _ = (bytes, sink);
        Ok(())
    }

    /// Opens a stream with a CONNECT request. Names of headers must be lower case.
    pub fn connect(&mut self, authority: &str, headers: &[(&str, &[u8])]) -> Result<StreamId, OpenError> {
        let _ = (authority, headers);
        Err(OpenError::Closing)
    }

    /// Opens a stream with an ordinary request.
    pub fn request(
        &mut self,
        method: &str,
        scheme: &str,
        authority: &str,
        path: &str,
        headers: &[(&str, &[u8])],
        end: bool,
    ) -> Result<StreamId, OpenError> {
        let _ = (method, scheme, authority, path, headers, end);
        Err(OpenError::Closing)
    }

    /// How many more streams may be opened now.
    pub fn openable(&self) -> usize {
        0
    }

    /// Answers a request. With `end`, the answer has no body.
    pub fn respond(&mut self, stream: StreamId, status: u16, headers: &[(&str, &[u8])], end: bool) {
        let _ = (stream, status, headers, end);
    }

    /// How many bytes [`send`](Self::send) would take now. When none, the stream is remembered and
    /// [`next_writable`](Self::next_writable) will name it.
    pub fn capacity(&mut self, stream: StreamId) -> usize {
        let _ = stream;
        0
    }

    /// Puts bytes of a stream into the output, as far as windows and the room in the output allow, and says how many.
    /// If not all were taken the stream is remembered and [`next_writable`](Self::next_writable) will name it.
    /// `end` counts only when all bytes were taken; an end alone always finds room.
    #[must_use]
    pub fn send(&mut self, stream: StreamId, bytes: &[u8], end: bool) -> usize {
        let _ = (stream, bytes, end);
        0
    }

    /// A stream that was held back and may send now; each is named once, in turn.
    pub fn next_writable(&mut self) -> Option<StreamId> {
        None
    }

    /// The driver has passed on `bytes` of what [`Sink::data`] gave it: the peer may send as many more.
    pub fn release(&mut self, stream: StreamId, bytes: usize) {
        let _ = (stream, bytes);
    }

    /// Ends a stream at once in both directions. What it still had in the output may be dropped.
    pub fn reset(&mut self, stream: StreamId, reason: Reason) {
        let _ = (stream, reason);
    }

    /// Sends a PING; its echo comes back as [`Sink::pong`].
    pub fn ping(&mut self, payload: [u8; 8]) {
        let _ = payload;
    }

    /// Tells the peer to open no more streams. Those that are open go on until they end.
    pub fn go_away(&mut self, reason: Reason) {
        let _ = reason;
    }

    /// About a second has passed: flood limits count anew, and buffers that were not needed since are given back.
    /// Returns whether there is anything to call it for again before the next [`receive`](Self::receive) or send.
    pub fn tick(&mut self) -> bool {
        false
    }

    /// Whether new streams can be expected to be accepted: neither side has said GOAWAY, and nothing failed.
    pub fn is_open(&self) -> bool {
        true
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        0
    }

    /// Whether the output holds anything.
    pub fn wants_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Hands the output, in order, to `write`, and forgets it. For connections without TLS; a [`Tunnel`](crate::Tunnel) seals it.
    pub fn take_output(&mut self, mut write: impl FnMut(&[u8])) {
        write(&self.output);
        self.output.clear();
    }

    /// The settings given at the start.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
