//! What a name means: the records of the cluster's zone, by the Kubernetes DNS specification (schema version 1.1.0). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;

use crate::services::{Catalog, Port, Service, ServiceKind};

/// How long answers may be remembered: endpoints change within seconds.
pub(super) const TTL_SECONDS: u32 = 5;

/// The zone we have authority over.
#[derive(Clone, Debug)]
pub struct Zone {
    /// `cluster.local`, without a final dot.
    pub domain: String,
    /// Ranges whose addresses have names here (services, pods): questions for them are never passed on.
    pub ranges: Vec<IpNet>,
}

/// What is known of a name.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// Records of the asked type; empty where the name has others only.
    Records(Vec<Record>),
    /// The name is another one's alias.
    Alias(Box<(Record, Name)>),
    /// There is no such name.
    Nothing,
    /// Not in our zone.
    Elsewhere,
}

/// A name's labels, in lower case.
fn labels(name: &Name) -> Vec<String> {
    name.iter()
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
        .collect()
}

impl Zone {
    fn suffix(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.domain.split('.')
    }

    /// The labels before the zone's own; `None` outside of it.
    fn within(&self, labels: &[String]) -> Option<usize> {
        let suffix: Vec<&str> = self.suffix().collect();
        let split = labels.len().checked_sub(suffix.len())?;
        (labels[split..] == suffix[..]).then_some(split)
    }

    /// Whether the name is in the zone, or the reverse name of an address in it.
    pub(super) fn has(&self, name: &Name) -> bool {
        let labels = labels(name);
        self.within(&labels).is_some() || reverse(&labels).is_some_and(|address| self.has_address(address))
    }

    fn has_address(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }

    fn name(&self, labels: &[&str]) -> Option<Name> {
        let all = labels.iter().copied().chain(self.suffix()).map(str::as_bytes);
        let mut name = Name::from_labels(all).ok()?;
        name.set_fqdn(true);
        Some(name)
    }

    /// The record that says who answers for the zone, and how long "no" may be remembered.
    pub(super) fn authority(&self) -> Option<Record> {
        let soa = SOA::new(
            self.name(&["ns", "dns"])?,
            self.name(&["hostmaster"])?,
            1,
            7200,
            1800,
            86400,
            TTL_SECONDS,
        );
        Some(Record::from_rdata(self.name(&[])?, TTL_SECONDS, RData::SOA(soa)))
    }

    /// Looks a name up.
    pub(super) fn find(&self, catalog: &Catalog, name: &Name, kind: RecordType) -> Found {
        let labels = labels(name);
        if let Some(split) = self.within(&labels) {
            let labels: Vec<&str> = labels[..split].iter().map(String::as_str).collect();
            return Lookup {
                zone: self,
                catalog,
                name,
                kind,
            }
            .inside(&labels);
        }
        match reverse(&labels) {
            Some(address) if self.has_address(address) => self.pointer(catalog, name, kind, address),
            _ => Found::Elsewhere,
        }
    }

    fn pointer(&self, catalog: &Catalog, name: &Name, kind: RecordType, address: IpAddr) -> Found {
        let mut targets = Vec::new();
        for ((namespace, service), entry) in catalog.owners(address) {
            let Some(definition) = &entry.service else { continue };
            if definition.addresses.contains(&address) {
                targets.extend(self.name(&[service, namespace, "svc"]));
            }
            for endpoint in entry.slices.values().flat_map(|slice| &slice.endpoints) {
                if endpoint.addresses.contains(&address) && definition.kind == ServiceKind::Headless {
                    let host = endpoint.hostname.clone().unwrap_or_else(|| dashed(address));
                    targets.extend(self.name(&[&host, service, namespace, "svc"]));
                }
            }
        }
        if targets.is_empty() {
            return Found::Nothing;
        }
        if kind != RecordType::PTR {
            return Found::Records(Vec::new());
        }
        let record = |target| Record::from_rdata(name.clone(), TTL_SECONDS, RData::PTR(PTR(target)));
        Found::Records(targets.into_iter().map(record).collect())
    }
}

