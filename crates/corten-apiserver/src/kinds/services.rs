//! Services: cluster addresses and node ports, unique in the cluster.
//!
//! The allocator is memory built from the stored services when the API opens; a reservation that is not followed by a durable write is given back.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;

use corten_schema::FieldError;
use rand::RngExt;
use serde_json::{Value, json};

use super::Strategy;
use crate::api::Api;
use crate::context::Context;
use crate::object;
use crate::registry::Resource;
use crate::status::{Cause, Status};
use crate::store::Store;
use crate::validation;
use crate::verbs::Part;

const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// Which addresses and ports are taken.
#[derive(Debug, Default)]
pub(crate) struct Allocator {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    addresses: BTreeSet<IpAddr>,
    /// By protocol and number.
    ports: BTreeSet<(String, u16)>,
}

impl Allocator {
    /// Takes what the stored services have.
    pub(crate) fn load(&self, store: &Store) {
        let mut taken = self.taken.lock().expect("no panic under this lock");
        for service in store.list("/services", None).objects {
            taken.addresses.extend(addresses(&service));
            taken.ports.extend(node_ports(&service));
        }
    }

    fn release(&self, service: &Value, kept: Option<&Value>) {
        let mut taken = self.taken.lock().expect("no panic under this lock");
        let kept_addresses: Vec<IpAddr> = kept.map(addresses).unwrap_or_default();
        let kept_ports: Vec<(String, u16)> = kept.map(node_ports).unwrap_or_default();
        for address in addresses(service) {
            if !kept_addresses.contains(&address) {
                taken.addresses.remove(&address);
            }
        }
        for port in node_ports(service) {
            if !kept_ports.contains(&port) {
                taken.ports.remove(&port);
            }
        }
    }
}

/// What a write has reserved. Given back when dropped without [`keep`](Self::keep).
#[derive(Debug, Default)]
pub(crate) struct Reserved<'a> {
    allocator: Option<&'a Allocator>,
    addresses: Vec<IpAddr>,
    ports: Vec<(String, u16)>,
}

impl Reserved<'_> {
    /// The write succeeded: it stays taken.
    pub(crate) fn keep(mut self) {
        self.allocator = None;
    }

    fn address(&mut self, address: IpAddr) -> bool {
        let Some(allocator) = self.allocator else { return false };
        let mut taken = allocator.taken.lock().expect("no panic under this lock");
        let free = taken.addresses.insert(address);
        if free {
            self.addresses.push(address);
        }
        free
    }

    fn port(&mut self, protocol: &str, port: u16) -> bool {
        let Some(allocator) = self.allocator else { return false };
        let mut taken = allocator.taken.lock().expect("no panic under this lock");
        let entry = (protocol.to_owned(), port);
        let free = taken.ports.insert(entry.clone());
        if free {
            self.ports.push(entry);
        }
        free
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(allocator) = self.allocator {
            let mut taken = allocator.taken.lock().expect("no panic under this lock");
            for address in &self.addresses {
                taken.addresses.remove(address);
            }
            for port in &self.ports {
                taken.ports.remove(port);
            }
        }
    }
}

fn addresses(service: &Value) -> Vec<IpAddr> {
    object::strings(&service["spec"]["clusterIPs"])
        .into_iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}

fn node_ports(service: &Value) -> Vec<(String, u16)> {
    object::items(&service["spec"]["ports"])
        .iter()
        .filter_map(|port| {
            let number = u16::try_from(port["nodePort"].as_u64()?).ok()?;
            Some((port["protocol"].as_str().unwrap_or("TCP").to_owned(), number))
        })
        .collect()
}

/// Services.
#[derive(Debug)]
pub(super) struct Services;

impl Strategy for Services {
    fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        validation::service(new, old)
    }

    fn prepare_create(&self, _: &Api, _: &Context, _: &Resource, new: &mut Value) -> Result<(), Status> {
        fill_in(new);
        new["status"] = json!({ "loadBalancer": {} });
        Ok(())
    }

    fn prepare_update(
        &self,
        _: &Api,
        _: &Context,
        _: &Resource,
        part: Part,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if part == Part::Main {
            drop_left_over(new, old);
            keep_allocated(new, old);
            fill_in(new);
        }
        Ok(())
    }

    fn reserve<'a>(
        &self,
        api: &'a Api,
        resource: &Resource,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<Reserved<'a>, Status> {
        let mut reserved = Reserved {
            allocator: Some(&api.addresses),
            addresses: Vec::new(),
            ports: Vec::new(),
        };
        let name = object::name(new).to_owned();
        let refuse = |field: &str, message: String| {
            Status::invalid(
                resource.group(),
                &resource.kind,
                &name,
                vec![Cause {
                    reason: "FieldValueInvalid".to_owned(),
                    message,
                    field: field.to_owned(),
                }],
            )
        };
        reserve_addresses(&mut reserved, new, old).map_err(|(field, message)| refuse(&field, message))?;
        reserve_ports(&mut reserved, new, old).map_err(|(field, message)| refuse(&field, message))?;
        Ok(reserved)
    }

    fn after_write(&self, api: &Api, _: &Resource, new: Option<&Value>, old: Option<&Value>) {
        if let Some(old) = old {
            api.addresses.release(old, new);
        }
    }

    fn status_metadata(&self) -> &'static [&'static str] {
        &["labels", "annotations", "finalizers"]
    }

    fn selectable(&self, field: &str) -> bool {
        matches!(field, "spec.clusterIP" | "spec.type")
    }
}

