//! Questions over loopback sockets, with a name server of the test's own behind the proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;

use arc_swap::ArcSwap;
use corten_linux::NetNs;
use corten_proto::workload as proto;
use corten_traffic::dns::Family;
use corten_traffic::dns::message::{addresses, question};
use corten_traffic::{Change, Settings, Tables, TablesWriter};

use tokio::sync::oneshot;

use super::*;
use crate::dns::{DnsMetrics, SocketThread};

fn tables() -> Tables {
    let client = proto::Workload {
        uid: "c//Pod/ns/client".into(),
        name: "client".into(),
        namespace: "ns".into(),
        canonical_name: "shop".into(),
        ..Default::default()
    };
    let many = |i: u8| proto::NetworkAddress {
        address: vec![10, 1, 1, i],
        ..Default::default()
    };
    let service = |name: &str, addresses: Vec<proto::NetworkAddress>| proto::Service {
        namespace: "ns".into(),
        hostname: format!("{name}.ns.svc.cluster.local"),
        addresses,
        ..Default::default()
    };
    let mut writer = TablesWriter::new();
    let change = |r#type| Change::Address {
        name: String::new(),
        address: Box::new(proto::Address { r#type: Some(r#type) }),
    };
    writer
        .apply([
            change(proto::address::Type::Workload(client)),
            change(proto::address::Type::Service(service("web", vec![many(1)]))),
            change(proto::address::Type::Service(service(
                "many",
                (0..100).map(many).collect(),
            ))),
        ])
        .unwrap();
    (*writer.snapshot()).clone()
}

/// A name server that knows one address, over both transports.
async fn name_server(tasks: &TaskGroup) -> SocketAddr {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let reply = |message: &[u8]| {
        let query = Query::parse(message).unwrap();
        let mut found = found();
        found.addresses = vec!["192.0.2.7".parse().unwrap()];
        query.answer(&found, 512)
    };
    tasks.spawn("udp", async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            // First one that is not the answer, as somebody would send who guesses.
            let mut forged = reply(&buffer[..length]);
            forged[0] ^= 1;
            udp.send_to(&forged, from).await.unwrap();
            udp.send_to(&reply(&buffer[..length]), from).await.unwrap();
        }
    });
    tasks.spawn("tcp", async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut message = vec![0; length.into()];
            stream.read_exact(&mut message).await.unwrap();
            stream.write_all(&framed(&reply(&message))).await.unwrap();
        }
    });
    address
}

fn found() -> corten_traffic::dns::Found {
    let tables = tables();
    let client = tables.local("ns", "client", "default").unwrap();
    match answer(&tables, &Settings::default(), client, "web", Family::V4, 0) {
        Answer::Ours(found) => found,
        Answer::NotOurs => panic!("the service is known"),
    }
}

struct Fixture {
    tasks: TaskGroup,
    served: TaskGroup,
    hand_over: watch::Sender<bool>,
    dns: Arc<Dns>,
    udp: SocketAddr,
    tcp: SocketAddr,
}

async fn fixture(pod: &str, servers: impl AsyncFn(&TaskGroup) -> Vec<SocketAddr>) -> Option<Fixture> {
    fixture_on(0, pod, servers).await
}

async fn fixture_on(port: u16, pod: &str, servers: impl AsyncFn(&TaskGroup) -> Vec<SocketAddr>) -> Option<Fixture> {
    let tasks = TaskGroup::new("test");
    let dns = Arc::new(Dns {
        tables: Arc::new(ArcSwap::from_pointee(tables())),
        settings: Settings::default(),
        name_servers: servers(&tasks).await,
        sockets: SocketThread::start(None).unwrap(),
        metrics: Arc::new(DnsMetrics::default()),
    });
    let here = Arc::new(NetNs::current().unwrap());
    let listeners = loop {
        match dns.sockets.listen(here.clone(), port, true, true).await {
            Ok(listeners) => break listeners,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
            // A port that was free for UDP may be in use for TCP.
            Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => panic!("{error}"),
        }
    };
    let udp = listeners.udp[0].local_addr().unwrap();
    let tcp = listeners.tcp[0].local_addr().unwrap();
    let client = Client {
        namespace: "ns".into(),
        name: pod.into(),
        service_account: "default".into(),
    };
    let dns_of_pod = dns.clone();
    let (hand_over, told) = watch::channel(false);
    let served = TaskGroup::new("served");
    served.serve("dns", |drain| serve(dns_of_pod, client, listeners, told, drain));
    Some(Fixture {
        tasks,
        served,
        hand_over,
        dns,
        udp,
        tcp,
    })
}

