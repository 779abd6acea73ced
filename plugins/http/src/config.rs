//! The plugin's configuration, and what it comes to.

use std::{net::SocketAddr, time::Duration};

use ksi_plugin_api::{Pattern, prelude::*};
use tokio_rustls::TlsAcceptor;

use crate::{
    access::{Access, Token},
    app::Serves,
    body::Room,
    passing::Keeps,
    server::Limits,
    streams::Streams,
    tls::{self, TlsFiles},
};

/// `[plugin.http]` in the host's configuration.
#[payload]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// An IP address and a port, of which port 0 is a free one, or `unix:` and an absolute path.
    address: String,
    /// A file with the token that clients have to bring.
    token_file: Option<String>,
    /// An environment variable of the host with it.
    token_env: Option<String>,
    /// Serves by TLS.
    tls: Option<TlsFiles>,
    /// Names by which this machine is asked at an address of its own, beside `localhost`.
    hosts: Vec<String>,
    /// Pages of other sites that may ask, as browsers name them: `https://ops.example.org`.
    origins: Vec<String>,
    /// What clients may emit: names and patterns of events.
    emit: Vec<String>,
    /// What clients may see pass: names and patterns of events.
    watch: Vec<String>,
    /// How many connections are served at once; further ones wait in the queue of the socket.
    max_connections: usize,
    /// How many clients may look on at once.
    max_streams: usize,
    /// How many different patterns they may look at.
    max_patterns: usize,
    /// How many bytes of events are kept for each of these, so that a client that was away can go
    /// on where it was.
    resume_bytes: usize,
    /// For how long, when nobody looks.
    resume_seconds: u64,
    /// How many bytes the body of a request may have.
    max_body_bytes: usize,
    /// How many bytes may wait, of all requests that are not answered.
    max_waiting_bytes: usize,
    /// How long a connection may be silent before its next request, and a request take to arrive.
    idle_seconds: u64,
    /// How long a client may leave unread what it is sent.
    write_seconds: u64,
    /// What the handlers of an event may take in all, if that is less than what they may anyway.
    request_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            address: "127.0.0.1:7573".to_owned(),
            token_file: None,
            token_env: None,
            tls: None,
            hosts: Vec::new(),
            origins: Vec::new(),
            emit: vec!["**".to_owned()],
            watch: vec!["**".to_owned()],
            max_connections: 256,
            max_streams: 128,
            max_patterns: 32,
            resume_bytes: 4 << 20,
            resume_seconds: 60,
            max_body_bytes: 1 << 20,
            max_waiting_bytes: 64 << 20,
            idle_seconds: 30,
            write_seconds: 30,
            request_seconds: 60,
        }
    }
}

/// The same, checked, as it is used.
pub(crate) struct Settings {
    pub(crate) address: String,
    pub(crate) access: Access,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) limits: Limits,
    pub(crate) serves: Serves,
}

impl Settings {
    pub(crate) fn new(config: Config) -> Result<Settings> {
        let token = Token::read(config.token_file.as_deref(), config.token_env.as_deref())?;
        let knows_clients =
            token.is_some() || config.tls.as_ref().is_some_and(TlsFiles::knows_clients);
        let is_local = is_local(&config.address);
        if !is_local && !knows_clients {
            return Err(invalid(format_args!(
                "address {:?} is reached from other machines, where every client needs a token (token_file or token_env) or \
                 a certificate (tls.client_ca), and neither is configured; write \"127.0.0.1:7573\" for this machine alone",
                config.address
            )));
        }
        if !is_local && config.tls.is_none() {
            ksi_plugin_api::tracing::warn!(
                "without [plugin.http.tls] the token goes over the network as it is: {}",
                config.address
            );
        }
        let idle = seconds("idle_seconds", config.idle_seconds)?;
        Ok(Settings {
            access: Access::new(is_local, token, config.hosts, config.origins)?,
            tls: config.tls.as_ref().map(tls::acceptor).transpose()?,
            serves: Serves {
                emit: patterns(&config.emit)?,
                watch: patterns(&config.watch)?,
                keeps: Keeps {
                    channels: at_least_1("max_patterns", config.max_patterns)?,
                    bytes: at_least_1("resume_bytes", config.resume_bytes)?,
                    time: seconds("resume_seconds", config.resume_seconds)?,
                },
                streams: Streams::new(at_least_1("max_streams", config.max_streams)? as u32),
                room: Room {
                    body_bytes: at_least_1("max_body_bytes", config.max_body_bytes)?,
                    waiting_bytes: at_least_1("max_waiting_bytes", config.max_waiting_bytes)?,
                    arrival: idle,
                },
                request_time: seconds("request_seconds", config.request_seconds)?,
            },
            limits: Limits {
                connections: at_least_1("max_connections", config.max_connections)?,
                idle,
                write: seconds("write_seconds", config.write_seconds)?,
            },
            address: config.address,
        })
    }
}

