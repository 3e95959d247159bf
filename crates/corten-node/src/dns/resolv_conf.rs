//! The node's name servers, from the text of a `resolv.conf`.

use std::net::{IpAddr, SocketAddr};

const PORT: u16 = 53;
/// As many as the C library takes.
const SERVERS_MAX: usize = 3;

/// The name servers that the text names, in its order. Lines that cannot be understood are passed over, as resolvers do.
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words
            .next()
            .filter(|word| *word == "nameserver")
            .and_then(|_| words.next())?;
        address.parse::<IpAddr>().ok()
    });
    addresses
        .take(SERVERS_MAX)
        .map(|address| SocketAddr::new(address, PORT))
        .collect()
}

/// The domains that the text has resolvers append to names: those of its last line that says any.
pub fn search(text: &str) -> Vec<String> {
    let mut domains = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next()?, "search" | "domain").then(|| {
            let words = words.map(|word| word.trim_end_matches('.').to_ascii_lowercase());
            words.filter(|word| !word.is_empty()).collect()
        })
    });
    domains.next_back().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{name_servers, search};

    #[test]
    fn the_last_search_list_counts() {
        let text = "domain x\nsearch Shop.svc.cluster.local. svc.cluster.local\nnameserver 10.0.0.10";
        assert_eq!(search(text), ["shop.svc.cluster.local", "svc.cluster.local"]);
        assert!(search("nameserver 10.0.0.10").is_empty());
    }

    #[test]
    fn only_name_servers_count() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.10 # the cluster's\nnameserver fd00::a\n\
                    nameserver\nnameserver x\n nameserver 10.0.0.11\nnameserver 10.0.0.12\noptions ndots:5";
        let servers: Vec<_> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.10:53", "[fd00::a]:53", "10.0.0.11:53"]);
    }
}
