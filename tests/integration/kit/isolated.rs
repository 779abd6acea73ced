//! The switch of the suite that has all plugins live in processes of their own:
//! `KSI_TEST_ISOLATE=all`.
//!
//! A test that cannot hold then stands in a list here with its reason. It runs as without the
//! switch, and says so.

use std::{
    io::Write,
    path::{Path, PathBuf},
    thread::{self, Scope, ScopedJoinHandle},
};

/// Which tests the reason holds for: one by its full name, or all of a module, which ends with
/// `::`.
pub(crate) struct NotIsolated {
    pub(crate) because: &'static str,
    pub(crate) tests: &'static [&'static str],
}

/// What cannot apply to plugins in processes of their own.
pub(crate) const NOT_ISOLATED: &[NotIsolated] = &[
    NotIsolated {
        because: "it tells of values that are passed by pointer, and to another process a value \
                  goes as JSON",
        tests: &[
            "lanes::a_value_that_is_too_large_as_json_is_so_only_for_those_who_need_json",
            "lanes::handlers_in_other_libraries_see_the_very_value_that_was_emitted",
            "lanes::of_an_event_that_is_lent_the_handlers_see_one_copy",
            "lanes::replies_come_back_as_values_and_to_another_definition_as_json",
            "lanes::what_cannot_become_json_fails_for_those_who_need_that_and_for_nobody_else",
            "values::a_plugin_that_handles_its_own_values_is_replaced_like_any_other",
            "values::a_handler_that_is_not_done_with_a_value_keeps_the_library_that_it_comes_from",
            "values::values_are_emitted_from_the_first_moment_of_a_generation_to_its_last",
            "values::a_reply_in_a_report_is_there_after_the_unload_of_who_gave_it",
            "values::a_reply_of_plain_data_waits_for_a_slower_handler_without_its_library",
            "values::a_report_is_read_and_let_go_on_a_thread_of_a_plugins_own",
            "values::so_does_one_that_is_awaited_on_a_thread_of_a_plugins_own",
        ],
    },
    NotIsolated {
        because: "it tells of code that cannot leave the host's memory, and that of a process \
                  goes with it",
        tests: &[
            "causes::a_library_that_is_linked_never_to_leave_memory_is_told_before_and_after_it_is_replaced",
            "leftover_threads::a_library_that_would_be_closed_with_a_plugin_is_kept_for_its_threads_as_well",
            "leftover_threads::a_thread_by_a_function_that_was_looked_up_pins_its_generation_by_name_until_it_ends",
            "leftover_threads::threads_that_another_library_starts_for_a_plugin_keep_its_code_until_they_end",
            "leftovers::a_backtrace_that_keeps_the_bytes_of_the_file_mapped_does_not_count_as_its_library",
            "leftovers::a_stuck_call_is_named_where_its_thread_keeps_the_library_of_another_plugin",
            "leftovers::a_thread_that_runs_on_pins_the_generation_with_its_name_until_it_ends",
            "leftovers::a_variable_that_still_lies_in_a_library_pins_it_with_its_name_until_it_is_taken_back",
            "leftovers::functions_that_the_c_library_would_still_call_pin_the_library_with_what_registered_them",
            "leftovers::unloading_a_plugin_that_cannot_be_loaded_again_for_now_says_so",
            "leftovers::what_a_library_leaves_behind_when_it_was_closed_and_could_not_go_keeps_it_as_well",
            "rotation::a_thread_that_ends_long_after_an_unload_takes_the_library_with_it",
            "asks::a_watch_ends_with_its_generation_and_one_that_is_kept_for_ever_is_named",
            "lifecycle::a_context_from_a_run_time_subscription_pins_its_generation_until_a_thread_lets_it_go",
            "lifecycle::a_waker_that_is_woken_after_the_unloading_does_not_keep_its_library_in_memory",
            "unloading::a_context_that_is_kept_pins_the_generation_with_the_cause_until_it_is_let_go",
            "unloading::a_plugin_whose_old_generations_cannot_be_unmapped_is_in_the_end_replaced_no_more",
        ],
    },
    NotIsolated {
        because: "it has libraries in one process that get in each other's way",
        tests: &[
            "own_libraries::a_library_beside_a_plugin_is_found_is_safe_from_being_overwritten_and_its_change_is_told",
            "own_libraries::two_plugins_bring_libraries_of_one_name_and_each_has_its_own",
        ],
    },
    NotIsolated {
        because: "it tells of signal handlers in the host, and a process has its own",
        tests: &[
            "signals::a_handler_that_does_not_return_pins_its_library_by_name_until_it_does",
            "signals::a_handler_that_was_installed_past_the_c_library_pins_the_library_by_name",
            "signals::a_plugin_that_handles_ctrl_c_is_told_of",
            "signals::handlers_of_constructors_are_taken_over_and_those_of_needed_libraries_pin_by_name",
            "signals::signals_that_a_plugin_handles_with_sigaction_reach_each_generation_and_none_that_is_gone",
            "signals::signals_that_a_plugin_handles_with_signal_hook_reach_each_generation_and_none_that_is_gone",
            "signals::signals_that_a_plugin_handles_with_tokio_reach_each_generation_and_none_that_is_gone",
        ],
    },
    NotIsolated {
        because: "it has a plugin end the host or leave it to be killed at work, and what a host \
                  notes before that is of its own calls",
        tests: &[
            "crash::a_death_in_a_thread_of_the_plugins_own_names_the_file_that_was_at_work",
            "crash::a_first_call_that_asks_somebody_who_ends_the_process_is_not_taken_for_guilty",
            "crash::a_first_call_that_ends_the_process_is_told_and_the_next_host_comes_up_without_its_file",
            "crash::a_quarantine_is_remembered_until_the_bytes_change_or_somebody_asks",
            "crash::a_suspect_is_tried_elsewhere_first_although_the_operator_wants_no_trial",
            "crash::a_version_that_has_stood_its_first_calls_is_named_and_comes_up_again",
            "crash::an_initialize_that_ends_the_process_after_all_is_not_run_again_by_the_next_host",
            "crash::one_kill_by_an_operator_quarantines_nobody_and_a_second_in_a_row_whoever_was_at_work_both_times",
            "causes::a_process_that_a_plugin_has_forked_and_that_keeps_the_next_host_away_is_named",
            "standard_error::the_last_words_of_a_host_whose_standard_error_nobody_reads_are_told_by_the_next_one",
        ],
    },
    NotIsolated {
        because: "it has calls that hold a thread of the host, and those in a process hold none: \
                  they end at their deadline",
        tests: &[
            "calls::a_client_is_answered_in_time_although_the_call_does_not_return_and_its_late_end_counts_as_late",
            "calls::of_several_handlers_those_that_have_ended_are_told_when_one_does_not_return",
            "connection::a_quick_request_that_suddenly_does_not_return_is_answered_and_its_connection_ended_with_the_reason",
            "connection::a_request_that_does_not_return_at_its_first_time_is_answered_and_its_connection_goes_on",
            "held::a_call_that_blocks_its_thread_is_waited_for_and_counts",
            "rotation::a_plugin_with_state_is_replaced_while_every_worker_is_stuck_in_another_one",
            "service::the_watchdog_of_a_service_manager_is_fed_as_long_as_dispatch_workers_answer",
            "threads::when_every_worker_is_stuck_new_ones_take_over_and_the_stuck_call_is_named",
        ],
    },
    NotIsolated {
        because: "it has a host without /proc, which cannot start its own program again, and \
                  refuses to start",
        tests: &[
            "surroundings::without_proc_a_host_says_what_it_cannot_know_and_closes_no_library_that_may_be_in_use",
        ],
    },
    NotIsolated {
        because: "it sets itself where plugins live",
        tests: &[
            "history::a_process_that_dies_is_told_and_what_is_isolated_and_asked_for_by_the_configuration",
            "isolation::",
            "logs::spans_and_the_root_of_events_go_with_lines_from_plugin_to_plugin_and_into_processes",
            "worker_process::",
        ],
    },
];

