//! Which sockets can be made, and what is done with them past landlock's eyes.

use libc::{
    AF_INET, AF_INET6, AF_UNIX, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM,
};
use seccompiler::BackendError;

use super::{Rules, case, has, is, is_not, masked};
use crate::{Limits, Peers, Ports};

/// `SOCK_CLOEXEC` and `SOCK_NONBLOCK` are above it.
pub(super) const KIND: i32 = 0xf;

/// Of pairs, those of which each end sends to the other and to nobody else. One of a pair of
/// datagrams can name any other Unix socket, and landlock may not know of it.
pub(super) const PAIRS: [i32; 2] = [SOCK_STREAM, SOCK_SEQPACKET];

/// Adds what is refused.
pub(super) fn refused(limits: &Limits, rules: &mut Rules) -> Result<(), BackendError> {
    let (ports, udp, unix) = match &limits.connect {
        Peers::Any => (true, true, true),
        Peers::Only { ports, udp, sockets } => (!ports.is_empty(), *udp, !sockets.is_empty()),
    };
    let tcp = ports || !limits.bind.is_none();
    let mut socket = vec![case([is_not(0, AF_UNIX), is_not(0, AF_INET), is_not(0, AF_INET6)])?];
    if !unix {
        socket.push(case([is(0, AF_UNIX)])?);
    }
    // All kinds of sockets of the internet but the two. TCP by any other name, such as MPTCP,
    // would not be seen by landlock.
    for kind in 0..=KIND {
        let protocol = match kind {
            SOCK_STREAM if tcp => IPPROTO_TCP,
            SOCK_DGRAM if udp => IPPROTO_UDP,
            _ => {
                socket.push(case([is_not(0, AF_UNIX), masked(1, KIND, kind)])?);
                continue;
            }
        };
        let other = [is_not(2, 0), is_not(2, protocol)];
        let [any, own] = other;
        socket.push(case([is_not(0, AF_UNIX), masked(1, KIND, kind), any, own])?);
    }
    rules.insert(libc::SYS_socket, socket);
    let mut pair = vec![case([is_not(0, AF_UNIX)])?];
    if !unix {
        for kind in (0..=KIND).filter(|kind| !PAIRS.contains(kind)) {
            pair.push(case([masked(1, KIND, kind)])?);
        }
    }
    rules.insert(libc::SYS_socketpair, pair);
    // A socket that listens without a port of its own is given one, and landlock is not asked.
    // Where there are ports to listen on, that is told: whose socket it is cannot be seen here.
    if limits.bind.is_none() {
        rules.insert(libc::SYS_listen, vec![]);
    }
    // It connects with the first bytes, and landlock is not asked.
    if limits.connect != Peers::Any || limits.bind != Ports::Any {
        for (call, flags) in
            [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)]
        {
            rules.insert(call, vec![case([has(flags, libc::MSG_FASTOPEN)])?]);
        }
    }
    Ok(())
}