/// The defaults of a service's specification.
fn fill_in(service: &mut Value) {
    let spec = object::child(service, "spec");
    object::default_to(spec, "type", "ClusterIP");
    object::default_to(spec, "sessionAffinity", "None");
    let kind = spec["type"].as_str().unwrap_or("").to_owned();
    if kind != "ExternalName" {
        object::default_to(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "NodePort" || kind == "LoadBalancer" {
        object::default_to(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        object::default_to(spec, "allocateLoadBalancerNodePorts", true);
    }
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let port = object::as_map(port);
        object::default_to(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or_default();
        object::default_to(port, "targetPort", number);
    }
}

/// A change of the type means to lose what only the old type has, where the update says the same of it as before.
fn drop_left_over(new: &mut Value, old: &Value) {
    let kind = object::text(new, &["spec", "type"]).to_owned();
    let reached = kind == "NodePort" || kind == "LoadBalancer";
    let mut gone: Vec<&str> = Vec::new();
    if kind == "ExternalName" {
        gone.extend([
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ]);
    }
    if !reached {
        gone.push("externalTrafficPolicy");
    }
    if kind != "LoadBalancer" {
        gone.extend([
            "allocateLoadBalancerNodePorts",
            "healthCheckNodePort",
            "loadBalancerClass",
        ]);
    }
    if kind != object::text(old, &["spec", "type"]) {
        let same = gone
            .into_iter()
            .filter(|field| new["spec"][*field] == old["spec"][*field]);
        for field in same.collect::<Vec<_>>() {
            object::child(new, "spec").remove(field);
        }
    }
    // Who changes the first address only, as a patch does, means the whole list.
    let first = new["spec"]["clusterIP"].clone();
    let changed = first.as_str().is_some_and(|first| !first.is_empty()) && first != old["spec"]["clusterIP"];
    if changed && new["spec"]["clusterIPs"] == old["spec"]["clusterIPs"] {
        object::child(new, "spec").insert("clusterIPs".to_owned(), json!([first]));
    }
}

/// An update that leaves out what was allocated means to keep it.
fn keep_allocated(new: &mut Value, old: &Value) {
    let kind = |service: &Value| object::text(service, &["spec", "type"]).to_owned();
    let (new_kind, old_kind) = (kind(new), kind(old));
    let has_address = |kind: &str| kind != "ExternalName";
    if has_address(&new_kind) && has_address(&old_kind) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let value = old["spec"][field].clone();
            if !value.is_null() {
                let spec = object::child(new, "spec");
                if field == "clusterIPs" && spec.get("clusterIP") != Some(&old["spec"]["clusterIP"]) {
                    continue;
                }
                let empty = spec.get(field).is_none_or(|v| v.is_null() || v == "");
                if empty {
                    spec.insert(field.to_owned(), value);
                }
            }
        }
    }
    let has_ports = |kind: &str| kind == "NodePort" || kind == "LoadBalancer";
    let old_ports = object::items(&old["spec"]["ports"]).to_vec();
    let spec = object::child(new, "spec");
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if has_ports(&new_kind) && has_ports(&old_kind) {
            let same = old_ports
                .iter()
                .find(|o| o["port"] == port["port"] && o["protocol"] == port["protocol"]);
            if let Some(same) = same
                && port["nodePort"].as_u64().unwrap_or(0) == 0
                && !same["nodePort"].is_null()
            {
                port["nodePort"] = same["nodePort"].clone();
            }
        } else if !has_ports(&new_kind) && has_ports(&old_kind) {
            // The type no longer has node ports: those of before are given back.
            object::as_map(port).remove("nodePort");
        }
    }
}

type Problem = (String, String);

