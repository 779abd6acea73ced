//! The integration tests: real plugin libraries, a real `ksi` process, a real socket.
//!
//! [`kit`] has what they are made with. A test is named after the promise that it holds, and stands
//! in the file of its topic. Nothing sleeps where there is a status to be awaited.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kit;

mod accounting;
mod allocations;
mod asks;
mod author;
mod bad_files;
mod book;
mod builtin;
mod calls;
mod causes;
mod check;
mod cli;
mod codes;
mod compare;
mod config_file;
mod configuration;
mod connection;
mod contracts;
mod crash;
mod dev;
mod events;
mod examples;
mod exclusive;
mod first_hour;
mod folder;
mod held;
mod history;
mod http;
mod isolation;
mod kept;
mod kept_good;
mod kept_snapshots;
mod lanes;
mod layering;
#[cfg(target_os = "linux")]
mod leftover_threads;
mod leftovers;
mod lifecycle;
mod limits;
mod logs;
mod memory_limit;
mod messages;
mod monitor;
mod new;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod own_libraries;
mod persistence;
mod plugin_crates;
mod plugins;
mod process_1;
mod python;
mod quarantine;
mod readable_state;
mod recovery;
mod refused_code;
mod replacement;
mod rollback;
mod rooms;
mod rotation;
mod safe_code;
mod scarce;
mod schema;
mod service;
mod shell;
mod shown;
mod signals;
mod soak;
mod standard_error;
mod start_stop;
mod starting;
mod state;
mod stopping;
mod stops;
mod surroundings;
mod threads;
mod trace;
mod transformers;
mod trial;
mod unloading;
mod upgrade;
mod values;
mod wire;
mod worker_process;
