//! The doctor's child: process 1 of fresh namespaces, which tries one thing after the other and says how each came out.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use corten_linux::net::{LinkChange, LinkKind, NewLink, Rtnl, set_sysctl};
use corten_linux::nft::{Chain, ChainKind, Expression, Family, Hook, Nft, Rule, Statement, Table, Transaction, Value};
use corten_linux::{Exit, Namespaces, NetNs, Spawn, fds, mounts};
use rustix::mount::{MountFlags, mount};
use serde::{Deserialize, Serialize};

use super::Verdict;

/// The word that makes this executable be the probe.
pub(crate) const ROLE: &str = "corten-doctor-probe";

/// Where the probe tries overlays.
const PLACE: &str = "/run/corten-doctor";

/// One thing to try.
pub(super) struct Probe {
    /// What the check is called.
    pub(super) name: &'static str,
    /// What works, if it does.
    pub(super) what: &'static str,
    /// What to do if it does not.
    pub(super) remedy: &'static str,
    /// How bad that is.
    pub(super) severity: Verdict,
    attempt: fn() -> Result<(), String>,
}

/// What trying came to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// Which of [`PROBES`].
    pub(super) number: usize,
    /// Why it failed.
    pub(super) error: Option<String>,
}

/// In the order of their needs: the first two are what the others stand on.
pub(super) const PROBES: &[Probe] = &[
    Probe {
        name: "/proc",
        what: "a fresh one can be mounted",
        remedy: "in a container, /proc is masked: start it with --security-opt systempaths=unconfined, or run corten outside",
        severity: Verdict::Problem,
        attempt: fresh_proc,
    },
    Probe {
        name: "/run",
        what: "can be replaced by a private one",
        remedy: "see what is mounted below /run: mount | grep /run",
        severity: Verdict::Problem,
        attempt: private_run,
    },
    Probe {
        name: "/sys",
        what: "a fresh one can be mounted",
        remedy: "pods will see the host's /sys, which does no harm",
        severity: Verdict::Note,
        attempt: fresh_sys,
    },
    Probe {
        name: "overlay",
        what: "a directory of the host can be seen through one",
        remedy: "as root: modprobe overlay (in kernels built without it: CONFIG_OVERLAY_FS)",
        severity: Verdict::Problem,
        attempt: overlay,
    },
    Probe {
        name: "runAsUser",
        what: "user namespaces can be nested",
        remedy: "as root: sysctl -w user.max_user_namespaces=65536; without it containers run as user 0",
        severity: Verdict::Note,
        attempt: nested_user,
    },
    Probe {
        name: "network namespaces",
        what: "can be made, entered and named",
        remedy: "as root: sysctl -w user.max_net_namespaces=65536 (CONFIG_NET_NS)",
        severity: Verdict::Problem,
        attempt: network_namespace,
    },
    Probe {
        name: "veth",
        what: "pairs can be made",
        remedy: "as root: modprobe veth (CONFIG_VETH); to keep it: echo veth >/etc/modules-load.d/corten.conf",
        severity: Verdict::Problem,
        attempt: veth,
    },
    Probe {
        name: "bridge",
        what: "can be made",
        remedy: "as root: modprobe bridge (CONFIG_BRIDGE); to keep it: echo bridge >>/etc/modules-load.d/corten.conf",
        severity: Verdict::Problem,
        attempt: bridge,
    },
    Probe {
        name: "nf_tables",
        what: "takes tables, chains and rules that translate addresses",
        remedy: "as root: modprobe -a nf_tables nft_chain_nat nft_nat nft_ct nft_masq (CONFIG_NF_TABLES, CONFIG_NFT_NAT); \
                 to keep them, a line each in /etc/modules-load.d/corten.conf",
        severity: Verdict::Problem,
        attempt: nftables,
    },
    Probe {
        name: "forwarding",
        what: "can be switched on for IPv4 and IPv6",
        remedy: "in a container, /proc/sys is read-only: start it with --security-opt systempaths=unconfined. \
                 For IPv6: do not start the kernel with ipv6.disable=1",
        severity: Verdict::Problem,
        attempt: forwarding,
    },
];

