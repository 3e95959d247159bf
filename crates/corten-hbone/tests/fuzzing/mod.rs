//! What the fuzz targets of this crate do with their input; `cargo test` replays the corpus through it.

use std::collections::HashMap;

use corten_hbone::h2::hpack::{Decoder, FieldList, field};
use corten_hbone::h2::{Connection, FloodLimits, Headers, Reason, Request, Response, Settings, Sink, StreamId};

/// A server that is fed anything.
pub(crate) fn server(data: &[u8]) {
    let Some((&how, input)) = data.split_first() else {
        return;
    };
    let mut driver = Driver::new(Connection::server(settings(Settings::server())), how);
    if how & 1 != 0 {
        driver.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    }
    driver.run(input);
}

/// A client with some streams open that is fed anything.
pub(crate) fn client(data: &[u8]) {
    let Some((&how, input)) = data.split_first() else {
        return;
    };
    let mut driver = Driver::new(Connection::client(settings(Settings::client())), how);
    for number in 0..3_u8 {
        let headers: &[(&str, &[u8])] = &[("baggage", b"k8s.namespace.name=orders")];
        let id = match number {
            0 => driver.connection.connect("10.0.0.1:80", headers),
            _ => driver.connection.request("GET", "http", "a", "/", headers, number == 1),
        };
        let id = id.expect("few streams");
        let stream = Stream {
            sent_end: number == 1,
            ..Stream::default()
        };
        driver.streams.insert(id, stream);
        driver.send(id);
    }
    if how & 1 != 0 {
        driver.feed(b"\0\0\0\x04\0\0\0\0\0");
    }
    driver.run(input);
}

/// Header blocks of anything, one after the other through one table.
pub(crate) fn hpack(data: &[u8]) {
    let Some((&how, input)) = data.split_first() else {
        return;
    };
    let size_max = 100 + 40 * usize::from(how);
    let mut decoder = Decoder::new(usize::from(how) * 20);
    let mut list = FieldList::default();
    for block in input.split(|byte| *byte == 0xff) {
        list.clear();
        if decoder.decode(block, size_max, &mut list).is_err() {
            return;
        }
        let size: usize = list.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        assert!(size <= size_max);
        // What was decoded is the same after one more trip.
        let mut again = Vec::new();
        for (name, value) in list.iter() {
            let Ok(name) = std::str::from_utf8(name) else { return };
            field(&mut again, name, value);
        }
        let mut second = FieldList::default();
        Decoder::new(0)
            .decode(&again, size_max, &mut second)
            .expect("our own block");
        assert!(list.iter().eq(second.iter()));
    }
}

/// Small limits, so that the fuzzer reaches them.
fn settings(settings: Settings) -> Settings {
    Settings {
        streams_max: settings.streams_max.min(5),
        stream_window_max: 1 << 18,
        stream_window: 1 << 16,
        connection_window: 1 << 17,
        frame_size_max: 1 << 15,
        header_list_size_max: 600,
        header_table_size: 200,
        output_bytes: 30_000,
        flood: FloodLimits {
            resets: 10,
            pings: 10,
            settings: 5,
            idle_frames: 20,
            errors: 10,
            continuations: 4,
        },
        ..settings
    }
}

/// What a driver knows of a stream.
#[derive(Default)]
struct Stream {
    sent_end: bool,
    received_end: bool,
    held: usize,
}

impl Stream {
    fn is_over(&self) -> bool {
        self.sent_end && self.received_end
    }
}

type Streams = HashMap<StreamId, Stream>;

enum Event {
    Request,
    Data(usize),
    End,
}

/// Events in order, with what must hold of them checked at once.
struct Events<'a> {
    streams: &'a mut Streams,
    log: Vec<(StreamId, Event)>,
}

impl Events<'_> {
    /// A stream on which something may still come.
    fn stream(&mut self, id: StreamId) -> &mut Stream {
        let stream = self.streams.get_mut(&id).expect("an open stream");
        assert!(!stream.received_end);
        stream
    }
}

