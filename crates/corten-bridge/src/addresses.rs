//! Which addresses are taken: a directory with a file per address, which survives a crash at any point.
//!
//! A file's name is the address's number in its range and its content the attachment that has it. It appears complete or not at all
//! (a hard link to a finished file), so that there is no address without an owner; the caller's DEL, or GC, finds it by its owner.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::Error;
use super::config::{Attachment, Config};

/// The node itself has number 1 of each range.
const GATEWAY: u32 = 1;
/// Where the search for a free number goes on: an address just given back is the last to be used again, so that what others remember
/// about it (connections, neighbours) is gone by then.
const LAST: &str = "last";

/// The records of one node, locked against other calls of the plugin.
pub(crate) struct Addresses<'a> {
    config: &'a Config,
    /// Holds the lock until dropped.
    _lock: File,
}

impl<'a> Addresses<'a> {
    pub(crate) fn open(config: &'a Config) -> Result<Addresses<'a>, Error> {
        let fail = |error: io::Error| Error::Io(format!("cannot use {}: {error}", config.dir.display()));
        fs::create_dir_all(&config.dir).map_err(fail)?;
        let lock = File::create(config.dir.join("lock")).map_err(fail)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|error| fail(error.into()))?;
        Ok(Addresses { config, _lock: lock })
    }

    /// The number of this attachment: the one it has, else a free one.
    pub(crate) fn take(&self, owner: &Attachment) -> Result<u32, Error> {
        let taken = self.taken()?;
        if let Some((number, _)) = taken.iter().find(|(_, has)| has == owner) {
            return Ok(*number);
        }
        // The network's own address, the gateway and the broadcast address are no pod's.
        let count = (1u32 << (32 - u32::from(self.config.range4.prefix_len()))) - 1;
        let first = GATEWAY + 1;
        let last = fs::read_to_string(self.path(LAST))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(GATEWAY);
        let free = (last + 1..count)
            .chain(first..(last + 1).min(count))
            .find(|n| !taken.iter().any(|(has, _)| has == n));
        let Some(number) = free else {
            return Err(Error::Full(format!(
                "all {} addresses of {} are taken",
                count - first,
                self.config.range4
            )));
        };
        self.record(number, owner).map_err(|error| {
            Error::Io(format!(
                "cannot record address {number} in {}: {error}",
                self.config.dir.display()
            ))
        })?;
        Ok(number)
    }

    fn record(&self, number: u32, owner: &Attachment) -> io::Result<()> {
        let new = self.path("new");
        let mut file = File::create(&new)?;
        write!(file, "{}\n{}\n", owner.container, owner.interface)?;
        fs::hard_link(&new, self.path(&number.to_string()))?;
        fs::remove_file(&new)?;
        fs::write(self.path(LAST), number.to_string())
    }

    /// Frees the addresses of every attachment that `gone` names.
    pub(crate) fn release(&self, gone: impl Fn(&Attachment) -> bool) -> Result<(), Error> {
        for (number, owner) in self.taken()? {
            if gone(&owner) {
                match fs::remove_file(self.path(&number.to_string())) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::Io(format!("cannot free address {number}: {error}")));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn taken(&self) -> Result<Vec<(u32, Attachment)>, Error> {
        let fail = |error: io::Error| Error::Io(format!("cannot list {}: {error}", self.config.dir.display()));
        let mut taken = Vec::new();
        for entry in fs::read_dir(&self.config.dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            taken.push((number, read_owner(&entry.path())));
        }
        Ok(taken)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.config.dir.join(name)
    }
}

/// The owner in a record. One that cannot be read has nobody's name: its address stays taken until GC.
fn read_owner(path: &Path) -> Attachment {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().map(str::to_owned);
    Attachment {
        container: lines.next().unwrap_or_default(),
        interface: lines.next().unwrap_or_default(),
    }
}

/// Address number `number` of each range, beside its gateway.
pub(crate) fn of_number(config: &Config, number: u32) -> Vec<(IpAddr, IpAddr)> {
    let v4 = |n| IpAddr::from(Ipv4Addr::from(u32::from(config.range4.network()) + n));
    let mut all = vec![(v4(number), v4(GATEWAY))];
    if let Some(range6) = config.range6 {
        let v6 = |n: u32| IpAddr::from(Ipv6Addr::from(u128::from(range6.network()) + u128::from(n)));
        all.push((v6(number), v6(GATEWAY)));
    }
    all
}
