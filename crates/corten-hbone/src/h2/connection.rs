//! One end of an HTTP/2 connection: its state, and what the driver asks of it.
//!
//! What comes from the peer is in `receive.rs`.

use std::collections::VecDeque;

use super::flood::Flood;
use super::frame::{self, FRAME_SIZE_DEFAULT, Head, WINDOW_DEFAULT, flag, kind, setting};
use super::hpack::{self, Decoder, FieldList};
use super::output::Output;
use super::pace::Pace;
use super::receive::Input;
use super::recent::{How, Recent};
use super::stream::{Stream, Streams, is};
use super::{ConnectionError, Reason, Settings, StreamId};

/// What the PING after the first GOAWAY says, by which we recognize its echo.
pub(super) const GO_AWAY_PING: [u8; 8] = *b"goodbye?";

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// How far we are in saying goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The peer was told, and requests that were under way are still taken.
    Announced,
    /// Requests after this one are refused.
    After(u32),
}

/// What the peer has told about itself.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) frame_size_max: u32,
    pub(super) stream_window: u32,
    pub(super) streams_max: u32,
    /// Whether settings have come: they must be the first frame.
    pub(super) known: bool,
    /// Whether it wants no more requests.
    pub(super) leaving: bool,
    /// Whether our next header block must say that we use no table.
    pub(super) table_update: bool,
}

/// One end of an HTTP/2 connection, client or server.
pub struct Connection {
    pub(super) settings: Settings,
    pub(super) role: Role,
    pub(super) peer: Peer,
    pub(super) streams: Streams,
    pub(super) recent: Recent,
    pub(crate) output: Output,
    /// The number of the next stream we open (client).
    pub(super) next_wire: u32,
    /// The highest number of a stream that the peer has opened (server).
    pub(super) last_wire: u32,
    pub(super) send_window: i64,
    pub(super) receive_window: u32,
    /// Bytes of all streams that the driver has not released.
    pub(super) held: u64,
    /// Streams that may send again, in turn.
    pub(super) waiting: VecDeque<StreamId>,
    pub(super) input: Input,
    pub(super) decoder: Decoder,
    pub(super) fields: FieldList,
    pub(super) flood: Flood,
    pub(super) leaving: Leaving,
    pub(super) failed: Option<ConnectionError>,
    /// How data comes in, by which windows are sized.
    pub(super) pace: Pace,
}

impl Connection {
    /// The end that opens streams. Its preface is in the output at once.
    pub fn client(settings: Settings) -> Connection {
        let mut connection = Connection::new(Role::Client, settings);
        connection.output.urgent.extend_from_slice(frame::PREFACE);
        connection.introduce();
        connection
    }

    /// The end that answers.
    pub fn server(settings: Settings) -> Connection {
        let mut connection = Connection::new(Role::Server, settings);
        connection.introduce();
        connection
    }

    fn new(role: Role, mut settings: Settings) -> Connection {
        settings.frame_size_max = settings
            .frame_size_max
            .clamp(FRAME_SIZE_DEFAULT, frame::FRAME_SIZE_LIMIT);
        // Less than the default could not be held against a peer that has not read our settings yet.
        settings.stream_window = settings.stream_window.clamp(WINDOW_DEFAULT, frame::WINDOW_LIMIT);
        settings.connection_window = settings.connection_window.clamp(WINDOW_DEFAULT, frame::WINDOW_LIMIT);
        settings.stream_window_max = settings
            .stream_window_max
            .clamp(settings.stream_window, frame::WINDOW_LIMIT);
        Connection {
            role,
            peer: Peer {
                frame_size_max: FRAME_SIZE_DEFAULT,
                stream_window: WINDOW_DEFAULT,
                streams_max: settings.assumed_streams_max,
                known: false,
                leaving: false,
                table_update: false,
            },
            streams: Streams::default(),
            recent: Recent::default(),
            output: Output::default(),
            next_wire: 1,
            last_wire: 0,
            send_window: i64::from(WINDOW_DEFAULT),
            receive_window: settings.connection_window,
            held: 0,
            waiting: VecDeque::new(),
            input: Input::new(role),
            // The peer may use a table of the default size until it has read our settings.
            decoder: Decoder::new((settings.header_table_size as usize).max(4096)),
            fields: FieldList::default(),
            flood: Flood::default(),
            leaving: Leaving::No,
            failed: None,
            pace: Pace::default(),
            settings,
        }
    }

