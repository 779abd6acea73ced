//! The socket that clients connect to, which the host keeps over the plugin's generations.

use std::{io, pin::Pin};

use ksi_plugin_api::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

/// What a connection is made of.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One of any kind: what is done with it is compiled once.
pub(crate) type AnyStream = Pin<Box<dyn Stream>>;

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(crate) fn at(ctx: &Context, address: &str) -> Result<Self> {
        Ok(match address.strip_prefix("unix:") {
            Some(path) => {
                let listener = ctx.unix_listener(path)?;
                listener.set_nonblocking(true)?;
                Listener::Unix(UnixListener::from_std(listener)?)
            }
            None => {
                let listener = ctx.listener(address)?;
                listener.set_nonblocking(true)?;
                Listener::Tcp(TcpListener::from_std(listener)?)
            }
        })
    }

    /// Where it listens, as it is configured.
    pub(crate) fn address(&self) -> Result<String> {
        Ok(match self {
            Listener::Tcp(listener) => listener.local_addr()?.to_string(),
            Listener::Unix(listener) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().map(|path| path.display().to_string());
                format!("unix:{}", path.unwrap_or_default())
            }
        })
    }

    pub(crate) async fn accept(&self) -> io::Result<AnyStream> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // What is said in small pieces, as events are, is to arrive at once.
                stream.set_nodelay(true)?;
                Box::pin(stream)
            }
            Listener::Unix(listener) => Box::pin(listener.accept().await?.0),
        })
    }
}
