//! Frames there and back, and whatever else may come in.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kit;

use kit::{LETTER, Lists, OUTCOMES, bytes_of, kept, null, take, told};
use ksi_worker_protocol::{
    Batch, FRAME_LIMIT, FromHost, FromWorker, HEAD, Inbox, Kind, Outcomes, OutcomesBuf, Payload,
    ProtocolError, VERSION, Version,
    life::{Hello, Limits, Open, Stats},
    transport,
};

/// A small one, whose memory is cheap to have.
const LIMIT: u32 = 1 << 10;

/// The bytes of each frame, with whether a descriptor comes along.
fn all() -> Vec<(Vec<u8>, bool)> {
    let (lists, mut all) = (Lists::new(), Vec::new());
    let mut add = |put: &mut dyn FnMut(&mut Batch)| {
        let mut batch = Batch::new();
        put(&mut batch);
        let bytes = bytes_of(&mut batch);
        let along = bytes[6] == 1;
        all.push((bytes, along));
    };
    for frame in lists.of_host() {
        let mut frame = Some(frame);
        add(&mut |batch| frame.take().unwrap().put(77, batch).unwrap());
    }
    for frame in lists.of_worker() {
        let mut frame = Some(frame);
        add(&mut |batch| frame.take().unwrap().put(77, batch).unwrap());
    }
    all
}

#[test]
fn each_frame_comes_as_it_went() {
    let (lists, mut kinds) = (Lists::new(), Vec::new());
    let (here, there) = transport::pair().unwrap();
    let (mut batch, mut inbox) = (Batch::new(), Inbox::new());
    macro_rules! there_and_back {
        ($frames:expr, $side:ident) => {
            for (id, frame) in (u64::MAX - 100..).zip($frames) {
                let sent = told(&frame);
                frame.put(id, &mut batch).unwrap();
                transport::send(&here, &mut batch).unwrap();
                assert!(batch.is_empty() && batch.waiting() == 0);
                transport::receive(&there, &mut inbox).unwrap();
                let frame = inbox.next().unwrap().expect("all of it");
                kinds.extend(frame.kind());
                assert_eq!(frame.id, id);
                assert_eq!(told(&$side::read(frame).unwrap()), sent);
                assert!(inbox.next().unwrap().is_none());
            }
        };
    }
    there_and_back!(lists.of_host(), FromHost);
    there_and_back!(lists.of_worker(), FromWorker);
    let missing: Vec<_> = Kind::ALL.iter().filter(|it| !kinds.contains(it)).collect();
    assert!(missing.is_empty(), "no sample of {missing:?}");
}

#[test]
fn a_batch_cut_anywhere_gives_the_same_frames() {
    let (lists, mut batch) = (Lists::new(), Batch::new());
    for frame in lists.of_worker() {
        if !matches!(frame, FromWorker::Keep { .. }) {
            frame.put(3, &mut batch).unwrap();
        }
    }
    let bytes = bytes_of(&mut batch);
    let read = |cut: usize| {
        let (mut inbox, mut all) = (Inbox::new(), Vec::new());
        for part in bytes.chunks(cut) {
            inbox.room()[..part.len()].copy_from_slice(part);
            inbox.filled(part.len());
            while let Some(frame) = inbox.next().unwrap() {
                all.push(told(&FromWorker::read(frame).unwrap()));
            }
        }
        all
    };
    let whole = read(bytes.len());
    assert_eq!(whole.len(), lists.of_worker().len() - 1);
    for cut in [1, 2, 3, 15, 16, 17, 100] {
        assert_eq!(read(cut), whole, "{cut} bytes at a time");
    }
}

