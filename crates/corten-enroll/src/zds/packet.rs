//! Packets: one message each, with at most one file.
//!
//! With the level `corten_enroll::wire=trace` each of them is logged with its bytes in hexadecimal digits.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_linux::fds;
use corten_proto::zds::PACKET_MAX;
use prost::Message;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;

use super::File;

/// Why a packet could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side is gone.
    #[error("it closed the connection")]
    Closed,
    /// Longer than either side accepts.
    #[error("a packet has at most {PACKET_MAX} bytes: the names of this pod are too long")]
    TooLong,
    /// Bytes that are no message.
    #[error("a packet that cannot be read: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A file where none belongs.
    #[error("a packet that carries {0} files")]
    Files(usize),
}

const BACKLOG: i32 = 16;

/// Binds the socket, in place of a file that is there.
pub(super) fn listen(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Whoever connects gets the namespaces of all pods.
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    fds::watched(socket)
}

pub(super) async fn accept(listener: &AsyncFd<OwnedFd>) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let accepted = listener.async_io(tokio::io::Interest::READABLE, |socket| {
        Ok(rustix::net::accept_with(socket, flags)?)
    });
    fds::watched(accepted.await?)
}

/// Sends one message, with a file or none.
pub(super) async fn send(
    socket: &AsyncFd<OwnedFd>,
    message: &impl Message,
    file: Option<&File>,
) -> Result<(), PacketError> {
    let bytes = message.encode_to_vec();
    if bytes.len() > PACKET_MAX {
        return Err(PacketError::TooLong);
    }
    show("sent", &bytes);
    let sent = socket.async_io(tokio::io::Interest::WRITABLE, |socket| {
        let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
        fds::send(socket, &bytes, &files)
    });
    sent.await?;
    Ok(())
}

/// Shows a packet as it is on the wire to those who ask for it.
fn show(direction: &'static str, bytes: &[u8]) {
    if tracing::enabled!(target: "corten_enroll::wire", tracing::Level::TRACE) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        tracing::trace!(target: "corten_enroll::wire", direction, hex, "packet");
    }
}

/// Receives one message.
pub(super) async fn receive<M: Message + Default>(socket: &AsyncFd<OwnedFd>) -> Result<M, PacketError> {
    // One byte more than allowed, so that what is too long can be told from what fits.
    let mut buffer = [0; PACKET_MAX + 1];
    let received = socket.async_io(tokio::io::Interest::READABLE, |socket| {
        fds::receive(socket, &mut buffer)
    });
    let (length, files) = received.await?;
    show("received", buffer.get(..length).unwrap_or_default());
    match length {
        0 => Err(PacketError::Closed),
        length if length > PACKET_MAX => Err(PacketError::TooLong),
        _ if !super::no_files(&files) => Err(PacketError::Files(files.len())),
        length => Ok(M::decode(&buffer[..length])?),
    }
}
