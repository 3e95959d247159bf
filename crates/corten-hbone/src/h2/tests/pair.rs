//! Two connections wired to each other.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

/// A small generator, so that one number from proptest decides a whole run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

/// One direction of a stream as a driver sees it.
#[derive(Default)]
struct Flow {
    to_send: VecDeque<u8>,
    sent: Vec<u8>,
    sent_end: bool,
    received: Vec<u8>,
    received_end: bool,
    unreleased: usize,
}

struct End {
    connection: Connection,
    wire: VecDeque<u8>,
    flows: Vec<(StreamId, Flow)>,
    blocked: bool,
}

impl End {
    fn new(connection: Connection) -> End {
        End {
            connection,
            wire: VecDeque::new(),
            flows: Vec::new(),
            blocked: false,
        }
    }

    fn flow(&mut self, id: StreamId) -> &mut Flow {
        match self.flows.iter().position(|(known, _)| *known == id) {
            Some(place) => &mut self.flows[place].1,
            None => panic!("an event for the unknown stream {id}"),
        }
    }

    /// Sends some bytes of a stream.
    fn send(&mut self, place: usize, dice: &mut Dice) {
        let (id, flow) = &mut self.flows[place];
        if flow.sent_end {
            return;
        }
        let length = dice.below(60_000).min(flow.to_send.len());
        let part: Vec<u8> = flow.to_send.iter().take(length).copied().collect();
        let end = length == flow.to_send.len();
        let taken = self.connection.send(*id, &part, end);
        flow.to_send.drain(..taken);
        flow.sent.extend_from_slice(&part[..taken]);
        flow.sent_end = end && taken == length;
    }

    fn release(&mut self, place: usize, dice: &mut Dice) {
        let (id, flow) = &mut self.flows[place];
        let some = match dice.below(3) {
            0 => dice.below(flow.unreleased + 1),
            _ => flow.unreleased,
        };
        flow.unreleased -= some;
        self.connection.release(*id, some);
    }

    fn flush(&mut self) {
        if self.wire.len() < 100_000 {
            let wire = &mut self.wire;
            self.connection.take_output(|bytes| wire.extend(bytes));
        }
    }
}

fn content(dice: &mut Dice) -> VecDeque<u8> {
    let length = match dice.below(4) {
        0 => 0,
        1 => dice.below(2_000),
        _ => dice.below(300_000),
    };
    (0..length).map(|_| dice.below(256) as u8).collect()
}

