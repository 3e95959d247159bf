//! Passes a question on, as it came, and brings the answer back, as it came.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use corten_traffic::dns::message::Query;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::metrics::Transport;
use super::sockets::{Place, SocketThread};

/// How long a server may take before the next one is asked. Clients wait five seconds as a rule.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// No server gave an answer; the last one's error.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    #[error("there is no name server: the node's resolv.conf names none")]
    NoServer,
    #[error("name server {server}: {error}")]
    Failed { server: SocketAddr, error: io::Error },
}

/// Asks the servers, one after the other, from inside a pod.
pub(super) async fn forward(
    sockets: &SocketThread,
    place: &Place,
    servers: &[SocketAddr],
    transport: Transport,
    query: &Query<'_>,
    message: &[u8],
) -> Result<Vec<u8>, ForwardError> {
    let mut last = ForwardError::NoServer;
    for server in servers {
        let exchange = async {
            match transport {
                Transport::Udp => udp(sockets, place, *server, query, message).await,
                Transport::Tcp => tcp(sockets, place, *server, query, message).await,
            }
        };
        let outcome = tokio::time::timeout(SERVER_TIMEOUT, exchange).await;
        let error = match outcome {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no answer in two seconds"),
        };
        last = ForwardError::Failed { server: *server, error };
    }
    Err(last)
}

/// Each question has a socket, and with it a source port, of its own: who would forge an answer must guess both port and id.
async fn udp(
    sockets: &SocketThread,
    place: &Place,
    server: SocketAddr,
    query: &Query<'_>,
    message: &[u8],
) -> io::Result<Vec<u8>> {
    let socket = sockets.udp(place, server).await?;
    socket.send(message).await?;
    let mut answer = vec![0; DATAGRAM_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        if query.is_answered_by(&answer) {
            answer.shrink_to_fit();
            return Ok(answer);
        }
        // Not an answer to this question: forged, or late. The right one may still come.
        answer.resize(DATAGRAM_MAX, 0);
    }
}

async fn tcp(
    sockets: &SocketThread,
    place: &Place,
    server: SocketAddr,
    query: &Query<'_>,
    message: &[u8],
) -> io::Result<Vec<u8>> {
    let mut stream = sockets.tcp(place, server).await?;
    stream.write_all(&framed(message)).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if query.is_answered_by(&answer) {
        Ok(answer)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer is to another question",
        ))
    }
}

/// A message as it is sent over a stream: its length comes first. What is too long for that is cut, which nobody can answer.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend(length.to_be_bytes());
    framed.extend(&message[..usize::from(length)]);
    framed
}
