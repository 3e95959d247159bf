//! The asking side, for commands: blocking, with a limit on how long an answer may take.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Message, Request, by_short_path};
use crate::status::RuntimeStatus;

/// A connection to a running instance.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Connects to the socket at this path; `patience` limits every later wait.
    pub fn open(path: &Path, patience: Duration) -> io::Result<Self> {
        let stream = by_short_path(path, |path| UnixStream::connect(path))?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request.
    pub fn send(&mut self, request: Request) -> io::Result<()> {
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)
    }

    /// The next message; `None` at the end of the conversation.
    pub fn next_message(&mut self) -> io::Result<Option<Message>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }

    /// How things are.
    pub fn status(&mut self) -> io::Result<RuntimeStatus> {
        self.send(Request::Status)?;
        match self.next_message()? {
            Some(Message::Status(status)) => Ok(*status),
            Some(Message::Failed(reason)) => Err(io::Error::other(reason)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