#[test]
fn a_frame_that_is_cut_short_is_none_and_one_with_a_short_body_is_an_error() {
    for (bytes, along) in all() {
        for end in 0..bytes.len() {
            let mut inbox = Inbox::with_limit(LIMIT);
            if along {
                inbox.came_along(null());
            }
            inbox.room()[..end].copy_from_slice(&bytes[..end]);
            inbox.filled(end);
            match inbox.next() {
                Ok(None) => assert!(end > 0 || !along),
                Err(ProtocolError::StrayDescriptors { .. }) => assert!(end == 0 && along),
                other => panic!("{end} bytes of {}: {other:?}", bytes.len()),
            }
        }
        // A head that says so.
        for end in HEAD..bytes.len() {
            let mut short = bytes[..end].to_vec();
            short[..4].copy_from_slice(&u32::try_from(end - HEAD).unwrap().to_le_bytes());
            let mut inbox = Inbox::with_limit(LIMIT);
            inbox.room()[..end].copy_from_slice(&short);
            inbox.filled(end);
            if along {
                inbox.came_along(null());
            }
            let kind = Kind::of(short[4]).unwrap();
            let frame = inbox.next().unwrap().unwrap();
            let error = match kind as u8 {
                1 | 3 | 5 | 8 | 17..=21 | 32 | 35..=37 | 39 | 41..=44 | 48..=51 | 81 | 82 => {
                    FromWorker::read(frame).err()
                }
                _ => FromHost::read(frame).err(),
            };
            // What a payload is cut at is nothing that the frame knows.
            if let Some(error) = error {
                assert!(matches!(error, ProtocolError::Truncated { .. }), "{error}");
            }
        }
    }
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

/// Has both sides read it; whatever comes, no more is reserved than a frame may have.
fn try_out(bytes: &[u8], along: bool, count: &mut [usize; 2]) {
    let mut inbox = Inbox::with_limit(LIMIT);
    if along {
        inbox.came_along(null());
    }
    let mut outcome = |good: bool| count[usize::from(good)] += 1;
    let taken = take(&mut inbox, bytes, |host, worker| {
        for error in [host.as_ref().err(), worker.as_ref().err()].into_iter().flatten() {
            assert!(!error.to_string().is_empty());
        }
        if let Ok(FromHost::Report { count, outcomes }) = &host
            && let Payload::Bytes(bytes) = outcomes
            && let Ok(outcomes) = Outcomes::read(*count, bytes)
        {
            assert_eq!(outcomes.iter().count(), outcomes.len());
        }
        for payload in
            [host.ok().and_then(payload_of_host), worker.ok().and_then(payload_of_worker)]
        {
            let Some(payload) = payload else { continue };
            let _ = payload.into_bytes(u64::from(LIMIT)).map(|json| {
                let _ = (Hello::read(&json), Open::read(&json), Stats::read(&json));
            });
            outcome(true);
        }
    });
    if taken.is_err() {
        outcome(false);
    }
    assert!(inbox.capacity() <= HEAD + LIMIT as usize);
}

fn payload_of_host(frame: FromHost<'_>) -> Option<Payload<'_>> {
    match frame {
        FromHost::Open(payload) | FromHost::Create(payload) => Some(payload),
        FromHost::Call(call) => {
            let attributes = call.event.attributes;
            assert_eq!(attributes.iter().count(), attributes.len());
            Some(call.event.payload)
        }
        FromHost::Restore(restore) | FromHost::ReadBack(restore) => Some(restore.state),
        _ => None,
    }
}

fn payload_of_worker(frame: FromWorker<'_>) -> Option<Payload<'_>> {
    match frame {
        FromWorker::Hello(payload) | FromWorker::Opened(payload) | FromWorker::Stats(payload) => {
            Some(payload)
        }
        FromWorker::Reply { reply, .. } => Some(reply),
        FromWorker::Failed { message, .. } | FromWorker::Panicked { message, .. } => Some(message),
        FromWorker::Emit(emit) => Some(emit.payload),
        FromWorker::Watch(watch) => {
            assert_eq!(watch.patterns.iter().count(), watch.patterns.len());
            None
        }
        _ => None,
    }
}

#[test]
fn every_frame_with_one_byte_changed_is_a_frame_or_an_error() {
    let mut count = [0; 2];
    for (bytes, along) in all() {
        for at in 0..bytes.len() {
            let byte = bytes[at];
            let flips = (0..8).map(|bit| byte ^ (1 << bit));
            let others = [0, 1, 0x7f, 0x80, 0xff, byte.wrapping_add(1), byte.wrapping_sub(1)];
            for changed in flips.chain(others) {
                let mut bytes = bytes.clone();
                bytes[at] = changed;
                try_out(&bytes, along, &mut count);
            }
        }
    }
    assert!(count.iter().all(|it| *it > 1_000), "{count:?}");
}

#[test]
fn frames_changed_in_many_places_are_frames_or_errors() {
    let (all, mut numbers, mut count) = (all(), Numbers(0x5eed), [0; 2]);
    for _ in 0..8_000 {
        let mut bytes: Vec<u8> = Vec::new();
        let mut along = false;
        for _ in 0..=numbers.below(2) {
            let (frame, with) = &all[numbers.below(all.len())];
            along |= with;
            bytes.extend(frame);
        }
        for _ in 0..=numbers.below(6) {
            let at = numbers.below(bytes.len());
            match numbers.below(4) {
                0 => bytes[at] = numbers.next().to_le_bytes()[0],
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, numbers.next().to_le_bytes()[0]),
                _ => {
                    let end = (at + 4).min(bytes.len());
                    let number = [0, 1, u32::MAX, 1 << 31, LIMIT][numbers.below(5)].to_le_bytes();
                    bytes[at..end].copy_from_slice(&number[..end - at]);
                }
            }
        }
        try_out(&bytes, along, &mut count);
    }
    assert!(count.iter().all(|it| *it > 300), "{count:?}");
}

#[test]
fn any_bytes_are_frames_or_an_error() {
    let (mut numbers, mut count) = (Numbers(0xb17e5), [0; 2]);
    for _ in 0..8_000 {
        let length = numbers.below(200);
        let mut bytes: Vec<u8> = (0..length).map(|_| numbers.next().to_le_bytes()[0]).collect();
        // Every second one has a head that may be one.
        if bytes.len() >= HEAD && numbers.below(2) == 0 {
            let body = u32::try_from(bytes.len() - HEAD).unwrap();
            bytes[..4].copy_from_slice(&body.to_le_bytes());
            bytes[4] = Kind::ALL[numbers.below(Kind::ALL.len())] as u8;
            bytes[5] &= 7;
            bytes[6..8].fill(0);
        }
        try_out(&bytes, numbers.below(8) == 0, &mut count);
    }
    assert!(count.iter().all(|it| *it > 100), "{count:?}");
}

#[test]
fn a_length_beyond_the_limit_is_refused_with_its_head_alone() {
    let mut head = [0; HEAD];
    head[4] = Kind::Call as u8;
    for (length, shown) in [(u32::MAX, "4294967295"), (FRAME_LIMIT + 1, "16777217")] {
        head[..4].copy_from_slice(&length.to_le_bytes());
        let mut inbox = Inbox::new();
        let error = take(&mut inbox, &head, |_, _| panic!("it is a frame")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("CALL") && text.contains(shown), "{text}");
        assert!(inbox.capacity() <= 64 << 10);
    }
}

#[test]
fn a_kind_that_nobody_sends_there_is_named_with_whoever_sent_it() {
    let of = |kind: u8| {
        let mut bytes = [0; HEAD];
        bytes[4] = kind;
        let mut texts = Vec::new();
        take(&mut Inbox::new(), &bytes, |host, worker| {
            texts.push([
                told(&host.map_err(|it| it.to_string())),
                told(&worker.map_err(|it| it.to_string())),
            ]);
        })
        .unwrap();
        // What a host is taken to have sent, and what a worker is.
        [texts[0][0].clone(), texts[1][1].clone()]
    };
    let unknown = of(200);
    assert_eq!(unknown[0], r#"Err("a host sends no frames of kind 200")"#);
    assert_eq!(unknown[1], r#"Err("a worker sends no frames of kind 200")"#);
    assert_eq!(of(Kind::Pong as u8), [r#"Err("a host sends no frames of kind 81")"#, "Ok(Pong)"]);
    assert_eq!(of(Kind::Ping as u8), ["Ok(Ping)", r#"Err("a worker sends no frames of kind 80")"#]);
}

#[test]
fn flags_and_bytes_that_a_frame_does_not_have_are_errors() {
    let read = |kind: Kind, flags: u8, body: &[u8]| {
        let mut bytes = vec![0; HEAD];
        bytes[0] = u8::try_from(body.len()).unwrap();
        (bytes[4], bytes[5]) = (kind as u8, flags);
        bytes.extend(body);
        let mut found = None;
        take(&mut Inbox::new(), &bytes, |_, worker| found = Some(worker.map(|it| told(&it))))
            .unwrap();
        found.unwrap().unwrap_err()
    };
    assert!(matches!(read(Kind::Pong, 2, b""), ProtocolError::Flags { flags: 2, .. }));
    assert!(matches!(read(Kind::Reply, 8, b""), ProtocolError::Flags { flags: 8, .. }));
    assert!(matches!(read(Kind::Pong, 0, b"x"), ProtocolError::Overlong { left: 1, .. }));
    let text = read(Kind::Listen, 0, b"\x01\0\0\0\xff").to_string();
    assert_eq!(text, "the address of a frame LISTEN is no UTF-8");
}

#[test]
fn the_outcomes_of_a_report_are_read_as_they_were_written() {
    let mut batch = Batch::new();
    batch.report(5, OUTCOMES).unwrap();
    let (mut inbox, bytes) = (Inbox::new(), bytes_of(&mut batch));
    inbox.room()[..bytes.len()].copy_from_slice(&bytes);
    inbox.filled(bytes.len());
    let frame = FromHost::read(inbox.next().unwrap().unwrap()).unwrap();
    let FromHost::Report { count, outcomes } = frame else { panic!("{frame:?}") };
    let outcomes = outcomes.into_bytes(1 << 20).unwrap();
    let outcomes = OutcomesBuf::new(count, outcomes.into_owned()).unwrap();
    assert!(outcomes.outcomes().iter().eq(OUTCOMES));
    assert!(kept(&OUTCOMES).outcomes().iter().eq(OUTCOMES));
    // More, and fewer, than there are.
    assert!(OutcomesBuf::new(u32::MAX, Vec::new()).is_err());
    assert!(Outcomes::read(0, LETTER).is_err());
}

#[test]
fn a_frame_that_is_too_long_is_not_written_and_those_before_it_are() {
    let (mut batch, large) = (Batch::with_limit(300 << 10), "x".repeat(400 << 10));
    FromWorker::Pong.put(1, &mut batch).unwrap();
    let error = FromWorker::Listen { address: &large }.put(2, &mut batch).unwrap_err();
    assert!(error.to_string().contains("LISTEN"), "{error}");
    FromWorker::Pong.put(3, &mut batch).unwrap();
    assert_eq!(bytes_of(&mut batch).len(), 2 * HEAD);
}

#[test]
fn another_major_version_is_refused_with_both_numbers_and_another_minor_one_is_not() {
    let newer = Version { minor: VERSION.minor + 3, ..VERSION };
    let hello = Hello { protocol: newer, pid: 7, features: vec!["new".to_owned()] };
    assert_eq!(Hello::read(&hello.to_json()).unwrap(), hello);
    // Whatever else one of another version says.
    let other = br#"{"protocol": {"major": 2, "minor": 1, "x": 0}, "pid": "seven"}"#;
    let text = Hello::read(other).unwrap_err().to_string();
    assert!(text.contains("1.1") && text.contains("2.1"), "{text}");
}

#[test]
fn what_an_older_side_leaves_out_is_as_by_default() {
    let json = br#"{"protocol": {"major": 1, "minor": 0}, "plugin": "a", "path": [47], "new": 1}"#;
    let open = Open::read(json).unwrap();
    assert_eq!((open.plugin.as_str(), &open.limits), ("a", &Limits::default()));
    assert_eq!(Open::read(&open.to_json()).unwrap(), open);
    let error = Open::read(b"{}").unwrap_err().to_string();
    assert!(error.contains("OPEN") && error.contains("protocol"), "{error}");
    assert_eq!(Stats::read(b"{\"memory\": 1}").unwrap().memory, 1);
}
