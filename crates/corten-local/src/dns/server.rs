//! The server: datagrams and streams in, answers out.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use corten_apiserver::{Client, Status};
use corten_rt::{Drain, TaskGroup};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::reply::{Outcome, Transport, answer};
use super::{Upstream, Zone};
use crate::network::Network;
use crate::services::{Catalog, Follower};

/// The well-known port.
const PORT: u16 = 53;
/// Streams at once; more wait to be accepted.
const STREAMS_MAX: usize = 256;
/// Forwarded datagrams at once; more are answered "server failure".
const FORWARDS_MAX: usize = 256;
/// How long a stream may be idle.
const STREAM_IDLE_MAX: Duration = Duration::from_secs(10);

/// Why the server could not run.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The API refused the watches.
    #[error("cannot watch services: {0}")]
    Watch(#[from] Status),
    /// A socket failed.
    #[error("cannot serve DNS: {0}")]
    Socket(#[from] io::Error),
}

/// The server's sockets.
#[derive(Debug)]
pub struct Sockets {
    udp: Vec<std::net::UdpSocket>,
    tcp: Vec<std::net::TcpListener>,
}

impl Sockets {
    /// Opens them on the cluster's DNS addresses, in the runtime's namespace.
    pub fn bind(network: &Network) -> io::Result<Sockets> {
        let addresses: Vec<SocketAddr> = network
            .dns_addresses()
            .into_iter()
            .map(|ip| (ip, PORT).into())
            .collect();
        network.netns().run(|| Sockets::bind_to(&addresses))?
    }

    fn bind_to(addresses: &[SocketAddr]) -> io::Result<Sockets> {
        let named =
            |address: &SocketAddr, error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
        let udp = addresses
            .iter()
            .map(|a| std::net::UdpSocket::bind(a).map_err(|e| named(a, e)));
        let tcp = addresses
            .iter()
            .map(|a| std::net::TcpListener::bind(a).map_err(|e| named(a, e)));
        Ok(Sockets {
            udp: udp.collect::<io::Result<_>>()?,
            tcp: tcp.collect::<io::Result<_>>()?,
        })
    }
}

/// What all tasks of the server share.
struct Server {
    catalog: RwLock<Catalog>,
    zone: Zone,
    upstream: Upstream,
    turn: AtomicUsize,
    forwards: Semaphore,
    streams: Arc<Semaphore>,
    tasks: TaskGroup,
}

/// Serves the cluster's DNS until told to end, or until the API is gone.
///
/// `upstream` are UDP sockets connected to the host's resolvers, made in the host's namespace; without any, names outside of the
/// cluster are refused at once.
pub async fn run(
    client: Client,
    network: Arc<Network>,
    sockets: Sockets,
    upstream: Vec<std::net::UdpSocket>,
    mut drain: Drain,
) -> Result<(), DnsError> {
    let tasks = TaskGroup::new("dns");
    let server = Arc::new(Server {
        catalog: RwLock::new(well_known(&network)),
        zone: zone(&network),
        upstream: Upstream::new(upstream, &tasks)?,
        turn: AtomicUsize::new(0),
        forwards: Semaphore::new(FORWARDS_MAX),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        tasks: tasks.clone(),
    });
    // Nothing is answered before the first batch: "no such name" would be wrong, and remembered.
    let mut follower = Follower::new(&client).await?;
    if follower.batch(&server.catalog).await.is_none() {
        return Ok(());
    }
    for socket in sockets.udp {
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let server = Arc::clone(&server);
        tasks.spawn("dns udp", async move { server.datagrams(socket).await });
    }
    for listener in sockets.tcp {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let server = Arc::clone(&server);
        tasks.spawn("dns tcp", async move { server.accept(listener).await });
    }
    loop {
        let batch = tokio::select! {
            batch = follower.batch(&server.catalog) => batch,
            () = drain.wait() => None,
        };
        if batch.is_none() {
            tasks.shutdown(Duration::ZERO).await;
            return Ok(());
        }
    }
}

fn zone(network: &Network) -> Zone {
    let config = network.config();
    Zone {
        domain: "cluster.local".into(),
        ranges: vec![
            config.services_v4.into(),
            config.services_v6.into(),
            config.pods_v4.into(),
            config.pods_v6.into(),
        ],
    }
}

/// The services that every cluster has, until the API says what they are.
fn well_known(network: &Network) -> Catalog {
    let mut catalog = Catalog::default();
    let api = json!({
        "metadata": { "namespace": "default", "name": "kubernetes" },
        "spec": { "clusterIP": network.api_service_address(), "clusterIPs": [network.api_service_address()],
                  "ports": [{ "name": "https", "port": 443 }] },
    });
    let addresses = network.dns_addresses();
    let dns = json!({
        "metadata": { "namespace": "kube-system", "name": "kube-dns" },
        "spec": { "clusterIP": addresses.first(), "clusterIPs": addresses,
                  "ports": [{ "name": "dns", "port": PORT, "protocol": "UDP" }, { "name": "dns-tcp", "port": PORT }] },
    });
    catalog.set_service(&api, true);
    catalog.set_service(&dns, true);
    catalog
}

impl Server {
    fn outcome(&self, question: &[u8], transport: Transport) -> Outcome {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let catalog = self.catalog.read().expect("no panic while the catalog is locked");
        answer(&catalog, &self.zone, question, transport, turn)
    }

    async fn datagrams(self: &Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; 4096];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An earlier answer found nobody: the next question is somebody else's.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot receive DNS questions any more");
                    return;
                }
            };
            match self.outcome(&buffer[..length], Transport::Udp) {
                Outcome::Ignore => {}
                // An answer that cannot be sent is asked for again.
                Outcome::Reply(bytes) => drop(socket.send_to(&bytes, client).await),
                Outcome::Forward(forward) if self.upstream.is_empty() => {
                    socket.send_to(&forward.refused(), client).await.ok();
                }
                Outcome::Forward(forward) => {
                    let (server, socket) = (Arc::clone(self), Arc::clone(&socket));
                    self.tasks.spawn("dns forward", async move {
                        let answered = match server.forwards.try_acquire() {
                            Ok(_permit) => server.upstream.ask(&forward.question).await,
                            Err(_) => None,
                        };
                        socket.send_to(&forward.finish(answered.as_deref()), client).await.ok();
                    });
                }
            }
        }
    }

    async fn accept(self: &Arc<Self>, listener: TcpListener) {
        loop {
            let Ok(permit) = Arc::clone(&self.streams).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = Arc::clone(self);
                    self.tasks.spawn("dns stream", async move {
                        // A client that goes away in the middle is no news.
                        server.stream(stream).await.ok();
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a DNS connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn stream(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let read = async {
                let length = stream.read_u16().await?;
                let mut question = vec![0; usize::from(length)];
                stream.read_exact(&mut question).await?;
                io::Result::Ok(question)
            };
            let question = tokio::time::timeout(STREAM_IDLE_MAX, read).await??;
            let reply = match self.outcome(&question, Transport::Tcp) {
                Outcome::Ignore => return Ok(()),
                Outcome::Reply(bytes) => bytes,
                Outcome::Forward(forward) if self.upstream.is_empty() => forward.refused(),
                Outcome::Forward(forward) => {
                    let answered = self.upstream.ask(&forward.question).await;
                    forward.finish(answered.as_deref())
                }
            };
            let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
            let framed = [&length.to_be_bytes()[..], &reply].concat();
            tokio::time::timeout(STREAM_IDLE_MAX, stream.write_all(&framed)).await??;
        }
    }
}