/// One question about a name in the zone.
struct Lookup<'a> {
    zone: &'a Zone,
    catalog: &'a Catalog,
    name: &'a Name,
    kind: RecordType,
}

impl Lookup<'_> {
    fn inside(&self, labels: &[&str]) -> Found {
        match labels {
            [] if self.kind == RecordType::SOA => Found::Records(self.zone.authority().into_iter().collect()),
            ["dns-version"] if self.kind == RecordType::TXT => {
                Found::Records(vec![self.record(RData::TXT(TXT::new(vec!["1.1.0".into()])))])
            }
            // Names that exist because others below them do.
            [] | ["svc" | "pod" | "dns-version"] => Found::Records(Vec::new()),
            [namespace, "svc" | "pod"] if self.catalog.has_namespace(namespace) => Found::Records(Vec::new()),
            [address, namespace, "pod"] if self.catalog.has_namespace(namespace) => match undashed(address) {
                Some(address) => self.addresses([address]),
                None => Found::Nothing,
            },
            [service, namespace, "svc"] => self.with(namespace, service, |entry| self.service(entry)),
            [one, service, namespace, "svc"] => self.with(namespace, service, |entry| match one.strip_prefix('_') {
                Some(protocol) if entry.ports().any(|port| protocol_name(port.protocol) == protocol) => {
                    Found::Records(Vec::new())
                }
                Some(_) => Found::Nothing,
                None => self.host(entry, one),
            }),
            [port, protocol, service, namespace, "svc"] => self.with(namespace, service, |entry| {
                match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                    (Some(port), Some(protocol)) => self.named_port(entry, port, protocol),
                    _ => Found::Nothing,
                }
            }),
            _ => Found::Nothing,
        }
    }

    fn with(&self, namespace: &str, service: &str, found: impl FnOnce(&Known<'_>) -> Found) -> Found {
        let entry = self.catalog.get(namespace, service);
        let Some((definition, entry)) = entry.and_then(|entry| Some((entry.service.as_ref()?, entry))) else {
            return Found::Nothing;
        };
        let endpoints = entry.slices.values().flat_map(|slice| {
            let usable = slice
                .endpoints
                .iter()
                .filter(|e| e.ready || definition.publish_not_ready);
            usable.flat_map(move |endpoint| {
                endpoint.addresses.iter().map(move |address| Host {
                    label: endpoint.hostname.clone().unwrap_or_else(|| dashed(*address)),
                    address: *address,
                    ports: &slice.ports,
                })
            })
        });
        let mut hosts: Vec<Host<'_>> = endpoints.collect();
        hosts.sort_by(|a, b| (a.address, &a.label).cmp(&(b.address, &b.label)));
        hosts.dedup_by(|a, b| a.address == b.address && a.label == b.label && a.ports == b.ports);
        found(&Known {
            namespace,
            name: service,
            definition,
            hosts,
        })
    }

    fn service(&self, known: &Known<'_>) -> Found {
        match &known.definition.kind {
            ServiceKind::External(host) => self.alias(host),
            _ if self.kind == RecordType::SRV => self.ports(known, |_| true),
            ServiceKind::Addressed => self.addresses(known.definition.addresses.iter().copied()),
            // A headless service without endpoints has no addresses, but its name exists.
            ServiceKind::Headless => self.addresses(known.hosts.iter().map(|host| host.address)),
        }
    }

    fn alias(&self, host: &str) -> Found {
        let Ok(mut target) = Name::from_ascii(host) else {
            return Found::Records(Vec::new());
        };
        target.set_fqdn(true);
        let record = self.record(RData::CNAME(CNAME(target.clone())));
        Found::Alias(Box::new((record, target)))
    }

    fn host(&self, known: &Known<'_>, label: &str) -> Found {
        let hosts: Vec<_> = known
            .hosts
            .iter()
            .filter(|host| host.label.eq_ignore_ascii_case(label))
            .collect();
        if hosts.is_empty() || known.definition.kind != ServiceKind::Headless {
            return Found::Nothing;
        }
        self.addresses(hosts.iter().map(|host| host.address))
    }

    fn named_port(&self, known: &Known<'_>, port: &str, protocol: &str) -> Found {
        let wanted = |candidate: &Port| candidate.name == port && protocol_name(candidate.protocol) == protocol;
        if !known.ports().any(wanted) {
            return Found::Nothing;
        }
        if self.kind != RecordType::SRV {
            return Found::Records(Vec::new());
        }
        self.ports(known, wanted)
    }

    /// Where the service's ports are: at its own name, or at each endpoint's.
    fn ports(&self, known: &Known<'_>, wanted: impl Fn(&Port) -> bool) -> Found {
        let service = [known.name, known.namespace, "svc"];
        let mut records = Vec::new();
        for port in known.ports().filter(|port| wanted(port)) {
            let mut targets: Vec<(u16, Option<Name>)> = Vec::new();
            match known.definition.kind {
                ServiceKind::Headless => {
                    for host in &known.hosts {
                        let own = host
                            .ports
                            .iter()
                            .find(|(name, protocol, _)| *name == port.name && *protocol == port.protocol);
                        let name = self.zone.name(&[&[host.label.as_str()], &service[..]].concat());
                        targets.extend(own.map(|(_, _, number)| (*number, name)));
                    }
                }
                _ => targets.push((port.port, self.zone.name(&service))),
            }
            // An endpoint of two families is one target.
            let mut seen = std::collections::HashSet::new();
            targets.retain(|target| seen.insert(target.clone()));
            let weight = 100 / u16::try_from(targets.len().clamp(1, 100)).unwrap_or(100);
            for (number, target) in targets {
                records.extend(target.map(|target| self.record(RData::SRV(SRV::new(0, weight, number, target)))));
            }
        }
        Found::Records(records)
    }

    /// The addresses of the asked family.
    fn addresses(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Found {
        let wanted = |address: &IpAddr| match self.kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        };
        let mut all: Vec<IpAddr> = addresses.into_iter().filter(wanted).collect();
        all.dedup();
        Found::Records(
            all.into_iter()
                .map(|address| self.record(address_data(address)))
                .collect(),
        )
    }

    fn record(&self, data: RData) -> Record {
        // The owner is spelled as it was asked for, which clients that mix cases on purpose check.
        Record::from_rdata(self.name.clone(), TTL_SECONDS, data)
    }
}

