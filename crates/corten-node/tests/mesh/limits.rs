//! Callers that take more than is theirs: floods of HTTP/2 frames, handshakes that never end, too many connections. Each is stopped with a reason,
//! and nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::attacks::{Scene, Wire, certificate, refusals, scene, scene_with};
use crate::harness::{Mesh, mirror, ping};
use crate::{at, isolate};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, body].concat()
}

/// Header fields without compression.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // An integer with a prefix of seven bits.
            match u8::try_from(text.len()) {
                Ok(length) if length < 127 => block.push(length),
                _ => {
                    let mut rest = text.len() - 127;
                    block.push(127);
                    while rest >= 128 {
                        block.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

fn connect(stream: u32, authority: &str) -> Vec<u8> {
    let block = fields(&[(":method", "CONNECT"), (":authority", authority)]);
    frame(HEADERS, END_HEADERS, stream, &block)
}

#[test]
fn floods_of_frames_are_stopped_with_a_reason() {
    isolate!();
    let scene = scene();
    let bundle = certificate(&scene.node, "spiffe://cluster.local/ns/default/sa/outsider");
    let tls = bundle.client_config(&["spiffe://cluster.local/ns/default/sa/server".parse().unwrap()]);
    let app = at(scene.server.ip, 8083).to_string();
    let streams = |count: u32| (0..count).map(|index| 2 * index + 1);
    let big = "x".repeat(20_000);
    let mut many = vec![(":method", "CONNECT"), (":authority", app.as_str())];
    many.extend([("big", big.as_str()); 12]);
    let oversized = fields(&many);
    let mut pieces = vec![frame(HEADERS, 0, 1, &oversized[..10])];
    pieces.extend(
        oversized[10..]
            .chunks(16_000)
            .map(|piece| frame(CONTINUATION, 0, 1, piece)),
    );
    for (what, attack, reason) in [
        (
            "rapid reset",
            streams(20_000)
                .flat_map(|id| [connect(id, "nobody"), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat())
                .collect::<Vec<u8>>(),
            "too many streams reset before they were answered",
        ),
        (
            "settings",
            frame(SETTINGS, 0, 0, &[]).repeat(5000),
            "too many settings frames",
        ),
        ("ping", frame(PING, 0, 0, &[7; 8]).repeat(5000), "too many pings"),
        (
            "continuation",
            [frame(HEADERS, 0, 1, &[]), frame(CONTINUATION, 0, 1, &[]).repeat(5000)].concat(),
            "a header block in too many pieces",
        ),
        (
            "oversized headers",
            pieces.concat(),
            "a header block is larger than allowed",
        ),
        (
            "empty data",
            [connect(1, &app), frame(DATA, 0, 1, &[]).repeat(5000)].concat(),
            "too many frames that carry nothing",
        ),
        ("not http/2", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "preface"),
    ] {
        let mut wire = Wire::open(&scene.outsider, &scene.server, tls.clone());
        let opening = match what {
            "not http/2" => Vec::new(),
            _ => [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat(),
        };
        // It is cut off before everything was taken.
        let _ = wire.write_all(&[opening, attack].concat());
        let said = wire.rest();
        let line = scene.node.line(reason);
        assert!(
            line.contains("reason=\"http2\" side=\"client proxy\""),
            "{what}: {line}"
        );
        assert!(refusals(&scene.node, "H2_HANDSHAKE_FAILURE") > 0, "{what}");
        // Not more than it sent is said back, and the last word is the reason, if it was still heard.
        assert!(said.len() < 200_000, "{what}: {} bytes came back", said.len());
        scene.held_goes_on();
    }
    // The one who did it is not locked out when it behaves.
    let mut wire = Wire::open(&scene.outsider, &scene.server, tls);
    let calm = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &connect(1, &app),
        &frame(DATA, 0, 1, b"ping"),
    ]
    .concat();
    wire.write_all(&calm).unwrap();
    let (mut said, mut buffer) = (Vec::<u8>::new(), [0; 4096]);
    while !said.windows(4).any(|window| window == b"ping") {
        let length = wire.read(&mut buffer).unwrap();
        assert!(length > 0, "{said:?}");
        said.extend(&buffer[..length]);
    }
}

#[test]
fn who_is_slow_is_let_go() {
    isolate!();
    let scene = scene();
    let bundle = certificate(&scene.node, "spiffe://cluster.local/ns/default/sa/outsider");
    let tls = bundle.client_config(&["spiffe://cluster.local/ns/default/sa/server".parse().unwrap()]);
    let app = at(scene.server.ip, 8083).to_string();
    // Nothing; the beginning of a handshake and then a byte now and then; a connection on which nothing is said; half of a request.
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| scene.outsider.connect(at(scene.server.ip, 15008)).unwrap())
        .collect();
    let mut dripping = scene.outsider.connect(at(scene.server.ip, 15008)).unwrap();
    dripping.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]).unwrap();
    let mut mute = Wire::open(&scene.outsider, &scene.server, tls.clone());
    mute.flush().unwrap();
    let mut halfway = Wire::open(&scene.outsider, &scene.server, tls);
    let request = connect(1, &app);
    let half = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &request[..request.len() / 2]].concat();
    halfway.write_all(&half).unwrap();

    let begin = Instant::now();
    while dripping.write_all(&[0]).is_ok() {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "the one that drips is still there"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    let line = scene.node.line("the tls handshake was not completed in time");
    assert!(line.contains("reason=\"tls_handshake\""), "{line}");
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert!(matches!(stream.read(&mut [0; 64]), Ok(0)));
    }
    scene.held_goes_on();
    for wire in [&mut mute, &mut halfway] {
        wire.socket().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut buffer = [0; 4096];
        while wire.read(&mut buffer).is_ok_and(|length| length > 0) {}
        let line = scene.node.line("does not answer pings");
        assert!(
            line.contains("connection failed") && line.contains("reason=\"tunnel_lost\""),
            "{line}"
        );
    }
    assert!(begin.elapsed() < Duration::from_secs(55), "{:?}", begin.elapsed());
    scene.held_goes_on();
}

