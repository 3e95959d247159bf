//! Starting a program as a process in namespaces of its own.
//!
//! The standard library's `Command` cannot make the first process of a PID namespace, hand over open files or return a process
//! descriptor; this can. It does not search `PATH` and knows nothing of what the program is.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use thiserror::Error;
use tokio::io::unix::AsyncFd;

use crate::fds::{FIRST_GIVEN, high_copy};
use crate::namespaces::Namespaces;

/// Why a process could not be started.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// The kernel refused to make the process in its namespaces.
    #[error("cannot make a process in its own namespaces: {0}")]
    Namespaces(#[source] io::Error),
    /// The ids of the new user namespace could not be set.
    #[error("cannot map user ids into the new user namespace ({file}): {source}")]
    UserMap {
        /// The file in `/proc/PID` that could not be written.
        file: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The new process could not become the program.
    #[error("cannot execute {program:?}: {source}")]
    Exec {
        /// Which program.
        program: OsString,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something else went wrong while preparing.
    #[error("cannot prepare a new process: {0}")]
    Prepare(#[from] io::Error),
}

/// A program to be started: what, with what, and in which namespaces.
#[derive(Debug)]
pub struct Spawn {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    namespaces: Namespaces,
    stdio: [Option<OwnedFd>; 3],
    given: Vec<OwnedFd>,
    dies_with_thread: bool,
    own_session: bool,
}

impl Spawn {
    /// A program by its path; its environment is empty and its standard files are those of this process.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: vec![program.as_ref().to_owned()],
            env: Vec::new(),
            namespaces: Namespaces::default(),
            stdio: [None, None, None],
            given: Vec::new(),
            dies_with_thread: false,
            own_session: false,
        }
    }

    /// This very executable once more (also if its file was replaced since).
    pub fn this_program() -> Self {
        Self::new("/proc/self/exe")
    }

    /// What the program sees as its own name (`argv[0]`).
    #[must_use]
    pub fn name(mut self, name: impl AsRef<OsStr>) -> Self {
        self.args[0] = name.as_ref().to_owned();
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// All the environment variables of this process.
    #[must_use]
    pub fn inherit_env(mut self) -> Self {
        self.env.extend(std::env::vars_os());
        self
    }

    /// The namespaces to be made for it.
    #[must_use]
    pub fn namespaces(mut self, namespaces: Namespaces) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// Its standard input (0), output (1) or error (2).
    ///
    /// # Panics
    /// If `number` is not one of these.
    #[must_use]
    pub fn stdio(mut self, number: usize, file: OwnedFd) -> Self {
        self.stdio[number] = Some(file);
        self
    }

    /// One more open file: the first becomes number 3 of the new process, the next 4, ... (see [`given`](crate::fds::given)).
    #[must_use]
    pub fn give(mut self, file: impl Into<OwnedFd>) -> Self {
        self.given.push(file.into());
        self
    }

    /// It is killed when the *thread* that starts it ends, however it ends. So start it from the main thread, or from one that stays.
    #[must_use]
    pub fn dies_with_thread(mut self) -> Self {
        self.dies_with_thread = true;
        self
    }

    /// It leads a session of its own: signals typed at the terminal do not reach it.
    #[must_use]
    pub fn own_session(mut self) -> Self {
        self.own_session = true;
        self
    }

    /// Starts it, and returns once the program runs.
    pub fn start(self) -> Result<Child, SpawnError> {
        let program = self.program.clone();
        let user = self.namespaces.user;
        let (go_reader, mut go) = io::pipe()?;
        let (mut failure, failure_writer) = io::pipe()?;
        let plan = Plan::new(self, go_reader, &go, failure_writer)?;
        let mut child = plan.clone_process()?;
        drop(plan);
        if user && let Err(error) = map_user(child.pid) {
            // It waits for the word, and ends without it.
            drop(go);
            child.reap();
            return Err(error);
        }
        // Fails only if it is already dead, and then the other pipe says why.
        let _ = go.write_all(b"g");
        drop(go);
        let mut errno = [0; 4];
        match failure.read_exact(&mut errno) {
            Ok(()) => {
                child.reap();
                let source = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
                Err(SpawnError::Exec { program, source })
            }
            // The end of the pipe: `exec` closed it.
            Err(_) => Ok(child),
        }
    }
}

/// Gives the user namespace of a process its only user and group: this process's own, seen as 0 inside.
fn map_user(pid: i32) -> Result<(), SpawnError> {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let files = [
        ("uid_map", format!("0 {user} 1\n")),
        // Without this the kernel does not let an ordinary user map a group.
        ("setgroups", "deny".into()),
        ("gid_map", format!("0 {group} 1\n")),
    ];
    for (file, content) in files {
        let path = format!("/proc/{pid}/{file}");
        std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut open| open.write_all(content.as_bytes()))
            .map_err(|source| SpawnError::UserMap { file, source })?;
    }
    Ok(())
}

/// Everything the new process needs between `clone3` and `execve`, prepared so that nothing is allocated there.
struct Plan {
    program: CString,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    flags: u64,
    /// Which of our (high) numbers becomes which of its (low) ones.
    moves: Vec<(RawFd, RawFd)>,
    go: OwnedFd,
    go_writer: RawFd,
    failure: OwnedFd,
    dies_with_thread: bool,
    own_session: bool,
    // What the pointers and numbers above point to.
    _strings: Vec<CString>,
    _files: Vec<OwnedFd>,
}

impl Plan {
    fn new(spawn: Spawn, go: PipeReader, go_writer: &PipeWriter, failure: PipeWriter) -> Result<Self, SpawnError> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let args: Vec<CString> = spawn.args.iter().map(|arg| text(arg)).collect::<Result<_, _>>()?;
        let mut env = Vec::new();
        for (name, value) in &spawn.env {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            env.push(text(&pair)?);
        }
        let pointers = |strings: &[CString]| {
            let all = strings.iter().map(|string| string.as_ptr());
            all.chain([ptr::null()]).collect::<Vec<_>>()
        };
        let (argv, envp) = (pointers(&args), pointers(&env));
        let stdio = spawn
            .stdio
            .into_iter()
            .zip(0..)
            .filter_map(|(file, number)| Some((file?, number)));
        let mut files = Vec::new();
        let mut moves = Vec::new();
        for (file, target) in stdio.chain(spawn.given.into_iter().zip(FIRST_GIVEN..)) {
            let copy = high_copy(&file)?;
            moves.push((copy.as_raw_fd(), target));
            files.push(copy);
        }
        Ok(Self {
            program: text(&spawn.program)?,
            argv,
            envp,
            flags: spawn.namespaces.clone_flags(),
            moves,
            go: high_copy(&go)?,
            go_writer: go_writer.as_raw_fd(),
            failure: high_copy(&failure)?,
            dies_with_thread: spawn.dies_with_thread,
            own_session: spawn.own_session,
            _strings: args.into_iter().chain(env).collect(),
            _files: files,
        })
    }

    /// Makes the process, which then waits for the word to go on.
    fn clone_process(&self) -> Result<Child, SpawnError> {
        let mut pidfd: RawFd = -1;
        // SAFETY: all fields of clone_args are integers, for which zero means "not used".
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = self.flags | u64::from(libc::CLONE_PIDFD.cast_unsigned());
        args.pidfd = ptr::from_mut(&mut pidfd) as u64;
        args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        // SAFETY: without CLONE_VM the child has its own copy of memory, so nothing here changes under the parent.
        // In the child only this thread exists and locks may be held for ever; it calls `become_program`, which uses only
        // async-signal-safe functions and memory prepared before, and never returns.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
        match pid {
            0 => self.become_program(),
            -1 => Err(SpawnError::Namespaces(io::Error::last_os_error())),
            pid => Ok(Child {
                pid: i32::try_from(pid).expect("a process id is a C int"),
                // SAFETY: the call succeeded, so the kernel stored a new descriptor that is ours.
                pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
            }),
        }
    }

    /// The life of the new process until it is the program. Async-signal-safe calls only.
    fn become_program(&self) -> ! {
        // SAFETY: every call below is async-signal-safe and works on integers and on memory that `self` keeps alive.
        unsafe {
            // Its own copy of the writer would keep it waiting if the parent died.
            libc::close(self.go_writer);
            if self.dies_with_thread {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            }
            let mut word = 0u8;
            // A parent that died before the line above closed the pipe, so that case ends here.
            if libc::read(self.go.as_raw_fd(), ptr::from_mut(&mut word).cast(), 1) != 1 {
                libc::_exit(125);
            }
            if self.own_session {
                libc::setsid();
            }
            for &(from, to) in &self.moves {
                if libc::dup2(from, to) < 0 {
                    self.fail();
                }
            }
            // Rust programs ignore SIGPIPE, and a thread may block signals; a new program expects neither.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
            self.fail()
        }
    }

    /// Tells the parent the last error and ends the new process.
    fn fail(&self) -> ! {
        // SAFETY: async-signal-safe calls; errno is this thread's own.
        unsafe {
            let errno = (*libc::__errno_location()).to_ne_bytes();
            libc::write(self.failure.as_raw_fd(), errno.as_ptr().cast(), errno.len());
            libc::_exit(127)
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The code a shell would show: the code itself, or 128 and the signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// A running process, named by its descriptor: never confused with a later process of the same number.
///
/// Dropping it leaves the process running.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
}

impl Child {
    /// Its number in this PID namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal. A process that is already gone is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }

    /// How it ended, if it did.
    pub fn try_wait(&mut self) -> io::Result<Option<Exit>> {
        self.wait_with(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Waits, blocking, for its end.
    pub fn wait(&mut self) -> io::Result<Exit> {
        loop {
            if let Some(exit) = self.wait_with(WaitIdOptions::EXITED)? {
                return Ok(exit);
            }
        }
    }

    /// Waits for its end on a tokio runtime. Cancel safe.
    pub async fn exited(&mut self) -> io::Result<Exit> {
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(exit);
            }
            // SAFETY: the descriptor is borrowed from `self` for longer than this value lives, and always the same.
            let ready = unsafe { AsyncFd::register_with_interest(self.pidfd.as_fd(), tokio::io::Interest::READABLE) }
                .map_err(|error| error.into_parts().1)?;
            ready.readable().await?.retain_ready();
        }
    }

    fn wait_with(&self, options: WaitIdOptions) -> io::Result<Option<Exit>> {
        let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options))?;
        Ok(
            status.and_then(|status| match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Some(Exit::Code(code)),
                (None, Some(signal)) => Some(Exit::Signal(signal)),
                (None, None) => None,
            }),
        )
    }

    /// Takes the exit status of a process known to end, so that it does not stay as a zombie.
    fn reap(&mut self) {
        let _ = self.wait();
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A descriptor of any process, or `None` if there is none with this number.
pub fn open_process(pid: i32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(process) => Ok(Some(process)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a process of this number runs; one that only waits for its parent to take notice of its end does not.
pub fn is_running(pid: i32) -> io::Result<bool> {
    let Some(process) = open_process(pid)? else {
        return Ok(false);
    };
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut ended = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
    Ok(rustix::event::poll(&mut ended, Some(&now))? == 0)
}

/// Which program a process runs, where that may be known.
pub fn program_of(pid: i32) -> io::Result<std::path::PathBuf> {
    std::fs::read_link(Path::new("/proc").join(pid.to_string()).join("exe"))
}

#[cfg(test)]
mod tests;
