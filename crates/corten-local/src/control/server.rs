//! The answering side, in the runtime.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use corten_rt::{Drain, TaskGroup};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};

use super::{Message, Request};
use crate::status::RuntimeStatus;

/// Longest request taken, in bytes.
const REQUEST_MAX: usize = 1024;

/// Changes closer together than this are told as one.
const PACE: Duration = Duration::from_millis(50);

/// What a conversation needs: the status to tell, and the bell that asks for an end.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) status: watch::Receiver<RuntimeStatus>,
    pub(crate) stop: Arc<Notify>,
}

impl Server {
    /// Takes connections until drained.
    pub(crate) async fn run(self, listener: UnixListener, tasks: TaskGroup, mut drain: Drain) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.wait() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let server = self.clone();
                    tasks.serve("conversation", |drain| async move {
                        if let Err(error) = converse(server, stream, drain).await {
                            tracing::debug!(%error, "a control connection ended badly");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a control connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// One conversation, until the other side ends it or the group drains.
pub(crate) async fn converse(mut server: Server, stream: UnixStream, mut drain: Drain) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::with_capacity(REQUEST_MAX, reader).lines();
    let mut watching = false;
    loop {
        // Dropping `next_line` half-way keeps what it read; both other branches lose nothing.
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                match serde_json::from_str(&line) {
                    Ok(Request::Status) => tell(&mut writer, server.current()).await?,
                    Ok(Request::Watch) => {
                        watching = true;
                        server.status.mark_changed();
                    }
                    Ok(Request::Stop) => server.stop.notify_one(),
                    Err(error) => tell(&mut writer, Message::Failed(format!("not a request: {error}"))).await?,
                }
            }
            changed = server.status.changed(), if watching => {
                if changed.is_err() {
                    return Ok(());
                }
                tell(&mut writer, server.current()).await?;
                tokio::select! {
                    () = tokio::time::sleep(PACE) => {}
                    () = drain.wait() => {}
                }
            }
            () = drain.wait() => {
                if watching && server.status.has_changed().unwrap_or(false) {
                    tell(&mut writer, server.current()).await?;
                }
                return Ok(());
            }
        }
    }
}

impl Server {
    fn current(&mut self) -> Message {
        Message::Status(Box::new(self.status.borrow_and_update().clone()))
    }
}

/// Writes one message.
pub(crate) async fn tell(writer: &mut (impl AsyncWriteExt + Unpin), message: Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(&message)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Connection, listen};
    use crate::status::Phase;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_watcher_sees_changes_and_a_stop_rings_the_bell() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a-directory-with-a-long-name".repeat(6));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("control.sock");
        let listener = listen(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (change, status) = watch::channel(RuntimeStatus::default());
        let stop = Arc::new(Notify::new());
        let server = Server {
            status,
            stop: stop.clone(),
        };
        let tasks = TaskGroup::new("control");
        let listener = UnixListener::from_std(listener).unwrap();
        tasks.serve("accept", |drain| server.run(listener, tasks.clone(), drain));

        let client = tokio::task::spawn_blocking(move || {
            let mut connection = Connection::open(&path, Duration::from_secs(10)).unwrap();
            assert_eq!(connection.status().unwrap().phase, Phase::Starting);
            connection.send(Request::Watch).unwrap();
            let phase = |message| match message {
                Some(Message::Status(status)) => status.phase,
                other => panic!("{other:?}"),
            };
            assert_eq!(phase(connection.next_message().unwrap()), Phase::Starting);
            change.send_modify(|status| status.phase = Phase::Ready);
            assert_eq!(phase(connection.next_message().unwrap()), Phase::Ready);
            connection.send(Request::Stop).unwrap();
            // A conversation also ends when nobody can change the status any more, and then nothing more is heard.
            change
        });
        let _change = client.await.unwrap();
        stop.notified().await;
        tasks.shutdown(Duration::from_secs(1)).await;
    }
}
