//! Area `istio-cni`: redirection rules of pods and sidecars, and edits of CNI configuration files.
//!
//! Rules are compared as the rule sets they make (see [`ruleset`](super::ruleset)), so that the order of commands that do not depend on
//! each other, and spellings that mean the same, do not count.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use corten_agent::install::config;
use corten_enroll::sidecar::{self, Dns, Groups, Mode, Ports, ProxyContainer, Ranges, Settings, names};
use corten_enroll::{HostRules, PodRules, commands, iptables};
use serde_json::Value;

use super::ruleset::{Iptables, Nftables};
use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// One case for each row.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    data::judged(area, |_, row| judge(area, row))
}

fn judge(area: &Area, row: &Value) -> Result<Outcome> {
    let rules = match (row["scope"].as_str(), row["kind"].as_str()) {
        (Some("cni-conf"), _) => return cni_conf(area, row),
        (Some("pod"), Some("iptables")) => pod_iptables(&pod(row)?),
        (Some("pod"), Some("nftables")) => commands(&pod(row)?.tables()),
        (Some("host"), Some("iptables")) => host_iptables(row)?,
        (Some("host"), Some("nftables")) => commands(&[host(row)?.table(&BTreeMap::new())]),
        (Some("sidecar"), Some("iptables")) => sidecar::iptables::render(&sidecar(row)?).concat(),
        (Some("sidecar"), Some("nftables")) => sidecar::nftables::render(&sidecar(row)?),
        (Some("cni-plugin"), Some("iptables")) => sidecar::iptables::render(&plugin(row)?).concat(),
        (Some("cni-plugin"), Some("nftables")) => sidecar::nftables::render(&plugin(row)?),
        (scope, kind) => bail!("there is no judge for scope {scope:?} and kind {kind:?}"),
    };
    let expected = file(area, row, "expected")?;
    let difference = if row["kind"] == "iptables" {
        Iptables::parse(&rules)?.difference(&Iptables::parse(&expected)?)
    } else {
        Nftables::parse(&rules)?.difference(&Nftables::parse(&expected)?)
    };
    Ok(difference.map_or(Outcome::Passed, Outcome::Failed))
}

fn file(area: &Area, row: &Value, key: &str) -> Result<String> {
    let name = row[key].as_str().with_context(|| format!("{key} names no file"))?;
    let path = area.dir.join(name);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// The settings' spellings differ between the tables; a name counts whatever its case.
fn setting<'a>(row: &'a Value, name: &str) -> &'a Value {
    let settings = row.as_object().into_iter().flatten();
    let mut found = settings.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    found.next().map_or(&Value::Null, |(_, value)| value)
}

