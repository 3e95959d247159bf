//! Assembles the runtime inside its namespaces, watches over its parts, and brings them to an end in order.
//!
//! Knows which parts there are and what each needs from the others; what they do is theirs.

mod assembly;
mod board;
mod cluster;
mod component;
mod dialer;
mod nodes;
mod overview;

use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_rt::TaskGroup;
use tokio::sync::Notify;

use crate::control::{self, Message, Server};
use crate::instance::Instance;
use crate::status::{Phase, RuntimeStatus};
use crate::up::Assignment;

use assembly::Assembly;
use board::Board;

/// The sockets that were opened outside.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// To the outer process.
    pub(crate) channel: UnixStream,
    /// Where commands ask.
    pub(crate) control: UnixListener,
    /// Where clients outside reach the API.
    pub(crate) api: TcpListener,
    /// To the host's resolvers.
    pub(crate) resolvers: Vec<UdpSocket>,
}

/// The sockets that parts of the runtime work with, as opposed to those of the conversations.
pub(crate) struct Outside {
    pub(crate) api: TcpListener,
    pub(crate) resolvers: Vec<UdpSocket>,
}

/// How long the conversations may take to tell the last word.
const FAREWELL: Duration = Duration::from_millis(200);

/// Runs the runtime until it is asked to stop or cannot go on.
pub(crate) async fn run(assignment: Assignment, runtime_dir: PathBuf, sockets: Sockets) -> anyhow::Result<()> {
    let begin = Instant::now();
    let instance = Instance::new(&assignment.state_home, &assignment.name)?;
    let board = Arc::new(Board::new(RuntimeStatus {
        name: assignment.name.clone(),
        pid: assignment.outer_pid,
        server: format!("https://{}", assignment.server),
        kubeconfig: instance.kubeconfig(),
        log: instance.log(),
        ..RuntimeStatus::default()
    }));
    let stop = Arc::new(Notify::new());
    let last_words = sockets.channel.try_clone()?;
    let conversations = TaskGroup::new("control");
    converse(&conversations, &board, &stop, sockets.channel, sockets.control)?;

    let outside = Outside {
        api: sockets.api,
        resolvers: sockets.resolvers,
    };
    // A request to stop also ends a start that hangs.
    let assembly = tokio::select! {
        assembly = Assembly::start(&assignment, &instance, runtime_dir, outside, board.clone()) => assembly,
        () = stop.notified() => return Ok(()),
    };
    let result = match assembly {
        Ok(assembly) => {
            attend(&assembly, &board, &stop, begin).await;
            board.phase(Phase::Stopping);
            assembly.stop().await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &result {
        report_failure(&last_words, &format!("{error:#}"));
    }
    conversations.shutdown(FAREWELL).await;
    tracing::info!("stopped");
    result
}

/// Serves the control socket and the outer process.
fn converse(
    tasks: &TaskGroup,
    board: &Board,
    stop: &Arc<Notify>,
    channel: UnixStream,
    control: UnixListener,
) -> anyhow::Result<()> {
    let server = Server {
        status: board.subscribe(),
        stop: stop.clone(),
    };
    channel.set_nonblocking(true)?;
    control.set_nonblocking(true)?;
    let channel = tokio::net::UnixStream::from_std(channel)?;
    let control = tokio::net::UnixListener::from_std(control)?;
    let outer = server.clone();
    let stop = stop.clone();
    tasks.serve("outer process", |drain| async move {
        if let Err(error) = control::converse(outer, channel, drain).await {
            tracing::warn!(%error, "the outer process stopped listening");
        }
        // Without it there is nobody to run for (the kernel sees to that too).
        stop.notify_one();
    });
    tasks.serve("control socket", |drain| server.run(control, tasks.clone(), drain));
    Ok(())
}

/// Watches the runtime become ready, and waits until it is asked to stop.
async fn attend(assembly: &Assembly, board: &Board, stop: &Notify, begin: Instant) {
    tokio::select! {
        () = assembly.ready() => {}
        () = stop.notified() => return,
    }
    let took = begin.elapsed();
    tracing::info!(milliseconds = took.as_millis(), "ready");
    board.ready(took);
    // What the start needed only once goes back to the kernel.
    corten_linux::memory::trim();
    stop.notified().await;
}

/// Tells the outer process why it is over. It may be gone, and then nobody needs to know.
pub(crate) fn report_failure(mut channel: &UnixStream, reason: &impl ToString) {
    if let Ok(mut line) = serde_json::to_vec(&Message::Failed(reason.to_string())) {
        line.push(b'\n');
        let _ = channel.write_all(&line);
    }
}