impl<'b> Sink<'b> for Events<'_> {
    fn request(&mut self, id: StreamId, request: Request<'_>) {
        assert!(!request.method.is_empty());
        assert_eq!(request.is_connect(), request.path.is_none());
        assert!(request.headers.iter().all(|(name, _)| !name.starts_with(b":")));
        assert!(self.streams.keys().all(|known| known.slot() != id.slot()));
        self.streams.insert(id, Stream::default());
        self.log.push((id, Event::Request));
    }

    fn response(&mut self, id: StreamId, response: Response<'_>) {
        assert!((200..1000).contains(&response.status));
        self.stream(id);
    }

    fn data(&mut self, id: StreamId, bytes: &'b [u8]) {
        assert!(!bytes.is_empty());
        self.stream(id).held += bytes.len();
        self.log.push((id, Event::Data(bytes.len())));
    }

    fn trailers(&mut self, id: StreamId, headers: Headers<'_>) {
        assert!(headers.iter().all(|(name, _)| !name.starts_with(b":")));
        self.stream(id);
    }

    fn end(&mut self, id: StreamId) {
        let stream = self.stream(id);
        stream.received_end = true;
        if stream.is_over() && stream.held == 0 {
            self.streams.remove(&id);
        }
        self.log.push((id, Event::End));
    }

    fn reset(&mut self, id: StreamId, _reason: Reason) {
        let stream = self.streams.remove(&id).expect("an open stream");
        assert!(!stream.is_over());
    }
}

/// A driver that answers and sends, as its first byte of input says.
struct Driver {
    connection: Connection,
    how: u8,
    streams: Streams,
    unreleased: Vec<(StreamId, usize)>,
    failed: bool,
}

impl Driver {
    fn new(connection: Connection, how: u8) -> Driver {
        Driver {
            connection,
            how,
            streams: HashMap::new(),
            unreleased: Vec::new(),
            failed: false,
        }
    }

    fn run(&mut self, input: &[u8]) {
        let size = match self.how >> 1 & 3 {
            0 => 1,
            1 => 10,
            2 => 100,
            _ => input.len().max(1),
        };
        for part in input.chunks(size) {
            self.feed(part);
            if self.failed {
                assert!(self.connection.wants_output());
                return;
            }
        }
        for (id, bytes) in std::mem::take(&mut self.unreleased) {
            self.release(id, bytes);
        }
        self.connection.tick();
        self.check();
    }

    fn feed(&mut self, part: &[u8]) {
        let mut events = Events {
            streams: &mut self.streams,
            log: Vec::new(),
        };
        self.failed = self.connection.receive(part, &mut events).is_err();
        for (id, event) in events.log {
            match event {
                Event::Request => {
                    let end = id.wire() % 7 == 3;
                    self.connection.respond(id, 200, &[("x", b"y")], end);
                    if end {
                        self.ended(id);
                    } else {
                        self.send(id);
                    }
                }
                Event::Data(bytes) if self.how & 8 != 0 => self.unreleased.push((id, bytes)),
                Event::Data(bytes) => self.release(id, bytes),
                Event::End => {
                    let open = self.streams.get(&id).is_some_and(|stream| !stream.sent_end);
                    assert_eq!(self.connection.send(id, b"", true), 0);
                    if open {
                        self.ended(id);
                    }
                }
            }
        }
        while let Some(id) = self.connection.next_writable() {
            self.send(id);
        }
        if self.how & 16 == 0 && !self.failed {
            let mut bytes = 0;
            self.connection.take_output(|part| bytes += part.len());
            assert!(bytes < 1 << 20);
        }
        self.check();
    }

    /// The connection knows the same streams as we do.
    fn check(&self) {
        assert_eq!(self.connection.is_idle(), self.streams.is_empty());
        let open = self.streams.values().filter(|stream| !stream.is_over()).count();
        assert_eq!(self.connection.streams(), open);
    }

    fn ended(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.sent_end = true;
            if stream.is_over() && stream.held == 0 {
                self.streams.remove(&id);
            }
        }
    }

    fn release(&mut self, id: StreamId, bytes: usize) {
        self.connection.release(id, bytes);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.held -= bytes;
            if stream.is_over() && stream.held == 0 {
                self.streams.remove(&id);
            }
        }
    }

    fn send(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(|stream| !stream.sent_end) {
            let block = [7; 9000];
            let taken = self.connection.send(id, &block, false);
            assert!(taken <= block.len());
        }
    }
}
