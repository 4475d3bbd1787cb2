//! Messages and descriptors over a socket pair between the profiler and a process that it started of itself, each wait with an end.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, recvmsg, send,
    sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

/// Most descriptors in one message.
const DESCRIPTORS_MAX: usize = 2;

/// Waits until the descriptor is ready (or broken, which the next call on it will tell).
///
/// # Errors
/// `TimedOut` when the deadline is over.
pub fn wait(descriptor: BorrowedFd<'_>, for_what: PollFlags, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::from_borrowed_fd(descriptor, for_what)], Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends all bytes.
///
/// # Errors
/// The other side is gone, or `TimedOut` when the deadline is over.
pub fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) => wait(socket, PollFlags::OUT, deadline)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Fills the buffer.
///
/// # Errors
/// `UnexpectedEof` when the other side is gone, `TimedOut` when the deadline is over.
pub fn receive_all(socket: BorrowedFd<'_>, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        let received = receive_some(socket, buffer, deadline)?;
        buffer = &mut buffer[received..];
    }
    Ok(())
}

/// Receives what is there, or comes next, and has room in the buffer; gives how much.
///
/// # Errors
/// As [`receive_all`].
pub fn receive_some(socket: BorrowedFd<'_>, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
    loop {
        match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((received, _)) => return Ok(received),
            Err(Errno::AGAIN) => wait(socket, PollFlags::IN, deadline)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends a number and descriptors.
///
/// # Errors
/// More than two descriptors, or the other side is gone.
pub fn send_descriptors(socket: BorrowedFd<'_>, number: u32, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(&number.to_le_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives what [`send_descriptors`] sent.
///
/// # Errors
/// `UnexpectedEof` when the other side is gone, `TimedOut` when the deadline is over.
pub fn receive_descriptors(socket: BorrowedFd<'_>, deadline: Instant) -> io::Result<(u32, Vec<OwnedFd>)> {
    wait(socket, PollFlags::IN, deadline)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut number = [0; 4];
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut number)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes != number.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok((u32::from_le_bytes(number), descriptors))
}

/// A connected pair of stream sockets.
///
/// # Errors
/// There are no descriptors left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, rustix::net::SocketFlags::CLOEXEC, None)?)
}
