//! An Envoy that asks here for its configuration.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use corten_stock_envoy::{Sent, bootstrap};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A running Envoy, which ends with this value.
pub(super) struct Envoy {
    child: Child,
    dir: TempDir,
}

impl Envoy {
    /// Starts one that asks the server at that address.
    pub(super) fn start(program: &Path, control: SocketAddr) -> Result<Envoy> {
        let dir = tempfile::tempdir().context("making a directory")?;
        let config = dir.path().join("envoy.json");
        std::fs::write(&config, asking(control).to_string()).context("writing the bootstrap")?;
        let log = File::create(dir.path().join("log")).context("making the log")?;
        let child = Command::new(program)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"])
            // What a configuration replaces need not linger.
            .args(["--drain-time-s", "1", "--drain-strategy", "immediate", "--config-path"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Envoy { child, dir })
    }

    /// How it has ended; none: it runs.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(12).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        Some(format!("{status}: {}", last.join("\n")))
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bootstrap with nothing but where the rest is asked for.
fn asking(control: SocketAddr) -> Value {
    let mut made = bootstrap(&Sent::default());
    // The agent, of which secrets are asked, is here as well.
    for cluster in made["staticResources"]["clusters"].as_array_mut().into_iter().flatten() {
        cluster["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"] =
            json!({ "socketAddress": { "address": control.ip().to_string(), "portValue": control.port() } });
    }
    let by_ads = json!({ "ads": {}, "resourceApiVersion": "V3" });
    made["dynamicResources"]["cdsConfig"] = by_ads.clone();
    made["dynamicResources"]["ldsConfig"] = by_ads;
    made
}
