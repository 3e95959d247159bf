//! The loop of `corten-pod`: requests in, events out, output into log files, ends of processes noticed.
//!
//! One thread waits in `poll` for the control socket, ended children, containers' output, and children on their way to becoming programs. When the control
//! socket closes, the runtime is gone: the loop returns, the process ends, and with it, being process 1, everything in the pod.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corten_linux::single::{self, Forked};
use corten_linux::{Namespaces, fds, mounts};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::argv;
use crate::capabilities;
use crate::container::{self, Inside, Stdio, Surroundings};
use crate::frame::{Decoder, encode};
use crate::host::ThisHost;
use crate::log::{Lines, LogFile, Stream};
use crate::plan::{self, Wish};
use crate::protocol::{Container, Event, Failure, FailureKind, Pod, Request, Status};
use crate::rootfs::{self, Rootfs, make_dir};
use crate::user::{self, Identity};

/// What is read at once from a container's output or the control socket.
const READ_MAX: usize = 16 * 1024;

/// Serves a pod on its control socket until that closes. The process must be process 1 of a PID namespace and in a mount namespace of its own.
pub fn serve(control: OwnedFd) -> io::Result<()> {
    let mut serving = Serving {
        control: UnixStream::from(control),
        decoder: Decoder::default(),
        children: single::child_signals()?,
        own_pids: None,
        pod: Pod::default(),
        containers: HashMap::new(),
        processes: HashMap::new(),
        started: 0,
        buffer: vec![0; READ_MAX],
    };
    serving.run()
}

struct Serving {
    control: UnixStream,
    decoder: Decoder,
    children: OwnedFd,
    /// This process's PID namespace, to return to after choosing another one for a child.
    own_pids: Option<OwnedFd>,
    pod: Pod,
    containers: HashMap<String, Running>,
    processes: HashMap<Pid, Process>,
    /// How many containers were ever started, so that each has layers of its own.
    started: u64,
    buffer: Vec<u8>,
}

/// A container from its fork to its exit.
struct Running {
    first: Pid,
    layers: PathBuf,
    surroundings: Surroundings,
    /// Known when its program is about to run.
    inside: Option<Inside>,
    outputs: Vec<Output>,
    log: LogFile,
    /// Kept open for a container with `stdin`; nobody writes.
    _stdin: Option<OwnedFd>,
}

/// A stream of a container on its way to the log.
struct Output {
    file: File,
    lines: Lines,
}

/// A child of this process that somebody waits for.
struct Process {
    /// The request that started it.
    id: u64,
    role: Role,
    /// Until its program runs.
    handshake: Option<UnixStream>,
    /// The other end of an exec's terminal, until it is handed over.
    terminal: Option<OwnedFd>,
}

enum Role {
    First(String),
    Further,
    /// Removes files of an ended container.
    Cleaner,
}

/// What `poll` waits for.
enum Source {
    Control,
    Children,
    Handshake(Pid),
    Output(String, usize),
}

impl Serving {
    fn run(&mut self) -> io::Result<()> {
        loop {
            for source in self.wait()? {
                match source {
                    Source::Control => {
                        if !self.receive()? {
                            return Ok(());
                        }
                    }
                    Source::Handshake(pid) => self.shake(pid)?,
                    Source::Output(container, index) => self.pump(&container, index),
                    Source::Children => self.reap()?,
                }
            }
        }
    }

