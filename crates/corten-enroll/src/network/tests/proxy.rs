//! A node proxy in miniature, and servers and clients around it: enough to see where connections go.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corten_linux::NetNs;
use corten_linux::sockets::{set_mark, set_transparent_v4, set_transparent_v6};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::constants::{INBOUND_PORT, OUTBOUND_PORT, PROXY_MARK};

const PATIENCE: Duration = Duration::from_secs(10);

fn socket(of: SocketAddr) -> OwnedFd {
    let family = if of.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

fn listen(on: SocketAddr, mark: bool) -> TcpListener {
    let socket = socket(on);
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    if mark {
        set_mark(&socket, PROXY_MARK).unwrap();
    }
    rustix::net::bind(&socket, &on).unwrap();
    rustix::net::listen(&socket, 128).unwrap();
    TcpListener::from(socket)
}

/// A connection whose data is acknowledged when it is read, and not a moment later: once an answer is there nothing is on its way
/// any more, so that a test may take rules away without a late acknowledgement getting lost between them.
#[derive(Debug)]
struct Prompt(TcpStream);

impl Read for Prompt {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(into)?;
        sockopt::set_tcp_quickack(&self.0, true)?;
        Ok(read)
    }
}

/// How many connections a proxy took.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    pub(super) outbound: Arc<AtomicUsize>,
    pub(super) inbound: Arc<AtomicUsize>,
}

impl Taken {
    pub(super) fn counts(&self) -> (usize, usize) {
        (
            self.outbound.load(Ordering::SeqCst),
            self.inbound.load(Ordering::SeqCst),
        )
    }
}

/// Serves a pod's namespace: what it is given, it passes on to where it was meant, on the way in with the client's address.
pub(super) fn proxy(pod: &NetNs) -> Taken {
    let taken = Taken::default();
    for (port, count) in [
        (OUTBOUND_PORT, taken.outbound.clone()),
        (INBOUND_PORT, taken.inbound.clone()),
    ] {
        let wildcard: SocketAddr = (Ipv6Addr::UNSPECIFIED, port).into();
        let listener = pod.run(|| listen(wildcard, true)).unwrap();
        // A thread in the pod's namespace: its sockets are made there.
        let namespace = NetNs::open(&pod.path()).unwrap();
        std::thread::spawn(move || {
            let serve = move || {
                for client in listener.incoming() {
                    let client = client.unwrap();
                    count.fetch_add(1, Ordering::SeqCst);
                    pass_on(client, port == INBOUND_PORT);
                }
            };
            namespace.run(serve).unwrap();
        });
    }
    taken
}

fn pass_on(client: TcpStream, spoof: bool) {
    let peer = plain(client.peer_addr().unwrap());
    let local = plain(client.local_addr().unwrap());
    let to: SocketAddr = if local.is_ipv4() {
        sockopt::ip_original_dst(&client).unwrap().into()
    } else {
        sockopt::ipv6_original_dst(&client).unwrap().into()
    };
    let socket = socket(to);
    set_mark(&socket, PROXY_MARK).unwrap();
    if spoof {
        if to.is_ipv4() {
            set_transparent_v4(&socket).unwrap();
        } else {
            set_transparent_v6(&socket).unwrap();
        }
        rustix::net::bind(&socket, &SocketAddr::new(peer.ip(), 0)).unwrap();
    }
    if rustix::net::connect(&socket, &to).is_err() {
        return;
    }
    let server = TcpStream::from(socket);
    for (from, to) in [
        (client.try_clone().unwrap(), server.try_clone().unwrap()),
        (server, client),
    ] {
        std::thread::spawn(move || {
            let (mut from, mut to) = (Prompt(from), to);
            std::io::copy(&mut from, &mut to).ok();
            to.shutdown(Shutdown::Write).ok();
        });
    }
}

fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A server that first says who called, and then gives back what it gets.
pub(super) fn echo(netns: &NetNs, on: SocketAddr) {
    let listener = netns.run(|| listen(on, false)).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            std::thread::spawn(move || {
                let caller = plain(client.peer_addr().unwrap()).ip().to_string();
                writeln!(client, "{caller}").ok();
                let mut back = Prompt(client.try_clone().unwrap());
                std::io::copy(&mut back, &mut client).ok();
            });
        }
    });
}

/// A connection to an [`echo`] that is kept open.
#[derive(Debug)]
pub(super) struct Held {
    stream: Prompt,
    /// Whom the server saw.
    pub(super) caller: IpAddr,
}

impl Held {
    /// Connects from that namespace.
    pub(super) fn open(from: &NetNs, to: SocketAddr) -> Held {
        let stream = from.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut held = Held {
            stream: Prompt(stream),
            caller: to.ip(),
        };
        let mut line = String::new();
        while !line.ends_with('\n') {
            let mut byte = [0];
            held.stream.read_exact(&mut byte).unwrap();
            line.push(byte[0].into());
        }
        held.caller = line.trim().parse().unwrap();
        held
    }

    /// Sends something and waits for it to come back.
    #[track_caller]
    pub(super) fn used(&mut self) {
        self.stream.0.write_all(b"still here").unwrap();
        let mut back = [0; 10];
        self.stream.read_exact(&mut back).expect("the connection goes on");
        assert_eq!(&back, b"still here");
    }
}
