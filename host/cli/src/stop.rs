//! `ksi stop`: asks the host to stop, waits until it has let go of its socket, and tells what it
//! could not keep.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use ksi_wire::line::Push;
use ksi_wire::module::announced::{Announced, STATE_NOT_KEPT};
use ksi_wire::monitor::{Subscribe, Subscribed};
use ksi_wire::system::{Health, Shutdown};
use serde_json::json;

use super::args::Common;
use super::client::{Client, ClientError, PATIENT, SOON};
use super::exit::CommandFailure;
use super::progress::Progress;

pub(crate) fn stop(common: &Common) -> Result<(), CommandFailure> {
    let mut client = common.client()?;
    let mut unkept = unkept_so_far(&mut client);
    let socket_stays = match client.ask::<Shutdown>("system:shutdown_request", &json!({}), PATIENT)
    {
        Ok(answer) => answer.socket_stays,
        // A host that went down before its answer was written has done what was asked.
        Err(ClientError::HungUp { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let _told = Progress::of("waiting for the host to stop");
    let deadline = Instant::now() + PATIENT;
    until_closed(&mut client, &mut unkept, deadline)?;
    // Whoever else listens on the socket would take a connection for a reason to start the host
    // again.
    if !socket_stays {
        until_gone(client.path(), deadline)?;
    }
    match unkept.is_empty() {
        true => Ok(()),
        false => Err(CommandFailure::StateNotKept(unkept.into_iter().collect())),
    }
}

/// Plugins whose last state is lost, with the reasons.
type Unkept = BTreeMap<String, String>;

/// Those that are gone already; the host is asked to tell of others. One that does neither is
/// stopped all the same.
fn unkept_so_far(client: &mut Client) -> Unkept {
    let question = Subscribe {
        client_id: format!("ksi-stop-{}", std::process::id()),
        event_patterns: vec![STATE_NOT_KEPT.to_owned()],
    };
    // What it says to that is of no interest, only what it pushes later.
    let _ = client.ask::<Subscribed>("monitor:subscribe", &question, SOON);
    let health: Health = client.ask("system:health", &json!({}), SOON).unwrap_or_default();
    let gone = health.state_not_kept.into_iter().filter(|told| !told.live);
    gone.map(|told| (told.name, told.reason)).collect()
}

/// The host ends its connections when its plugins are down.
fn until_closed(
    client: &mut Client,
    unkept: &mut Unkept,
    deadline: Instant,
) -> Result<(), ClientError> {
    while let Some(push) = client.next_push(Some(deadline))? {
        unkept.extend(last_state_of(&push));
    }
    Ok(())
}

/// The plugin whose last state is lost, if that is what was pushed.
fn last_state_of(push: &str) -> Option<(String, String)> {
    let push: Push<'_> = serde_json::from_str(push).ok()?;
    push.event.as_deref().filter(|event| *event == STATE_NOT_KEPT)?;
    let told: Announced = serde_json::from_str(push.data?.get()).ok()?;
    told.last.unwrap_or_default().then_some((told.name.unwrap_or_default(), told.reason))
}

/// Nothing tells of a listener's end but that nobody listens any more; it follows the connections'
/// end at once.
fn until_gone(path: &Path, deadline: Instant) -> Result<(), CommandFailure> {
    while UnixStream::connect(path).is_ok() {
        if Instant::now() >= deadline {
            let path = path.to_owned();
            return Err(ClientError::TimedOut { path, after: PATIENT }.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
