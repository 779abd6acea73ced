//! `ksi config check`: whether a host would take a configuration file, and all that is wrong in it.
//! No host is asked.

use ksi_host::{Config, ConfigFault};
use serde_json::json;

use crate::args::{CheckConfig, Common};
use crate::exit::CommandFailure;
use crate::output;

pub(crate) fn check(common: &Common, args: CheckConfig) -> Result<(), CommandFailure> {
    let Some(file) = args.file.or_else(|| common.config.clone()) else {
        let none = "no file was named: ksi config check FILE, or --config FILE, or KSI_CONFIG";
        return Err(CommandFailure::Usage(none.to_owned()));
    };
    let faults = Config::faults_in(&file)?;
    let path = file.display().to_string();
    if args.json {
        let problems: Vec<_> = faults.iter().map(problem).collect();
        let answer = json!({ "file": path, "ok": faults.is_empty(), "problems": problems });
        output::json(&answer.to_string())?;
    } else if faults.is_empty() {
        output::text(&output::plain(&format!("{path} is valid")))?;
    } else {
        for fault in &faults {
            output::text(&output::plain(&line(&path, fault)))?;
        }
    }
    if !faults.is_empty() {
        return Err(CommandFailure::Told);
    }
    Config::from_file(&file)?.secret_remarks().iter().for_each(|remark| output::remark(remark));
    Ok(())
}

/// `ksi.toml:3:1: …`, which editors know the way to.
fn line(path: &str, fault: &ConfigFault) -> String {
    let place = [fault.line, fault.column].into_iter().flatten();
    let place: String = place.map(|number| format!(":{number}")).collect();
    format!("{path}{place}: {}", fault.text)
}

fn problem(fault: &ConfigFault) -> serde_json::Value {
    let ConfigFault { line, column, key, text, .. } = fault;
    json!({ "line": line, "column": column, "key": key, "message": text })
}
