//! Whatever the areas have proxies sent, a live stock Envoy accepts.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The areas in which proxies are sent something.
const AREAS: [&str; 9] = [
    "gateway-api-conformance",
    "istio-ambient-traffic",
    "istio-config-files",
    "istio-samples",
    "istio-security-policies",
    "istio-traffic-features",
    "istio-traffic-simulation",
    "istio-validation",
    "istio-xds",
];

/// Where the data lies: beside the repository, or in the folder that `CORTEN_SHARED` names.
fn data() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("CORTEN_SHARED").map_or(beside, PathBuf::from);
    shared.join("testdata")
}

#[test]
fn a_live_envoy_accepts_what_the_areas_have_proxies_sent() {
    if !data().is_dir() {
        corten_rt::skip!("there is no test data at {}", data().display());
    }
    let envoy = match corten_stock_envoy::program() {
        Ok(envoy) => envoy,
        Err(missing) => corten_rt::skip!("{missing}"),
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten-conformance"));
    command.args(AREAS.iter().flat_map(|area| ["--area", area]));
    let said = command.arg("--data").arg(data()).arg("--envoy").arg(&envoy).output();
    let said = said.expect("it can be run");
    let told = String::from_utf8_lossy(&said.stdout);
    let refused: Vec<&str> = told.split("REFUSED ").skip(1).collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    let given = told.lines().find(|line| line.contains("configurations given to Envoy"));
    let number = given.and_then(|line| line.split(' ').next()?.parse::<usize>().ok());
    // Fewer would mean that runners generate past the collector.
    assert!(
        number.is_some_and(|number| number > 100),
        "{told}{}",
        String::from_utf8_lossy(&said.stderr)
    );
}
