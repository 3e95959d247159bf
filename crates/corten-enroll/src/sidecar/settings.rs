//! What a sidecar's redirection depends on, read from the forms that annotations and environment have.

use std::net::IpAddr;

use ipnet::IpNet;

/// A setting that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not {expected}")]
pub struct SettingsError {
    /// The part that is wrong.
    pub value: String,
    /// Which setting it is.
    pub what: &'static str,
    /// What it should have been.
    pub expected: &'static str,
}

/// How connections to the pod reach the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// The destination is changed; the client's address is lost.
    #[default]
    Redirect,
    /// The socket is assigned; the client's address is kept.
    Tproxy,
}

impl Mode {
    /// Reads `REDIRECT` or `TPROXY`.
    pub fn parse(text: &str) -> Result<Mode, SettingsError> {
        match text {
            "" | "REDIRECT" => Ok(Mode::Redirect),
            "TPROXY" => Ok(Mode::Tproxy),
            other => Err(SettingsError {
                value: other.to_owned(),
                what: "interception mode",
                expected: "REDIRECT or TPROXY",
            }),
        }
    }
}

/// Which ports.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Ports {
    /// None are named.
    #[default]
    None,
    /// All of them.
    All,
    /// These.
    List(Vec<u16>),
}

impl Ports {
    /// Reads `*`, nothing, or a list with commas.
    pub fn parse(text: &str) -> Result<Ports, SettingsError> {
        if text.trim() == "*" {
            return Ok(Ports::All);
        }
        let ports = words(text).map(|word| {
            word.parse().map_err(|_| SettingsError {
                value: word.to_owned(),
                what: "port",
                expected: "a number below 65536, or * for all",
            })
        });
        let ports: Vec<u16> = ports.collect::<Result<_, _>>()?;
        Ok(if ports.is_empty() {
            Ports::None
        } else {
            Ports::List(ports)
        })
    }

    /// The ports that are listed one by one.
    pub fn listed(&self) -> &[u16] {
        match self {
            Ports::List(ports) => ports,
            Ports::None | Ports::All => &[],
        }
    }
}

/// Which addresses.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ranges {
    /// All of them.
    pub all: bool,
    /// These.
    pub nets: Vec<IpNet>,
}

impl Ranges {
    /// Reads `*`, nothing, or a list with commas.
    pub fn parse(text: &str) -> Result<Ranges, SettingsError> {
        if text.trim() == "*" {
            return Ok(Ranges {
                all: true,
                nets: Vec::new(),
            });
        }
        let nets = words(text).map(|word| {
            let net = word.parse::<IpNet>().map(|net| net.trunc());
            net.or_else(|_| word.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| SettingsError {
                    value: word.to_owned(),
                    what: "address range",
                    expected: "an address with a prefix length, or * for all",
                })
        });
        Ok(Ranges {
            all: false,
            nets: nets.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a loopback address is in one of the ranges that are named.
    pub fn has_loopback(&self) -> bool {
        self.nets.iter().any(|net| net.addr().is_loopback())
    }

    /// The ranges of one family.
    pub fn family(&self, v6: bool) -> impl Iterator<Item = IpNet> {
        self.nets.iter().copied().filter(move |net| net.addr().is_ipv6() == v6)
    }
}

/// Whose traffic is taken, by group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// Everybody's but these.
    Except(Vec<String>),
    /// These groups' only.
    Only(Vec<String>),
}

impl Groups {
    /// From a list that is taken (`*`: all) and one that is not.
    pub fn new(include: &str, exclude: &str) -> Groups {
        if include.trim() == "*" {
            Groups::Except(names(exclude))
        } else {
            Groups::Only(names(include))
        }
    }
}

/// Which queries are asked of the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Dns {
    /// None.
    #[default]
    Off,
    /// All of them.
    All,
    /// Those to these servers: a local resolver's own queries are left alone.
    Servers(Vec<IpAddr>),
}

/// What a sidecar's redirection depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The proxy's port for what the pod sends.
    pub outbound_port: u16,
    /// Its port for what the pod receives.
    pub inbound_port: u16,
    /// Its port for tunnels.
    pub tunnel_port: u16,
    /// The users the proxy runs as.
    pub users: Vec<String>,
    /// The groups it runs as.
    pub groups: Vec<String>,
    /// How connections to the pod are taken.
    pub mode: Mode,
    /// The mark in mode TPROXY.
    pub tproxy_mark: u32,
    /// Ports of the pod that are taken.
    pub inbound_include: Ports,
    /// Ports that are not, when all others are.
    pub inbound_exclude: Ports,
    /// Ports elsewhere that are taken whatever the address.
    pub outbound_include: Ports,
    /// Ports elsewhere that are not.
    pub outbound_exclude: Ports,
    /// Addresses elsewhere that are taken.
    pub ranges_include: Ranges,
    /// Addresses elsewhere that are not.
    pub ranges_exclude: Ranges,
    /// Whose traffic.
    pub owners: Groups,
    /// What comes in here is outbound traffic of a machine inside the pod.
    pub reroute_interfaces: Vec<String>,
    /// Left alone altogether.
    pub exclude_interfaces: Vec<String>,
    /// Which queries.
    pub dns: Dns,
    /// Packets that belong to no connection are dropped, rather than answered with a reset.
    pub drop_invalid: bool,
    /// Also for IPv6.
    pub ipv6: bool,
    /// What counts as loopback, as configured (the bits after the prefix are kept for readers).
    pub loopback_v4: IpNet,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            outbound_port: 15001,
            inbound_port: 15006,
            tunnel_port: 15008,
            users: vec!["1337".into()],
            groups: vec!["1337".into()],
            mode: Mode::Redirect,
            tproxy_mark: 1337,
            inbound_include: Ports::None,
            inbound_exclude: Ports::None,
            outbound_include: Ports::None,
            outbound_exclude: Ports::None,
            ranges_include: Ranges::default(),
            ranges_exclude: Ranges::default(),
            owners: Groups::Except(Vec::new()),
            reroute_interfaces: Vec::new(),
            exclude_interfaces: Vec::new(),
            dns: Dns::Off,
            drop_invalid: false,
            ipv6: false,
            loopback_v4: IpNet::from(IpAddr::from([127, 0, 0, 1])),
        }
    }
}

/// Names in a list with commas.
pub fn names(text: &str) -> Vec<String> {
    words(text).map(str::to_owned).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}
