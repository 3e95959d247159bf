//! The tables that changes lead to are those that a rebuild from the resulting resources gives, and old versions stay as they were.

use std::collections::BTreeMap;

use corten_proto::{security, workload as proto};
use proptest::prelude::*;

use super::TablesWriter;
use crate::{Change, Tables};

/// Everything that a look-up can see, in order, without identities of allocation.
fn dump(tables: &Tables) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |text: String| lines.push(text);
    for workload in tables.workloads() {
        line(format!("{workload:?}"));
    }
    for entry in tables.services.iter() {
        let endpoints: Vec<_> = entry.endpoints.iter().map(|e| (&e.workload, e.membership)).collect();
        line(format!(
            "{:?} {:?} {} {endpoints:?}",
            entry.hostname, entry.service, entry.weighted
        ));
    }
    for (key, members) in tables.by_address.iter() {
        line(format!("address {key:?} {members:?}"));
    }
    for (key, members) in tables.by_name.iter() {
        line(format!("name {key:?} {members:?}"));
    }
    for (key, members) in tables.by_hostname.iter() {
        line(format!("workload host {key:?} {members:?}"));
    }
    for (key, members) in tables.by_vip.iter() {
        line(format!("vip {key:?} {members:?}"));
    }
    for (key, members) in tables.by_range.iter() {
        line(format!("range {key:?} {members:?}"));
    }
    for (key, members) in tables.by_host.iter() {
        line(format!("host {key:?} {members:?}"));
    }
    for (key, members) in tables.by_scope.iter() {
        line(format!("scope {key:?} {members:?}"));
    }
    for policy in tables.policies() {
        line(format!("{policy:?}"));
    }
    line(format!("{:?} {:?}", tables.range_lengths, tables.counts()));
    lines.sort();
    lines
}

fn workload(uid: u8, parts: (u8, u8, u8, u8)) -> proto::Workload {
    let (address, services, policies, other) = parts;
    let service = |i: u8| (format!("ns{}/svc{i}", i % 2), proto::PortList::default());
    proto::Workload {
        uid: format!("c//Pod/ns{}/pod{uid}", uid % 2),
        name: format!("pod{uid}"),
        namespace: format!("ns{}", uid % 2),
        addresses: (0..address % 3).map(|i| vec![10, 0, i, address % 4]).collect(),
        services: (0..4).filter(|i| services & (1 << i) != 0).map(service).collect(),
        authorization_policies: (0..policies % 3).map(|i| format!("ns0/p{i}")).collect(),
        network_mode: i32::from(other % 5 == 0),
        hostname: if other % 7 == 0 {
            "host".to_owned()
        } else {
            String::new()
        },
        capacity: (other % 3 == 0).then_some(u32::from(other)),
        tunnel_protocol: i32::from(other % 2),
        ..proto::Workload::default()
    }
}

fn service(id: u8, parts: (u8, u8, u8, u8)) -> proto::Service {
    let (address, ranges, canonical, _) = parts;
    let range = |i: u8| proto::NetworkAddress {
        network: String::new(),
        address: vec![10, 1, i, 0],
        length: Some(u32::from(16 + i)),
    };
    let vip = |i: u8| proto::NetworkAddress {
        network: format!("net{}", i % 2),
        address: vec![10, 2, 0, i],
        length: None,
    };
    proto::Service {
        namespace: format!("ns{}", id % 2),
        hostname: format!("svc{}", id % 4),
        addresses: (0..address % 3).map(vip).chain((0..ranges % 3).map(range)).collect(),
        canonical: canonical % 2 == 0,
        visibility: i32::from(canonical % 3 == 0),
        ..proto::Service::default()
    }
}

fn policy(id: u8, parts: (u8, u8, u8, u8)) -> security::Authorization {
    security::Authorization {
        name: format!("p{id}"),
        namespace: format!("ns{}", parts.0 % 2),
        scope: i32::from(parts.1 % 3),
        action: i32::from(parts.2 % 2),
        ..security::Authorization::default()
    }
}

