//! Frames made by hand, and what a connection says to them.

use super::*;
use crate::h2::frame::{HEAD_BYTES, Head, PREFACE, flag, kind, put};

const END: u8 = flag::END_STREAM | flag::END_HEADERS;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, kind, flags, stream, payload);
    out
}

/// A header block of literal fields.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        hpack::field(&mut out, name, value.as_bytes());
    }
    out
}

fn connect(stream: u32) -> Vec<u8> {
    let block = block(&[(":method", "CONNECT"), (":authority", "a:1")]);
    frame(kind::HEADERS, flag::END_HEADERS, stream, &block)
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "a"),
];

/// An ordinary request with more fields.
fn get(stream: u32, flags: u8, more: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flags, stream, &block(&[&GET, more].concat()))
}

/// Frames in words.
fn describe(mut bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let head = Head::parse(head);
        let (payload, rest) = rest.split_at(head.length as usize);
        bytes = rest;
        let number = |at: usize| frame::be32(&payload[at..]);
        let ack = if head.has(flag::ACK) { " ack" } else { "" };
        lines.push(match head.kind {
            kind::RST_STREAM => format!("reset {} {}", head.stream, Reason(number(0))),
            kind::GOAWAY => {
                let detail = String::from_utf8_lossy(&payload[8..]);
                format!("goaway {} {}: {detail}", number(0), Reason(number(4)))
            }
            kind::SETTINGS => format!("settings{ack}"),
            kind::PING => format!("ping{ack}"),
            kind::WINDOW_UPDATE => format!("window {} {}", head.stream, number(0)),
            kind::HEADERS => format!("headers {} {:#x}", head.stream, head.flags),
            kind::CONTINUATION => format!("continuation {} {:#x}", head.stream, head.flags),
            kind::DATA => format!("data {} {} {:#x}", head.stream, head.length, head.flags),
            other => format!("frame {other}"),
        });
    }
    lines
}

/// Small limits, so that tests reach them.
fn settings(settings: Settings) -> Settings {
    Settings {
        streams_max: settings.streams_max.min(10),
        header_list_size_max: 1000,
        flood: FloodLimits {
            resets: 5,
            pings: 5,
            settings: 5,
            idle_frames: 5,
            errors: 5,
            continuations: 3,
        },
        ..settings
    }
}

fn introduced(role: &str) -> Connection {
    let mut connection = match role {
        "server" => Connection::server(settings(Settings::server())),
        _ => Connection::client(settings(Settings::client())),
    };
    let mut intro = frame(kind::SETTINGS, 0, 0, &[]);
    if role == "server" {
        intro = [PREFACE.to_vec(), intro].concat();
    }
    receive(&mut connection, &intro).1.expect("a good introduction");
    output(&mut connection);
    connection
}

/// Feeds frames in one piece and byte by byte; what was answered and told must be the same, and what is expected.
#[track_caller]
fn check(make: impl Fn() -> Connection, input: &[Vec<u8>], expected: &[&str]) {
    let input = input.concat();
    let mut whole = make();
    let (events, result) = receive(&mut whole, &input);
    let answer = output(&mut whole);
    let mut pieces = make();
    let mut told = Record::default();
    for byte in input.chunks(1) {
        if pieces.receive(byte, &mut told).is_err() {
            break;
        }
    }
    assert_eq!((&events, &answer), (&told.0, &output(&mut pieces)));
    let mut lines: Vec<String> = events
        .iter()
        .map(|event| match event {
            Event::Request(id, line) => format!("< request {id} {line}"),
            Event::Response(id, status) => format!("< response {id} {status}"),
            Event::Data(id, bytes) => format!("< data {id} {}", bytes.escape_ascii()),
            Event::Trailers(id) => format!("< trailers {id}"),
            Event::End(id) => format!("< end {id}"),
            Event::Reset(id, reason) => format!("< reset {id} {reason}"),
            Event::GoAway(reason) => format!("< goaway {reason}"),
            Event::Pong(payload) => format!("< pong {}", payload.escape_ascii()),
        })
        .collect();
    lines.extend(describe(&answer));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(lines, expected);
    assert_eq!(
        result.is_err(),
        expected.last().is_some_and(|line| line.starts_with("goaway"))
    );
    if let Err(error) = result {
        assert_eq!(receive(&mut whole, b"more"), (Vec::new(), Err(error)));
    }
}

#[track_caller]
fn server(input: &[Vec<u8>], expected: &[&str]) {
    check(|| introduced("server"), input, expected);
}

