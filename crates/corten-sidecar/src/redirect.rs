//! `istio-iptables`: leads a pod's connections through its proxy, from the flags and variables that Istio's init container has.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};

use corten_enroll::sidecar::{
    ApplyError, Dns, Groups, Mode, PROXY_PRIORITY, Ports, ProxyMark, Ranges, Settings, SettingsError, TPROXY_TABLE,
    apply, has_one_user, names, nftables,
};
use corten_linux::net::Rtnl;
use corten_linux::sockets::set_priority;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// The exit code that says that a pod has no redirection; the node agent's repair looks for it.
pub const NOT_REDIRECTED: u8 = 126;
/// Where trial connections go, and where nobody listens.
const TRIAL_PORT: u16 = 15002;
/// The addresses that the proxy takes for what it passes on to the pod.
const PASSTHROUGH_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const PASSTHROUGH_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// The flags of `istio-iptables`.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "istio-iptables",
    about = "Leads a pod's connections through its proxy",
    after_help = "Every flag can also be given by a variable of its long name (ISTIO_INBOUND_PORTS). Further variables: ISTIO_META_DNS_CAPTURE,
INVALID_DROP, ISTIO_DUAL_STACK, ISTIO_OUTBOUND_OWNER_GROUPS, ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE, ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR."
)]
pub struct Redirection {
    /// Port of the proxy for what the pod sends
    #[arg(short = 'p', long, value_name = "PORT")]
    envoy_port: Option<u16>,
    /// Port of the proxy for what the pod receives
    #[arg(short = 'z', long, value_name = "PORT")]
    inbound_capture_port: Option<u16>,
    /// Port of the proxy for tunnels
    #[arg(short = 'e', long, value_name = "PORT")]
    inbound_tunnel_port: Option<u16>,
    /// User whose connections are the proxy's [default: 1337]
    #[arg(short = 'u', long, value_name = "UID")]
    proxy_uid: Option<String>,
    /// Group whose connections are the proxy's [default: the number of the user]
    #[arg(short = 'g', long, value_name = "GID")]
    proxy_gid: Option<String>,
    /// REDIRECT, or TPROXY, which keeps the client's address
    #[arg(short = 'm', long, value_name = "MODE")]
    istio_inbound_interception_mode: Option<String>,
    /// Ports of the pod that are taken; *: all
    #[arg(short = 'b', long, value_name = "PORTS")]
    istio_inbound_ports: Option<String>,
    /// Ports of the pod that are not, where all others are
    #[arg(short = 'd', long, value_name = "PORTS")]
    istio_local_exclude_ports: Option<String>,
    /// Interfaces that are left alone
    #[arg(short = 'c', long, value_name = "NAMES")]
    istio_exclude_interfaces: Option<String>,
    /// Addresses elsewhere that are taken; *: all
    #[arg(short = 'i', long, value_name = "CIDRS")]
    istio_service_cidr: Option<String>,
    /// Addresses elsewhere that are not
    #[arg(short = 'x', long, value_name = "CIDRS")]
    istio_service_exclude_cidr: Option<String>,
    /// Ports elsewhere that are taken whatever the address
    #[arg(short = 'q', long, value_name = "PORTS")]
    istio_outbound_ports: Option<String>,
    /// Ports elsewhere that are not taken
    #[arg(short = 'o', long, value_name = "PORTS")]
    istio_local_outbound_ports_exclude: Option<String>,
    /// Interfaces of machines inside the pod
    #[arg(short = 'k', long, value_name = "NAMES")]
    kube_virt_interfaces: Option<String>,
    /// Mark of mode TPROXY
    #[arg(short = 't', long, value_name = "NUMBER")]
    istio_inbound_tproxy_mark: Option<u32>,
    /// Routing table of mode TPROXY
    #[arg(short = 'r', long, value_name = "NUMBER")]
    istio_inbound_tproxy_route_table: Option<u32>,
    /// Print the rules only
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Put no rules in place
    #[arg(long)]
    skip_rule_apply: bool,
    /// See whether connections are led to the proxy, and end with 126 if not
    #[arg(long)]
    run_validation: bool,
    /// Names are asked of the proxy
    #[arg(long)]
    redirect_dns: bool,
    /// All names, not only those asked of the pod's own resolvers
    #[arg(long)]
    capture_all_dns: bool,
    /// Packets that belong to no connection are dropped
    #[arg(long)]
    drop_invalid: bool,
    /// Understood; a pod with addresses of both families is served in both
    #[arg(long, hide = true)]
    dual_stack: bool,
    /// Understood; rules take the place of what was there
    #[arg(long, hide = true)]
    reconcile: bool,
    /// Understood; rules take the place of what was there
    #[arg(long, hide = true)]
    force_apply: bool,
    /// Understood; nf_tables are tried first
    #[arg(long, hide = true)]
    native_nftables: bool,
    /// How much is said
    #[arg(long = "log_output_level", value_name = "LEVELS")]
    pub(crate) log_output_level: Option<String>,
    /// Understood; the lines are text
    #[arg(long = "log_as_json", hide = true)]
    log_as_json: bool,
}

