//! Sockets inside pods' network namespaces: made by a thread that enters the namespace, used from anywhere.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use corten_linux::{NetNs, sockets};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::source_port::SourcePorts;
use crate::config::{Connections, OriginalSource};

/// Connections that may wait to be accepted. Large, because an accept queue that is full drops calls; the kernel bounds it by `somaxconn`.
const BACKLOG: i32 = 4096;

/// A pod's network namespace.
#[derive(Clone, Debug)]
pub struct PodNamespace {
    namespace: Arc<NetNs>,
    inode: u64,
}

impl PodNamespace {
    /// From an open file of it.
    pub fn new(namespace: NetNs) -> io::Result<PodNamespace> {
        let inode = namespace.inode()?;
        Ok(PodNamespace {
            namespace: Arc::new(namespace),
            inode,
        })
    }
}

/// Makes sockets; belongs to one thread, which it moves between namespaces.
///
/// The thread stays where it was last: most sockets in a row are for the same pod, and each move costs as much as the socket itself.
pub(crate) struct SocketMaker {
    inside: Option<u64>,
    mark: Option<u32>,
    source_ports: SourcePorts,
}

/// How many source ports are tried before the kernel is left to find one.
const SOURCE_PORTS_TRIED: usize = 4;

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listen {
    pub(crate) port: u16,
    pub(crate) transparent: OriginalSource,
    pub(crate) reuse: bool,
    pub(crate) ipv6: bool,
}

/// A connection under way, and whether the source address asked for could be taken.
pub(crate) struct Dialled {
    pub(crate) socket: OwnedFd,
    pub(crate) connected: bool,
}

impl SocketMaker {
    pub(crate) fn new(mark: Option<u32>) -> SocketMaker {
        SocketMaker {
            inside: None,
            mark,
            source_ports: SourcePorts::new(),
        }
    }

