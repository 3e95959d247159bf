//! The requests that make something: the pod itself, containers, further programs in them. Each ends with a fork whose child never returns.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use corten_linux::single::{self, Forked};
use corten_linux::{Namespaces, mounts};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Output, Process, Role, Running, Serving};
use crate::argv;
use crate::capabilities;
use crate::container::{self, Stdio, Surroundings};
use crate::host::ThisHost;
use crate::log::{Lines, LogFile, Stream};
use crate::plan::{self, Wish};
use crate::protocol::{Container, Failure, FailureKind, Pod};
use crate::rootfs::{self, Rootfs, make_dir};
use crate::user::{self, Identity};

impl Serving {
    pub(super) fn prepare(&mut self, pod: Pod, files: Vec<OwnedFd>) -> Result<(), Failure> {
        let attempt = |what| move |error: io::Error| Failure::setup(what, error);
        mounts::make_private().map_err(attempt("make mounts private"))?;
        mounts::proc(Path::new("/proc")).map_err(attempt("mount /proc"))?;
        if pod.join_network {
            let namespace = files
                .first()
                .ok_or_else(|| Failure::setup("enter the network namespace", "it was not sent"))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| Failure::setup("enter the network namespace", error))?;
        } else {
            single::loopback_up().map_err(attempt("bring up the loopback interface"))?;
            // As container runtimes do: users without privileges may use low ports and ping. Old kernels lack the first.
            let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
            let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0");
        }
        rustix::system::sethostname(pod.hostname.as_bytes())
            .map_err(|error| Failure::setup("set the host name", error))?;
        self.own_pids = Some(
            File::open("/proc/self/ns/pid")
                .map_err(attempt("open own PID namespace"))?
                .into(),
        );
        make_dir(&pod.dir, 0o755)?;
        if !takes_upper_layers(&pod.dir) {
            mounts::tmpfs(&pod.dir, 0o755).map_err(attempt("mount a file system for written layers"))?;
        }
        let shm = shm(&pod);
        make_dir(&shm, 0o755)?;
        mounts::tmpfs(&shm, 0o1777).map_err(attempt("mount /dev/shm"))?;
        self.pod = pod;
        Ok(())
    }

    pub(super) fn start(&mut self, id: u64, container: Container) -> Result<(), Failure> {
        let name = container.name.clone();
        if self.containers.contains_key(&name) {
            return Err(Failure::new(FailureKind::AlreadyRunning, name));
        }
        let mut container = container;
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let surroundings = self.surroundings(&container, &passwd)?;
        let (uid, gid) = (surroundings.identity.uid(), surroundings.identity.gid());
        if let Some(passwd) = user::with_account(&passwd, uid, gid) {
            container.etc.push(("/etc/passwd".to_owned(), passwd));
        }
        let log = LogFile::open(container.log_path.clone())
            .map_err(|error| Failure::setup(format!("open log file {}", container.log_path.display()), error))?;
        self.started += 1;
        let layers = rootfs::layers(&self.pod.dir, &name, self.started);
        make_dir(&layers, 0o755)?;
        let steps = {
            let host = ThisHost::read().map_err(|error| Failure::setup("read the table of mounts", error))?;
            let wish = Wish {
                scratch: &self.pod.dir,
                masks: &self.pod.masks,
                privileged: container.privileged,
            };
            plan::root(&host, wish)
        };
        let (stdio, stdin, outputs) = streams(&container).map_err(|error| Failure::setup("make pipes", error))?;
        let (handshake, theirs) = UnixStream::pair().map_err(|error| Failure::setup("make a socket", error))?;
        let own_pids = (!self.pod.share_processes).then_some(None);
        let forked = self
            .fork_into(own_pids)
            .map_err(|error| Failure::setup("make a process", error))?;
        let Forked::Parent(pid) = forked else {
            let shm = shm(&self.pod);
            let rootfs = Rootfs {
                layers: &layers,
                shm: &shm,
                steps: &steps,
                container: &container,
            };
            // Its end would otherwise stay open in itself, and never say that the program runs.
            drop(handshake);
            let failure = container::first(&rootfs, &surroundings, stdio, &theirs);
            give_up(&theirs, failure);
        };
        let running = Running {
            first: pid,
            layers,
            surroundings,
            inside: None,
            outputs,
            log,
            _stdin: stdin,
        };
        self.containers.insert(name.clone(), running);
        self.processes.insert(
            pid,
            Process {
                id,
                role: Role::First(name),
                handshake: Some(handshake),
                terminal: None,
            },
        );
        Ok(())
    }

    fn surroundings(&self, container: &Container, passwd: &str) -> Result<Surroundings, Failure> {
        let map = |file: &str| fs::read_to_string(file).map_err(|error| Failure::setup(format!("read {file}"), error));
        let (uids, gids) = (map("/proc/self/uid_map")?, map("/proc/self/gid_map")?);
        let identity = Identity::choose(
            (container.user, container.group),
            &container.groups,
            (&uids, &gids),
            passwd,
        );
        let home = user::account(passwd, identity.uid()).map_or("/", |account| account.home);
        let capabilities = capabilities::kept(
            container.privileged,
            &container.capabilities_add,
            &container.capabilities_drop,
        )
        .map_err(|name| Failure::new(FailureKind::Invalid, format!("there is no capability {name:?}")))?;
        Ok(Surroundings {
            env: argv::environment(&container.env, home, &self.pod.hostname, container.tty),
            cwd: container.cwd.clone().unwrap_or_else(|| "/".into()),
            identity,
            capabilities,
        })
    }

    pub(super) fn exec(
        &mut self,
        id: u64,
        name: &str,
        argv: &[String],
        tty: bool,
        files: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let not_running = || Failure::new(FailureKind::NotRunning, name);
        let container = self.containers.get(name).ok_or_else(not_running)?;
        let inside = container.inside.as_ref().ok_or_else(not_running)?;
        let mut surroundings = container.surroundings.clone();
        let (stdio, terminal) = if tty {
            if surroundings.env.iter().all(|(name, _)| name != "TERM") {
                surroundings.env.push(("TERM".to_owned(), "xterm".to_owned()));
            }
            // The container's own, so that it has a name there.
            let ptmx = format!("/proc/{}/root/dev/pts/ptmx", container.first.as_raw_nonzero());
            let (master, terminal) =
                container::new_terminal(Path::new(&ptmx)).map_err(|error| Failure::setup("make a terminal", error))?;
            (Stdio::Terminal(terminal), Some(master))
        } else {
            let files = <[OwnedFd; 3]>::try_from(files)
                .map_err(|files| Failure::setup("take three standard files", format!("{} came", files.len())))?;
            (Stdio::Files(files), None)
        };
        let (handshake, theirs) = UnixStream::pair().map_err(|error| Failure::setup("make a socket", error))?;
        let forked = self
            .fork_into(Some(Some(&inside.pid)))
            .map_err(|error| Failure::setup("make a process", error))?;
        let Forked::Parent(pid) = forked else {
            drop(handshake);
            let failure = container::further(argv, &surroundings, inside, stdio);
            give_up(&theirs, failure);
        };
        self.processes.insert(
            pid,
            Process {
                id,
                role: Role::Further,
                handshake: Some(handshake),
                terminal,
            },
        );
        Ok(())
    }

    /// Forks: in this process's PID namespace (`None`), in a new one (`Some(None)`), or in another one.
    fn fork_into(&self, pids: Option<Option<&OwnedFd>>) -> io::Result<Forked> {
        let Some(pids) = pids else {
            return single::fork();
        };
        let own = self
            .own_pids
            .as_ref()
            .ok_or_else(|| io::Error::other("the pod was not prepared"))?;
        let kind = Some(LinkNameSpaceType::ProcessID);
        match pids {
            Some(other) => move_into_link_name_space(other.as_fd(), kind)?,
            None => single::unshare(Namespaces {
                pid: true,
                ..Namespaces::default()
            })?,
        }
        let forked = single::fork();
        if !matches!(forked, Ok(Forked::Child)) {
            move_into_link_name_space(own.as_fd(), kind)?;
        }
        forked
    }
}

