//! Which namespaces a process gets, and work inside another network namespace.
//!
//! A network namespace belongs to a thread, so all work in another one runs on a thread of its own:
//! the caller's thread never changes its namespace, and a runtime's workers never end up in the wrong one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// The namespaces a new process gets of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// User ids and capabilities; without root, needed for all the others.
    pub user: bool,
    /// Mounts.
    pub mount: bool,
    /// Process ids: the new process is number 1, and when it dies all of them die.
    pub pid: bool,
    /// Interfaces, routes, rules, sockets.
    pub network: bool,
    /// Host name.
    pub uts: bool,
    /// System V and POSIX message queues, shared memory.
    pub ipc: bool,
}

impl Namespaces {
    /// Everything but the user namespace.
    pub const ALL_BUT_USER: Self = Self {
        user: false,
        mount: true,
        pid: true,
        network: true,
        uts: true,
        ipc: true,
    };

    /// Everything but the user namespace, and that too if this process could not make the others without it.
    pub fn isolated() -> Self {
        Self {
            user: !crate::capabilities::may_make_namespaces(),
            ..Self::ALL_BUT_USER
        }
    }

    /// The flags as `clone3(2)` takes them.
    pub(crate) fn clone_flags(self) -> u64 {
        let all = [
            (self.user, libc::CLONE_NEWUSER),
            (self.mount, libc::CLONE_NEWNS),
            (self.pid, libc::CLONE_NEWPID),
            (self.network, libc::CLONE_NEWNET),
            (self.uts, libc::CLONE_NEWUTS),
            (self.ipc, libc::CLONE_NEWIPC),
        ];
        let flags = all
            .iter()
            .filter(|(wanted, _)| *wanted)
            .fold(0, |sum, (_, flag)| sum | flag);
        u64::from(flags.cast_unsigned())
    }
}

/// A network namespace, kept alive by an open file.
#[derive(Debug)]
pub struct NetNs {
    file: OwnedFd,
}

impl NetNs {
    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace behind a path like `/proc/PID/ns/net` or `/run/netns/NAME`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?.into(),
        })
    }

    /// The namespace behind an already open file.
    pub fn from_fd(file: OwnedFd) -> Self {
        Self { file }
    }

    /// A new, empty namespace; its loopback interface is down.
    pub fn create() -> io::Result<Self> {
        on_a_thread(|| {
            // SAFETY: without CLONE_FILES or CLONE_FS this changes nothing that safe code relies on;
            // the thread that leaves its namespace ends with this closure.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
            Self::current()
        })?
    }

    /// Runs a closure on a thread of its own inside this namespace and waits for it.
    ///
    /// Sockets keep the namespace they were made in, so `run` is how a listener gets into a pod: make it here, use it anywhere.
    /// Blocks for as long as the closure runs.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_a_thread(|| {
            rustix::thread::move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        })?
    }

    /// Moves the calling thread into this namespace, for good: sockets it makes from now on belong here.
    ///
    /// For threads whose work is to make sockets in many namespaces, and which enter the right one before each; everything else uses [`run`](Self::run).
    pub fn enter(&self) -> io::Result<()> {
        rustix::thread::move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Another handle of the same namespace.
    pub fn duplicate(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
        })
    }

    /// The number by which the kernel knows the namespace: the same for two files of one namespace.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.file)?.st_ino)
    }

    /// A path to this namespace for other processes, valid as long as this value lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// Gives the namespace a name in the file system (the file is created), as `ip netns` does in `/run/netns`.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        File::create(path)?;
        rustix::mount::mount_bind(self.path(), path)?;
        Ok(())
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs a closure on a short-lived thread; a panic continues in the caller.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("namespace".into())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, work)?;
        match thread.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone_flags_name_what_was_asked() {
        assert_eq!(Namespaces::default().clone_flags(), 0);
        let network = Namespaces {
            network: true,
            ..Namespaces::default()
        };
        assert_eq!(network.clone_flags(), 0x4000_0000);
    }
}
