//! `module:state_*`: what is kept of the plugins' state, for people.

use std::time::UNIX_EPOCH;

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{catalog::Described, handle, handle_change, module};
use crate::{
    host::Host,
    plugin::{
        announce::shown,
        state::store::{Listed, Place},
        supervisor::state_by_hand::{Restored, StateByHandError, place_of},
    },
    router::native::Failure,
};

/// A larger snapshot is not shown, in bytes: the file is named instead.
const LARGEST_SHOWN: usize = 1 << 20;

pub(super) fn register(host: &Host) {
    let list = Described::new("module:state_list", "What is kept of the plugins' state on disk.")
        .takes("module_name", "str", false, "Only of this plugin");
    handle(host, list, list_kept);
    let which = |event, summary, which| {
        Described::new(event, summary)
            .takes("module_name", "str", true, "The plugin's name")
            .takes("which", "str", false, which)
    };
    let show = which(
        "module:state_show",
        "A kept snapshot with its content.",
        "Which one, as module:state_list calls it; the newest if it is not said",
    );
    handle(host, show, show_kept);
    let restore = which(
        "module:state_restore",
        "Lets a plugin go on from a kept snapshot. What it has now is kept aside.",
        "Which one; the last good one, else the previous one, if it is not said",
    );
    handle_change(host, restore, restore_kept);
    let give_up = which(
        "module:state_drop",
        "Removes kept snapshots of a plugin.",
        "Which one; all that it would be started from if it is not said",
    );
    handle_change(host, give_up, drop_kept);
}

#[derive(Deserialize)]
struct Maybe {
    #[serde(default)]
    module_name: Option<String>,
}

#[derive(Deserialize)]
struct Ask {
    module_name: String,
    #[serde(default)]
    which: Option<String>,
}

impl Ask {
    fn place(&self) -> Result<Option<Place>, Failure> {
        self.which.as_deref().map(place_of).transpose().map_err(failure)
    }
}

async fn list_kept(host: Host, ask: Maybe) -> Result<Value, Failure> {
    let kept = host.inner().supervisor.kept_states(ask.module_name.as_deref()).await;
    let snapshots: Vec<Value> = kept.map_err(failure)?.iter().map(listed).collect();
    Ok(json!({ "count": snapshots.len(), "snapshots": snapshots }))
}

fn listed(kept: &Listed) -> Value {
    let mut one = json!({
        "name": kept.plugin, "which": kept.place.to_string(), "file": shown(&kept.path), "error": null,
    });
    match &kept.content {
        Ok(about) => {
            let written = about.written.duration_since(UNIX_EPOCH).unwrap_or_default();
            one["version"] = about.version.into();
            one["plugin_version"] = about.plugin_version.as_str().into();
            one["bytes"] = about.bytes.into();
            one["written"] = written.as_secs_f64().into();
            one["hash"] = about.hash.as_str().into();
        }
        Err(error) => one["error"] = error.as_str().into(),
    }
    one
}

async fn show_kept(host: Host, ask: Ask) -> Result<Value, Failure> {
    let place = ask.place()?.unwrap_or(Place::Snapshot);
    let supervisor = &host.inner().supervisor;
    let kept = supervisor.kept_state(&ask.module_name, place).await.map_err(failure)?;
    let bytes = kept.snapshot.bytes.as_json();
    let written = kept.written.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut one = json!({
        "name": ask.module_name, "which": place.to_string(), "file": shown(&kept.path),
        "version": kept.snapshot.version, "bytes": bytes.len(), "written": written.as_secs_f64(),
        "state": null, "not_shown": null,
    });
    if bytes.len() > LARGEST_SHOWN {
        let why =
            format!("it has {} bytes: read it in the file, behind the first line", bytes.len());
        one["not_shown"] = why.into();
        return Ok(one);
    }
    // Not by way of a `Value`, which holds neither every number nor every depth that a plugin may read.
    match serde_json::from_slice::<&RawValue>(bytes).map(serde_json::value::to_value) {
        Ok(Ok(state)) => one["state"] = state,
        Ok(Err(error)) | Err(error) => one["not_shown"] = error.to_string().into(),
    }
    Ok(one)
}

async fn restore_kept(host: Host, ask: Ask) -> Result<Value, Failure> {
    let place = ask.place()?;
    let supervisor = &host.inner().supervisor;
    let restored = supervisor.restore_state(&ask.module_name, place).await.map_err(failure)?;
    let Restored { which, deployed, aside } = restored;
    let (aside, not_aside) = module::told_aside(aside);
    Ok(json!({
        "status": "restored",
        "name": ask.module_name,
        "which": which.to_string(),
        "live": deployed.is_some(),
        "version": deployed.as_ref().map(|it| it.version.as_str()),
        "generation": deployed.as_ref().map(|it| it.generation),
        "kept_aside": aside,
        "not_kept_aside": not_aside,
    }))
}

async fn drop_kept(host: Host, ask: Ask) -> Result<Value, Failure> {
    let place = ask.place()?;
    let dropped = host.inner().supervisor.drop_state(&ask.module_name, place).await;
    let dropped: Vec<String> = dropped.map_err(failure)?.iter().map(Place::to_string).collect();
    Ok(json!({ "status": "dropped", "name": ask.module_name, "dropped": dropped }))
}

fn failure(error: StateByHandError) -> Failure {
    let code = match error {
        StateByHandError::Deploy(error) => return module::failure(*error),
        StateByHandError::NoFolder => "no_state_folder",
        StateByHandError::NoSuchPlace { .. } => "invalid_payload",
        StateByHandError::Live { .. } => "live",
        StateByHandError::NothingOlder { .. } | StateByHandError::NothingKept { .. } => {
            "nothing_kept"
        }
        StateByHandError::Leaving { .. } => "busy",
        StateByHandError::Files(_) => "refused",
    };
    Failure::new(code, error)
}