/// Whether plugins are to live in processes of their own.
pub(super) fn is_asked_for() -> bool {
    match std::env::var("KSI_TEST_ISOLATE").as_deref() {
        Ok("all") => true,
        Ok(other) => panic!("KSI_TEST_ISOLATE is {other:?}, and only \"all\" is known"),
        Err(_) => false,
    }
}

/// Whether the plugins of the test that runs here live in processes of their own.
pub(crate) fn is_on() -> bool {
    is_asked_for() && not_isolated(&this_test()).is_none()
}

/// The same, for hosts that are not told on their command line: a configuration file in a folder of
/// the test.
pub(crate) fn config_in(folder: &Path) -> PathBuf {
    let config = folder.join("isolation.toml");
    let default = if is_on() { "process" } else { "none" };
    std::fs::write(&config, format!("[isolation]\ndefault = {default:?}\n")).unwrap();
    config
}

/// What a host of the test that runs here is told of where plugins live.
pub(crate) fn arguments() -> &'static [&'static str] {
    if !is_asked_for() {
        return &[];
    }
    let test = this_test();
    match not_isolated(&test) {
        Some(because) => {
            // Past libtest, which shows what is printed by tests that fail alone.
            let _ = writeln!(std::io::stderr(), "NOT ISOLATED: {test}: {because}");
            &[]
        }
        None => &["--isolate", "all"],
    }
}

/// Starts a thread that is one of the test that runs here, for those that ask which one that is.
pub(crate) fn spawn_in_test<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    let name = thread::current().name().map(str::to_owned);
    let thread = name.into_iter().fold(thread::Builder::new(), thread::Builder::name);
    thread.spawn_scoped(scope, work).unwrap()
}

/// libtest names a thread after its test, but for the only one of `--test-threads 1`.
fn this_test() -> String {
    let thread = thread::current();
    let test = thread.name().filter(|name| *name != "main");
    test.expect("a thread with the name of its test, which takes --test-threads 2").to_owned()
}

fn not_isolated(test: &str) -> Option<&'static str> {
    let holds = |tests: &[&str]| {
        tests.iter().any(|it| *it == test || it.ends_with("::") && test.starts_with(it))
    };
    NOT_ISOLATED.iter().find(|it| holds(it.tests)).map(|it| it.because)
}
