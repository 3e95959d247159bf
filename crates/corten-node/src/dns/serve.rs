//! The DNS proxy of one pod, from question to answer.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_rt::{Drain, TaskGroup};
use corten_traffic::Workload;
use corten_traffic::dns::message::{Code, NotAQuery, Query, refuse_unread};
use corten_traffic::dns::{Answer, answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Dns;
use super::metrics::{Labels, Transport};
use super::sockets::{Listeners, Place};
use super::upstream::{forward, framed};

/// Questions of one pod that may wait for other servers. Those beyond get no answer over UDP, where clients ask again, and wait over TCP.
const FORWARDED_MAX: u32 = 128;
/// Open TCP connections of one pod. Those beyond wait to be accepted.
const STREAMS_MAX: usize = 32;
/// How long a TCP connection may say nothing.
const STREAM_IDLE: Duration = Duration::from_secs(10);
/// A pod asks as soon as it runs, and may be quicker than the control plane: how long its question waits until the pod is known, which is
/// less than resolvers wait, and how often is looked.
const KNOWN_WITHIN: Duration = Duration::from_secs(4);
const KNOWN_INTERVAL: Duration = Duration::from_millis(10);
/// The largest question over UDP; no resolver sends anything near it.
const QUESTION_MAX: usize = 4096;

/// The place of a successor among the listeners of a port: this process came before it.
const SUCCESSOR: u32 = 1;
/// How long the sockets are read after the word to stop, for what was on its way to them.
const LAST_QUESTIONS: Duration = Duration::from_millis(100);

/// The pod that asks, as the node agent calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Service account.
    pub service_account: String,
}

/// What the tasks of one pod share.
struct Pod {
    dns: Arc<Dns>,
    client: Client,
    place: Place,
    forwarded: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// Answers a pod's questions until told to stop; those that have been passed on then are answered still.
///
/// Once told to hand over, it leaves new questions to another process that listens on the same port. Where there is none, it goes on.
pub async fn serve(
    dns: Arc<Dns>,
    client: Client,
    listeners: Listeners,
    mut hand_over: watch::Receiver<bool>,
    mut drain: Drain,
) {
    let questions = TaskGroup::new(format!("dns {}/{}", client.namespace, client.name));
    let Listeners { place, udp, tcp } = listeners;
    let pod = Arc::new(Pod {
        dns,
        client,
        place,
        forwarded: Arc::new(Semaphore::new(FORWARDED_MAX as usize)),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    });
    // The listeners' group ends when this future is dropped, and the last hold on the questions' group with it.
    let listening = TaskGroup::new("dns");
    let udp: Vec<Arc<UdpSocket>> = udp.into_iter().map(Arc::new).collect();
    let tcp: Vec<Arc<TcpListener>> = tcp.into_iter().map(Arc::new).collect();
    for socket in &udp {
        listening.spawn("udp", datagrams(questions.clone(), pod.clone(), socket.clone()));
    }
    for listener in &tcp {
        listening.spawn("tcp", streams(questions.clone(), pod.clone(), listener.clone()));
    }
    drop(questions);
    tokio::select! {
        // An error means that nobody can say it any more.
        Ok(_) = hand_over.wait_for(|over| *over) => {}
        () = drain.wait() => {}
    }
    let sockets = udp.iter().map(|socket| socket.as_fd());
    for socket in sockets.chain(tcp.iter().map(|listener| listener.as_fd())) {
        if let Err(error) = corten_linux::sockets::prefer_listener(socket, SUCCESSOR) {
            tracing::debug!(%error, "new questions cannot be given to a successor");
        }
    }
    drop((udp, tcp));
    drain.wait().await;
    // What arrived before the word is read by the tasks above before this one has its turn again.
    tokio::time::sleep(LAST_QUESTIONS).await;
    // All of them: nobody waits for a name server.
    let _ = pod.forwarded.acquire_many(FORWARDED_MAX).await;
}

async fn datagrams(tasks: TaskGroup, pod: Arc<Pod>, socket: Arc<UdpSocket>) {
    loop {
        if let Err(error) = socket.readable().await {
            after_error("waiting for questions", &error).await;
            continue;
        }
        // On the stack of this turn only: an idle pod holds no buffer.
        let mut buffer = [0; QUESTION_MAX];
        let (length, from) = match socket.try_recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            // A client that is gone shows as a refused send.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => {
                after_error("receiving a question", &error).await;
                continue;
            }
        };
        let message = &buffer[..length];
        match pod.decide(message, Transport::Udp) {
            Decision::Ignore => {}
            Decision::Answer(answer) => send(&socket, &answer, from),
            waits => {
                let Ok(permit) = pod.forwarded.clone().try_acquire_owned() else {
                    tracing::debug!(pod = %pod.client.name, "a question is dropped: {FORWARDED_MAX} wait for name servers");
                    continue;
                };
                let (pod, socket, message) = (pod.clone(), socket.clone(), message.to_vec());
                tasks.spawn("forward", async move {
                    if let Some(answer) = pod.settle(waits, &message, Transport::Udp, permit).await {
                        send(&socket, &answer, from);
                    }
                });
            }
        }
    }
}

/// Loopback datagrams go at once, or the client's buffer is full and it asks again.
fn send(socket: &UdpSocket, answer: &[u8], to: std::net::SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, to) {
        tracing::debug!(%to, %error, "a DNS answer could not be sent");
    }
}

