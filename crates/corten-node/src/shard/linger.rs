//! The last words of tunnels: a socket that is closed while bytes of the peer are on their way answers them with a reset, and a reset takes
//! back what the peer has not read yet, its answers' ends and the goodbye among them. So a tunnel's socket is closed in one direction first,
//! and lets the peer speak for a moment.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the peer may speak on. A peer of ours ends its side as soon as it has read the goodbye.
const MOMENT: Duration = Duration::from_secs(1);
/// Sockets that are waited for; beyond, as in a flood, they are closed at once.
const SOCKETS_MAX: usize = 256;
/// What is read of one of them before it is closed.
const READS_MAX: usize = 64;

/// Sockets that wait for the other side's end.
#[derive(Debug, Default)]
pub(super) struct Lingering(Vec<(OwnedFd, Instant)>);

impl Lingering {
    /// Ends our side of a connection; the rest follows.
    pub(super) fn close(&mut self, socket: OwnedFd, now: Instant) {
        // A connection that is gone already has nobody to wait for.
        if self.0.len() < SOCKETS_MAX
            && rustix::net::shutdown(&socket, rustix::net::Shutdown::Write).is_ok()
            && !has_ended(&socket)
        {
            self.0.push((socket, now + MOMENT));
        }
    }

    /// Closes those that the peer has ended, or that had their moment.
    pub(super) fn look(&mut self, now: Instant) {
        self.0.retain(|(socket, until)| !has_ended(socket) && now < *until);
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads away what came. Whether that was all there will ever be.
fn has_ended(socket: &OwnedFd) -> bool {
    let mut away = [0; 16 << 10];
    for _ in 0..READS_MAX {
        match rustix::io::read(socket.as_fd(), &mut away) {
            Ok(0) => return true,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return error != rustix::io::Errno::AGAIN,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    fn pair() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket.into(), peer)
    }

    #[test]
    fn last_words_are_read_though_the_peer_still_speaks() {
        let (socket, mut peer) = pair();
        rustix::io::write(&socket, b"goodbye").unwrap();
        peer.write_all(b"something that nobody reads").unwrap();
        let (mut lingering, now) = (Lingering::default(), Instant::now());
        lingering.close(socket, now);
        peer.write_all(b"and more").unwrap();
        lingering.look(now);
        assert!(!lingering.is_empty());
        let mut said = String::new();
        peer.read_to_string(&mut said).unwrap();
        assert_eq!(said, "goodbye");
        peer.shutdown(Shutdown::Both).unwrap();
        lingering.look(now);
        assert!(lingering.is_empty());
    }

    #[test]
    fn nobody_is_waited_for_longer_than_a_moment() {
        let (socket, peer) = pair();
        let (mut lingering, now) = (Lingering::default(), Instant::now());
        lingering.close(socket, now);
        lingering.look(now);
        assert!(!lingering.is_empty());
        lingering.look(now + MOMENT);
        assert!(lingering.is_empty());
        drop(peer);
    }
}