/// A service that was found.
struct Known<'a> {
    namespace: &'a str,
    name: &'a str,
    definition: &'a Service,
    hosts: Vec<Host<'a>>,
}

/// An endpoint with its name in the service.
struct Host<'a> {
    label: String,
    address: IpAddr,
    ports: &'a [(String, u8, u16)],
}

impl Known<'_> {
    fn ports(&self) -> impl Iterator<Item = &Port> {
        self.definition.ports.iter()
    }
}

pub(super) fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

fn protocol_name(number: u8) -> &'static str {
    match number {
        17 => "udp",
        132 => "sctp",
        _ => "tcp",
    }
}

/// `10-244-1-2`
fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The address that a pod's name spells.
fn undashed(label: &str) -> Option<IpAddr> {
    label
        .replace('-', ".")
        .parse::<Ipv4Addr>()
        .map(IpAddr::V4)
        .or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6))
        .ok()
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` spells.
fn reverse(labels: &[String]) -> Option<IpAddr> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        [d, c, b, a, "in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse().ok(),
        [digits @ .., "ip6", "arpa"] if digits.len() == 32 => {
            let digit = |value: u128, label: &&str| {
                let number = u8::from_str_radix(label, 16).ok().filter(|_| label.len() == 1)?;
                Some(value << 4 | u128::from(number))
            };
            let value = digits.iter().rev().try_fold(0, digit)?;
            Some(IpAddr::V6(Ipv6Addr::from(value)))
        }
        _ => None,
    }
}
