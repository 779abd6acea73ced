//! A plugin for ksi that listens: a line in, a line out. The host keeps its socket, so that no
//! client is turned away while the plugin is replaced.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ksi_plugin_api::prelude::*;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// What clients that are connected get to end by themselves when the plugin goes; below the host's
/// `timeouts.shutdown`.
const DRAIN: Duration = Duration::from_secs(4);
/// The longest line that is read, in bytes.
const LINE: u64 = 8 << 10;

/// `[plugin.greeter]` in the host's configuration.
#[payload]
struct Config {
    #[serde(default = "any_port")]
    address: String,
}

fn any_port() -> String {
    "127.0.0.1:0".to_owned()
}

/// Asks where it listens.
#[event("greeter:address")]
struct Address {}

/// A client has said something.
#[event("greeter:said")]
struct Said {
    line: String,
}

struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: Mutex<Option<JoinHandle<()>>>,
}

#[plugin(runtime, emits(Said))]
impl Server {
    #[initialize]
    async fn initialize(ctx: &Context, config: Config) -> Result<Self> {
        let listener = ctx.listener(&config.address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, ctx.clone(), stopped));
        Ok(Server { address, stop, serving: Mutex::new(Some(serving)) })
    }

    /// Where it listens.
    #[event_handler]
    async fn address(&self, _: &Context, _: Address) -> Result<String> {
        Ok(self.address.to_string())
    }

    /// Accepts nobody more, and ends each connection behind the answer that it is about.
    #[event_handler("module:shutdown")]
    async fn shutdown(&self, _: &Context, _: Value) -> Result<()> {
        self.stop.send_replace(true);
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        match serving {
            Some(serving) => serving.await.map_err(|error| Error::new("serve", error)),
            None => Ok(()),
        }
    }
}

async fn serve(listener: TcpListener, ctx: Context, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => drop(connections.spawn(talk(stream, ctx.clone(), stopped.clone()))),
            // Out of descriptors, or the client has gone: the next one may do better.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    // Whoever waits in the queue of the socket is accepted by the next generation.
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, connections.join_all()).await;
}

/// Answers a client line by line, until it goes or the plugin does.
async fn talk(mut stream: TcpStream, ctx: Context, mut stopped: watch::Receiver<bool>) {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let (mut line, mut limited) = (String::new(), (&mut reader).take(LINE));
        let read = tokio::select! {
            biased;
            read = limited.read_line(&mut line) => read,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        // Without its end, the client has gone, or the line is too long.
        let (Ok(_), Some(said)) = (read, line.strip_suffix('\n')) else { break };
        let answer = format!("Hello, {said}!\n");
        ctx.emit(&Said { line: said.to_owned() }).await;
        if writer.write_all(answer.as_bytes()).await.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpStream,
    };

    use ksi_harness::Harness;

    use super::*;

    #[test]
    fn it_answers_line_by_line_and_tells_what_was_said() {
        let plugin = Harness::with_config::<Server>(json!({})).unwrap();
        let address: String = plugin.request(Address {}).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"Ada\n").unwrap();
        let mut answer = String::new();
        let mut reader = BufReader::new(&stream);
        plugin.meanwhile(|| reader.read_line(&mut answer)).unwrap();
        assert_eq!(answer, "Hello, Ada!\n");
        assert_eq!(plugin.wait_emitted(Said::NAME), json!({"line": "Ada"}));
    }
}
