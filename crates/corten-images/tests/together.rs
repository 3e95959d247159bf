//! The two programs as they ship, talking to each other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// A running echo server; ends with the test.
struct Echo {
    child: Child,
    port: u16,
    tcp: u16,
}

impl Echo {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_corten-echo"))
            .args(["--port", "0", "--tcp", "0", "--version", "v1"])
            .env("POD_NAME", "pod-1")
            .env("POD_NAMESPACE", "here")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut port = || {
            let line = lines.next().expect("a line for each port").expect("text");
            line.split_whitespace()
                .nth(3)
                .expect("the port")
                .parse()
                .expect("a number")
        };
        let (port, tcp) = (port(), port());
        Self { child, port, tcp }
    }

    fn http(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    fn get(&self, path: &str) -> String {
        self.http(&format!(
            "GET {path} HTTP/1.1\r\nhost: echo.test\r\nx-one: 1\r\nconnection: close\r\n\r\n"
        ))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn load(arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_corten-load"))
        .args(arguments)
        .args(["-o", "json"])
        .output()
        .expect("the client runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn it_says_who_it_is_and_what_it_saw() {
    let echo = Echo::start();
    let text = echo.get("/some/path?a=b");
    for line in [
        "pod: pod-1",
        "namespace: here",
        "version: v1",
        "path: /some/path?a=b",
        "host: echo.test",
        "header x-one: 1",
        "protocol: HTTP/1.1",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    let json = echo.get("/?format=json");
    let body: serde_json::Value = serde_json::from_str(json.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    assert_eq!(
        (&body["pod"], &body["headers"]["x-one"][0]),
        (&"pod-1".into(), &"1".into())
    );
    assert!(json.contains("x-corten-pod: pod-1"), "{json}");
}

#[test]
fn it_does_as_it_is_told() {
    let echo = Echo::start();
    assert!(echo.get("/?codes=503").starts_with("HTTP/1.1 503"));
    assert!(echo.get("/?header=x-two:2").contains("x-two: 2"));
    assert!(echo.get("/?size=10").ends_with("\r\n\r\nxxxxxxxxxx"));
    assert!(echo.get("/?delay=oops").starts_with("HTTP/1.1 400"));
    let counted = "/?tally=a&first=1&codes=503";
    assert!(echo.get(counted).starts_with("HTTP/1.1 503"));
    let second = echo.get(counted);
    assert!(
        second.starts_with("HTTP/1.1 200") && second.contains("x-corten-tally: 2"),
        "{second}"
    );
    assert_eq!(echo.get("/?hangup"), "");
    let report = echo.get(&format!("/?url=http://127.0.0.1:{}/&count=2", echo.port));
    assert_eq!(report.matches("\"status\":200").count(), 2, "{report}");
    let refused = echo.get("/?url=http://127.0.0.1:1/");
    assert!(refused.contains("\"error\":"), "{refused}");
}

#[test]
fn bytes_and_websocket_messages_come_back() {
    let echo = Echo::start();
    for port in [echo.port, echo.tcp] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.write_all(b"\x01\x02 not http").expect("it reads");
        let mut back = [0; 11];
        stream.read_exact(&mut back).expect("bytes come back");
        assert_eq!(&back, b"\x01\x02 not http");
    }
    let mut stream = TcpStream::connect(("127.0.0.1", echo.port)).expect("it listens");
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).expect("it reads");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a line"), 0, "{head}");
    }
    // The key and its answer are the example of RFC 6455, section 1.3.
    assert!(
        head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{head}"
    );
    // A masked text frame "hi" with an all-zero mask, and the unmasked one that comes back.
    stream.write_all(b"\x81\x82\0\0\0\0hi").expect("it reads");
    let mut back = [0; 4];
    reader.read_exact(&mut back).expect("the message comes back");
    assert_eq!(&back, b"\x81\x02hi");
}

#[test]
fn load_counts_answers_by_every_protocol() {
    let echo = Echo::start();
    let http = format!("http://127.0.0.1:{}/", echo.port);
    let tcp = format!("tcp://127.0.0.1:{}", echo.tcp);
    for arguments in [
        vec![http.as_str()],
        vec![http.as_str(), "--http2"],
        vec![http.as_str(), "--close"],
        vec![tcp.as_str()],
    ] {
        let report = load(&[&arguments[..], &["--rate", "0", "--count", "20", "--connections", "3"]].concat());
        assert_eq!(
            (&report["calls"], &report["codes"]["200"]),
            (&20.into(), &20.into()),
            "{arguments:?}: {report}"
        );
    }
    let failing = load(&[&format!("{http}?codes=500"), "--rate", "0", "-n", "5"]);
    assert_eq!(
        (&failing["codes"]["500"], &failing["pods"]["pod-1"]),
        (&5.into(), &5.into())
    );
    let nobody = load(&["http://127.0.0.1:1/", "--rate", "0", "-n", "2"]);
    assert_eq!(
        nobody["errors"].as_object().expect("errors").values().next(),
        Some(&2.into()),
        "{nobody}"
    );
}

#[test]
fn it_ends_in_good_order() {
    let mut echo = Echo::start();
    let pid = echo.child.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().expect("kill").success());
    assert!(echo.child.wait().expect("it ends").success());
}
