//! Threads that run a plugin's code and were started past what its library notes: by a function
//! that was looked up, or by another library.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use crate::{
    kit::{Library, OutsideCrate, TestHost, workspace},
    leftovers::{host, pinned, reload, survives},
};

/// A thread that such an event starts pins the generation until it ends.
#[track_caller]
fn pins_until_it_ends(host: &TestHost, plugin: &str, event: &str) {
    let flag = host.dir().join("runs");
    fs::write(&flag, "").unwrap();
    let data = json!({"name": "a_bg_thread", "while_exists": flag});
    assert_eq!(host.client().emit(event, data), true);
    reload(host, plugin, 1);
    let cause = pinned(host, plugin, "a_bg_thread");
    assert_eq!(cause, "a thread that it started still runs: `a_bg_thread`");
    let list = host.ksi(&["list"]).ok();
    assert!(list.contains("`a_bg_thread`"), "{list}");
    fs::remove_file(&flag).unwrap();
    host.until_unmapped(plugin);
    assert_eq!(host.resources().libraries.len(), 1, "{:?}", host.resources().libraries);
}

#[test]
fn a_thread_by_a_function_that_was_looked_up_pins_its_generation_by_name_until_it_ends() {
    let host = host();
    for event in ["leave:thread_by_next", "leave:thread_by_version"] {
        pins_until_it_ends(&host, "leftovers", event);
    }
}

#[test]
fn a_function_that_is_looked_up_is_the_librarys_own_and_any_other_the_systems() {
    assert_eq!(host().client().emit("leave:finds_its_own", json!({})), json!([true, true]));
}

#[test]
fn threads_by_a_function_that_was_looked_up_survive_replacement() {
    survives(&host(), "leftovers", "leave:thread_by_next", &json!({"millis": 3}), 60);
    survives(&host(), "leftovers", "leave:thread_by_version", &json!({"millis": 3}), 60);
}

/// A plugin that has a library start its threads, which lies in a folder of the host.
fn threaded(folder: &Path) -> Library {
    let library = folder.join("libstarts_threads.so");
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-shared", "-fPIC", "-O1", "-pthread", "-Wl,-soname,libstarts_threads.so", "-o"]);
    cc.arg(&library).arg(workspace().join("tests/fixtures/starts_threads.c"));
    let output = cc.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let source = r#"
        use std::ffi::{CString, c_char, c_int, c_void};
        use ksi_plugin_api::prelude::*;

        #[link(name = "starts_threads")]
        unsafe extern "C" {
            fn starts_threads_start(function: extern "C" fn(*mut c_void), argument: *mut c_void, keeps: c_int) -> c_int;
        }
        unsafe extern "C" {
            fn access(path: *const c_char, mode: c_int) -> c_int;
            fn usleep(micros: u32) -> c_int;
            fn prctl(option: c_int, ...) -> c_int;
        }

        #[payload]
        struct Left {
            #[serde(default)]
            millis: u32,
            #[serde(default)]
            name: String,
            #[serde(default)]
            while_exists: String,
        }

        /// Leaves no thread-local.
        extern "C" fn work(given: *mut c_void) {
            let (millis, name, file) = *unsafe { Box::from_raw(given.cast::<(u32, CString, CString)>()) };
            unsafe {
                prctl(15, name.as_ptr());
                usleep(1000 * millis);
                while access(file.as_ptr(), 0) == 0 {
                    usleep(2000);
                }
            }
        }

        fn start(left: Left, keeps: c_int) -> Result<bool> {
            let work_for = (left.millis, CString::new(left.name)?, CString::new(left.while_exists)?);
            let argument = Box::into_raw(Box::new(work_for));
            Ok(unsafe { starts_threads_start(work, argument.cast(), keeps) } == 1)
        }

        #[derive(Default)]
        struct Threaded;

        #[plugin(name = "threaded")]
        impl Threaded {
            #[event_handler("threaded:keeping")]
            async fn keeping(&self, _ctx: &Context, left: Left) -> Result<bool> {
                start(left, 1)
            }

            #[event_handler("threaded:giving_back")]
            async fn giving_back(&self, _ctx: &Context, left: Left) -> Result<bool> {
                start(left, 0)
            }
        }
    "#;
    let search = format!("-Lnative={}", folder.display());
    let run_path = format!("-Clink-arg=-Wl,-rpath,{}", folder.display());
    Library(OutsideCrate::new("threaded", source).build(&[&search, &run_path]))
}

#[test]
fn threads_that_another_library_starts_for_a_plugin_survive_replacement() {
    let builder = TestHost::builder();
    let library = threaded(builder.dir());
    let host = builder.plugin("threaded.so", &library).start();
    survives(&host, "threaded", "threaded:keeping", &json!({"millis": 3}), 60);
    survives(&host, "threaded", "threaded:giving_back", &json!({"millis": 3}), 60);
}

#[test]
fn threads_that_another_library_starts_for_a_plugin_keep_its_code_until_they_end() {
    let builder = TestHost::builder();
    let library = threaded(builder.dir());
    let host = builder.plugin("threaded.so", &library).start();
    pins_until_it_ends(&host, "threaded", "threaded:keeping");
    // What such a thread was given is gone: it is known by where it is.
    let flag = host.dir().join("runs");
    fs::write(&flag, "").unwrap();
    let data = json!({"name": "inside", "while_exists": flag});
    assert_eq!(host.client().emit("threaded:giving_back", data), true);
    reload(&host, "threaded", 1);
    let cause = pinned(&host, "threaded", "inside");
    assert_eq!(cause, "another library's threads are inside its code: `inside`");
    fs::remove_file(&flag).unwrap();
    host.until_unmapped("threaded");
}

#[test]
fn a_library_that_would_be_closed_with_a_plugin_is_kept_for_its_threads_as_well() {
    let builder = TestHost::builder();
    let library = threaded(builder.dir());
    let host = builder.plugin("threaded.so", &library).start();
    let flag = host.dir().join("runs");
    fs::write(&flag, "").unwrap();
    let data = json!({"name": "the_last", "while_exists": flag});
    assert_eq!(host.client().emit("threaded:giving_back", data), true);
    host.client().emit("module:unload", json!({"module_name": "threaded"}));
    let cause = pinned(&host, "threaded", "the_last");
    assert_eq!(cause, "a thread that it started still runs: `the_last`");
    fs::remove_file(&flag).unwrap();
    host.until_unmapped("threaded");
    assert!(!host.maps().contains("libstarts_threads.so"));
}
