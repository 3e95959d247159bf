//! The loop of `corten-pod`: requests in, events out, output into log files, ends of processes noticed.
//!
//! One thread waits in `poll` for the control socket, ended children, containers' output, and children on their way to becoming programs. When the control
//! socket closes, the runtime is gone: the loop returns, the process ends, and with it, being process 1, everything in the pod.

mod start;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corten_linux::fds;
use corten_linux::single::{self, Forked};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group};

use crate::container::{self, Inside, Surroundings};
use crate::frame::{Decoder, encode};
use crate::log::{Lines, LogFile, Stream};
use crate::protocol::{Event, Failure, FailureKind, Pod, Request, Status};
use crate::rootfs;

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

/// Reads from an ended container's output at most.
const DRAIN_READS_MAX: usize = 1024;

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
            Request::Abandon { id } => {
                self.abandon(id);
                return Ok(());
            }
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
            // A pipe holds 64 KiB. Whoever goes on printing is no process of the container, and is not listened to for ever.
            for _ in 0..DRAIN_READS_MAX {
                let Some(output) = self
                    .containers
                    .get(name)
                    .and_then(|container| container.outputs.get(index))
                else {
                    break;
                };
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

    /// Kills a further program with its process group, of which it is the leader from before it is told to run.
    fn abandon(&self, id: u64) {
        let further = |of: &Process| of.id == id && matches!(of.role, Role::Further);
        let found = self.processes.iter().find(|(_, process)| further(process));
        if let Some((pid, _)) = found {
            // It may have ended in the meantime, which is what is wanted.
            let _ = kill_process_group(*pid, Signal::KILL);
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