    fn introduce(&mut self) {
        let s = &self.settings;
        let role = match self.role {
            Role::Client => (setting::ENABLE_PUSH, 0),
            Role::Server => (setting::MAX_CONCURRENT_STREAMS, s.streams_max),
        };
        let mut payload = Vec::with_capacity(30);
        for (name, value) in [
            role,
            (setting::HEADER_TABLE_SIZE, s.header_table_size),
            (setting::INITIAL_WINDOW_SIZE, s.stream_window),
            (setting::MAX_FRAME_SIZE, s.frame_size_max),
            (setting::MAX_HEADER_LIST_SIZE, s.header_list_size_max),
        ] {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        frame::put(&mut self.output.urgent, kind::SETTINGS, 0, 0, &payload);
        let more = s.connection_window - WINDOW_DEFAULT;
        if more > 0 {
            frame::put_window_update(&mut self.output.urgent, 0, more);
        }
    }

    /// Opens a stream with a CONNECT request. Names of headers must be lower case.
    pub fn connect(&mut self, authority: &str, headers: &[(&str, &[u8])]) -> Result<StreamId, OpenError> {
        self.open(
            &[(":method", b"CONNECT"), (":authority", authority.as_bytes())],
            headers,
            false,
        )
    }

    /// Opens a stream with an ordinary request; with `end`, it has no body.
    pub fn request(
        &mut self,
        method: &str,
        scheme: &str,
        authority: &str,
        path: &str,
        headers: &[(&str, &[u8])],
        end: bool,
    ) -> Result<StreamId, OpenError> {
        let pseudo: [(&str, &[u8]); 4] = [
            (":method", method.as_bytes()),
            (":scheme", scheme.as_bytes()),
            (":authority", authority.as_bytes()),
            (":path", path.as_bytes()),
        ];
        self.open(&pseudo, headers, end)
    }

    fn open(&mut self, pseudo: &[(&str, &[u8])], headers: &[(&str, &[u8])], end: bool) -> Result<StreamId, OpenError> {
        if self.role == Role::Server || !self.is_open() || self.next_wire > frame::STREAM_LIMIT {
            return Err(OpenError::Closing);
        }
        if self.streams.open() >= self.peer.streams_max as usize {
            return Err(OpenError::Full);
        }
        let wire = self.next_wire;
        self.next_wire += 2;
        let method = pseudo.first().map_or(&b""[..], |(_, method)| *method);
        // Neither a tunnel nor an answer to HEAD has the length its headers may announce.
        let bodiless = matches!(method, b"CONNECT" | b"HEAD");
        let id = self.insert(
            wire,
            if end { is::SENT_END } else { 0 } | if bodiless { is::NO_LENGTH } else { 0 },
            None,
        );
        self.put_headers(wire, end, |block| {
            for (name, value) in pseudo.iter().chain(headers) {
                hpack::field(block, name, value);
            }
        });
        Ok(id)
    }

    pub(super) fn insert(&mut self, wire: u32, state: u16, body: Option<u64>) -> StreamId {
        self.streams.insert(Stream {
            wire,
            state,
            send_window: i64::from(self.peer.stream_window),
            receive_window: self.settings.stream_window,
            window: self.settings.stream_window,
            held: 0,
            batch: self.output.batch.wrapping_sub(1),
            batch_bytes: 0,
            body,
        })
    }

    /// How many more streams may be opened now.
    pub fn openable(&self) -> usize {
        if self.role == Role::Server || !self.is_open() || self.next_wire > frame::STREAM_LIMIT {
            return 0;
        }
        (self.peer.streams_max as usize).saturating_sub(self.streams.open())
    }

    /// Answers a request. With `end`, the answer has no body.
    pub fn respond(&mut self, stream: StreamId, status: u16, headers: &[(&str, &[u8])], end: bool) {
        let Some(found) = self.streams.get(stream) else {
            return;
        };
        if found.has(is::SENT_END | is::ANSWERED) || self.role == Role::Client {
            return;
        }
        found.set(is::ANSWERED);
        let digits = [
            b'0' + (status / 100 % 10) as u8,
            b'0' + (status / 10 % 10) as u8,
            b'0' + (status % 10) as u8,
        ];
        self.put_headers(stream.wire, end, |block| {
            hpack::field(block, ":status", &digits);
            for (name, value) in headers {
                hpack::field(block, name, value);
            }
        });
        if end {
            self.sent_end(stream);
        }
    }

    /// Encodes a header block right into the output; only one that is too large for a frame is moved once more.
    fn put_headers(&mut self, wire: u32, end: bool, encode: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut self.output.urgent;
        let start = out.len();
        out.extend_from_slice(&[0; frame::HEAD_BYTES]);
        if std::mem::take(&mut self.peer.table_update) {
            hpack::no_table(out);
        }
        encode(out);
        let length = out.len() - start - frame::HEAD_BYTES;
        if length <= self.peer.frame_size_max as usize {
            let head = Head {
                length: length as u32,
                kind: kind::HEADERS,
                flags: flag::END_HEADERS | if end { flag::END_STREAM } else { 0 },
                stream: wire,
            };
            out[start..start + frame::HEAD_BYTES].copy_from_slice(&head.bytes());
        } else {
            let block = out.split_off(start + frame::HEAD_BYTES);
            out.truncate(start);
            frame::put_headers(out, wire, &block, end, self.peer.frame_size_max);
        }
    }

    /// How many bytes [`send`](Self::send) would take now. When none, the stream is remembered and
    /// [`next_writable`](Self::next_writable) will name it.
    pub fn capacity(&mut self, stream: StreamId) -> usize {
        let room = self.room(stream).unwrap_or(0);
        if room == 0 {
            self.wait(stream);
        }
        room
    }

    /// What a stream may send now; nothing if it cannot send any more.
    fn room(&mut self, id: StreamId) -> Option<usize> {
        let limit = self.settings.output_bytes;
        let others = self.waiting.len();
        let batch = self.output.batch;
        let stream = self.streams.get(id).filter(|stream| !stream.has(is::SENT_END))?;
        if stream.batch != batch {
            stream.batch = batch;
            stream.batch_bytes = 0;
            stream.unset(is::IN_BULK);
        }
        let window = stream.send_window.min(self.send_window).max(0) as usize;
        // Where others wait, nobody takes all of a batch.
        let bulk = self
            .output
            .bulk_room(limit)
            .min((limit / (others + 1)).max(super::output::SMALL));
        let room = if stream.has(is::IN_BULK) {
            bulk
        } else {
            bulk.max(self.output.urgent_room(limit, stream.batch_bytes))
        };
        Some(room.min(window))
    }

    /// Puts bytes of a stream into the output, as far as windows and the room in the output allow, and says how many.
    /// If not all were taken the stream is remembered and [`next_writable`](Self::next_writable) will name it.
    /// `end` counts only when all bytes were taken; an end alone always finds room.
    /// What is sent on a stream that is gone is dropped, and counts as taken.
    #[must_use]
    pub fn send(&mut self, stream: StreamId, bytes: &[u8], end: bool) -> usize {
        let Some(room) = self.room(stream) else {
            return bytes.len();
        };
        let taken = room.min(bytes.len());
        let all = taken == bytes.len();
        if taken > 0 || (end && all) {
            self.put_data(stream, &bytes[..taken], end && all);
        }
        if !all {
            self.wait(stream);
        } else if end {
            self.sent_end(stream);
        }
        taken
    }

    fn put_data(&mut self, id: StreamId, bytes: &[u8], end: bool) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let small = stream.batch_bytes as usize + bytes.len() <= super::output::SMALL;
        let lane = if small && !stream.has(is::IN_BULK) {
            &mut self.output.urgent
        } else {
            stream.set(is::IN_BULK);
            &mut self.output.bulk
        };
        stream.batch_bytes = stream.batch_bytes.saturating_add(bytes.len() as u32);
        stream.send_window -= bytes.len() as i64;
        self.send_window -= bytes.len() as i64;
        let frame_size_max = self.peer.frame_size_max.min(self.settings.send_frame_size_max).max(1) as usize;
        let mut rest = bytes;
        loop {
            let (part, after) = rest.split_at(rest.len().min(frame_size_max));
            let last = after.is_empty();
            let flags = if end && last { flag::END_STREAM } else { 0 };
            frame::put(lane, kind::DATA, flags, id.wire, part);
            if last {
                return;
            }
            rest = after;
        }
    }