fn address(r#type: proto::address::Type, name: String) -> (String, Change) {
    let address = Box::new(proto::Address { r#type: Some(r#type) });
    (name.clone(), Change::Address { name, address })
}

fn change(kind: u8, id: u8, parts: (u8, u8, u8, u8)) -> (String, Change) {
    match kind {
        0 | 1 => {
            let workload = workload(id, parts);
            let uid = workload.uid.clone();
            address(proto::address::Type::Workload(workload), uid)
        }
        2 => {
            let service = service(id, parts);
            let key = format!("{}/{}", service.namespace, service.hostname);
            address(proto::address::Type::Service(service), key)
        }
        3 => {
            let name = format!("ns0/p{id}");
            let policy = Box::new(policy(id, parts));
            (format!("policy {name}"), Change::Authorization { name, policy })
        }
        4 => {
            let uid = workload(id, parts).uid;
            (uid.clone(), Change::RemoveAddress(uid))
        }
        5 => {
            let key = format!("ns{}/svc{}", id % 2, id % 4);
            (key.clone(), Change::RemoveAddress(key))
        }
        _ => {
            let name = format!("ns0/p{id}");
            (format!("policy {name}"), Change::RemoveAuthorization(name))
        }
    }
}

proptest! {
    #[test]
    fn incremental_equals_rebuilt(
        changes in proptest::collection::vec((0u8..7, 0u8..8, any::<(u8, u8, u8, u8)>()), 0..120),
    ) {
        let mut writer = TablesWriter::new();
        let mut resources = BTreeMap::new();
        let mut kept = Vec::new();
        for (i, (kind, id, parts)) in changes.into_iter().enumerate() {
            let (key, change) = change(kind, id, parts);
            if matches!(change, Change::RemoveAddress(_) | Change::RemoveAuthorization(_)) {
                resources.remove(&key);
            } else {
                resources.insert(key, change.clone());
            }
            let before = (writer.tables().version(), dump(writer.tables()));
            prop_assert_eq!(writer.apply([change]), Ok(()));
            if writer.tables().version() == before.0 {
                prop_assert_eq!(dump(writer.tables()), before.1);
            }
            if i % 20 == 0 {
                let version = writer.snapshot();
                let seen = dump(&version);
                kept.push((version, seen));
            }
        }
        let mut rebuilt = TablesWriter::new();
        prop_assert_eq!(rebuilt.apply(resources.into_values()), Ok(()));
        prop_assert_eq!(dump(writer.tables()), dump(rebuilt.tables()));
        for (version, seen) in kept {
            prop_assert_eq!(dump(&version), seen);
        }
    }
}

#[test]
fn what_is_refused_is_named_and_the_rest_is_applied() {
    let mut writer = TablesWriter::new();
    let mut bad = workload(1, (1, 0, 0, 1));
    bad.tunnel_protocol = 2;
    let good = workload(2, (1, 0, 0, 1));
    let good_uid = good.uid.clone();
    let broken = security::Authorization {
        namespace: "ns0".to_owned(),
        scope: security::Scope::Namespace as i32,
        action: 7,
        ..security::Authorization::default()
    };
    let rejected = writer
        .apply([
            address(proto::address::Type::Workload(bad), "bad".to_owned()).1,
            address(proto::address::Type::Workload(good), good_uid.clone()).1,
            Change::Authorization {
                name: "ns0/broken".to_owned(),
                policy: Box::new(broken),
            },
            Change::Undecodable {
                name: "ns1/garbage".to_owned(),
                is_policy: true,
                reason: "cannot be decoded".to_owned(),
            },
        ])
        .unwrap_err();
    let lines: Vec<_> = rejected.iter().map(|r| format!("{}: {}", r.name, r.reason)).collect();
    assert_eq!(
        lines,
        [
            "bad: tunnel_protocol is LEGACY_ISTIO_MTLS, which is not supported",
            "ns0/broken: action is 7, which this version does not know",
            "ns1/garbage: cannot be decoded",
        ]
    );
    let tables = writer.snapshot();
    assert!(tables.workload(&good_uid).is_some());
    assert!(tables.workload("c//Pod/ns1/pod1").is_none());
    assert!(tables.policy("ns0/broken").unwrap().broken.is_some());
    assert_eq!(&*tables.policy("ns1/garbage").unwrap().namespace, "ns1");
}
