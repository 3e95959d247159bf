//! The streams of a program run inside a container.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// A program started by [`Sandbox::exec`](super::Sandbox::exec).
pub struct Exec {
    /// What it reads; `None` when no stdin was asked for. Dropping it is the end of its input (with a terminal: nothing).
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What it prints (with a terminal: all of it).
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// What it prints to stderr; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Its terminal, when one was asked for.
    pub terminal: Option<Terminal>,
    /// Resolves when it has exited; an error means that the whole sandbox went away.
    pub exit: oneshot::Receiver<ExecExit>,
    /// Dropping this kills the program with its process group, if it still runs.
    pub hold: Hold,
}

/// What keeps an [`Exec`]'s program alive: there is nothing to send.
pub type Hold = oneshot::Sender<std::convert::Infallible>;

/// How a program started by [`Sandbox::exec`](super::Sandbox::exec) ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecExit {
    /// The exit code; `128 + signal` when a signal ended it.
    pub code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
}

/// The terminal of an [`Exec`], for changing its size.
#[derive(Clone, Debug)]
pub struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    pub(super) fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self(Arc::new(corten_linux::fds::watched(master)?)))
    }

    /// Tells the program the size of the window it is shown in.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(self.0.get_ref(), size)?)
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            match ready.try_io(|file| Ok(rustix::io::read(file, unfilled)?)) {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // So says the kernel when the last program has closed its end.
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            match ready.try_io(|file| Ok(rustix::io::write(file, buf)?)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// This side of the pipes of a program without a terminal.
pub(super) struct Pipes {
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

/// The program's stdin, stdout and stderr, and this side of them.
pub(super) fn pipes(stdin: bool) -> io::Result<(Vec<OwnedFd>, Pipes)> {
    let (their_stdin, stdin) = if stdin {
        let (reader, writer) = io::pipe()?;
        (reader.into(), Some(pipe::Sender::from_owned_fd(writer.into())?))
    } else {
        (std::fs::File::open("/dev/null")?.into(), None)
    };
    let (stdout, their_stdout) = io::pipe()?;
    let (stderr, their_stderr) = io::pipe()?;
    let ours = Pipes {
        stdin,
        stdout: pipe::Receiver::from_owned_fd(stdout.into())?,
        stderr: pipe::Receiver::from_owned_fd(stderr.into())?,
    };
    Ok((vec![their_stdin, their_stdout.into(), their_stderr.into()], ours))
}

impl Pipes {
    pub(super) fn into_exec(self, exit: oneshot::Receiver<ExecExit>, hold: Hold) -> Exec {
        Exec {
            stdin: self.stdin.map(|stdin| Box::new(stdin) as _),
            stdout: Box::new(self.stdout),
            stderr: Some(Box::new(self.stderr)),
            terminal: None,
            exit,
            hold,
        }
    }
}

impl Exec {
    pub(super) fn on_terminal(
        master: OwnedFd,
        stdin: bool,
        exit: oneshot::Receiver<ExecExit>,
        hold: Hold,
    ) -> io::Result<Self> {
        let terminal = Terminal::new(master)?;
        Ok(Self {
            stdin: stdin.then(|| Box::new(terminal.clone()) as _),
            stdout: Box::new(terminal.clone()),
            stderr: None,
            terminal: Some(terminal),
            exit,
            hold,
        })
    }
}
