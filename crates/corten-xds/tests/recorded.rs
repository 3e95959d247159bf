//! The server's session against what a stock ztunnel said: every response is one that it expects, every answer is understood.

use std::collections::HashMap;

use corten_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use corten_xds::server::{Event, Keys, Resource, Response, Session, Status, Store, TypeConfig, Variant};
use prost::Message as _;

/// A discovery message of a recording.
enum Said {
    Asked(Box<DeltaDiscoveryRequest>),
    Answered(DeltaDiscoveryResponse),
}

fn recording(text: &str) -> Vec<Said> {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    };
    let said = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (kind, hex) = (words.next().unwrap(), words.next().unwrap());
        Some(match kind {
            "DeltaDiscoveryRequest" => Said::Asked(Box::new(DeltaDiscoveryRequest::decode(&*bytes(hex)).unwrap())),
            "DeltaDiscoveryResponse" => Said::Answered(DeltaDiscoveryResponse::decode(&*bytes(hex)).unwrap()),
            _ => return None,
        })
    };
    text.lines().filter_map(said).collect()
}

fn store() -> Store {
    let config = |type_url| TypeConfig {
        type_url,
        state_wildcard: true,
        keys: |_: &Resource| Keys::default(),
        view: None,
        follows: None,
    };
    Store::new([config(ADDRESS_TYPE), config(AUTHORIZATION_TYPE)])
}

/// Puts into the store what a recorded response says.
fn apply(store: &mut Store, response: &DeltaDiscoveryResponse) {
    for resource in &response.resources {
        let body = &resource.resource.as_ref().unwrap().value;
        let version = format!("{}/{}", resource.version, response.nonce);
        let resource = Resource::new(&response.type_url, &*resource.name, &version, body);
        store.set(&response.type_url, resource);
    }
    for name in &response.removed_resources {
        store.remove(&response.type_url, name);
    }
}

#[track_caller]
fn same(ours: &Response, recorded: &DeltaDiscoveryResponse) {
    assert_eq!(ours.type_url(), recorded.type_url);
    let mut names: Vec<&str> = ours.names().map(|name| &**name).collect();
    let mut expected: Vec<&str> = recorded.resources.iter().map(|it| &*it.name).collect();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected, "{}", recorded.nonce);
    let removed: Vec<&str> = ours.removed().iter().map(|name| &**name).collect();
    assert_eq!(removed, recorded.removed_resources, "{}", recorded.nonce);
}

/// Plays a stream again; the number of answers that were understood.
fn replay(text: &str) -> usize {
    let said = recording(text);
    let (mut store, mut session) = (store(), Session::new(Variant::Delta, "node1"));
    let mut nonces: HashMap<String, String> = HashMap::new();
    let (mut accepted, mut opened) = (0, Vec::new());
    for (position, message) in said.iter().enumerate() {
        match message {
            Said::Asked(request) if request.response_nonce.is_empty() => {
                assert!(!request.node.as_ref().unwrap().id.is_empty(), "it says who it is");
                // The state of that time: what the answer told, and what the client had and was not told is gone.
                let answer = said[position..].iter().find_map(|later| match later {
                    Said::Answered(answer) if answer.type_url == request.type_url => Some(answer),
                    _ => None,
                });
                let answer = answer.expect("it was answered");
                for (name, version) in &request.initial_resource_versions {
                    let resource = Resource::new(&request.type_url, &**name, version, b"as before");
                    store.set(&request.type_url, resource);
                }
                apply(&mut store, answer);
                let (event, response) = session.delta(&store, (**request).clone());
                assert_eq!(event, Event::Subscribed);
                let response = response.expect("a first request is answered");
                same(&response, answer);
                nonces.insert(answer.nonce.clone(), response.nonce().to_owned());
                opened.push(answer.nonce.clone());
            }
            Said::Asked(request) => {
                assert_eq!(request.error_detail, None, "a response was rejected");
                let mut request = (**request).clone();
                request.response_nonce = nonces[&request.response_nonce].clone();
                assert_eq!(session.delta(&store, request).0, Event::Accepted);
                accepted += 1;
            }
            Said::Answered(response) if opened.contains(&response.nonce) => {}
            Said::Answered(response) => {
                apply(&mut store, response);
                let pushed = session.push(&store).unwrap().expect("there is news");
                same(&pushed, response);
                nonces.insert(response.nonce.clone(), pushed.nonce().to_owned());
            }
        }
    }
    for type_url in [ADDRESS_TYPE, AUTHORIZATION_TYPE] {
        assert_eq!(session.view_of(type_url).unwrap().status(), Status::Synced);
    }
    accepted
}

#[test]
fn a_new_node_proxy_accepts_everything() {
    assert_eq!(replay(include_str!("../../corten-proto/recorded/ztunnel.txt")), 23);
}

#[test]
fn one_that_comes_back_is_told_the_difference() {
    assert_eq!(
        replay(include_str!("../../corten-proto/recorded/ztunnel-comes-back.txt")),
        7
    );
}
