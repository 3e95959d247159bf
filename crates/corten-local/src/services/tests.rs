//! Plans and rules as text; the same rules under packets; incremental changes against rules made from scratch.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use corten_linux::NetNs;
use corten_linux::nft::{Family, Nft, Transaction};
use corten_linux::testing::{Isolation, isolated};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::network::{Network, NetworkConfig, PodRef};

macro_rules! isolate {
    () => {
        match isolated() {
            Isolation::Inside => {}
            Isolation::Done => return,
            Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
        }
    };
}

fn config() -> NetworkConfig {
    NetworkConfig::new(2, "/nowhere".into(), "/nowhere".into())
}

fn node1() -> NodeView {
    NodeView {
        name: "node1".into(),
        addresses: vec!["192.168.77.11".parse().unwrap()],
    }
}

fn service(name: &str, address: &str, spec: Value) -> Value {
    let mut all = json!({ "clusterIP": address, "clusterIPs": [address], "ports": [{ "port": 80 }] });
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    json!({ "metadata": { "namespace": "default", "name": name }, "spec": all })
}

fn slice(service: &str, port: u16, endpoints: &[(&str, &str)]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, node)| json!({ "addresses": [address], "nodeName": node, "conditions": { "ready": true } }))
        .collect();
    json!({
        "metadata": { "namespace": "default", "name": format!("{service}-1"), "labels": { "kubernetes.io/service-name": service } },
        "ports": [{ "port": port }], "endpoints": endpoints,
    })
}

fn catalog(objects: &[Value]) -> Catalog {
    let mut catalog = Catalog::default();
    for object in objects {
        put(&mut catalog, object);
    }
    catalog
}

fn put(catalog: &mut Catalog, object: &Value) -> Option<ServiceId> {
    if object["endpoints"].is_null() {
        catalog.set_service(object, true)
    } else {
        catalog.set_slice(object, true)
    }
}

fn plans(catalog: &Catalog, node: &NodeView) -> Vec<(ServiceId, Vec<(Vip, Target)>)> {
    catalog
        .iter()
        .map(|(id, entry)| (id.clone(), plan(entry, node)))
        .collect()
}

fn protocol_name(number: u8) -> &'static str {
    match number {
        17 => "udp",
        132 => "sctp",
        _ => "tcp",
    }
}

