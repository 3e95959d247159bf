//! Dumps of node proxies as istioctl's tables: each a pure function of a dump and a filter.

use std::collections::HashMap;
use std::net::SocketAddr;

use corten_admin::config_dump::{
    Certificate, ChainedCertificate, Connection, Dump, Gateway, Policy, Service, Workload, WorkloadState,
};
use jiff::Timestamp;

use crate::table::{columns, row};

/// Which workloads; nothing that is not given excludes any.
#[derive(Clone, Debug, Default)]
pub struct Workloads<'a> {
    /// The pod's name.
    pub name: Option<&'a str>,
    /// Its namespace.
    pub namespace: Option<&'a str>,
    /// One of its addresses.
    pub address: Option<&'a str>,
    /// Its node.
    pub node: Option<&'a str>,
}

/// Which connections.
#[derive(Clone, Debug, Default)]
pub struct Connections<'a> {
    /// The name of the node's pod.
    pub name: Option<&'a str>,
    /// Its namespace.
    pub namespace: Option<&'a str>,
    /// Only those to it, or only those from it.
    pub direction: Option<Direction>,
    /// With addresses instead of names.
    pub raw: bool,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Others, to the pod.
    Inbound,
    /// The pod.
    Outbound,
}

/// Whether a value is as asked for, if anything was.
fn wanted(filter: Option<&str>, value: &str) -> bool {
    filter.is_none_or(|filter| filter.eq_ignore_ascii_case(value))
}

/// The workloads that a filter lets pass, in the order of the dump.
pub fn select_workloads<'a>(dump: &'a Dump, filter: &Workloads<'_>) -> Vec<&'a Workload> {
    let passes = |workload: &&Workload| {
        let addresses = &workload.workload_ips;
        wanted(filter.name, &workload.name)
            && wanted(filter.namespace, &workload.namespace)
            && wanted(filter.node, &workload.node)
            && (filter.address.is_none() || addresses.iter().any(|address| wanted(filter.address, address)))
    };
    dump.workloads.iter().filter(passes).collect()
}

/// The table of workloads.
pub fn workloads(dump: &Dump, filter: &Workloads<'_>) -> String {
    let mut shown = select_workloads(dump, filter);
    shown.sort_by_cached_key(|it| (format!("{}.{}", it.namespace, it.name), it.node.clone()));
    let waypoints = Waypoints::of(dump);
    let mut rows = vec![row([
        "NAMESPACE",
        "POD NAME",
        "ADDRESS",
        "NODE",
        "WAYPOINT",
        "PROTOCOL",
    ])];
    rows.extend(shown.into_iter().map(|it| {
        let addresses = it.workload_ips.join(",");
        let address = if addresses.is_empty() { &it.hostname } else { &addresses };
        let waypoint = waypoints.name(it.waypoint.as_ref());
        row([&it.namespace, &it.name, address, &it.node, waypoint, &it.protocol])
    }));
    columns(&rows, 1)
}

/// The services of a namespace, in order.
pub fn select_services<'a>(dump: &'a Dump, namespace: Option<&str>) -> Vec<&'a Service> {
    let passes = |service: &&Service| wanted(namespace, &service.namespace);
    let mut selected: Vec<&Service> = dump.services.iter().filter(passes).collect();
    selected.sort_by_key(|it| (&it.namespace, &it.name, &it.hostname));
    selected
}

/// The table of services.
pub fn services(dump: &Dump, namespace: Option<&str>) -> String {
    let healthy: HashMap<&str, bool> = dump
        .workloads
        .iter()
        .map(|it| (it.uid.as_str(), it.status == "Healthy"))
        .collect();
    let waypoints = Waypoints::of(dump);
    let mut rows = vec![row([
        "NAMESPACE",
        "SERVICE NAME",
        "SERVICE VIP",
        "WAYPOINT",
        "ENDPOINTS",
    ])];
    rows.extend(select_services(dump, namespace).into_iter().map(|it| {
        let addresses: Vec<&str> = it.vips.iter().map(|vip| address_of(vip)).collect();
        let uids = it.endpoints.values().map(|endpoint| endpoint.workload_uid.as_str());
        let usable = uids.filter(|uid| healthy.get(uid) == Some(&true)).count();
        let endpoints = format!("{usable}/{}", it.endpoints.len());
        let waypoint = waypoints.name(it.waypoint.as_ref());
        row([&it.namespace, &it.name, &addresses.join(","), waypoint, &endpoints])
    }));
    columns(&rows, 1)
}