#[test]
fn half_open_connections_give_way_to_newer_ones() {
    isolate!();
    let scene = scene_with(&[("CORTEN_POD_HANDSHAKES_MAX", "20")], |_| ());
    let Scene {
        outsider, server, node, ..
    } = &scene;
    let mut half_open: Vec<TcpStream> = (0..100)
        .map(|_| outsider.connect(at(server.ip, 15008)).unwrap())
        .collect();
    // Long before a handshake is given up for its slowness.
    half_open[0].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(matches!(half_open[0].read(&mut [0]), Ok(0)));
    let line = node.line("20 newer callers wait");
    assert!(line.contains("reason=\"limit\" side=\"client proxy\""), "{line}");
    scene.held_goes_on();
}

#[test]
fn a_pod_has_as_many_connections_as_it_may_and_others_are_served() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut greedy, mut modest, mut server) = (mesh.pod("greedy"), mesh.pod("modest"), mesh.pod("server"));
    let (one, two) = (mesh.node(&[("CORTEN_POD_CONNECTIONS_MAX", "40")]), mesh.node(&[]));
    let all: String = [&greedy, &modest, &server]
        .iter()
        .map(|pod| pod.workload("HBONE", ""))
        .collect();
    one.configure(&format!("workloads:\n{all}"));
    two.configure(&format!("workloads:\n{all}"));
    one.enroll(&mut greedy);
    one.enroll(&mut modest);
    two.enroll(&mut server);
    mirror(server.listen(8080));
    // More than it may: the rest waits in the kernel, not in the proxy.
    let mut many: Vec<TcpStream> = (0..100).map(|_| greedy.connect(at(server.ip, 8080)).unwrap()).collect();
    many.iter_mut().take(30).for_each(|stream| ping(stream).unwrap());
    let open = one.runtime.block_on(one.data_plane.dump());
    let greedy_open = open.iter().find(|pod| pod.uid == "greedy").unwrap().connections.len();
    assert!(greedy_open <= 40, "{greedy_open}");
    let told = "corten_pod_limit_reached_total{limit=\"connections\",namespace=\"default\",pod=\"greedy\"} 1\n";
    assert!(one.metrics().contains(told), "{}", one.metrics());
    // It can still be called: what it gets is counted by itself.
    mirror(greedy.listen(8081));
    ping(&mut modest.connect(at(greedy.ip, 8081)).unwrap()).unwrap();
    ping(&mut modest.connect(at(server.ip, 8080)).unwrap()).unwrap();
    // As some end, the others have their turn.
    let mut late = many.split_off(60);
    drop(many);
    late.truncate(30);
    late.iter_mut().for_each(|stream| ping(stream).unwrap());
}
