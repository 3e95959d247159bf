//! The runtime's end of a pod's control socket: requests with their answers, and the pod's own events.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corten_linux::fds;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::{ExecExit, Exit, StartError};
use crate::frame::{Decoder, encode};
use crate::protocol::{Event, FailureKind, Request};

/// The answer to a request: the process, if there is one, and the open files that came along.
type Answer = Result<(u32, Vec<OwnedFd>), StartError>;

/// A control socket with what is under way on it.
#[derive(Debug)]
pub(super) struct Connection {
    socket: AsyncFd<OwnedFd>,
    /// To the task that writes: a caller who stops waiting leaves no half message behind.
    outgoing: mpsc::Sender<Message>,
    state: Mutex<State>,
}

/// A request as it is sent, with its open files.
#[derive(Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
    files: Vec<OwnedFd>,
}

/// What the pod says to its preparation: nothing, or what it cannot do.
pub(super) type Prepared = oneshot::Receiver<Result<(), String>>;

/// Messages that wait to be sent; more callers than this wait in line.
const OUTGOING_MAX: usize = 16;

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    answers: HashMap<u64, Waiting>,
    execs: HashMap<u64, oneshot::Sender<ExecExit>>,
    /// Containers whose program was started and has not ended.
    running: HashSet<String>,
    ready: Option<oneshot::Sender<Result<(), String>>>,
    gone: bool,
}

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Answer>,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    Start(String),
    Exec(oneshot::Sender<ExecExit>),
    Signal,
}

impl Connection {
    /// Takes one end of the socket pair; [`write`](Self::write) and [`read`](Self::read) are to be run as tasks.
    pub(super) fn new(socket: OwnedFd) -> io::Result<(Self, mpsc::Receiver<Message>, Prepared)> {
        let flags = rustix::fs::fcntl_getfl(&socket)?;
        rustix::fs::fcntl_setfl(&socket, flags | rustix::fs::OFlags::NONBLOCK)?;
        let (ready, prepared) = oneshot::channel();
        let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
        let state = State {
            ready: Some(ready),
            ..State::default()
        };
        let connection = Self {
            socket: fds::watched(socket)?,
            outgoing,
            state: Mutex::new(state),
        };
        Ok((connection, messages, prepared))
    }

    /// Asks for a container; answered when its program runs.
    pub(super) async fn start(&self, name: String, request: impl FnOnce(u64) -> Request) -> Answer {
        self.ask(Purpose::Start(name), request, Vec::new()).await
    }

    /// Asks for a further program; its end arrives on the receiver. Also the number by which it can be abandoned.
    pub(super) async fn exec(
        &self,
        request: impl FnOnce(u64) -> Request,
        files: Vec<OwnedFd>,
    ) -> Result<(u64, Vec<OwnedFd>, oneshot::Receiver<ExecExit>), StartError> {
        let (ended, exit) = oneshot::channel();
        let mut number = 0;
        let numbered = |id| {
            number = id;
            request(id)
        };
        let (_, files) = self.ask(Purpose::Exec(ended), numbered, files).await?;
        Ok((number, files, exit))
    }

    /// Ends a further program, if it still runs.
    pub(super) async fn abandon(&self, id: u64) {
        if self.state().execs.contains_key(&id) {
            // Where the pod is gone, so is the program.
            let _ = self.send(&Request::Abandon { id }, Vec::new()).await;
        }
    }

    /// Asks for a signal to be sent.
    pub(super) async fn signal(&self, request: impl FnOnce(u64) -> Request) -> Result<(), StartError> {
        self.ask(Purpose::Signal, request, Vec::new()).await.map(drop)
    }

    async fn ask(&self, purpose: Purpose, request: impl FnOnce(u64) -> Request, files: Vec<OwnedFd>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let request = {
            let mut state = self.state();
            if state.gone {
                return Err(StartError::Gone);
            }
            state.last_id += 1;
            let id = state.last_id;
            state.answers.insert(id, Waiting { answer, purpose });
            request(id)
        };
        self.send(&request, files).await?;
        answered.await.unwrap_or(Err(StartError::Gone))
    }

    /// Queues a message.
    pub(super) async fn send(&self, request: &Request, files: Vec<OwnedFd>) -> Result<(), StartError> {
        let bytes = encode(request, files.len()).map_err(|error| StartError::Invalid(error.to_string()))?;
        let sent = self.outgoing.send(Message { bytes, files }).await;
        sent.map_err(|_| StartError::Gone)
    }