/// A client that has opened the tunnel 1 and the request 3.
#[track_caller]
fn client(input: &[Vec<u8>], expected: &[&str]) {
    let make = || {
        let mut client = introduced("client");
        client.connect("a:1", &[]).expect("a stream");
        client.request("GET", "http", "a", "/", &[], true).expect("a stream");
        output(&mut client);
        client
    };
    check(make, input, expected);
}

#[test]
fn requests() {
    let tunnel = "< request 1 CONNECT a:1";
    server(
        &[
            connect(1),
            frame(kind::DATA, 0, 1, b"one"),
            frame(kind::DATA, flag::PADDED | flag::END_STREAM, 1, b"\x02two\0\0"),
        ],
        &[tunnel, "< data 1 onetwo", "< end 1"],
    );
    server(
        &[
            get(1, flag::END_HEADERS, &[("content-length", "3"), ("x-a", "b")]),
            frame(kind::DATA, 0, 1, b"abc"),
            frame(kind::HEADERS, END, 1, &block(&[("x-checksum", "1")])),
        ],
        &[
            "< request 1 GET a / content-length=3 x-a=b",
            "< data 1 abc",
            "< trailers 1",
            "< end 1",
        ],
    );
    // Priority and padding around the block; frames of unknown kinds; a block in three pieces.
    let fields = block(&GET);
    let padded = [&[3, 0x80, 0, 0, 9, 7][..], &fields, &[0, 0, 0]].concat();
    server(
        &[
            frame(0x77, 0xff, 99, b"what"),
            frame(kind::HEADERS, END | flag::PADDED | flag::PRIORITY, 1, &padded),
            frame(kind::HEADERS, flag::END_STREAM, 3, &fields[..2]),
            frame(kind::CONTINUATION, 0, 3, &fields[2..4]),
            frame(kind::CONTINUATION, flag::END_HEADERS, 3, &fields[4..]),
        ],
        &["< request 1 GET a /", "< end 1", "< request 3 GET a /", "< end 3"],
    );
}

#[test]
fn malformed_requests_cost_only_their_stream() {
    let broken = ["reset 1 PROTOCOL_ERROR"];
    for fields in [
        &[(":method", "CONNECT")][..],
        &[(":method", "CONNECT"), (":authority", "")],
        &[(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")],
        &[
            (":method", "CONNECT"),
            (":authority", "a:1"),
            (":scheme", "http"),
            (":path", "/"),
        ],
        &[
            (":method", "CONNECT"),
            (":authority", "a:1"),
            (":protocol", "websocket"),
        ],
        &[(":method", "CONNECT"), (":authority", "a:1"), ("Forwarded", "for=x")],
        &[(":method", "CONNECT"), (":authority", "a:1"), ("x y", "z")],
        &[(":method", "CONNECT"), (":authority", "a:1"), ("x", " z")],
        &[(":method", "CONNECT"), (":authority", "a:1"), ("x", "a\nb")],
        &[(":method", "CONNECT"), (":authority", "a:1\0")],
        &[(":method", "CONNECT"), (":authority", "a:1"), ("connection", "close")],
        &[(":method", "CONNECT"), (":authority", "a:1"), (":authority", "b:1")],
        &[(":method", "CONNECT"), ("x", "y"), (":authority", "a:1")],
        &[(":method", "GET"), (":scheme", "http"), (":path", "")],
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":status", "200"),
        ],
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            ("content-length", "a"),
        ],
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            ("content-length", "1"),
            ("content-length", "2"),
        ],
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("te", "gzip")],
    ] {
        server(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &block(fields))], &broken);
    }
    server(&[get(1, END, &[("content-length", "1")])], &broken);
    // Too long for us, but the connection goes on and its header compression too.
    let long = "x".repeat(2000);
    server(
        &[get(1, END, &[("x-long", &long)]), connect(3)],
        &["< request 3 CONNECT a:1", "reset 1 ENHANCE_YOUR_CALM"],
    );
}

#[test]
fn bodies_are_as_long_as_announced() {
    let told = "< request 1 GET a / content-length=3";
    for (body, told_more) in [(&b"ab"[..], &["< data 1 ab"][..]), (b"abcd", &[])] {
        let request = get(1, flag::END_HEADERS, &[("content-length", "3")]);
        let expected = [
            &[told],
            told_more,
            &["< reset 1 PROTOCOL_ERROR", "reset 1 PROTOCOL_ERROR"],
        ]
        .concat();
        let mut server = introduced("server");
        let (events, _) = receive(
            &mut server,
            &[request, frame(kind::DATA, flag::END_STREAM, 1, body)].concat(),
        );
        assert_eq!(events.len(), expected.len() - 1, "{events:?}");
        assert_eq!(describe(&output(&mut server)), expected[expected.len() - 1..]);
    }
}

