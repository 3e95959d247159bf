use std::net::SocketAddr;

use serde_json::{Value, json};

use super::*;
use crate::Call;

/// What a connection has, as a table writes it.
struct Has {
    destination: &'static str,
    source: &'static str,
    transport: &'static str,
    protocols: &'static [&'static str],
    server_name: &'static str,
}

const PLAIN: Has = Has {
    destination: "10.0.0.1:80",
    source: "10.0.0.2:40000",
    transport: "raw_buffer",
    protocols: &[],
    server_name: "",
};

#[track_caller]
fn check(chains: &Value, has: &Has, expected: Result<&str, Refusal>) {
    check_listener(&json!({ "filterChains": chains }), has, expected);
}

#[track_caller]
fn check_listener(listener: &Value, has: &Has, expected: Result<&str, Refusal>) {
    let listener: Listener = corten_envoy::message_from_json(listener).unwrap();
    let destination: SocketAddr = has.destination.parse().unwrap();
    let mut call = Call::new(destination);
    call.source = has.source.parse().unwrap();
    let seen = ListenerMatched {
        name: "l".to_owned(),
        address: String::new(),
        because: String::new(),
        transport: has.transport.to_owned(),
        protocols: has.protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
        server_name: has.server_name.to_owned(),
    };
    let found = find(&listener, &seen, &Facts::new(&call));
    let found = found.map(|(_, matched)| matched.name).map_err(|none| none.error);
    assert_eq!(found.as_deref().map_err(|error| *error), expected);
}

fn chain(name: &str, demand: Value) -> Value {
    json!({ "name": name, "filterChainMatch": demand })
}

#[test]
fn a_port_beats_none_and_there_is_no_way_back() {
    let chains = json!([
        chain("any", json!({})),
        chain("port", json!({ "destinationPort": 80, "transportProtocol": "tls" })),
    ]);
    let tls = Has {
        transport: "tls",
        ..PLAIN
    };
    check(&chains, &tls, Ok("port"));
    check(
        &chains,
        &Has {
            destination: "10.0.0.1:81",
            ..PLAIN
        },
        Ok("any"),
    );
    // The chain without a port would take it, but the port has been decided before the transport is asked for.
    check(&chains, &PLAIN, Err(Refusal::NoFilterChain));
}

#[test]
fn the_longest_range_wins() {
    let range =
        |address: &str, length: u32| json!({ "prefixRanges": [{ "addressPrefix": address, "prefixLen": length }] });
    let chains = json!([
        chain("any", json!({})),
        chain("wide", range("10.0.0.0", 8)),
        chain("exact", range("10.0.0.1", 32)),
        chain(
            "both",
            json!({ "prefixRanges": [
                { "addressPrefix": "10.0.0.0", "prefixLen": 16 }, { "addressPrefix": "192.168.0.0", "prefixLen": 16 },
            ]})
        ),
    ]);
    for (destination, expected) in [
        ("10.0.0.1:80", "exact"),
        ("10.0.0.2:80", "both"),
        ("10.1.0.1:80", "wide"),
        ("192.168.1.1:80", "both"),
        ("11.0.0.1:80", "any"),
        ("[::1]:80", "any"),
    ] {
        check(&chains, &Has { destination, ..PLAIN }, Ok(expected));
    }
    let everything = json!([
        chain("all", range("0.0.0.0", 0)),
        chain("tls", json!({ "transportProtocol": "tls" }))
    ]);
    check(
        &everything,
        &Has {
            transport: "tls",
            ..PLAIN
        },
        Ok("tls"),
    );
}

#[test]
fn server_names_are_exact_then_the_longest_wildcard_then_none() {
    let named = |name: &str| json!({ "serverNames": [name] });
    let chains = json!([
        chain("none", json!({})),
        chain("com", named("*.com")),
        chain("example", named("*.example.com")),
        chain("exact", named("a.example.com")),
    ]);
    for (server_name, expected) in [
        ("a.example.com", "exact"),
        ("b.example.com", "example"),
        ("c.b.example.com", "example"),
        ("example.com", "com"),
        ("example.org", "none"),
        ("com", "none"),
        ("", "none"),
    ] {
        check(
            &chains,
            &Has {
                server_name,
                transport: "tls",
                ..PLAIN
            },
            Ok(expected),
        );
    }
    let exact_but_plain = json!([
        chain("none", json!({})),
        chain(
            "exact",
            json!({ "serverNames": ["a"], "transportProtocol": "raw_buffer" })
        )
    ]);
    check(
        &exact_but_plain,
        &Has {
            server_name: "a",
            transport: "tls",
            ..PLAIN
        },
        Err(Refusal::NoFilterChain),
    );
}

