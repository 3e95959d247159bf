//! The drivers against a real API: objects in, packets and names out.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_apiserver::{Api, Client, resources};
use corten_linux::NetNs;
use corten_linux::testing::{Isolation, isolated};
use corten_rt::TaskGroup;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use serde_json::json;

use crate::network::tests::{plugins, run};
use crate::network::{Network, NetworkConfig, PodRef};
use crate::{dns, services};

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// Asks the cluster's DNS from inside a namespace.
fn ask(from: &NetNs, server: IpAddr, name: &str) -> Result<(ResponseCode, Vec<String>), String> {
    let kind = if server.is_ipv6() {
        RecordType::AAAA
    } else {
        RecordType::A
    };
    let asked = question(name, kind).to_vec().unwrap();
    let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let answered = from.run(|| {
        let socket = UdpSocket::bind(any)?;
        socket.connect((server, 53))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.send(&asked)?;
        let mut buffer = vec![0; 1500];
        let length = socket.recv(&mut buffer)?;
        buffer.truncate(length);
        std::io::Result::Ok(buffer)
    });
    let bytes = answered.unwrap().map_err(|error| error.to_string())?;
    let reply = Message::from_vec(&bytes).map_err(|error| error.to_string())?;
    let data = reply.answers.iter().map(|record| record.data.to_string()).collect();
    Ok((reply.metadata.response_code, data))
}

/// Tries until it holds; the objects' way to the kernel has no end that could be awaited from here.
async fn eventually<T: std::fmt::Debug + PartialEq>(expected: T, mut attempt: impl FnMut() -> T) -> Duration {
    let begun = Instant::now();
    loop {
        let found = attempt();
        if found == expected {
            return begun.elapsed();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "wanted {expected:?}, found {found:?}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn connect(from: &NetNs, to: &str) -> String {
    let to: SocketAddr = to.parse().unwrap();
    let read = from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        std::io::Result::Ok(text)
    });
    read.unwrap().unwrap_or_else(|error| format!("{:?}", error.kind()))
}

#[test]
fn objects_become_packets_and_names() {
    let plugins = plugins();
    match isolated() {
        Isolation::Inside => {}
        Isolation::Done => return,
        Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
    }
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let network = Network::create(NetworkConfig::new(2, dir.path().into(), plugins))
            .await
            .unwrap();
        let network = Arc::new(network);
        let (a, c) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        for (name, node, netns) in [("a", "node1", &a), ("c", "node2", &c)] {
            let pod = PodRef {
                namespace: "shop".into(),
                name: name.into(),
                uid: name.into(),
            };
            network.attach(node, &pod, &netns.path()).await.unwrap();
            super::tests::serve(name, netns);
        }
        // A resolver of the host.
        let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
        upstream.connect(resolver.local_addr().unwrap()).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = resolver.recv_from(&mut buffer) {
                let request = Message::from_vec(&buffer[..length]).unwrap();
                let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
                reply.queries.clone_from(&request.queries);
                reply.metadata.response_code = ResponseCode::NXDomain;
                resolver.send_to(&reply.to_vec().unwrap(), peer).unwrap();
            }
        });

        let api = Api::in_memory();
        let client = Client::new(api, "system:corten:test");
        let tasks = TaskGroup::new("test");
        let sockets = dns::Sockets::bind(&network).unwrap();
        let (for_rules, for_names, shared) = (client.clone(), client.clone(), Arc::clone(&network));
        tasks.serve("services", |drain| async move {
            services::run(for_rules, shared, drain).await.unwrap()
        });
        let shared = Arc::clone(&network);
        tasks.serve("dns", |drain| async move {
            dns::run(for_names, shared, sockets, vec![upstream], drain)
                .await
                .unwrap()
        });

        let server: IpAddr = "10.96.0.10".parse().unwrap();
        let api_name = "kubernetes.default.svc.cluster.local.";
        eventually(Ok((ResponseCode::NoError, vec!["10.96.0.1".into()])), || {
            ask(&a, server, api_name)
        })
        .await;
        // The API's address leads to whatever listens on the runtime's.
        let listener = std::net::TcpListener::bind(network.api_address()).unwrap();
        std::thread::spawn(move || while listener.accept().is_ok() {});
        eventually(String::new(), || connect(&a, "10.96.0.1:443")).await;
        assert_eq!(
            ask(&a, server, "web.shop.svc.cluster.local."),
            Ok((ResponseCode::NXDomain, vec![]))
        );
        assert_eq!(
            ask(&a, server, "example.com."),
            Ok((ResponseCode::NXDomain, vec![])),
            "what the host's resolver says"
        );

        client
            .create(&resources::NAMESPACES, json!({ "metadata": { "name": "shop" } }))
            .await
            .unwrap();
        let service = json!({
            "metadata": { "namespace": "shop", "name": "web" },
            "spec": { "clusterIP": "10.96.4.4", "ports": [{ "port": 80 }] },
        });
        client.create(&resources::SERVICES, service).await.unwrap();
        let slice = json!({
            "metadata": { "namespace": "shop", "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4", "ports": [{ "port": 8080, "protocol": "TCP" }],
            "endpoints": [{ "addresses": ["10.244.2.2"], "nodeName": "node2", "conditions": { "ready": true } }],
        });
        client.create(&resources::ENDPOINT_SLICES, slice).await.unwrap();
        let took = eventually("c 10.244.1.2".to_owned(), || connect(&a, "10.96.4.4:80")).await;
        println!("packets followed the objects after {took:?}");
        let answer = Ok((ResponseCode::NoError, vec!["10.96.4.4".into()]));
        eventually(answer, || ask(&c, server, "web.shop.svc.cluster.local.")).await;
        let no_ipv6 = Ok((ResponseCode::NoError, vec![]));
        assert_eq!(
            ask(&c, "fd00:10:96::a".parse().unwrap(), "web.shop.svc.cluster.local."),
            no_ipv6
        );

        // By TCP.
        let bytes = question("web.shop.svc.cluster.local.", RecordType::A).to_vec().unwrap();
        let framed = [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat();
        let reply = a.run(|| {
            let mut stream = TcpStream::connect((server, 53)).unwrap();
            std::io::Write::write_all(&mut stream, &framed).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut reply).unwrap();
            Message::from_vec(&reply).unwrap()
        });
        assert_eq!(reply.unwrap().answers.len(), 1);

        client
            .delete(&resources::SERVICES, "shop", "web", Default::default())
            .await
            .unwrap();
        eventually("ConnectionRefused".to_owned(), || connect(&a, "10.96.4.4:80")).await;
        eventually(Ok((ResponseCode::NXDomain, vec![])), || {
            ask(&a, server, "web.shop.svc.cluster.local.")
        })
        .await;
        let late = tasks.shutdown(Duration::from_secs(5)).await;
        assert!(late.is_empty(), "{late:?}");
    });
}