fn reserve_addresses(reserved: &mut Reserved<'_>, new: &mut Value, old: Option<&Value>) -> Result<(), Problem> {
    if object::text(new, &["spec", "type"]) == "ExternalName" {
        return Ok(());
    }
    let mine = old.map(addresses).unwrap_or_default();
    let spec = object::child(new, "spec");
    let wanted: Vec<String> = {
        let list = object::strings(spec.get("clusterIPs").unwrap_or(&Value::Null));
        let first = spec.get("clusterIP").and_then(Value::as_str).unwrap_or("");
        if list.is_empty() && !first.is_empty() {
            vec![first.to_owned()]
        } else {
            list.into_iter().map(str::to_owned).collect()
        }
    };
    let headless = wanted.first().is_some_and(|w| w == "None");
    let policy = spec
        .get("ipFamilyPolicy")
        .and_then(Value::as_str)
        .unwrap_or("SingleStack")
        .to_owned();
    let mut families: Vec<String> = object::strings(spec.get("ipFamilies").unwrap_or(&Value::Null))
        .into_iter()
        .map(str::to_owned)
        .collect();
    let family = |address: &IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    if families.is_empty() {
        for address in wanted.iter().filter_map(|w| w.parse::<IpAddr>().ok()) {
            families.push(family(&address).to_owned());
        }
    }
    if families.is_empty() {
        families.push("IPv4".to_owned());
    }
    if policy != "SingleStack" && families.len() == 1 {
        families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
    }
    if policy == "SingleStack" {
        families.truncate(1);
    }
    let mut given = Vec::new();
    if headless {
        given.push("None".to_owned());
    } else {
        for (index, family_name) in families.iter().enumerate() {
            let address = match wanted.get(index) {
                Some(text) => {
                    let address: IpAddr = text.parse().map_err(|_| {
                        (
                            format!("spec.clusterIPs[{index}]"),
                            format!(
                                "Invalid value: {text:?}: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
                            ),
                        )
                    })?;
                    if let Some(range) = outside(&address) {
                        return Err((
                            "spec.clusterIPs".to_owned(),
                            format!(
                                "Invalid value: {:?}: failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}",
                                [text]
                            ),
                        ));
                    }
                    if !mine.contains(&address) && !reserved.address(address) {
                        return Err((
                            "spec.clusterIPs".to_owned(),
                            format!(
                                "Invalid value: {:?}: failed to allocate IP {address}: provided IP is already allocated",
                                [text]
                            ),
                        ));
                    }
                    address
                }
                None => any_address(reserved, family_name)?,
            };
            given.push(address.to_string());
        }
    }
    spec.insert("clusterIP".to_owned(), json!(given[0]));
    spec.insert("clusterIPs".to_owned(), json!(given));
    spec.insert("ipFamilies".to_owned(), json!(families));
    spec.insert("ipFamilyPolicy".to_owned(), json!(policy));
    Ok(())
}

/// The range that a service's address must be in, when it is not.
fn outside(address: &IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => (v4.octets()[..2] != [10, 96]).then_some("10.96.0.0/16"),
        IpAddr::V6(v6) => (v6.segments()[..7] != [0xfd00, 0x10, 0x96, 0, 0, 0, 0]).then_some("fd00:10:96::/112"),
    }
}

/// A free address of the service range: random, so that an address is not soon given to another service.
fn any_address(reserved: &mut Reserved<'_>, family: &str) -> Result<IpAddr, Problem> {
    let mut rng = rand::rng();
    for _ in 0..10_000 {
        // The first 256 addresses are left to those who ask for a certain one, as the DNS service does.
        let host: u16 = rng.random_range(256..65_534);
        let [high, low] = host.to_be_bytes();
        let address = if family == "IPv6" {
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, host))
        } else {
            IpAddr::V4(Ipv4Addr::new(10, 96, high, low))
        };
        if reserved.address(address) {
            return Ok(address);
        }
    }
    Err((
        "spec.clusterIPs".to_owned(),
        "Invalid value: []: failed to allocate an address: range is full".to_owned(),
    ))
}

fn reserve_ports(reserved: &mut Reserved<'_>, new: &mut Value, old: Option<&Value>) -> Result<(), Problem> {
    let kind = object::text(new, &["spec", "type"]).to_owned();
    let allocate = !matches!(new["spec"]["allocateLoadBalancerNodePorts"], Value::Bool(false));
    let wants = kind == "NodePort" || (kind == "LoadBalancer" && allocate);
    let mine = old.map(node_ports).unwrap_or_default();
    let Some(ports) = new["spec"]["ports"].as_array_mut() else {
        return Ok(());
    };
    for (index, port) in ports.iter_mut().enumerate() {
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
        match port["nodePort"].as_u64() {
            Some(asked) if asked != 0 => {
                let field = format!("spec.ports[{index}].nodePort");
                let number = u16::try_from(asked).ok().filter(|n| NODE_PORTS.contains(n)).ok_or_else(|| {
                    (
                        field.clone(),
                        format!("Invalid value: {asked}: provided port is not in the valid range. The range of valid ports is 30000-32767"),
                    )
                })?;
                let taken = !mine.contains(&(protocol.clone(), number)) && !reserved.port(&protocol, number);
                if taken {
                    return Err((
                        field,
                        format!("Invalid value: {asked}: provided port is already allocated"),
                    ));
                }
            }
            _ if wants => {
                let mut rng = rand::rng();
                let free = (0..10_000)
                    .map(|_| rng.random_range(NODE_PORTS))
                    .find(|number| reserved.port(&protocol, *number));
                let number = free.ok_or_else(|| {
                    (
                        format!("spec.ports[{index}].nodePort"),
                        "Invalid value: 0: failed to allocate a nodePort: range is full".to_owned(),
                    )
                })?;
                port["nodePort"] = json!(number);
            }
            _ => {
                object::as_map(port).remove("nodePort");
            }
        }
    }
    Ok(())
}
