#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Whether a line of this plugin is written.
fn writes(levels: &LogLevels, plugin: &str, target: &str, level: LogLevel) -> bool {
    levels.writes_of_plugin(plugin, target, level.number())
}

#[test]
fn the_nearest_target_counts_then_the_plugin_then_all_plugins_and_then_all() {
    let levels = LogLevels::new(LogLevel::Info);
    let text =
        "warn, ksi_plugin=error ,state=debug,hyper=off,state::store=trace,ksi_host::core=info";
    levels.environment(text).unwrap();
    for (plugin, target, most) in [
        ("state", "state", LogLevel::Debug),
        ("state", "state::store::file", LogLevel::Trace),
        ("state", "other_crate", LogLevel::Debug),
        ("state", "hyper::client", LogLevel::Off),
        ("shop", "shop", LogLevel::Error),
        ("shop", "state_of_affairs", LogLevel::Error),
    ] {
        for (_, level) in DIRECTIVES {
            let expected = level <= most;
            assert_eq!(
                writes(&levels, plugin, target, level),
                expected,
                "{plugin} {target} {level}"
            );
        }
    }
    assert_eq!(levels.state().of_target("ksi_host::plugin"), LogLevel::Warn);
    assert_eq!(levels.state().of_target("ksi_host::core::settings"), LogLevel::Info);
    assert_eq!(levels.most(), LogLevel::Trace);
}

const DIRECTIVES: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

#[test]
fn what_people_ask_for_is_stronger_than_the_environment_and_that_than_the_file() {
    let levels = LogLevels::new(LogLevel::Info);
    let file = [("state".to_owned(), LogLevel::Trace), ("shop".to_owned(), LogLevel::Debug)];
    levels.configuration(Some(LogLevel::Error), &file.into());
    levels.environment("state=warn").unwrap();
    levels.ask("shop", LogLevel::Off).unwrap();
    let told = || -> Vec<String> {
        let each = levels.in_effect().into_iter();
        each.map(|it| format!("{}={} {}", it.name, it.level, it.from)).collect()
    };
    assert_eq!(told(), ["*=error file", "shop=off asked", "state=warn environment"]);
    levels.reset();
    levels.configuration(None, &BTreeMap::new());
    assert_eq!(told(), ["*=info default", "state=warn environment"]);
}

#[test]
fn a_plugin_listens_to_no_more_than_what_is_written_of_it() {
    let levels = LogLevels::new(LogLevel::Info);
    for plugin in ["state", "shop"] {
        levels.follow(plugin.into(), Arc::new(There));
    }
    assert_eq!(levels.most_of_plugin("state"), 3);
    // Neither what is said of the host nor of another plugin makes this one format lines.
    levels
        .ask_all(&[("ksi_host::plugin".into(), LogLevel::Trace), ("shop".into(), LogLevel::Trace)])
        .unwrap();
    assert_eq!((levels.most_of_plugin("state"), levels.most_of_plugin("shop")), (3, 5));
    // It may have this target.
    levels.ask("hyper::client", LogLevel::Debug).unwrap();
    assert_eq!(levels.most_of_plugin("state"), 4);
    levels.reset();
    levels.ask("state", LogLevel::Off).unwrap();
    assert_eq!((levels.most_of_plugin("state"), levels.most_of_plugin("shop")), (0, 3));
}

struct There;

impl Follower for There {
    fn is_there(&self) -> bool {
        true
    }

    fn levels_changed(&self) {}
}

/// Counts what it is told, and goes at the second time.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Follower for Counting {
    fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed) < 2
    }

    fn levels_changed(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn whoever_follows_is_told_of_each_change_and_forgotten_when_he_is_gone() {
    let levels = LogLevels::new(LogLevel::Info);
    let following = Arc::new(Counting::default());
    levels.follow("state".into(), following.clone());
    levels.ask("state", LogLevel::Trace).unwrap();
    assert_eq!((following.0.load(Ordering::Relaxed), levels.most_of_plugin("shop")), (1, 3));
    levels.ask("shop", LogLevel::Warn).unwrap();
    // Whoever may mean a plugin that is not there may mean a target.
    assert_eq!((following.0.load(Ordering::Relaxed), levels.most_of_plugin("shop")), (2, 5));
    levels.follow("shop".into(), Arc::new(Counting::default()));
    assert_eq!(levels.followers().len(), 1);
}

#[test]
fn what_says_nothing_that_can_be_logged_is_refused_and_changes_nothing() {
    let levels = LogLevels::new(LogLevel::Info);
    for text in ["state=loud", "a b=debug", "[span]=debug", "=debug", "warn,state=loud"] {
        assert!(levels.environment(text).is_err(), "{text}");
    }
    assert!(levels.ask("", LogLevel::Debug).is_err());
    assert!(levels.ask(&"x".repeat(300), LogLevel::Debug).is_err());
    for number in 0..ASKED {
        levels.ask(&format!("p{number}"), LogLevel::Debug).unwrap();
    }
    assert!(matches!(levels.ask("q", LogLevel::Debug), Err(InvalidLogLevel::TooMany { .. })));
    levels.ask("p1", LogLevel::Trace).unwrap();
    levels.reset();
    assert_eq!(levels.in_effect().len(), 1);
    let theirs = LogLevels::of_subscriber();
    assert_eq!(theirs.ask("p", LogLevel::Debug), Err(InvalidLogLevel::OfSubscriber));
}
