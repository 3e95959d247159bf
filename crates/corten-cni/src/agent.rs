//! Asking the agent: one HTTP request over its Unix socket, with the patience that a restart of the agent needs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// What the agent said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Why it said no.
    pub(crate) fn reason(&self) -> String {
        match self.body.trim() {
            "" => format!("the node agent answered with status {} and no reason", self.status),
            reason => reason.to_owned(),
        }
    }
}

/// Who can be asked.
pub trait Agent {
    /// Posts a JSON document; one that is away is waited for if `patient`.
    fn post(&mut self, socket: &Path, path: &str, body: &str, patient: bool) -> io::Result<Answer>;

    /// What it left in a file, for times when it is away.
    fn left(&mut self, file: &Path) -> io::Result<String>;
}

/// The agent behind the socket.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// How long it may be away: a new one starts within seconds of the old one's end.
    pub away_max: Duration,
    /// How long it may take to answer; it may in turn wait for the node proxy.
    pub answer_max: Duration,
}

impl Default for Socket {
    fn default() -> Self {
        // Together less than a container runtime waits for a plugin.
        Socket {
            away_max: Duration::from_secs(15),
            answer_max: Duration::from_secs(40),
        }
    }
}

const RETRY: Duration = Duration::from_millis(50);
/// More than any answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

impl Agent for Socket {
    fn left(&mut self, file: &Path) -> io::Result<String> {
        std::fs::read_to_string(file)
    }

    fn post(&mut self, socket: &Path, path: &str, body: &str, patient: bool) -> io::Result<Answer> {
        let end = Instant::now() + if patient { self.away_max } else { Duration::ZERO };
        let mut stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                // The socket of an agent that is not there, or not yet.
                Err(error) if is_away(&error) && Instant::now() < end => std::thread::sleep(RETRY),
                Err(error) => return Err(error),
            }
        };
        stream.set_read_timeout(Some(self.answer_max))?;
        stream.set_write_timeout(Some(self.answer_max))?;
        // In one piece: an agent that answers before it has read everything, and closes, is heard all the same.
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        read(stream)
    }
}

fn is_away(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock
    )
}

/// Reads a response whose end is that of the connection.
fn read(stream: impl Read) -> io::Result<Answer> {
    let mut reader = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("it answered {:?}", line.trim_end()));
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    let status = status.and_then(|code| code.trim().parse().ok()).ok_or_else(malformed)?;
    let mut length = None;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<u64>().ok();
        }
    }
    let mut body = Vec::new();
    reader.take(length.unwrap_or(ANSWER_BYTES_MAX)).read_to_end(&mut body)?;
    Ok(Answer {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_their_end() {
        let of = |text: &str| read(text.as_bytes());
        let answer = of("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\nnope and more").unwrap();
        assert_eq!((answer.status, answer.reason().as_str()), (500, "nope"));
        assert_eq!(of("HTTP/1.0 200 OK\r\n\r\n").unwrap().status, 200);
        assert_eq!(of("HTTP/1.1 200\r\n").unwrap().status, 200);
        for garbage in ["", "SSH-2.0", "HTTP/1.1 x\r\n\r\n"] {
            assert!(of(garbage).is_err(), "{garbage:?}");
        }
        assert!(of("HTTP/1.1 503 x\r\n\r\n").unwrap().reason().contains("503"));
    }

    #[test]
    fn an_agent_that_is_away_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("agent.sock");
        let mut impatient = Socket {
            away_max: Duration::ZERO,
            ..Socket::default()
        };
        let error = impatient.post(&path, "/", "", true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        // The default patience would be noticed.
        assert!(Socket::default().post(&path, "/", "", false).is_err());
        let (there, listening) = (path.clone(), std::sync::Arc::new(std::sync::Barrier::new(2)));
        let agent = {
            let listening = listening.clone();
            std::thread::spawn(move || {
                listening.wait();
                let listener = std::os::unix::net::UnixListener::bind(&there).unwrap();
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = vec![0; 1024];
                let length = stream.read(&mut request).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            })
        };
        listening.wait();
        let answer = Socket::default().post(&path, "/cmdadd", "{}", true).unwrap();
        assert_eq!(answer.status, 200);
        let request = agent.join().unwrap();
        assert!(
            request.starts_with("POST /cmdadd HTTP/1.1\r\n") && request.ends_with("\r\n\r\n{}"),
            "{request}"
        );
    }
}
