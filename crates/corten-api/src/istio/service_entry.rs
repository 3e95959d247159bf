//! ServiceEntry: services the mesh would not find by itself.

use corten_core::{Host, Port};
use corten_derive::{Enumeration, Message};

use super::sidecar::WorkloadSelector;
use super::status::{AnalysisMessageBase, IstioCondition};
use super::workload_entry::WorkloadEntrySpec;

/// A service that the mesh would not find by itself.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule("(has(self.workloadSelector) ? 1 : 0) + (has(self.endpoints) ? 1 : 0) <= 1", "only one of WorkloadSelector or Endpoints can be set"), rule(r#"!((has(self.addresses) ? self.addresses : []).exists(k, k.contains("/")) && !((has(self.resolution) ? self.resolution : "NONE") in ["STATIC", "NONE"]))"#, "CIDR addresses are allowed only for NONE/STATIC resolution types"), rule(r#"((has(self.resolution) ? self.resolution : "NONE") == "NONE") ? !has(self.endpoints) : true"#, "NONE mode cannot set endpoints"), rule(r#"((has(self.resolution) ? self.resolution : "") == "DNS_ROUND_ROBIN") ? ((has(self.endpoints) ? self.endpoints : []).size() <= 1) : true"#, "DNS_ROUND_ROBIN mode cannot have multiple endpoints"))]
pub struct ServiceEntrySpec {
    /// The names of the service.
    #[api(
        required,
        items(rule(r#"self != "*""#, "hostname cannot be wildcard")),
        max_items = 256,
        min_items = 1
    )]
    pub hosts: Vec<Host>,
    /// Its virtual addresses, or ranges of them.
    #[api(items(max_length = 64), max_items = 256)]
    pub addresses: Vec<String>,
    /// The ports.
    #[api(
        max_items = 256,
        list_map_keys("name"),
        list_type = "map",
        rule(
            "self.all(l1, self.exists_one(l2, l1.number == l2.number))",
            "port number cannot be duplicated"
        )
    )]
    pub ports: Vec<ServicePort>,
    /// Whether the service is part of the mesh.
    pub location: ServiceEntryLocation,
    /// How its endpoints are found.
    pub resolution: ServiceEntryResolution,
    /// Its endpoints.
    #[api(
        max_items = 4096,
        items(rule("has(self.address) || has(self.network)", "Address is required"))
    )]
    pub endpoints: Option<Vec<WorkloadEntrySpec>>,
    /// Chooses pods and workload entries as endpoints.
    pub workload_selector: Option<WorkloadSelector>,
    /// The namespaces that see it: `.` is this one, `*` all.
    pub export_to: Vec<String>,
    /// Names of which the service's certificate must have one.
    pub subject_alt_names: Vec<String>,
}

/// A port of a service.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ServicePort {
    /// The number.
    #[api(required, rule("0 < self && self <= 65535", "port must be between 1-65535"))]
    pub number: Port,
    /// What is spoken.
    #[api(max_length = 256)]
    pub protocol: String,
    /// The name.
    #[api(required, max_length = 256)]
    pub name: String,
    /// The port of the workload.
    #[api(rule("0 < self && self <= 65535", "port must be between 1-65535"))]
    pub target_port: Port,
}

/// The service entry status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ServiceEntryStatus {
    /// The aspects of the state.
    pub conditions: Vec<IstioCondition>,
    /// What analysis found.
    pub validation_messages: Vec<AnalysisMessageBase>,
    /// The generation of the object that this is about.
    pub observed_generation: i64,
    /// Addresses that are asked for, or were given.
    pub addresses: Vec<ServiceEntryAddress>,
}

/// The service entry address.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ServiceEntryAddress {
    /// The value.
    pub value: String,
    /// The host.
    pub host: String,
}

/// The service entry location.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ServiceEntryLocation {
    /// Outside of the mesh.
    #[default]
    MeshExternal,
    /// Part of the mesh.
    MeshInternal,
}

/// The service entry resolution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ServiceEntryResolution {
    /// Connections go to the address that was called.
    #[default]
    None,
    /// The endpoints are listed, or selected.
    Static,
    /// Names are looked up, and all answers used.
    Dns,
    /// Names are looked up, and one answer used at a time.
    DnsRoundRobin,
    /// Names are looked up when they are called.
    DynamicDns,
}