    /// Remembers that a stream has more to send. One whose own window is closed joins the queue when that opens.
    fn wait(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(id).filter(|stream| !stream.has(is::SENT_END)) else {
            return;
        };
        stream.set(is::WAITING);
        if stream.send_window > 0 {
            self.enqueue(id);
        }
    }

    /// Puts a waiting stream in the queue.
    pub(super) fn enqueue(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(id) else { return };
        if stream.has(is::QUEUED) || !stream.has(is::WAITING) {
            return;
        }
        stream.set(is::QUEUED);
        // Streams that ended while they waited are still in the queue.
        if self.waiting.len() > 2 * self.streams.open() + 16 {
            let streams = &mut self.streams;
            self.waiting.retain(|id| streams.get(*id).is_some());
        }
        self.waiting.push_back(id);
    }

    /// A stream that was held back and may send now; each is named once, in turn.
    pub fn next_writable(&mut self) -> Option<StreamId> {
        while let Some(&id) = self.waiting.front() {
            if self.send_window <= 0 {
                return None;
            }
            match self.streams.get(id) {
                Some(stream) if stream.send_window > 0 && stream.has(is::WAITING) => {
                    if self.room(id) == Some(0) {
                        return None;
                    }
                    self.waiting.pop_front();
                    if let Some(stream) = self.streams.get(id) {
                        stream.unset(is::QUEUED | is::WAITING);
                    }
                    return Some(id);
                }
                Some(stream) => stream.unset(is::QUEUED),
                None => {}
            }
            self.waiting.pop_front();
        }
        None
    }