/// Why a pod is not redirected.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// A setting cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The kernel refuses.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The pod's addresses are not known.
    #[error("the pod's addresses cannot be read: {0}")]
    Addresses(String),
    /// What should be redirected is not.
    #[error(
        "connections are not led to the proxy ({0}); the pod was started before its node was ready for the mesh: delete it, and it is made anew"
    )]
    NotRedirected(String),
}

/// The settings, and the routing table of mode TPROXY.
fn resolve(
    flags: &Redirection,
    variables: &BTreeMap<&str, &str>,
    addresses: &[IpAddr],
    resolvers: &str,
) -> Result<(Settings, u32), SettingsError> {
    let text = |flag: &Option<String>, name: &str, default: &str| {
        let variable = || variables.get(name).map(|value| (*value).to_owned());
        flag.clone().or_else(variable).unwrap_or_else(|| default.to_owned())
    };
    let truth = |name: &str| {
        let value = variables.get(name).copied().unwrap_or_default();
        matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
    };
    let number = |flag: Option<u32>, name: &'static str, default: u32| match (flag, variables.get(name)) {
        (Some(number), _) => Ok(number),
        (None, Some(value)) => value.parse().map_err(|_| SettingsError {
            value: (*value).to_owned(),
            what: name,
            expected: "a number",
        }),
        (None, None) => Ok(default),
    };
    let port = |flag: Option<u16>, name: &'static str, default: u16| {
        let number = number(flag.map(u32::from), name, u32::from(default))?;
        u16::try_from(number).map_err(|_| SettingsError {
            value: number.to_string(),
            what: name,
            expected: "a port",
        })
    };
    let user = text(&flags.proxy_uid, "PROXY_UID", "1337");
    let group = text(&flags.proxy_gid, "PROXY_GID", &user);
    let capture = flags.redirect_dns || truth("REDIRECT_DNS") || truth("ISTIO_META_DNS_CAPTURE");
    let dns = match (capture, flags.capture_all_dns || truth("CAPTURE_ALL_DNS")) {
        (false, _) => Dns::Off,
        (true, true) => Dns::All,
        (true, false) => Dns::Servers(nameservers(resolvers)),
    };
    let loopback = variables.get("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR").copied();
    let loopback = loopback.unwrap_or("127.0.0.1/32");
    let owners = |name: &str, default| variables.get(name).copied().unwrap_or(default);
    let settings = Settings {
        outbound_port: port(flags.envoy_port, "ENVOY_PORT", 15001)?,
        inbound_port: port(flags.inbound_capture_port, "INBOUND_CAPTURE_PORT", 15006)?,
        tunnel_port: port(flags.inbound_tunnel_port, "INBOUND_TUNNEL_PORT", 15008)?,
        users: vec![user],
        groups: vec![group],
        mode: Mode::parse(&text(
            &flags.istio_inbound_interception_mode,
            "ISTIO_INBOUND_INTERCEPTION_MODE",
            "",
        ))?,
        tproxy_mark: number(flags.istio_inbound_tproxy_mark, "ISTIO_INBOUND_TPROXY_MARK", 1337)?,
        inbound_include: Ports::parse(&text(&flags.istio_inbound_ports, "ISTIO_INBOUND_PORTS", ""))?,
        inbound_exclude: Ports::parse(&text(&flags.istio_local_exclude_ports, "ISTIO_LOCAL_EXCLUDE_PORTS", ""))?,
        outbound_include: Ports::parse(&text(&flags.istio_outbound_ports, "ISTIO_OUTBOUND_PORTS", ""))?,
        outbound_exclude: Ports::parse(&text(
            &flags.istio_local_outbound_ports_exclude,
            "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE",
            "",
        ))?,
        ranges_include: Ranges::parse(&text(&flags.istio_service_cidr, "ISTIO_SERVICE_CIDR", ""))?,
        ranges_exclude: Ranges::parse(&text(
            &flags.istio_service_exclude_cidr,
            "ISTIO_SERVICE_EXCLUDE_CIDR",
            "",
        ))?,
        owners: Groups::new(
            owners("ISTIO_OUTBOUND_OWNER_GROUPS", "*"),
            owners("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", ""),
        ),
        reroute_interfaces: names(&text(&flags.kube_virt_interfaces, "KUBE_VIRT_INTERFACES", "")),
        exclude_interfaces: names(&text(&flags.istio_exclude_interfaces, "ISTIO_EXCLUDE_INTERFACES", "")),
        dns,
        drop_invalid: flags.drop_invalid || truth("DROP_INVALID") || truth("INVALID_DROP"),
        // Left alone, the other family would lead past the proxy.
        ipv6: addresses.iter().any(IpAddr::is_ipv6),
        loopback_v4: loopback.parse().map_err(|_| SettingsError {
            value: loopback.to_owned(),
            what: "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
            expected: "an address with a prefix length",
        })?,
    };
    let table = number(
        flags.istio_inbound_tproxy_route_table,
        "ISTIO_INBOUND_TPROXY_ROUTE_TABLE",
        TPROXY_TABLE,
    )?;
    Ok((settings, table))
}

