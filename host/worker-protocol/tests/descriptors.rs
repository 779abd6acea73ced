//! Descriptors that come along: with their frames, without them, and too many.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kit;

use std::{
    fs,
    io::{self, Read, Seek, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kit::{LETTER, null};
use ksi_worker_protocol::{
    Batch, FromHost, FromWorker, HEAD, IN_FILE_FROM, Inbox, Kind, MemoryFile, Outcome, OutcomeKind,
    OutcomesBuf, Payload, ProtocolError, transport,
};
use rustix::{
    fs::{MemfdFlags, SealFlags},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
};

/// Each counts all that are open.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What the other side may do that a batch does not.
fn send_raw(socket: &OwnedFd, bytes: &[u8], descriptors: &[OwnedFd]) {
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = vec![std::mem::MaybeUninit::uninit(); 1024];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    }
    let bytes = [io::IoSlice::new(bytes)];
    rustix::net::sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL).unwrap();
}

fn head(kind: Kind, flags: u8, descriptors: u8, length: usize) -> Vec<u8> {
    let mut head = vec![0; HEAD];
    head[..4].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
    (head[4], head[5], head[6]) = (kind as u8, flags, descriptors);
    head
}

#[test]
fn descriptors_come_with_their_frames_and_in_their_order() {
    let _alone = alone();
    let before = open();
    {
        let (here, there) = transport::pair().unwrap();
        let mut batch = Batch::new();
        for number in 0..20_u64 {
            FromWorker::NoReply { keeps: false }.put(number, &mut batch).unwrap();
            let mut file = fs::File::from(memory_file());
            write!(file, "{number}").unwrap();
            FromWorker::Keep { name: "a", descriptor: file.into() }
                .put(number, &mut batch)
                .unwrap();
        }
        transport::send(&here, &mut batch).unwrap();
        let mut inbox = Inbox::new();
        let mut found = Vec::new();
        while found.len() < 20 {
            assert!(transport::receive(&there, &mut inbox).unwrap() > 0);
            while let Some(frame) = inbox.next().unwrap() {
                let id = frame.id;
                if let FromWorker::Keep { descriptor, .. } = FromWorker::read(frame).unwrap() {
                    let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
                    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
                    let (mut file, mut text) = (fs::File::from(descriptor), String::new());
                    file.rewind().unwrap();
                    file.read_to_string(&mut text).unwrap();
                    assert_eq!(text, id.to_string());
                    found.push(id);
                }
            }
        }
    }
    assert_eq!(open(), before);
}

fn memory_file() -> OwnedFd {
    rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap()
}

#[test]
fn a_batch_goes_on_where_the_socket_took_no_more() {
    let _alone = alone();
    let before = open();
    {
        let (here, there) = transport::pair().unwrap();
        for socket in [&here, &there] {
            rustix::io::ioctl_fionbio(socket, true).unwrap();
        }
        let (mut batch, mut expected) = (Batch::new(), Vec::new());
        for number in 0..2_000_u64 {
            let payload = vec![b'x'; usize::try_from(number % 1_000).unwrap()];
            FromWorker::Reply { keeps: false, reply: Payload::Bytes(&payload) }
                .put(number, &mut batch)
                .unwrap();
            if number % 100 == 0 {
                let descriptor = null();
                FromWorker::Keep { name: "n", descriptor }.put(number, &mut batch).unwrap();
                expected.push(number);
            }
            expected.push(number);
        }
        let (mut inbox, mut found, mut waits) = (Inbox::new(), Vec::new(), 0);
        while found.len() < expected.len() {
            match transport::send(&here, &mut batch) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => waits += 1,
                Err(error) => panic!("{error}"),
            }
            match transport::receive(&there, &mut inbox) {
                Ok(count) => assert!(count > 0),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            while let Some(frame) = inbox.next().unwrap() {
                found.push(frame.id);
                FromWorker::read(frame).unwrap();
            }
        }
        assert!(waits > 0 && found == expected);
        assert_eq!(batch.waiting(), 0);
    }
    assert_eq!(open(), before);
}

