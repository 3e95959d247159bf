//! A shard of the data path: one thread, one epoll, the sockets of its pods, and nothing shared with others but what is only read.
//!
//! A turn of its loop: take what is ready, handle it (pods take turns, none more than its share), then seal and write each tunnel once. Batching
//! on the tunnels is what makes it fast, and taking turns is what makes it fair.
//!
//! The path of a connection, phase by phase: [`outbound`] (capture, route, reach, ask, established), [`inbound`] (accept, validate, authorize,
//! dial, answer), then [`copy`], then [`finish`].

mod copy;
mod finish;
mod flow;
mod holds;
mod inbound;
mod lifecycle;
mod linger;
mod listen;
mod mailbox;
mod outbound;
mod pod;
mod policy;
mod poll;
mod sockets;
mod source_port;
mod spin;
mod table;
mod tunnel;
mod tunnels;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use corten_traffic::Tables;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::flow::Flow;
pub use self::holds::Holds;
use self::linger::Lingering;
pub use self::mailbox::{Command, Common, ConnectionView, Mailbox, PodView, Resolve, Serve};
use self::pod::{Listener, Pod};
use self::poll::{Poll, Ready, Slot, Token};
pub use self::sockets::PodNamespace;
use self::sockets::SocketMaker;
use self::spin::Spin;
use self::table::Table;
use self::tunnel::Tunnel;
use crate::telemetry::failure::{Code, Failure, Flag, Side};
use crate::telemetry::series::Cache;

/// Where bytes are read to. Large reads are what makes bulk transfers fast; the memory is touched only as far as it is used.
const SCRATCH: usize = 512 << 10;

/// How many ready things of one pod are handled before the next pod's, when several have work.
const TURNS: usize = 32;

/// How many when there is only one.
const TURNS_ALONE: usize = 512;

/// How long a pod's turn may be, whatever it is that is ready: connections are made at a hundred times the cost of passing bytes on. Who becomes
/// ready meanwhile waits for this and not for all that one pod can have ready.
const TURN: Duration = Duration::from_micros(250);

/// So many events a second still count as quiet: keep-alives, a probe now and then.
const QUIET: usize = 64;

/// One thread's part of the data path.
pub struct Shard {
    common: Arc<Common>,
    mailbox: Arc<Mailbox>,
    poll: Poll,
    sockets: SocketMaker,
    pods: Table<Pod>,
    listeners: Table<Listener>,
    flows: Table<Flow>,
    tunnels: Table<Box<Tunnel>>,
    /// Pods that have something ready.
    active: VecDeque<Slot>,
    /// Tunnels that have something to write.
    dirty: Vec<Slot>,
    /// Tunnels with which it is over.
    ended: Vec<Slot>,
    /// Sockets of such, until the peer has heard it.
    lingering: Lingering,
    scratch: Vec<u8>,
    inner_scratch: Vec<u8>,
    lines: Vec<u8>,
    /// The version of this turn: everything in it sees the same.
    tables: Arc<Tables>,
    now: Instant,
    next_tick: Option<Instant>,
    /// Flows in which bytes do not pass yet.
    young: usize,
    /// Listeners that accept nothing for a while.
    paused: usize,
    /// How many files this process may open.
    files: usize,
    random: SmallRng,
    series: Cache,
    drain: Option<Draining>,
    spin: Spin,
    /// Events since the last tick.
    activity: usize,
    /// It has been quiet, and given back what it needs only while busy.
    resting: bool,
}

/// The end of a shard.
struct Draining {
    close_listeners: Instant,
    /// Until then connections that still come put that off.
    listen_until: Instant,
    deadline: Instant,
    listening: bool,
}

/// A running shard.
#[derive(Debug)]
pub struct Handle {
    /// How to speak to it.
    pub mailbox: Arc<Mailbox>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Waits until it has ended, which it does after [`Command::Drain`].
    pub fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts a shard on a thread of its own.
pub fn start(index: usize, common: Arc<Common>) -> io::Result<Handle> {
    let mailbox = Mailbox::new()?;
    let inbox = mailbox.clone();
    let (started, outcome) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || match Shard::new(common, inbox) {
            Ok(mut shard) => {
                let _ = started.send(Ok(()));
                shard.run();
            }
            Err(error) => drop(started.send(Err(error))),
        })?;
    outcome.recv().map_err(io::Error::other)??;
    Ok(Handle { mailbox, thread })
}

fn files_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX)
}

