use super::super::{Config, ConfigError};
use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::from_toml(text, Path::new("/etc/ksi"))
}

fn message(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn every_setting_of_isolation_is_read_for_all_and_for_one() {
    let config = read(
        r#"
        [isolation]
        default = "process"
        restart = "always"
        intensity = 3
        period = "2m"
        checkpoint = "5s"
        stuck = "3s"
        memory = "512 MiB"
        cpu = "1h"
        open_files = 64
        processes = 100
        profile = "standard"
        read = ["data", "/srv/data"]
        write = ["out"]
        exec = ["/usr/bin/git"]
        connect = [443, "udp", "db/socket"]
        bind = [8080]
        require = true
        [isolation.plugins.same]
        [isolation.plugins.other]
        mode = "none"
        restart = "never"
        intensity = 1
        period = "1s"
        checkpoint = "on_change"
        stuck = "1s"
        memory = 33554432
        cpu = "2s"
        open_files = 16
        processes = 5
        profile = "strict"
        read = ["/other"]
        write = []
        exec = []
        connect = []
        bind = []
        require = false
        "#,
    )
    .expect("a good file");
    let same = config.isolation.policy("same");
    assert_eq!(same, config.isolation.policy("any"));
    assert_eq!((same.mode, same.restart), (IsolationMode::Process, Restart::Always));
    assert_eq!((same.intensity, same.period), (3, Duration::from_secs(120)));
    assert_eq!(same.checkpoint, Checkpoint::Every(Duration::from_secs(5)));
    assert_eq!(same.stuck, Duration::from_secs(3));
    let limits = same.limits;
    assert_eq!(limits.memory, Some(Bytes(512 << 20)));
    assert_eq!(limits.cpu, Some(Duration::from_secs(3600)));
    assert_eq!((limits.open_files, limits.processes), (Some(64), Some(100)));
    assert_eq!(limits.profile, Profile::Standard);
    assert_eq!(limits.read, [Path::new("/etc/ksi/data"), Path::new("/srv/data")]);
    assert_eq!(limits.write, [Path::new("/etc/ksi/out")]);
    assert_eq!(limits.execute, [Path::new("/usr/bin/git")]);
    let (ports, sockets) = ([443].into(), ["/etc/ksi/db/socket".into()].into());
    assert_eq!(limits.connect, Peers::Only { ports, udp: true, sockets });
    assert_eq!(limits.bind, Ports::Only([8080].into()));
    assert!(limits.require);

    let other = config.isolation.policy("other");
    assert_eq!((other.mode, other.restart), (IsolationMode::None, Restart::Never));
    assert_eq!((other.intensity, other.period), (1, Duration::from_secs(1)));
    assert_eq!((other.checkpoint, other.stuck), (Checkpoint::OnChange, Duration::from_secs(1)));
    let limits = other.limits;
    assert_eq!((limits.memory, limits.cpu), (Some(Bytes(32 << 20)), Some(Duration::from_secs(2))));
    assert_eq!((limits.open_files, limits.processes), (Some(16), Some(5)));
    assert_eq!((limits.profile, limits.require), (Profile::Strict, false));
    assert_eq!(limits.read, [Path::new("/other")]);
    assert!(limits.write.is_empty() && limits.execute.is_empty());
    assert!(limits.connect.is_nobody() && limits.bind.is_none());
}

#[test]
fn a_plugin_lives_in_the_host_unless_it_asks_and_is_limited_by_nothing_unless_somebody_says_so() {
    let policy = Config::default().isolation.policy("hello");
    assert_eq!((policy.mode, policy.limits.profile), (IsolationMode::Asked, Profile::None));
    assert_eq!((policy.limits.memory, policy.limits.require), (None, false));
    assert_eq!((policy.intensity, policy.period), (5, Duration::from_secs(60)));
    assert_eq!(policy.checkpoint, Checkpoint::Every(Duration::from_secs(30)));
    assert_eq!((policy.restart, policy.stuck), (Restart::OnCrash, Duration::from_secs(10)));
}

#[test]
fn what_isolation_cannot_mean_is_refused_with_the_key() {
    for (table, lines, key, said) in [
        ("isolation", "intensity = 0", "isolation.intensity", "from 1 to 1000"),
        ("isolation", "period = '0s'", "isolation.period", "above zero"),
        ("isolation", "stuck = '31 days'", "isolation.stuck", "at most 30 days"),
        ("isolation", "checkpoint = '0s'", "isolation.checkpoint", "above zero"),
        ("isolation", "memory = '1 MiB'", "isolation.memory", "16 MiB at least"),
        ("isolation", "read = ['']", "isolation.read", "must be a path"),
        ("isolation", "exec = ['a']", "isolation.exec", "limits nothing while `profile`"),
        ("isolation.plugins.a", "cpu = '0s'", "isolation.plugins.a.cpu", "above zero"),
        ("isolation.plugins.a", "open_files = 2", "isolation.plugins.a.open_files", "16 at least"),
        ("isolation.plugins.a", "processes = 0", "isolation.plugins.a.processes", "threads count"),
        ("isolation.plugins.a", "intensity = 1001", "isolation.plugins.a.intensity", "must be"),
        ("isolation.plugins.a", "bind = [80]", "isolation.plugins.a.bind", "limits nothing while"),
        (
            "isolation.plugins.a",
            "profile = 'strict'\nconnect = [443]",
            "isolation.plugins.a.connect",
            "use `standard`",
        ),
        (
            "isolation.plugins.a",
            "profile = 'strict'\nexec = ['/usr/bin']",
            "isolation.plugins.a.exec",
            "use `standard`",
        ),
    ] {
        let text = message(&format!("[{table}]\n{lines}\n"));
        assert!(text.contains(&format!("`{key}` ")), "{lines}: {text}");
        assert!(text.contains(said), "{lines}: {text}");
    }
    assert!(message("[isolation.plugins.'a b']\n").contains("`isolation.plugins.a b` names no"));
    // A list for those that have a profile.
    read("[isolation]\nread = ['a']\n[isolation.plugins.a]\nprofile = 'strict'\n").expect("good");
}

#[test]
fn what_isolation_cannot_read_is_refused_with_the_line() {
    for (lines, said) in [
        ("default = 'thread'", "`asked`, `none`, `process`"),
        ("restart = 'sometimes'", "`on_crash`, `always`, `never`"),
        ("checkpoint = 'soon'", "neither \"on_change\" nor a duration"),
        ("memory = '1 MB'", "no size such as \"512 MiB\""),
        ("memory = -1", "a size such as \"512 MiB\""),
        ("profile = 'tight'", "`none`, `standard`, `strict`"),
        ("connect = ['db:5432']", "write the port alone"),
        ("connect = [70000]", "a port from 0 to 65535"),
        ("bind = ['udp']", "`udp` is no port"),
        ("mode = 'process'", "unknown field `mode`"),
        ("cgroup = 'never'", "`never` is none of true, false"),
        ("opn_files = 1", "did you mean `open_files`?"),
    ] {
        let text = message(&format!("[isolation]\n\n{lines}\n"));
        assert!(text.contains("line 3") && text.contains(said), "{lines}: {text}");
    }
}

#[test]
fn whoever_isolates_all_isolates_those_too_that_were_left_out() {
    let text = "[isolation.plugins.a]\nmode = 'none'\nmemory = '64 MiB'\n[isolation.plugins.b]\n";
    let isolation = read(text).expect("a good file").isolation;
    let mode = |isolation: &Isolation, plugin| isolation.policy(plugin).mode;
    let mut one = isolation.clone();
    one.isolate("a").expect("a name");
    assert_eq!(mode(&one, "a"), IsolationMode::Process);
    assert_eq!(mode(&one, "b"), IsolationMode::Asked);
    assert_eq!(one.policy("a").limits.memory, Some(Bytes(64 << 20)));
    assert_eq!(one.isolated().as_deref(), Some("a"));
    let mut all = isolation.clone();
    all.isolate("all").expect("all of them");
    assert_eq!(mode(&all, "a"), IsolationMode::Process);
    assert_eq!(mode(&all, "any"), IsolationMode::Process);
    assert_eq!(all.isolated().as_deref(), Some("all plugins"));
    assert_eq!(isolation.isolated(), None);
    assert!(one.isolate("a b").expect_err("no name").to_string().contains("names no plugin"));
}

#[test]
fn a_path_that_cannot_go_to_the_process_as_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;

    let folder = Path::new(std::ffi::OsStr::from_bytes(b"/etc/\xff"));
    for (key, line) in [("write", "write = ['a']"), ("connect", "connect = ['./a']")] {
        let text = format!("[isolation]\nprofile = 'standard'\n{line}");
        let error = Config::from_toml(&text, folder).expect_err("no text").to_string();
        assert!(
            error.contains(&format!("`isolation.{key}` is a path that is no UTF-8")),
            "{error}"
        );
    }
}

