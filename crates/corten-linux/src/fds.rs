//! Open files that pass between processes: inherited over `exec`, or sent over a Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// The number of the first open file given by [`Spawn::give`](crate::Spawn::give).
pub const FIRST_GIVEN: RawFd = 3;

/// How many files one message may carry.
const PER_MESSAGE_MAX: usize = 16;

/// The files given to this process when it was started (`count` of them, from number 3 on).
///
/// Works once, and belongs at the beginning of `main`: before other files are open, so that these numbers can have no other owner.
pub fn given(count: usize) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other("the files given to this process were already taken"));
    }
    let count = RawFd::try_from(count).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let numbers = FIRST_GIVEN..FIRST_GIVEN.saturating_add(count);
    for number in numbers.clone() {
        // SAFETY: only asks whether the number is open and marks it; a closed one answers EBADF and is given to nobody.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        let flags = fcntl_getfd(file)?;
        fcntl_setfd(file, flags | FdFlags::CLOEXEC)?;
    }
    // SAFETY: the numbers are open, were opened for this process by its parent, and are taken once.
    Ok(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect())
}

/// Sends bytes (at least one) together with open files.
pub fn send(socket: impl AsFd, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a message carries at most {PER_MESSAGE_MAX} files"),
        ));
    }
    Ok(rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

/// Receives bytes and the files that came with them; zero bytes mean that the other side closed.
pub fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            files.extend(sent);
        }
    }
    Ok((received.bytes, files))
}

/// Hands a file to the tokio runtime this is called on, which then says when it can be read or written. It should be non-blocking.
pub fn watched(file: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: the runtime needs the number to stay this open file for as long as it watches; an owned descriptor is closed only when it is dropped.
    unsafe { tokio::io::unix::AsyncFd::register(file) }.map_err(|error| error.into_parts().1)
}

/// A copy of an open file with a high number, closed on `exec`, so that it cannot be in the way of the low ones.
pub(crate) fn high_copy(file: impl AsFd) -> io::Result<OwnedFd> {
    const LOWEST: RawFd = 256;
    let high = file.as_fd().as_raw_fd().max(LOWEST);
    Ok(rustix::io::fcntl_dupfd_cloexec(file, high)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_file_survives_being_sent() {
        let (here, there) = UnixStream::pair().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        assert_eq!(send(&here, b"x", &[reader.as_fd()]).unwrap(), 1);
        drop(reader);
        let (count, mut files) = receive(&there, &mut [0; 8]).unwrap();
        assert_eq!((count, files.len()), (1, 1));
        writer.write_all(b"through").unwrap();
        drop(writer);
        let mut read = String::new();
        std::fs::File::from(files.remove(0)).read_to_string(&mut read).unwrap();
        assert_eq!(read, "through");
    }

    #[test]
    fn the_end_of_a_connection_is_no_error() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(here);
        assert_eq!(receive(&there, &mut [0; 8]).unwrap().0, 0);
    }
}