impl Shard {
    fn new(common: Arc<Common>, mailbox: Arc<Mailbox>) -> io::Result<Shard> {
        let poll = Poll::new()?;
        poll.watch_input(mailbox.waker().as_fd(), Token::Mailbox)?;
        Ok(Shard {
            poll,
            mailbox,
            sockets: SocketMaker::new(common.config.packet_mark),
            pods: Table::new(),
            listeners: Table::new(),
            flows: Table::new(),
            tunnels: Table::new(),
            active: VecDeque::new(),
            dirty: Vec::new(),
            ended: Vec::new(),
            lingering: Lingering::default(),
            scratch: Vec::new(),
            inner_scratch: Vec::new(),
            lines: Vec::new(),
            tables: common.tables.load_full(),
            now: Instant::now(),
            next_tick: None,
            young: 0,
            paused: 0,
            files: files_max(),
            random: SmallRng::seed_from_u64(rand::rng().next_u64()),
            series: Cache::new(common.metrics.traffic.clone()),
            drain: None,
            spin: Spin::new(common.config.spin),
            activity: 0,
            resting: false,
            common,
        })
    }

    /// Until a drain is over.
    fn run(&mut self) {
        let mut ready = Vec::new();
        loop {
            if let Err(error) = self.wait(&mut ready) {
                tracing::error!(%error, "the data path cannot wait for its sockets");
                return;
            }
            self.now = Instant::now();
            self.activity += ready.len();
            if self.resting && self.activity > QUIET {
                self.stir();
            }
            let mut commanded = false;
            for event in ready.drain(..) {
                match event.token {
                    Token::Mailbox => commanded = true,
                    _ => self.note(event),
                }
            }
            if commanded {
                self.command();
            }
            self.work();
            self.flush();
            self.reap();
            if self.next_tick.is_some_and(|tick| tick <= self.now) {
                self.tick();
                self.flush();
                self.reap();
            }
            self.common.access.submit(&mut self.lines);
            if self.is_over() {
                return;
            }
        }
    }

    /// Waits until there is something to do, awake or asleep.
    fn wait(&mut self, ready: &mut Vec<Ready>) -> io::Result<()> {
        let timeout = self.timeout();
        if !self.spin.is_on() || timeout == Some(Duration::ZERO) {
            return self.poll.wait(timeout, |event| ready.push(event));
        }
        let begin = Instant::now();
        let mut last = begin;
        while self.spin.begin() {
            self.poll.wait(Some(Duration::ZERO), |event| ready.push(event))?;
            if !ready.is_empty() {
                return Ok(());
            }
            rustix::thread::sched_yield();
            let now = Instant::now();
            if !self.spin.go_on(begin, last, now) {
                break;
            }
            last = now;
        }
        let asleep = Instant::now();
        self.poll.wait(timeout, |event| ready.push(event))?;
        self.spin.slept(asleep.elapsed());
        Ok(())
    }

    fn timeout(&mut self) -> Option<Duration> {
        if !self.active.is_empty() || !self.dirty.is_empty() || !self.ended.is_empty() {
            return Some(Duration::ZERO);
        }
        let ticks = self.young + self.paused + self.tunnels.len() > 0
            || self.drain.is_some()
            || !self.resting
            || !self.lingering.is_empty();
        if self.next_tick.is_none() && ticks {
            self.next_tick = Some(self.now + Duration::from_secs(1));
        }
        let waiting = self.next_tick?;
        // Rounded up to the kernel's grain, so that the moment has come when it wakes.
        Some(waiting.saturating_duration_since(self.now) + Duration::from_micros(100))
    }

    /// Notes what a socket has become ready for.
    fn note(&mut self, event: Ready) {
        let Ready {
            token,
            readable,
            writable,
            ending,
            closed,
        } = event;
        let pod = match token {
            Token::Mailbox => return,
            Token::Listener(slot) => {
                let Some(listener) = self.listeners.get(slot) else {
                    return;
                };
                listener.pod
            }
            Token::Caller(slot) | Token::Callee(slot) => {
                let Some(flow) = self.flows.get_mut(slot) else { return };
                let end = if matches!(token, Token::Caller(_)) {
                    &mut flow.caller
                } else {
                    &mut flow.callee
                };
                if let Some(leg) = end.leg() {
                    leg.readable |= readable;
                    leg.writable |= writable;
                    leg.ending |= ending || closed;
                    leg.broken |= closed;
                }
                flow.pod
            }
            Token::Tunnel(slot) => {
                let Some(tunnel) = self.tunnels.get_mut(slot) else {
                    return;
                };
                tunnel.readable |= readable;
                tunnel.writable |= writable;
                tunnel.ending |= ending || closed;
                tunnel.pod
            }
        };
        self.enqueue(pod, token);
    }

