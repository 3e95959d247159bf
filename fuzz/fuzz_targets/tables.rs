//! Workload discovery: whatever bytes a control plane sends as resources, the tables take or refuse them, and answer questions afterwards.
#![no_main]

use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use corten_traffic::{Change, Outbound, Peer, Settings, TablesWriter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|resources: Vec<(bool, bool, String, Vec<u8>)>| {
    let mut writer = TablesWriter::new();
    for (policy, remove, name, body) in &resources {
        let kind = if *policy { AUTHORIZATION_TYPE } else { ADDRESS_TYPE };
        let change = if *remove { Change::remove(kind, name) } else { Change::upsert(kind, name, body) };
        let before = writer.tables().version();
        let refused = writer.apply(change).is_err();
        assert!(!refused || *policy || writer.tables().version() == before);
    }
    let tables = writer.snapshot();
    let settings = Settings::default();
    for workload in tables.workloads() {
        for address in workload.addresses.iter().copied().take(2) {
            for destination in tables.services().flat_map(|service| service.addresses.iter()).take(4) {
                let call = Outbound {
                    source: workload,
                    client: address,
                    destination: (destination.1, 80).into(),
                    random: 1,
                };
                let _ = tables.outbound(&settings, &call);
            }
            let peer = Peer { source: address, identity: Some(&workload.identity), destination: (address, 80).into() };
            let verdict = tables.authorize(workload, &peer);
            assert_eq!(tables.authorize(workload, &peer), verdict);
            let _ = tables.inbound(&settings, workload, (address, 15008).into(), "host:80");
        }
    }
});
