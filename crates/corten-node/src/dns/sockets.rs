//! Sockets in pods' namespaces for DNS: the listeners of a pod, and one socket for each question that is passed on.
//!
//! A thread of its own makes them, since only a thread that enters a namespace can, and the control runtime's must not.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use corten_linux::{NetNs, sockets};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;

/// Sockets asked for and not made yet; whoever asks beyond that is refused.
const QUEUE_MAX: usize = 256;
const BACKLOG: i32 = 64;

/// A network namespace and the number by which it is known.
#[derive(Clone, Debug)]
pub(super) struct Place {
    namespace: Arc<NetNs>,
    inode: u64,
}

impl Place {
    /// Of an open namespace.
    pub(super) fn new(namespace: Arc<NetNs>) -> io::Result<Place> {
        let inode = namespace.inode()?;
        Ok(Place { namespace, inode })
    }
}

/// The listeners of one pod.
#[derive(Debug)]
pub struct Listeners {
    pub(super) place: Place,
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<TcpListener>,
}

/// The thread that makes sockets. It ends when this value and all its copies are gone.
#[derive(Clone, Debug)]
pub struct SocketThread {
    orders: SyncSender<Order>,
}

struct Order {
    place: Place,
    what: What,
    reply: oneshot::Sender<io::Result<Vec<OwnedFd>>>,
}

#[derive(Clone, Copy)]
enum What {
    /// Datagram and stream listeners on a port of the loopback addresses: as many pairs as there are families.
    Listeners { port: u16, reuse: bool, ipv6: bool },
    /// A datagram socket that talks to this server only.
    Udp(SocketAddr),
    /// A connection to this server, under way.
    Tcp(SocketAddr),
}

impl SocketThread {
    /// Starts it. All sockets get the mark, by which the pod's rules know that they are not the application's.
    pub fn start(mark: Option<u32>) -> io::Result<SocketThread> {
        let (orders, received) = sync_channel(QUEUE_MAX);
        std::thread::Builder::new()
            .name("dns-sockets".into())
            .stack_size(128 * 1024)
            .spawn(move || work(&received, mark))?;
        Ok(SocketThread { orders })
    }

    /// The listeners of a pod: 127.0.0.1, and ::1 if the pod has it. With `reuse`, another process may listen at the same time.
    pub async fn listen(&self, namespace: Arc<NetNs>, port: u16, reuse: bool, ipv6: bool) -> io::Result<Listeners> {
        let place = Place::new(namespace)?;
        let made = self.order(&place, What::Listeners { port, reuse, ipv6 }).await?;
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for (at, socket) in made.into_iter().enumerate() {
            if at % 2 == 0 {
                udp.push(UdpSocket::from_std(socket.into())?);
            } else {
                tcp.push(TcpListener::from_std(socket.into())?);
            }
        }
        Ok(Listeners { place, udp, tcp })
    }

    pub(super) async fn udp(&self, place: &Place, server: SocketAddr) -> io::Result<UdpSocket> {
        let made = self.order(place, What::Udp(server)).await?;
        UdpSocket::from_std(only(made)?.into())
    }

    pub(super) async fn tcp(&self, place: &Place, server: SocketAddr) -> io::Result<TcpStream> {
        let made = self.order(place, What::Tcp(server)).await?;
        let stream = TcpStream::from_std(only(made)?.into())?;
        stream.writable().await?;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    async fn order(&self, place: &Place, what: What) -> io::Result<Vec<OwnedFd>> {
        let (reply, made) = oneshot::channel();
        let place = place.clone();
        let sent = self.orders.try_send(Order { place, what, reply });
        sent.map_err(|error| match error {
            TrySendError::Full(_) => io::Error::new(io::ErrorKind::WouldBlock, "too many sockets asked for at once"),
            TrySendError::Disconnected(_) => io::Error::other("the thread that makes sockets has ended"),
        })?;
        made.await
            .map_err(|_| io::Error::other("the thread that makes sockets has ended"))?
    }
}

fn only(made: Vec<OwnedFd>) -> io::Result<OwnedFd> {
    made.into_iter()
        .next()
        .ok_or_else(|| io::Error::other("no socket was made"))
}

fn work(orders: &Receiver<Order>, mark: Option<u32>) {
    let mut inside = None;
    while let Ok(Order { place, what, reply }) = orders.recv() {
        let made = enter(&place, &mut inside).and_then(|()| make(what, mark));
        // Whoever asked may have gone.
        let _ = reply.send(made);
    }
}

/// Questions in a row mostly come from the same pod, and the thread stays where it was last.
fn enter(place: &Place, inside: &mut Option<u64>) -> io::Result<()> {
    if *inside != Some(place.inode) {
        *inside = None;
        place.namespace.enter()?;
        *inside = Some(place.inode);
    }
    Ok(())
}

fn make(what: What, mark: Option<u32>) -> io::Result<Vec<OwnedFd>> {
    match what {
        What::Listeners { port, reuse, ipv6 } => {
            let mut made = listeners(IpAddr::V4(Ipv4Addr::LOCALHOST), port, reuse, mark)?;
            if ipv6 {
                match listeners(IpAddr::V6(Ipv6Addr::LOCALHOST), port, reuse, mark) {
                    Ok(more) => made.extend(more),
                    // The pod has no IPv6, or not on its loopback interface.
                    Err(error) => tracing::debug!(%error, "no DNS listener on ::1"),
                }
            }
            Ok(made)
        }
        What::Udp(server) => {
            let socket = open(server.ip(), SocketType::DGRAM, mark)?;
            rustix::net::connect(&socket, &server)?;
            Ok(vec![socket])
        }
        What::Tcp(server) => {
            let socket = open(server.ip(), SocketType::STREAM, mark)?;
            match rustix::net::connect(&socket, &server) {
                Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(vec![socket]),
                Err(error) => Err(error.into()),
            }
        }
    }
}

fn listeners(address: IpAddr, port: u16, reuse: bool, mark: Option<u32>) -> io::Result<Vec<OwnedFd>> {
    let mut port = port;
    let mut made = Vec::with_capacity(2);
    for kind in [SocketType::DGRAM, SocketType::STREAM] {
        let socket = open(address, kind, mark)?;
        if kind == SocketType::STREAM {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        if reuse {
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
        if kind == SocketType::STREAM {
            rustix::net::listen(&socket, BACKLOG)?;
        } else if let Ok(bound) = SocketAddr::try_from(rustix::net::getsockname(&socket)?) {
            // With port 0, which tests use, both get the same.
            port = bound.port();
        }
        made.push(socket);
    }
    Ok(made)
}

fn open(address: IpAddr, kind: SocketType, mark: Option<u32>) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if let Some(mark) = mark {
        sockets::set_mark(&socket, mark)?;
    }
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}
