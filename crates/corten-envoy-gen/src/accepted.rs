//! Whatever is generated in a test, a stock Envoy accepts.

use std::{collections::BTreeMap, path::Path};

use corten_envoy::{message_to_json, prost};
use corten_stock_envoy::{Sent, bootstrap, program, validate};
use serde_json::Value;

use crate::{Resources, generate, testing};

/// What is sent, as JSON.
pub(crate) fn sent(resources: &Resources) -> Sent {
    fn json<M: prost::Message + prost::Name>(message: &M) -> Value {
        message_to_json(message).expect("JSON")
    }
    fn table<M: prost::Message + prost::Name>(messages: &BTreeMap<String, M>) -> BTreeMap<String, Value> {
        messages
            .iter()
            .map(|(name, message)| (name.clone(), json(message)))
            .collect()
    }
    Sent {
        clusters: resources.clusters.iter().map(json).collect(),
        endpoints: table(&resources.endpoints),
        listeners: resources.listeners.iter().map(json).collect(),
        routes: table(&resources.routes),
        extensions: table(&resources.extensions),
    }
}

/// Everything that comes of the files below `testdata`, as that file's proxy is sent it.
#[test]
fn a_stock_envoy_accepts_all_of_it() {
    let envoy = match program() {
        Ok(envoy) => envoy,
        Err(missing) => corten_rt::skip!("{missing}"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut refused = Vec::new();
    for (name, case) in testing::all(&root) {
        // A stock Envoy lists none of the extensions that only Istio's own proxies have.
        let proxy = case.proxy.clone().with_extensions([]);
        let resources = generate(&case.snapshot, &proxy);
        if let Err(said) = validate(&envoy, &bootstrap(&sent(&resources))) {
            refused.push(format!("{name}: {said}"));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n\n"));
}
