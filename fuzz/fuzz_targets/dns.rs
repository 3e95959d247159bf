//! DNS messages: whatever a pod sends is read without a panic, and what is answered can be read and fits.
#![no_main]

use std::sync::LazyLock;

use corten_proto::workload as proto;
use corten_traffic::dns::message::{NotAQuery, Query, addresses, refuse_unread};
use corten_traffic::dns::{Answer, answer};
use corten_traffic::{Change, Settings, TablesWriter};
use libfuzzer_sys::fuzz_target;

static TABLES: LazyLock<TablesWriter> = LazyLock::new(|| {
    let mut writer = TablesWriter::new();
    let address = |r#type| Change::Address {
        name: String::new(),
        address: Box::new(proto::Address { r#type: Some(r#type) }),
    };
    let client = proto::Workload {
        uid: "c".into(),
        name: "c".into(),
        namespace: "n".into(),
        ..Default::default()
    };
    let service = |hostname: &str, count: u8| {
        address(proto::address::Type::Service(proto::Service {
            namespace: "n".into(),
            hostname: hostname.into(),
            addresses: (0..count)
                .map(|i| proto::NetworkAddress { address: vec![10, 0, 0, i], ..Default::default() })
                .collect(),
            ..Default::default()
        }))
    };
    let changes = [
        address(proto::address::Type::Workload(client)),
        service("a.n.svc.cluster.local", 200),
        service("*.b", 1),
    ];
    writer.apply(changes).expect("the mesh is good");
    writer
});

fuzz_target!(|message: &[u8]| {
    // As an answer of another server.
    let _ = addresses(message);
    let query = match Query::parse(message) {
        Ok(query) => query,
        Err(NotAQuery::Ignore) => return,
        Err(NotAQuery::Answer(id, code)) => {
            assert_eq!(refuse_unread(id, code).len(), 12);
            return;
        }
    };
    let tables = TABLES.tables();
    let client = tables.local("n", "c", "default").expect("the client is known");
    let (Some(family), Some(name)) = (query.family(), &query.name) else { return };
    if let Answer::Ours(found) = answer(tables, &Settings::default(), client, name, family, 0) {
        for max in [query.udp_max(), usize::from(u16::MAX)] {
            let answer = query.answer(&found, max);
            assert!(answer.len() <= max.max(600));
            assert!(query.is_answered_by(&answer));
            assert!(addresses(&answer).is_some());
        }
    }
});
