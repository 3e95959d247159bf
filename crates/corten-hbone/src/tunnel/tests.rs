//! Two tunnels on a wire of bounded length, in memory.

use super::*;
use std::collections::VecDeque;

use crate::h2::{Headers, Reason, Request, Response, Settings, StreamId};

#[path = "../../tests/certificates/mod.rs"]
mod certificates;

/// One direction of a wire, which takes a few bytes at a time and blocks when it is full.
#[derive(Default)]
struct Wire {
    bytes: VecDeque<u8>,
    length: usize,
    at_a_time: usize,
    hung_up: bool,
}

impl Wire {
    fn new(length: usize, at_a_time: usize) -> Wire {
        Wire {
            length,
            at_a_time,
            ..Wire::default()
        }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && !self.hung_up {
            return Err(ErrorKind::WouldBlock.into());
        }
        let into_length = into.len().min(self.at_a_time);
        self.bytes.read(&mut into[..into_length])
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (self.length - self.bytes.len()).min(self.at_a_time).min(bytes.len());
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.bytes.extend(&bytes[..room]);
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a side was told.
#[derive(Default)]
struct Log {
    certificates: usize,
    requests: Vec<StreamId>,
    answered: usize,
    data: Vec<(StreamId, usize)>,
    bytes: Vec<u8>,
    ended: usize,
    resets: Vec<Reason>,
}

impl<'b> Sink<'b> for Log {
    fn secured(&mut self, certificates: &[CertificateDer<'static>]) {
        assert!(self.requests.is_empty());
        self.certificates = certificates.len();
    }

    fn request(&mut self, stream: StreamId, request: Request<'_>) {
        assert!(request.is_connect());
        self.requests.push(stream);
    }

    fn response(&mut self, _stream: StreamId, response: Response<'_>) {
        assert_eq!(response.status, 200);
        self.answered += 1;
    }

    fn data(&mut self, stream: StreamId, bytes: &'b [u8]) {
        self.bytes.extend_from_slice(bytes);
        self.data.push((stream, bytes.len()));
    }

    fn trailers(&mut self, _stream: StreamId, _headers: Headers<'_>) {}

    fn end(&mut self, _stream: StreamId) {
        self.ended += 1;
    }

    fn reset(&mut self, _stream: StreamId, reason: Reason) {
        self.resets.push(reason);
    }
}

struct Ends {
    client: Tunnel,
    server: Tunnel,
    client_log: Log,
    server_log: Log,
    up: Wire,
    down: Wire,
    scratch: Vec<u8>,
}

impl Ends {
    fn new(versions: &[&'static rustls::SupportedProtocolVersion], length: usize, at_a_time: usize) -> Ends {
        let pair = certificates::pair(versions);
        Ends {
            client: Tunnel::client(&pair.client, certificates::name(), Settings::client()).expect("a client"),
            server: Tunnel::server(&pair.server, Settings::server()).expect("a server"),
            client_log: Log::default(),
            server_log: Log::default(),
            up: Wire::new(length, at_a_time),
            down: Wire::new(length, at_a_time),
            scratch: vec![0; 256 << 10],
        }
    }

    /// One turn of both loops; whether anything moved.
    fn turn(&mut self) -> Result<bool, TunnelError> {
        self.client.flush(&mut self.up)?;
        let moved = self.up.bytes.len() + self.down.bytes.len();
        self.server
            .read(&mut self.up, &mut self.scratch, &mut self.server_log)?;
        for (stream, bytes) in self.server_log.data.drain(..) {
            self.server.h2().release(stream, bytes);
        }
        self.server.flush(&mut self.down)?;
        self.client
            .read(&mut self.down, &mut self.scratch, &mut self.client_log)?;
        for (stream, bytes) in self.client_log.data.drain(..) {
            self.client.h2().release(stream, bytes);
        }
        Ok(moved > 0 || self.client.wants_write() || self.server.wants_write())
    }

    fn settle(&mut self) {
        while self.turn().expect("no error") {}
    }

    /// Opens a stream and has it accepted.
    fn connected(&mut self) -> StreamId {
        let stream = self.client.h2().connect("10.0.0.1:80", &[]).expect("a stream");
        self.settle();
        assert_eq!(self.server_log.requests.pop(), Some(stream));
        self.server.h2().respond(stream, 200, &[], false);
        self.settle();
        assert_eq!(std::mem::take(&mut self.client_log.answered), 1);
        stream
    }

    /// Sends megabytes up and checks that they arrive.
    fn bulk(&mut self, stream: StreamId, bytes: usize) {
        let content: Vec<u8> = (0..bytes).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut sent = 0;
        self.server_log.bytes.clear();
        while self.server_log.bytes.len() < content.len() {
            if self.client.h2().capacity(stream) > 0 {
                sent += self.client.h2().send(stream, &content[sent..], false);
            }
            let moved = self.turn().expect("no error");
            assert!(moved || sent < content.len(), "stuck");
            while self.client.h2().next_writable().is_some() {}
        }
        assert!(self.server_log.bytes == content);
    }
}

#[test]
fn bytes_pass_whatever_the_wire_takes() {
    for (length, at_a_time) in [(1 << 20, usize::MAX), (5000, 1400), (40_000, 16_000), (7, 3)] {
        let ends = &mut Ends::new(&[&rustls::version::TLS13], length, at_a_time);
        let stream = ends.connected();
        assert_eq!(ends.server.peer_certificates().len(), 1);
        assert_eq!((ends.server_log.certificates, ends.client_log.certificates), (1, 1));
        assert!(!ends.client.is_handshaking());
        ends.bulk(stream, if length < 100 { 20_000 } else { 3_000_000 });
        assert_eq!(ends.client.h2().send(stream, b"", true), 0);
        ends.settle();
        assert_eq!(ends.server_log.ended, 1);
    }
}

#[test]
fn tls_1_2_works_as_well() {
    let ends = &mut Ends::new(&[&rustls::version::TLS12], 1 << 20, usize::MAX);
    let stream = ends.connected();
    ends.bulk(stream, 1_000_000);
}

#[test]
fn keys_are_renewed_before_they_are_worn_out_and_when_asked() {
    let ends = &mut Ends::new(&[&rustls::version::TLS13], 1 << 20, usize::MAX);
    let stream = ends.connected();
    let State::Open(records) = &mut ends.client.state else {
        panic!("not open")
    };
    records.wear_out_after(10);
    ends.bulk(stream, 1_000_000);
    // The client asks the server for a new key; what the server then sends has one, and the client can read it.
    let State::Open(records) = &mut ends.client.state else {
        panic!("not open")
    };
    records.ask_for_renewal(ends.client.sealed.room()).expect("sealed");
    ends.settle();
    assert_eq!(ends.server.h2().send(stream, b"new key", false), 7);
    ends.settle();
    assert_eq!(ends.client_log.bytes, b"new key");
    ends.bulk(stream, 100_000);
}

#[test]
fn requests_before_the_end_of_the_handshake_leave_with_it() {
    let ends = &mut Ends::new(&[&rustls::version::TLS13], 1 << 20, usize::MAX);
    ends.client.h2().connect("10.0.0.1:80", &[]).expect("a stream");
    assert!(ends.client.is_handshaking());
    ends.turn().expect("hello");
    assert!(!ends.client.is_handshaking());
    ends.turn().expect("finished, preface and request together");
    assert_eq!(ends.server_log.requests.len(), 1);
}

#[test]
fn a_goodbye_and_a_cut() {
    let ends = &mut Ends::new(&[&rustls::version::TLS13], 1 << 20, usize::MAX);
    let stream = ends.connected();
    // With a stream open, hanging up is an error.
    ends.up.hung_up = true;
    let mut log = Log::default();
    let cut = ends.server.read(&mut ends.up, &mut ends.scratch, &mut log);
    assert!(matches!(cut, Err(TunnelError::Truncated)), "{cut:?}");

    let ends = &mut Ends::new(&[&rustls::version::TLS13], 1 << 20, usize::MAX);
    ends.connected();
    ends.client.h2().reset(stream, Reason::CANCEL);
    ends.client.close(Reason::NO_ERROR);
    assert!(ends.client.flush(&mut ends.up).expect("a wire"));
    let read = ends.server.read(&mut ends.up, &mut ends.scratch, &mut ends.server_log);
    assert!(matches!(read, Ok(Progress::Closed)), "{read:?}");
    assert_eq!(ends.server_log.resets, [Reason::CANCEL]);
}

#[test]
fn the_peer_learns_what_was_wrong() {
    // Garbage instead of a handshake.
    let ends = &mut Ends::new(&[&rustls::version::TLS13], 1 << 20, usize::MAX);
    ends.up.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a wire");
    let read = ends.server.read(&mut ends.up, &mut ends.scratch, &mut ends.server_log);
    assert!(matches!(read, Err(TunnelError::Tls(_))), "{read:?}");

    // A record that was changed on the way.
    let ends = &mut Ends::new(&[&rustls::version::TLS13], 1 << 20, usize::MAX);
    let stream = ends.connected();
    assert_eq!(ends.client.h2().send(stream, b"hello", false), 5);
    ends.client.flush(&mut ends.up).expect("a wire");
    ends.up.bytes[10] ^= 1;
    let read = ends.server.read(&mut ends.up, &mut ends.scratch, &mut ends.server_log);
    assert!(
        matches!(read, Err(TunnelError::Tls(rustls::Error::DecryptError))),
        "{read:?}"
    );
    ends.server.flush(&mut ends.down).expect("a wire");
    let told = ends
        .client
        .read(&mut ends.down, &mut ends.scratch, &mut ends.client_log);
    assert!(
        matches!(
            told,
            Err(TunnelError::Tls(rustls::Error::AlertReceived(
                AlertDescription::BadRecordMac
            )))
        ),
        "{told:?}"
    );

    // A peer that breaks the rules of HTTP/2 is told so by a GOAWAY.
    let ends = &mut Ends::new(&[&rustls::version::TLS13], 1 << 20, usize::MAX);
    ends.connected();
    ends.client
        .h2
        .output
        .urgent
        .extend_from_slice(&[0, 0, 1, 6, 0, 0, 0, 0, 0, 0]);
    ends.client.flush(&mut ends.up).expect("a wire");
    let read = ends.server.read(&mut ends.up, &mut ends.scratch, &mut ends.server_log);
    assert!(
        matches!(&read, Err(TunnelError::Http(error)) if error.reason == Reason::FRAME_SIZE_ERROR),
        "{read:?}"
    );
    assert!(ends.server.flush(&mut ends.down).expect("a wire"));
    let told = ends
        .client
        .read(&mut ends.down, &mut ends.scratch, &mut ends.client_log);
    assert!(matches!(told, Err(TunnelError::Truncated)), "{told:?}");
    assert!(!ends.client.h2().is_open());
}