    /// Sends the queued messages, until there can be no more or the pod is gone.
    pub(super) async fn write(&self, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.recv().await {
            if self.write_message(&message).await.is_err() {
                // The reader notices the same, and tells everybody.
                return;
            }
        }
    }

    async fn write_message(&self, message: &Message) -> io::Result<()> {
        let mut sent = 0;
        while sent < message.bytes.len() {
            let mut ready = self.socket.writable().await?;
            let result = ready.try_io(|socket| {
                // The files travel with the first byte.
                let files: Vec<_> = message.files.iter().filter(|_| sent == 0).map(AsFd::as_fd).collect();
                fds::send(socket, &message.bytes[sent..], &files)
            });
            match result {
                Ok(count) => sent += count?,
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Reads events until the pod is gone; then everything that waits is told so, and running containers have exited.
    pub(super) async fn read(&self, exits: mpsc::Sender<Exit>) {
        // An error is the same as the end: nothing more can be learned about the pod.
        let _ = self.read_events(&exits).await;
        let running = {
            let mut state = self.state();
            state.gone = true;
            state.answers.clear();
            state.execs.clear();
            state.ready = None;
            std::mem::take(&mut state.running)
        };
        for container in running {
            let exit = Exit {
                container,
                code: 137,
                signal: Some(9),
                finished_at: SystemTime::now(),
                message: None,
            };
            // Nobody has to listen.
            let _ = exits.send(exit).await;
        }
    }

    async fn read_events(&self, exits: &mpsc::Sender<Exit>) -> io::Result<()> {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; 4096];
        loop {
            let mut ready = self.socket.readable().await?;
            let Ok(received) = ready.try_io(|socket| fds::receive(socket, &mut buffer)) else {
                continue;
            };
            let (count, files) = received?;
            if count == 0 {
                return Ok(());
            }
            decoder.push(&buffer[..count], files);
            while let Some((event, files)) = decoder.message().map_err(io::Error::other)? {
                if let Some(exit) = self.take(event, files) {
                    let _ = exits.send(exit).await;
                }
            }
        }
    }

    /// Passes an event to whom it concerns. A receiver that is gone does not want to know.
    fn take(&self, event: Event, files: Vec<OwnedFd>) -> Option<Exit> {
        let mut state = self.state();
        match event {
            Event::Ready | Event::Refused { .. } => {
                let outcome = match event {
                    Event::Refused { message } => Err(message),
                    _ => Ok(()),
                };
                if let Some(ready) = state.ready.take() {
                    let _ = ready.send(outcome);
                }
            }
            Event::Started { id, pid } => {
                let Waiting { answer, purpose } = state.answers.remove(&id)?;
                match purpose {
                    Purpose::Start(name) => drop(state.running.insert(name)),
                    Purpose::Exec(ended) => drop(state.execs.insert(id, ended)),
                    Purpose::Signal => {}
                }
                let _ = answer.send(Ok((pid, files)));
            }
            Event::Done { id } => {
                let _ = state.answers.remove(&id)?.answer.send(Ok((0, files)));
            }
            Event::Failed { id, kind, message } => {
                let _ = state.answers.remove(&id)?.answer.send(Err(failure(kind, message)));
            }
            Event::Finished { id, status } => {
                let exit = ExecExit {
                    code: status.code,
                    signal: status.signal,
                };
                let _ = state.execs.remove(&id)?.send(exit);
            }
            Event::Exited {
                container,
                status,
                finished_at,
                message,
            } => {
                state.running.remove(&container);
                return Some(Exit {
                    container,
                    code: status.code,
                    signal: status.signal,
                    finished_at: UNIX_EPOCH + Duration::from_nanos(finished_at),
                    message,
                });
            }
        }
        None
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn failure(kind: FailureKind, message: String) -> StartError {
    match kind {
        FailureKind::NotFound => StartError::NotFound(message),
        FailureKind::Permission => StartError::Permission(message),
        FailureKind::Invalid => StartError::Invalid(message),
        FailureKind::Setup => StartError::Setup(message),
        FailureKind::AlreadyRunning => StartError::AlreadyRunning(message),
        FailureKind::NotRunning => StartError::NotRunning(message),
    }
}
