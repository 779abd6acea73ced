//! `module:state_*`: what is kept of the plugins' state, for people.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ksi_kernel::router::host_handler::Failure;
use ksi_wire::module::HistoryBy;
use ksi_wire::state::{Dropped, Kept, KeptList, OfPlugin, Restored, Shown, Which};
use serde_json::{Value, value::RawValue};

use super::{handle, handle_change, module};
use crate::{
    catalog::Described,
    core::Core,
    plugin::{
        announce::shown,
        state::store::{Listed, SnapshotPlace},
        supervisor::state_by_hand::{self, StateByHandError, place_of},
    },
};

/// A larger snapshot is not shown, in bytes: the file is named instead.
const LARGEST_SHOWN: usize = 1 << 20;

pub(super) fn register(core: &Arc<Core>) {
    let list = Described::new("module:state_list", "What is kept of the plugins' state on disk.")
        .takes("module_name", "str", false, "Only of this plugin");
    handle(core, list, list_kept);
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
    handle(core, show, show_kept);
    let restore = which(
        "module:state_restore",
        "Lets a plugin go on from a kept snapshot. What it has now is kept aside.",
        "Which one; the last good one, else the previous one, if it is not said",
    );
    handle_change(core, restore, restore_kept);
    let give_up = which(
        "module:state_drop",
        "Removes kept snapshots of a plugin.",
        "Which one; all that it would be started from if it is not said",
    );
    handle_change(core, give_up, drop_kept);
}

fn place(ask: &Which) -> Result<Option<SnapshotPlace>, Failure> {
    ask.which.as_deref().map(place_of).transpose().map_err(failure)
}

async fn list_kept(core: Arc<Core>, ask: OfPlugin) -> Result<KeptList, Failure> {
    let kept = core.supervisor.kept_states(ask.module_name.as_deref()).await;
    let snapshots: Vec<Kept> = kept.map_err(failure)?.into_iter().map(listed).collect();
    Ok(KeptList { count: snapshots.len(), snapshots })
}

fn listed(kept: Listed) -> Kept {
    let one = Kept {
        file: shown(&kept.path),
        name: kept.plugin,
        which: kept.place.to_string(),
        ..Kept::default()
    };
    match kept.content {
        Ok(about) => Kept {
            bytes: Some(about.bytes),
            hash: Some(about.hash),
            plugin_version: Some(about.plugin_version),
            version: Some(about.version),
            written: Some(unix(about.written)),
            ..one
        },
        Err(error) => Kept { error: Some(error), ..one },
    }
}

/// Seconds since the Unix epoch.
fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

async fn show_kept(core: Arc<Core>, ask: Which) -> Result<Shown, Failure> {
    let place = place(&ask)?.unwrap_or(SnapshotPlace::Snapshot);
    let supervisor = &core.supervisor;
    let kept = supervisor.kept_state(&ask.module_name, place).await.map_err(failure)?;
    let bytes = kept.snapshot.bytes.as_json();
    let mut one = Shown {
        bytes: bytes.len(),
        file: shown(&kept.path),
        name: ask.module_name,
        not_shown: None,
        state: None,
        version: kept.snapshot.version,
        which: place.to_string(),
        written: unix(kept.written),
    };
    if bytes.len() > LARGEST_SHOWN {
        let why =
            format!("it has {} bytes: read it in the file, behind the first line", bytes.len());
        one.not_shown = Some(why);
        return Ok(one);
    }
    // Not by way of a `Value`, which holds neither every number nor every depth that a plugin may
    // read.
    match serde_json::from_slice::<&RawValue>(bytes).map(serde_json::value::to_value) {
        Ok(Ok(state)) => one.state = as_told(&state),
        Ok(Err(error)) | Err(error) => one.not_shown = Some(error.to_string()),
    }
    Ok(one)
}

/// With its keys in order.
fn as_told(state: &Value) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(state).ok()
}

async fn restore_kept(core: Arc<Core>, by: HistoryBy, ask: Which) -> Result<Restored, Failure> {
    let place = place(&ask)?;
    let supervisor = &core.supervisor;
    let restored = supervisor.restore_state(&ask.module_name, place, &by).await.map_err(failure)?;
    let state_by_hand::RestoredByHand { which, deployed, aside } = restored;
    let (kept_aside, not_kept_aside) = module::told_aside(aside);
    let (live, generation) = (deployed.is_some(), deployed.as_ref().map(|it| it.generation));
    Ok(Restored {
        generation,
        kept_aside,
        live,
        name: ask.module_name,
        not_kept_aside,
        status: "restored".into(),
        version: deployed.map(|it| it.version),
        which: which.to_string(),
    })
}

async fn drop_kept(core: Arc<Core>, _: HistoryBy, ask: Which) -> Result<Dropped, Failure> {
    let place = place(&ask)?;
    let dropped = core.supervisor.drop_state(&ask.module_name, place).await;
    let dropped: Vec<String> =
        dropped.map_err(failure)?.iter().map(SnapshotPlace::to_string).collect();
    Ok(Dropped { dropped, name: ask.module_name, status: "dropped".into() })
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
        StateByHandError::Files(_) => "state_files",
    };
    Failure::new(code, error)
}
