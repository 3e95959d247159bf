//! The tables against what a stock istiod sent: nothing of it is rejected or unknown to us, and `corten-control` says the same of the same objects.

use std::collections::BTreeMap;

use corten_proto::discovery::DeltaDiscoveryResponse;
use corten_proto::workload::{Address, TunnelProtocol, address::Type};
use corten_proto::{ADDRESS_TYPE, Message, security::Authorization};
use corten_traffic::{Change, TablesWriter};

const ISTIOD: &str = include_str!("../../corten-proto/recorded/istiod.txt");
const CONTROL: &str = include_str!("../../corten-proto/recorded/ztunnel.txt");

fn responses(text: &str) -> Vec<DeltaDiscoveryResponse> {
    let decode = |hex: &str| {
        let digits = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        let bytes: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        DeltaDiscoveryResponse::decode(&*bytes).unwrap()
    };
    let lines = text
        .lines()
        .filter_map(|line| line.split_once(" DeltaDiscoveryResponse "));
    lines.map(|(_, hex)| decode(hex)).collect()
}

/// What is there after all responses, by type and name.
fn state(text: &str) -> BTreeMap<(String, String), Vec<u8>> {
    let mut state = BTreeMap::new();
    for response in responses(text) {
        let key = |name: &str| (response.type_url.clone(), name.to_owned());
        for resource in &response.resources {
            state.insert(key(&resource.name), resource.resource.clone().unwrap().value);
        }
        for name in &response.removed_resources {
            state.remove(&key(name));
        }
    }
    state
}

#[test]
fn nothing_that_istiod_sends_is_rejected() {
    for text in [ISTIOD, CONTROL] {
        let mut writer = TablesWriter::new();
        for response in responses(text) {
            let kind = &response.type_url;
            let changed = response.resources.iter().map(|resource| {
                Change::upsert(kind, &resource.name, &resource.resource.as_ref().unwrap().value)
                    .expect("a type of ours")
            });
            let removed = response.removed_resources.iter();
            let removed = removed.map(|name| Change::remove(kind, name).expect("a type of ours"));
            let changes: Vec<Change> = changed.chain(removed).collect();
            assert_eq!(writer.apply(changes), Ok(()), "{}", response.nonce);
        }
    }
}

#[test]
fn no_field_of_what_istiod_sends_is_unknown() {
    for ((kind, name), body) in state(ISTIOD) {
        let known = if kind == ADDRESS_TYPE {
            Address::decode(&*body).unwrap().encoded_len()
        } else {
            Authorization::decode(&*body).unwrap().encoded_len()
        };
        assert_eq!(known, body.len(), "{name} has fields that are not known");
    }
}

/// The resources of the objects that both were given, without what each run gives anew: addresses.
fn meaning(text: &str) -> BTreeMap<String, String> {
    let mut meaning = BTreeMap::new();
    for ((kind, name), body) in state(text) {
        let about_objects = name.contains("orders/") || name.starts_with("istio-system/");
        if !about_objects {
            continue;
        }
        let said = if kind == ADDRESS_TYPE {
            let mut address = Address::decode(&*body).unwrap();
            match &mut address.r#type {
                Some(Type::Workload(workload)) => workload.addresses.iter_mut().for_each(|it| it.fill(0)),
                Some(Type::Service(service)) => service.addresses.iter_mut().for_each(|it| it.address.fill(0)),
                None => {}
            }
            if let Some(Type::Workload(workload)) = &mut address.r#type {
                // Their order means nothing.
                workload.authorization_policies.sort();
                // istiod gives endpoints without labels every policy of their namespace that has a selector. Nobody evaluates policies there.
                if workload.tunnel_protocol() == TunnelProtocol::None {
                    workload.authorization_policies.clear();
                }
            }
            format!("{address:#?}")
        } else {
            format!("{:#?}", Authorization::decode(&*body).unwrap())
        };
        meaning.insert(name, said);
    }
    meaning
}

#[test]
fn our_control_plane_says_the_same() {
    let (theirs, ours) = (meaning(ISTIOD), meaning(CONTROL));
    let names = |of: &BTreeMap<String, String>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    let mut different = Vec::new();
    for (name, said) in &theirs {
        let lines = |own: &str, other: &str| {
            let missing = own.lines().filter(|line| !other.lines().any(|it| it == *line));
            missing.map(str::trim).collect::<Vec<_>>().join(" ")
        };
        let (here, there) = (lines(&ours[name], said), lines(said, &ours[name]));
        if !here.is_empty() || !there.is_empty() {
            different.push(format!("{name}: ours says {here:?}, istiod {there:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
