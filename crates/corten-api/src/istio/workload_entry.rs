//! WorkloadEntry: a workload that is not a pod.

use std::collections::BTreeMap;

use corten_core::Port;
use corten_derive::Message;

/// A workload that is not a pod, such as a virtual machine.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    r#"(has(self.address) ? self.address : "").startsWith("unix://") ? !has(self.ports) : true"#,
    "UDS may not include ports"
))]
pub struct WorkloadEntrySpec {
    /// Its IP address, host name, or unix socket.
    #[api(
        max_length = 256,
        rule(
            r#"self.startsWith("unix://") ? (self.substring(7, 8) == "/" || self.substring(7, 8) == "@") : true"#,
            "UDS must be an absolute path or abstract socket"
        ),
        rule(r#"self.startsWith("unix://") ? !self.endsWith("/") : true"#, "UDS may not be a dir")
    )]
    pub address: String,
    /// Its ports, by the names of the service's ports.
    #[api(
        values(rule("0 < self && self <= 65535", "port must be between 1-65535")),
        max_properties = 128,
        rule(
            r#"self.all(key, size(key) < 63 && key.matches("^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$"))"#,
            "port name must be valid"
        )
    )]
    pub ports: BTreeMap<String, Port>,
    /// The labels.
    #[api(max_properties = 256)]
    pub labels: BTreeMap<String, String>,
    /// The network it is on; workloads of one network reach each other directly.
    #[api(max_length = 2048)]
    pub network: String,
    /// Where it runs: region/zone/subzone.
    #[api(max_length = 2048)]
    pub locality: String,
    /// Its share of the load.
    pub weight: u32,
    /// The service account it runs as.
    #[api(max_length = 253)]
    pub service_account: String,
}
