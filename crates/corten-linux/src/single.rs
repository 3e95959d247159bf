//! For processes with one thread: forking without executing, signals as an open file, leaving namespaces for new ones.
//!
//! `corten-pod` lives by this. Programs with threads use [`Spawn`](crate::Spawn) instead, which prepares everything before it makes a process.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use crate::namespaces::Namespaces;

/// Which of the two processes this is after [`fork`].
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The one that forked, with the number of the new one.
    Parent(Pid),
}

/// Duplicates this process. Refused when it has more than one thread, because the others would be missing in the child with their locks held.
pub fn fork() -> io::Result<Forked> {
    require_one_thread()?;
    // SAFETY: with a single thread the child is a complete copy: no lock is held by a thread that is missing in it.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child),
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Forked::Parent(
            Pid::from_raw(pid).expect("fork gives a positive process id"),
        )),
    }
}

/// Leaves the namespaces named for new ones (for `pid`: the next child is process 1 of a new one). Refused when there is more than one thread.
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    require_one_thread()?;
    let all = [
        (namespaces.user, UnshareFlags::NEWUSER),
        (namespaces.mount, UnshareFlags::NEWNS),
        (namespaces.pid, UnshareFlags::NEWPID),
        (namespaces.network, UnshareFlags::NEWNET),
        (namespaces.uts, UnshareFlags::NEWUTS),
        (namespaces.ipc, UnshareFlags::NEWIPC),
    ];
    let wanted = all.into_iter().filter(|(wanted, _)| *wanted);
    let flags = wanted.fold(UnshareFlags::empty(), |sum, (_, flag)| sum | flag);
    // SAFETY: the table of open files stays shared as it was (no CLONE_FILES), and there is no other thread to be surprised.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// From now on the end of a child makes the returned file readable instead of interrupting the process.
///
/// The signal stays blocked in children, and in the programs that they execute, unless they call [`unblock_signals`] first.
pub fn child_signals() -> io::Result<OwnedFd> {
    require_one_thread()?;
    // SAFETY: the set is initialised by sigemptyset before use; the other calls take it by pointer for their duration only.
    let file = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// No signal is blocked any more, as a program expects that is about to be executed: a shell, for one, would wait for ever for its children.
pub fn unblock_signals() -> io::Result<()> {
    // SAFETY: the set is initialised by sigemptyset before use, and taken by pointer for the duration of the call only.
    let done = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Marks all files open at this moment (but the standard ones) to be closed when a program is executed: also those that this process was given by
/// mistake and does not know of.
pub fn keep_files_to_oneself() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: changes a flag of open files, closes none.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ends a forked child that will not become a program, without running what the parent's end should run (buffers, destructors).
pub fn end_child(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Brings up the loopback interface of the network namespace this thread is in.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: zero is a valid value of all fields of ifreq; the name is shorter than the field and ends in zero; the kernel reads and writes
    // only this structure, for the duration of each call.
    let done = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = libc::c_char::from_ne_bytes([b'l']);
        request.ifr_name[1] = libc::c_char::from_ne_bytes([b'o']);
        let got = libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request);
        if got == 0 {
            request.ifr_ifru.ifru_flags |= i16::try_from(libc::IFF_UP).expect("IFF_UP is 1");
            libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
        } else {
            got
        }
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn require_one_thread() -> io::Result<()> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads == 1 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "a process with {threads} threads cannot be forked safely"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        // The test harness itself is such a process: this thread and the main one.
        let error = fork().unwrap_err();
        assert!(error.to_string().contains("threads"), "{error}");
        assert!(unshare(Namespaces::default()).is_err());
    }
}