/// The resolvers that a `resolv.conf` names.
fn nameservers(text: &str) -> Vec<IpAddr> {
    let words = text.lines().map(|line| {
        let mut words = line.split_whitespace();
        (words.next(), words.next())
    });
    let servers = words.filter(|(keyword, _)| *keyword == Some("nameserver"));
    servers.filter_map(|(_, server)| server?.parse().ok()).collect()
}

/// The addresses of this network namespace but for those of loopback and of links alone.
///
/// # Errors
///
/// The kernel does not say.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let listed = Rtnl::open()?.addresses().map_err(io::Error::other)?;
    let global = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    Ok(listed
        .into_iter()
        .map(|address| address.net.addr())
        .filter(global)
        .collect())
}

/// Does what the flags say; blocks for a few system calls, with validation for a few connections.
///
/// # Errors
///
/// The pod's connections are not led to the proxy, or not all of them.
pub fn redirect(flags: &Redirection, variables: &[(String, String)]) -> Result<(), RedirectError> {
    let variables: BTreeMap<&str, &str> = variables
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let addresses = own_addresses().map_err(|error| RedirectError::Addresses(error.to_string()))?;
    let resolvers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let (mut settings, table) = resolve(flags, &variables, &addresses, &resolvers)?;
    if settings.dns != Dns::Off {
        // Led to a port where nobody answers, every name would be lost.
        tracing::warn!(
            "ISTIO_META_DNS_CAPTURE has no effect: this proxy answers no names, and the pod's resolvers are asked as before"
        );
        settings.dns = Dns::Off;
    }
    if flags.dry_run {
        tracing::info!(rules = nftables::render(&settings), "these rules are wanted");
        return Ok(());
    }
    if !flags.skip_rule_apply {
        let mark = if has_one_user() {
            ProxyMark::Priority
        } else {
            ProxyMark::Owner
        };
        apply(&settings, mark, table)?;
        tracing::info!(mode = ?settings.mode, ?mark, ipv6 = settings.ipv6, "connections are led through the proxy");
    }
    if flags.run_validation {
        validate(&settings)?;
    }
    Ok(())
}

