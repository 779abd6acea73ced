//! `ksi check`: whether a host would take files for plugins, and if not, why. No host is asked.

use std::path::PathBuf;

use ksi_host::{Checked, ChildEntry, Host, Manifest, with_causes};
use serde::Serialize;

use super::args::{Check, Common};
use super::exit::CommandFailure;
use super::{output, state_folder};

/// What is printed with `--json`.
#[derive(Serialize)]
struct Told<'a> {
    /// Whether all are well.
    ok: bool,
    checked: Vec<OfFile<'a>>,
}

#[derive(Serialize)]
struct OfFile<'a> {
    file: &'a PathBuf,
    ok: bool,
    /// Why a host refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<&'a Manifest>,
    remarks: &'a [String],
}

pub(crate) fn check(
    entry: ChildEntry,
    common: &Common,
    args: &Check,
) -> Result<(), CommandFailure> {
    let mut config = common.configuration()?;
    config.python.environments = state_folder::environments(common, &config, None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(CommandFailure::host("cannot start threads"))?;
    let checked = runtime.block_on(Host::builder(entry).config(config).check(&args.paths));
    let checked = checked.map_err(CommandFailure::host("there is nothing to check files with"))?;
    if checked.is_empty() {
        let paths: Vec<_> = args.paths.iter().map(|path| path.display().to_string()).collect();
        let none = format!("there is no plugin file in {}", paths.join(" or "));
        return Err(CommandFailure::Usage(none));
    }
    let all_well = checked.iter().all(|it| it.verdict.is_ok());
    match args.json {
        true => {
            let checked = checked.iter().map(of_file).collect();
            let told = serde_json::to_string(&Told { ok: all_well, checked });
            output::json(&told.map_err(CommandFailure::host("the result is no JSON"))?)?;
        }
        false => checked.iter().flat_map(lines).try_for_each(|line| output::text(&line))?,
    }
    if all_well { Ok(()) } else { Err(CommandFailure::Told) }
}

fn of_file(checked: &Checked) -> OfFile<'_> {
    let (file, ok) = (&checked.file, checked.verdict.is_ok());
    match &checked.verdict {
        Ok(it) => {
            OfFile { file, ok, reason: None, plugin: Some(&it.manifest), remarks: &it.remarks }
        }
        Err(error) => {
            let reason = Some(with_causes(error).to_string());
            OfFile { file, ok, reason, plugin: None, remarks: &[] }
        }
    }
}

/// A line for the file, and one for each remark.
fn lines(checked: &Checked) -> Vec<String> {
    match &checked.verdict {
        Ok(it) => {
            let Manifest { name, version, .. } = &it.manifest;
            let well = format!("ok: {name} {version}, {}", checked.file.display());
            let remarks = it.remarks.iter().map(|it| format!("  mind: {}", output::plain(it)));
            [output::plain(&well).into_owned()].into_iter().chain(remarks).collect()
        }
        Err(error) => {
            vec![output::paragraph(&format!("no: {}", with_causes(error)))]
        }
    }
}
