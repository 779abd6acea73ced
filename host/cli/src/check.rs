//! `ksi check`: whether a host would take files for plugins, and if not, why. No host is asked but
//! with `--live`.

use ksi_host::{ChildEntry, Host, StartError};
use ksi_wire::module::{CheckedFile, CheckedFiles};
use serde_json::value::RawValue;

use super::args::{Check, Common};
use super::client::PATIENT;
use super::exit::CommandFailure;
use super::list::understood;
use super::progress::Progress;
use super::replace::as_one;
use super::{output, state_folder};

pub(crate) fn check(
    entry: ChildEntry,
    common: &Common,
    args: &Check,
) -> Result<(), CommandFailure> {
    let answer = match args.live {
        true => by_the_host(common, args)?,
        false => by_itself(entry, common, args)?,
    };
    let CheckedFiles { ok, checked } = &answer;
    if checked.is_empty() {
        let paths: Vec<_> = args.paths.iter().map(|path| path.display().to_string()).collect();
        let none = format!("there is no plugin file in {}", paths.join(" or "));
        return Err(CommandFailure::Usage(none));
    }
    match args.json {
        true => {
            let told = serde_json::to_string(&answer);
            output::json(&told.map_err(CommandFailure::host("the result is no JSON"))?)?;
        }
        false => checked.iter().flat_map(lines).try_for_each(|line| output::text(&line))?,
    }
    if *ok { Ok(()) } else { Err(CommandFailure::Told) }
}

fn by_itself(
    entry: ChildEntry,
    common: &Common,
    args: &Check,
) -> Result<CheckedFiles, CommandFailure> {
    let mut config = common.configuration()?;
    config.python.environments = state_folder::environments(common, &config, None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(CommandFailure::host("cannot start threads"))?;
    let host = Host::builder(entry).config(config);
    let _told = Progress::of("trying the files");
    let checked = match args.against.is_empty() {
        true => runtime.block_on(host.check(&args.paths)),
        false => runtime.block_on(host.check_against(&args.paths, &args.against)),
    };
    let checked = checked.map_err(|error| match error {
        StartError::NoFolder { .. } => CommandFailure::Usage(error.to_string()),
        error => CommandFailure::host("there is nothing to check files with")(error),
    })?;
    Ok(checked.into_iter().collect())
}

fn by_the_host(common: &Common, args: &Check) -> Result<CheckedFiles, CommandFailure> {
    let Some(files) = as_one(&args.paths)? else { return Ok(CheckedFiles::default()) };
    let answer: Box<RawValue> = common.client()?.ask("module:check", &files, PATIENT)?;
    understood(&answer)
}

/// A line for the file, and one for each remark.
fn lines(checked: &CheckedFile) -> Vec<String> {
    let CheckedFile { file, reason, plugin, remarks, code, .. } = checked;
    if let Some(reason) = reason {
        let code = code.as_ref().map(|code| format!(" [{code}]")).unwrap_or_default();
        return vec![output::paragraph(&format!("no: {reason}{code}"))];
    }
    let of = |key: &str| plugin.as_ref().and_then(|it| it[key].as_str()).unwrap_or_default();
    let well = format!("ok: {} {}, {}", of("name"), of("version"), file.display());
    let remarks = remarks.iter().map(|it| format!("  mind: {}", output::plain(it)));
    [output::plain(&well).into_owned()].into_iter().chain(remarks).collect()
}
