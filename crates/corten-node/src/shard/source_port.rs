//! Source ports for connections that carry a client's address.
//!
//! Such a connection has the client's address but a port that the proxy picks, while the client may hold connections of its own to the
//! same application: those from before the pod was enrolled, and those that arrive without a tunnel. If both had the same port, the
//! application's kernel would take the one for the other and the client's connection would stall. The kernel cannot prevent it, since
//! it sees the client's ports only from the other side. So the proxy picks from below the range that clients pick from
//! (`net.ipv4.ip_local_port_range`, from 32768 unless changed; dynamic ports begin at 49152 by RFC 6335 §6).

use std::hash::{BuildHasher, RandomState};

/// The lowest port that is picked: those below it are for privileged programs.
const FIRST: u16 = 1024;
/// One above the highest: where clients' own begin.
const END: u16 = 32768;
/// Left out: the proxy's own listeners and those of its neighbours, on which a bind would fail.
const PROXY: std::ops::Range<u16> = 15000..15100;

/// Picks ports in turn, so that a port rests as long as possible before it is used again. Starts anywhere: threads and proxies that
/// share a pod seldom meet, and where they do the kernel says that the port is taken.
#[derive(Debug)]
pub(crate) struct SourcePorts {
    next: u16,
}

impl SourcePorts {
    pub(crate) fn new() -> SourcePorts {
        let random = RandomState::new().hash_one(()) % u64::from(END - FIRST);
        SourcePorts::starting_at(FIRST + u16::try_from(random).unwrap_or(0))
    }

    fn starting_at(next: u16) -> SourcePorts {
        SourcePorts { next }
    }

    pub(crate) fn pick(&mut self) -> u16 {
        if PROXY.contains(&self.next) {
            self.next = PROXY.end;
        }
        let port = self.next;
        self.next = if port + 1 < END { port + 1 } else { FIRST };
        port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_below_the_clients_comes_once_a_round() {
        let mut ports = SourcePorts::new();
        let round = usize::from(END - FIRST) - PROXY.len();
        let mut seen: Vec<u16> = (0..round).map(|_| ports.pick()).collect();
        seen.sort_unstable();
        let wanted: Vec<u16> = (FIRST..END).filter(|port| !PROXY.contains(port)).collect();
        assert_eq!(seen, wanted);
    }

    #[test]
    fn after_the_last_comes_the_first() {
        let mut ports = SourcePorts::starting_at(END - 1);
        assert_eq!((ports.pick(), ports.pick()), (END - 1, FIRST));
        let mut ports = SourcePorts::starting_at(PROXY.start - 1);
        assert_eq!((ports.pick(), ports.pick()), (PROXY.start - 1, PROXY.end));
    }
}
