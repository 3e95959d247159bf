//! The server that is called: HTTP/1.1 as far as the benchmark speaks it, one thread on one epoll, nothing but system calls and two constants.
//!
//! The path says what is wanted: `/k` the page, `/c` the page and then the end, `/b` bytes without an end.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use anyhow::Result;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Bytes of the page.
pub(crate) const PAGE: usize = 1024;
const BULK: usize = 256 * 1024;
const LISTENER: u64 = u64::MAX;

/// The page with its head; every answer has this length.
pub(crate) fn page() -> Vec<u8> {
    let mut page =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {PAGE}\r\n\r\n").into_bytes();
    page.resize(page.len() + PAGE, b'x');
    page
}

struct Connection {
    stream: TcpStream,
    /// The part of a request that has come so far is never more than this many bytes of its end.
    begun: bool,
    bulk: bool,
}

/// Serves a listener in the calling thread until the process ends.
pub(crate) fn serve(listener: &TcpListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    let queue = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&queue, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let page = page();
    let bulk = vec![b'x'; BULK];
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        events.clear();
        match epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            let data = event.data.u64();
            if data == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    accept(&queue, &mut connections, stream)?;
                }
                continue;
            }
            let at = usize::try_from(data)?;
            let Some(Some(connection)) = connections.get_mut(at) else {
                continue;
            };
            if !turn(connection, &mut buffer, &page, &bulk) {
                connections[at] = None;
            }
        }
    }
}

fn accept(queue: impl AsFd, connections: &mut Vec<Option<Connection>>, stream: TcpStream) -> Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    // Descriptors are small numbers that are used again: they do for places.
    let at = usize::try_from(stream.as_raw_fd())?;
    if connections.len() <= at {
        connections.resize_with(at + 1, || None);
    }
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    epoll::add(queue, &stream, EventData::new_u64(at as u64), flags)?;
    connections[at] = Some(Connection {
        stream,
        begun: false,
        bulk: false,
    });
    Ok(())
}

/// Does all there is to do for a connection; false: it is over.
fn turn(connection: &mut Connection, buffer: &mut [u8], page: &[u8], bulk: &[u8]) -> bool {
    loop {
        if connection.bulk {
            return write_on(&connection.stream, bulk);
        }
        let length = match recv(&connection.stream, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => return false,
            Ok((length, _)) => length,
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        };
        let got = &buffer[..length];
        // Requests are short and come whole, but for the odd one that a proxy cut in two.
        let path = if connection.begun {
            b'k'
        } else {
            got.get(5).copied().unwrap_or(b'k')
        };
        connection.begun = !got.ends_with(b"\r\n\r\n");
        if connection.begun {
            continue;
        }
        match path {
            b'b' => connection.bulk = true,
            _ if send(&connection.stream, page, SendFlags::NOSIGNAL) != Ok(page.len()) => return false,
            b'c' => return false,
            _ => {
                if length < buffer.len() {
                    return true;
                }
            }
        }
    }
}

/// Writes until the kernel takes no more.
fn write_on(stream: &TcpStream, bulk: &[u8]) -> bool {
    loop {
        match send(stream, bulk, SendFlags::NOSIGNAL) {
            Ok(length) if length < bulk.len() => return true,
            Ok(_) => {}
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
}

/// Listens on a port of all addresses.
pub(crate) fn listen(port: u16) -> Result<TcpListener> {
    Ok(TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)))?)
}
