//! The life of a forked child until it is the container's program: root file system, terminal, user, program.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use corten_linux::Namespaces;
use corten_linux::{fds, single};
use rustix::fs::{Access, AtFlags, CWD, Gid, Mode, OFlags, Uid, accessat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use crate::argv::{self, Found};
use crate::capabilities;
use crate::protocol::{Failure, FailureKind};
use crate::rootfs::{Rootfs, make_dir};
use crate::user::Identity;

/// What the program of a container, and every further one in it, runs with.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) capabilities: CapabilitySet,
}

/// The namespaces of a running container, for joining them.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) mount: OwnedFd,
    /// `None` when it has no user namespace of its own.
    pub(crate) user: Option<OwnedFd>,
    /// The pod's own when processes are shared.
    pub(crate) pid: OwnedFd,
}

/// What becomes of the child's standard files.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// These: stdin, stdout, stderr.
    Files([OwnedFd; 3]),
    /// This terminal.
    Terminal(OwnedFd),
    /// A terminal made inside the container; its other end is sent over the handshake socket.
    NewTerminal,
}

/// A container's first process: never returns unless it failed.
pub(crate) fn first(
    rootfs: &Rootfs<'_>,
    surroundings: &Surroundings,
    stdio: Stdio,
    handshake: &UnixStream,
) -> Result<std::convert::Infallible, Failure> {
    let own_mounts = Namespaces {
        mount: true,
        ..Namespaces::default()
    };
    single::unshare(own_mounts).map_err(|error| Failure::setup("make a mount namespace", error))?;
    rootfs.enter()?;
    let stdio = match stdio {
        Stdio::NewTerminal => {
            let (master, terminal) =
                new_terminal(Path::new("/dev/pts/ptmx")).map_err(|error| Failure::setup("make a terminal", error))?;
            fds::send(handshake, TERMINAL, &[master.as_fd()])
                .map_err(|error| Failure::setup("hand over the terminal", error))?;
            Stdio::Terminal(terminal)
        }
        other => other,
    };
    become_program(&rootfs.container.argv, surroundings, None, stdio, || {
        // Sent rather than looked up by the parent, who would come too late for a program that ends at once.
        let own = Inside::of_this_process(&surroundings.identity)?;
        fds::send(handshake, NAMESPACES, &own.files()).map(drop)
    })
}

/// Precedes a terminal on the handshake socket.
pub(crate) const TERMINAL: &[u8] = b"t";

/// Precedes the files of [`Inside`].
pub(crate) const NAMESPACES: &[u8] = b"n";

impl Inside {
    fn of_this_process(identity: &Identity) -> io::Result<Self> {
        let open = |kind: &str| fs::File::open(format!("/proc/self/ns/{kind}")).map(OwnedFd::from);
        let nested = matches!(identity, Identity::Nested { .. });
        Ok(Self {
            mount: open("mnt")?,
            pid: open("pid")?,
            user: nested.then(|| open("user")).transpose()?,
        })
    }

    fn files(&self) -> Vec<BorrowedFd<'_>> {
        let user = self.user.as_ref().map(AsFd::as_fd);
        [self.mount.as_fd(), self.pid.as_fd()].into_iter().chain(user).collect()
    }

    /// The other end of `files`.
    pub(crate) fn from_files(files: Vec<OwnedFd>) -> Option<Self> {
        let mut files = files.into_iter();
        Some(Self {
            mount: files.next()?,
            pid: files.next()?,
            user: files.next(),
        })
    }
}

/// A further program in a container: never returns unless it failed. The PID namespace was chosen by the one who forked.
pub(crate) fn further(
    argv: &[String],
    surroundings: &Surroundings,
    inside: &Inside,
    stdio: Stdio,
) -> Result<std::convert::Infallible, Failure> {
    rustix::thread::move_into_link_name_space(inside.mount.as_fd(), Some(rustix::thread::LinkNameSpaceType::Mount))
        .map_err(|error| Failure::setup("enter the container's mounts", error))?;
    let user = inside.user.as_ref().map(AsFd::as_fd);
    become_program(argv, surroundings, user, stdio, || Ok(()))
}

/// Both ends of a new terminal: the one that is read, and the one a program has.
pub(crate) fn new_terminal(ptmx: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open(ptmx, flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, terminal))
}