#[test]
fn batches_that_are_put_together_keep_their_descriptors() {
    let _alone = alone();
    let (here, there) = transport::pair().unwrap();
    let (mut all, mut more, mut inbox) = (Batch::new(), Batch::new(), Inbox::new());
    FromWorker::Pong.put(1, &mut all).unwrap();
    for number in 2..4 {
        FromWorker::Pong.put(number, &mut more).unwrap();
        FromWorker::Keep { name: "n", descriptor: null() }.put(number, &mut more).unwrap();
    }
    all.append(&mut more);
    assert!(more.is_empty());
    transport::send(&here, &mut all).unwrap();
    let mut ids = Vec::new();
    while ids.len() < 5 {
        transport::receive(&there, &mut inbox).unwrap();
        while let Some(frame) = inbox.next().unwrap() {
            ids.push(frame.id);
            FromWorker::read(frame).unwrap();
        }
    }
    assert_eq!(ids, [1, 2, 2, 3, 3]);
}

#[test]
fn a_large_payload_goes_in_a_memory_file_and_a_small_one_does_not() {
    let _alone = alone();
    let before = open();
    {
        let (here, there) = transport::pair().unwrap();
        let (mut batch, mut inbox) = (Batch::new(), Inbox::new());
        for length in [IN_FILE_FROM, IN_FILE_FROM + 1, 5 << 20] {
            let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            FromWorker::Reply { keeps: false, reply: Payload::Bytes(&sent) }
                .put(1, &mut batch)
                .unwrap();
            assert!(batch.waiting() >= length as u64);
            let sending = std::thread::scope(|threads| {
                let sending = threads.spawn(|| transport::send(&here, &mut batch));
                let reply = loop {
                    if let Some(frame) = inbox.next().unwrap() {
                        break FromWorker::read(frame).unwrap();
                    }
                    transport::receive(&there, &mut inbox).unwrap();
                };
                let FromWorker::Reply { reply, .. } = reply else { panic!("{reply:?}") };
                assert_eq!(matches!(reply, Payload::File(_)), length > IN_FILE_FROM);
                assert_eq!(reply.len(), length as u64);
                assert_eq!(*reply.into_bytes(length as u64).unwrap(), *sent);
                sending.join().unwrap()
            });
            sending.unwrap();
        }
        assert_eq!(batch.waiting(), 0);
    }
    assert_eq!(open(), before);
}

#[test]
fn a_large_report_goes_in_a_memory_file() {
    let _alone = alone();
    let reply = vec![b'1'; 100 << 10];
    let outcome = Outcome {
        kind: OutcomeKind::REPLIED,
        refusal: 0,
        plugin: "a",
        handler: "b",
        code: "",
        message: "",
        reply: &reply,
    };
    let (here, there) = transport::pair().unwrap();
    let (mut batch, mut inbox) = (Batch::new(), Inbox::new());
    batch.report(1, [outcome; 5]).unwrap();
    transport::send(&here, &mut batch).unwrap();
    transport::receive(&there, &mut inbox).unwrap();
    let frame = FromHost::read(inbox.next().unwrap().unwrap()).unwrap();
    let FromHost::Report { count, outcomes } = frame else { panic!("{frame:?}") };
    assert!(matches!(outcomes, Payload::File(_)));
    let bytes = outcomes.into_bytes(1 << 20).unwrap().into_owned();
    assert!(OutcomesBuf::new(count, bytes).unwrap().outcomes().iter().eq([outcome; 5]));
}

#[test]
fn a_memory_file_that_is_none_or_another_than_was_said_is_refused() {
    let _alone = alone();
    let before = open();
    {
        let (here, there) = transport::pair().unwrap();
        let sealed = MemoryFile::of(LETTER).unwrap();
        let mut batch = Batch::new();
        FromHost::Create(Payload::File(sealed)).put(1, &mut batch).unwrap();
        transport::send(&here, &mut batch).unwrap();
        let mut inbox = Inbox::new();
        transport::receive(&there, &mut inbox).unwrap();
        let frame = FromHost::read(inbox.next().unwrap().unwrap()).unwrap();
        let FromHost::Create(payload) = frame else { panic!("{frame:?}") };
        let error = payload.into_bytes(LETTER.len() as u64 - 1).unwrap_err();
        assert!(error.to_string().contains("may have"), "{error}");

        let refused = |descriptor: OwnedFd, length: u64| {
            let mut bytes = head(Kind::Create, 1, 1, 8);
            bytes.extend(length.to_le_bytes());
            send_raw(&here, &bytes, &[descriptor]);
            let mut inbox = Inbox::new();
            transport::receive(&there, &mut inbox).unwrap();
            let frame = FromHost::read(inbox.next().unwrap().unwrap()).unwrap();
            let FromHost::Create(payload) = frame else { panic!("{frame:?}") };
            payload.into_bytes(1 << 20).unwrap_err().to_string()
        };
        // A file that could have its reader wait, or be changed under its eyes.
        assert!(refused(io::pipe().unwrap().0.into(), 1).contains("sealed"));
        assert!(refused(memory_file(), 0).contains("sealed"));
        // One that is longer, and one that is shorter.
        for length in [4, 6] {
            let file = fs::File::from(
                rustix::fs::memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap(),
            );
            file.set_len(5).unwrap();
            let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
            rustix::fs::fcntl_add_seals(&file, seals).unwrap();
            let text = refused(file.into(), length);
            assert!(text.contains("it has 5 bytes"), "{text}");
        }
    }
    assert_eq!(open(), before);
}

