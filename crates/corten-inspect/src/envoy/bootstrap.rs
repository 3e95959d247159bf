//! What an Envoy was started with.

use serde_json::Value;

use super::{Dump, DumpError, text};
use crate::table::columns;

/// The section, without its type, for JSON and YAML, and the versions as lines.
///
/// # Errors
///
/// The dump has no bootstrap.
pub fn bootstrap(dump: &Dump) -> Result<(Value, String), DumpError> {
    let section = dump
        .section("BootstrapConfigDump")
        .ok_or(DumpError::Nothing("bootstrap"))?;
    let versions = versions(&section["bootstrap"]["node"]);
    Ok((section, versions))
}

fn versions(node: &Value) -> String {
    let metadata = &node["metadata"];
    let proxy = text(&metadata["ISTIO_PROXY_SHA"]);
    let lines = [
        ("Istio Version:", text(&metadata["ISTIO_VERSION"]).to_owned()),
        // As in `istio-proxy:0123abcd`.
        (
            "Istio Proxy Version:",
            proxy.split(':').nth(1).unwrap_or(proxy).to_owned(),
        ),
        ("Envoy Version:", envoy(&node["userAgentBuildVersion"])),
    ];
    let known = lines.into_iter().filter(|(_, version)| !version.is_empty());
    let rows: Vec<Vec<String>> = known.map(|(name, version)| vec![name.to_owned(), version]).collect();
    columns(&rows, 1)
}

fn envoy(build: &Value) -> String {
    let number = |key: &str| build["version"][key].as_u64().unwrap_or(0);
    let mut said = format!(
        "{}.{}.{}",
        number("majorNumber"),
        number("minorNumber"),
        number("patch")
    );
    let further = [
        ("build.label", '-'),
        ("revision.status", '/'),
        ("build.type", '/'),
        ("ssl.version", '/'),
    ];
    for (key, before) in further {
        if let Some(value) = build["metadata"][key].as_str() {
            said.push(before);
            said.push_str(value);
        }
    }
    said
}
