//! The clients: closed loops on one thread and one epoll, so that what they cost is the same for all who are measured.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, sockopt};

use super::server::page;

const KEEP: &[u8] = b"GET /k HTTP/1.1\r\nHost: server\r\n\r\n";
const CLOSE: &[u8] = b"GET /c HTTP/1.1\r\nHost: server\r\n\r\n";
const BULK: &[u8] = b"GET /b HTTP/1.1\r\nHost: server\r\n\r\n";
/// Calls before the clock starts.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long a call may take before the benchmark gives up.
const STALL: Duration = Duration::from_secs(10);

/// What a run of requests gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    pub(crate) per_second: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) count: usize,
}

struct Client {
    stream: TcpStream,
    left: usize,
    sent: Instant,
}

/// Requests on connections that stay, each with one request under way. `on_start` is called when the clock starts, `on_end` when it stops.
pub(crate) fn keep_alive(
    to: SocketAddr,
    connections: usize,
    length: Duration,
    on_start: impl FnOnce(),
    on_end: impl FnOnce(),
) -> Result<Requests> {
    let answer = page().len();
    let queue = epoll::create(CreateFlags::CLOEXEC)?;
    let mut clients = Vec::with_capacity(connections);
    for at in 0..connections {
        let stream = connect(to)?;
        stream.set_nonblocking(true)?;
        epoll::add(&queue, &stream, EventData::new_u64(at as u64), EventFlags::IN)?;
        say(&stream, KEEP)?;
        clients.push(Client {
            stream,
            left: answer,
            sent: Instant::now(),
        });
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut events = Vec::with_capacity(256);
    let mut times: Vec<u32> = Vec::with_capacity(1 << 20);
    let begin = Instant::now();
    let mut start = begin;
    let mut on_start = Some(on_start);
    loop {
        wait(&queue, &mut events)?;
        let now = Instant::now();
        if on_start.is_some() && now - begin >= WARM_UP {
            on_start.take().into_iter().for_each(|call| call());
            start = Instant::now();
        }
        let counting = on_start.is_none();
        if counting && now - start >= length {
            break;
        }
        for event in events.drain(..) {
            let client = &mut clients[usize::try_from(event.data.u64())?];
            let got = match recv(&client.stream, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => bail!("the connection was closed in the middle of an answer"),
                Ok((got, _)) => got,
                Err(Errno::AGAIN) => continue,
                Err(error) => return Err(error).context("receiving an answer"),
            };
            client.left = client.left.checked_sub(got).context("an answer is too long")?;
            if client.left == 0 {
                let now = Instant::now();
                if counting {
                    times.push(u32::try_from((now - client.sent).as_nanos()).unwrap_or(u32::MAX));
                }
                client.left = answer;
                client.sent = now;
                say(&client.stream, KEEP)?;
            }
        }
    }
    let elapsed = start.elapsed();
    on_end();
    times.sort_unstable();
    let at = |share: f64| f64::from(times.get(index(times.len(), share)).copied().unwrap_or_default()) / 1e3;
    Ok(Requests {
        per_second: count(times.len()) / elapsed.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        count: times.len(),
    })
}

/// Connections that each carry one request, so many at a time; how many a second.
pub(crate) fn connections(to: SocketAddr, at_a_time: usize, length: Duration) -> Result<f64> {
    let answer = page().len();
    let queue = epoll::create(CreateFlags::CLOEXEC)?;
    let mut slots: Vec<Option<(OwnedFd, usize, bool)>> = Vec::new();
    for at in 0..at_a_time {
        slots.push(Some(begin(&queue, to, at)?));
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut events = Vec::with_capacity(256);
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < length {
        wait(&queue, &mut events)?;
        for event in events.drain(..) {
            let at = usize::try_from(event.data.u64())?;
            let Some((socket, got, asked)) = &mut slots[at] else {
                continue;
            };
            if !*asked {
                let flags = event.flags;
                if !flags.contains(EventFlags::OUT) {
                    continue;
                }
                sockopt::socket_error(&*socket)?.context("connecting")?;
                say(&*socket, CLOSE)?;
                *asked = true;
            }
            let over = loop {
                match recv(&*socket, &mut *buffer, RecvFlags::empty()) {
                    Ok((0, _)) => break true,
                    Ok((length, _)) => *got += length,
                    Err(Errno::AGAIN) => break false,
                    Err(error) => return Err(error).context("receiving an answer"),
                }
            };
            if over {
                ensure!(*got == answer, "an answer of {got} bytes instead of {answer}");
                done += 1;
                slots[at] = None;
                slots[at] = Some(begin(&queue, to, at)?);
            }
        }
    }
    Ok(count(done) / start.elapsed().as_secs_f64())
}

fn begin(queue: &OwnedFd, to: SocketAddr, at: usize) -> Result<(OwnedFd, usize, bool)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error).context("connecting"),
    }
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    epoll::add(queue, &socket, EventData::new_u64(at as u64), flags)?;
    Ok((socket, 0, false))
}

/// One connection that brings as many bytes as it can: Gbit/s, and bytes with those of the warm-up.
pub(crate) fn bulk(to: SocketAddr, length: Duration) -> Result<(f64, f64)> {
    let stream = connect(to)?;
    say(&stream, BULK)?;
    let mut buffer = vec![0; 512 * 1024];
    let mut read_for = |length: Duration| -> Result<(usize, Duration)> {
        let start = Instant::now();
        let mut bytes = 0;
        while start.elapsed() < length {
            match recv(&stream, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => bail!("the bulk connection was closed"),
                Ok((got, _)) => bytes += got,
                Err(error) => return Err(error).context("receiving in bulk"),
            }
        }
        Ok((bytes, start.elapsed()))
    };
    let (before, _) = read_for(WARM_UP)?;
    let (bytes, elapsed) = read_for(length)?;
    let speed = count(bytes) * 8.0 / 1e9 / elapsed.as_secs_f64();
    Ok((speed, count(before + bytes)))
}

/// Connections that have each carried one request and then stay, as long as the value lives.
pub(crate) fn idle(to: SocketAddr, connections: usize) -> Result<Vec<TcpStream>> {
    let mut open = Vec::with_capacity(connections);
    let answer = page().len();
    let mut buffer = vec![0; answer];
    for _ in 0..connections {
        let stream = connect(to)?;
        say(&stream, KEEP)?;
        let mut got = 0;
        while got < answer {
            match recv(&stream, &mut buffer[got..], RecvFlags::empty()) {
                Ok((0, _)) => bail!("the connection was closed in the middle of an answer"),
                Ok((length, _)) => got += length,
                Err(error) => return Err(error).context("receiving an answer"),
            }
        }
        open.push(stream);
    }
    Ok(open)
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, STALL).with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALL))?;
    Ok(stream)
}

fn say(socket: impl std::os::fd::AsFd, request: &[u8]) -> Result<()> {
    let sent = send(socket, request, SendFlags::NOSIGNAL).context("sending a request")?;
    ensure!(sent == request.len(), "a request was sent in part");
    Ok(())
}

fn wait(queue: &OwnedFd, events: &mut Vec<epoll::Event>) -> Result<()> {
    let timeout = Timespec {
        tv_sec: i64::try_from(STALL.as_secs())?,
        tv_nsec: 0,
    };
    match epoll::wait(queue, rustix::buffer::spare_capacity(events), Some(&timeout)) {
        Ok(0) => bail!("no answer in {STALL:?}"),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn count(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index in range"
)]
fn index(length: usize, share: f64) -> usize {
    (share * length.saturating_sub(1) as f64) as usize
}