/// Random streams with random content both ways, cut at random places, released at random times: both ends read what
/// the other has written, and nothing stays behind.
fn run(seed: u64) {
    let dice = &mut Dice(seed | 1);
    let sizes = |dice: &mut Dice, settings: Settings| Settings {
        output_bytes: 20_000 + dice.below(300_000),
        stream_window: 65_535 + dice.below(200_000) as u32,
        connection_window: 65_535 + dice.below(1_000_000) as u32,
        frame_size_max: 16_384 + dice.below(100_000) as u32,
        ..settings
    };
    let mut ends = [
        End::new(Connection::client(sizes(dice, Settings::client()))),
        End::new(Connection::server(sizes(dice, Settings::server()))),
    ];
    let streams = 1 + dice.below(8);
    for turn in 0_u32.. {
        assert!(turn < 100_000, "no progress with seed {seed}");
        let client = &mut ends[0];
        if client.flows.len() < streams && dice.below(3) == 0 {
            let headers: &[(&str, &[u8])] = &[("forwarded", b"for=\"10.1.2.3\""), ("x-long", &[b'x'; 3000])];
            let id = client
                .connection
                .connect("10.0.0.7:8080", headers)
                .expect("few streams");
            let flow = Flow {
                to_send: content(dice),
                ..Flow::default()
            };
            client.flows.push((id, flow));
        }
        for side in [0, 1] {
            let length = dice.below(40_000).min(ends[1 - side].wire.len());
            let bytes: Vec<u8> = ends[1 - side].wire.drain(..length).collect();
            let end = &mut ends[side];
            let cut = dice.below(bytes.len() + 1);
            for part in [&bytes[..cut], &bytes[cut..]] {
                let (events, result) = receive(&mut end.connection, part);
                result.unwrap_or_else(|error| panic!("{error} with seed {seed}"));
                end.connection.read_over(dice.below(4) > 0);
                for event in events {
                    match event {
                        Event::Request(id, _) => {
                            end.connection.respond(id, 200, &[], false);
                            let flow = Flow {
                                to_send: content(dice),
                                ..Flow::default()
                            };
                            end.flows.push((id, flow));
                        }
                        Event::Data(id, data) => {
                            let flow = end.flow(id);
                            flow.unreleased += data.len();
                            flow.received.extend_from_slice(&data);
                        }
                        Event::End(id) => end.flow(id).received_end = true,
                        Event::Response(..) => {}
                        other => panic!("{other:?} with seed {seed}"),
                    }
                }
            }
            for place in 0..end.flows.len() {
                if !end.blocked && dice.below(2) == 0 {
                    end.send(place, dice);
                }
                if dice.below(2) == 0 {
                    end.release(place, dice);
                }
            }
            if dice.below(2) == 0 {
                end.flush();
            }
            while let Some(id) = end.connection.next_writable() {
                let place = end.flows.iter().position(|(known, _)| *known == id);
                end.send(place.expect("a known stream"), dice);
                if dice.below(8) == 0 {
                    break;
                }
            }
            // Only what the connection names as writable is sent from time to time, to see that it names everything.
            end.blocked = turn % 64 >= 32 && end.flows.iter().any(|(_, flow)| !flow.sent_end);
        }
        if ends
            .iter()
            .all(|end| end.flows.len() == streams && end.connection.is_idle())
        {
            break;
        }
    }
    let [client, server] = ends;
    for ((_, here), (_, there)) in client.flows.iter().zip(&server.flows) {
        assert!(here.received_end && there.received_end && here.sent_end && there.sent_end);
        assert!(here.sent == there.received, "seed {seed}");
        assert!(there.sent == here.received, "seed {seed}");
    }
    assert_eq!((client.connection.held, server.connection.held), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn both_ends_read_what_the_other_wrote(seed in any::<u64>()) {
        run(seed);
    }
}

/// A connected pair after the exchange of settings.
fn pair() -> (Connection, Connection) {
    let mut client = Connection::client(Settings::client());
    let mut server = Connection::server(Settings::server());
    exchange(&mut client, &mut server);
    (client, server)
}

/// Moves everything until both are quiet; what each was told.
fn exchange(client: &mut Connection, server: &mut Connection) -> (Vec<Event>, Vec<Event>) {
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    while client.wants_output() || server.wants_output() {
        let (events, result) = receive(server, &output(client));
        assert_eq!(result, Ok(()));
        to_server.extend(events);
        let (events, result) = receive(client, &output(server));
        assert_eq!(result, Ok(()));
        to_client.extend(events);
    }
    (to_client, to_server)
}

#[test]
fn a_tunnel_with_half_close() {
    let (mut client, mut server) = pair();
    let here = client
        .connect("10.0.0.7:80", &[("baggage", b"k8s.namespace.name=orders")])
        .expect("a stream");
    let (_, told) = exchange(&mut client, &mut server);
    let line = "CONNECT 10.0.0.7:80 baggage=k8s.namespace.name=orders".to_owned();
    assert_eq!(told, [Event::Request(here, line)]);
    server.respond(here, 200, &[], false);
    assert_eq!(client.send(here, b"ping", true), 4);
    let (answer, told) = exchange(&mut client, &mut server);
    assert_eq!(answer, [Event::Response(here, 200)]);
    assert_eq!(told, [Event::Data(here, b"ping".to_vec()), Event::End(here)]);
    assert_eq!(server.send(here, b"pong", false), 4);
    assert_eq!(server.send(here, b"", true), 0);
    let (answer, _) = exchange(&mut client, &mut server);
    assert_eq!(answer, [Event::Data(here, b"pong".to_vec()), Event::End(here)]);
    // The slots stay until the last byte is released.
    assert_eq!((client.streams(), client.is_idle()), (0, false));
    client.release(here, 4);
    server.release(here, 4);
    assert!(client.is_idle() && server.is_idle());
}

#[test]
fn a_small_request_passes_a_bulk_transfer() {
    let (mut client, mut server) = pair();
    let bulk = client.connect("a:1", &[]).expect("a stream");
    let small = client.connect("b:1", &[]).expect("a stream");
    exchange(&mut client, &mut server);
    let block = vec![7; 1 << 20];
    let taken = client.send(bulk, &block, false);
    assert!(taken >= 200_000, "{taken}");
    assert_eq!(client.send(bulk, &block, false), 0);
    assert_eq!(client.send(small, b"hello", false), 5);
    let (events, _) = receive(&mut server, &output(&mut client));
    assert_eq!(events[0], Event::Data(small, b"hello".to_vec()));
    // The bulk was held back and is named once there is room and credit again.
    assert_eq!(client.next_writable(), None);
    server.release(bulk, taken);
    receive(&mut client, &output(&mut server)).1.expect("good frames");
    assert_eq!(client.next_writable(), Some(bulk));
    assert_eq!(client.next_writable(), None);
}

#[test]
fn what_is_sent_on_one_stream_stays_in_order() {
    let (mut client, mut server) = pair();
    let id = client.connect("a:1", &[]).expect("a stream");
    exchange(&mut client, &mut server);
    // Urgent, bulk, small again, end: all in one batch.
    assert_eq!(client.send(id, &[1; 100], false), 100);
    assert_eq!(client.send(id, &[2; 40_000], false), 40_000);
    assert_eq!(client.send(id, &[3; 100], false), 100);
    assert_eq!(client.send(id, &[], true), 0);
    let (events, _) = receive(&mut server, &output(&mut client));
    let expected = [vec![1; 100], vec![2; 40_000], vec![3; 100]].concat();
    assert_eq!(events, [Event::Data(id, expected), Event::End(id)]);
}

/// What the window of a stream becomes when it is used up several times: data comes `apart` bytes at a time, of which
/// `waited` have gathered before we read, and another stream has some in between or not.
fn window_after(apart: usize, waited: usize, beside: bool) -> u32 {
    let (mut client, mut server) = pair();
    let id = client.connect("a:1", &[]).expect("a stream");
    let other = client.connect("a:2", &[]).expect("a stream");
    exchange(&mut client, &mut server);
    let block = vec![7; apart];
    for _ in 0..40 {
        let (mut taken, mut gathered) = (0, 0);
        loop {
            let now = client.send(id, &block, false);
            receive(&mut server, &output(&mut client)).1.expect("good frames");
            taken += now;
            gathered += now;
            if gathered >= waited || now == 0 {
                server.read_over(true);
                gathered = 0;
            }
            if now == 0 {
                break;
            }
        }
        server.release(id, taken);
        if beside {
            assert_eq!(client.send(other, b"small", false), 5);
            receive(&mut server, &output(&mut client)).1.expect("good frames");
            server.release(other, 5);
        }
        receive(&mut client, &output(&mut server)).1.expect("good frames");
    }
    server.streams.get(id).expect("open").window
}

#[test]
fn a_window_is_as_large_as_the_wire_and_the_others_need() {
    const KIB: usize = 1 << 10;
    // Small reads, and the window is used up: the wire needs more.
    assert_eq!(window_after(16 * KIB, 16 * KIB, false), 4 << 20);
    assert_eq!(window_after(8 * KIB, 8 * KIB, true), 4 << 20);
    // All of it lies in our own socket: as much as is read at once will do.
    assert_eq!(window_after(16 * KIB, 8 << 20, false), 512 << 10);
    // What lies there makes others wait.
    let small = window_after(16 * KIB, 8 << 20, true);
    assert!((32 << 10..48 << 10).contains(&small), "{small}");
}

#[test]
fn a_window_that_was_made_smaller_still_lets_everything_pass() {
    let (mut client, mut server) = pair();
    let id = client.connect("a:1", &[]).expect("a stream");
    exchange(&mut client, &mut server);
    server.streams.get(id).expect("open").window = 40 << 10;
    let block = vec![7; 1 << 20];
    let mut left = block.len();
    for _ in 0..1000 {
        let taken = client.send(id, &block[..left], false);
        left -= taken;
        exchange(&mut client, &mut server);
        server.release(id, taken);
        exchange(&mut client, &mut server);
    }
    assert_eq!(left, 0);
}

#[test]
fn one_stalled_reader_does_not_stop_the_others() {
    let settings = Settings {
        connection_window: 1 << 20,
        ..Settings::server()
    };
    let mut client = Connection::client(Settings::client());
    let mut server = Connection::server(settings);
    exchange(&mut client, &mut server);
    let block = vec![7; 256 << 10];
    let mut passed = 0;
    // Four stalled streams would fill the window of the connection.
    for _ in 0..5 {
        let id = client.connect("a:1", &[]).expect("a stream");
        let mut left = block.len();
        while left > 0 {
            let taken = client.send(id, &block[..left], false);
            left -= taken;
            exchange(&mut client, &mut server);
            if taken == 0 {
                break;
            }
        }
        passed += block.len() - left;
    }
    assert_eq!(passed, 5 * block.len());
    // But no more than twice the window is ever held.
    assert!(server.held <= 2 << 20);
}

#[test]
fn a_server_leaves_in_two_steps() {
    let (mut client, mut server) = pair();
    let first = client.connect("a:1", &[]).expect("a stream");
    // This one is under way when the server says goodbye.
    server.go_away(Reason::NO_ERROR);
    let (answer, told) = exchange(&mut client, &mut server);
    assert_eq!(told, [Event::Request(first, "CONNECT a:1".into())]);
    assert_eq!(
        answer,
        [Event::GoAway(Reason::NO_ERROR), Event::GoAway(Reason::NO_ERROR)]
    );
    assert_eq!(client.connect("a:1", &[]), Err(OpenError::Closing));
    assert_eq!(client.openable(), 0);
    server.respond(first, 200, &[], false);
    assert_eq!(client.send(first, b"still works", false), 11);
    let (answer, told) = exchange(&mut client, &mut server);
    assert_eq!((answer.len(), told.len()), (1, 1));
}

#[test]
fn streams_beyond_the_limit_wait_or_are_refused() {
    let (mut client, mut server) = pair();
    assert_eq!(client.openable(), 200);
    for _ in 0..200 {
        client.connect("a:1", &[]).expect("a stream");
    }
    assert_eq!(client.connect("a:1", &[]), Err(OpenError::Full));
    // A client that does not listen.
    client.peer.streams_max = 1000;
    let over = client.connect("a:1", &[]).expect("a stream");
    let (answer, told) = exchange(&mut client, &mut server);
    assert_eq!(told.len(), 200);
    assert_eq!(answer, [Event::Reset(over, Reason::REFUSED_STREAM)]);
}

#[test]
fn resets_reach_the_other_side_and_late_frames_are_ignored() {
    let (mut client, mut server) = pair();
    let id = client.connect("a:1", &[]).expect("a stream");
    exchange(&mut client, &mut server);
    server.reset(id, Reason::CANCEL);
    assert_eq!(client.send(id, b"late", true), 4);
    let (answer, told) = exchange(&mut client, &mut server);
    // It had ended for the client before the reset came? No: the server never answered.
    assert_eq!(answer, [Event::Reset(id, Reason::CANCEL)]);
    assert_eq!(told, []);
    assert!(client.is_idle() && server.is_idle());
    // What is asked for a stream that is gone is ignored, also once its slot has a new one.
    let next = client.connect("a:1", &[]).expect("a stream");
    assert_eq!(next.slot(), id.slot());
    client.reset(id, Reason::CANCEL);
    client.release(id, 10);
    assert_eq!(client.send(id, b"x", true), 1);
    assert_eq!(client.streams(), 1);
}

#[test]
fn a_quiet_connection_keeps_little() {
    let (mut client, mut server) = pair();
    let ids: Vec<StreamId> = (0..100)
        .map(|_| client.connect("10.0.0.1:80", &[]).expect("a stream"))
        .collect();
    exchange(&mut client, &mut server);
    for id in &ids {
        server.respond(*id, 200, &[], false);
        assert_eq!(client.send(*id, &[0; 2000], false), 2000);
    }
    exchange(&mut client, &mut server);
    for id in ids {
        server.release(id, 2000);
    }
    while client.tick() | server.tick() {}
    assert_eq!(client.output.bulk.capacity() + client.output.urgent.capacity(), 0);
    assert_eq!(server.output.bulk.capacity() + server.output.urgent.capacity(), 0);
    assert!(size_of::<stream::Stream>() <= 64);
    assert!(size_of::<Connection>() <= 1024, "{}", size_of::<Connection>());
}