#[test]
fn streams_that_are_over() {
    let request = "< request 1 GET a /";
    // After its end, the peer may send nothing on a stream.
    server(
        &[get(1, END, &[]), frame(kind::DATA, 0, 1, b"x")],
        &[request, "< end 1", "< reset 1 STREAM_CLOSED", "reset 1 STREAM_CLOSED"],
    );
    server(
        &[get(1, END, &[]), get(1, END, &[])],
        &[request, "< end 1", "< reset 1 STREAM_CLOSED", "reset 1 STREAM_CLOSED"],
    );
    // After its reset neither; window updates and resets may still come.
    let reset = frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    server(
        &[
            connect(1),
            reset.clone(),
            reset.clone(),
            frame(kind::WINDOW_UPDATE, 0, 1, &1000_u32.to_be_bytes()),
            frame(kind::DATA, 0, 1, b"x"),
        ],
        &["< request 1 CONNECT a:1", "< reset 1 CANCEL", "reset 1 STREAM_CLOSED"],
    );
    server(
        &[connect(1), reset.clone(), connect(1)],
        &[
            "< request 1 CONNECT a:1",
            "< reset 1 CANCEL",
            "goaway 1 STREAM_CLOSED: headers on a stream that has ended",
        ],
    );
    // What we have reset ourselves may be late.
    server(
        &[
            frame(kind::HEADERS, END, 1, &block(&[(":method", "GET")])),
            frame(kind::DATA, 0, 1, b"late"),
            frame(kind::HEADERS, END, 1, &block(&[("x", "y")])),
            reset,
        ],
        &["reset 1 PROTOCOL_ERROR"],
    );
}