async fn ask_udp(server: SocketAddr, message: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(message, server).await.unwrap();
    let mut buffer = vec![0; 65536];
    let length = socket.recv(&mut buffer).await.unwrap();
    buffer.truncate(length);
    buffer
}

async fn ask_tcp(stream: &mut TcpStream, message: &[u8]) -> Vec<u8> {
    stream.write_all(&framed(message)).await.unwrap();
    let length = stream.read_u16().await.unwrap();
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

fn texts(answer: &[u8]) -> Vec<String> {
    addresses(answer).unwrap().0.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn answers_what_is_ours_and_asks_for_the_rest() {
    let servers = async |tasks: &TaskGroup| {
        // Nothing listens on the first: the next one is asked.
        let dead = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        vec![dead, name_server(tasks).await]
    };
    let Some(fixture) = fixture("client", servers).await else {
        corten_rt::skip!("entering network namespaces is not allowed");
    };
    let web = question(1, "web", Family::V4).unwrap();
    let many = question(2, "many", Family::V4).unwrap();
    let other = question(3, "example.com", Family::V4).unwrap();
    assert_eq!(texts(&ask_udp(fixture.udp, &web).await), ["10.1.1.1"]);
    let cut = ask_udp(fixture.udp, &many).await;
    assert_eq!((cut[2] & 2, cut.len() <= 512), (2, true));
    assert_eq!(texts(&ask_udp(fixture.udp, &other).await), ["192.0.2.7"]);
    // Three questions on one connection.
    let mut stream = TcpStream::connect(fixture.tcp).await.unwrap();
    assert_eq!(texts(&ask_tcp(&mut stream, &many).await).len(), 100);
    assert_eq!(texts(&ask_tcp(&mut stream, &other).await), ["192.0.2.7"]);
    assert_eq!(texts(&ask_tcp(&mut stream, &web).await), ["10.1.1.1"]);
    let mut text = String::new();
    fixture.dns.metrics.write(&mut text);
    for (transport, count) in [("udp", 3), ("tcp", 3)] {
        let line = format!(
            "istio_dns_requests_total{{request_query_type=\"A\",request_protocol=\"{transport}\",source_canonical_service=\"shop\",source_canonical_revision=\"unknown\"}} {count}\n"
        );
        assert!(text.contains(&line), "{text}");
    }
    // The listeners end with the future.
    fixture.served.shutdown(Duration::from_secs(5)).await;
    assert!(TcpStream::connect(fixture.tcp).await.is_err());
}

#[tokio::test]
async fn nobody_to_ask_and_nobody_known() {
    let Some(known) = fixture("client", async |_: &TaskGroup| Vec::new()).await else {
        corten_rt::skip!("entering network namespaces is not allowed");
    };
    let other = question(3, "example.com", Family::V4).unwrap();
    let web = question(4, "web", Family::V4).unwrap();
    let code = |answer: Vec<u8>| answer[3] & 0xf;
    assert_eq!(code(ask_udp(known.udp, &other).await), 2);
    assert_eq!(code(ask_udp(known.udp, &web).await), 0);
    assert_eq!(code(ask_udp(known.udp, &[0, 9, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0]).await), 1);
    let unknown = fixture("stranger", async |_: &TaskGroup| Vec::new()).await.unwrap();
    assert_eq!(code(ask_udp(unknown.udp, &web).await), 2);
}

#[tokio::test]
async fn a_pod_that_asks_before_it_is_known_is_answered_when_it_is() {
    let Some(fixture) = fixture("client", async |_: &TaskGroup| Vec::new()).await else {
        corten_rt::skip!("entering network namespaces is not allowed");
    };
    let known = fixture.dns.tables.swap(Arc::new(Tables::default()));
    let web = question(4, "web", Family::V4).unwrap();
    let code = |answer: Vec<u8>| answer[3] & 0xf;
    let mut stream = TcpStream::connect(fixture.tcp).await.unwrap();
    let mut asked = pin!(async { tokio::join!(ask_udp(fixture.udp, &web), ask_tcp(&mut stream, &web)) });
    assert!(tokio::time::timeout(KNOWN_INTERVAL * 3, &mut asked).await.is_err());
    fixture.dns.tables.store(known);
    let (by_udp, by_tcp) = asked.await;
    assert_eq!((code(by_udp), code(by_tcp)), (0, 0));
}

/// A name server that answers when it is told to.
async fn slow_server(tasks: &TaskGroup, asked: watch::Sender<bool>, go: watch::Receiver<bool>) -> SocketAddr {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = udp.local_addr().unwrap();
    tasks.spawn("slow", async move {
        let (mut buffer, mut go) = ([0; 512], go);
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            asked.send_replace(true);
            go.wait_for(|go| *go).await.unwrap();
            let answer = Query::parse(&buffer[..length]).unwrap().answer(&found(), 512);
            udp.send_to(&answer, from).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_successor_takes_over_and_no_question_is_lost() {
    let (asked, mut is_asked) = watch::channel(false);
    let (go, going) = watch::channel(false);
    let servers = async |tasks: &TaskGroup| vec![slow_server(tasks, asked.clone(), going.clone()).await];
    let Some(old) = fixture("client", servers).await else {
        corten_rt::skip!("no power over network namespaces");
    };
    let (udp, tcp) = (old.udp, old.tcp);
    // One question waits for a name server while everything below happens.
    let askers = TaskGroup::new("askers");
    let (answered, waiting) = oneshot::channel();
    askers.spawn("waiting", async move {
        let answer = ask_udp(udp, &question(7, "elsewhere.test", Family::V4).unwrap()).await;
        answered.send(answer).ok();
    });
    is_asked.wait_for(|asked| *asked).await.unwrap();
    let new = fixture_on(udp.port(), "client", async |_: &TaskGroup| Vec::new())
        .await
        .unwrap();
    assert_eq!((new.udp, new.tcp), (udp, tcp));

    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            let (done, waiting) = oneshot::channel();
            askers.spawn("asking", async move {
                let web = question(8, "web.ns", Family::V4).unwrap();
                let mut longest = Duration::ZERO;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let begin = Instant::now();
                    assert_eq!(texts(&ask_udp(udp, &web).await), ["10.1.1.1"]);
                    let mut stream = TcpStream::connect(tcp).await.unwrap();
                    assert_eq!(texts(&ask_tcp(&mut stream, &web).await), ["10.1.1.1"]);
                    longest = longest.max(begin.elapsed());
                }
                done.send(longest).ok();
            });
            waiting
        })
        .collect();
    old.hand_over.send_replace(true);
    // The successor is asked from now on: its count grows and the old one's does not, while both listen.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let count = |fixture: &Fixture| {
        let mut text = String::new();
        fixture.dns.metrics.write(&mut text);
        text
    };
    let (before_old, before_new) = (count(&old), count(&new));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(count(&old), before_old);
    assert_ne!(count(&new), before_new);

    let Fixture { served, tasks, .. } = old;
    let mut ending = pin!(served.shutdown(Duration::from_secs(5)));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut ending).await;
    assert!(early.is_err(), "it waits for what it has passed on");
    go.send_replace(true);
    assert_eq!(texts(&waiting.await.unwrap()), ["10.1.1.1"]);
    assert!(ending.await.is_empty());
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for asking in asking {
        let longest = asking.await.unwrap();
        assert!(
            longest < Duration::from_secs(4),
            "a client had to ask again: {longest:?}"
        );
    }
    drop(tasks);
}
