//! `ksi compare`: the same events to two versions of a plugin, and where their answers differ.
//!
//! Each of the two is alone in a host of its own inside this process, and begins with a copy of the
//! same state. A host that is asked gives events, the file of a plugin and a kept snapshot, and
//! nothing else: no event of either reaches it, and whatever becomes of the new version is no harm
//! to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ksi_host::{ChildEntry, Config, Pattern, with_causes};
use ksi_wire::state::{KeptList, OfPlugin};
use serde::Deserialize;

use super::args::{Common, Compare};
use super::client::{Client, SOON};
use super::exit::CommandFailure;
use super::{output, state_folder};
use events::events;
use kept::{Began, Kept};
use play::play;
use side::{Given, Side};
use summary::Who;

mod difference;
mod events;
mod kept;
mod play;
mod recording;
mod side;
mod summary;

pub(crate) fn compare(
    entry: ChildEntry,
    common: &Common,
    args: &Compare,
) -> Result<(), CommandFailure> {
    for pattern in &args.events {
        let parsed = Pattern::parse(pattern);
        parsed.map_err(|error| CommandFailure::Usage(error.to_string()))?;
    }
    let mut config = common.configuration()?;
    let old = Old::find(common, args)?;
    config.python.environments =
        state_folder::environments(common, &config, old.state_dir.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(CommandFailure::host("cannot start threads"))?;
    let compared = runtime.block_on(async {
        let (old, new) = start(entry, &config, args, &old).await?;
        let events = events(common, args)?;
        let summary = play(&old, &new, events, args).await;
        for (name, side) in [("OLD", &old), ("NEW", &new)] {
            if !side.beside().is_empty() {
                let told: Vec<_> =
                    side.beside().into_iter().map(|(event, n)| format!("{event} ({n})")).collect();
                output::remark(&format!(
                    "{name} emitted of its own accord, which is not compared: {}",
                    told.join(", ")
                ));
            }
        }
        let both = [&old, &new].map(|side| Who {
            plugin: side.plugin.clone(),
            restored: side.began == Began::Restored,
        });
        old.end().await;
        new.end().await;
        summary.map(|summary| (summary, both))
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    let (summary, [old, new]) = compared?;
    if args.json {
        let told = serde_json::to_string(&summary.told(&old, &new));
        output::json(&told.map_err(CommandFailure::host("the result is no JSON"))?)?;
    } else {
        summary.in_words().iter().try_for_each(|line| output::text(line))?;
    }
    match summary.differs() {
        true => Err(CommandFailure::Told),
        // It would be easy to take that for agreement.
        false if summary.compared() == 0 => {
            Err(CommandFailure::Usage("no event was compared".to_owned()))
        }
        false => Ok(()),
    }
}

/// Where the old version is, and the state that both begin with.
struct Old {
    file: PathBuf,
    state: Option<Kept>,
    /// The folder of the state of the host that was asked, as far as that tells.
    state_dir: Option<PathBuf>,
    /// It is a plugin of a host.
    is_live: bool,
}

impl Old {
    /// A file as it is named, or of a plugin of a host.
    fn find(common: &Common, args: &Compare) -> Result<Old, CommandFailure> {
        let path = Path::new(&args.old);
        let named = args.state.as_deref().map(Kept::of).transpose()?;
        if args.old.contains('/') || path.is_file() {
            let file = path.to_owned();
            return Ok(Old { file, state: named, state_dir: None, is_live: false });
        }
        #[derive(Deserialize)]
        struct Module {
            file: Option<PathBuf>,
        }
        let mut client = common.client()?;
        let ask = serde_json::json!({ "module_name": args.old });
        let module: Module = client.ask("module:inspect", &ask, SOON)?;
        let none = || CommandFailure::Usage(format!("{} comes from no file", args.old));
        let file = module.file.ok_or_else(none)?;
        let newest = newest(&mut client, &args.old);
        let state_dir = newest.as_ref().and_then(|file| Some(file.parent()?.to_owned()));
        let state = match (named, args.no_state) {
            (Some(state), _) => Some(state),
            (None, true) => None,
            (None, false) => newest.as_deref().map(Kept::of).transpose()?,
        };
        Ok(Old { file, state, state_dir, is_live: true })
    }
}

/// The newest snapshot that a host has kept of a plugin.
fn newest(client: &mut Client, plugin: &str) -> Option<PathBuf> {
    let ask = OfPlugin { module_name: Some(plugin.to_owned()) };
    // A host that keeps none says so by an error.
    let kept: KeptList = client.ask("module:state_list", &ask, SOON).ok()?;
    let newest = kept.snapshots.into_iter().find(|kept| kept.which == "newest");
    newest.map(|kept| kept.file.into())
}

/// Starts both, and says which of them has begun with the state. A new version that cannot begins
/// without.
async fn start(
    entry: ChildEntry,
    config: &Config,
    args: &Compare,
    old: &Old,
) -> Result<(Side, Side), CommandFailure> {
    let given = |file, state| Given {
        file,
        config: config.clone(),
        beside: &args.with,
        state,
        in_process: args.in_process,
    };
    let state = old.state.as_ref();
    let old_side = Side::start(entry, given(&old.file, state)).await?;
    let mut new_side = Side::start(entry, given(&args.new, state)).await;
    if let (Err(failure), Some(_)) = (&new_side, state) {
        let without = Began::Without(with_causes(failure).to_string());
        new_side = Side::start(entry, given(&args.new, None)).await;
        new_side.iter_mut().for_each(|side| side.began = without.clone());
    }
    let new_side = new_side?;
    if let Some(state) = state {
        let both = [("OLD", &old_side), ("NEW", &new_side)];
        let told = both.into_iter().filter_map(|(name, side)| side.began.told(name, state));
        told.for_each(|line| output::remark(&line));
    } else if !args.no_state {
        let why = match old.is_live {
            true => "the host keeps no snapshot of OLD yet, or none at all",
            false => "OLD is a file, and --state names no snapshot",
        };
        output::remark(&format!("both begin without state: {why}"));
    }
    Ok((old_side, new_side))
}
