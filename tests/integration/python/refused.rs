//! What does not become a plugin, or not the next version of one: one message, and what was live
//! goes on with its state.

use super::*;

/// A store of version 1 that has something, and what becomes of this text in its place.
#[track_caller]
fn refusal_of(text: &str, config: &str) -> String {
    // What may pass is not tried again so soon.
    let host = with_store(&format!("[recovery]\nfirst = '1h'\nlongest = '1h'\n{config}"));
    set(&host, "a", 7);
    let pid = pid_of(&host, "store");
    save(&host, "store.py", text);
    let module =
        host.until_module("it is refused", "store", |module| !module["last_error"].is_null());
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "1"}), "the old version has its state");
    assert_eq!(pid_of(&host, "store"), pid);
    set(&host, "b", 8);
    assert_eq!(get(&host, "b")["value"], 8);
    let error = module["last_error"].as_str().unwrap().to_owned();
    let told = host.stop();
    let lines = told.stderr.lines().filter(|line| line.contains("store.py is refused"));
    assert_eq!(lines.count(), 1, "one message: {}", told.stderr);
    error
}

#[test]
fn a_syntax_error_is_told_by_file_line_and_column_and_nothing_of_it_runs() {
    if !is_there() {
        return;
    }
    let error = refusal_of("open('/tmp/ran', 'w')\ndef f(:\n    pass\n", "");
    assert!(error.contains("store.py, line 2, column 7: invalid syntax"), "{error}");
    assert!(error.contains("`def f(:`"), "{error}");
}

#[test]
fn a_name_that_no_event_has_is_told_with_the_handler() {
    if !is_there() {
        return;
    }
    let text = "from ksi.events import event_handler\n@event_handler('store::set')\nasync def set(data): pass\n";
    let error = refusal_of(text, "");
    assert!(error.contains("store.py, line 2, column 2: 'store::set' is no event name"), "{error}");
}

#[test]
fn a_package_that_is_not_there_is_told_by_its_name() {
    if !is_there() {
        return;
    }
    let error = refusal_of(&format!("import no_such_package\n{}", store(2)), "");
    assert!(error.contains("no_such_package"), "{error}");
}

#[test]
fn an_import_that_does_not_end_is_ended() {
    if !is_there() {
        return;
    }
    let text = format!("{}\nwhile True: pass\n", store(2));
    let error = refusal_of(&text, "[timeouts]\nprobe = '10s'\n");
    assert!(error.contains("within 10s (timeouts.probe)"), "{error}");
}

#[test]
fn a_module_that_ends_its_process_at_once_is_told_by_the_status() {
    if !is_there() {
        return;
    }
    let error = refusal_of(&format!("{}\nimport os\nos._exit(3)\n", store(2)), "");
    assert!(error.contains("exit status: 3"), "{error}");
}

#[test]
fn an_initialize_that_fails_leaves_the_old_version_live() {
    if !is_there() {
        return;
    }
    let text = format!("{}\ndef initialize(router):\n    raise ValueError('no luck')\n", store(2));
    let host = with_store("");
    set(&host, "a", 7);
    save(&host, "store.py", &text);
    let module = host.until_module("it fails", "store", |module| !module["last_error"].is_null());
    let error = module["last_error"].as_str().unwrap();
    assert!(error.contains("did not initialize") && error.contains("no luck"), "{error}");
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "1"}));
}

#[test]
fn a_state_that_is_not_restored_stays_with_the_old_version() {
    if !is_there() {
        return;
    }
    let text = format!(
        "{}\ndef snapshot():\n    return _state\n\ndef restore(data):\n    raise ValueError('not this')\n",
        store(2)
    );
    let host = with_store("");
    set(&host, "a", 7);
    save(&host, "store.py", &text);
    let module = host.until_module("it fails", "store", |module| !module["last_error"].is_null());
    let error = module["last_error"].as_str().unwrap();
    assert!(error.contains("does not take over") && error.contains("not this"), "{error}");
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "1"}));
}

#[test]
fn without_an_interpreter_each_module_is_told_so_and_libraries_go_on() {
    let config = "[python]\ninterpreter = 'no-such-python'\n";
    let builder = TestHost::builder().config(config).plugin("chaos.so", &Library::chaos());
    let host = module(module(builder, "a.py", &store(1)), "_aside.py", "").start();
    let error = host.until_refused("a.py");
    assert!(error.contains("no-such-python was not found in PATH"), "{error}");
    assert!(error.contains("`interpreter` in [python]"), "{error}");
    assert_eq!(host.client().emit("chaos:echo", json!([1])), json!([1]));
    assert_eq!(host.modules().len(), 2, "what is put aside is no plugin");
}