/// The policies of a namespace, in order.
pub fn select_policies<'a>(dump: &'a Dump, namespace: Option<&str>) -> Vec<&'a Policy> {
    let passes = |policy: &&Policy| wanted(namespace, &policy.namespace);
    let mut selected: Vec<&Policy> = dump.policies.iter().filter(passes).collect();
    selected.sort_by_key(|it| (&it.namespace, &it.name));
    selected
}

/// The table of policies.
pub fn policies(dump: &Dump, namespace: Option<&str>) -> String {
    let mut rows = vec![row(["NAMESPACE", "POLICY NAME", "ACTION", "SCOPE"])];
    let shown = select_policies(dump, namespace).into_iter();
    rows.extend(shown.map(|it| row([&it.namespace, &it.name, &it.action, &it.scope])));
    columns(&rows, 1)
}

/// Why there is no certificate where there is none: a line for each identity.
pub fn unavailable(dump: &Dump) -> String {
    let why = |it: &Certificate| {
        Some(format!(
            "{}: {}\n",
            it.identity,
            it.state.strip_prefix("Unavailable: ")?
        ))
    };
    dump.certificates.iter().filter_map(why).collect()
}

/// The table of certificates.
pub fn certificates(dump: &Dump, now: Timestamp) -> String {
    let mut rows = vec![row([
        "CERTIFICATE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
    ])];
    for certificate in &dump.certificates {
        let (identity, chain, roots) = (&certificate.identity, &certificate.cert_chain, &certificate.root_certs);
        let state = if certificate.state.contains("Unavailable") {
            "Unavailable"
        } else {
            &certificate.state
        };
        if chain.is_empty() {
            rows.push(row([identity, "NA", state, "false", "NA", "NA", "NA"]));
            continue;
        }
        let links = chain.iter().enumerate().map(|(number, link)| {
            // Older proxies have the root at the end of the chain.
            let is_root = roots.is_empty() && number + 1 == chain.len();
            let kind = match number {
                0 => "Leaf",
                _ if is_root => "Root",
                _ => "Intermediate",
            };
            (kind, link)
        });
        rows.extend(
            links
                .chain(roots.iter().map(|root| ("Root", root)))
                .map(|(kind, link)| {
                    let valid = is_valid(link, now).to_string();
                    let serial = hexadecimal(&link.serial_number);
                    let (after, before) = (or_na(&link.expiration_time), or_na(&link.valid_from));
                    row([identity, kind, state, &valid, &serial, after, before])
                }),
        );
    }
    columns(&rows, 5)
}

/// The pods whose connections are asked for, in order.
pub fn select_pods<'a>(dump: &'a Dump, filter: &Connections<'_>) -> Vec<&'a WorkloadState> {
    let is = |filter: Option<&str>, value: &str| filter.is_none_or(|filter| filter == value);
    let passes =
        |pod: &&WorkloadState| is(filter.namespace, &pod.info.namespace) && wanted(filter.name, &pod.info.name);
    let mut selected: Vec<&WorkloadState> = dump.workload_state.values().filter(passes).collect();
    selected.sort_by_key(|it| (&it.info.namespace, &it.info.name));
    selected
}

