//! Connections of a pod that go through the proxy, told by the proxy's ports in the namespace's socket tables.

use std::io;

use crate::constants::{INBOUND_PORT, OUTBOUND_PORT, TUNNEL_PORT};

/// How many there are in the calling thread's namespace.
pub(crate) fn proxied_connections() -> io::Result<usize> {
    let v4 = std::fs::read_to_string("/proc/thread-self/net/tcp")?;
    // Absent where the kernel has no IPv6.
    let v6 = std::fs::read_to_string("/proc/thread-self/net/tcp6").unwrap_or_default();
    Ok(count(&v4) + count(&v6))
}

/// States (as `/proc/net/tcp` numbers them) of sockets that carry nothing any more: waiting out the end, closed, listening.
const IDLE: [&str; 3] = ["06", "07", "0A"];

fn count(table: &str) -> usize {
    let proxied = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        let (Some(local), Some(_), Some(state)) = (words.next(), words.next(), words.next()) else {
            return false;
        };
        let port = local
            .rsplit(':')
            .next()
            .and_then(|hex| u16::from_str_radix(hex, 16).ok());
        let ours = port.is_some_and(|port| [OUTBOUND_PORT, INBOUND_PORT, TUNNEL_PORT].contains(&port));
        ours && !IDLE.contains(&state)
    };
    table.lines().skip(1).filter(proxied).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proxys_side_of_a_running_connection_counts() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:3A99 0200F40A:A5C8 01 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0200F40A:A5C8 0300F40A:1F90 01 00000000:00000000 00:00000000 00000000     0        0 3
   3: 0200F40A:3AA0 0300F40A:9999 08 00000000:00000000 00:00000000 00000000     0        0 4
   4: 0200F40A:3A9E 0300F40A:9999 06 00000000:00000000 00:00000000 00000000     0        0 0
   5: garbage
";
        assert_eq!(count(table), 2);
        assert_eq!(count(""), 0);
    }
}
