//! What a runtime leaves on the machine: looked up in `/proc`, as anybody could.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually;

/// The kinds of namespace a runtime may make.
const KINDS: [&str; 6] = ["net", "mnt", "pid", "uts", "ipc", "user"];

/// A running instance as the machine sees it.
#[derive(Clone, Debug)]
pub struct Processes {
    /// The one the user started.
    pub outer: i32,
    /// Process 1 inside.
    pub inner: i32,
    /// The namespaces made for it, like `net:[4026531840]`.
    namespaces: BTreeSet<PathBuf>,
}

impl Processes {
    /// Looks at both processes, which must run.
    pub(crate) fn of(outer: i32, inner: i32) -> Self {
        let namespace = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        let own: BTreeSet<PathBuf> = KINDS
            .iter()
            .filter_map(|kind| namespace(std::process::id().cast_signed(), kind).ok())
            .collect();
        // Those of another user can be read only by root; then the processes themselves are what is watched.
        let made = KINDS
            .iter()
            .filter_map(|kind| namespace(inner, kind).ok())
            .filter(|link| !own.contains(link));
        Self {
            outer,
            inner,
            namespaces: made.collect(),
        }
    }

    /// The processes inside that run a program.
    ///
    /// # Panics
    /// If there is no `/proc`.
    pub fn running(&self, program: &str) -> Vec<i32> {
        let mut parents = BTreeMap::new();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("there is a /proc").flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            // It may have ended meanwhile.
            let (Some(pid), Ok(status)) = (pid, fs::read_to_string(entry.path().join("status"))) else {
                continue;
            };
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if let Some(parent) = field("PPid:").and_then(|parent| parent.parse::<i32>().ok()) {
                parents.insert(pid, parent);
            }
            if field("Name:") == Some(program) {
                found.push(pid);
            }
        }
        let inside = |pid: &i32| {
            let mut at = *pid;
            while let Some(parent) = parents.get(&at) {
                at = *parent;
                if at == self.inner {
                    return true;
                }
            }
            false
        };
        found.retain(inside);
        found
    }

    /// Kills one of them as nothing can prevent.
    ///
    /// # Panics
    /// If it may not be killed.
    pub fn kill(pid: i32) {
        let pid = Pid::from_raw(pid).expect("a process id");
        kill_process(pid, Signal::KILL).expect("it is ours to kill");
    }
}

/// Waits until nothing is left of an instance: no process, namespace, mount or interface.
///
/// # Panics
/// If something stays.
#[track_caller]
pub fn everything_gone(dir: &Path, processes: &Processes, interfaces_before: &BTreeSet<String>) {
    eventually(Duration::from_secs(10), || {
        match leftovers(dir, processes, interfaces_before) {
            left if left.is_empty() => Ok(()),
            left => Err(left.join(", ")),
        }
    });
}

fn leftovers(dir: &Path, processes: &Processes, interfaces_before: &BTreeSet<String>) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").expect("there is a /proc").flatten() {
        let process = entry.path();
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let ours = fs::read_link(process.join("exe")).is_ok_and(|exe| exe.starts_with(dir));
        let inside = KINDS.iter().any(|kind| {
            fs::read_link(process.join("ns").join(kind)).is_ok_and(|link| processes.namespaces.contains(&link))
        });
        if ours || inside {
            let words = fs::read_to_string(process.join("cmdline"))
                .unwrap_or_default()
                .replace('\0', " ");
            left.push(format!("process {pid} ({})", words.trim()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("there is a mountinfo");
    let dir = dir.display().to_string();
    for mount in mounts.lines() {
        let pinned = processes
            .namespaces
            .iter()
            .any(|link| mount.contains(&link.display().to_string()));
        if pinned || mount.contains(&dir) || mount.contains("/run/corten") {
            left.push(format!("mount {mount}"));
        }
    }
    // Other programs on the machine may make pairs of their own meanwhile; the runtime makes its first bridge before its first pair.
    let new = interfaces()
        .into_iter()
        .filter(|name| !interfaces_before.contains(name) && !name.starts_with("veth"));
    left.extend(new.map(|name| format!("interface {name}")));
    left
}

/// The network interfaces of the machine.
///
/// # Panics
/// If `/sys` is not mounted.
pub fn interfaces() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").expect("there is a /sys").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
