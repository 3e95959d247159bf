//! Callers that are not proxies of the mesh, or do not behave: each is refused with a reason, and nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_core::Identity;
use corten_hbone::h2::{Headers, Reason, Request, Response, Settings, Sink, StreamId};
use corten_hbone::{Progress, Tunnel, TunnelError};
use corten_identity::{Bundle, Priority};

use crate::harness::{Mesh, Node, Pod, echo, mirror, ping};
use crate::{at, isolate};

/// Notes what a tunnel tells.
#[derive(Default)]
struct Notes {
    status: Option<u16>,
    baggage: Option<String>,
    ended: bool,
    reset: Option<Reason>,
    gone: bool,
}

impl Sink<'_> for Notes {
    fn request(&mut self, _: StreamId, _: Request<'_>) {}
    fn response(&mut self, _: StreamId, response: Response<'_>) {
        self.status = Some(response.status);
        let headers: Headers<'_> = response.headers;
        self.baggage = headers
            .get("baggage")
            .map(|text| String::from_utf8_lossy(text).into_owned());
    }
    fn data(&mut self, _: StreamId, _: &[u8]) {}
    fn end(&mut self, _: StreamId) {
        self.ended = true;
    }
    fn reset(&mut self, _: StreamId, reason: Reason) {
        self.reset = Some(reason);
    }
    fn go_away(&mut self, _: Reason, _: &[u8]) {
        self.gone = true;
    }
}

