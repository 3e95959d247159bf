//! Names of workloads without addresses, resolved for connections that lead to them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_rt::{Drain, TaskGroup};
use corten_traffic::Name;
use rand::seq::IndexedRandom;
use tokio::sync::{Mutex, mpsc};

use crate::shard::Resolve;

/// How many names are remembered.
const KNOWN_MAX: usize = 4096;
/// For how long: the system's resolver does not tell.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

type Known = HashMap<Name, (Instant, Vec<IpAddr>)>;

/// Answers questions of the shards until told to stop.
pub async fn run(mut questions: mpsc::Receiver<Resolve>, tasks: TaskGroup, mut drain: Drain) {
    let known = Arc::new(Mutex::new(Known::new()));
    loop {
        let question = tokio::select! {
            () = drain.wait() => return,
            question = questions.recv() => question,
        };
        let Some(question) = question else { return };
        let known = known.clone();
        tasks.spawn("resolve", async move {
            let address = resolve(&known, &question.hostname, question.prefer_ipv6).await;
            question.answer(address);
        });
    }
}

async fn resolve(known: &Mutex<Known>, hostname: &Name, prefer_ipv6: bool) -> Result<IpAddr, String> {
    let fresh = known
        .lock()
        .await
        .get(hostname)
        .filter(|(since, _)| since.elapsed() < KNOWN_FOR)
        .map(|(_, addresses)| addresses.clone());
    let addresses = match fresh {
        Some(addresses) => addresses,
        None => {
            let name: &str = hostname;
            let lookup = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((name, 0)));
            let found = lookup
                .await
                .map_err(|_| format!("{hostname} was not resolved in time"))?;
            let found = found.map_err(|error| format!("{hostname} cannot be resolved: {error}"))?;
            let addresses: Vec<IpAddr> = found.map(|address: SocketAddr| address.ip().to_canonical()).collect();
            let mut known = known.lock().await;
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(hostname.clone(), (Instant::now(), addresses.clone()));
            addresses
        }
    };
    choose(&addresses, prefer_ipv6).ok_or_else(|| format!("{hostname} has no address"))
}

/// One of the better family, if there is any.
fn choose(addresses: &[IpAddr], prefer_ipv6: bool) -> Option<IpAddr> {
    let better: Vec<IpAddr> = addresses
        .iter()
        .copied()
        .filter(|address| address.is_ipv6() == prefer_ipv6)
        .collect();
    let from = if better.is_empty() { addresses } else { &better };
    from.choose(&mut rand::rng()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_family_is_chosen_where_there_is_one() {
        let (four, six): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        assert_eq!(choose(&[four, six], true), Some(six));
        assert_eq!(choose(&[four, six], false), Some(four));
        assert_eq!(choose(&[four], true), Some(four));
        assert_eq!(choose(&[], true), None);
    }
}