    /// Puts something into its pod's queue, once.
    fn enqueue(&mut self, pod: Slot, token: Token) {
        let queued = match token {
            Token::Mailbox => return,
            Token::Listener(slot) => self.listeners.get_mut(slot).map(|listener| &mut listener.queued),
            // Both ends of a flow are handled together; a connection under way is told by its callee.
            Token::Caller(slot) | Token::Callee(slot) => self.flows.get_mut(slot).map(|flow| &mut flow.queued),
            Token::Tunnel(slot) => self.tunnels.get_mut(slot).map(|tunnel| &mut tunnel.queued),
        };
        let Some(queued) = queued else { return };
        if std::mem::replace(queued, true) {
            return;
        }
        let Some(owner) = self.pods.get_mut(pod) else { return };
        owner.ready.push_back(token);
        if !std::mem::replace(&mut owner.active, true) {
            self.active.push_back(pod);
        }
    }

    /// One round: each pod with work has its turn.
    fn work(&mut self) {
        let pods = self.active.len();
        let turns = if pods > 1 { TURNS } else { TURNS_ALONE };
        for _ in 0..pods {
            let Some(slot) = self.active.pop_front() else { return };
            let begin = Instant::now();
            for _ in 0..turns {
                let Some(token) = self.pods.get_mut(slot).and_then(|pod| pod.ready.pop_front()) else {
                    break;
                };
                // A mistake in the program costs the connection it shows itself in, not those of all pods.
                if catch_unwind(AssertUnwindSafe(|| self.handle(token))).is_err() {
                    self.give_up(token);
                }
                if begin.elapsed() >= TURN {
                    break;
                }
            }
            if let Some(pod) = self.pods.get_mut(slot) {
                pod.active = !pod.ready.is_empty();
                if pod.active {
                    self.active.push_back(slot);
                } else if pod.ready.capacity() > 256 {
                    pod.ready = VecDeque::new();
                }
            }
        }
    }

    /// Drops what was being worked on when the program found itself wrong; the reason has been printed.
    fn give_up(&mut self, token: Token) {
        tracing::error!(
            ?token,
            "a connection is dropped because of a mistake in this program; please report it"
        );
        let text = "an internal error";
        let failure = Failure::new(Flag::Connect, Code::Internal, Side::ServerProxy, text);
        match token {
            Token::Mailbox | Token::Listener(_) => {}
            Token::Caller(slot) | Token::Callee(slot) => self.finish(slot, Some(failure)),
            Token::Tunnel(slot) => self.lose_tunnel(slot, &failure),
        }
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Mailbox => {}
            Token::Listener(slot) => {
                if let Some(listener) = self.listeners.get_mut(slot) {
                    listener.queued = false;
                    self.accept(slot);
                }
            }
            Token::Caller(slot) | Token::Callee(slot) => {
                if let Some(flow) = self.flows.get_mut(slot) {
                    flow.queued = false;
                    self.advance(slot);
                }
            }
            Token::Tunnel(slot) => {
                if let Some(tunnel) = self.tunnels.get_mut(slot) {
                    tunnel.queued = false;
                    self.serve_tunnel(slot);
                }
            }
        }
    }

    /// Where bytes are read to, for as long as the caller needs it; it is put back afterwards.
    fn take_scratch(&mut self) -> Vec<u8> {
        if self.scratch.is_empty() {
            // Fresh from the kernel, so that it is there only as far as it is used.
            return vec![0; SCRATCH];
        }
        std::mem::take(&mut self.scratch)
    }

    fn random(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// Bytes of a pod that wait to be written have become more or fewer.
    fn account_buffer(&mut self, pod: Slot, before: usize, after: usize) {
        if before == after {
            return;
        }
        let limit = self.common.config.limits.buffered_bytes_max;
        let Some(known) = self.pods.get_mut(pod) else { return };
        known.buffered = (known.buffered + after).saturating_sub(before);
        if known.buffered < limit && !known.stalled.is_empty() {
            for tunnel in std::mem::take(&mut known.stalled) {
                self.enqueue(pod, Token::Tunnel(tunnel));
            }
        }
    }
}