/// The certificate of any identity: the test's authority signs for everybody.
fn certificate(node: &Node, identity: &str) -> Arc<Bundle> {
    let identity: Identity = identity.parse().unwrap();
    let identities = &node.data_plane.common().identities;
    identities.want(&identity, Priority::RealTime);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(bundle) = identities.current(&identity) {
            return bundle;
        }
        assert!(Instant::now() < deadline, "no certificate for {identity}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct Caller {
    stream: TcpStream,
    tunnel: Tunnel,
    notes: Notes,
}

impl Caller {
    fn new(from: &Pod, to: &Pod, bundle: &Bundle, server: &str) -> Result<Caller, TunnelError> {
        let stream = from.connect(at(to.ip, 15008)).unwrap();
        let expected = [format!("spiffe://cluster.local/ns/default/sa/{server}")
            .parse()
            .unwrap()];
        let name = rustls::pki_types::IpAddr::try_from("0.0.0.0").unwrap().into();
        let tunnel = Tunnel::client(&bundle.client_config(&expected), name, Settings::client())?;
        let notes = Notes::default();
        let mut caller = Caller { stream, tunnel, notes };
        while caller.tunnel.is_handshaking() {
            caller.turn()?;
        }
        // The server has its say about our certificate after our side is done.
        caller.turn()?;
        Ok(caller)
    }

    fn turn(&mut self) -> Result<Progress, TunnelError> {
        self.tunnel.flush(&mut self.stream)?;
        let mut scratch = vec![0; 64 << 10];
        let progress = self.tunnel.read(&mut self.stream, &mut scratch, &mut self.notes)?;
        self.tunnel.flush(&mut self.stream)?;
        Ok(progress)
    }

    fn connect(&mut self, authority: &str) -> u16 {
        self.notes.status = None;
        self.tunnel
            .h2()
            .connect(authority, &[("baggage", b"k8s.cluster.name=c")])
            .unwrap();
        self.answer()
    }

    fn answer(&mut self) -> u16 {
        loop {
            self.turn().unwrap();
            if let Some(status) = self.notes.status {
                return status;
            }
        }
    }
}

fn scene() -> (Mesh, Pod, Pod, Node) {
    let mut mesh = Mesh::new();
    let (outsider, mut server) = (mesh.pod("outsider"), mesh.pod("server"));
    let node = mesh.node(&[]);
    node.configure(&format!(
        "workloads:\n{}services: [{{name: web, namespace: default, hostname: web, vips: [/10.96.0.1], ports: {{'80': 8080}}}}]\npolicies:\n{}",
        server.workload("HBONE", ", services: {default/web: {'80': 8080}}"),
        "- {name: no, namespace: default, scope: Namespace, action: Deny, rules: [[[{destinationPorts: [8082]}]]]}\n"
    ));
    node.enroll(&mut server);
    echo(server.listen(8080));
    (mesh, outsider, server, node)
}

#[test]
fn each_request_gets_the_status_that_is_due() {
    isolate!();
    let (_mesh, outsider, server, node) = scene();
    let bundle = certificate(&node, "spiffe://cluster.local/ns/default/sa/outsider");
    let mut caller = Caller::new(&outsider, &server, &bundle, "server").unwrap();
    let own = |port: u16| format!("{}:{port}", server.ip);
    assert_eq!(caller.connect(&own(8080)), 200);
    let baggage = caller.notes.baggage.take().unwrap();
    assert!(
        baggage.contains("k8s.cluster.name=Kubernetes,k8s.namespace.name=default"),
        "{baggage}"
    );
    assert_eq!(caller.connect("web:80"), 200);
    assert_eq!(
        caller.connect("10.1.0.99:8080"),
        400,
        "an address that is not the pod's"
    );
    assert_eq!(caller.connect("nonsense"), 400);
    assert_eq!(caller.connect("unknown:80"), 503);
    assert_eq!(caller.connect("web:81"), 503);
    assert_eq!(caller.connect(&own(15006)), 503, "a port of the proxy");
    assert_eq!(caller.connect(&own(81)), 503, "nobody listens");
    assert_eq!(caller.connect(&own(8082)), 401, "a policy forbids it");
    caller.notes.status = None;
    caller
        .tunnel
        .h2()
        .request("GET", "https", "web", "/", &[], true)
        .unwrap();
    assert_eq!(caller.answer(), 400, "not a tunnel");
    let line = node.line("is not its address");
    assert!(line.contains("reason=\"bad_request\" side=\"client proxy\""), "{line}");
}

#[test]
fn certificates_of_others_are_refused_with_a_reason() {
    isolate!();
    let (_mesh, outsider, server, node) = scene();
    let foreign = certificate(&node, "spiffe://elsewhere.example/ns/default/sa/outsider");
    assert!(Caller::new(&outsider, &server, &foreign, "server").is_err());
    let line = node.line("connection failed");
    assert!(
        line.contains("\twarn\taccess") && line.contains("reason=\"tls_handshake\""),
        "{line}"
    );
    assert!(
        line.contains("elsewhere.example") || line.contains("trust domain"),
        "{line}"
    );

    // An authority of their own.
    let others = Mesh::authority_of_others();
    let stranger = certificate(&others, "spiffe://cluster.local/ns/default/sa/outsider");
    let outcome = Caller::new(&outsider, &server, &stranger, "server").map(drop);
    assert!(outcome.is_err());

    // And one who is not who was expected: the caller refuses.
    let good = certificate(&node, "spiffe://cluster.local/ns/default/sa/outsider");
    assert!(Caller::new(&outsider, &server, &good, "somebody-else").is_err());
    Caller::new(&outsider, &server, &good, "server").unwrap();
}

#[test]
fn garbage_and_silence_on_every_port_disturb_nobody() {
    isolate!();
    let (mut mesh, outsider, server, node) = scene();
    let mut client = mesh.pod("client");
    node.configure(&format!("workloads:\n{}", client.workload("HBONE", "")));
    node.enroll(&mut client);
    mirror(server.listen(8083));
    let mut held = client.connect(at(server.ip, 8083)).unwrap();
    ping(&mut held).unwrap();
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| outsider.connect(at(server.ip, 15008)).unwrap())
        .collect();
    for port in [15001, 15006, 15008] {
        let mut stream = outsider.connect(at(server.ip, port)).unwrap();
        // It may be closed before everything was taken.
        let _ = stream.write_all(&[0xa5; 8192]);
        assert_eq!(
            stream
                .read(&mut [0; 64])
                .map_or(0, |length| if port == 15008 { 0 } else { length }),
            0
        );
        ping(&mut held).unwrap();
    }
    // Those who say nothing are let go in the end.
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        assert!(matches!(stream.read(&mut [0; 64]), Ok(0)));
    }
    ping(&mut held).unwrap();
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
    ping(&mut modest.connect(at(server.ip, 8080)).unwrap()).unwrap();
    // As some end, the others have their turn.
    let mut late = many.split_off(60);
    drop(many);
    late.truncate(30);
    late.iter_mut().for_each(|stream| ping(stream).unwrap());
}
