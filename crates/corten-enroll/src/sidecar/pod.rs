//! A sidecar's redirection from the pod that has it: Istio's annotations, and the proxy container's user and environment.

use std::collections::BTreeMap;

use super::settings::names;
use super::{Dns, Groups, Mode, Ports, Ranges, Settings, SettingsError};

/// What counts of the pod's proxy container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyContainer {
    /// The user it runs as.
    pub user: Option<i64>,
    /// Its group.
    pub group: Option<i64>,
    /// Its environment, as far as it is given by value.
    pub environment: BTreeMap<String, String>,
}

/// The proxy's own ports, which are never taken.
const OWN_PORTS: [u16; 3] = [15020, 15021, 15090];

/// Reads the settings. An annotation that cannot be read is an error: half a redirection would leave traffic out unnoticed.
pub fn from_pod(
    annotations: &BTreeMap<String, String>,
    proxy: &ProxyContainer,
    ipv6: bool,
) -> Result<Settings, SettingsError> {
    let get = |name: &str| annotations.get(name).map(String::as_str);
    let traffic = |name: &str| get(&format!("traffic.sidecar.istio.io/{name}"));
    let mut inbound_exclude = Ports::parse(traffic("excludeInboundPorts").unwrap_or_default())?
        .listed()
        .to_vec();
    for port in OWN_PORTS {
        if !inbound_exclude.contains(&port) {
            inbound_exclude.push(port);
        }
    }
    let is_on = |name: &str| proxy.environment.get(name).is_some_and(|value| truth(value));
    let id = |id: Option<i64>| id.filter(|id| *id != 0).unwrap_or(1337).to_string();
    let virtual_interfaces = get("istio.io/reroute-virtual-interfaces").or_else(|| traffic("kubevirtInterfaces"));
    Ok(Settings {
        users: vec![id(proxy.user)],
        groups: vec![id(proxy.group)],
        mode: Mode::parse(get("sidecar.istio.io/interceptionMode").unwrap_or_default())?,
        inbound_include: Ports::parse(traffic("includeInboundPorts").unwrap_or("*"))?,
        inbound_exclude: Ports::List(inbound_exclude),
        outbound_include: Ports::parse(traffic("includeOutboundPorts").unwrap_or_default())?,
        outbound_exclude: Ports::parse(traffic("excludeOutboundPorts").unwrap_or("15020"))?,
        ranges_include: Ranges::parse(traffic("includeOutboundIPRanges").unwrap_or("*"))?,
        ranges_exclude: Ranges::parse(traffic("excludeOutboundIPRanges").unwrap_or_default())?,
        owners: Groups::Except(Vec::new()),
        reroute_interfaces: names(virtual_interfaces.unwrap_or_default()),
        exclude_interfaces: names(traffic("excludeInterfaces").unwrap_or_default()),
        dns: if is_on("ISTIO_META_DNS_CAPTURE") {
            Dns::All
        } else {
            Dns::Off
        },
        drop_invalid: is_on("INVALID_DROP"),
        ipv6: ipv6 || is_on("ISTIO_DUAL_STACK"),
        ..Settings::default()
    })
}

/// The spellings of true that Go knows.
fn truth(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}