/// One line for each address of the plan on node1.
#[track_caller]
fn check(objects: &[Value], expect: &Expect) {
    let mut text = String::new();
    for (vip, target) in plans(&catalog(objects), &node1())
        .into_iter()
        .flat_map(|(_, vips)| vips)
    {
        let list = |all: &[SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let address = SocketAddr::new(vip.address, vip.port);
        let sticky = target
            .affinity
            .map(|time| format!(" sticky {time:?}"))
            .unwrap_or_default();
        text += &format!(
            "{} {address} {:?} [{}] local [{}]{sticky}\n",
            protocol_name(vip.protocol),
            target.reach,
            list(&target.cluster),
            list(&target.local)
        );
    }
    expect.assert_eq(&text);
}

#[test]
fn a_cluster_address_leads_to_the_ready_endpoints() {
    let two = slice("web", 8080, &[("10.244.1.2", "node1"), ("10.244.2.2", "node2")]);
    check(
        &[service("web", "10.96.3.4", json!({})), two.clone()],
        &expect![[r#"
        tcp 10.96.3.4:80 Cluster [10.244.1.2:8080 10.244.2.2:8080] local [10.244.1.2:8080]
    "#]],
    );
    check(
        &[service("web", "10.96.3.4", json!({})), slice("web", 8080, &[])],
        &expect![[""]],
    );
    check(&[service("web", "None", json!({})), two.clone()], &expect![[""]]);
    check(
        &[
            service(
                "web",
                "",
                json!({ "type": "ExternalName", "externalName": "example.com" }),
            ),
            two,
        ],
        &expect![[""]],
    );
}

#[test]
fn ports_match_by_name_and_protocol() {
    let ports =
        json!([{ "name": "http", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053 }]);
    let mut endpoints = slice("web", 0, &[("10.244.1.2", "node1")]);
    endpoints["ports"] = json!([{ "name": "dns", "port": 5353, "protocol": "UDP" }, { "name": "http", "port": 8080 }]);
    check(
        &[service("web", "10.96.3.4", json!({ "ports": ports })), endpoints],
        &expect![[r#"
            tcp 10.96.3.4:80 Cluster [10.244.1.2:8080] local [10.244.1.2:8080]
            udp 10.96.3.4:53 Cluster [10.244.1.2:5353] local [10.244.1.2:5353]
            udp 192.168.77.11:30053 Masquerade [10.244.1.2:5353] local [10.244.1.2:5353]
        "#]],
    );
}

#[test]
fn outside_addresses_and_policies() {
    let endpoints = slice("web", 8080, &[("10.244.1.2", "node1"), ("10.244.2.2", "node2")]);
    let ports = json!([{ "port": 80, "nodePort": 30080 }]);
    let open = json!({ "type": "NodePort", "ports": ports, "externalIPs": ["203.0.113.9"] });
    check(
        &[service("web", "10.96.3.4", open), endpoints.clone()],
        &expect![[r#"
        tcp 10.96.3.4:80 Cluster [10.244.1.2:8080 10.244.2.2:8080] local [10.244.1.2:8080]
        tcp 203.0.113.9:80 Masquerade [10.244.1.2:8080 10.244.2.2:8080] local [10.244.1.2:8080]
        tcp 192.168.77.11:30080 Masquerade [10.244.1.2:8080 10.244.2.2:8080] local [10.244.1.2:8080]
    "#]],
    );
    let local = json!({ "ports": ports, "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local" });
    check(
        &[service("web", "10.96.3.4", local), endpoints.clone()],
        &expect![[r#"
        tcp 10.96.3.4:80 Local [10.244.1.2:8080 10.244.2.2:8080] local [10.244.1.2:8080]
        tcp 192.168.77.11:30080 ExternalLocal [10.244.1.2:8080 10.244.2.2:8080] local [10.244.1.2:8080]
    "#]],
    );
    let sticky =
        json!({ "sessionAffinity": "ClientIP", "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 60 } } });
    check(
        &[service("web", "10.96.3.4", sticky), endpoints],
        &expect![[r#"
        tcp 10.96.3.4:80 Cluster [10.244.1.2:8080 10.244.2.2:8080] local [10.244.1.2:8080] sticky 60s
    "#]],
    );
}

#[test]
fn endpoints_that_are_not_ready_serve_only_in_need() {
    let mut endpoints = slice(
        "web",
        8080,
        &[
            ("10.244.1.2", "node1"),
            ("10.244.1.3", "node1"),
            ("10.244.2.2", "node2"),
        ],
    );
    endpoints["endpoints"][0]["conditions"] = json!({ "ready": false, "serving": true, "terminating": true });
    endpoints["endpoints"][1]["conditions"] = json!({ "ready": false, "serving": false });
    endpoints["endpoints"][2]["conditions"] = json!({});
    let plain = service("web", "10.96.3.4", json!({}));
    check(
        &[plain.clone(), endpoints.clone()],
        &expect![[r#"
        tcp 10.96.3.4:80 Cluster [10.244.2.2:8080] local [10.244.1.2:8080]
    "#]],
    );
    let publish = service("web", "10.96.3.4", json!({ "publishNotReadyAddresses": true }));
    check(
        &[publish, endpoints.clone()],
        &expect![[r#"
        tcp 10.96.3.4:80 Cluster [10.244.1.2:8080 10.244.1.3:8080 10.244.2.2:8080] local [10.244.1.2:8080 10.244.1.3:8080]
    "#]],
    );
    endpoints["endpoints"][2]["conditions"] = json!({ "ready": false });
    check(
        &[plain, endpoints],
        &expect![[r#"
        tcp 10.96.3.4:80 Cluster [10.244.1.2:8080] local [10.244.1.2:8080]
    "#]],
    );
}

#[test]
fn rules_of_a_node_are_text() {
    let endpoints = |name| slice(name, 8080, &[("10.244.1.2", "node1"), ("10.244.2.2", "node2")]);
    let mut six = slice("web6", 8080, &[("fd00:10:244:1::2", "node1")]);
    six["addressType"] = "IPv6".into();
    let catalog = catalog(&[
        service(
            "web",
            "10.96.3.4",
            json!({ "ports": [{ "port": 80, "nodePort": 30080 }] }),
        ),
        endpoints("web"),
        service(
            "near",
            "10.96.3.5",
            json!({ "externalIPs": ["203.0.113.9"], "externalTrafficPolicy": "Local" }),
        ),
        endpoints("near"),
        service("keep", "10.96.3.6", json!({ "sessionAffinity": "ClientIP" })),
        endpoints("keep"),
        service("empty", "10.96.3.7", json!({ "externalIPs": ["203.0.113.10"] })),
        service("web6", "fd00:10:96::5", json!({})),
        six,
    ]);
    let mut state = State::new(&config());
    state.update(plans(&catalog, &node1()));
    expect![[r#"
        table inet corten-services {
          map vips-v4 {
            type ipv4_addr . inet_proto . inet_service : verdict
            elements = { 10.96.3.4 . tcp . 80 : goto spread-v4-2,
                   10.96.3.5 . tcp . 80 : goto spread-v4-2,
                   10.96.3.6 . tcp . 80 : goto sticky-10.96.3.6-6-80,
                   192.168.77.11 . tcp . 30080 : goto outside-v4-2,
                   203.0.113.9 . tcp . 80 : goto local-v4-1-2,
                   203.0.113.10 . tcp . 80 : goto no-endpoints }
          }

          map endpoints-v4 {
            type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service
            elements = { 10.96.3.4 . tcp . 80 . 0x00000000 : 10.244.1.2 . 8080,
                   10.96.3.4 . tcp . 80 . 0x00000001 : 10.244.2.2 . 8080,
                   10.96.3.5 . tcp . 80 . 0x00000000 : 10.244.1.2 . 8080,
                   10.96.3.5 . tcp . 80 . 0x00000001 : 10.244.2.2 . 8080,
                   192.168.77.11 . tcp . 30080 . 0x00000000 : 10.244.1.2 . 8080,
                   192.168.77.11 . tcp . 30080 . 0x00000001 : 10.244.2.2 . 8080,
                   203.0.113.9 . tcp . 80 . 0x00000000 : 10.244.1.2 . 8080,
                   203.0.113.9 . tcp . 80 . 0x00010000 : 10.244.1.2 . 8080,
                   203.0.113.9 . tcp . 80 . 0x00010001 : 10.244.2.2 . 8080 }
          }

          map sticky-v4 {
            type ipv4_addr . inet_proto . inet_service . mark : verdict
            elements = { 10.96.3.6 . tcp . 80 . 0x00000000 : goto sticky-10.96.3.6-6-80-10.244.1.2-8080,
                   10.96.3.6 . tcp . 80 . 0x00000001 : goto sticky-10.96.3.6-6-80-10.244.2.2-8080 }
          }

          set hairpin-v4 {
            type ipv4_addr . ipv4_addr
            elements = { 10.244.1.2 . 10.244.1.2 }
          }

          map vips-v6 {
            type ipv6_addr . inet_proto . inet_service : verdict
            elements = { fd00:10:96::5 . tcp . 80 : goto spread-v6-1 }
          }

          map endpoints-v6 {
            type ipv6_addr . inet_proto . inet_service . mark : ipv6_addr . inet_service
            elements = { fd00:10:96::5 . tcp . 80 . 0x00000000 : fd00:10:244:1::2 . 8080 }
          }

          map sticky-v6 {
            type ipv6_addr . inet_proto . inet_service . mark : verdict
          }

          set hairpin-v6 {
            type ipv6_addr . ipv6_addr
            elements = { fd00:10:244:1::2 . fd00:10:244:1::2 }
          }

          set sticky-10.96.3.6-6-80-10.244.1.2-8080 {
            type ipv4_addr
            size 65535
            flags dynamic,timeout
          }

          set sticky-10.96.3.6-6-80-10.244.2.2-8080 {
            type ipv4_addr
            size 65535
            flags dynamic,timeout
          }

          chain prerouting {
            type nat hook prerouting priority dstnat; policy accept;
            jump services
          }

          chain output {
            type nat hook output priority -100; policy accept;
            jump services
          }

          chain postrouting {
            type nat hook postrouting priority srcnat; policy accept;
            meta mark & 0x00004000 == 0x00004000 masquerade
            ip saddr . ip daddr @hairpin-v4 masquerade
            ip6 saddr . ip6 daddr @hairpin-v6 masquerade
          }

          chain forward {
            type filter hook forward priority filter; policy accept;
            jump untranslated
          }

          chain filter-output {
            type filter hook output priority filter; policy accept;
            jump untranslated
          }

          chain services {
            ip daddr . meta l4proto . th dport vmap @vips-v4
            ip6 daddr . meta l4proto . th dport vmap @vips-v6
          }

          chain untranslated {
            meta mark & 0x00008000 == 0x00008000 reject
            ip daddr 10.96.0.10 accept
            ip6 daddr fd00:10:96::a accept
            ip daddr 10.96.0.0/16 ct state new reject
            ip6 daddr fd00:10:96::/112 ct state new reject
          }

          chain no-endpoints {
            meta mark set meta mark | 0x00008000
          }

          chain local-v4-1-2 {
            ip saddr 10.244.0.0/16 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 offset 65536 map @endpoints-v4
            dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 1 map @endpoints-v4
          }

          chain outside-v4-2 {
            meta mark set meta mark | 0x00004000 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints-v4
          }

          chain spread-v4-2 {
            dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints-v4
          }

          chain spread-v6-1 {
            dnat ip6 to ip6 daddr . meta l4proto . th dport . numgen random mod 1 map @endpoints-v6
          }

          chain sticky-10.96.3.6-6-80 {
            ip saddr @sticky-10.96.3.6-6-80-10.244.1.2-8080 goto sticky-10.96.3.6-6-80-10.244.1.2-8080
            ip saddr @sticky-10.96.3.6-6-80-10.244.2.2-8080 goto sticky-10.96.3.6-6-80-10.244.2.2-8080
            ip daddr . meta l4proto . th dport . numgen random mod 2 vmap @sticky-v4
          }

          chain sticky-10.96.3.6-6-80-10.244.1.2-8080 {
            update @sticky-10.96.3.6-6-80-10.244.1.2-8080 { ip saddr timeout 3h } dnat ip to 10.244.1.2:8080
          }

          chain sticky-10.96.3.6-6-80-10.244.2.2-8080 {
            update @sticky-10.96.3.6-6-80-10.244.2.2-8080 { ip saddr timeout 3h } dnat ip to 10.244.2.2:8080
          }
        }
    "#]].assert_eq(&state.table().to_string().replace('\t', "  "));
}

#[test]
fn a_change_of_one_service_is_a_few_elements() {
    let mut objects = Catalog::default();
    for number in 0..1000u32 {
        let name = format!("s{number}");
        put(
            &mut objects,
            &service(
                &name,
                &format!("10.96.{}.{}", 1 + number / 250, number % 250),
                json!({}),
            ),
        );
        put(
            &mut objects,
            &slice(&name, 8080, &[("10.244.1.2", "node1"), ("10.244.2.2", "node2")]),
        );
    }
    let mut state = State::new(&config());
    state.update(plans(&objects, &node1()));
    let change = |objects: &mut Catalog, object: &Value, state: &mut State| {
        let id = put(objects, object).expect("it changed");
        let entry = objects.get(&id.0, &id.1);
        state
            .update([(id.clone(), entry.map(|entry| plan(entry, &node1())).unwrap_or_default())])
            .to_string()
    };
    let joined = slice(
        "s7",
        8080,
        &[
            ("10.244.1.2", "node1"),
            ("10.244.1.3", "node1"),
            ("10.244.2.2", "node2"),
        ],
    );
    expect![[r#"
        add chain inet corten-services spread-v4-3
        add rule inet corten-services spread-v4-3 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @endpoints-v4
        delete element inet corten-services endpoints-v4 { 10.96.1.7 . tcp . 80 . 0x00000001 }
        delete element inet corten-services vips-v4 { 10.96.1.7 . tcp . 80 }
        add element inet corten-services endpoints-v4 { 10.96.1.7 . tcp . 80 . 0x00000001 : 10.244.1.3 . 8080, 10.96.1.7 . tcp . 80 . 0x00000002 : 10.244.2.2 . 8080 }
        add element inet corten-services hairpin-v4 { 10.244.1.3 . 10.244.1.3 }
        add element inet corten-services vips-v4 { 10.96.1.7 . tcp . 80 : goto spread-v4-3 }
    "#]].assert_eq(&change(&mut objects, &joined, &mut state));
    let one = slice("s7", 8080, &[("10.244.1.3", "node1")]);
    expect![[r#"
        add chain inet corten-services spread-v4-1
        add rule inet corten-services spread-v4-1 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 1 map @endpoints-v4
        delete element inet corten-services endpoints-v4 { 10.96.1.7 . tcp . 80 . 0x00000000, 10.96.1.7 . tcp . 80 . 0x00000001, 10.96.1.7 . tcp . 80 . 0x00000002 }
        delete element inet corten-services vips-v4 { 10.96.1.7 . tcp . 80 }
        add element inet corten-services endpoints-v4 { 10.96.1.7 . tcp . 80 . 0x00000000 : 10.244.1.3 . 8080 }
        add element inet corten-services vips-v4 { 10.96.1.7 . tcp . 80 : goto spread-v4-1 }
        flush chain inet corten-services spread-v4-3
        delete chain inet corten-services spread-v4-3
    "#]].assert_eq(&change(&mut objects, &one, &mut state));
    let sticky = service("s7", "10.96.1.7", json!({ "sessionAffinity": "ClientIP" }));
    expect![[r#"
        add set inet corten-services sticky-10.96.1.7-6-80-10.244.1.3-8080 { type ipv4_addr; }
        add chain inet corten-services sticky-10.96.1.7-6-80
        add chain inet corten-services sticky-10.96.1.7-6-80-10.244.1.3-8080
        add rule inet corten-services sticky-10.96.1.7-6-80 ip saddr @sticky-10.96.1.7-6-80-10.244.1.3-8080 goto sticky-10.96.1.7-6-80-10.244.1.3-8080
        add rule inet corten-services sticky-10.96.1.7-6-80 ip daddr . meta l4proto . th dport . numgen random mod 1 vmap @sticky-v4
        add rule inet corten-services sticky-10.96.1.7-6-80-10.244.1.3-8080 update @sticky-10.96.1.7-6-80-10.244.1.3-8080 { ip saddr timeout 3h } dnat ip to 10.244.1.3:8080
        delete element inet corten-services endpoints-v4 { 10.96.1.7 . tcp . 80 . 0x00000000 }
        delete element inet corten-services vips-v4 { 10.96.1.7 . tcp . 80 }
        add element inet corten-services sticky-v4 { 10.96.1.7 . tcp . 80 . 0x00000000 : goto sticky-10.96.1.7-6-80-10.244.1.3-8080 }
        add element inet corten-services vips-v4 { 10.96.1.7 . tcp . 80 : goto sticky-10.96.1.7-6-80 }
        flush chain inet corten-services spread-v4-1
        delete chain inet corten-services spread-v4-1
    "#]].assert_eq(&change(&mut objects, &sticky, &mut state));
    let none = slice("s7", 8080, &[]);
    expect![[r#"
        delete element inet corten-services hairpin-v4 { 10.244.1.3 . 10.244.1.3 }
        delete element inet corten-services sticky-v4 { 10.96.1.7 . tcp . 80 . 0x00000000 }
        delete element inet corten-services vips-v4 { 10.96.1.7 . tcp . 80 }
        flush chain inet corten-services sticky-10.96.1.7-6-80
        flush chain inet corten-services sticky-10.96.1.7-6-80-10.244.1.3-8080
        delete chain inet corten-services sticky-10.96.1.7-6-80
        delete chain inet corten-services sticky-10.96.1.7-6-80-10.244.1.3-8080
        delete set inet corten-services sticky-10.96.1.7-6-80-10.244.1.3-8080
    "#]]
    .assert_eq(&change(&mut objects, &none, &mut state));
}

#[test]
fn a_thousand_services_fit_and_change_quickly() {
    isolate!();
    let mut objects = Catalog::default();
    let web = |number: u32| {
        (
            format!("s{number}"),
            format!("10.96.{}.{}", 1 + number / 250, number % 250),
        )
    };
    for (name, address) in (0..1000).map(web) {
        put(
            &mut objects,
            &service(&name, &address, json!({ "ports": [{ "port": 80, "nodePort": 30000 }] })),
        );
        put(
            &mut objects,
            &slice(&name, 8080, &[("10.244.1.2", "node1"), ("10.244.2.2", "node2")]),
        );
    }
    let mut state = State::new(&config());
    let begun = std::time::Instant::now();
    state.update(plans(&objects, &node1()));
    let planned = begun.elapsed();
    let mut nft = Nft::open().unwrap();
    nft.apply_in_parts(&Transaction::replace(&state.table())).unwrap();
    println!(
        "1000 services: planned in {planned:?}, in the kernel after {:?}",
        begun.elapsed()
    );
    let begun = std::time::Instant::now();
    for (name, _) in (0..100).map(web) {
        let id = put(&mut objects, &slice(&name, 8080, &[("10.244.1.3", "node1")])).expect("it changed");
        let vips = plan(objects.get(&id.0, &id.1).expect("it is there"), &node1());
        nft.apply(&state.update([(id, vips)])).unwrap();
    }
    println!("a change takes {:?}", begun.elapsed() / 100);
    let held = nft
        .image(Family::Inet, "corten-services")
        .unwrap()
        .expect("the table is there");
    assert_eq!(held, state.table().image());
}

/// Random services, as small numbers decide.
fn random_objects(seed: &mut u64) -> Vec<Value> {
    let mut next = |below: u64| {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % below
    };
    let name = format!("s{}", next(5));
    let mut spec = json!({ "externalIPs": if next(3) == 0 { json!(["203.0.113.9"]) } else { json!([]) } });
    if next(3) == 0 {
        spec["sessionAffinity"] = "ClientIP".into();
    }
    if next(3) == 0 {
        spec["externalTrafficPolicy"] = "Local".into();
    }
    if next(4) == 0 {
        spec["internalTrafficPolicy"] = "Local".into();
    }
    let all = [
        ("10.244.1.2", "node1"),
        ("10.244.1.3", "node1"),
        ("10.244.2.2", "node2"),
    ];
    let some: Vec<_> = all.into_iter().filter(|_| next(2) == 0).collect();
    vec![
        service(&name, &format!("10.96.3.{}", &name[1..]), spec),
        slice(&name, 8080, &some),
    ]
}

#[test]
fn incremental_equals_from_scratch() {
    isolate!();
    let mut nft = Nft::open().unwrap();
    let mut seed = 7;
    let (mut objects, mut state) = (Catalog::default(), State::new(&config()));
    nft.apply(&Transaction::replace(&state.table())).unwrap();
    for step in 0..150 {
        let mut changed = Vec::new();
        for object in random_objects(&mut seed) {
            let gone = step % 7 == 3;
            let id = match object["endpoints"].is_null() {
                true => objects.set_service(&object, !gone),
                false => objects.set_slice(&object, true),
            };
            changed.extend(id);
        }
        let plan_of = |id: ServiceId| {
            let vips = objects
                .get(&id.0, &id.1)
                .map(|entry| plan(entry, &node1()))
                .unwrap_or_default();
            (id, vips)
        };
        let transaction = state.update(changed.into_iter().map(plan_of));
        if let Err(error) = nft.apply(&transaction) {
            panic!("step {step}: {error} in\n{transaction}");
        }
        let mut fresh = State::new(&config());
        fresh.update(plans(&objects, &node1()));
        assert_eq!(state.table().to_string(), fresh.table().to_string(), "step {step}");
        let held = nft
            .image(Family::Inet, "corten-services")
            .unwrap()
            .expect("the table is there");
        assert_eq!(held, state.table().image(), "step {step}");
    }
}

/// A cluster with a pod that answers on port 8080 with its name and its client's address.
struct Cluster {
    network: Arc<Network>,
    pods: Vec<(String, NetNs, Vec<IpAddr>)>,
    catalog: Catalog,
    places: Vec<(NodeView, State, Nft)>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn new(pods: &[(&str, &str)]) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let plugins = crate::network::tests::plugins();
        let network = Network::create(NetworkConfig::new(2, dir.path().into(), plugins))
            .await
            .unwrap();
        let mut places = Vec::new();
        for node in network.nodes() {
            let view = NodeView {
                name: node.name().into(),
                addresses: node.addresses(),
            };
            places.push((
                view,
                State::new(network.config()),
                node.netns().run(Nft::open).unwrap().unwrap(),
            ));
        }
        let view = NodeView {
            name: String::new(),
            addresses: vec![],
        };
        places.push((
            view,
            State::new(network.config()),
            network.netns().run(Nft::open).unwrap().unwrap(),
        ));
        for (_, state, nft) in &mut places {
            nft.apply(&Transaction::replace(&state.table())).unwrap();
        }
        let mut cluster = Cluster {
            network: Arc::new(network),
            pods: vec![],
            catalog: Catalog::default(),
            places,
            _dir: dir,
        };
        for (name, node) in pods {
            let netns = NetNs::create().unwrap();
            let pod = PodRef {
                namespace: "default".into(),
                name: (*name).into(),
                uid: (*name).into(),
            };
            let addresses = cluster.network.attach(node, &pod, &netns.path()).await.unwrap();
            serve(name, &netns);
            cluster.pods.push(((*name).into(), netns, addresses));
        }
        cluster
    }

    fn put(&mut self, object: &Value) {
        let id = put(&mut self.catalog, object).expect("it changed");
        for (view, state, nft) in &mut self.places {
            let entry = self.catalog.get(&id.0, &id.1);
            let vips = entry.map(|entry| plan(entry, view)).unwrap_or_default();
            nft.apply(&state.update([(id.clone(), vips)])).unwrap();
        }
    }

    fn netns(&self, name: &str) -> &NetNs {
        match name {
            "runtime" => self.network.netns(),
            node if node.starts_with("node") => self.network.node(node).unwrap().netns(),
            pod => &self.pods.iter().find(|(name, ..)| name == pod).unwrap().1,
        }
    }

    /// Who answers `from` at `to`, and what address it saw.
    fn ask(&self, from: &str, to: &str) -> String {
        let to: SocketAddr = to.parse().unwrap();
        let answer = self.netns(from).run(|| {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
            stream.set_read_timeout(Some(Duration::from_secs(3)))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            std::io::Result::Ok(text)
        });
        answer.unwrap().unwrap_or_else(|error| format!("{:?}", error.kind()))
    }
}

pub(super) fn serve(name: &str, netns: &NetNs) {
    for any in ["0.0.0.0:8080", "[::]:8080"] {
        let bind = || {
            let domain = if any.starts_with('[') {
                rustix::net::AddressFamily::INET6
            } else {
                rustix::net::AddressFamily::INET
            };
            let socket = rustix::net::socket(domain, rustix::net::SocketType::STREAM, None)?;
            if any.starts_with('[') {
                rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            }
            rustix::net::bind(&socket, &any.parse::<SocketAddr>().unwrap())?;
            rustix::net::listen(&socket, 16)?;
            rustix::io::Result::Ok(TcpListener::from(socket))
        };
        let listener = netns.run(bind).unwrap().unwrap();
        let name = name.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip();
                write!(stream, "{name} {peer}").ok();
            }
        });
    }
    let socket = netns.run(|| UdpSocket::bind("0.0.0.0:8080")).unwrap().unwrap();
    let name = name.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer).ok();
        }
    });
}

#[test]
fn packets_reach_services() {
    let _built = crate::network::tests::plugins();
    isolate!();
    crate::network::tests::run(async {
        let mut cluster = Cluster::new(&[("a", "node1"), ("b", "node1"), ("c", "node2")]).await;
        // One endpoint on the client's own node: the answer must pass the node's translation.
        cluster.put(&service(
            "b",
            "10.96.3.4",
            json!({ "ports": [{ "port": 80, "nodePort": 30080 }], "externalIPs": ["203.0.113.9"] }),
        ));
        assert_eq!(cluster.ask("a", "10.96.3.4:80"), "ConnectionRefused", "no endpoints");
        cluster.put(&slice("b", 8080, &[("10.244.1.3", "node1")]));
        assert_eq!(cluster.ask("a", "10.96.3.4:80"), "b 10.244.1.2", "the same node");
        assert_eq!(cluster.ask("c", "10.96.3.4:80"), "b 10.244.2.2", "another node");
        assert_eq!(
            cluster.ask("b", "10.96.3.4:80"),
            "b 10.244.1.1",
            "itself: the node takes its place"
        );
        assert_eq!(
            cluster.ask("node1", "10.96.3.4:80"),
            "b 192.168.77.11",
            "the endpoint's node"
        );
        assert_eq!(
            cluster.ask("node2", "10.96.3.4:80"),
            "b 192.168.77.12",
            "another node itself"
        );
        assert_eq!(
            cluster.ask("runtime", "10.96.3.4:80"),
            "b 192.168.77.1",
            "the API server, for webhooks"
        );
        assert_eq!(cluster.ask("a", "10.96.3.4:81"), "ConnectionRefused", "no such port");
        assert_eq!(
            cluster.ask("a", "10.96.200.200:80"),
            "ConnectionRefused",
            "no such service"
        );
        assert_eq!(
            cluster.ask("c", "192.168.77.11:30080"),
            "b 10.244.1.1",
            "the endpoint's node's port"
        );
        assert_eq!(
            cluster.ask("a", "192.168.77.12:30080"),
            "b 192.168.77.12",
            "another node's port"
        );
        assert_eq!(
            cluster.ask("c", "203.0.113.9:80"),
            "b 192.168.77.12",
            "an external address"
        );

        // Two endpoints: both are used.
        cluster.put(&slice("b", 8080, &[("10.244.1.3", "node1"), ("10.244.2.2", "node2")]));
        let answers: std::collections::BTreeSet<_> = (0..40).map(|_| cluster.ask("a", "10.96.3.4:80")).collect();
        assert_eq!(
            answers.into_iter().collect::<Vec<_>>(),
            ["b 10.244.1.2", "c 10.244.1.2"]
        );

        // Only those on the client's node.
        let near = json!({ "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local", "ports": [{ "port": 80, "nodePort": 30081 }] });
        cluster.put(&service("near", "10.96.3.5", near));
        cluster.put(&slice(
            "near",
            8080,
            &[("10.244.1.3", "node1"), ("10.244.2.2", "node2")],
        ));
        for _ in 0..10 {
            assert_eq!(cluster.ask("a", "10.96.3.5:80"), "b 10.244.1.2");
            assert_eq!(
                cluster.ask("runtime", "192.168.77.12:30081"),
                "c 192.168.77.1",
                "the client's address stays"
            );
        }

        // A client keeps its endpoint.
        cluster.put(&service("keep", "10.96.3.6", json!({ "sessionAffinity": "ClientIP" })));
        cluster.put(&slice(
            "keep",
            8080,
            &[("10.244.1.3", "node1"), ("10.244.2.2", "node2")],
        ));
        for client in ["a", "c"] {
            let answers: std::collections::BTreeSet<_> = (0..20).map(|_| cluster.ask(client, "10.96.3.6:80")).collect();
            assert_eq!(answers.len(), 1, "{answers:?}");
        }

        // IPv6, and its hairpin.
        cluster.put(&service("six", "fd00:10:96::55", json!({})));
        cluster.put(&slice("six", 8080, &[("fd00:10:244:1::3", "node1")]));
        assert_eq!(cluster.ask("a", "[fd00:10:96::55]:80"), "b fd00:10:244:1::2");
        assert_eq!(cluster.ask("c", "[fd00:10:96::55]:80"), "b fd00:10:244:2::2");
        assert_eq!(cluster.ask("b", "[fd00:10:96::55]:80"), "b fd00:10:244:1::1");
        assert_eq!(cluster.ask("a", "[fd00:10:96::56]:80"), "ConnectionRefused");

        // UDP.
        let mut udp = slice("udp", 8080, &[("10.244.2.2", "node2")]);
        udp["ports"][0]["protocol"] = "UDP".into();
        cluster.put(&service(
            "udp",
            "10.96.3.7",
            json!({ "ports": [{ "port": 53, "protocol": "UDP" }] }),
        ));
        cluster.put(&udp);
        let answer = cluster.netns("a").run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            socket.send_to(b"hello", "10.96.3.7:53").unwrap();
            let mut buffer = [0; 64];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            format!("{} from {from}", String::from_utf8_lossy(&buffer[..length]))
        });
        assert_eq!(answer.unwrap(), "c 10.244.1.2 from 10.96.3.7:53");
    });
}