    fn socket(&mut self, pod: &PodNamespace, family: AddressFamily) -> io::Result<OwnedFd> {
        if self.inside != Some(pod.inode) {
            self.inside = None;
            pod.namespace.enter()?;
            self.inside = Some(pod.inode);
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        if let Some(mark) = self.mark {
            sockets::set_mark(&socket, mark)?;
        }
        Ok(socket)
    }

    /// Listens on a port of all addresses of a pod. Says whether foreign source addresses can be used there.
    pub(crate) fn listen(
        &mut self,
        pod: &PodNamespace,
        how: Listen,
        connections: &Connections,
    ) -> io::Result<(OwnedFd, bool)> {
        let six = how.ipv6.then(|| self.socket(pod, AddressFamily::INET6).ok()).flatten();
        let (socket, address) = match six {
            Some(socket) => {
                sockopt::set_ipv6_v6only(&socket, false)?;
                (socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
            }
            None => (
                self.socket(pod, AddressFamily::INET)?,
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ),
        };
        let transparent = match how.transparent {
            OriginalSource::Off => false,
            OriginalSource::BestEffort => set_transparent(&socket, address).is_ok(),
            OriginalSource::Required => set_transparent(&socket, address).map(|()| true)?,
        };
        // What is accepted inherits them.
        prepare(&socket, connections)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if how.reuse {
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        rustix::net::bind(&socket, &SocketAddr::new(address, how.port))?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok((socket, transparent))
    }

    /// Begins a connection out of a pod, with a foreign source address if one is given and the kernel allows it.
    pub(crate) fn dial(
        &mut self,
        pod: &PodNamespace,
        to: SocketAddr,
        source: Option<IpAddr>,
        how: &Connections,
    ) -> io::Result<Dialled> {
        let Some(source) = source.filter(|source| source.is_ipv4() == to.is_ipv4()) else {
            return connect(self.ready(pod, to, how)?, to);
        };
        for _ in 0..SOURCE_PORTS_TRIED {
            let socket = self.ready(pod, to, how)?;
            let port = self.source_ports.pick();
            match take_source(&socket, SocketAddr::new(source, port)) {
                Ok(()) => {}
                Err(error) if is_port_taken(&error) => continue,
                Err(error) => {
                    tracing::debug!(%source, %to, %error, "the application will not see the client's address");
                    return connect(socket, to);
                }
            }
            match connect(socket, to) {
                Err(error) if is_port_taken(&error) => {}
                outcome => return outcome,
            }
        }
        let socket = self.ready(pod, to, how)?;
        take_source(&socket, SocketAddr::new(source, 0))?;
        connect(socket, to)
    }

    /// A socket in the pod that can connect to that address.
    fn ready(&mut self, pod: &PodNamespace, to: SocketAddr, how: &Connections) -> io::Result<OwnedFd> {
        let family = match to {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = self.socket(pod, family)?;
        prepare(&socket, how)?;
        Ok(socket)
    }
}

fn set_transparent(socket: impl AsFd, address: IpAddr) -> io::Result<()> {
    if address.is_ipv6() {
        sockets::set_transparent_v6(&socket)?;
    }
    // A socket for both families needs both: which one counts depends on the family of each connection.
    sockets::set_transparent_v4(&socket)
}

/// Begins a connection.
fn connect(socket: OwnedFd, to: SocketAddr) -> io::Result<Dialled> {
    let connected = match rustix::net::connect(&socket, &to) {
        Ok(()) => true,
        Err(Errno::INPROGRESS) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(Dialled { socket, connected })
}

/// Whether this address and port, or this pair of addresses and ports, is in use.
fn is_port_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

/// Gives a socket a foreign source address. Without a port the kernel picks one when the socket connects.
fn take_source(socket: impl AsFd, source: SocketAddr) -> io::Result<()> {
    match source {
        SocketAddr::V4(_) => sockets::set_transparent_v4(&socket)?,
        SocketAddr::V6(_) => sockets::set_transparent_v6(&socket)?,
    }
    if source.port() == 0 {
        sockets::set_late_source_port(&socket)?;
    } else {
        // Shares the port with connections to other applications.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &source)?;
    Ok(())
}

/// What every connection has. Set on listeners, it is inherited by what they accept.
fn prepare(socket: impl AsFd, how: &Connections) -> io::Result<()> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    // One that the kernel does not have, or does not let us have, is passed over.
    if let Some(name) = &how.congestion_control
        && let Err(error) = sockopt::set_tcp_congestion(&socket, name)
    {
        tracing::debug!(name, %error, "congestion control not set");
    }
    if let Some(keepalive) = how.keepalive {
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, keepalive.time)?;
        sockopt::set_tcp_keepintvl(&socket, keepalive.interval)?;
        sockopt::set_tcp_keepcnt(&socket, keepalive.retries)?;
        if how.user_timeout {
            let total = keepalive.time + keepalive.interval * keepalive.retries;
            let milliseconds = u32::try_from(total.as_millis()).unwrap_or(u32::MAX);
            sockopt::set_tcp_user_timeout(&socket, milliseconds)?;
        }
    }
    Ok(())
}

/// Reads what is there. As a call for sockets, because one for any file costs a little more, twice for each request.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()))
        .map(|(received, _)| received)
}

/// Writes what it takes.
pub(crate) fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| match parts {
        [one] => rustix::net::send(socket, one, SendFlags::NOSIGNAL),
        many => rustix::io::writev(socket, many),
    })
}

/// Accepts one connection, if there is one.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    match rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok((socket, Some(peer))) => {
            let peer = SocketAddr::try_from(peer).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            Ok(Some((socket, canonical(peer))))
        }
        Ok((_, None)) | Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Where the caller of a redirected connection wanted to go.
pub(crate) fn original_destination(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    if let Ok(address) = sockopt::ip_original_dst(socket) {
        return Ok(SocketAddr::V4(address));
    }
    if let Ok(address) = sockopt::ipv6_original_dst(socket) {
        return Ok(canonical(SocketAddr::V6(address)));
    }
    local_address(socket)
}

/// The address a connection arrived at.
pub(crate) fn local_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address = rustix::net::getsockname(socket)?;
    let address = SocketAddr::try_from(address).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(canonical(address))
}

/// How a connection under way ended, once it has become writable or closed.
pub(crate) fn connect_outcome(socket: BorrowedFd<'_>) -> io::Result<()> {
    sockopt::socket_error(socket)?.map_err(io::Error::from)
}

/// IPv4 addresses that came through an IPv6 socket are written as IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The next close will be a reset: what the peer learns when a connection did not end well.
pub(crate) fn close_with_reset(socket: BorrowedFd<'_>) {
    // Where it fails the connection is closed in the ordinary way.
    let _ = sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
}