fn is_on(value: &Value) -> bool {
    value == &Value::Bool(true)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn pod(row: &Value) -> Result<PodRules> {
    let (config, pod) = (&row["config"], &row["podOverrides"]);
    let dns_capture = match pod["dnsProxy"].as_str() {
        Some("PodDNSEnabled") => true,
        Some("PodDNSDisabled") => false,
        None | Some("" | "PodDNSUnset") => is_on(setting(config, "redirectDNS")),
        Some(other) => bail!("dnsProxy {other:?} is unknown"),
    };
    let mut rules = PodRules {
        ipv6: is_on(setting(config, "enableIPv6")),
        dns_capture,
        inbound_bypass: is_on(&pod["ingressMode"]),
        virtual_interfaces: names(&text(&pod["virtualInterfaces"])),
        // The data knows nothing of this rule, which is ours.
        spare_established: false,
        ..PodRules::default()
    };
    let host = host(row)?;
    (rules.probe_source_v4, rules.probe_source_v6) = (host.probe_source_v4, host.probe_source_v6);
    Ok(rules)
}

fn host(row: &Value) -> Result<HostRules> {
    let config = &row["config"];
    let mut rules = HostRules {
        ipv6: is_on(setting(config, "enableIPv6")),
        ..HostRules::default()
    };
    let address = |name: &str| setting(config, name).as_str().map(str::parse).transpose();
    if let Some(source) = address("hostProbeSNATAddress")? {
        rules.probe_source_v4 = source;
    }
    if let Some(source) = address("hostProbeV6SNATAddress")? {
        rules.probe_source_v6 = source;
    }
    Ok(rules)
}

fn host_iptables(row: &Value) -> Result<String> {
    let rules = host(row)?;
    let mut tables = vec![iptables::host(&rules, false)];
    if rules.ipv6 {
        tables.push(iptables::host(&rules, true));
    }
    Ok(iptables::restore(&tables))
}

fn pod_iptables(rules: &PodRules) -> String {
    let mut text = iptables::restore(&iptables::pod(rules, false));
    if rules.ipv6 {
        text.push_str(&iptables::restore(&iptables::pod(rules, true)));
    }
    text
}

fn sidecar(row: &Value) -> Result<Settings> {
    let get = |name: &str| setting(&row["config"], name);
    let string = |name: &str| text(get(name));
    let defaults = Settings::default();
    let number = |name: &str, default: u32| match string(name).as_str() {
        "" => Ok(default),
        value => value.parse().with_context(|| format!("{name} is {value:?}")),
    };
    let port = |name: &str, default: u16| -> Result<u16> { Ok(number(name, default.into())?.try_into()?) };
    let servers: Vec<std::net::IpAddr> = names(&string("DNSServersV4"))
        .into_iter()
        .chain(names(&string("DNSServersV6")))
        .map(|server| server.parse().with_context(|| format!("DNS server {server:?}")))
        .collect::<Result<_>>()?;
    let dns = match is_on(get("RedirectDNS")) {
        true if is_on(get("CaptureAllDNS")) => Dns::All,
        true if !servers.is_empty() => Dns::Servers(servers),
        _ => Dns::Off,
    };
    let ports = |name: &str| Ports::parse(&string(name));
    let ranges = |name: &str| Ranges::parse(&string(name));
    let loopback = match string("HostIPv4LoopbackCidr").as_str() {
        "" => defaults.loopback_v4,
        value => value
            .parse()
            .with_context(|| format!("HostIPv4LoopbackCidr is {value:?}"))?,
    };
    let owners = |name: &str| string(name);
    Ok(Settings {
        outbound_port: port("ProxyPort", defaults.outbound_port)?,
        inbound_port: port("InboundCapturePort", defaults.inbound_port)?,
        tunnel_port: port("InboundTunnelPort", defaults.tunnel_port)?,
        users: names(&string("ProxyUID")),
        groups: names(&string("ProxyGID")),
        mode: Mode::parse(&string("InboundInterceptionMode"))?,
        tproxy_mark: number("InboundTProxyMark", defaults.tproxy_mark)?,
        inbound_include: ports("InboundPortsInclude")?,
        inbound_exclude: ports("InboundPortsExclude")?,
        outbound_include: ports("OutboundPortsInclude")?,
        outbound_exclude: ports("OutboundPortsExclude")?,
        ranges_include: ranges("OutboundIPRangesInclude")?,
        ranges_exclude: ranges("OutboundIPRangesExclude")?,
        owners: Groups::new(&owners("OwnerGroupsInclude"), &owners("OwnerGroupsExclude")),
        reroute_interfaces: names(&string("RerouteVirtualInterfaces")),
        exclude_interfaces: names(&string("ExcludeInterfaces")),
        dns,
        drop_invalid: is_on(get("DropInvalid")),
        ipv6: is_on(get("EnableIPv6")),
        loopback_v4: loopback,
    })
}

/// A pod as the plugin sees it: annotations, and the proxy container.
fn plugin(row: &Value) -> Result<Settings> {
    let annotations = row["annotations"].as_object().into_iter().flatten();
    let annotations = annotations.map(|(key, value)| (key.clone(), text(value))).collect();
    let environment = row["proxyEnv"].as_array().into_iter().flatten();
    let proxy = ProxyContainer {
        user: row["runAsUser"].as_i64(),
        group: row["runAsGroup"].as_i64(),
        environment: environment
            .map(|entry| (text(&entry["name"]), text(&entry["value"])))
            .collect(),
    };
    Ok(sidecar::from_pod(&annotations, &proxy, false)?)
}

fn cni_conf(area: &Area, row: &Value) -> Result<Outcome> {
    let (existing, new) = (file(area, row, "existing")?, file(area, row, "new")?);
    let edited = config::insert(&existing, &new);
    if is_on(&row["expectedFailure"]) {
        return Ok(match edited {
            Ok(edited) => Outcome::Failed(format!("was taken, and gave {edited}")),
            Err(_) => Outcome::Passed,
        });
    }
    let edited = edited.map_err(|error| anyhow!("{error}"))?;
    let expected: Value = serde_json::from_str(&file(area, row, "expected")?)?;
    Ok(if edited == expected {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("gave {edited}, expected {expected}"))
    })
}
