//! The node's own object: what the machine has, that the node is ready, and its lease.
//!
//! All nodes of the runtime are the same machine, so each shows all of its capacity.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use corten_apiserver::{Client, Patch, Status, resources};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::status::time;

/// The version of Kubernetes whose behaviour is followed; what `kubectl get nodes` shows.
pub(crate) const VERSION: &str = "v1.34.4";
/// The same, as user agents name it.
pub(crate) const MAJOR_MINOR: &str = "1.34";

/// How long a node that was not heard of counts as alive, and how often it is heard of.
const LEASE_SECONDS: i32 = 40;
const RENEWAL: Duration = Duration::from_secs(10);
/// How soon a renewal that failed is tried again, and how many failures in a row are nothing to speak of.
const RENEWAL_RETRY: Duration = Duration::from_millis(500);
const LEASE_FAILURES_SILENT: u32 = 5;
/// As many pods as a node takes.
const PODS_MAX: &str = "250";

/// The machine, as a node describes it.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    disk_bytes: u64,
    kernel: String,
    system: String,
    machine_id: String,
    boot_id: String,
}

impl Host {
    /// Reads what the kernel and the system say of themselves; what they do not say stays empty.
    pub(crate) fn read() -> Self {
        let line = |path: &str| {
            fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .unwrap_or_default()
        };
        let field = |path: &str, name: &str, separator: char| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let found = text
                .lines()
                .find_map(|line| line.split_once(separator).filter(|(key, _)| *key == name));
            found
                .map(|(_, value)| value.trim().trim_matches('"').to_owned())
                .unwrap_or_default()
        };
        let memory = field("/proc/meminfo", "MemTotal", ':');
        let kibibytes: u64 = memory
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |of| u32::try_from(of.get()).unwrap_or(1)),
            memory_bytes: kibibytes * 1024,
            disk_bytes: rustix::fs::statvfs("/").map_or(0, |of| of.f_blocks * of.f_frsize),
            kernel: line("/proc/sys/kernel/osrelease"),
            system: field("/etc/os-release", "PRETTY_NAME", '='),
            machine_id: line("/etc/machine-id"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
        }
    }
}

/// What makes a node this one.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) zone: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) pod_cidrs: Vec<String>,
}

/// The node as it registers itself.
pub(crate) fn object(identity: &Identity) -> Value {
    let mut labels = json!({
        "beta.kubernetes.io/arch": arch(),
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": arch(),
        "kubernetes.io/hostname": identity.name,
        "kubernetes.io/os": "linux",
    });
    if !identity.zone.is_empty() {
        labels["topology.kubernetes.io/zone"] = identity.zone.as_str().into();
        labels["topology.kubernetes.io/region"] = "local".into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": identity.name, "labels": labels },
        "spec": {
            "podCIDR": identity.pod_cidrs.first(),
            "podCIDRs": identity.pod_cidrs,
            "providerID": format!("corten://{}", identity.name),
        },
    })
}

