//! `ksi stop`: asks the host to stop, and waits until it has let go of its socket.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::Common;
use super::client::{Client, ClientError, PATIENT};
use super::exit::Failure;

pub(crate) fn stop(common: &Common) -> Result<(), Failure> {
    let mut client = common.client()?;
    match client.ask::<Value>("system:shutdown_request", &json!({}), PATIENT) {
        // A host that went down before its answer was written has done what was asked.
        Ok(_) | Err(Failure::Client(ClientError::HungUp { .. })) => (),
        Err(failure) => return Err(failure),
    }
    let deadline = Instant::now() + PATIENT;
    until_closed(&mut client, deadline)?;
    until_gone(client.path(), deadline)
}

/// The host ends its connections when its plugins are down.
fn until_closed(client: &mut Client, deadline: Instant) -> Result<(), ClientError> {
    while client.next_push(Some(deadline))?.is_some() {}
    Ok(())
}

/// Nothing tells of a listener's end but that nobody listens any more; it follows the connections' end at once.
fn until_gone(path: &Path, deadline: Instant) -> Result<(), Failure> {
    while UnixStream::connect(path).is_ok() {
        if Instant::now() >= deadline {
            let path = path.to_owned();
            return Err(ClientError::TimedOut { path, after: PATIENT }.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
