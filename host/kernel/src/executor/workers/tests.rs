use std::{
    io::Write,
    sync::{atomic::Ordering, mpsc},
    thread,
};

use tokio::io::AsyncReadExt;

use super::*;
use crate::executor::{slot, watchdog};

fn block_on<T: Send + 'static>(
    workers: &Workers,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    workers
        .spawn(async move {
            let _ = sender.send(future.await);
        })
        .detach();
    receiver.recv_timeout(Duration::from_secs(20)).expect("the task ends")
}

#[tokio::test]
async fn what_a_thread_that_is_to_leave_has_not_returned_from_is_told_until_it_returns() {
    let workers = Workers::start(1, 1).unwrap();
    let (release, stuck) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    let blocked = workers.spawn(async move {
        slot::polling(7, slot::EventNumbers { number: 42, root: 42 }, None, &mut false, || {
            let _ = entered.send(());
            let _ = stuck.recv();
        });
    });
    inside.recv_timeout(Duration::from_secs(20)).expect("it is stuck");
    let set = workers.exchange().unwrap();
    let call = Unreturned { thread: "ksi-dispatch", handler: 7, event: 42 };
    assert_eq!(workers.unreturned(set), [call]);
    drop(release);
    blocked.await;
    workers.joined(set).await;
    assert_eq!(workers.unreturned(set), []);
}

#[tokio::test]
async fn an_exchange_that_fails_counts_for_nothing_and_leaves_the_threads_at_work() {
    let workers = Workers::start(2, 2).unwrap();
    let before: Vec<_> = workers.slots().iter().map(Arc::as_ptr).collect();
    let set = workers.current_set();
    // The first of the new threads is started, the second one is not.
    workers.calls.refused_from.store(1, Ordering::Relaxed);
    workers.exchange().unwrap_err();
    assert_eq!((workers.current_set(), workers.leaving()), (set, 0));
    assert_eq!(workers.slots().iter().map(Arc::as_ptr).collect::<Vec<_>>(), before);
    assert_eq!(workers.spawn(async { 7 }).await, 7);
    workers.calls.refused_from.store(usize::MAX, Ordering::Relaxed);
    assert_eq!(workers.exchange().unwrap(), set);
    workers.joined(set).await;
    assert_eq!(workers.spawn(async { 8 }).await, 8);
}

#[tokio::test]
async fn old_threads_end_at_an_exchange_and_the_new_ones_go_on() {
    let workers = Workers::start(2, 2).unwrap();
    for _ in 0..50 {
        let before = workers.spawn(async { thread::current().id() }).await;
        let set = workers.exchange().unwrap();
        workers.joined(set).await;
        let after = workers.spawn(async { thread::current().id() }).await;
        assert_ne!(before, after);
    }
    assert_eq!(workers.leaving(), 0);
}

/// A task that passes on what comes out of a pipe, and the pipe.
fn piped(workers: &Workers) -> (std::io::PipeWriter, mpsc::Receiver<u8>) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut reader = {
        let _inside = workers.io().enter();
        tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).unwrap()
    };
    let (sender, received) = mpsc::channel();
    let pass_on = async move {
        while let Ok(byte) = reader.read_u8().await {
            let _ = sender.send(byte);
        }
    };
    workers.spawn(pass_on).detach();
    (writer, received)
}

#[tokio::test]
async fn io_goes_on_whichever_thread_is_exchanged_or_at_work() {
    let workers = Workers::start(2, 2).unwrap();
    let (mut pipe, received) = piped(&workers);
    for round in 0..50 {
        let set = workers.exchange().unwrap();
        if round % 2 == 0 {
            workers.joined(set).await;
        }
        pipe.write_all(&[round]).unwrap();
        assert_eq!(received.recv_timeout(Duration::from_secs(20)), Ok(round));
    }
    // Never idle: they look at I/O in between.
    let busy = |_| {
        workers.spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        })
    };
    let _busy: Vec<Task<()>> = (0..4).map(busy).collect();
    while workers.calls.lock().idle() > 0 {
        thread::yield_now();
    }
    pipe.write_all(&[99]).unwrap();
    assert_eq!(received.recv_timeout(Duration::from_secs(20)), Ok(99));
}

