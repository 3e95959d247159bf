//! Golden text, and the same rules through the kernel and, where it is installed, past the `nft` program.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use expect_test::{Expect, expect};

use super::*;
use crate::testing::{Isolation, isolated};

macro_rules! isolate {
    () => {
        match isolated() {
            Isolation::Inside => {}
            Isolation::Done => return,
            Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
        }
    };
}

/// What `nft` lists, or `None` where it is not installed.
fn listed() -> Option<String> {
    // Where programs for the administrator are kept apart, they are not on an ordinary user's path.
    let mut programs = ["nft", "/usr/sbin/nft", "/sbin/nft"].into_iter();
    let output = programs.find_map(|program| Command::new(program).args(["list", "ruleset"]).output().ok())?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const MESH: u32 = 0x539;
const REPLY: u32 = 0x111;
const MASK: u32 = 0xfff;

fn masked(of: Expression) -> Expression {
    Expression::Masked(Box::new(of), MASK)
}

fn not_loopback() -> Statement {
    Statement::is_not(Expression::Ip(Side::Destination), Value::V4(Ipv4Addr::LOCALHOST))
}

/// Rules with everything that redirection inside a pod needs.
fn redirection() -> Table {
    let tcp = || Statement::is(Expression::L4Proto, Value::Protocol(6));
    let unmarked = || Statement::is_not(masked(Expression::Mark), Value::Number(MESH));
    let port = |transport, port| Statement::is(Expression::Port(transport, Side::Destination), Value::Port(port));
    Table {
        family: Family::Inet,
        name: "pod".into(),
        sets: vec![],
        chains: vec![
            Chain::base(
                "prerouting",
                ChainKind::Nat,
                Hook::Prerouting,
                -100,
                [
                    Rule::new([
                        Statement::is_not(
                            Expression::TcpFlags(tcp_flags::FIN | tcp_flags::SYN | tcp_flags::RST | tcp_flags::ACK),
                            Value::Flags(tcp_flags::SYN),
                        ),
                        Statement::accept(),
                    ]),
                    Rule::new([Statement::jump("inbound")]),
                ],
            ),
            Chain::base(
                "output",
                ChainKind::Nat,
                Hook::Output,
                -100,
                [
                    Rule::new([
                        Statement::is_not(Expression::OifName, Value::Interface("lo".into())),
                        unmarked(),
                        port(Transport::Udp, 53),
                        Statement::Counter,
                        Statement::Redirect(15053),
                    ]),
                    Rule::new([
                        not_loopback(),
                        tcp(),
                        unmarked(),
                        Statement::Counter,
                        Statement::Redirect(15001),
                    ]),
                ],
            ),
            Chain::base(
                "mangle-prerouting",
                ChainKind::Filter,
                Hook::Prerouting,
                -150,
                [Rule::new([
                    Statement::is(masked(Expression::Mark), Value::Number(MESH)),
                    Statement::Counter,
                    Statement::SetCtMark { and: !MASK, xor: REPLY },
                ])],
            ),
            Chain::base(
                "mangle-output",
                ChainKind::Route,
                Hook::Output,
                -150,
                [Rule::new([
                    Statement::is(masked(Expression::CtMark), Value::Number(REPLY)),
                    Statement::Counter,
                    Statement::RestoreMark,
                ])],
            ),
            Chain::base(
                "raw",
                ChainKind::Filter,
                Hook::Output,
                -300,
                [
                    Rule::new([port(Transport::Udp, 53), Statement::SetCtZone(1)]),
                    Rule::new([port(Transport::Tcp, 9), Statement::Notrack]),
                ],
            ),
            Chain::regular(
                "inbound",
                [
                    Rule::new([
                        tcp(),
                        Statement::is(Expression::Ip(Side::Source), Value::V4([169, 254, 7, 127].into())),
                        Statement::Counter,
                        Statement::accept(),
                    ])
                    .comment("probes"),
                    Rule::new([
                        not_loopback(),
                        Statement::is_not(Expression::Port(Transport::Tcp, Side::Destination), Value::Port(15008)),
                        unmarked(),
                        Statement::Counter,
                        Statement::Redirect(15006),
                    ]),
                ],
            ),
        ],
    }
}

/// Rules with sets and maps.
fn services() -> Table {
    let key = |last: Option<Expression>| {
        let mut parts = vec![
            Expression::Ip(Side::Destination),
            Expression::L4Proto,
            Expression::Port(Transport::Any, Side::Destination),
        ];
        parts.extend(last);
        Expression::Concat(parts)
    };
    let vip = || [Value::V4([10, 96, 0, 1].into()), Value::Protocol(6), Value::Port(443)];
    let vips = Set {
        elements: vec![Element::verdict(vip(), Verdict::Goto("one".into()))],
        ..Set::vmap("vips", &[Type::V4, Type::Protocol, Type::Port])
    };
    let endpoints = Set {
        elements: vec![Element::values(
            [&vip()[..], &[Value::Number(0)]].concat(),
            [Value::V4([192, 168, 77, 1].into()), Value::Port(6443)],
        )],
        ..Set::map(
            "endpoints",
            &[Type::V4, Type::Protocol, Type::Port, Type::Mark],
            &[Type::V4, Type::Port],
        )
    };
    let hairpin = Set {
        elements: vec![Element {
            comment: Some("echo".into()),
            ..Element::new([Value::V4([10, 244, 1, 2].into()), Value::V4([10, 244, 1, 2].into())])
        }],
        ..Set::plain("hairpin", &[Type::V4, Type::V4])
    };
    let pair = Expression::Concat(vec![Expression::Ip(Side::Source), Expression::Ip(Side::Destination)]);
    Table {
        family: Family::Inet,
        name: "services".into(),
        sets: vec![vips, endpoints, hairpin, Set::dynamic("recent", &[Type::V4])],
        chains: vec![
            Chain::base(
                "prerouting",
                ChainKind::Nat,
                Hook::Prerouting,
                -100,
                [Rule::new([Statement::Vmap(key(None), "vips".into())])],
            ),
            Chain::base(
                "postrouting",
                ChainKind::Nat,
                Hook::Postrouting,
                100,
                [
                    Rule::new([Statement::InSet(pair, false, "hairpin".into()), Statement::Masquerade]),
                    Rule::new([Statement::Any(Expression::Mark, 0x4000), Statement::Masquerade]),
                ],
            ),
            Chain::base(
                "forward",
                ChainKind::Filter,
                Hook::Forward,
                0,
                [
                    Rule::new([
                        Statement::is(
                            Expression::Ip(Side::Destination),
                            Value::Net("10.96.0.0/16".parse().unwrap()),
                        ),
                        Statement::Any(Expression::CtState, ct_state::NEW),
                        Statement::Reject,
                    ]),
                    Rule::new([
                        Statement::is(Expression::FibDestinationType, Value::Local),
                        Statement::Counter,
                    ]),
                ],
            ),
            Chain::regular(
                "one",
                [Rule::new([
                    Statement::SetMark {
                        and: !0x4000,
                        xor: 0x4000,
                    },
                    Statement::Dnat(Nat::Map {
                        v6: false,
                        key: key(Some(Expression::Random { modulus: 1, offset: 0 })),
                        map: "endpoints".into(),
                    }),
                ])],
            ),
            Chain::regular(
                "sticky",
                [
                    Rule::new([
                        Statement::Update(
                            Expression::Ip(Side::Source),
                            Duration::from_secs(10800),
                            "recent".into(),
                        ),
                        Statement::Dnat(Nat::To([10, 244, 1, 2].into(), Some(8080))),
                    ]),
                    Rule::new([Statement::Dnat(Nat::To("fd00::2".parse().unwrap(), Some(8080)))]),
                ],
            ),
        ],
    }
}

/// The text is as expected, the kernel takes the rules and gives them back, and `nft` lists them as we write them.
#[track_caller]
fn check(table: &Table, expect: &Expect) {
    expect.assert_eq(&table.to_string().replace('\t', "  "));
    let mut nft = Nft::open().unwrap();
    nft.apply(&Transaction::replace(table)).unwrap();
    let held = nft
        .image(table.family, &table.name)
        .unwrap()
        .expect("the table is there");
    assert_eq!(held, table.image());
    let listed = listed();
    if let Some(text) = &listed {
        assert_eq!(words(text), words(&table.to_string()), "{text}");
    }
    nft.apply(&Transaction::replace(table)).expect("again is no error");
    nft.apply(&Transaction::remove(table.family, &table.name)).unwrap();
    assert_eq!(nft.image(table.family, &table.name).unwrap(), None);
    if listed.is_none() {
        corten_rt::skip!("nft is not installed (package nftables)");
    }
}

#[test]
fn redirection_rules_reach_the_kernel() {
    isolate!();
    check(
        &redirection(),
        &expect![[r#"
        table inet pod {
          chain prerouting {
            type nat hook prerouting priority dstnat; policy accept;
            tcp flags != syn / fin,syn,rst,ack accept
            jump inbound
          }

          chain output {
            type nat hook output priority -100; policy accept;
            oifname != "lo" meta mark & 0x00000fff != 0x00000539 udp dport 53 counter packets 0 bytes 0 redirect to :15053
            ip daddr != 127.0.0.1 meta l4proto tcp meta mark & 0x00000fff != 0x00000539 counter packets 0 bytes 0 redirect to :15001
          }

          chain mangle-prerouting {
            type filter hook prerouting priority mangle; policy accept;
            meta mark & 0x00000fff == 0x00000539 counter packets 0 bytes 0 ct mark set ct mark & 0xfffff111 | 0x00000111
          }

          chain mangle-output {
            type route hook output priority mangle; policy accept;
            ct mark & 0x00000fff == 0x00000111 counter packets 0 bytes 0 meta mark set ct mark
          }

          chain raw {
            type filter hook output priority raw; policy accept;
            udp dport 53 ct zone set 1
            tcp dport 9 notrack
          }

          chain inbound {
            meta l4proto tcp ip saddr 169.254.7.127 counter packets 0 bytes 0 accept comment "probes"
            ip daddr != 127.0.0.1 tcp dport != 15008 meta mark & 0x00000fff != 0x00000539 counter packets 0 bytes 0 redirect to :15006
          }
        }
    "#]],
    );
}

#[test]
fn service_rules_reach_the_kernel() {
    isolate!();
    check(
        &services(),
        &expect![[r#"
        table inet services {
          map vips {
            type ipv4_addr . inet_proto . inet_service : verdict
            elements = { 10.96.0.1 . tcp . 443 : goto one }
          }

          map endpoints {
            type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service
            elements = { 10.96.0.1 . tcp . 443 . 0x00000000 : 192.168.77.1 . 6443 }
          }

          set hairpin {
            type ipv4_addr . ipv4_addr
            elements = { 10.244.1.2 . 10.244.1.2 comment "echo" }
          }

          set recent {
            type ipv4_addr
            size 65535
            flags dynamic,timeout
          }

          chain prerouting {
            type nat hook prerouting priority dstnat; policy accept;
            ip daddr . meta l4proto . th dport vmap @vips
          }

          chain postrouting {
            type nat hook postrouting priority srcnat; policy accept;
            ip saddr . ip daddr @hairpin masquerade
            meta mark & 0x00004000 != 0x00000000 masquerade
          }

          chain forward {
            type filter hook forward priority filter; policy accept;
            ip daddr 10.96.0.0/16 ct state new reject
            fib daddr type local counter packets 0 bytes 0
          }

          chain one {
            meta mark set meta mark | 0x00004000 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 1 map @endpoints
          }

          chain sticky {
            update @recent { ip saddr timeout 3h } dnat ip to 10.244.1.2:8080
            dnat ip6 to [fd00::2]:8080
          }
        }
    "#]],
    );
}

#[test]
fn a_transaction_is_all_or_nothing_and_says_what_failed() {
    isolate!();
    let mut nft = Nft::open().unwrap();
    let first = nft.generation().unwrap();
    nft.apply(&Transaction::replace(&services())).unwrap();
    let second = nft.generation().unwrap();
    assert_ne!(first, second);
    let before = nft.image(Family::Inet, "services").unwrap();
    let mut transaction = Transaction::new(Family::Inet, "services");
    let element = |last| Element::new([Value::V4([10, 244, 1, 2].into()), Value::V4([10, 244, 1, last].into())]);
    transaction.push(Operation::AddElements("hairpin".into(), vec![element(9)]));
    transaction.push(Operation::DeleteElements("hairpin".into(), vec![element(77)]));
    let error = nft.apply(&transaction).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("cannot delete element inet services hairpin { 10.244.1.2 . 10.244.1.77 }: "),
        "{error}"
    );
    assert_eq!(nft.image(Family::Inet, "services").unwrap(), before, "nothing changed");
    assert_eq!(nft.generation().unwrap(), second);
}

#[test]
fn many_elements_go_in_parts() {
    isolate!();
    let mut table = services();
    table.sets[2].elements = (0..30_000u32)
        .map(|n| Element::new([Value::V4((0x0a00_0000 + n).into()), Value::V4((0x0b00_0000 + n).into())]))
        .collect();
    let mut nft = Nft::open().unwrap();
    nft.apply_in_parts(&Transaction::replace(&table)).unwrap();
    let held = nft
        .image(Family::Inet, "services")
        .unwrap()
        .expect("the table is there");
    assert_eq!(held, table.image());
}

#[test]
fn random_bytes_are_no_rule_but_no_panic() {
    for length in 0..40u8 {
        let bytes: Vec<u8> = (0..length).map(|n| n.wrapping_mul(37) ^ length).collect();
        for attribute in crate::netlink::attributes(&bytes) {
            let _ = Instruction::decode(attribute);
        }
    }
}
