//! What comes from the peer: bytes to frames, frames to events, and the rules of RFC 9113 §5 and §6.

use super::connection::{Connection, GO_AWAY_PING, Leaving, Role};
use super::flood::Kind;
use super::frame::{self, HEAD_BYTES, Head, flag, kind, setting};
use super::hpack::FieldList;
use super::message;
use super::recent::How;
use super::stream::is;
use super::{ConnectionError, Reason, Sink, StreamId};

/// How much longer than the list it stands for a header block may be.
const BLOCK_SLACK: usize = 16 << 10;
/// The longest SETTINGS and GOAWAY frames that anyone has a reason to send.
const CONTROL_BYTES_MAX: u32 = 16 << 10;
/// Answers that the peer does not read (to PING, SETTINGS, and mistakes) gather up to here.
const ANSWERS_MAX: usize = 64 << 10;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The client's preface, of which this many bytes have come.
    Preface(usize),
    Head,
    Payload(Head),
    Data(Data),
    /// Bytes that mean nothing to us.
    Skip(u32),
}

/// A DATA frame whose payload is passed on as it comes.
#[derive(Clone, Copy, Debug)]
struct Data {
    /// Nowhere if the stream is gone.
    stream: Option<StreamId>,
    left: u32,
    padding: u32,
    /// The length of the padding is still to come.
    padded: bool,
    end: bool,
}

/// Where we are in the input.
pub(super) struct Input {
    next: Next,
    /// The beginning of a head or payload of which the rest has not come.
    partial: Vec<u8>,
    /// A header block that is to be continued.
    block: Option<Box<Block>>,
}

struct Block {
    bytes: Vec<u8>,
    head: HeadersHead,
    continuations: u32,
}

/// What a HEADERS frame says beside its fields.
#[derive(Clone, Copy)]
struct HeadersHead {
    wire: u32,
    end: bool,
    /// It depends on itself, which RFC 7540 forbade.
    absurd: bool,
}

impl Input {
    pub(super) fn new(role: Role) -> Input {
        Input {
            next: match role {
                Role::Client => Next::Head,
                Role::Server => Next::Preface(0),
            },
            partial: Vec::new(),
            block: None,
        }
    }

    pub(super) fn shrink(&mut self) {
        self.partial.shrink_to_fit();
    }
}

fn protocol<T>(detail: &'static str) -> Result<T, ConnectionError> {
    error(Reason::PROTOCOL_ERROR, detail)
}

fn error<T>(reason: Reason, detail: &'static str) -> Result<T, ConnectionError> {
    Err(ConnectionError { reason, detail })
}

