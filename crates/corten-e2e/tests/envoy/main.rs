//! Stock Envoys beside workloads, driven by our control plane: what the objects say happens to real connections and requests, and nothing that
//! is sent is rejected.
//!
//! One instance; every scenario has a namespace of its own and runs beside the others.

mod beyond;
mod destinations;
mod extensions;
mod failures;
mod identities;
mod inspection;
mod modes;
mod routes;
mod support;
mod walk;

use corten_e2e::{As, Scenario, play_with_envoy};

const SCENARIOS: &[Scenario] = &[
    ("routes_of_a_sidecar", routes::of_a_sidecar),
    ("failing_servers", failures::failing_servers),
    ("who_may_ask_what", identities::who_may_ask_what),
    ("beyond_the_mesh", beyond::the_mesh),
    ("patches_logs_and_traces", extensions::patches_logs_and_traces),
    ("where_calls_go", destinations::where_calls_go),
    ("ways_into_a_pod", modes::ways_into_a_pod),
    ("the_walk_through", walk::through),
    ("a_database_with_its_own_tls", beyond::a_database_with_its_own_tls),
];

#[test]
fn as_root() {
    if let Err(reason) = As::Root.possible() {
        corten_rt::skip!("{reason}");
    }
    match corten_stock_envoy::program() {
        Ok(envoy) => play_with_envoy(As::Root, &envoy, SCENARIOS),
        Err(missing) => corten_rt::skip!("{missing}"),
    }
}