    /// The driver has passed on `bytes` of what [`Sink::data`](super::Sink::data) gave it: the peer may send as many more.
    pub fn release(&mut self, stream: StreamId, bytes: usize) {
        let Some(found) = self.streams.get(stream) else {
            return;
        };
        let bytes = (bytes as u64).min(u64::from(found.held)) as u32;
        found.held -= bytes;
        self.held -= u64::from(bytes);
        if found.held == 0 && found.has(is::CLOSED) {
            self.streams.remove(stream);
        } else {
            // The reader keeps up and the wire is empty: only the window holds the sender back.
            if found.held == 0 && found.has(is::STARVED) {
                found.window = found.window.saturating_mul(2).min(self.settings.stream_window_max);
                found.unset(is::STARVED);
            }
            self.credit_stream(stream);
        }
        self.credit_connection();
    }

    /// Lets the peer send more on a stream, once it is worth a frame.
    pub(super) fn credit_stream(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get(id)
            && !stream.has(is::RECEIVED_END)
        {
            // A window that has become smaller may be exceeded by what was promised before.
            let credit = stream.window.saturating_sub(stream.receive_window + stream.held);
            if credit >= stream.window / 2 {
                stream.receive_window += credit;
                frame::put_window_update(&mut self.output.urgent, id.wire, credit);
            }
        }
    }

    /// Lets the peer send more on the connection as a whole.
    ///
    /// A stream whose reader has stopped must not stop all others, so what it holds does not count against the window
    /// before it is as much as the window once more.
    pub(super) fn credit_connection(&mut self) {
        let whole = u64::from(self.settings.connection_window);
        let now = u64::from(self.receive_window);
        let credit = (whole - now).min((2 * whole).saturating_sub(self.held + now));
        if credit >= whole / 2 {
            self.receive_window += credit as u32;
            frame::put_window_update(&mut self.output.urgent, 0, credit as u32);
        }
    }

    /// A read from the transport has been received; `all` says that nothing was left in it. Sizes the window of the stream
    /// that most of it belonged to: see [`Pace`].
    pub(crate) fn read_over(&mut self, all: bool) {
        let most = self.settings.stream_window_max;
        let Some((id, waited, allowed)) = self.pace.read_over(all, self.streams.open() > 1) else {
            return;
        };
        let Some(stream) = self.streams.get(id) else { return };
        if waited > allowed {
            let least = super::pace::WINDOW_LEAST.min(stream.window);
            stream.window = (stream.window - (waited - allowed).min(stream.window) / 2).max(least);
            stream.unset(is::STARVED);
        } else if all && waited <= allowed / 2 && stream.receive_window <= stream.window / 4 && stream.window < most {
            stream.set(is::STARVED);
        }
    }