#[test]
fn a_cgroup_is_wanted_where_there_is_one_or_in_any_case_or_not_at_all() {
    let text = "[isolation]\ncgroup = false\n[isolation.plugins.a]\ncgroup = 'require'\n\
                [isolation.plugins.b]\ncgroup = true";
    let isolation = read(text).expect("a good file").isolation;
    let of = |plugin| isolation.policy(plugin).cgroup;
    assert_eq!((of("a"), of("any")), (Cgroup::Require, Cgroup::Never));
    assert_eq!((of("b"), Isolation::default().cgroup), (of("b"), Cgroup::WhereDelegated));
    assert_eq!(of("b"), Cgroup::WhereDelegated);
}

#[test]
fn a_plugin_that_asks_for_a_process_has_it_unless_the_operator_says_otherwise() {
    // What the file says, of a plugin that asks and of one that does not.
    for (lines, asks, other) in [
        ("", true, false),
        ("default = 'asked'", true, false),
        ("default = 'none'", false, false),
        ("default = 'process'", true, true),
        ("[isolation.plugins.a]\nmode = 'none'", false, false),
        ("[isolation.plugins.a]\nmemory = '64 MiB'", true, false),
        ("default = 'none'\n[isolation.plugins.a]\nmode = 'process'", true, true),
        ("default = 'none'\n[isolation.plugins.a]\nmode = 'asked'", true, false),
    ] {
        let mut isolation = read(&format!("[isolation]\n{lines}\n")).expect("good").isolation;
        let mode = isolation.policy("a").mode;
        assert_eq!((mode.is_process(true), mode.is_process(false)), (asks, other), "{lines}");
        isolation.isolate("a").expect("a name");
        assert!(isolation.policy("a").mode.is_process(false), "{lines}");
    }
}