    /// Waits until something happens, and says what, the ends of processes last: what they wrote and said comes before.
    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut sources = vec![Source::Control];
        let mut files = vec![PollFd::new(&self.control, PollFlags::IN)];
        for (pid, process) in &self.processes {
            if let Some(handshake) = &process.handshake {
                sources.push(Source::Handshake(*pid));
                files.push(PollFd::new(handshake, PollFlags::IN));
            }
        }
        for (name, container) in &self.containers {
            for (index, output) in container.outputs.iter().enumerate() {
                sources.push(Source::Output(name.clone(), index));
                files.push(PollFd::new(&output.file, PollFlags::IN));
            }
        }
        sources.push(Source::Children);
        files.push(PollFd::new(&self.children, PollFlags::IN));
        retry_on_intr(|| poll(&mut files, None))?;
        let ready = files.iter().map(|file| !file.revents().is_empty());
        Ok(sources
            .into_iter()
            .zip(ready)
            .filter_map(|(source, ready)| ready.then_some(source))
            .collect())
    }

    /// Takes requests; false when the runtime is gone.
    fn receive(&mut self) -> io::Result<bool> {
        let (count, files) = match fds::receive(&self.control, &mut self.buffer) {
            Ok((0, _)) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            other => other?,
        };
        self.decoder.push(&self.buffer[..count], files);
        while let Some((request, files)) = self.decoder.message().map_err(io::Error::other)? {
            self.obey(request, files)?;
        }
        Ok(true)
    }

    fn obey(&mut self, request: Request, files: Vec<OwnedFd>) -> io::Result<()> {
        let (id, done) = match request {
            Request::Prepare(pod) => {
                let event = match self.prepare(pod, files) {
                    Ok(()) => Event::Ready,
                    Err(failure) => Event::Refused {
                        message: failure.message,
                    },
                };
                return self.tell(&event, None);
            }
            // Answered when the program runs.
            Request::Start { id, container } => (id, self.start(id, *container).map(|()| None)),
            Request::Exec {
                id,
                container,
                argv,
                tty,
            } => (id, self.exec(id, &container, &argv, tty, files).map(|()| None)),
            Request::Signal { id, container, signal } => {
                (id, self.signal(&container, signal).map(|()| Some(Event::Done { id })))
            }
        };
        match done {
            Ok(None) => Ok(()),
            Ok(Some(event)) => self.tell(&event, None),
            Err(Failure { kind, message }) => self.tell(&Event::Failed { id, kind, message }, None),
        }
    }

    fn prepare(&mut self, pod: Pod, files: Vec<OwnedFd>) -> Result<(), Failure> {
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

    fn start(&mut self, id: u64, container: Container) -> Result<(), Failure> {
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

    fn exec(&mut self, id: u64, name: &str, argv: &[String], tty: bool, files: Vec<OwnedFd>) -> Result<(), Failure> {
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

    /// A child says that its program runs (by the socket's end), or why it does not.
    fn shake(&mut self, pid: Pid) -> io::Result<()> {
        let Some(process) = self.processes.get_mut(&pid) else {
            return Ok(());
        };
        let Some(handshake) = &mut process.handshake else {
            return Ok(());
        };
        let (count, mut files) = fds::receive(&*handshake, &mut self.buffer[..1])?;
        let id = process.id;
        let said = &self.buffer[..count];
        if said == container::TERMINAL || said == container::NAMESPACES {
            let Role::First(name) = &process.role else {
                return Ok(());
            };
            let Some(container) = self.containers.get_mut(name) else {
                return Ok(());
            };
            if said == container::NAMESPACES {
                container.inside = Inside::from_files(files);
            } else if let Some(terminal) = files.pop() {
                container.outputs.push(Output {
                    file: File::from(terminal),
                    lines: Lines::new(Stream::Out),
                });
            }
            return Ok(());
        }
        let event = if count == 0 {
            Event::Started {
                id,
                pid: pid.as_raw_nonzero().get().unsigned_abs(),
            }
        } else {
            let mut text = Vec::new();
            handshake.read_to_end(&mut text)?;
            let failure =
                serde_json::from_slice(&text).unwrap_or_else(|error| Failure::setup("start a process", error));
            Event::Failed {
                id,
                kind: failure.kind,
                message: failure.message,
            }
        };
        process.handshake = None;
        let terminal = process.terminal.take();
        if let (Role::First(name), Event::Failed { .. }) = (&process.role, &event)
            && let Some(container) = self.containers.remove(name)
        {
            self.clean(container.layers);
        }
        let terminal = terminal.filter(|_| matches!(event, Event::Started { .. }));
        self.tell(&event, terminal.as_ref())
    }

    /// Moves what a container printed into its log; an output that has ended is forgotten.
    fn pump(&mut self, name: &str, index: usize) {
        let Some(container) = self.containers.get_mut(name) else {
            return;
        };
        let Some(output) = container.outputs.get_mut(index) else {
            return;
        };
        let mut entries = Vec::new();
        let alive = match output.file.read(&mut self.buffer) {
            // The end of a terminal is an error.
            Ok(0) | Err(_) => {
                output.lines.finish(now(), &mut entries);
                false
            }
            Ok(count) => {
                output.lines.push(&self.buffer[..count], now(), &mut entries);
                true
            }
        };
        // A full disk must stop neither the container nor its log for ever; what cannot be written is lost.
        let _ = container.log.write(&entries);
        if !alive {
            // Later indexes of this round now name nothing or the next output, whose turn comes again in the next one.
            container.outputs.remove(index);
        }
    }

    /// Collects children that have ended.
    fn reap(&mut self) -> io::Result<()> {
        // Only says that there are some; how many is asked below.
        let _ = rustix::io::read(&self.children, &mut [0; 1024]);
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status)?,
                Ok(None) | Err(Errno::CHILD) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) -> io::Result<()> {
        while self
            .processes
            .get(&pid)
            .is_some_and(|process| process.handshake.is_some())
        {
            self.shake(pid)?;
        }
        // An orphan of a container, or a process that never became a program, which was told.
        let Some(process) = self.processes.remove(&pid) else {
            return Ok(());
        };
        let status = status_of(status);
        match process.role {
            Role::Cleaner => Ok(()),
            Role::Further => self.tell(&Event::Finished { id: process.id, status }, None),
            Role::First(name) => {
                if self
                    .containers
                    .get(&name)
                    .is_none_or(|container| container.first != pid)
                {
                    return Ok(());
                }
                if self.pod.share_processes {
                    self.kill_all(&name);
                }
                self.drain(&name);
                let Some(container) = self.containers.remove(&name) else {
                    return Ok(());
                };
                let event = Event::Exited {
                    container: name,
                    status,
                    finished_at: u64::try_from(now().as_nanos()).unwrap_or(u64::MAX),
                    message: rootfs::termination_message(&container.layers),
                };
                let layers = container.layers.clone();
                drop(container);
                self.clean(layers);
                self.tell(&event, None)
            }
        }
    }

    /// Moves what is left in the pipes of an ended container into its log.
    fn drain(&mut self, name: &str) {
        for index in [1, 0] {
            while let Some(output) = self
                .containers
                .get(name)
                .and_then(|container| container.outputs.get(index))
            {
                let mut files = [PollFd::new(&output.file, PollFlags::IN)];
                // A descendant that left the container's processes may still hold the other end: what it prints from now on is lost.
                if !matches!(poll(&mut files, Some(&rustix::time::Timespec::default())), Ok(1)) {
                    break;
                }
                self.pump(name, index);
            }
        }
        let Some(container) = self.containers.get_mut(name) else {
            return;
        };
        let mut entries = Vec::new();
        for output in &mut container.outputs {
            output.lines.finish(now(), &mut entries);
        }
        let _ = container.log.write(&entries);
    }

    fn signal(&self, name: &str, signal: i32) -> Result<(), Failure> {
        let not_running = || Failure::new(FailureKind::NotRunning, name);
        let container = self.containers.get(name).ok_or_else(not_running)?;
        let number = Signal::from_named_raw(signal)
            .ok_or_else(|| Failure::new(FailureKind::Invalid, format!("there is no signal {signal}")))?;
        if number == Signal::KILL && self.pod.share_processes {
            self.kill_all(name);
        }
        match kill_process(container.first, number) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(Failure::setup(format!("send signal {signal}"), error)),
        }
    }

    /// Kills all processes of a container that has no PID namespace of its own: those in its mount namespace.
    fn kill_all(&self, name: &str) {
        let Some(inside) = self
            .containers
            .get(name)
            .and_then(|container| container.inside.as_ref())
        else {
            return;
        };
        let Ok(mount) = rustix::fs::fstat(&inside.mount) else {
            return;
        };
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            let own = fs::metadata(format!("/proc/{pid}/ns/mnt"));
            if own.is_ok_and(|own| (own.dev(), own.ino()) == (mount.st_dev, mount.st_ino))
                && let Some(pid) = Pid::from_raw(pid)
            {
                // It may have ended in the meantime, which is what is wanted.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Removes an ended container's layers in a child of its own: it may be a lot.
    fn clean(&mut self, layers: PathBuf) {
        match single::fork() {
            Ok(Forked::Child) => {
                let removed = fs::remove_dir_all(&layers);
                single::end_child(i32::from(removed.is_err()));
            }
            Ok(Forked::Parent(pid)) => {
                let process = Process {
                    id: 0,
                    role: Role::Cleaner,
                    handshake: None,
                    terminal: None,
                };
                self.processes.insert(pid, process);
            }
            // The runtime removes the pod's directory in the end.
            Err(_) => {}
        }
    }

    fn tell(&mut self, event: &Event, file: Option<&OwnedFd>) -> io::Result<()> {
        let bytes = encode(event, usize::from(file.is_some())).map_err(io::Error::other)?;
        let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
        let sent = fds::send(&self.control, &bytes, &files)?;
        self.control.write_all(&bytes[sent..])
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

fn status_of(status: WaitStatus) -> Status {
    match (status.exit_status(), status.terminating_signal()) {
        (_, Some(signal)) => Status {
            code: 128 + signal,
            signal: Some(signal),
        },
        (code, None) => Status {
            code: code.unwrap_or(255),
            signal: None,
        },
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