#[test]
fn descriptors_that_belong_to_no_frame_are_an_error_and_closed() {
    let _alone = alone();
    let before = open();
    let after = |bytes: &[u8], count: usize| {
        let (here, there) = transport::pair().unwrap();
        let descriptors: Vec<_> = (0..count).map(|_| null()).collect();
        send_raw(&here, bytes, &descriptors);
        drop(descriptors);
        let mut inbox = Inbox::new();
        transport::receive(&there, &mut inbox).unwrap();
        loop {
            let frame = match inbox.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return None,
                Err(error) => return Some(error),
            };
            if let Err(error) = FromWorker::read(frame) {
                return Some(error);
            }
        }
    };
    let plain = head(Kind::Pong, 0, 0, 0);
    assert_eq!(after(&plain, 0), None);
    assert_eq!(after(&plain, 1), Some(ProtocolError::StrayDescriptors { count: 1 }));
    assert_eq!(after(&plain, 100), Some(ProtocolError::DescriptorsLost));
    // A frame without the one that it announces.
    let announced = head(Kind::Keep, 0, 1, 0);
    let missing = ProtocolError::DescriptorsMissing { announced: 1, found: 0 };
    assert_eq!(after(&announced, 0), Some(missing));
    // One that announces more than there can be.
    let error = after(&head(Kind::Keep, 0, 2, 0), 2);
    assert!(matches!(error, Some(ProtocolError::Descriptors { found: 2, .. })), "{error:?}");
    // One with one that has none.
    let error = after(&head(Kind::Pong, 0, 1, 0), 1);
    assert!(matches!(error, Some(ProtocolError::Descriptors { expected: 0, .. })), "{error:?}");
    // One without the one that it has.
    let mut keep = head(Kind::Keep, 0, 0, 4);
    keep.extend([0; 4]);
    let error = after(&keep, 0);
    assert!(matches!(error, Some(ProtocolError::Descriptors { expected: 1, .. })), "{error:?}");
    assert_eq!(open(), before);
}

#[test]
fn what_was_never_sent_and_never_taken_off_is_closed() {
    let _alone = alone();
    let before = open();
    {
        let (here, there) = transport::pair().unwrap();
        let mut batch = Batch::new();
        FromWorker::Keep { name: "n", descriptor: null() }.put(1, &mut batch).unwrap();
        batch.clear();
        assert_eq!(open(), before + 2);
        FromWorker::Keep { name: "n", descriptor: null() }.put(1, &mut batch).unwrap();
        transport::send(&here, &mut batch).unwrap();
        let mut inbox = Inbox::new();
        transport::receive(&there, &mut inbox).unwrap();
        // One is held by the inbox now, and never taken off.
        assert_eq!(open(), before + 3);
        assert!(there.as_raw_fd() > 0);
    }
    assert_eq!(open(), before);
}

#[test]
fn the_end_is_told_from_nothing() {
    let _alone = alone();
    let (here, there) = transport::pair().unwrap();
    drop(here);
    assert_eq!(transport::receive(&there, &mut Inbox::new()).unwrap(), 0);
    let mut batch = Batch::new();
    FromWorker::Pong.put(1, &mut batch).unwrap();
    let error = transport::send(&there, &mut batch).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(!batch.is_empty());
}
