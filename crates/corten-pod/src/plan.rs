//! The root file system of a container as a list of steps. Pure: the host is asked through [`Host`], the kernel not at all.
//!
//! The host's directories are seen through overlays whose upper layers belong to the container. The kernel refuses an overlay when something is mounted inside
//! the directory (it may not be uncovered), and when the upper layer would lie inside the lower one. Such a directory becomes an empty one in which each entry is
//! planned for itself, so that what is refused is as small as possible.

use std::path::{Path, PathBuf};

use crate::host::{Entry, Host};

/// Directories that are made anew, or that hold the host's own runtime: never seen through.
const FRESH: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/tmp", "/lost+found"];

/// Directories that other container runtimes fill with mounts: seen as empty.
const NOISE: [&str; 5] = [
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/lxcfs",
];

/// With more mounts inside than this a directory is shown read-only as it is, instead of being taken apart.
const MOUNTS_INSIDE_MAX: usize = 24;

/// One step. `target` is in the new root; other paths are the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An empty directory.
    Directory {
        /// Where.
        target: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A symbolic link.
    Symlink {
        /// Where.
        target: PathBuf,
        /// What it says.
        to: PathBuf,
    },
    /// A directory of the host, with a private layer for what is written.
    Overlay {
        /// Which directory of the host, and where it is in the new root: the same path.
        target: PathBuf,
    },
    /// An empty directory over one that an overlay shows, if it exists.
    Mask {
        /// Where.
        target: PathBuf,
    },
    /// A file or directory of the host as it is, and nothing can be written to it.
    ReadOnly {
        /// Which one, and where: the same path.
        target: PathBuf,
    },
    /// The processes of the container's PID namespace; with kernel settings read-only unless `writable`.
    Proc {
        /// Whether kernel settings can be changed.
        writable: bool,
    },
    /// The devices of the pod's network namespace.
    Sys {
        /// Whether they can be changed.
        writable: bool,
    },
    /// The few devices that every program expects, terminals and shared memory.
    Dev,
    /// `/tmp`, on the same disk as the container's written layers.
    Tmp,
}

/// What the plan is for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Where the container's written layers are: never inside a lower layer.
    pub scratch: &'a Path,
    /// Directories of the host seen as empty.
    pub masks: &'a [PathBuf],
    /// Whether kernel settings can be changed.
    pub privileged: bool,
}

/// The steps, in the order in which they are to be taken.
pub fn root(host: &impl Host, wish: Wish<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let planner = Planner { host, wish };
    for (name, entry) in host.list(Path::new("/")).unwrap_or_default() {
        let path = Path::new("/").join(name);
        if FRESH.iter().all(|fresh| Path::new(fresh) != path) {
            planner.entry(path, &entry, &mut steps);
        }
    }
    let directory = |target: &str, mode| Step::Directory {
        target: target.into(),
        mode,
    };
    steps.extend([
        directory("/run", 0o755),
        directory("/run/lock", 0o1777),
        Step::Tmp,
        Step::Proc {
            writable: wish.privileged,
        },
        Step::Sys {
            writable: wish.privileged,
        },
        Step::Dev,
    ]);
    steps
}

struct Planner<'a, H> {
    host: &'a H,
    wish: Wish<'a>,
}

impl<H: Host> Planner<'_, H> {
    fn entry(&self, path: PathBuf, entry: &Entry, steps: &mut Vec<Step>) {
        match entry {
            Entry::Symlink(to) => steps.push(Step::Symlink {
                target: path,
                to: to.clone(),
            }),
            Entry::File => steps.push(Step::ReadOnly { target: path }),
            // Nothing of it can be seen, but a program may want to write there: the home of the host's root, for one.
            Entry::Closed => steps.push(Step::Directory {
                target: path,
                mode: 0o700,
            }),
            Entry::Directory => self.directory(path, steps),
        }
    }

    fn directory(&self, path: PathBuf, steps: &mut Vec<Step>) {
        let hidden = |mask: &Path| mask == path;
        if self.wish.masks.iter().any(|mask| hidden(mask)) || NOISE.iter().any(|noise| hidden(Path::new(noise))) {
            steps.push(Step::Directory {
                target: path,
                mode: 0o755,
            });
            return;
        }
        let inside = |other: &Path| other != path && other.starts_with(&path);
        let noisy = |point: &Path| NOISE.iter().any(|noise| point.starts_with(noise));
        let masked = |point: &Path| self.wish.masks.iter().any(|mask| point.starts_with(mask));
        let mounts = self.host.mount_points().iter().filter(|point| inside(point));
        let visible = mounts.clone().filter(|point| !noisy(point) && !masked(point)).count();
        if visible > MOUNTS_INSIDE_MAX {
            steps.push(Step::ReadOnly { target: path });
            return;
        }
        let Ok(entries) = self.host.list(&path) else {
            return;
        };
        let whole = mounts.count() == 0 && !self.wish.scratch.starts_with(&path);
        // An empty directory looks the same without a mount, and is made in no time.
        if whole && !entries.is_empty() {
            let masks = self.wish.masks.iter().filter(|mask| inside(mask)).cloned();
            let masks: Vec<_> = masks.map(|target| Step::Mask { target }).collect();
            steps.push(Step::Overlay { target: path });
            steps.extend(masks);
            return;
        }
        steps.push(Step::Directory {
            target: path.clone(),
            mode: 0o755,
        });
        for (name, entry) in entries {
            self.entry(path.join(name), &entry, steps);
        }
    }
}

#[cfg(test)]
mod tests;
