//! What can be read between the nodes while payments and orders call each other.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::calls::{SECRET, SERVICES, call};
use super::stage::{Stage, printed};

/// How long the packets are looked at.
const SECONDS: u64 = 2;
/// How often each pod calls each service meanwhile.
const CALLS: u64 = 10;

/// What was seen on both nodes together.
pub(super) struct Seen {
    /// Packets in which the calls' secret could be read.
    pub(super) secrets: u64,
    /// Bytes to and from the tunnel's port.
    pub(super) tunnel_bytes: u64,
}

/// Looks at the packets of both nodes while payments and orders call each other.
pub(super) fn watch(stage: &Stage) -> Result<Seen> {
    let captures = ["node1", "node2"].map(|node| stage.capture(node, SECONDS, SECRET));
    let pods = stage.pods()?;
    let callers = || pods.iter().filter(|pod| pod.service != "legacy-app");
    // The captures need a moment to begin; calls go on for half of their time.
    let end = Instant::now() + Duration::from_secs(SECONDS / 2);
    while Instant::now() < end {
        for pod in callers() {
            for service in SERVICES
                .iter()
                .filter(|of| of.name != "legacy-app" && of.name != pod.service)
            {
                call(stage, pod, service, CALLS)?;
            }
        }
    }
    let mut seen = Seen {
        secrets: 0,
        tunnel_bytes: 0,
    };
    for capture in captures {
        let report = printed(capture?)?;
        seen.secrets += report["found"][SECRET].as_u64().unwrap_or(0);
        seen.tunnel_bytes += report["bytes"]["15008"].as_u64().unwrap_or(0);
    }
    println!(
        "  on the wire: {SECRET:?} in {} packets; {} bytes on port 15008",
        seen.secrets, seen.tunnel_bytes
    );
    Ok(seen)
}