/// Ends a child that could not become its program, and says why.
fn give_up(handshake: &UnixStream, result: Result<std::convert::Infallible, Failure>) -> ! {
    let Err(failure) = result;
    let text = serde_json::to_vec(&failure).unwrap_or_default();
    let mut handshake = handshake;
    // If nobody listens, nobody is waiting for the reason.
    let _ = handshake.write_all(b"f").and_then(|()| handshake.write_all(&text));
    single::end_child(127)
}

/// A container's standard files: the child's side, its kept stdin, and what is to be logged.
fn streams(container: &Container) -> io::Result<(Stdio, Option<OwnedFd>, Vec<Output>)> {
    if container.tty {
        return Ok((Stdio::NewTerminal, None, Vec::new()));
    }
    let (stdin, kept) = if container.stdin {
        let (reader, writer) = io::pipe()?;
        (OwnedFd::from(reader), Some(OwnedFd::from(writer)))
    } else {
        (File::open("/dev/null")?.into(), None)
    };
    let output = |stream| -> io::Result<_> {
        let (reader, writer) = io::pipe()?;
        let output = Output {
            file: File::from(OwnedFd::from(reader)),
            lines: Lines::new(stream),
        };
        Ok((OwnedFd::from(writer), output))
    };
    let ((stdout, out), (stderr, err)) = (output(Stream::Out)?, output(Stream::Err)?);
    Ok((Stdio::Files([stdin, stdout, stderr]), kept, vec![out, err]))
}

fn shm(pod: &Pod) -> PathBuf {
    pod.dir.join("shm")
}

/// Whether an overlay's upper layer can be in this directory; not so on many network file systems and on an overlay itself.
fn takes_upper_layers(dir: &Path) -> bool {
    let probe = dir.join("probe");
    let parts = ["lower", "upper", "work", "merged"].map(|part| probe.join(part));
    let possible = parts.iter().all(|part| make_dir(part, 0o755).is_ok()) && {
        let merged = &parts[3];
        // Relative paths need no escaping. Without `volatile` the unmount would wait until the disk has everything, which was most of a pod's start.
        let options = c"userxattr,volatile,lowerdir=lower,upperdir=upper,workdir=work";
        let flags = rustix::mount::MountFlags::empty();
        let mounted = std::env::set_current_dir(&probe).is_ok()
            && rustix::mount::mount("overlay", merged, "overlay", flags, options).is_ok();
        mounted && mounts::detach(merged).is_ok()
    };
    // This process holds no directory busy.
    let _ = std::env::set_current_dir("/");
    let _ = fs::remove_dir_all(&probe);
    possible
}
