//! Connections: accepted until the plugin goes, and then served to their end.
//!
//! Knows nothing of what is asked.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use crate::{
    listener::{AnyStream, Listener},
    streams::Streams,
};

/// What a request's head may have, in bytes.
const LARGEST_HEAD: usize = 64 * 1024;

/// How long a connection is kept open for its next request once the plugin goes. A client that
/// keeps its connection, and asks less often, finds it closed.
const LAST_SILENCE: Duration = Duration::from_secs(2);

/// What connections get to be served to their end, below the host's `timeouts.shutdown`, which is
/// 5 s. Then they are closed as they are.
const DRAIN: Duration = Duration::from_secs(4);

/// What clients may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// So many connections are served at once; further ones wait in the queue of the socket.
    pub(crate) connections: usize,
    /// How long a connection may be silent before its next request, and a request's head may take.
    pub(crate) idle: Duration,
    /// How long a client may leave unread what it is sent.
    pub(crate) write: Duration,
}

/// Has all that serves end.
pub(crate) struct Stop(watch::Sender<bool>);

/// For a server, and for those who are told.
pub(crate) fn stop() -> (Stop, Stopped) {
    let (stop, stopped) = watch::channel(false);
    (Stop(stop), Stopped(stopped))
}

/// Tells whoever serves that the plugin goes.
#[derive(Clone)]
pub(crate) struct Stopped(watch::Receiver<bool>);

impl Stopped {
    pub(crate) fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) async fn stopped(&mut self) {
        // Whoever stops is there until all is over.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

pub(crate) struct Server {
    stop: Stop,
    serving: JoinHandle<()>,
}

impl Server {
    /// Serves on the runtime that it is called in.
    pub(crate) fn start(
        listener: Listener,
        tls: Option<TlsAcceptor>,
        limits: Limits,
        streams: Streams,
        routes: Router,
        (stop, stopped): (Stop, Stopped),
    ) -> Self {
        let routes = TowerToHyperService::new(routes);
        let serving = tokio::spawn(serve(
            listener,
            Arc::new(Serving { tls, limits, streams, routes, stopped }),
        ));
        Server { stop, serving }
    }

    /// Accepts nothing more, and returns when all that was accepted is answered.
    pub(crate) async fn stop(self) {
        self.stop.0.send_replace(true);
        if let Err(error) = self.serving.await {
            ksi_plugin_api::tracing::error!("the server has ended before: {error}");
        }
    }
}

/// What every connection is served with.
struct Serving {
    tls: Option<TlsAcceptor>,
    limits: Limits,
    /// Those that are no connections of HTTP any more.
    streams: Streams,
    routes: TowerToHyperService<Router>,
    stopped: Stopped,
}

async fn serve(listener: Listener, serving: Arc<Serving>) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(serving.limits.connections));
    let mut stopped = serving.stopped.clone();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = stopped.stopped() => break,
            next = next => next,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok(stream) => {
                let serving = serving.clone();
                connections.spawn(async move {
                    // A client that goes, or breaks the protocol, is no failure of the server.
                    let _ = serving.serve_one(stream).await;
                    drop(place);
                });
            }
            // Out of descriptors, or the client has gone: the next one may do better.
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
    // Whoever waits in the queue of the socket is accepted by the next generation.
    drop(listener);
    let ended = async {
        connections.join_all().await;
        serving.streams.ended().await;
    };
    let _ = timeout(DRAIN, ended).await;
}

impl Serving {
    async fn serve_one(&self, stream: AnyStream) -> io::Result<()> {
        let mut timed = TimeoutStream::new(stream);
        timed.set_write_timeout(Some(self.limits.write));
        let mut stream: AnyStream = Box::pin(Box::pin(timed));
        if let Some(tls) = &self.tls {
            stream = Box::pin(timeout(self.limits.idle, tls.accept(stream)).await??);
        }
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.limits.idle);
        http.max_buf_size(LARGEST_HEAD);
        let connection =
            http.serve_connection(TokioIo::new(stream), self.routes.clone()).with_upgrades();
        let mut connection = pin!(connection);
        let mut stopped = self.stopped.clone();
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            () = stopped.stopped() => {}
        }
        // No `graceful_shutdown` yet: it closes a connection at once that is not being asked
        // anything, and the next request may be on its way.
        if timeout(LAST_SILENCE, connection.as_mut()).await.is_err() {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
        Ok(())
    }
}
