//! A live stock Envoy looks hosts up when they are called: one that nobody knows, and one that a wildcard covers.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use corten_api::{decode::Node, validate::mesh_config::over_defaults};
use corten_envoy::{message_to_json, prost};
use corten_envoy_gen::{Resources, generate};
use corten_model::Settings;
use corten_routing::{Proxy, World};
use corten_stock_envoy::{Sent, bootstrap, program};
use serde_json::{Value, json};

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with the test.
struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sent(resources: &Resources) -> Sent {
    fn json<M: prost::Message + prost::Name>(message: &M) -> Value {
        message_to_json(message).expect("JSON")
    }
    Sent {
        clusters: resources.clusters.iter().map(json).collect(),
        listeners: resources.listeners.iter().map(json).collect(),
        routes: resources
            .routes
            .iter()
            .map(|(name, table)| (name.clone(), json(table)))
            .collect(),
        ..Sent::default()
    }
}

/// What a sidecar is sent that takes requests as an HTTP proxy on a port.
fn configuration(port: u16, objects: &[Value]) -> Resources {
    let mesh = json!({ "outboundTrafficPolicy": { "mode": "ALLOW_ANY_DYNAMIC_DNS" } });
    let (mesh, problems) = over_defaults(&Node::from_value(&mesh));
    assert!(problems.is_empty(), "{problems:?}");
    let mut world = World::new(Settings::default(), mesh);
    let sidecar = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": { "name": "default", "namespace": "shop" },
        "spec": { "egress": [{
            "bind": "127.0.0.1", "hosts": ["*/*"],
            "port": { "number": port, "name": "proxy", "protocol": "HTTP_PROXY" },
        }] },
    });
    let problems = world.put(std::iter::once(&sidecar).chain(objects));
    assert!(problems.is_empty(), "{problems:?}");
    let metadata = json!({ "NAMESPACE": "shop", "INTERCEPTION_MODE": "NONE" });
    let proxy = Proxy::of_node("sidecar~10.0.0.1~web.shop~shop.svc.cluster.local", &metadata).expect("a proxy");
    generate(&world.snapshot(), &proxy)
}

/// Starts Envoy. The port is looked for before, so that another may take it meanwhile: then it is tried again.
fn start(envoy: &Path, entry: &Value) -> (SocketAddr, Envoy) {
    for _ in 0..10 {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let resources = configuration(address.port(), std::slice::from_ref(entry));
        let mut config = tempfile::Builder::new().suffix(".json").tempfile().expect("a file");
        let text = bootstrap(&sent(&resources)).to_string();
        config.write_all(text.as_bytes()).expect("it is written");
        let running = Command::new(envoy)
            .args([
                "--use-dynamic-base-id",
                "--concurrency",
                "1",
                "--log-level",
                "error",
                "--config-path",
            ])
            .arg(config.path())
            .stdout(Stdio::null())
            .spawn();
        let mut running = Envoy(running.expect("it starts"));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && running.0.try_wait().expect("a state").is_none() {
            if TcpStream::connect(address).is_ok() && running.0.try_wait().expect("a state").is_none() {
                return (address, running);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    panic!("Envoy does not run");
}

/// The answer to a request for a whole URL.
fn ask(proxy: SocketAddr, host: &str) -> String {
    let mut stream = TcpStream::connect(proxy).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = format!("GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn hosts_are_looked_up_when_they_are_called() {
    let envoy = match program() {
        Ok(envoy) => envoy,
        Err(missing) => corten_rt::skip!("{missing}"),
    };
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let called = server.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]);
            let host = head.lines().find(|line| line.to_ascii_lowercase().starts_with("host:"));
            let body = format!("asked for {}", host.unwrap_or_default());
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let entry = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": { "name": "any", "namespace": "shop" },
        "spec": {
            "hosts": ["*.localhost"], "resolution": "DYNAMIC_DNS", "location": "MESH_EXTERNAL",
            "ports": [{ "number": called, "name": "http", "protocol": "HTTP" }],
        },
    });
    let (proxy, _running) = start(&envoy, &entry);
    for host in [format!("localhost:{called}"), format!("a.localhost:{called}")] {
        let answer = ask(proxy, &host);
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
        assert!(answer.contains(&format!("asked for host: {host}")), "{host}: {answer}");
    }
}
