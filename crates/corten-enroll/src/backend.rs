//! Which of the kernel's two ways takes our rules here.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use corten_linux::NetNs;
use corten_linux::nft::{Nft, Transaction};

use crate::{PodRules, iptables};

/// How rules get into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// nf_tables, over netlink.
    Nftables,
    /// `iptables-restore` and its relatives, as programs.
    Iptables,
}

/// Neither way works.
#[derive(Debug, thiserror::Error)]
#[error("the kernel takes no redirection rules: nf_tables: {nftables}; iptables-restore: {iptables}")]
pub struct NoBackend {
    nftables: String,
    iptables: String,
}

impl Backend {
    /// Tries the rules out in a namespace made for it. iptables is asked only where nf_tables cannot do it.
    pub fn probe() -> Result<Backend, NoBackend> {
        let nftables = match NetNs::create().and_then(|netns| netns.run(try_nftables)) {
            Ok(Ok(())) => return Ok(Backend::Nftables),
            Ok(Err(reason)) => reason,
            Err(error) => error.to_string(),
        };
        let input = iptables::restore(&iptables::pod(&PodRules::default(), false));
        let tried = NetNs::create().and_then(|netns| netns.run(|| restore(false, &input)));
        match tried.and_then(|result| result) {
            Ok(()) => Ok(Backend::Iptables),
            Err(error) => Err(NoBackend {
                nftables,
                iptables: error.to_string(),
            }),
        }
    }
}

fn try_nftables() -> Result<(), String> {
    let mut nft = Nft::open().map_err(|error| error.to_string())?;
    let tables = PodRules::default().tables();
    let transactions: Vec<Transaction> = tables.iter().map(Transaction::replace).collect();
    nft.apply_all(&transactions).map_err(|error| error.to_string())
}

/// Feeds `iptables-restore` (or `ip6tables-restore`) in the calling thread's namespace.
pub(crate) fn restore(v6: bool, input: &str) -> io::Result<()> {
    let program = if v6 { "ip6tables-restore" } else { "iptables-restore" };
    let mut child = Command::new(program)
        .args(["--noflush", "--wait=30"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run {program}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails early does not read; what it prints says why.
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} failed: {}", said.trim())))
}

/// Runs one command of `iptables` (or `ip6tables`); whether it succeeded.
pub(crate) fn command(v6: bool, table: &str, arguments: &str) -> io::Result<bool> {
    let program = if v6 { "ip6tables" } else { "iptables" };
    let status = Command::new(program)
        .args(["--wait=30", "-t", table])
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run {program}: {error}")))?;
    Ok(status.success())
}