#[test]
fn connection_errors_of_a_server() {
    for (input, detail) in [
        (frame(kind::DATA, 0, 0, b"x"), "PROTOCOL_ERROR: data without a stream"),
        (
            frame(kind::DATA, 0, 1, b"x"),
            "PROTOCOL_ERROR: data on a stream that was not opened",
        ),
        (
            connect(2),
            "PROTOCOL_ERROR: headers on a stream of the server's numbers",
        ),
        (
            frame(kind::HEADERS, END, 1, &[0xbe]),
            "COMPRESSION_ERROR: a header block cannot be decoded",
        ),
        (
            frame(kind::HEADERS, END | flag::PADDED, 1, &[9, 0x82]),
            "PROTOCOL_ERROR: padding longer than its frame",
        ),
        (
            frame(kind::PUSH_PROMISE, 0, 1, &[0; 10]),
            "PROTOCOL_ERROR: a push, which we do not allow",
        ),
        (
            frame(kind::CONTINUATION, 0, 1, &[0; 10]),
            "PROTOCOL_ERROR: a continuation of nothing",
        ),
        (
            frame(kind::PING, 0, 0, &[0; 7]),
            "FRAME_SIZE_ERROR: a frame whose size does not fit its type",
        ),
        (
            frame(kind::SETTINGS, 0, 1, &[]),
            "PROTOCOL_ERROR: a frame that belongs to a stream came without one, or the opposite",
        ),
        (
            frame(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
            "PROTOCOL_ERROR: a frame size that cannot be",
        ),
        (
            frame(kind::SETTINGS, 0, 0, &[0, 4, 0xff, 0, 0, 0]),
            "FLOW_CONTROL_ERROR: a window larger than there can be",
        ),
        (
            frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            "FLOW_CONTROL_ERROR: a window larger than there can be",
        ),
        (
            frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
            "PROTOCOL_ERROR: a window update of nothing",
        ),
        (
            frame(kind::RST_STREAM, 0, 9, &[0; 4]),
            "PROTOCOL_ERROR: a reset of a stream that was not opened",
        ),
    ] {
        server(&[input], &[&format!("goaway 0 {detail}")]);
    }
    server(
        &[connect(5), connect(3)],
        &[
            "< request 5 CONNECT a:1",
            "goaway 5 PROTOCOL_ERROR: a stream with a number lower than one before",
        ],
    );
    server(
        &[frame(kind::HEADERS, 0, 1, &[]), frame(kind::PING, 0, 0, &[0; 8])],
        &["goaway 0 PROTOCOL_ERROR: a header block is interrupted by another frame"],
    );
    let new = || {
        let mut connection = Connection::server(Settings::server());
        output(&mut connection);
        connection
    };
    check(
        new,
        &[b"GET / HTTP/1.1\r\n".to_vec()],
        &["goaway 0 PROTOCOL_ERROR: the connection does not begin with the preface of http/2"],
    );
    check(
        new,
        &[PREFACE.to_vec(), frame(kind::PING, 0, 0, &[0; 8])],
        &["goaway 0 PROTOCOL_ERROR: the first frame is not settings"],
    );
}

#[test]
fn floods_are_stopped() {
    let calm = |last: u32, detail: &str| format!("goaway {last} ENHANCE_YOUR_CALM: {detail}");
    let flood = |input: Vec<Vec<u8>>| {
        let mut server = introduced("server");
        let (_, result) = receive(&mut server, &input.concat());
        assert!(result.is_err(), "not stopped");
        describe(&output(&mut server)).pop().expect("a goaway")
    };
    let many = |one: &dyn Fn(u32) -> Vec<u8>| (0..2000).map(|i| one(2 * i + 1)).collect::<Vec<_>>();

    let rapid = many(&|id| [connect(id), frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 8])].concat());
    assert_eq!(
        flood(rapid),
        calm(11, "too many streams reset before they were answered")
    );
    let pings = many(&|_| frame(kind::PING, 0, 0, &[0; 8]));
    assert_eq!(flood(pings), calm(0, "too many pings"));
    let settings = many(&|_| frame(kind::SETTINGS, 0, 0, &[]));
    assert_eq!(flood(settings), calm(0, "too many settings frames"));
    let mut empty = many(&|_| frame(kind::DATA, 0, 1, &[]));
    empty.insert(0, connect(1));
    assert_eq!(flood(empty), calm(1, "too many frames that carry nothing"));
    let padding = many(&|_| frame(kind::DATA, flag::PADDED, 1, &[0]));
    assert_eq!(
        flood([vec![connect(1)], padding].concat()),
        calm(1, "too many frames that carry nothing")
    );
    let priorities = many(&|id| frame(kind::PRIORITY, 0, id, &[0; 5]));
    assert_eq!(flood(priorities), calm(0, "too many frames that carry nothing"));
    let drops = many(&|_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
    assert_eq!(flood(drops), calm(0, "too many frames that carry nothing"));
    let over = many(&connect);
    assert_eq!(flood(over), calm(31, "too many streams with errors"));
    let malformed = many(&|id| frame(kind::HEADERS, END, id, &[]));
    assert_eq!(flood(malformed), calm(11, "too many streams with errors"));
    let mut pieces = many(&|_| frame(kind::CONTINUATION, 0, 1, &[]));
    pieces.insert(0, frame(kind::HEADERS, 0, 1, &[]));
    assert_eq!(flood(pieces), calm(0, "a header block in too many pieces"));
    let large = vec![frame(kind::HEADERS, 0, 1, &vec![0; 20_000])];
    assert_eq!(flood(large), calm(0, "a header block is larger than allowed"));
    let mut grown: Vec<_> = (0..3)
        .map(|_| frame(kind::CONTINUATION, 0, 1, &vec![0; 10_000]))
        .collect();
    grown.insert(0, frame(kind::HEADERS, 0, 1, &[]));
    assert_eq!(flood(grown), calm(0, "a header block is larger than allowed"));
    let settings = vec![frame(kind::SETTINGS, 0, 0, &vec![0; 18_000])];
    assert_eq!(flood(settings), calm(0, "a control frame is larger than anyone needs"));
}

#[test]
fn limits_count_anew_with_time() {
    let mut server = introduced("server");
    for _ in 0..20 {
        for _ in 0..4 {
            receive(&mut server, &frame(kind::PING, 0, 0, &[0; 8]))
                .1
                .expect("not too many");
        }
        output(&mut server);
        server.tick();
    }
    // Unless the peer does not read what we answer.
    let mut answered = 0;
    let error = loop {
        if let Err(error) = receive(&mut server, &frame(kind::PING, 0, 0, &[0; 8])).1 {
            break error;
        }
        answered += 1;
        server.tick();
    };
    assert_eq!(error.detail, "answers pile up unread");
    assert!((3000..5000).contains(&answered), "{answered}");
}

