//! A netlink socket of the namespace it was opened in.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{NetlinkError, attributes};

const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
/// `NLM_F_ACK_TLVS`: attributes follow the error.
const FLAG_ACK_TLVS: u16 = 0x200;
/// `NLM_F_CAPPED`: the request's payload is not repeated.
const FLAG_CAPPED: u16 = 0x100;
const ATTRIBUTE_EXPLANATION: u16 = 1;
/// The kernel fills dumps up to 32 KiB a datagram.
const RECEIVE_BYTES: usize = 64 * 1024;

/// A synchronous socket: one conversation at a time.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// An error number, with the kernel's explanation.
pub(crate) type Refusal = (io::Error, Option<String>);

/// Takes a message's type, flags, sequence number and body.
pub(crate) type Each<'a> = dyn FnMut(u16, u16, u32, &[u8]) + 'a;

/// One message of an answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

impl Socket {
    /// A socket of the calling thread's network namespace. `protocol` is `None` for rtnetlink.
    pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<Socket> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        // Both only improve error messages, so an old kernel's refusal is ignored.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            set_option(&fd, libc::SOL_NETLINK, option, 1).ok();
        }
        // Transactions are sent whole and their acknowledgements arrive at once; beyond the machine's maximum the kernel gives that.
        rustix::net::sockopt::set_socket_send_buffer_size(&fd, 4 << 20).ok();
        rustix::net::sockopt::set_socket_recv_buffer_size(&fd, 4 << 20).ok();
        // Past the maximum where the caller may; in a user namespace it may not.
        set_option(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 4 << 20).ok();
        set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 4 << 20).ok();
        Ok(Socket {
            fd,
            sequence: 1,
            buffer: vec![0; RECEIVE_BYTES],
        })
    }

    /// How many bytes one send may have.
    pub(crate) fn send_max(&self) -> usize {
        // The kernel reports the doubled value it accounts with, and keeps 32 bytes.
        rustix::net::sockopt::socket_send_buffer_size(&self.fd).map_or(64 * 1024, |bytes| bytes.saturating_sub(1024))
    }

    /// Sends messages, and gives the sequence number of the first.
    pub(crate) fn send(&mut self, messages: &mut super::Messages) -> io::Result<u32> {
        let first = self.sequence;
        let count = u32::try_from(messages.count()).unwrap_or(u32::MAX);
        self.sequence = self.sequence.wrapping_add(count).max(1);
        let bytes = messages.numbered(first);
        let kernel = SocketAddrNetlink::new(0, 0);
        let sent = rustix::io::retry_on_intr(|| rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &kernel))?;
        if sent != bytes.len() {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "the kernel took only part of a netlink message",
            ));
        }
        Ok(first)
    }

    /// Sends one message flagged to be acknowledged, and waits for that.
    pub(crate) fn acknowledged(
        &mut self,
        messages: &mut super::Messages,
        action: impl FnOnce() -> String,
    ) -> Result<(), NetlinkError> {
        self.replies(messages, action).map(drop)
    }

    /// Sends one message and collects what comes back until the acknowledgement or the end of the dump.
    pub(crate) fn replies(
        &mut self,
        messages: &mut super::Messages,
        action: impl FnOnce() -> String,
    ) -> Result<Vec<Reply>, NetlinkError> {
        let result = self
            .send(messages)
            .map_err(|error| (error, None))
            .and_then(|sequence| self.collect(sequence));
        result.map_err(|(source, detail)| NetlinkError {
            action: action(),
            source,
            detail,
        })
    }

    fn collect(&mut self, sequence: u32) -> Result<Vec<Reply>, Refusal> {
        let mut replies = Vec::new();
        loop {
            let mut done = None;
            self.receive(&mut |kind, flags, seq, body| {
                if seq != sequence || done.is_some() {
                    return;
                }
                match kind {
                    MESSAGE_ERROR => done = Some(error_of(flags, body)),
                    // A dump that fails in the middle says so in its last message.
                    MESSAGE_DONE => done = Some(error_of(flags, body)),
                    _ => replies.push(Reply {
                        kind,
                        body: body.to_vec(),
                    }),
                }
            })
            .map_err(|error| (error, None))?;
            if let Some(result) = done {
                return result.map(|()| replies);
            }
        }
    }

    /// Reads one datagram and hands its messages (type, flags, sequence, body) to `each`.
    pub(crate) fn receive(&mut self, each: &mut Each<'_>) -> io::Result<()> {
        let (read, length) =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::TRUNC))?;
        if length > read {
            return Err(io::Error::other(format!(
                "a netlink answer of {length} bytes was cut off"
            )));
        }
        let mut rest = &self.buffer[..read];
        while let Some(header) = rest.get(..16) {
            let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
            let length = word(0) as usize;
            let Some(body) = rest.get(16..length) else { break };
            each(half(4), half(6), word(8), body);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether something has arrived, without waiting.
    pub(crate) fn is_readable(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(&self.fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))
            .is_ok_and(|ready| ready > 0)
    }
}

/// The result in an error message's body, with the kernel's explanation.
pub(crate) fn error_of(flags: u16, body: &[u8]) -> Result<(), Refusal> {
    let number = body
        .get(..4)
        .map_or(0, |code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]]));
    if number == 0 {
        return Ok(());
    }
    let mut detail = None;
    if flags & FLAG_ACK_TLVS != 0 {
        // The request's header follows the code, and its payload unless it was left out.
        let request = body.get(4..8).map_or(16, |word| {
            u32::from_ne_bytes([word[0], word[1], word[2], word[3]]) as usize
        });
        let skip = if flags & FLAG_CAPPED != 0 {
            16
        } else {
            request.next_multiple_of(4)
        };
        detail = attributes(body.get(4 + skip..).unwrap_or_default())
            .find(|attribute| attribute.kind == ATTRIBUTE_EXPLANATION)
            .map(|attribute| attribute.string());
    }
    Err((io::Error::from_raw_os_error(-number), detail))
}

fn set_option(fd: &OwnedFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let length = u32::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: the kernel reads `length` bytes of a live i32 and keeps no reference; the descriptor is open.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