/// Whether nobody from elsewhere can connect. What is no address at all, the host says.
fn is_local(address: &str) -> bool {
    address.starts_with("unix:")
        || address.parse().is_ok_and(|it: SocketAddr| it.ip().to_canonical().is_loopback())
}

pub(crate) fn invalid(message: impl std::fmt::Display) -> Error {
    Error::new("invalid_config", message)
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>> {
    texts.iter().map(|text| Pattern::parse(text).map_err(invalid)).collect()
}

fn at_least_1(key: &str, value: usize) -> Result<usize> {
    match value {
        0 => Err(invalid(format_args!("{key} is 0: it is at least 1"))),
        // As many as a semaphore counts.
        value => Ok(value.min(u32::MAX as usize)),
    }
}

fn seconds(key: &str, value: u64) -> Result<Duration> {
    match value {
        1..=86_400 => Ok(Duration::from_secs(value)),
        _ => Err(invalid(format_args!("{key} is {value}: it is from 1 to 86400"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: Value) -> String {
        let config: Config = serde_json::from_value(config).unwrap();
        Settings::new(config).err().expect("it is refused").message().to_owned()
    }

    #[test]
    fn an_address_that_others_reach_needs_clients_that_say_who_they_are() {
        for address in ["0.0.0.0:80", "[::]:80", "192.168.1.2:80", "[::ffff:10.0.0.1]:80"] {
            let said = refused(json!({"address": address}));
            assert!(said.contains("token") && said.contains("client_ca"), "{said}");
        }
        for address in ["127.0.0.1:0", "127.1.2.3:80", "[::1]:80", "unix:/run/http.sock"] {
            let config = serde_json::from_value(json!({"address": address})).unwrap();
            assert!(Settings::new(config).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_token_is_taken_from_a_file_and_no_message_has_any_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, short) = (folder.path().join("token"), folder.path().join("short"));
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        std::fs::write(&short, "secret\n").unwrap();
        let config = json!({"address": "0.0.0.0:0", "token_file": file});
        assert!(Settings::new(serde_json::from_value(config).unwrap()).is_ok());
        let said = refused(json!({"token_file": short}));
        assert!(said.contains("short") && !said.contains("secret"), "{said}");
        let said = refused(json!({"token_file": folder.path().join("none")}));
        assert!(said.contains("none"), "{said}");
        let said = refused(json!({"token_env": "KSI_TEST_NO_SUCH_VARIABLE"}));
        assert!(said.contains("KSI_TEST_NO_SUCH_VARIABLE"), "{said}");
        assert!(refused(json!({"token_file": file, "token_env": "A"})).contains("one of them"));
    }

    #[test]
    fn figures_and_origins_that_make_no_sense_are_refused_by_their_key() {
        assert!(refused(json!({"max_connections": 0})).starts_with("max_connections"));
        assert!(refused(json!({"idle_seconds": 0})).starts_with("idle_seconds"));
        assert!(refused(json!({"origins": ["example.org"]})).contains("https://"));
        assert!(refused(json!({"origins": ["*"]})).contains("https://"));
    }
}
