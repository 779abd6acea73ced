//! What was in the way once and need not be another time: a process that ended or was late before
//! the module had said what is wrong. The same file is tried again, and becomes live with the
//! state.

use std::path::PathBuf;

use super::*;
use crate::kit::until;

/// Sooner than by default.
const SOON: &str = "[recovery]\nfirst = '20ms'\n";

/// The number of the process that wrote it there.
#[track_caller]
fn pid_in(file: &PathBuf) -> Pid {
    let read = || fs::read_to_string(file).unwrap_or_default();
    let text = until("it has begun", read, |text| text.ends_with('\n'));
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

/// The process that reads sources.
#[track_caller]
fn describer(host: &TestHost) -> Pid {
    let reads = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("python") && !line.contains("ksi.worker")
    };
    let find = || children(host.process.id()).into_iter().find(reads);
    let found = until("sources are read", find, Option::is_some);
    Pid::from_raw(found.unwrap().try_into().unwrap()).unwrap()
}

#[test]
fn a_module_whose_process_is_killed_while_it_is_tried_is_tried_again_and_gets_the_state() {
    if !is_there() {
        return;
    }
    // Each waits until a file is there, and says who waits.
    let waits = |begun: &PathBuf, ready: &PathBuf| {
        format!(
            "import os, time\n    open({begun:?}, 'w').write(f'{{os.getpid()}}\\n')\n    \
             while not os.path.exists({ready:?}): time.sleep(0.002)\n"
        )
    };
    for (step, refused) in [("import", "is refused"), ("restore", "does not take over")] {
        let host = with_store(SOON);
        set(&host, "a", 7);
        let (begun, ready) = (host.dir().join("begun"), host.dir().join("ready"));
        let waits = waits(&begun, &ready);
        let text = match step {
            "import" => format!("{}\nif True:\n    {waits}", store(2)),
            _ => format!(
                "{}\ndef snapshot():\n    return {{'_state': _state}}\n\n\
                 def restore(data):\n    {waits}    _state.update(data['_state'])\n",
                store(2)
            ),
        };
        save(&host, "store.py", &text);
        let pid = pid_in(&begun);
        fs::remove_file(&begun).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let module =
            host.until_module("it fails", "store", |module| !module["last_error"].is_null());
        let error = module["last_error"].as_str().unwrap();
        assert!(error.contains(refused) && error.contains("SIGKILL"), "{step}: {error}");
        fs::write(&ready, "").unwrap();
        host.until_version("store", "2");
        assert_eq!(get(&host, "a"), json!({"value": 7, "of": "2"}), "{step}");
    }
}

#[test]
fn a_module_whose_source_was_not_read_because_the_reader_was_stopped_or_killed_is_read_again() {
    if !is_there() {
        return;
    }
    for (signal, told) in
        [(Signal::STOP, "not read within 10s (timeouts.probe)"), (Signal::KILL, "SIGKILL")]
    {
        let host = with_store(&format!("{SOON}[timeouts]\nprobe = '10s'\n"));
        set(&host, "a", 7);
        kill_process(describer(&host), signal).unwrap();
        save(&host, "store.py", &store(2));
        host.until_version("store", "2");
        assert_eq!(get(&host, "a"), json!({"value": 7, "of": "2"}));
        host.process.told(told);
        host.process.told("it is tried again");
    }
}
