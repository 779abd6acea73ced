//! Connections: accepted until the plugin goes, and then served to their end.
//!
//! Knows nothing of what is asked.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use hyper::{
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::gateway::Gateway;

/// So many connections are served at once; further ones wait in the queue of the socket.
const CONNECTIONS: usize = 1_024;

/// How long a connection may be silent before its next request, and a request's head may take.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a connection is kept open for its next request once the plugin goes. A client that
/// keeps its connection, and asks less often, finds it closed.
const LAST_SILENCE: Duration = Duration::from_secs(2);

/// What connections get to be served to their end, below the host's `timeouts.shutdown`, which is
/// 5 s. Then they are closed as they are.
const DRAIN: Duration = Duration::from_secs(4);

pub(crate) struct Server {
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Server {
    /// Serves on the runtime that it is called in.
    pub(crate) fn start(listener: TcpListener, gateway: Gateway) -> Self {
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, Arc::new(gateway), stopped));
        Server { stop, serving }
    }

    /// Accepts nothing more, and returns when all that was accepted is answered.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.serving.await {
            ksi_plugin_api::tracing::error!("the server has ended before: {error}");
        }
    }
}

async fn serve(listener: TcpListener, gateway: Arc<Gateway>, mut stopped: watch::Receiver<bool>) {
    let (mut connections, places) = (JoinSet::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            next = next => next,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (gateway, stopped) = (gateway.clone(), stopped.clone());
                connections.spawn(async move {
                    serve_one(stream, &gateway, stopped).await;
                    drop(place);
                });
            }
            // Out of descriptors, or the client has gone: the next one may do better.
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
    // Whoever waits in the queue of the socket is accepted by the next generation.
    drop(listener);
    let _ = timeout(DRAIN, connections.join_all()).await;
}

async fn serve_one(stream: TcpStream, gateway: &Gateway, mut stopped: watch::Receiver<bool>) {
    let goes = stopped.clone();
    let service = service_fn(|request| async {
        let mut response = gateway.answer(request).await;
        if *goes.borrow() {
            // Behind this answer, so that the client knows it before it asks the next one: over
            // another connection, which the next generation accepts.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(response)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // A client that goes, or breaks the protocol, is no failure of the server.
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    // No `graceful_shutdown` yet: it closes a connection at once that is not being asked anything,
    // and the next request may be on its way.
    if timeout(LAST_SILENCE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}
