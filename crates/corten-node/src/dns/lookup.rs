//! Addresses of names that connections of the mesh go to: workloads that are known by a host name only.
//!
//! Asks the node's own name servers, from the node's own namespace, and keeps answers as long as they say.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use corten_traffic::dns::Family;
use corten_traffic::dns::message::{Query, addresses, question};
use tokio::net::UdpSocket;

/// Names kept; when there are more, those that have expired go, and if none has, all.
const NAMES_MAX: usize = 4096;
/// Names without an address are asked for again after this.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// Answers are kept at least and at most so long, whatever they say.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(300);
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// It is none.
    #[error("'{0}' is not a host name")]
    Name(String),
    /// There is nobody to ask.
    #[error("there is no name server: the node's resolv.conf names none")]
    NoServer,
    /// Nobody answered.
    #[error("looking up '{name}' at {server}: {error}")]
    Failed {
        /// The name.
        name: String,
        /// Who was asked last.
        server: SocketAddr,
        /// How it failed.
        error: io::Error,
    },
    /// There is no such name, or it has no address.
    #[error("'{0}' has no address")]
    NoAddress(String),
}

/// Looks names up and remembers.
#[derive(Debug)]
pub struct Lookup {
    servers: Vec<SocketAddr>,
    known: Mutex<HashMap<(String, bool), Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    addresses: Vec<IpAddr>,
    until: Instant,
}

impl Lookup {
    /// Asks these servers, in this order.
    pub fn new(servers: Vec<SocketAddr>) -> Lookup {
        Lookup {
            servers,
            known: Mutex::default(),
        }
    }

    /// An address of a name, by chance one of several; of the preferred family if there is one.
    pub async fn resolve(&self, name: &str, prefer_ipv6: bool) -> Result<IpAddr, LookupError> {
        if let Ok(address) = name.parse() {
            return Ok(address);
        }
        for ipv6 in [prefer_ipv6, !prefer_ipv6] {
            let found = self.family(name, ipv6).await?;
            if !found.is_empty() {
                return Ok(found[rand::random_range(0..found.len())]);
            }
        }
        Err(LookupError::NoAddress(name.to_owned()))
    }

    async fn family(&self, name: &str, ipv6: bool) -> Result<Vec<IpAddr>, LookupError> {
        let key = (name.to_ascii_lowercase(), ipv6);
        let now = Instant::now();
        if let Some(known) = self.lock().get(&key).filter(|known| known.until > now) {
            return Ok(known.addresses.clone());
        }
        let (found, ttl) = self.ask(name, if ipv6 { Family::V6 } else { Family::V4 }).await?;
        let ttl = match found.is_empty() {
            true => NEGATIVE_TTL,
            false => Duration::from_secs(ttl.into()).clamp(TTL_MIN, TTL_MAX),
        };
        let mut known = self.lock();
        if known.len() >= NAMES_MAX {
            known.retain(|_, known| known.until > now);
            if known.len() >= NAMES_MAX {
                known.clear();
            }
        }
        known.insert(
            key,
            Known {
                addresses: found.clone(),
                until: now + ttl,
            },
        );
        Ok(found)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, bool), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, name: &str, family: Family) -> Result<(Vec<IpAddr>, u32), LookupError> {
        let not_a_name = || LookupError::Name(name.to_owned());
        let message = question(rand::random(), name, family).ok_or_else(not_a_name)?;
        let query = Query::parse(&message).map_err(|_| not_a_name())?;
        let mut last = LookupError::NoServer;
        for server in &self.servers {
            let outcome = tokio::time::timeout(SERVER_TIMEOUT, exchange(*server, &query, &message)).await;
            let error = match outcome {
                Ok(Ok(answer)) => match addresses(&answer) {
                    Some(found) => return Ok(found),
                    None => io::Error::new(io::ErrorKind::InvalidData, "it refuses to answer"),
                },
                Ok(Err(error)) => error,
                Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no answer in two seconds"),
            };
            last = LookupError::Failed {
                name: name.to_owned(),
                server: *server,
                error,
            };
        }
        Err(last)
    }
}

async fn exchange(server: SocketAddr, query: &Query<'_>, message: &[u8]) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut answer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut answer).await?;
        if query.is_answered_by(&answer[..length]) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use corten_rt::TaskGroup;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_kept_and_the_other_family_will_do() {
        let tasks = TaskGroup::new("test");
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = server.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tasks.spawn("server", async move {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = server.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let query = Query::parse(&buffer[..length]).unwrap();
                let mut answer = buffer[..length].to_vec();
                answer[2] |= 0x80;
                if query.family() == Some(Family::V4) && query.name.as_deref() == Some("db.example.com") {
                    answer[7] = 1;
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 9]);
                }
                server.send_to(&answer, from).await.unwrap();
            }
        });
        let lookup = Lookup::new(vec![address]);
        let expected: IpAddr = "192.0.2.9".parse().unwrap();
        assert_eq!(lookup.resolve("db.example.com", true).await.unwrap(), expected);
        assert_eq!(lookup.resolve("DB.example.com", false).await.unwrap(), expected);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let error = lookup.resolve("none.example.com", false).await.unwrap_err();
        assert_eq!(error.to_string(), "'none.example.com' has no address");
        assert_eq!(
            lookup.resolve("fd00::1", false).await.unwrap(),
            "fd00::1".parse::<IpAddr>().unwrap()
        );
        let error = lookup.resolve("a..b", false).await.unwrap_err();
        assert_eq!(error.to_string(), "'a..b' is not a host name");
        let error = Lookup::new(Vec::new()).resolve("a", false).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no name server: the node's resolv.conf names none"
        );
    }
}