/// An error of a listening socket does not end the proxy, and must not make it spin.
async fn after_error(doing: &str, error: &io::Error) {
    tracing::warn!(%error, "DNS proxy: {doing}: {error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn streams(tasks: TaskGroup, pod: Arc<Pod>, listener: Arc<TcpListener>) {
    loop {
        let Ok(permit) = pod.streams.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let pod = pod.clone();
                tasks.spawn("stream", async move {
                    if let Err(error) = conversation(&pod, stream).await {
                        tracing::debug!(%error, "a DNS connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => after_error("accepting a connection", &error).await,
        }
    }
}

/// Questions of one connection, one after the other.
async fn conversation(pod: &Pod, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let read = async {
            let length = stream.read_u16().await?;
            let mut message = vec![0; usize::from(length)];
            stream.read_exact(&mut message).await?;
            io::Result::Ok(message)
        };
        let message = match tokio::time::timeout(STREAM_IDLE, read).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(message) => message?,
            Err(_) => return Ok(()),
        };
        let answer = match pod.decide(&message, Transport::Tcp) {
            Decision::Ignore => return Ok(()),
            Decision::Answer(answer) => answer,
            waits => {
                let permit = pod.forwarded.clone().acquire_owned().await.map_err(io::Error::other)?;
                match pod.settle(waits, &message, Transport::Tcp, permit).await {
                    Some(answer) => answer,
                    None => return Ok(()),
                }
            }
        };
        let answer = framed(&answer);
        let write = stream.write_all(&answer);
        tokio::time::timeout(STREAM_IDLE, write)
            .await
            .map_err(io::Error::other)??;
    }
}

/// What becomes of a message.
enum Decision {
    /// Nothing.
    Ignore,
    /// This is said.
    Answer(Vec<u8>),
    /// Others are asked.
    Forward(Labels),
    /// The pod that asks is not known yet.
    Unknown,
}

impl Pod {
    fn decide(&self, message: &[u8], transport: Transport) -> Decision {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(NotAQuery::Ignore) => return Decision::Ignore,
            Err(NotAQuery::Answer(id, code)) => return Decision::Answer(refuse_unread(id, code)),
        };
        let dns = &*self.dns;
        let tables = dns.tables.load();
        let Client {
            namespace,
            name,
            service_account,
        } = &self.client;
        // Which names a pod sees depends on where it is.
        let Some(client) = tables.local(namespace, name, service_account) else {
            return Decision::Unknown;
        };
        let labels = Labels::new(query.kind_name(), transport, Some(client));
        dns.metrics.asked(&labels);
        let found = match (query.family(), &query.name) {
            (Some(family), Some(name)) => answer(&tables, &dns.settings, client, name, family, rand::random()),
            _ => Answer::NotOurs,
        };
        match found {
            Answer::NotOurs => {
                log(&query, Some(client), "forwarded", 0);
                Decision::Forward(labels)
            }
            Answer::Ours(found) => {
                let result = if found.addresses.is_empty() {
                    "no records"
                } else {
                    "success"
                };
                log(&query, Some(client), result, found.addresses.len());
                let max = match transport {
                    Transport::Udp => query.udp_max(),
                    Transport::Tcp => usize::from(u16::MAX),
                };
                Decision::Answer(query.answer(&found, max))
            }
        }
    }

    /// Answers what could not be answered at once.
    async fn settle(
        &self,
        decision: Decision,
        message: &[u8],
        transport: Transport,
        permit: OwnedSemaphorePermit,
    ) -> Option<Vec<u8>> {
        let mut decision = decision;
        let begin = Instant::now();
        while matches!(decision, Decision::Unknown) && begin.elapsed() < KNOWN_WITHIN {
            tokio::time::sleep(KNOWN_INTERVAL).await;
            decision = self.decide(message, transport);
        }
        match decision {
            Decision::Ignore => None,
            Decision::Answer(answer) => Some(answer),
            Decision::Forward(labels) => Some(self.forward(message, transport, &labels, permit).await),
            Decision::Unknown => {
                let query = Query::parse(message).ok()?;
                self.dns.metrics.asked(&Labels::new(query.kind_name(), transport, None));
                log(&query, None, "unknown source", 0);
                Some(query.refuse(Code::ServFail))
            }
        }
    }

    async fn forward(
        &self,
        message: &[u8],
        transport: Transport,
        labels: &Labels,
        permit: OwnedSemaphorePermit,
    ) -> Vec<u8> {
        let Ok(query) = Query::parse(message) else {
            return Vec::new();
        };
        let begin = Instant::now();
        let servers = &self.dns.name_servers;
        let outcome = forward(&self.dns.sockets, &self.place, servers, transport, &query, message).await;
        drop(permit);
        self.dns.metrics.forwarded(labels, begin.elapsed(), outcome.is_ok());
        outcome.unwrap_or_else(|error| {
            tracing::debug!(target: "dns", name = query.name, %error, "forwarding failed");
            query.refuse(Code::ServFail)
        })
    }
}

fn log(query: &Query<'_>, client: Option<&Workload>, result: &str, endpoints: usize) {
    let workload = client.map_or("unknown", |client| &client.name);
    let namespace = client.map_or("unknown", |client| &client.namespace);
    let (kind, name) = (query.kind_name(), query.name.as_deref());
    tracing::debug!(
        target: "dns",
        { src.workload = workload, src.namespace = namespace, query = kind, domain = name, result, endpoints },
        "question"
    );
}

#[cfg(test)]
mod tests;
