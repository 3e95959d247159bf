//! The kernel's readiness queue: what is watched is named by a [`Token`], and told once each time something new can be done with it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// What a readiness event is about. The generation tells a present owner of a slot from a former one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Token {
    /// Somebody has put something into the mailbox.
    Mailbox,
    /// A listener of a pod.
    Listener(Slot),
    /// The side of a flow that called.
    Caller(Slot),
    /// The side of a flow that is called.
    Callee(Slot),
    /// The socket under a tunnel.
    Tunnel(Slot),
}

/// A place in one of the shard's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Token {
    fn encode(self) -> u64 {
        let (kind, slot) = match self {
            Token::Mailbox => return 0,
            Token::Listener(slot) => (1, slot),
            Token::Caller(slot) => (2, slot),
            Token::Callee(slot) => (3, slot),
            Token::Tunnel(slot) => (4, slot),
        };
        kind << 61 | u64::from(slot.generation & Slot::GENERATIONS) << 32 | u64::from(slot.index)
    }

    fn decode(data: u64) -> Option<Token> {
        let slot = Slot {
            index: u32::try_from(data & u64::from(u32::MAX)).ok()?,
            generation: u32::try_from(data >> 32).ok()? & Slot::GENERATIONS,
        };
        Some(match data >> 61 {
            0 => Token::Mailbox,
            1 => Token::Listener(slot),
            2 => Token::Caller(slot),
            3 => Token::Callee(slot),
            4 => Token::Tunnel(slot),
            _ => return None,
        })
    }
}

impl Slot {
    /// Generations count up to here and start anew: the rest of the event's word names the kind.
    pub(crate) const GENERATIONS: u32 = (1 << 29) - 1;
}

/// What has become possible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: Token,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other side sends no more.
    pub(crate) ending: bool,
    /// The connection is broken, or closed in both directions.
    pub(crate) closed: bool,
}

/// An epoll instance.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// How many events are taken at a time.
const EVENTS: usize = 512;

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        Ok(Poll {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// Watches a socket in both directions, edge by edge: an event is told when something new has arrived, not while it waits.
    pub(crate) fn watch(&self, file: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            file,
            EventData::new_u64(token.encode()),
            flags,
        )?)
    }

    /// Watches something that is only read, as long as there is something to read.
    pub(crate) fn watch_input(&self, file: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            file,
            EventData::new_u64(token.encode()),
            EventFlags::IN,
        )?)
    }

    /// No longer watches it. What is closed is forgotten by itself.
    pub(crate) fn forget(&self, file: BorrowedFd<'_>) {
        // It fails only for what is not watched.
        let _ = epoll::delete(&self.epoll, file);
    }

    /// Waits until something is ready, or so long; zero asks without waiting.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, mut ready: impl FnMut(Ready)) -> io::Result<()> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let Some(token) = Token::decode(event.data.u64()) else {
                continue;
            };
            let flags = event.flags;
            let closed = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            ready(Ready {
                token,
                readable: closed || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                writable: closed || flags.contains(EventFlags::OUT),
                ending: flags.contains(EventFlags::RDHUP),
                closed,
            });
        }
        Ok(())
    }
}

/// What wakes a shard from another thread.
#[derive(Debug)]
pub(crate) struct Waker(OwnedFd);

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        Ok(Waker(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn wake(&self) {
        // It fails only when the counter is full, that is, when the shard is already being woken.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Takes the wake-ups so far.
    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_their_encoding() {
        let slot = Slot {
            index: 0xdead_beef,
            generation: Slot::GENERATIONS - 1,
        };
        for token in [
            Token::Mailbox,
            Token::Listener(slot),
            Token::Caller(slot),
            Token::Callee(slot),
            Token::Tunnel(slot),
        ] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(u64::MAX), None);
    }

    #[test]
    fn a_wake_up_is_one_event_however_often_it_was_asked_for() {
        let (mut poll, waker) = (Poll::new().unwrap(), Waker::new().unwrap());
        poll.watch_input(waker.as_fd(), Token::Mailbox).unwrap();
        waker.wake();
        waker.wake();
        let mut count = 0;
        poll.wait(None, |ready| {
            assert_eq!(ready.token, Token::Mailbox);
            count += 1;
        })
        .unwrap();
        waker.clear();
        poll.wait(Some(Duration::ZERO), |_| count += 1).unwrap();
        assert_eq!(count, 1);
    }
}
