//! What reading takes of memory. One test, because it counts what the whole process does.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kit;

use std::{alloc::System, hint::black_box};

use kit::{Lists, OUTCOMES, bytes_of};
use ksi_worker_protocol::{Batch, FromHost, FromWorker, HEAD, Inbox, Kind, Outcomes, Payload};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn allocated(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let stats = region.change();
    stats.bytes_allocated + usize::try_from(stats.bytes_reallocated).unwrap_or_default()
}

#[test]
fn reading_frames_takes_no_memory_and_a_length_that_is_only_announced_neither() {
    let lists = Lists::new();
    let mut batch = Batch::new();
    batch.report(1, OUTCOMES).unwrap();
    for frame in lists.of_host().into_iter().filter(|it| !matches!(it, FromHost::Descriptor(_))) {
        frame.put(1, &mut batch).unwrap();
    }
    let of_host = bytes_of(&mut batch);
    for frame in lists.of_worker() {
        if !matches!(frame, FromWorker::Keep { .. }) {
            frame.put(1, &mut batch).unwrap();
        }
    }
    let of_worker = bytes_of(&mut batch);
    for (bytes, is_host) in [(of_host, true), (of_worker, false)] {
        let (mut inbox, mut count) = (Inbox::new(), 0);
        inbox.room()[..bytes.len()].copy_from_slice(&bytes);
        inbox.filled(bytes.len());
        let taken = allocated(|| {
            while let Some(frame) = inbox.next().unwrap() {
                count += 1;
                match is_host {
                    true => {
                        let frame = FromHost::read(frame).unwrap();
                        if let FromHost::Report { count, outcomes: Payload::Bytes(bytes) } = frame {
                            black_box(Outcomes::read(count, bytes).unwrap().iter().count());
                        }
                    }
                    false => drop(black_box(FromWorker::read(frame).unwrap())),
                }
            }
        });
        assert!(count > 15 && taken == 0, "{count} frames took {taken} bytes");
    }

    // It says that sixteen megabytes follow, and what follows is little.
    let mut inbox = Inbox::new();
    let taken = allocated(|| {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&(16_u32 << 20).to_le_bytes());
        head[4] = Kind::Reply as u8;
        inbox.room()[..HEAD].copy_from_slice(&head);
        inbox.filled(HEAD);
        assert!(inbox.next().unwrap().is_none());
        let _ = inbox.room();
    });
    assert!(taken <= 64 << 10, "{taken} bytes");

    // A number of outcomes or attributes that only a length announces.
    let taken = allocated(|| assert!(Outcomes::read(u32::MAX, &[]).is_err()));
    assert_eq!(taken, 0);
}
