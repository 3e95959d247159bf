//! Tests of connections: with themselves, and with frames made by hand.

use super::*;

mod frames;
mod pair;

/// What a sink was told, with data of one stream in a row joined.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Request(StreamId, String),
    Response(StreamId, u16),
    Data(StreamId, Vec<u8>),
    Trailers(StreamId),
    End(StreamId),
    Reset(StreamId, Reason),
    GoAway(Reason),
    Pong([u8; 8]),
}

#[derive(Default)]
struct Record(Vec<Event>);

impl<'b> Sink<'b> for Record {
    fn request(&mut self, stream: StreamId, request: Request<'_>) {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let mut line = format!("{} {}", text(request.method), text(request.authority));
        if let Some(path) = request.path {
            line = format!("{line} {}", text(path));
        }
        for (name, value) in request.headers.iter() {
            line = format!("{line} {}={}", text(name), text(value));
        }
        self.0.push(Event::Request(stream, line));
    }

    fn response(&mut self, stream: StreamId, response: Response<'_>) {
        self.0.push(Event::Response(stream, response.status));
    }

    fn data(&mut self, stream: StreamId, bytes: &'b [u8]) {
        match self.0.last_mut() {
            Some(Event::Data(last, data)) if *last == stream => data.extend_from_slice(bytes),
            _ => self.0.push(Event::Data(stream, bytes.to_vec())),
        }
    }

    fn trailers(&mut self, stream: StreamId, _headers: Headers<'_>) {
        self.0.push(Event::Trailers(stream));
    }

    fn end(&mut self, stream: StreamId) {
        self.0.push(Event::End(stream));
    }

    fn reset(&mut self, stream: StreamId, reason: Reason) {
        self.0.push(Event::Reset(stream, reason));
    }

    fn go_away(&mut self, reason: Reason, _debug: &[u8]) {
        self.0.push(Event::GoAway(reason));
    }

    fn pong(&mut self, payload: [u8; 8]) {
        self.0.push(Event::Pong(payload));
    }
}

/// Takes what a connection has to send.
fn output(connection: &mut Connection) -> Vec<u8> {
    let mut out = Vec::new();
    connection.take_output(|bytes| out.extend_from_slice(bytes));
    out
}

/// Gives bytes to a connection and returns what it was told.
fn receive(connection: &mut Connection, bytes: &[u8]) -> (Vec<Event>, Result<(), ConnectionError>) {
    let mut record = Record::default();
    let result = connection.receive(bytes, &mut record);
    (record.0, result)
}