/// The node's status; `previous` keeps the times at which conditions changed.
pub(crate) fn status(identity: &Identity, host: &Host, previous: &Value, now: Timestamp) -> Value {
    let capacity = json!({
        "cpu": host.cpus.to_string(),
        "memory": format!("{}Ki", host.memory_bytes / 1024),
        "ephemeral-storage": format!("{}Ki", host.disk_bytes / 1024),
        "pods": PODS_MAX,
    });
    // One of a type: the list is a map by type, and the API holds it to that.
    let internal = identity.addresses.first();
    let internal = internal.map(|address| json!({ "type": "InternalIP", "address": address.to_string() }));
    let mut addresses = Vec::from_iter(internal);
    addresses.push(json!({ "type": "Hostname", "address": identity.name }));
    let conditions = [
        (
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        (
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        (
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ];
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(kind, status, reason, message)| {
            let before = previous["conditions"].as_array().map_or(&[][..], Vec::as_slice);
            let same = before.iter().find(|old| old["type"] == *kind && old["status"] == *status);
            let since = same.map_or_else(|| time(now), |old| old["lastTransitionTime"].clone());
            json!({ "type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": time(now), "lastTransitionTime": since })
        })
        .collect();
    json!({
        "addresses": addresses,
        "allocatable": capacity,
        "capacity": capacity,
        "conditions": conditions,
        "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
        "nodeInfo": {
            "architecture": arch(),
            "bootID": host.boot_id,
            "containerRuntimeVersion": format!("corten://{}", env!("CARGO_PKG_VERSION")),
            "kernelVersion": host.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": VERSION,
            "machineID": host.machine_id,
            "operatingSystem": "linux",
            "osImage": host.system,
            "systemUUID": host.machine_id,
        },
    })
}

/// The processor's name as Kubernetes spells it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Registers the node, or takes up the object of an earlier run, and says that it is ready. Returns the object's uid.
pub(crate) async fn register(client: &Client, identity: &Identity) -> Result<String, Status> {
    let host = Host::read();
    let mut wanted = object(identity);
    wanted["status"] = status(identity, &host, &Value::Null, Timestamp::now());
    let node = match client.create(&resources::NODES, wanted.clone()).await {
        Err(status) if status.is_already_exists() => {
            let patch = json!({ "metadata": { "labels": wanted["metadata"]["labels"] }, "spec": wanted["spec"] });
            client
                .patch(&resources::NODES, "", &identity.name, None, Patch::Merge(patch))
                .await?
        }
        other => other?,
    };
    let status = status(identity, &host, &node["status"], Timestamp::now());
    let patch = Patch::Merge(json!({ "status": status }));
    let node = client
        .patch(&resources::NODES, "", &identity.name, Some("status"), patch)
        .await?;
    Ok(node["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
}

/// Renews the node's lease until the group ends. The object's status is written only when the node registers: nothing in it changes.
pub(crate) async fn keep_lease(client: Client, identity: Identity, uid: String, mut drain: corten_rt::Drain) {
    let mut failures = 0;
    loop {
        let pause = match renew(&client, &identity, &uid).await {
            Ok(()) => {
                failures = 0;
                RENEWAL
            }
            Err(status) => {
                // The namespace of leases may be made after the first node.
                failures += 1;
                if failures > LEASE_FAILURES_SILENT {
                    tracing::warn!(node = identity.name, %status, "the node's lease was not renewed");
                }
                RENEWAL_RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = drain.wait() => return,
        }
    }
}

const LEASES: &str = "kube-node-lease";

async fn renew(client: &Client, identity: &Identity, uid: &str) -> Result<(), Status> {
    let spec = json!({ "holderIdentity": identity.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": micro_time(Timestamp::now()) });
    let patch = Patch::Merge(json!({ "spec": spec }));
    match client
        .patch(&resources::LEASES, LEASES, &identity.name, None, patch)
        .await
    {
        Err(status) if status.is_not_found() => {}
        other => return other.map(drop),
    }
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": identity.name,
            "namespace": LEASES,
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": identity.name, "uid": uid }],
        },
        "spec": spec,
    });
    client.create(&resources::LEASES, lease).await.map(drop)
}

fn micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_the_time_of_its_last_change() {
        let identity = Identity {
            name: "node1".into(),
            zone: "zone1".into(),
            addresses: vec!["192.168.77.11".parse().expect("an address")],
            pod_cidrs: vec!["10.244.1.0/24".into()],
        };
        let at = |second| Timestamp::from_second(second).expect("in range");
        let first = status(&identity, &Host::read(), &Value::Null, at(0));
        let second = status(&identity, &Host::read(), &first, at(10));
        assert_eq!(second["conditions"][3]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert_eq!(second["conditions"][3]["lastHeartbeatTime"], "1970-01-01T00:00:10Z");
        assert_eq!(
            second["addresses"][1],
            json!({ "type": "Hostname", "address": "node1" })
        );
        assert_ne!(second["capacity"]["memory"], "0Ki");
        assert_eq!(object(&identity)["spec"]["podCIDRs"], json!(["10.244.1.0/24"]));
    }
}