#[test]
fn io_that_a_stuck_thread_has_left_is_waited_for_when_the_watchdog_looks() {
    let workers = Arc::new(Workers::start(2, 2).unwrap());
    let long = Duration::from_secs(60);
    watchdog::start(&workers, long, 8, Box::new(|_| None), |_| ()).unwrap();
    let (mut pipe, received) = piped(&workers);
    let (release, stuck) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    let (reader, mut stuck_pipe) = std::io::pipe().unwrap();
    let _inside = workers.io().enter();
    let mut reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).unwrap();
    let blocks = async move {
        let _ = reader.read_u8().await;
        let _ = entered.send(());
        let _ = stuck.recv();
    };
    workers.spawn(blocks).detach();
    while !workers.is_idle() {
        thread::yield_now();
    }
    stuck_pipe.write_all(&[1]).unwrap();
    inside.recv_timeout(Duration::from_secs(20)).expect("it is stuck");
    pipe.write_all(&[2]).unwrap();
    assert_eq!(received.recv_timeout(Duration::from_secs(20)), Ok(2));
    drop(release);
}

#[test]
fn io_is_looked_after_when_exactly_every_thread_is_stuck_and_no_task_waits() {
    const THREADS: usize = 2;
    let workers = Arc::new(Workers::start(THREADS, 2).unwrap());
    let long = Duration::from_secs(60);
    watchdog::start(&workers, long, 8, Box::new(|_| None), |_| ()).unwrap();
    let (mut pipe, received) = piped(&workers);
    pipe.write_all(&[1]).unwrap();
    assert_eq!(received.recv_timeout(Duration::from_secs(20)), Ok(1));
    // From here on its task waits for I/O, so that only I/O makes it ready.
    while !workers.is_idle() {
        thread::yield_now();
    }
    let (entered, inside) = mpsc::channel();
    let stuck: Vec<_> = (0..THREADS)
        .map(|_| {
            let (release, stuck) = mpsc::channel::<()>();
            let entered = entered.clone();
            let blocks = async move {
                let _ = entered.send(());
                let _ = stuck.recv();
            };
            workers.spawn(blocks).detach();
            inside.recv_timeout(Duration::from_secs(20)).expect("it is stuck");
            release
        })
        .collect();
    pipe.write_all(&[2]).unwrap();
    assert_eq!(received.recv_timeout(Duration::from_secs(20)), Ok(2));
    drop(stuck);
}

#[tokio::test]
async fn when_every_thread_is_stuck_an_exchange_lets_the_others_go_on() {
    let workers = Workers::start(2, 2).unwrap();
    let (release, stuck) = mpsc::channel::<()>();
    let stuck = Arc::new(Lock::new(stuck));
    let (entered, both) = mpsc::channel();
    for _ in 0..2 {
        let (stuck, entered) = (stuck.clone(), entered.clone());
        workers
            .spawn(async move {
                let _ = entered.send(());
                let _ = stuck.lock().recv();
            })
            .detach();
    }
    both.recv().unwrap();
    let waiting = workers.spawn(async { 7 });
    let set = workers.exchange().unwrap();
    assert_eq!(waiting.await, 7);
    assert_eq!(workers.leaving(), 1);
    drop(release);
    workers.joined(set).await;
    assert_eq!(workers.leaving(), 0);
}

#[test]
fn blocking_handlers_get_threads_up_to_the_limit() {
    let workers = Workers::start(1, 3).unwrap();
    let barrier = Arc::new(std::sync::Barrier::new(3));
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let barrier = barrier.clone();
            workers.spawn_blocking(async move { barrier.wait().is_leader() })
        })
        .collect();
    let leaders = block_on(&workers, async move {
        let mut leaders = 0;
        for task in tasks {
            leaders += usize::from(task.await);
        }
        leaders
    });
    assert_eq!(leaders, 1);
}

#[tokio::test]
async fn blocking_handlers_that_never_end_keep_no_plugin_from_beginning_or_ending() {
    let workers = Workers::start(1, 1).unwrap();
    let (release, stuck) = mpsc::channel::<()>();
    let blocked = workers.spawn_blocking(async move {
        let _ = stuck.recv();
    });
    assert_eq!(workers.spawn_life_cycle(async { 7 }).await, 7);
    drop(release);
    blocked.await;
}
