//! WorkloadEntry: a workload that is not a pod.

use std::collections::BTreeMap;

use corten_core::Port;
use corten_derive::Message;

/// The specification of a workload entry.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    r#"(has(self.address) ? self.address : "").startsWith("unix://") ? !has(self.ports) : true"#,
    "UDS may not include ports"
))]
pub struct WorkloadEntrySpec {
    /// The address.
    #[api(
        max_length = 256,
        rule(
            r#"self.startsWith("unix://") ? (self.substring(7, 8) == "/" || self.substring(7, 8) == "@") : true"#,
            "UDS must be an absolute path or abstract socket"
        ),
        rule(r#"self.startsWith("unix://") ? !self.endsWith("/") : true"#, "UDS may not be a dir")
    )]
    pub address: String,
    /// The ports.
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
    /// The network.
    #[api(max_length = 2048)]
    pub network: String,
    /// The locality.
    #[api(max_length = 2048)]
    pub locality: String,
    /// The weight.
    pub weight: u32,
    /// The service account.
    #[api(max_length = 253)]
    pub service_account: String,
}
