//! Frames over a pair of connected sockets, with the descriptors that come along.
//!
//! Both functions take any socket that can be borrowed. On one that does not block they give
//! `WouldBlock`, and go on where they were at the next call.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    cmsg_space,
    net::{
        self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    },
};

use crate::{Batch, Inbox};

/// Descriptors that are taken with one read. Those of one `sendmsg` come together, and a frame has
/// one.
const AT_ONCE: usize = 4;

/// A pair of connected sockets, which block and are closed in a program that this one becomes.
///
/// # Errors
/// That of the system.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Sends what is in a batch, all of it on a socket that blocks. What is left is still there when
/// this fails.
///
/// # Errors
/// That of the system; `WouldBlock` on a socket that does not block.
pub fn send(socket: impl AsFd, batch: &mut Batch) -> io::Result<()> {
    while !batch.is_empty() {
        let (bytes, along) = batch.next_piece();
        let bytes = [IoSlice::new(bytes)];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let borrowed = along.map(|along| [along.as_fd()]);
        if let Some(borrowed) = &borrowed {
            control.push(SendAncillaryMessage::ScmRights(borrowed));
        }
        match net::sendmsg(&socket, &bytes, &mut control, SendFlags::NOSIGNAL) {
            Ok(count) => batch.is_sent(count),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads once, and gives how many bytes came: none at the end. Whole frames are to be taken off
/// before.
///
/// # Errors
/// That of the system; `WouldBlock` on a socket that does not block.
pub fn receive(socket: impl AsFd, inbox: &mut Inbox) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(AT_ONCE))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let room = inbox.room();
        if room.is_empty() {
            return Err(io::Error::other("whole frames were not taken off"));
        }
        let mut room = [IoSliceMut::new(room)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = match net::recvmsg(&socket, &mut room, &mut control, flags) {
            Ok(received) => received,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        inbox.filled(received.bytes);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                descriptors.for_each(|descriptor| inbox.came_along(descriptor));
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            inbox.lost_descriptors();
        }
        return Ok(received.bytes);
    }
}
