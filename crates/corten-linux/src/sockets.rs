//! What sockets of a proxy need from the kernel beyond the ordinary: marks, foreign source addresses, a say in who of several listeners accepts.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Marks every packet the socket sends, so that rules of the firewall and of routing know them. Needs `CAP_NET_ADMIN`.
pub fn set_mark(socket: impl AsFd, mark: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_MARK, &mark)
}

/// Gives every packet the socket sends a priority, 0 to 6: for those no power is needed.
pub fn set_priority(socket: impl AsFd, priority: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_PRIORITY, &priority)
}

/// Lets an IPv4 socket (or one that also takes IPv4) be bound to addresses that are not this host's. Needs `CAP_NET_ADMIN`.
pub fn set_transparent_v4(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_TRANSPARENT, &1_i32)
}

/// The same for an IPv6 socket.
pub fn set_transparent_v6(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, &1_i32)
}

/// Chooses the source port only when connecting, so that one address can hold as many connections as there are destinations.
pub fn set_late_source_port(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1_i32)
}

/// Gives all new connections of a group of listeners (`SO_REUSEPORT`) to the one with this place in the group, counted in the order they began to
/// listen. While there is none with that place, the kernel spreads connections as if this had not been asked.
///
/// A process that is about to end asks its listeners' groups for the place of its successor: what arrives from then on is the successor's, and what
/// has been queued here before can be accepted to the last.
pub fn prefer_listener(socket: impl AsFd, place: u32) -> io::Result<()> {
    // One instruction of classic BPF: return this constant.
    let mut program = [libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: place,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

fn set<T>(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes of the value (and, for a filter, the instructions it points at, which outlive the call) and writes nothing.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            length,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

    use super::*;

    fn listener(port: u16) -> TcpListener {
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        sockopt::set_socket_reuseport(&socket, true).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
        rustix::net::listen(&socket, 128).unwrap();
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true).unwrap();
        listener
    }

    #[test]
    fn connections_go_to_the_preferred_listener_and_queued_ones_are_not_lost() {
        let old = listener(0);
        let address = old.local_addr().unwrap();
        let queued = TcpStream::connect(address).unwrap();
        let new = listener(address.port());
        prefer_listener(&old, 1).unwrap();
        let clients: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        let accepted = |listener: &TcpListener| std::iter::from_fn(|| listener.accept().ok()).count();
        assert_eq!((accepted(&old), accepted(&new)), (1, 20));
        // With the old one gone there is no second place: the group works by itself again.
        drop(old);
        let last = TcpStream::connect(address).unwrap();
        assert_eq!(accepted(&new), 1);
        for mut client in clients.into_iter().chain([queued, last]) {
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            // Accepted and closed in an orderly way, not reset.
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn a_mark_needs_a_power_and_is_refused_without_a_panic() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        match set_mark(&socket, 1337) {
            Ok(()) => set_transparent_v4(&socket).unwrap(),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