#[test]
fn windows_hold() {
    // A frame larger than the window of its stream ends the stream, and its bytes are forgotten.
    let mut server = introduced("server");
    receive(&mut server, &connect(1)).1.expect("a stream");
    let whole = vec![7; 256 << 10];
    receive(&mut server, &frame(kind::DATA, 0, 1, &whole))
        .1
        .expect("all the window");
    let (events, _) = receive(&mut server, &frame(kind::DATA, 0, 1, b"x"));
    assert_eq!(events.len(), 1);
    assert_eq!(describe(&output(&mut server)), ["reset 1 FLOW_CONTROL_ERROR"]);
    assert_eq!((server.held, server.is_idle()), (0, true));
    // Windows follow a change of settings, also below zero.
    let mut client = introduced("client");
    let id = client.connect("a:1", &[]).expect("a stream");
    assert_eq!(client.send(id, &[7; 70_000], false), 65_535);
    output(&mut client);
    let shrink = frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]);
    receive(&mut client, &shrink).1.expect("settings");
    let grow = [
        frame(kind::WINDOW_UPDATE, 0, 1, &65_525_u32.to_be_bytes()),
        frame(kind::WINDOW_UPDATE, 0, 0, &65_535_u32.to_be_bytes()),
    ];
    receive(&mut client, &grow.concat()).1.expect("updates");
    assert_eq!((client.capacity(id), client.next_writable()), (0, None));
    let grow = frame(kind::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
    receive(&mut client, &grow).1.expect("an update");
    assert_eq!((client.next_writable(), client.capacity(id)), (Some(id), 1));
}

#[test]
fn answers_to_a_client() {
    let ok = block(&[(":status", "200")]);
    client(
        &[
            frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&[(":status", "103")])),
            frame(kind::HEADERS, flag::END_HEADERS, 1, &ok),
            frame(kind::DATA, 0, 1, b"bytes"),
            frame(kind::HEADERS, END, 3, &ok),
            frame(kind::DATA, flag::END_STREAM, 1, b""),
        ],
        &[
            "< response 1 200",
            "< data 1 bytes",
            "< response 3 200",
            "< end 3",
            "< end 1",
        ],
    );
    for fields in [
        &[(":status", "20")][..],
        &[(":status", "0200")],
        &[(":status", "101")],
        &[],
        &[(":status", "200"), (":method", "GET")],
    ] {
        client(
            &[frame(kind::HEADERS, flag::END_HEADERS, 1, &block(fields))],
            &["< reset 1 PROTOCOL_ERROR", "reset 1 PROTOCOL_ERROR"],
        );
    }
    client(
        &[frame(kind::DATA, 0, 1, b"before the answer")],
        &["< reset 1 PROTOCOL_ERROR", "reset 1 PROTOCOL_ERROR"],
    );
    client(
        &[frame(kind::HEADERS, END, 7, &ok)],
        &["goaway 0 PROTOCOL_ERROR: headers on a stream that was not opened"],
    );
    client(
        &[frame(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 1])],
        &["goaway 0 PROTOCOL_ERROR: a value that the setting for pushes cannot have"],
    );
    // A goodbye: what the server has not looked at may be tried elsewhere.
    client(
        &[
            frame(kind::GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\0bye"),
            frame(kind::HEADERS, flag::END_HEADERS, 1, &ok),
            frame(kind::HEADERS, END, 3, &ok),
            frame(kind::PING, flag::ACK, 0, b"12345678"),
        ],
        &[
            "< goaway NO_ERROR",
            "< reset 3 REFUSED_STREAM",
            "< response 1 200",
            "< pong 12345678",
        ],
    );
}

#[test]
fn a_large_header_block_is_continued() {
    let mut client = introduced("client");
    let long = vec![b'x'; 40_000];
    client.connect("a:1", &[("x-long", &long)]).expect("a stream");
    let sent = output(&mut client);
    assert_eq!(
        describe(&sent),
        ["headers 1 0x0", "continuation 1 0x0", "continuation 1 0x4"]
    );
    let mut server = Connection::server(Settings::server());
    receive(
        &mut server,
        &[PREFACE.to_vec(), frame(kind::SETTINGS, 0, 0, &[])].concat(),
    )
    .1
    .expect("an introduction");
    let (events, result) = receive(&mut server, &sent);
    assert_eq!((events.len(), result), (1, Ok(())));
}

#[test]
fn a_peer_without_a_table_is_told_that_we_use_none() {
    let mut client = introduced("client");
    receive(&mut client, &frame(kind::SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]))
        .1
        .expect("settings");
    output(&mut client);
    client.connect("a:1", &[]).expect("a stream");
    assert_eq!(output(&mut client)[HEAD_BYTES], 0x20);
    client.connect("a:1", &[]).expect("a stream");
    assert_ne!(output(&mut client)[HEAD_BYTES], 0x20);
}
