//! Area `istio-envoy-bootstrap`: what Envoy is started with, from how proxies are to run and what is known of the pod.
//!
//! What is compared is Envoy's message, not its text. Two things are otherwise on purpose, for every case:
//!
//! - Envoy asks the control plane itself, where Istio's asks its agent, which hands everything on: of the cluster `xds-grpc`, the address
//!   and how it is reached are judged here, not compared.
//! - Envoy speaks the protocol of LightStep no more and would not start with it: what says so is left out, and reported.

use std::path::Path;

use anyhow::{Context, Result, bail};
use corten_api::{decode::Node, validate::mesh_config::over_defaults};
use corten_bootstrap::{Build, Inputs, Pod};
use corten_envoy::envoy::config::bootstrap::v3::Bootstrap;
use serde_json::{Map, Value, json};

use super::gateway_api::differences;
use super::prototext;
use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// What the data was made with.
const ID: &str = "sidecar~1.2.3.4~foo~bar";
const ADDRESSES: [&str; 5] = ["10.3.3.3", "10.4.4.4", "10.5.5.5", "10.6.6.6", "10.4.4.4"];
const CONTROL_PLANE: &str = "spiffe://cluster.local/ns/istio-system/sa/istio-pilot-service-account";
const SECRETS: &str = "./var/run/secrets/workload-spiffe-uds/test.sock";
/// The variable that the data was made with as part of the configuration, too.
const CONNECTIONS: &str = "ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS";

/// One case for each row.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    data::judged(area, |_, row| judge(area, row))
}

fn judge(area: &Area, row: &Value) -> Result<Outcome> {
    let file = row["proxyConfig"].as_str().context("no proxyConfig")?;
    let text = std::fs::read_to_string(area.dir.join(file)).with_context(|| format!("reading {file}"))?;
    let config = config(&prototext::read(&text)?, row, file)?;
    let variables = row["envVars"].as_object().into_iter().flatten();
    let mut variables: Vec<(String, String)> = variables
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let annotations = row["annotations"].as_object();
    if let Some(annotations) = annotations {
        let text = Value::Object(annotations.clone()).to_string();
        variables.push(("ISTIO_METAJSON_ANNOTATIONS".to_owned(), text));
    }
    let port = |field: &str| row[field].as_u64().and_then(|port| u16::try_from(port).ok());
    let names = [CONTROL_PLANE.to_owned()];
    let addresses = ADDRESSES.map(|address| address.parse().expect("these are addresses"));
    let (metadata, _) = corten_bootstrap::metadata(&Pod {
        variables: &variables,
        labels: None,
        annotations,
        addresses: &addresses,
        config: &config,
        discovery_names: &names,
        outlier_log: "/dev/stdout",
        status_port: 15021,
        prometheus_port: 15090,
        secure_metrics_port: port("secureMetricsPort").unwrap_or_default(),
        secure_merged_metrics_port: port("secureMergedMetricsPort").unwrap_or_default(),
        exits_when_idle: false,
        skips_deprecated_logs: false,
        socket: "test.sock",
        version: "binary-1.0",
        build: Build::Istio,
    });
    let address = config["discoveryAddress"].as_str().unwrap_or_default();
    let (host, number) = address.rsplit_once(':').context("no discoveryAddress")?;
    let (made, problems) = corten_bootstrap::bootstrap(&Inputs {
        id: ID,
        metadata: &metadata,
        config: &config,
        discovery: (host, number.parse()?),
        discovery_name: host,
        secrets: Path::new(SECRETS),
        host_ip: None,
        log_as_json: false,
        fips: row["compliancePolicy"] == "fips-140-2",
        dual_stack: false,
        proxy_protocol: false,
        priority: None,
        build: Build::Istio,
    });
    let expected = row["expected"].as_str().context("no expected")?;
    let mut theirs = plain(&data::document(&area.dir.join(expected))?)?;
    let mut ours = plain(&made)?;
    asks_itself(&mut ours, &mut theirs, host)?;
    if without_lightstep(&mut theirs) && !problems.iter().any(|problem| problem.field == "tracing.lightstep") {
        bail!("traces for LightStep are left out without a word");
    }
    let mut found = Vec::new();
    differences(&ours, &theirs, "bootstrap", &mut found);
    Ok(if found.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(found.join("; "))
    })
}

/// The configuration, with what the data's own maker puts in.
fn config(read: &Value, row: &Value, file: &str) -> Result<Value> {
    let mut config = read.clone();
    config["configPath"] = json!(format!("/tmp/bootstrap/{}", file.trim_end_matches(".proxycfg")));
    config["customConfigFile"] = json!("envoy_bootstrap.json");
    if config["statusPort"].as_u64().unwrap_or_default() == 0 {
        config["statusPort"] = json!(15020);
    }
    if let Some(limit) = row["envVars"][CONNECTIONS].as_str() {
        config["proxyMetadata"][CONNECTIONS] = json!(limit);
    }
    // The control plane reads every field of it, too.
    let (_, problems) = over_defaults(&Node::from_value(&json!({"defaultConfig": config})));
    if !problems.is_empty() {
        bail!("{problems:?}");
    }
    Ok(config)
}

/// As Envoy reads it: names in one form, no values that are the same as none.
fn plain(bootstrap: &Value) -> Result<Value> {
    let typed: Bootstrap = corten_envoy::message_from_json(bootstrap)?;
    Ok(corten_envoy::message_to_json(&typed)?)
}

/// The control plane is asked directly: with TLS, at the address that the configuration has.
fn asks_itself(ours: &mut Value, theirs: &mut Value, host: &str) -> Result<()> {
    let find = |bootstrap: &mut Value| {
        let clusters = bootstrap["staticResources"]["clusters"].as_array_mut()?;
        let found = clusters.iter_mut().find(|cluster| cluster["name"] == "xds-grpc")?;
        found.as_object_mut().map(std::mem::take)
    };
    let mut own = find(ours).context("no cluster xds-grpc")?;
    let mut other = find(theirs).context("no cluster xds-grpc is expected")?;
    let address = &own["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"]["socketAddress"];
    if address["address"] != host || own["transportSocket"]["name"] != "envoy.transport_sockets.tls" {
        bail!("the control plane at {host} is not asked with TLS: {own:?}");
    }
    for field in [
        "type",
        "dnsLookupFamily",
        "respectDnsTtl",
        "loadAssignment",
        "transportSocket",
    ] {
        own.remove(field);
        other.remove(field);
    }
    let mut found = Vec::new();
    differences(&Value::Object(own), &Value::Object(other), "xds-grpc", &mut found);
    if !found.is_empty() {
        bail!("{}", found.join("; "));
    }
    Ok(())
}

/// Takes traces for LightStep out; whether there were any.
fn without_lightstep(theirs: &mut Value) -> bool {
    if theirs["tracing"]["http"]["name"] != "envoy.tracers.lightstep" {
        return false;
    }
    theirs
        .as_object_mut()
        .map(|fields: &mut Map<String, Value>| fields.remove("tracing"));
    if let Some(clusters) = theirs["staticResources"]["clusters"].as_array_mut() {
        clusters.retain(|cluster| cluster["name"] != "lightstep");
    }
    true
}