/// Calls, as the proxy, an address of loopback where nobody listens, and expects to arrive at the proxy's port, in whose place this
/// process listens for the time being.
fn validate(settings: &Settings) -> Result<(), RedirectError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| RedirectError::NotRedirected(format!("{what}: {error}"))
    };
    let mut trials = vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(PASSTHROUGH_V4))];
    if settings.ipv6 {
        trials.push((IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(PASSTHROUGH_V6)));
    }
    for (here, nobody) in trials {
        let listener =
            TcpListener::bind((here, settings.inbound_port)).map_err(failed("listening in the proxy's place"))?;
        listener
            .set_nonblocking(true)
            .map_err(failed("listening in the proxy's place"))?;
        let _trial = call(SocketAddr::new(nobody, TRIAL_PORT)).map_err(failed("a trial connection"))?;
        // What is connected is queued here, or it went elsewhere.
        listener.accept().map_err(failed("a trial connection led elsewhere"))?;
    }
    Ok(())
}

/// Connects as the proxy does.
fn call(to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    mark(socket.as_fd())?;
    // On loopback this ends at once, one way or the other.
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// Makes a socket one of the proxy's, where its user does not.
///
/// # Errors
///
/// It is no socket of a network.
pub fn mark(socket: BorrowedFd<'_>) -> io::Result<()> {
    if has_one_user() {
        set_priority(socket, PROXY_PRIORITY)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn settings(flags: &[&str], variables: &[(&str, &str)]) -> Result<(Settings, u32), SettingsError> {
        let flags = Redirection::parse_from([&["istio-iptables"], flags].concat());
        let variables = variables.iter().copied().collect();
        let addresses = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        resolve(
            &flags,
            &variables,
            &addresses,
            "search x\nnameserver 10.96.0.10\nnameserver fd00::a\n",
        )
    }

    #[test]
    fn an_injected_containers_arguments_are_understood() {
        let (settings, table) = settings(
            &[
                "-p",
                "15001",
                "-z",
                "15006",
                "-u",
                "1337",
                "-m",
                "TPROXY",
                "-i",
                "*",
                "-x",
                "",
                "-b",
                "*",
                "-d",
                "15090,15021,15020",
                "--log_output_level=default:info",
            ],
            &[("ISTIO_META_DNS_CAPTURE", "true"), ("INVALID_DROP", "1")],
        )
        .unwrap();
        assert_eq!(settings.users, ["1337"]);
        assert_eq!(settings.mode, Mode::Tproxy);
        assert!(settings.ranges_include.all && settings.drop_invalid && settings.ipv6);
        assert_eq!(settings.inbound_exclude.listed(), [15090, 15021, 15020]);
        assert_eq!(
            settings.dns,
            Dns::Servers(vec!["10.96.0.10".parse().unwrap(), "fd00::a".parse().unwrap()])
        );
        assert_eq!(table, 133);
    }

    #[test]
    fn variables_stand_in_for_flags_and_what_is_wrong_is_named() {
        let (settings_of, table) = settings(
            &[],
            &[
                ("ISTIO_INBOUND_PORTS", "80,443"),
                ("ISTIO_INBOUND_TPROXY_ROUTE_TABLE", "7"),
            ],
        )
        .unwrap();
        assert_eq!(settings_of.inbound_include.listed(), [80, 443]);
        assert_eq!((settings_of.dns, table), (Dns::Off, 7));
        let error = settings(&[], &[("ENVOY_PORT", "x")]).unwrap_err();
        assert_eq!(error.to_string(), "ENVOY_PORT \"x\" is not a number");
    }
}