#[test]
fn transports_and_application_protocols_as_permissive_ports_have_them() {
    let istio = [
        "istio",
        "istio-peer-exchange",
        "istio-http/1.0",
        "istio-http/1.1",
        "istio-h2",
    ];
    let http = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
    let chains = json!([
        chain(
            "mtls-http",
            json!({ "transportProtocol": "tls", "applicationProtocols": http })
        ),
        chain(
            "http",
            json!({ "transportProtocol": "raw_buffer", "applicationProtocols": ["http/1.1", "h2c"] })
        ),
        chain(
            "mtls-tcp",
            json!({ "transportProtocol": "tls", "applicationProtocols": ["istio-peer-exchange", "istio"] })
        ),
        chain("tcp", json!({ "transportProtocol": "raw_buffer" })),
        chain("tls", json!({ "transportProtocol": "tls" })),
    ]);
    let cases: [(&str, &[&str], &str); 7] = [
        ("tls", &["istio-http/1.1"], "mtls-http"),
        ("tls", &["istio-http/1.1", "istio", "http/1.1"], "mtls-http"),
        ("tls", &["istio"], "mtls-tcp"),
        ("tls", &["h2", "http/1.1"], "tls"),
        ("tls", &[], "tls"),
        ("raw_buffer", &["h2c"], "http"),
        ("raw_buffer", &[], "tcp"),
    ];
    for (transport, protocols, expected) in cases {
        check(
            &chains,
            &Has {
                transport,
                protocols,
                ..PLAIN
            },
            Ok(expected),
        );
    }
    // A port that wants Istio's protocols only has nothing for other TLS.
    let strict = json!([
        chain(
            "mtls",
            json!({ "transportProtocol": "tls", "applicationProtocols": istio })
        ),
        chain("plain", json!({ "transportProtocol": "raw_buffer" })),
    ]);
    check(
        &strict,
        &Has {
            transport: "tls",
            protocols: &["h2"],
            ..PLAIN
        },
        Err(Refusal::NoFilterChain),
    );
}

#[test]
fn the_first_protocol_of_the_client_that_somebody_wants_decides() {
    let chains = json!([
        chain("one", json!({ "applicationProtocols": ["http/1.1"] })),
        chain("two", json!({ "applicationProtocols": ["h2"] })),
    ]);
    check(
        &chains,
        &Has {
            protocols: &["x", "h2", "http/1.1"],
            ..PLAIN
        },
        Ok("two"),
    );
    check(
        &chains,
        &Has {
            protocols: &["http/1.1", "h2"],
            ..PLAIN
        },
        Ok("one"),
    );
}

#[test]
fn sources_are_asked_last() {
    let chains = json!([
        chain("any", json!({})),
        chain(
            "near",
            json!({ "sourcePrefixRanges": [{ "addressPrefix": "10.0.0.0", "prefixLen": 24 }] })
        ),
        chain(
            "port",
            json!({ "sourcePrefixRanges": [{ "addressPrefix": "10.0.0.0", "prefixLen": 24 }], "sourcePorts": [1, 2] })
        ),
        chain(
            "direct",
            json!({ "directSourcePrefixRanges": [{ "addressPrefix": "10.9.0.0", "prefixLen": 16 }] })
        ),
    ]);
    for (source, expected) in [
        ("10.0.0.9:3", "near"),
        ("10.0.0.9:2", "port"),
        ("10.1.0.9:2", "any"),
        ("10.9.0.9:2", "direct"),
    ] {
        check(&chains, &Has { source, ..PLAIN }, Ok(expected));
    }
    let kinds = json!([
        chain("local", json!({ "sourceType": "SAME_IP_OR_LOOPBACK" })),
        chain("external", json!({ "sourceType": "EXTERNAL" })),
        chain("any", json!({})),
    ]);
    check(
        &kinds,
        &Has {
            source: "127.0.0.1:1",
            ..PLAIN
        },
        Ok("local"),
    );
    check(
        &kinds,
        &Has {
            source: "10.0.0.1:1",
            ..PLAIN
        },
        Ok("local"),
    );
    check(&kinds, &PLAIN, Ok("external"));
}

#[test]
fn the_default_is_for_what_no_other_takes_and_twins_are_refused() {
    let listener = json!({
        "filterChains": [chain("tls", json!({ "transportProtocol": "tls" }))],
        "defaultFilterChain": { "name": "otherwise" },
    });
    check_listener(&listener, &PLAIN, Ok("otherwise"));
    check(
        &json!([chain("a", json!({})), chain("b", json!({}))]),
        &PLAIN,
        Err(Refusal::MultipleFilterChains),
    );
    check(&json!([]), &PLAIN, Err(Refusal::NoFilterChain));
}

#[test]
fn a_tree_names_the_chain() {
    let input = |kind: &str| {
        json!({
            "name": kind,
            "typedConfig": { "@type": format!("type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.{kind}") },
        })
    };
    let name = |name: &str| {
        json!({ "action": { "name": name, "typedConfig": {
            "@type": "type.googleapis.com/google.protobuf.StringValue", "value": name,
        }}})
    };
    let by_protocol = json!({ "matcher": { "matcherTree": {
        "input": input("ApplicationProtocolInput"),
        "exactMatchMap": { "map": { "'h2c'": name("http"), "'http/1.1'": name("http") } },
    }, "onNoMatch": name("tcp") } });
    let by_port = json!({ "matcher": { "matcherTree": {
        "input": input("DestinationPortInput"), "exactMatchMap": { "map": { "80": by_protocol } },
    } } });
    let by_address = json!({ "matcherTree": {
        "input": input("DestinationIPInput"), "exactMatchMap": { "map": { "10.0.0.1": by_port } },
    }, "onNoMatch": name("direct") });
    let chains: Vec<Value> = ["http", "tcp", "direct"]
        .iter()
        .map(|name| json!({ "name": name }))
        .collect();
    let listener = json!({ "filterChains": chains, "filterChainMatcher": by_address });
    check_listener(
        &listener,
        &Has {
            protocols: &["h2c"],
            ..PLAIN
        },
        Ok("http"),
    );
    check_listener(&listener, &PLAIN, Ok("tcp"));
    check_listener(
        &listener,
        &Has {
            destination: "10.0.0.2:80",
            ..PLAIN
        },
        Ok("direct"),
    );
    check_listener(
        &listener,
        &Has {
            destination: "10.0.0.1:81",
            ..PLAIN
        },
        Ok("direct"),
    );
}
