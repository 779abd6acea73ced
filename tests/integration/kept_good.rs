//! What the next host starts for a file whose version the last one went back from.

use std::fs;

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use crate::kit::{HostBuilder, Library, States, TestHost, until};

const RECOVERY: &str =
    "[recovery]\ndir = 'recovery'\nafter_rollback = '1h'\nlongest = '1h'\nfirst = '300ms'";

/// A host that has gone back, by hand, from each of these versions to the one before.
#[track_caller]
fn gone_back(setup: HostBuilder, versions: &[(&Library, &str)], times: usize) -> TestHost {
    let host = setup.plugin("counter.so", versions[0].0).config(RECOVERY).start();
    host.until_version("counter", versions[0].1);
    for (library, version) in &versions[1..] {
        host.drop_in("counter.so", library);
        host.until_version("counter", version);
    }
    for _ in 0..times {
        host.ksi(&["rollback", "counter"]).ok();
    }
    let good = host.dir().join("recovery/good");
    let kept = || fs::read_dir(&good).map_or(0, Iterator::count);
    until("it is kept", kept, |kept| *kept == times);
    host
}

fn counter(version: u32) -> Library {
    Library::counter(version as _)
}

#[test]
fn after_two_rollbacks_the_next_host_starts_what_the_last_one_went_back_to() {
    let (first, second, third) = (counter(1), counter(2), counter(3));
    let versions = [(&first, "1.0.0"), (&second, "2.0.0"), (&third, "3.0.0")];
    let host = gone_back(TestHost::builder(), &versions, 2);
    // The folder does not bring the version back that the file holds.
    host.drop_in("counter.so", &third);
    host.drop_in("chaos.so", &Library::chaos());
    host.until_live("chaos", 1);
    host.until_version("counter", "1.0.0");
    let host = host.stopped().start();
    host.until_version("counter", "1.0.0");
    host.process.told("version 3.0.0, which is quarantined: version 1.0.0");
}

#[test]
fn a_kept_version_that_a_host_died_of_is_not_started_for_another_one() {
    let (second, third) = (counter(2), counter(3));
    let host = gone_back(TestHost::builder(), &[(&second, "2.0.0"), (&third, "3.0.0")], 1);
    let remembered = host.dir().join("recovery/quarantine.json");
    let setup = host.stopped();
    let mut entries: Vec<Value> = serde_json::from_slice(&fs::read(&remembered).unwrap()).unwrap();
    let mut died = entries[0].clone();
    died["hash"] = entries[0]["good"]["hash"].clone();
    died["version"] = json!("2.0.0");
    died["verdict"] = json!("died");
    died.as_object_mut().unwrap().remove("good");
    entries.push(died);
    fs::write(&remembered, serde_json::to_vec(&entries).unwrap()).unwrap();
    let host = setup.start();
    host.process.told("and so is version 2.0.0, which was kept");
    assert_eq!(host.module("counter"), Value::Null);
    assert_eq!(host.module("counter.so").state(), ModuleState::Quarantined);
}

#[test]
fn a_kept_version_that_requires_somebody_is_started_when_that_one_is_there() {
    let first = counter(1).requiring(&["chaos:echo"]);
    let second = counter(2).requiring(&["chaos:echo"]);
    let setup = TestHost::builder().plugin("z.so", &Library::chaos());
    let host = gone_back(setup, &[(&first, "1.0.0"), (&second, "2.0.0")], 1);
    let host = host.stopped().start();
    host.until_version("counter", "1.0.0");

    // Also when that one comes later.
    let z = host.file("z.so");
    let setup = host.stopped();
    fs::remove_file(z).unwrap();
    let host = setup.start();
    let module = host.module("counter.so");
    assert!(module["quarantined"].is_object(), "{module}");
    host.process.told("version 1.0.0, which was kept for this file, is not started");
    host.drop_in("z.so", &Library::chaos());
    host.until_version("counter", "1.0.0");
}

#[test]
fn a_kept_version_that_does_not_initialize_is_tried_again_and_the_bad_one_is_not() {
    let (first, second) = (counter(1).does("init=ask"), counter(2));
    let setup = TestHost::builder().plugin("chaos.so", &Library::chaos());
    let host = gone_back(setup, &[(&first, "1.0.0"), (&second, "2.0.0")], 1);
    let chaos = host.file("chaos.so");
    let setup = host.stopped();
    fs::remove_file(&chaos).unwrap();
    let host = setup.start();
    host.process.told("which was kept for this file, is not started");
    host.process.told("trying again");
    let module = host.module("counter.so");
    assert_eq!(module.state(), ModuleState::Quarantined, "{module}");
    assert_eq!(module["quarantined"]["reason"], "it was asked for");
    assert_eq!(module["quarantined"]["retry_in_ms"], Value::Null);
    host.drop_in("chaos.so", &Library::chaos());
    host.until_version("counter", "1.0.0");
}
