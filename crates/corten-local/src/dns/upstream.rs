//! Asking the host's resolvers, through sockets that were connected to them in the host's network namespace.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corten_rt::TaskGroup;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;

/// How long one resolver may take before the next is asked.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(1500);
/// Questions on their way, at most; more are answered "server failure" at once.
const WAITING_MAX: usize = 512;

type Waiting = Mutex<HashMap<u16, (Vec<u8>, oneshot::Sender<Vec<u8>>)>>;

/// The host's resolvers, in order of preference. Without any, nothing is forwarded.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    resolvers: Vec<Arc<Resolver>>,
}

#[derive(Debug)]
struct Resolver {
    socket: UdpSocket,
    /// By the id we gave: the question without its id, and who waits.
    waiting: Waiting,
}

impl Upstream {
    /// Takes connected sockets into use; their readers belong to `tasks`.
    pub fn new(sockets: Vec<std::net::UdpSocket>, tasks: &TaskGroup) -> io::Result<Upstream> {
        let mut resolvers = Vec::new();
        for socket in sockets {
            socket.set_nonblocking(true)?;
            let socket = UdpSocket::from_std(socket)?;
            let resolver = Arc::new(Resolver {
                socket,
                waiting: Mutex::default(),
            });
            let reading = Arc::clone(&resolver);
            tasks.spawn("dns upstream", async move { reading.read().await });
            resolvers.push(resolver);
        }
        Ok(Upstream { resolvers })
    }

    /// Whether there is nobody to ask.
    pub fn is_empty(&self) -> bool {
        self.resolvers.is_empty()
    }

    /// Asks one resolver after the other; the answer has the question's id again.
    pub async fn ask(&self, question: &[u8]) -> Option<Vec<u8>> {
        for resolver in &self.resolvers {
            if let Some(mut answer) = resolver.ask(question).await {
                answer.get_mut(..2)?.copy_from_slice(question.get(..2)?);
                return Some(answer);
            }
        }
        None
    }
}

/// The question section of a message with one question: what an answer must repeat.
fn section(message: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        if length > 63 {
            return None;
        }
        at += 1 + length;
        if length == 0 {
            return message.get(12..at + 4);
        }
    }
}

impl Resolver {
    async fn ask(&self, question: &[u8]) -> Option<Vec<u8>> {
        let mut sent = question.to_vec();
        let expected = section(question)?.to_ascii_lowercase();
        let (answered, answer) = oneshot::channel();
        let id = {
            let mut waiting = self.waiting.lock().expect("no panic while questions are locked");
            if waiting.len() >= WAITING_MAX {
                return None;
            }
            // An unguessable id is what keeps others from answering in the resolver's place.
            let id = std::iter::repeat_with(rand::random::<u16>).find(|id| !waiting.contains_key(id))?;
            waiting.insert(id, (expected, answered));
            id
        };
        sent.get_mut(..2)?.copy_from_slice(&id.to_be_bytes());
        let result = async {
            self.socket.send(&sent).await.ok()?;
            tokio::time::timeout(ANSWER_TIME_MAX, answer).await.ok()?.ok()
        };
        let result = result.await;
        self.waiting
            .lock()
            .expect("no panic while questions are locked")
            .remove(&id);
        result
    }

    async fn read(&self) {
        let mut buffer = vec![0; 4096];
        loop {
            let length = match self.socket.recv(&mut buffer).await {
                Ok(length) => length,
                // The resolver's port is closed: whoever asked runs into the timeout, later ones may find it open.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot read from a resolver of the host any more");
                    return;
                }
            };
            let answer = &buffer[..length];
            let Some(id) = answer.get(..2).map(|id| u16::from_be_bytes([id[0], id[1]])) else {
                continue;
            };
            let mut waiting = self.waiting.lock().expect("no panic while questions are locked");
            let matches = |expected: &[u8]| section(answer).is_some_and(|own| own.to_ascii_lowercase() == expected);
            if waiting.get(&id).is_some_and(|(expected, _)| matches(expected))
                && let Some((_, waiter)) = waiting.remove(&id)
            {
                // Nobody waits any more: it was too late.
                waiter.send(answer.to_vec()).ok();
            }
        }
    }
}