/// Lives as the probe, given one open file to write to.
pub(crate) fn main(count: &str) -> ExitCode {
    match count
        .parse()
        .map_err(io::Error::other)
        .and_then(fds::given)
        .and_then(|mut files| tell(files.remove(0).into()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn tell(mut to: File) -> io::Result<()> {
    for (number, probe) in PROBES.iter().enumerate() {
        let attempt = Attempt {
            number,
            error: (probe.attempt)().err(),
        };
        let mut line = serde_json::to_vec(&attempt)?;
        line.push(b'\n');
        to.write_all(&line)?;
    }
    Ok(())
}

/// Says what was attempted.
fn trying<E: std::fmt::Display>(action: &str) -> impl FnOnce(E) -> String {
    move |error| format!("cannot {action}: {error}")
}

fn fresh_proc() -> Result<(), String> {
    mounts::make_private().map_err(trying("cut off the mounts"))?;
    mounts::proc(Path::new("/proc")).map_err(trying("mount /proc"))
}

fn private_run() -> Result<(), String> {
    mounts::shadow(Path::new("/run")).map_err(trying("mount a private /run"))?;
    fs::create_dir(PLACE).map_err(trying("write to it"))
}

fn fresh_sys() -> Result<(), String> {
    mounts::fresh_sys().map_err(trying("mount /sys"))
}

/// As a pod's root file system is made: a directory of the host below, one in memory above.
fn overlay() -> Result<(), String> {
    let place = Path::new(PLACE);
    for dir in ["upper", "work", "merged"] {
        fs::create_dir(place.join(dir)).map_err(trying("make a directory"))?;
    }
    let options = format!("lowerdir=/etc,upperdir={PLACE}/upper,workdir={PLACE}/work,userxattr\0");
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).map_err(trying("name the layers"))?;
    let merged = place.join("merged");
    mount("overlay", &merged, "overlay", MountFlags::empty(), Some(options)).map_err(trying("mount one over /etc"))?;
    fs::write(merged.join("corten-doctor"), "x").map_err(trying("write through it"))?;
    mounts::detach(&merged).map_err(trying("unmount it"))
}

fn nested_user() -> Result<(), String> {
    let nothing = || {
        File::open("/dev/null")
            .map(Into::into)
            .map_err(trying("open /dev/null"))
    };
    let namespaces = Namespaces {
        user: true,
        mount: true,
        ..Namespaces::default()
    };
    let spawn = Spawn::this_program()
        .arg(NESTED)
        .namespaces(namespaces)
        .stdio(1, nothing()?)
        .stdio(2, nothing()?);
    match spawn.start().map_err(|error| error.to_string())?.wait() {
        Ok(Exit::Code(0)) => Ok(()),
        Ok(exit) => Err(format!("a process in one ended with {exit:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The word that makes this executable do nothing, successfully.
pub(crate) const NESTED: &str = "corten-doctor-nested";

fn network_namespace() -> Result<(), String> {
    let namespace = NetNs::create().map_err(trying("make one"))?;
    namespace.run(|| ()).map_err(trying("enter it"))?;
    namespace
        .pin(&Path::new(PLACE).join("netns"))
        .map_err(trying("give it a name"))
}

fn netlink() -> Result<Rtnl, String> {
    Rtnl::open().map_err(trying("speak netlink"))
}

fn veth() -> Result<(), String> {
    let kind = LinkKind::Veth {
        peer: "doctor1",
        change: LinkChange::default(),
    };
    let link = NewLink {
        name: "doctor0",
        kind,
        change: LinkChange::default(),
    };
    netlink()?.add_link(&link).map_err(|error| error.to_string())
}

fn bridge() -> Result<(), String> {
    let link = NewLink {
        name: "doctor-bridge",
        kind: LinkKind::Bridge,
        change: LinkChange::default(),
    };
    netlink()?.add_link(&link).map_err(|error| error.to_string())
}

/// As services use it: destination and source translation by connection.
fn nftables() -> Result<(), String> {
    let tcp = || Statement::is(Expression::L4Proto, Value::Protocol(6));
    let table = Table {
        family: Family::Inet,
        name: "corten-doctor".into(),
        sets: Vec::new(),
        chains: vec![
            Chain::base(
                "in",
                ChainKind::Nat,
                Hook::Prerouting,
                -100,
                [Rule::new([tcp(), Statement::Redirect(80)])],
            ),
            Chain::base(
                "out",
                ChainKind::Nat,
                Hook::Postrouting,
                100,
                [Rule::new([Statement::Masquerade])],
            ),
        ],
    };
    let mut nft = Nft::open().map_err(trying("speak to nf_tables"))?;
    nft.apply(&Transaction::replace(&table))
        .map_err(|error| error.to_string())?;
    nft.apply(&Transaction::remove(Family::Inet, "corten-doctor"))
        .map_err(|error| error.to_string())
}

fn forwarding() -> Result<(), String> {
    set_sysctl("net.ipv4.ip_forward", "1").map_err(|error| error.to_string())?;
    set_sysctl("net.ipv6.conf.all.forwarding", "1").map_err(|error| error.to_string())
}