impl Connection {
    /// Takes bytes of the peer and tells the sink what they meant. Frames may be cut anywhere between two calls.
    ///
    /// After an error the output holds a GOAWAY; nothing further is taken.
    pub fn receive<'b>(&mut self, bytes: &'b [u8], sink: &mut impl Sink<'b>) -> Result<(), ConnectionError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let result = self.receive_all(bytes, sink);
        if let Err(failed) = result {
            self.failed = Some(failed);
            // After everything else that is under way, as nothing is read behind it.
            let (last, reason) = (self.last_wire, failed.reason);
            frame::put_go_away(&mut self.output.bulk, last, reason, failed.detail.as_bytes());
        }
        result
    }

    fn receive_all<'b>(&mut self, mut bytes: &'b [u8], sink: &mut impl Sink<'b>) -> Result<(), ConnectionError> {
        // Each turn takes a step, or ends for lack of bytes.
        loop {
            match self.input.next {
                Next::Preface(done) => {
                    let expected = &frame::PREFACE[done..];
                    let (start, rest) = bytes.split_at(bytes.len().min(expected.len()));
                    if *start != expected[..start.len()] {
                        return protocol("the connection does not begin with the preface of http/2");
                    }
                    bytes = rest;
                    if start.len() < expected.len() {
                        self.input.next = Next::Preface(done + start.len());
                        return Ok(());
                    }
                    self.input.next = Next::Head;
                }
                Next::Head => {
                    let head = match bytes.split_first_chunk::<HEAD_BYTES>() {
                        Some((head, rest)) if self.input.partial.is_empty() => {
                            bytes = rest;
                            Head::parse(head)
                        }
                        _ => {
                            if !gather(&mut self.input.partial, &mut bytes, HEAD_BYTES) {
                                return Ok(());
                            }
                            let mut head = [0; HEAD_BYTES];
                            head.copy_from_slice(&self.input.partial);
                            self.input.partial.clear();
                            Head::parse(&head)
                        }
                    };
                    self.input.next = self.begin(head, sink)?;
                }
                Next::Payload(head) => {
                    let length = head.length as usize;
                    match bytes.split_at_checked(length) {
                        Some((payload, rest)) if self.input.partial.is_empty() => {
                            bytes = rest;
                            self.input.next = Next::Head;
                            self.frame(head, payload, sink)?;
                        }
                        _ => {
                            if !gather(&mut self.input.partial, &mut bytes, length) {
                                return Ok(());
                            }
                            self.input.next = Next::Head;
                            let mut payload = std::mem::take(&mut self.input.partial);
                            let result = self.frame(head, &payload, sink);
                            payload.clear();
                            self.input.partial = payload;
                            result?;
                        }
                    }
                }
                Next::Data(data) => match self.data(data, &mut bytes, sink)? {
                    Some(data) => {
                        self.input.next = Next::Data(data);
                        return Ok(());
                    }
                    None => self.input.next = Next::Head,
                },
                Next::Skip(left) => {
                    let skipped = bytes.len().min(left as usize);
                    bytes = &bytes[skipped..];
                    let left = left - skipped as u32;
                    if left > 0 {
                        self.input.next = Next::Skip(left);
                        return Ok(());
                    }
                    self.input.next = Next::Head;
                }
            }
        }
    }

    /// Judges a head before its payload is looked at, so that what is refused for its size is never kept.
    fn begin<'b>(&mut self, head: Head, sink: &mut impl Sink<'b>) -> Result<Next, ConnectionError> {
        if !self.peer.known && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return protocol("the first frame is not settings");
        }
        if let Some(block) = &self.input.block
            && (head.kind != kind::CONTINUATION || head.stream != block.head.wire)
        {
            return protocol("a header block is interrupted by another frame");
        }
        if head.length > self.settings.frame_size_max {
            return error(Reason::FRAME_SIZE_ERROR, "a frame is larger than allowed");
        }
        let on_stream = head.stream != 0;
        let (placed, sized) = match head.kind {
            kind::DATA => return self.begin_data(head, sink),
            kind::HEADERS | kind::CONTINUATION => {
                if head.length as usize > self.settings.header_list_size_max as usize + BLOCK_SLACK {
                    return error(Reason::ENHANCE_YOUR_CALM, "a header block is larger than allowed");
                }
                (on_stream, true)
            }
            kind::PRIORITY => (on_stream, head.length == 5),
            kind::RST_STREAM => (on_stream, head.length == 4),
            kind::SETTINGS if head.has(flag::ACK) => (!on_stream, head.length == 0),
            kind::SETTINGS => (!on_stream, head.length.is_multiple_of(6)),
            kind::PUSH_PROMISE => return protocol("a push, which we do not allow"),
            kind::PING => (!on_stream, head.length == 8),
            kind::GOAWAY => (!on_stream, head.length >= 8),
            kind::WINDOW_UPDATE => (true, head.length == 4),
            _ => {
                self.flood.count(Kind::IdleFrame, &self.settings.flood)?;
                return Ok(Next::Skip(head.length));
            }
        };
        if !placed {
            return protocol("a frame that belongs to a stream came without one, or the opposite");
        }
        if !sized {
            return error(Reason::FRAME_SIZE_ERROR, "a frame whose size does not fit its type");
        }
        if matches!(head.kind, kind::SETTINGS | kind::GOAWAY) && head.length > CONTROL_BYTES_MAX {
            return error(Reason::ENHANCE_YOUR_CALM, "a control frame is larger than anyone needs");
        }
        Ok(Next::Payload(head))
    }

    fn begin_data<'b>(&mut self, head: Head, sink: &mut impl Sink<'b>) -> Result<Next, ConnectionError> {
        if head.stream == 0 {
            return protocol("data without a stream");
        }
        if head.length > self.receive_window {
            return error(
                Reason::FLOW_CONTROL_ERROR,
                "more data than the window of the connection allows",
            );
        }
        let padded = head.has(flag::PADDED);
        if padded && head.length == 0 {
            return error(
                Reason::FRAME_SIZE_ERROR,
                "a padded frame without the length of its padding",
            );
        }
        if head.length == u32::from(padded) && !head.has(flag::END_STREAM) {
            self.flood.count(Kind::IdleFrame, &self.settings.flood)?;
        }
        let mut data = Data {
            stream: None,
            left: head.length - u32::from(padded),
            padding: 0,
            padded,
            end: head.has(flag::END_STREAM),
        };
        let Some(id) = self.streams.find(head.stream) else {
            if self.is_unused(head.stream) {
                return protocol("data on a stream that was not opened");
            }
            if matches!(self.recent.find(head.stream), Some(How::PeerReset | How::Ended)) {
                self.refuse(head.stream, Reason::STREAM_CLOSED, Kind::Error)?;
            }
            return Ok(Next::Data(data));
        };
        let answered_first = self.role == Role::Server;
        let Some(stream) = self.streams.get(id) else {
            return Ok(Next::Data(data));
        };
        let broken = if stream.has(is::RECEIVED_END) {
            Some(Reason::STREAM_CLOSED)
        } else if !answered_first && !stream.has(is::ANSWERED) {
            Some(Reason::PROTOCOL_ERROR)
        } else if head.length > stream.receive_window {
            Some(Reason::FLOW_CONTROL_ERROR)
        } else {
            None
        };
        match broken {
            Some(reason) => self.break_stream(id, reason, sink)?,
            None => data.stream = Some(id),
        }
        Ok(Next::Data(data))
    }

    /// Passes on what there is of a DATA frame; returns what is still to come of it.
    fn data<'b>(
        &mut self,
        mut data: Data,
        bytes: &mut &'b [u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<Option<Data>, ConnectionError> {
        if data.padded {
            let Some((padding, rest)) = bytes.split_first() else {
                return Ok(Some(data));
            };
            *bytes = rest;
            self.charge(data.stream, 1);
            data.padded = false;
            data.padding = u32::from(*padding);
            data.left = match data.left.checked_sub(data.padding) {
                Some(left) => left,
                None => return protocol("padding longer than its frame"),
            };
        }
        if data.left > 0 {
            let (part, rest) = bytes.split_at(bytes.len().min(data.left as usize));
            if part.is_empty() {
                return Ok(Some(data));
            }
            *bytes = rest;
            let length = part.len() as u32;
            data.left -= length;
            self.charge(data.stream, length);
            if let Some(id) = data.stream
                && let Some(stream) = self.streams.get(id)
            {
                if stream.body.is_some_and(|body| body < u64::from(length)) {
                    self.break_stream(id, Reason::PROTOCOL_ERROR, sink)?;
                } else {
                    stream.body = stream.body.map(|body| body - u64::from(length));
                    stream.held += length;
                    self.held += u64::from(length);
                    self.pace.data(id, length);
                    sink.data(id, part);
                }
            }
        }
        let skipped = bytes.len().min(data.padding as usize);
        *bytes = &bytes[skipped..];
        data.padding -= skipped as u32;
        self.charge(data.stream, skipped as u32);
        if data.left > 0 || data.padding > 0 {
            return Ok(Some(data));
        }
        if let Some(id) = data.stream {
            self.credit_stream(id);
            if data.end {
                self.received_end(id, sink)?;
            }
        }
        self.credit_connection();
        Ok(None)
    }

    /// Counts bytes of a DATA frame against the windows. That they fit was seen from the head, but they count as they
    /// come: what is still under way must not be taken for credit that was not given back.
    fn charge(&mut self, stream: Option<StreamId>, bytes: u32) {
        self.receive_window -= bytes;
        if let Some(stream) = stream.and_then(|id| self.streams.get(id)) {
            stream.receive_window -= bytes;
        }
    }

    fn frame<'b>(&mut self, head: Head, payload: &[u8], sink: &mut impl Sink<'b>) -> Result<(), ConnectionError> {
        match head.kind {
            kind::HEADERS => self.headers(head, payload, sink),
            kind::CONTINUATION => self.continuation(head, payload, sink),
            kind::PRIORITY => {
                self.flood.count(Kind::IdleFrame, &self.settings.flood)?;
                if frame::be32(payload) & frame::STREAM_LIMIT == head.stream {
                    return self.break_wire(head.stream, Reason::PROTOCOL_ERROR, sink);
                }
                Ok(())
            }
            kind::RST_STREAM => self.received_reset(head.stream, Reason(frame::be32(payload)), sink),
            kind::SETTINGS => self.received_settings(head, payload),
            kind::PING => self.received_ping(head, payload, sink),
            kind::GOAWAY => {
                self.received_go_away(payload, sink);
                Ok(())
            }
            kind::WINDOW_UPDATE => self.received_window(head.stream, frame::be32(payload) & frame::WINDOW_LIMIT, sink),
            _ => Ok(()),
        }
    }

    fn headers<'b>(&mut self, head: Head, payload: &[u8], sink: &mut impl Sink<'b>) -> Result<(), ConnectionError> {
        let mut block = payload;
        let mut padding = 0;
        if head.has(flag::PADDED) {
            let Some((length, rest)) = block.split_first() else {
                return error(
                    Reason::FRAME_SIZE_ERROR,
                    "a padded frame without the length of its padding",
                );
            };
            (padding, block) = (usize::from(*length), rest);
        }
        let mut absurd = false;
        if head.has(flag::PRIORITY) {
            let Some((priority, rest)) = block.split_first_chunk::<5>() else {
                return error(Reason::FRAME_SIZE_ERROR, "headers too short for their priority");
            };
            absurd = frame::be32(priority) & frame::STREAM_LIMIT == head.stream;
            block = rest;
        }
        let Some(length) = block.len().checked_sub(padding) else {
            return protocol("padding longer than its frame");
        };
        let about = HeadersHead {
            wire: head.stream,
            end: head.has(flag::END_STREAM),
            absurd,
        };
        if head.has(flag::END_HEADERS) {
            return self.header_block(about, &block[..length], sink);
        }
        self.input.block = Some(Box::new(Block {
            bytes: block[..length].to_vec(),
            head: about,
            continuations: 0,
        }));
        Ok(())
    }

    fn continuation<'b>(
        &mut self,
        head: Head,
        payload: &[u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ConnectionError> {
        let Some(mut block) = self.input.block.take() else {
            return protocol("a continuation of nothing");
        };
        block.continuations += 1;
        block.bytes.extend_from_slice(payload);
        if block.continuations > self.settings.flood.continuations {
            return error(Reason::ENHANCE_YOUR_CALM, "a header block in too many pieces");
        }
        if block.bytes.len() > self.settings.header_list_size_max as usize + BLOCK_SLACK {
            return error(Reason::ENHANCE_YOUR_CALM, "a header block is larger than allowed");
        }
        if head.has(flag::END_HEADERS) {
            return self.header_block(block.head, &block.bytes, sink);
        }
        self.input.block = Some(block);
        Ok(())
    }

    /// A whole header block. It is decoded in any case, as the tables of both sides must stay the same.
    fn header_block<'b>(
        &mut self,
        about: HeadersHead,
        block: &[u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ConnectionError> {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        let decoded = self
            .decoder
            .decode(block, self.settings.header_list_size_max as usize, &mut fields);
        let result = match decoded {
            Err(_) => error(Reason::COMPRESSION_ERROR, "a header block cannot be decoded"),
            Ok(()) => self.message(about, &fields, sink),
        };
        self.fields = fields;
        result
    }

    fn message<'b>(
        &mut self,
        about: HeadersHead,
        fields: &FieldList,
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ConnectionError> {
        let wire = about.wire;
        if wire.is_multiple_of(2) {
            return protocol("headers on a stream of the server's numbers");
        }
        match self.streams.find(wire) {
            Some(id) => self.more_headers(id, about, fields, sink),
            None if self.role == Role::Server => self.new_request(about, fields, sink),
            None if self.is_unused(wire) => protocol("headers on a stream that was not opened"),
            // The answer to a request that we have given up.
            None => Ok(()),
        }
    }

    fn new_request<'b>(
        &mut self,
        about: HeadersHead,
        fields: &FieldList,
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ConnectionError> {
        let wire = about.wire;
        if wire <= self.last_wire {
            return match self.recent.find(wire) {
                Some(How::WeReset) => Ok(()),
                Some(How::PeerReset | How::Ended) => error(Reason::STREAM_CLOSED, "headers on a stream that has ended"),
                None => protocol("a stream with a number lower than one before"),
            };
        }
        self.last_wire = wire;
        if matches!(self.leaving, Leaving::After(last) if wire > last) {
            return self.refuse(wire, Reason::REFUSED_STREAM, Kind::IdleFrame);
        }
        if self.streams.open() >= self.settings.streams_max as usize {
            return self.refuse(wire, Reason::REFUSED_STREAM, Kind::Error);
        }
        if fields.is_over() {
            return self.refuse(wire, Reason::ENHANCE_YOUR_CALM, Kind::Error);
        }
        let (request, body) = match message::request(fields) {
            Ok(good) if !about.absurd && (!about.end || good.1.unwrap_or(0) == 0) => good,
            _ => return self.refuse(wire, Reason::PROTOCOL_ERROR, Kind::Error),
        };
        let id = self.insert(wire, 0, body);
        sink.request(id, request);
        if about.end {
            self.received_end(id, sink)?;
        }
        Ok(())
    }

    /// Headers on a stream that is open: the answer to a request, or trailers.
    fn more_headers<'b>(
        &mut self,
        id: StreamId,
        about: HeadersHead,
        fields: &FieldList,
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ConnectionError> {
        let client = self.role == Role::Client;
        let Some(stream) = self.streams.get(id) else {
            return Ok(());
        };
        if stream.has(is::RECEIVED_END) {
            return self.break_stream(id, Reason::STREAM_CLOSED, sink);
        }
        if fields.is_over() {
            return self.break_stream(id, Reason::ENHANCE_YOUR_CALM, sink);
        }
        if client && !stream.has(is::ANSWERED) {
            let (response, body) = match message::response(fields) {
                Ok((response, _)) if response.status < 200 && !about.end && response.status != 101 => {
                    return self.flood.count(Kind::IdleFrame, &self.settings.flood);
                }
                Ok(good) if good.0.status >= 200 => good,
                _ => return self.break_stream(id, Reason::PROTOCOL_ERROR, sink),
            };
            stream.set(is::ANSWERED);
            let bodiless = stream.has(is::NO_LENGTH) || matches!(response.status, 204 | 304);
            stream.body = body.filter(|_| !bodiless);
            sink.response(id, response);
        } else {
            match message::trailers(fields) {
                Ok(headers) if about.end && !about.absurd => sink.trailers(id, headers),
                _ => return self.break_stream(id, Reason::PROTOCOL_ERROR, sink),
            }
        }
        if about.end {
            self.received_end(id, sink)?;
        }
        Ok(())
    }

    fn received_end<'b>(&mut self, id: StreamId, sink: &mut impl Sink<'b>) -> Result<(), ConnectionError> {
        let Some(stream) = self.streams.get(id) else {
            return Ok(());
        };
        if stream.body.is_some_and(|missing| missing > 0) {
            return self.break_stream(id, Reason::PROTOCOL_ERROR, sink);
        }
        stream.set(is::RECEIVED_END);
        sink.end(id);
        self.close_if_ended(id);
        Ok(())
    }

    fn received_reset<'b>(
        &mut self,
        wire: u32,
        reason: Reason,
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ConnectionError> {
        let Some(id) = self.streams.find(wire) else {
            if self.is_unused(wire) {
                return protocol("a reset of a stream that was not opened");
            }
            return self.flood.count(Kind::IdleFrame, &self.settings.flood);
        };
        let role = self.role;
        let Some(stream) = self.streams.get(id).filter(|stream| !stream.has(is::CLOSED)) else {
            return Ok(());
        };
        if role == Role::Server && !stream.has(is::ANSWERED) {
            self.flood.count(Kind::Reset, &self.settings.flood)?;
        }
        self.recent.add(wire, How::PeerReset);
        self.forget(id);
        sink.reset(id, reason);
        Ok(())
    }

    fn received_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), ConnectionError> {
        self.flood.count(Kind::Settings, &self.settings.flood)?;
        if head.has(flag::ACK) {
            return Ok(());
        }
        self.peer.known = true;
        for entry in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([entry[0], entry[1]]);
            self.apply(name, frame::be32(&entry[2..]))?;
        }
        self.answer(kind::SETTINGS, flag::ACK, &[])
    }

    fn apply(&mut self, name: u16, value: u32) -> Result<(), ConnectionError> {
        match name {
            setting::HEADER_TABLE_SIZE => self.peer.table_update |= value < 4096,
            setting::ENABLE_PUSH if value > 1 || (value == 1 && self.role == Role::Client) => {
                return protocol("a value that the setting for pushes cannot have");
            }
            setting::MAX_CONCURRENT_STREAMS if self.role == Role::Client => self.peer.streams_max = value,
            setting::INITIAL_WINDOW_SIZE => {
                if value > frame::WINDOW_LIMIT {
                    return error(Reason::FLOW_CONTROL_ERROR, "a window larger than there can be");
                }
                let change = i64::from(value) - i64::from(self.peer.stream_window);
                self.peer.stream_window = value;
                let mut opened = Vec::new();
                for (id, stream) in self.streams.iter_mut() {
                    stream.send_window += change;
                    if stream.send_window > i64::from(frame::WINDOW_LIMIT) {
                        return error(Reason::FLOW_CONTROL_ERROR, "a window larger than there can be");
                    }
                    if stream.send_window > 0 && stream.has(is::WAITING) {
                        opened.push(id);
                    }
                }
                for id in opened {
                    self.enqueue(id);
                }
            }
            setting::MAX_FRAME_SIZE => {
                if !(frame::FRAME_SIZE_DEFAULT..=frame::FRAME_SIZE_LIMIT).contains(&value) {
                    return protocol("a frame size that cannot be");
                }
                self.peer.frame_size_max = value;
            }
            _ => {}
        }
        Ok(())
    }

    fn received_ping<'b>(
        &mut self,
        head: Head,
        payload: &[u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ConnectionError> {
        self.flood.count(Kind::Ping, &self.settings.flood)?;
        if !head.has(flag::ACK) {
            return self.answer(kind::PING, flag::ACK, payload);
        }
        if *payload != GO_AWAY_PING {
            if let Ok(payload) = payload.try_into() {
                sink.pong(payload);
            }
        } else if self.leaving == Leaving::Announced {
            // The peer has seen our goodbye: whatever it opens from now on it opened knowing.
            self.go_away(Reason::NO_ERROR);
        }
        Ok(())
    }

    fn received_go_away<'b>(&mut self, payload: &[u8], sink: &mut impl Sink<'b>) {
        self.peer.leaving = true;
        let last = frame::be32(payload) & frame::STREAM_LIMIT;
        let reason = Reason(frame::be32(&payload[4..]));
        sink.go_away(reason, &payload[8..]);
        if self.role == Role::Client {
            let unseen: Vec<StreamId> = self
                .streams
                .iter_mut()
                // Those that have ended already were seen, whatever the peer says now; only bytes of theirs are still held.
                .filter(|(id, stream)| id.wire > last && !stream.has(is::CLOSED))
                .map(|(id, _)| id)
                .collect();
            for id in unseen {
                self.recent.add(id.wire, How::WeReset);
                self.forget(id);
                sink.reset(id, Reason::REFUSED_STREAM);
            }
        }
    }

    fn received_window<'b>(&mut self, wire: u32, bytes: u32, sink: &mut impl Sink<'b>) -> Result<(), ConnectionError> {
        if bytes < 256 {
            self.flood.count(Kind::IdleFrame, &self.settings.flood)?;
        }
        if wire == 0 {
            if bytes == 0 {
                return protocol("a window update of nothing");
            }
            self.send_window += i64::from(bytes);
            if self.send_window > i64::from(frame::WINDOW_LIMIT) {
                return error(Reason::FLOW_CONTROL_ERROR, "a window larger than there can be");
            }
            return Ok(());
        }
        let Some(id) = self.streams.find(wire) else {
            if self.is_unused(wire) {
                return protocol("a window update for a stream that was not opened");
            }
            return Ok(());
        };
        let Some(stream) = self.streams.get(id) else {
            return Ok(());
        };
        if bytes == 0 {
            return self.break_stream(id, Reason::PROTOCOL_ERROR, sink);
        }
        stream.send_window += i64::from(bytes);
        if stream.send_window > i64::from(frame::WINDOW_LIMIT) {
            return self.break_stream(id, Reason::FLOW_CONTROL_ERROR, sink);
        }
        if stream.send_window > 0 {
            self.enqueue(id);
        }
        Ok(())
    }

    /// Whether a stream of this number has not been opened yet.
    fn is_unused(&self, wire: u32) -> bool {
        match self.role {
            Role::Client => wire.is_multiple_of(2) || wire >= self.next_wire,
            Role::Server => wire.is_multiple_of(2) || wire > self.last_wire,
        }
    }

    /// Answers the peer, unless it lets too many answers pile up.
    fn answer(&mut self, kind: u8, flags: u8, payload: &[u8]) -> Result<(), ConnectionError> {
        frame::put(&mut self.output.urgent, kind, flags, 0, payload);
        self.count_answer(HEAD_BYTES + payload.len())
    }

    fn count_answer(&mut self, bytes: usize) -> Result<(), ConnectionError> {
        self.output.answers += bytes;
        if self.output.answers > ANSWERS_MAX {
            return error(Reason::ENHANCE_YOUR_CALM, "answers pile up unread");
        }
        Ok(())
    }

    /// Resets a stream that the driver does not know, or no longer.
    fn refuse(&mut self, wire: u32, reason: Reason, kind: Kind) -> Result<(), ConnectionError> {
        frame::put_reset(&mut self.output.urgent, wire, reason);
        self.recent.add(wire, How::WeReset);
        self.flood.count(kind, &self.settings.flood)?;
        self.count_answer(HEAD_BYTES + 4)
    }

    /// A stream on which the peer broke a rule ends.
    fn break_stream<'b>(
        &mut self,
        id: StreamId,
        reason: Reason,
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ConnectionError> {
        let closed = self.streams.get(id).is_some_and(|stream| stream.has(is::CLOSED));
        if closed {
            // For the driver it has ended well, and there it stays so.
            return self.refuse(id.wire, reason, Kind::Error);
        }
        self.reset(id, reason);
        sink.reset(id, reason);
        self.flood.count(Kind::Error, &self.settings.flood)?;
        self.count_answer(HEAD_BYTES + 4)
    }

    fn break_wire<'b>(&mut self, wire: u32, reason: Reason, sink: &mut impl Sink<'b>) -> Result<(), ConnectionError> {
        match self.streams.find(wire) {
            Some(id) => self.break_stream(id, reason, sink),
            None if self.is_unused(wire) => error(reason, "a frame for a stream that was not opened breaks its rules"),
            None => self.refuse(wire, reason, Kind::Error),
        }
    }
}

/// Moves bytes until there are `needed`; whether there are.
fn gather(partial: &mut Vec<u8>, bytes: &mut &[u8], needed: usize) -> bool {
    let missing = needed.saturating_sub(partial.len());
    let (part, rest) = bytes.split_at(bytes.len().min(missing));
    partial.extend_from_slice(part);
    *bytes = rest;
    partial.len() >= needed
}