/// The table of connections.
pub fn connections(dump: &Dump, filter: &Connections<'_>) -> String {
    let names = if filter.raw { HashMap::new() } else { names(dump) };
    let named = |address: &str| {
        let parsed = address.parse::<SocketAddr>().ok();
        let found = parsed.and_then(|parsed| Some((names.get(&parsed.ip().to_string())?, parsed.port())));
        found.map_or_else(|| address.to_owned(), |(name, port)| format!("{name}:{port}"))
    };
    let mut rows = vec![row([
        "WORKLOAD",
        "DIRECTION",
        "LOCAL",
        "REMOTE",
        "REMOTE TARGET",
        "PROTOCOL",
    ])];
    for pod in select_pods(dump, filter) {
        let workload = format!("{}.{}", pod.info.name, pod.info.namespace);
        let inbound = |it: &Connection| {
            let (local, remote) = (named(&it.actual_dst), named(&it.src));
            row([&workload, "Inbound", &local, &remote, &it.original_dst, &it.protocol])
        };
        let outbound = |it: &Connection| {
            let (local, remote, target) = (named(&it.src), named(&it.actual_dst), named(&it.original_dst));
            row([&workload, "Outbound", &local, &remote, &target, &it.protocol])
        };
        if filter.direction != Some(Direction::Outbound) {
            rows.extend(pod.connections.inbound.iter().map(inbound));
        }
        if filter.direction != Some(Direction::Inbound) {
            rows.extend(pod.connections.outbound.iter().map(outbound));
        }
    }
    columns(&rows, 1)
}

/// All tables.
pub fn all(dump: &Dump, headers: bool, now: Timestamp) -> String {
    let tables = [
        ("WORKLOAD", workloads(dump, &Workloads::default())),
        ("SERVICE", services(dump, None)),
        ("POLICY", policies(dump, None)),
        ("SECRET", certificates(dump, now)),
        ("CONNECTIONS", connections(dump, &Connections::default())),
    ];
    tables
        .into_iter()
        .map(|(title, table)| {
            let header = if headers {
                format!("------ {title} INFO ------\n\n")
            } else {
                String::new()
            };
            format!("\n{header}{table}")
        })
        .collect()
}

/// Services by what waypoints are named by.
struct Waypoints<'a>(HashMap<String, &'a str>);

impl<'a> Waypoints<'a> {
    fn of(dump: &'a Dump) -> Self {
        let mut found = HashMap::new();
        for service in &dump.services {
            let own = format!("{}/{}", service.namespace, service.hostname);
            for key in service.vips.iter().cloned().chain([own]) {
                found.entry(key).or_insert(service.name.as_str());
            }
        }
        Waypoints(found)
    }

    fn name(&self, waypoint: Option<&Gateway>) -> &'a str {
        match waypoint {
            None => "None",
            Some(waypoint) => self.0.get(&waypoint.destination).copied().unwrap_or("NA"),
        }
    }
}

/// What addresses are called: services before workloads.
fn names(dump: &Dump) -> HashMap<String, String> {
    let workloads = dump.workloads.iter().filter_map(|it| {
        let address = it.workload_ips.first()?;
        Some((address.clone(), format!("{}.{}", it.name, it.namespace)))
    });
    let services = dump.services.iter().filter_map(|it| {
        let vip = it.vips.first()?;
        Some((address_of(vip).to_owned(), it.hostname.clone()))
    });
    workloads.chain(services).collect()
}

/// The address in `network/address`.
fn address_of(vip: &str) -> &str {
    vip.split_once('/').map_or("", |(_, address)| address)
}

fn or_na(text: &str) -> &str {
    if text.is_empty() { "NA" } else { text }
}

/// Whether a certificate is in its time.
fn is_valid(certificate: &ChainedCertificate, now: Timestamp) -> bool {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let (from, until) = (time(&certificate.valid_from), time(&certificate.expiration_time));
    from.is_some_and(|from| from < now) && until.is_some_and(|until| now < until)
}

/// A decimal number of any length in hexadecimal; what is no number stays as it is.
fn hexadecimal(decimal: &str) -> String {
    // The digits to base 16, least first.
    let mut digits: Vec<u32> = Vec::new();
    for c in decimal.chars() {
        let Some(mut carry) = c.to_digit(10) else {
            return decimal.to_owned();
        };
        for digit in &mut digits {
            carry += *digit * 10;
            *digit = carry % 16;
            carry /= 16;
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    if digits.is_empty() {
        return if decimal.is_empty() { "NA" } else { "0" }.to_owned();
    }
    digits
        .iter()
        .rev()
        .filter_map(|digit| char::from_digit(*digit, 16))
        .collect()
}

#[cfg(test)]
mod tests;
