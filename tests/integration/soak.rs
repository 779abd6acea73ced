//! The soak, short: that it runs to its end, and that nothing it counts is wrong. What takes how
//! long is judged by a long run of an optimized build alone.

use std::process::Command;

use serde_json::Value;

use crate::kit::artifacts;

#[test]
fn a_short_soak_loses_nothing_and_leaves_nothing_behind() {
    soak(&[]);
}

#[test]
fn a_short_soak_of_plugins_in_processes_of_their_own_loses_nothing_either() {
    soak(&["--isolate", "process"]);
}

#[track_caller]
fn soak(more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("soak.json");
    let mut soak = Command::new(artifacts().of("ksi-soak"));
    soak.args(["--reloads", "40", "--clients", "3"]).args(more);
    soak.arg("--library").arg(artifacts().of("ksi-soak-plugin")).arg("--json").arg(&json);
    let output = soak.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!((&report["well"], &report["faults"]), (&true.into(), &Vec::<Value>::new().into()));
}
