//! Questions and answers as text, any bytes, and the server between real sockets.

use expect_test::{Expect, expect};
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use serde_json::{Value, json};

use super::*;
use crate::services::Catalog;

fn catalog() -> Catalog {
    let object = |name: &str, spec: Value| json!({ "metadata": { "namespace": "shop", "name": name }, "spec": spec });
    let slice = |name: &str, family: &str, endpoints: Value| {
        json!({
            "metadata": { "namespace": "shop", "name": format!("{name}-{family}"), "labels": { "kubernetes.io/service-name": name } },
            "ports": [{ "name": "http", "port": 8080 }], "endpoints": endpoints,
        })
    };
    let ports = json!([{ "name": "http", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
    let mut catalog = Catalog::default();
    let both = json!({ "clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1", "fd00:10:96::11"], "ports": ports });
    catalog.set_service(&object("web", both), true);
    catalog.set_service(
        &object(
            "db",
            json!({ "clusterIP": "None", "ports": [{ "name": "http", "port": 80 }] }),
        ),
        true,
    );
    let pods = json!([
        { "addresses": ["10.244.1.2"], "hostname": "db-0" },
        { "addresses": ["10.244.2.2"], "hostname": "db-1" },
        { "addresses": ["10.244.2.3"], "conditions": { "ready": false } },
        { "addresses": ["10.244.2.4"] },
    ]);
    catalog.set_slice(&slice("db", "v4", pods), true);
    catalog.set_slice(
        &slice(
            "db",
            "v6",
            json!([{ "addresses": ["fd00:10:244:1::2"], "hostname": "db-0" }]),
        ),
        true,
    );
    let early = json!({ "clusterIP": "None", "publishNotReadyAddresses": true });
    catalog.set_service(&object("early", early), true);
    let unready = json!([{ "addresses": ["10.244.1.9"], "conditions": { "ready": false } }]);
    catalog.set_slice(&slice("early", "v4", unready), true);
    catalog.set_service(&object("none", json!({ "clusterIP": "None" })), true);
    catalog.set_service(
        &object("out", json!({ "type": "ExternalName", "externalName": "example.com" })),
        true,
    );
    let inner = json!({ "type": "ExternalName", "externalName": "web.shop.svc.cluster.local" });
    catalog.set_service(&object("in", inner), true);
    let round = json!({ "type": "ExternalName", "externalName": "round.shop.svc.cluster.local" });
    catalog.set_service(&object("round", round), true);
    catalog
}

fn zone() -> Zone {
    let ranges = ["10.96.0.0/16", "fd00:10:96::/112", "10.244.0.0/16", "fd00:10:244::/48"];
    Zone {
        domain: "cluster.local".into(),
        ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

fn ask(message: &Message, transport: Transport) -> Outcome {
    answer(&catalog(), &zone(), &message.to_vec().unwrap(), transport, 0)
}

fn text(bytes: &[u8]) -> String {
    let reply = Message::from_vec(bytes).unwrap();
    assert_eq!(reply.metadata.id, 4711);
    let flags = [
        (reply.metadata.authoritative, " aa"),
        (reply.metadata.truncation, " tc"),
        (reply.metadata.recursion_available, " ra"),
    ];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let mut text = format!("{:?}{flags}\n", reply.metadata.response_code);
    for record in &reply.answers {
        text += &format!("{record}\n");
    }
    for record in &reply.authorities {
        text += &format!("authority {}\n", record.record_type());
    }
    text
}

#[track_caller]
fn check(name: &str, kind: RecordType, expect: &Expect) {
    let text = match ask(&question(name, kind), Transport::Udp) {
        Outcome::Reply(bytes) => text(&bytes),
        Outcome::Ignore => "ignored\n".into(),
        Outcome::Forward(forward) => {
            let asked = Message::from_vec(&forward.question).unwrap();
            format!(
                "forward {} {}\n",
                asked.queries[0].name(),
                asked.queries[0].query_type()
            )
        }
    };
    expect.assert_eq(&text);
}

#[test]
fn services_have_their_addresses() {
    check(
        "web.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        NoError aa ra
        web.shop.svc.cluster.local. 5 IN A 10.96.1.1
    "#]],
    );
    check(
        "WEB.shop.svc.Cluster.local",
        RecordType::AAAA,
        &expect![[r#"
        NoError aa ra
        WEB.shop.svc.Cluster.local. 5 IN AAAA fd00:10:96::11
    "#]],
    );
    check(
        "web.shop.svc.cluster.local",
        RecordType::TXT,
        &expect![[r#"
        NoError aa ra
        authority SOA
    "#]],
    );
    check(
        "nobody.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        NXDomain aa ra
        authority SOA
    "#]],
    );
    check(
        "web.nowhere.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        NXDomain aa ra
        authority SOA
    "#]],
    );
    check(
        "shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        NoError aa ra
        authority SOA
    "#]],
    );
    check(
        "web.shop.svc.cluster.local.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
            NXDomain aa ra
            authority SOA
        "#]],
    );
}

#[test]
fn headless_services_have_their_endpoints() {
    check(
        "db.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        NoError aa ra
        db.shop.svc.cluster.local. 5 IN A 10.244.1.2
        db.shop.svc.cluster.local. 5 IN A 10.244.2.2
        db.shop.svc.cluster.local. 5 IN A 10.244.2.4
    "#]],
    );
    check(
        "db.shop.svc.cluster.local",
        RecordType::AAAA,
        &expect![[r#"
        NoError aa ra
        db.shop.svc.cluster.local. 5 IN AAAA fd00:10:244:1::2
    "#]],
    );
    check(
        "db-1.db.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        NoError aa ra
        db-1.db.shop.svc.cluster.local. 5 IN A 10.244.2.2
    "#]],
    );
    check(
        "db-7.db.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        NXDomain aa ra
        authority SOA
    "#]],
    );
    check(
        "10-244-2-4.db.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        NoError aa ra
        10-244-2-4.db.shop.svc.cluster.local. 5 IN A 10.244.2.4
    "#]],
    );
    check(
        "early.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        NoError aa ra
        early.shop.svc.cluster.local. 5 IN A 10.244.1.9
    "#]],
    );
    check(
        "none.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        NoError aa ra
        authority SOA
    "#]],
    );
}

#[test]
fn ports_have_service_records() {
    check(
        "_http._tcp.web.shop.svc.cluster.local",
        RecordType::SRV,
        &expect![[r#"
        NoError aa ra
        _http._tcp.web.shop.svc.cluster.local. 5 IN SRV 0 100 80 web.shop.svc.cluster.local.
    "#]],
    );
    check(
        "_dns._udp.web.shop.svc.cluster.local",
        RecordType::SRV,
        &expect![[r#"
        NoError aa ra
        _dns._udp.web.shop.svc.cluster.local. 5 IN SRV 0 100 53 web.shop.svc.cluster.local.
    "#]],
    );
    check(
        "_dns._tcp.web.shop.svc.cluster.local",
        RecordType::SRV,
        &expect![[r#"
        NXDomain aa ra
        authority SOA
    "#]],
    );
    check(
        "_tcp.web.shop.svc.cluster.local",
        RecordType::SRV,
        &expect![[r#"
        NoError aa ra
        authority SOA
    "#]],
    );
    check(
        "_http._tcp.db.shop.svc.cluster.local",
        RecordType::SRV,
        &expect![[r#"
            NoError aa ra
            _http._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 33 8080 db-0.db.shop.svc.cluster.local.
            _http._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 33 8080 db-1.db.shop.svc.cluster.local.
            _http._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 33 8080 10-244-2-4.db.shop.svc.cluster.local.
        "#]],
    );
}

#[test]
fn aliases_are_followed() {
    check(
        "in.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        NoError aa ra
        in.shop.svc.cluster.local. 5 IN CNAME web.shop.svc.cluster.local.
        web.shop.svc.cluster.local. 5 IN A 10.96.1.1
    "#]],
    );
    check(
        "in.shop.svc.cluster.local",
        RecordType::CNAME,
        &expect![[r#"
        NoError aa ra
        in.shop.svc.cluster.local. 5 IN CNAME web.shop.svc.cluster.local.
    "#]],
    );
    check(
        "out.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
        forward example.com. A
    "#]],
    );
    check(
        "round.shop.svc.cluster.local",
        RecordType::A,
        &expect![[r#"
            ServFail ra
        "#]],
    );
}

#[test]
fn pods_and_addresses_have_names() {
    check(
        "10-244-1-2.shop.pod.cluster.local",
        RecordType::A,
        &expect![[r#"
        NoError aa ra
        10-244-1-2.shop.pod.cluster.local. 5 IN A 10.244.1.2
    "#]],
    );
    check(
        "fd00-10-244-1--2.shop.pod.cluster.local",
        RecordType::AAAA,
        &expect![[r#"
            NoError aa ra
            fd00-10-244-1--2.shop.pod.cluster.local. 5 IN AAAA fd00:10:244:1::2
        "#]],
    );
    check(
        "someone.shop.pod.cluster.local",
        RecordType::A,
        &expect![[r#"
        NXDomain aa ra
        authority SOA
    "#]],
    );
    check(
        "1.1.96.10.in-addr.arpa",
        RecordType::PTR,
        &expect![[r#"
        NoError aa ra
        1.1.96.10.in-addr.arpa. 5 IN PTR web.shop.svc.cluster.local.
    "#]],
    );
    check(
        "2.1.244.10.in-addr.arpa",
        RecordType::PTR,
        &expect![[r#"
        NoError aa ra
        2.1.244.10.in-addr.arpa. 5 IN PTR db-0.db.shop.svc.cluster.local.
    "#]],
    );
    check(
        "9.9.96.10.in-addr.arpa",
        RecordType::PTR,
        &expect![[r#"
        NXDomain aa ra
        authority SOA
    "#]],
    );
    check(
        "8.8.8.8.in-addr.arpa",
        RecordType::PTR,
        &expect![[r#"
        forward 8.8.8.8.in-addr.arpa. PTR
    "#]],
    );
    let six = "1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa";
    check(
        six,
        RecordType::PTR,
        &expect![[r#"
        NoError aa ra
        1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa. 5 IN PTR web.shop.svc.cluster.local.
    "#]],
    );
    check(
        "cluster.local",
        RecordType::SOA,
        &expect![[r#"
        NoError aa ra
        cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
    "#]],
    );
    check(
        "dns-version.cluster.local",
        RecordType::TXT,
        &expect![[r#"
        NoError aa ra
        dns-version.cluster.local. 5 IN TXT 1.1.0
    "#]],
    );
}

#[test]
fn other_names_are_somebody_elses() {
    check(
        "example.com",
        RecordType::A,
        &expect![[r#"
        forward example.com. A
    "#]],
    );
    check(
        "local",
        RecordType::A,
        &expect![[r#"
        forward local. A
    "#]],
    );
    let Outcome::Forward(forward) = ask(&question("out.shop.svc.cluster.local", RecordType::A), Transport::Udp) else {
        panic!("it is forwarded");
    };
    expect![[r#"
        ServFail ra
    "#]]
    .assert_eq(&text(&forward.finish(None)));
    expect![[r#"
        NoError
        out.shop.svc.cluster.local. 5 IN CNAME example.com.
    "#]]
    .assert_eq(&text(&forward.refused()));
    let mut elsewhere = Message::response(1, hickory_proto::op::OpCode::Query);
    let name = Name::from_ascii("example.com.").unwrap();
    elsewhere.add_answer(hickory_proto::rr::Record::from_rdata(
        name,
        60,
        names::address_data([192, 0, 2, 1].into()),
    ));
    expect![[r#"
        NoError ra
        out.shop.svc.cluster.local. 5 IN CNAME example.com.
        example.com. 60 IN A 192.0.2.1
    "#]]
    .assert_eq(&text(&forward.finish(Some(&elsewhere.to_vec().unwrap()))));
}

#[test]
fn long_answers_are_cut_to_what_the_client_takes() {
    let endpoints: Vec<Value> = (1..=60)
        .map(|n| json!({ "addresses": [format!("10.244.1.{n}")] }))
        .collect();
    let mut many = catalog();
    many.set_slice(
        &json!({
            "metadata": { "namespace": "shop", "name": "many", "labels": { "kubernetes.io/service-name": "none" } },
            "endpoints": endpoints,
        }),
        true,
    );
    let mut request = question("none.shop.svc.cluster.local", RecordType::A);
    let ask = |request: &Message, transport| match answer(&many, &zone(), &request.to_vec().unwrap(), transport, 0) {
        Outcome::Reply(bytes) => (bytes.len(), Message::from_vec(&bytes).unwrap()),
        other => panic!("{other:?}"),
    };
    let (length, reply) = ask(&request, Transport::Udp);
    assert!(
        length <= 512 && reply.metadata.truncation && reply.answers.is_empty(),
        "{length}"
    );
    assert_eq!(ask(&request, Transport::Tcp).1.answers.len(), 60);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    request.set_edns(edns);
    let (length, reply) = ask(&request, Transport::Udp);
    assert!(length <= 1232 && reply.edns.is_some(), "{length}");
    assert_eq!(reply.answers.len(), 60);
}

#[test]
fn what_is_no_question_of_ours_is_refused_or_ignored() {
    let outcome = |bytes: &[u8]| match answer(&catalog(), &zone(), bytes, Transport::Udp, 0) {
        Outcome::Reply(bytes) => format!("{:?}", Message::from_vec(&bytes).unwrap().metadata.response_code),
        other => format!("{other:?}"),
    };
    let mut two = question("web.shop.svc.cluster.local", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(outcome(&two.to_vec().unwrap()), "FormErr");
    let mut status = question("web.shop.svc.cluster.local", RecordType::A);
    status.metadata.op_code = hickory_proto::op::OpCode::Status;
    assert_eq!(outcome(&status.to_vec().unwrap()), "NotImp");
    let mut version = question("web.shop.svc.cluster.local", RecordType::A);
    version.edns = Some(Edns::new());
    version.edns.as_mut().unwrap().set_version(1);
    // The number means two things; the library reads it as the other one.
    assert_eq!(outcome(&version.to_vec().unwrap()), "BADSIG");
    assert_eq!(
        outcome(&question("cluster.local", RecordType::AXFR).to_vec().unwrap()),
        "Refused"
    );
    assert_eq!(outcome(&[0; 3]), "Ignore");
    assert_eq!(outcome(&[0x12, 0x34, 0x01, 0, 0, 9, 0, 0, 0, 0, 0, 0]), "FormErr");
    let mut answered = question("web.shop.svc.cluster.local", RecordType::A);
    answered.metadata.message_type = hickory_proto::op::MessageType::Response;
    assert_eq!(outcome(&answered.to_vec().unwrap()), "Ignore");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_safe(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), cut in 0usize..60) {
        let _ = answer(&catalog(), &zone(), &bytes, Transport::Udp, cut);
        let mut real = question("db.shop.svc.cluster.local", RecordType::A).to_vec().unwrap();
        for (at, byte) in bytes.iter().enumerate().take(4) {
            let at = (at * 7 + cut) % real.len();
            real[at] ^= byte;
        }
        let _ = answer(&catalog(), &zone(), &real, Transport::Tcp, cut);
    }
}