    /// Ends a stream at once in both directions.
    pub fn reset(&mut self, stream: StreamId, reason: Reason) {
        let Some(found) = self.streams.get(stream) else {
            return;
        };
        if found.has(is::CLOSED) {
            self.forget(stream);
            return;
        }
        let behind_bulk = found.batch == self.output.batch && found.has(is::IN_BULK);
        let lane = if behind_bulk {
            &mut self.output.bulk
        } else {
            &mut self.output.urgent
        };
        frame::put_reset(lane, stream.wire, reason);
        self.recent.add(stream.wire, How::WeReset);
        self.forget(stream);
    }

    /// Removes a stream with what is held of it.
    pub(super) fn forget(&mut self, stream: StreamId) {
        if let Some(found) = self.streams.get(stream) {
            self.held -= u64::from(found.held);
            self.streams.remove(stream);
            self.credit_connection();
        }
    }

    fn sent_end(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get(id) {
            stream.set(is::SENT_END);
            stream.unset(is::WAITING);
            self.close_if_ended(id);
        }
    }

    /// A stream that ended in both directions is closed; its slot stays until the driver has released everything.
    pub(super) fn close_if_ended(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(id) else { return };
        if stream.has(is::SENT_END) && stream.has(is::RECEIVED_END) && !stream.has(is::CLOSED) {
            let held = stream.held;
            self.recent.add(id.wire, How::Ended);
            self.streams.close(id);
            if held == 0 {
                self.streams.remove(id);
            }
        }
    }

    /// Sends a PING; its echo comes back as [`Sink::pong`](super::Sink::pong).
    pub fn ping(&mut self, payload: [u8; 8]) {
        frame::put(&mut self.output.urgent, kind::PING, 0, 0, &payload);
    }

    /// Tells the peer to open no more streams. Those that are open go on until they end.
    ///
    /// A server that leaves with NO_ERROR does it in two steps, so that requests which are under way are still taken:
    /// the second step follows by itself when the peer has answered the first, or with a second call.
    pub fn go_away(&mut self, reason: Reason) {
        if self.failed.is_some() {
            return;
        }
        let graceful = self.role == Role::Server && reason == Reason::NO_ERROR;
        match self.leaving {
            Leaving::No if graceful => {
                frame::put_go_away(&mut self.output.urgent, frame::STREAM_LIMIT, reason, b"");
                self.ping(GO_AWAY_PING);
                self.leaving = Leaving::Announced;
            }
            Leaving::After(_) if graceful => {}
            Leaving::No | Leaving::Announced | Leaving::After(_) => {
                frame::put_go_away(&mut self.output.urgent, self.last_wire, reason, b"");
                self.leaving = Leaving::After(self.last_wire);
            }
        }
    }

    /// About a second has passed: flood limits count anew, and buffers that were not needed since are given back.
    /// Returns whether there is reason to call it again in a second even if nothing happens until then.
    pub fn tick(&mut self) -> bool {
        let active = self.output.tick() | self.flood.tick();
        if !active {
            self.input.shrink();
            self.streams.shrink();
            self.waiting.shrink_to_fit();
            self.fields = FieldList::default();
        }
        active
    }

    /// Whether new streams can be expected to be accepted: neither side has said GOAWAY, and nothing failed.
    pub fn is_open(&self) -> bool {
        self.failed.is_none() && self.leaving == Leaving::No && !self.peer.leaving
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.streams.open()
    }

    /// Whether no stream is open and none holds bytes.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether the output holds anything.
    pub fn wants_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Hands the output, in order, to `write`, and forgets it. For connections without TLS; a [`Tunnel`](crate::Tunnel) seals it.
    pub fn take_output(&mut self, mut write: impl FnMut(&[u8])) {
        for lane in self.output.lanes() {
            if !lane.is_empty() {
                write(lane);
            }
        }
        self.output.clear();
    }

    /// The settings given at the start.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