fn become_program(
    argv: &[String],
    surroundings: &Surroundings,
    user_namespace: Option<BorrowedFd<'_>>,
    stdio: Stdio,
    settled: impl FnOnce() -> io::Result<()>,
) -> Result<std::convert::Infallible, Failure> {
    let cwd = &surroundings.cwd;
    let attempt = || format!("use working directory {}", cwd.display());
    if !cwd.is_dir() {
        make_dir(cwd, 0o755)
            .map_err(|failure| Failure::new(FailureKind::Invalid, format!("{}: {failure}", attempt())))?;
    }
    std::env::set_current_dir(cwd)
        .map_err(|error| Failure::new(FailureKind::Invalid, format!("{}: {error}", attempt())))?;
    limit_core_files();
    set_stdio(stdio, &surroundings.identity).map_err(|error| Failure::setup("set up standard files", error))?;
    become_user(surroundings, user_namespace)?;
    settled().map_err(|error| Failure::setup("hand over the namespaces", error))?;
    let Some(word) = argv.first() else {
        return Err(Failure::new(
            FailureKind::Invalid,
            "no command: neither the container nor its image names one",
        ));
    };
    let path = surroundings.env.iter().find(|(name, _)| name == "PATH");
    let program = argv::resolve(word, path.map_or("", |(_, value)| value), probe)?;
    let mut command = Command::new(&program);
    command.arg0(word).args(&argv[1..]).env_clear();
    command.envs(surroundings.env.iter().map(|(name, value)| (name, value)));
    // Process 1 waits for its children by another way than this signal, and has it blocked.
    single::unblock_signals().map_err(|error| Failure::setup("unblock signals", error))?;
    let error = command.exec();
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => FailureKind::Permission,
        // The file exists; what is missing is its interpreter or loader.
        io::ErrorKind::NotFound => FailureKind::NotFound,
        _ => FailureKind::Invalid,
    };
    let message = match kind {
        FailureKind::NotFound => format!(
            "exec {}: no such file or directory (its interpreter is missing)",
            program.display()
        ),
        FailureKind::Permission => format!("exec: {word:?}: permission denied"),
        _ => format!("exec {}: {error}", program.display()),
    };
    Err(Failure::new(kind, message))
}

/// A crash leaves no core file in the container's layers unless the program asks for it.
fn limit_core_files() {
    let limit = getrlimit(Resource::Core);
    let none = Rlimit {
        current: Some(0),
        maximum: limit.maximum,
    };
    // Lowering a soft limit is always allowed; were it not, the program could still run.
    let _ = setrlimit(Resource::Core, none);
}

fn set_stdio(stdio: Stdio, identity: &Identity) -> io::Result<()> {
    setsid()?;
    let files = match stdio {
        Stdio::Files(files) => files,
        Stdio::Terminal(terminal) => {
            rustix::process::ioctl_tiocsctty(&terminal)?;
            [terminal.try_clone()?, terminal.try_clone()?, terminal]
        }
        Stdio::NewTerminal => return Err(io::Error::other("the terminal was not made")),
    };
    if let Identity::Switch { uid, gid, .. } = identity {
        for file in &files {
            // So that the program can open /dev/stdout anew. Not possible for every file (/dev/null), nor always needed.
            let found = rustix::fs::fstat(file)?;
            if rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Fifo
                || rustix::termios::isatty(file)
            {
                let _ = rustix::fs::fchown(file, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
            }
        }
    }
    rustix::stdio::dup2_stdin(&files[0])?;
    rustix::stdio::dup2_stdout(&files[1])?;
    rustix::stdio::dup2_stderr(&files[2])?;
    Ok(())
}

fn become_user(surroundings: &Surroundings, user_namespace: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    let identity = &surroundings.identity;
    let attempt = || format!("run as user {} and group {}", identity.uid(), identity.gid());
    let fail = |error: io::Error| Failure::setup(attempt(), error);
    match identity {
        Identity::Root { groups } => {
            keep_capabilities(surroundings.capabilities).map_err(fail)?;
            set_groups(groups).map_err(fail)
        }
        Identity::Switch { uid, gid, groups } => {
            keep_capabilities(surroundings.capabilities).map_err(fail)?;
            set_groups(groups).map_err(fail)?;
            let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
            rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|error| fail(error.into()))?;
            rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|error| fail(error.into()))
        }
        Identity::Nested { uid, gid } => {
            if let Some(namespace) = user_namespace {
                let kind = Some(rustix::thread::LinkNameSpaceType::User);
                return rustix::thread::move_into_link_name_space(namespace, kind).map_err(|error| fail(error.into()));
            }
            let own_ids = Namespaces {
                user: true,
                ..Namespaces::default()
            };
            single::unshare(own_ids).map_err(fail)?;
            // An unprivileged process may map its own ids, and only those; mapping the group needs `setgroups` to be given up.
            fs::write("/proc/self/setgroups", "deny")
                .and_then(|()| fs::write("/proc/self/uid_map", format!("{uid} 0 1\n")))
                .and_then(|()| fs::write("/proc/self/gid_map", format!("{gid} 0 1\n")))
                .map_err(fail)
        }
    }
}

/// Sets supplementary groups, where the kernel lets anybody do so (not in a user namespace made without privileges).
fn set_groups(groups: &[u32]) -> io::Result<()> {
    if fs::read_to_string("/proc/self/setgroups").is_ok_and(|answer| answer.trim() == "deny") {
        return Ok(());
    }
    let groups: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    Ok(rustix::thread::set_thread_groups(&groups)?)
}

/// Programs executed from now on have no other capabilities than these.
fn keep_capabilities(kept: CapabilitySet) -> io::Result<()> {
    for capability in capabilities::numbered().filter(|capability| !kept.contains(*capability)) {
        match remove_capability_from_bounding_set(capability) {
            // A number this kernel does not have.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn probe(path: &Path) -> Found {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Found::Directory,
        Ok(found) => {
            // Root may do anything but execute what nobody may.
            let somebody = found.permissions().mode() & 0o111 != 0;
            let may = accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
            if somebody && may {
                Found::Program
            } else {
                Found::Forbidden
            }
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Found::Forbidden,
        Err(_) => Found::Nothing,
    }
}
