//! Files of Telemetries and what proxies are told to tell.

use corten_api::istio::telemetry::WorkloadMode;
use corten_envoy::message_to_json;
use corten_routing::Scope;
use serde_json::{Value, json};

use super::Signals;
use crate::{Context, testing::cases};

fn shown(signals: &Signals) -> Value {
    let logs = |logs: &[corten_envoy::envoy::config::accesslog::v3::AccessLog]| -> Value {
        logs.iter().map(|log| message_to_json(log).expect("JSON")).collect()
    };
    let mut shown = json!({ "logs": logs(&signals.of_requests()), "unrouted": signals.unrouted.len() });
    if let Some(tracing) = &signals.tracing {
        shown["tracing"] = message_to_json(tracing).expect("JSON");
    }
    if let Some(request_id) = &signals.request_id {
        shown["requestId"] = message_to_json(request_id).expect("JSON");
    }
    shown
}

#[test]
fn what_proxies_are_told_to_tell() {
    let mut compared = 0;
    for (file, case) in cases("telemetry") {
        let scope = Scope::of(&case.snapshot.catalog, &case.proxy);
        let cx = Context {
            snapshot: &case.snapshot,
            proxy: &case.proxy,
            scope: &scope,
        };
        let said = super::diagnostics(&case.snapshot.catalog).into_iter();
        let answer = json!({
            "client": shown(&Signals::of(&cx, WorkloadMode::Client)),
            "server": shown(&Signals::of(&cx, WorkloadMode::Server)),
            "said": said.map(|found| found.to_string()).collect::<Vec<_>>(),
        });
        let expected = file.with_extension("expected.yaml");
        expect_test::expect_file![expected].assert_eq(&corten_api::yaml::document(&answer));
        compared += 1;
    }
    assert!(compared > 0);
}
