//! `ksi config isolation`: where plugins live by the configuration file, and what they may have and
//! reach there. No host is asked.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use ksi_host::{
    Cgroup, Checkpoint, Isolation, IsolationMode, IsolationPolicy, ProcessLimits, Profile, Restart,
};

use super::args::{Common, ShownIsolation};
use super::exit::CommandFailure;
use super::output;

pub(crate) fn isolation(common: &Common, args: ShownIsolation) -> Result<(), CommandFailure> {
    let isolation = common.configuration()?.isolation;
    shown(&isolation, &args.plugins).iter().try_for_each(|line| output::text(&output::plain(line)))
}

/// Those that are named, or else all that the file names, and what holds for the others.
fn shown(isolation: &Isolation, plugins: &[String]) -> Vec<String> {
    let of = |plugin: &str| lines(plugin, &isolation.policy(plugin));
    if !plugins.is_empty() {
        return plugins.iter().flat_map(|plugin| of(plugin)).collect();
    }
    let others = if isolation.plugins.is_empty() { "all plugins" } else { "all others" };
    // No plugin has that name.
    let others = lines(others, &isolation.policy(""));
    isolation.plugins.keys().flat_map(|plugin| of(plugin)).chain(others).collect()
}

fn lines(name: &str, policy: &IsolationPolicy) -> Vec<String> {
    let lives = match policy.mode {
        IsolationMode::None => return vec![format!("{name}: in the host's process")],
        IsolationMode::Process => "in a process of its own",
        _ => "in a process of its own if asked for (#[plugin(isolated)]), else in the host's",
    };
    vec![
        format!("{name}: {lives}"),
        format!("  {}", restarts(policy)),
        format!("  {}, ended when silent for {}", state(policy.checkpoint), time(policy.stuck)),
        format!("  {}{}", bounds(&policy.limits), cgroup(policy.cgroup)),
        format!("  {}", reach(&policy.limits)),
    ]
}

fn restarts(policy: &IsolationPolicy) -> String {
    let most = format!("at most {} times within {}", policy.intensity, time(policy.period));
    match policy.restart {
        Restart::OnCrash => format!("started again when it has crashed, {most}"),
        Restart::Always => format!("started again however it has ended, {most}"),
        _ => "not started again when it has ended".to_owned(),
    }
}

fn state(checkpoint: Checkpoint) -> String {
    match checkpoint {
        Checkpoint::Every(every) => format!("state taken every {}", time(every)),
        _ => "state taken on each change".to_owned(),
    }
}

fn bounds(limits: &ProcessLimits) -> String {
    let bounds = [
        limits.memory.map(|memory| format!("memory {memory}")),
        limits.cpu.map(|cpu| format!("processor time {}", time(cpu))),
        limits.open_files.map(|files| format!("{files} descriptors")),
        limits.processes.map(|processes| format!("{processes} processes and threads of the user")),
    ];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    if bounds.is_empty() { "no bounds of resources".to_owned() } else { bounds.join(", ") }
}

fn cgroup(cgroup: Cgroup) -> &'static str {
    match cgroup {
        Cgroup::Require => ", with all that it starts in a cgroup of its own",
        Cgroup::Never => ", in the host's cgroup",
        _ => "",
    }
}

fn reach(limits: &ProcessLimits) -> String {
    let required = if limits.require { "; refused where the system cannot do it" } else { "" };
    if limits.profile == Profile::None {
        return format!("reaches what the host reaches{required}");
    }
    let list = |what: &str, paths: &[PathBuf]| {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        (!paths.is_empty()).then(|| format!("; {what} {}", paths.join(", ")))
    };
    let net = |what: &str, some: bool, of: &dyn Display| some.then(|| format!("; {what} {of}"));
    let parts = [
        Some(format!("profile {}", limits.profile.as_str())),
        list("reads", &limits.read),
        list("writes", &limits.write),
        list("runs", &limits.execute),
        net("connects to", !limits.connect.is_nobody(), &limits.connect),
        net("listens on", !limits.bind.is_none(), &limits.bind),
        Some(required.to_owned()),
    ];
    parts.into_iter().flatten().collect()
}

fn time(time: Duration) -> impl Display {
    humantime::format_duration(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(toml: &str, plugins: &[&str]) -> Vec<String> {
        let config = ksi_host::Config::from_toml(toml, "/etc/ksi".as_ref()).unwrap();
        let plugins: Vec<String> = plugins.iter().map(|&plugin| plugin.to_owned()).collect();
        shown(&config.isolation, &plugins)
    }

    #[test]
    fn what_holds_for_each_plugin_is_told_with_what_it_takes_from_all() {
        let toml = "
            [isolation]
            memory = '512 MiB'
            [isolation.plugins.parser]
            mode = 'process'
            cpu = '1h'
            profile = 'standard'
            read = ['data']
            connect = [443, 'udp']
            require = true
            [isolation.plugins.risky]
            mode = 'process'
            restart = 'never'
            checkpoint = 'on_change'
            cgroup = 'require'
        ";
        let parser = [
            "parser: in a process of its own",
            "  started again when it has crashed, at most 5 times within 1m",
            "  state taken every 30s, ended when silent for 10s",
            "  memory 512 MiB, processor time 1h",
            "  profile standard; reads /etc/ksi/data; connects to 443, udp; refused where the system \
             cannot do it",
        ];
        let risky = [
            "risky: in a process of its own",
            "  not started again when it has ended",
            "  state taken on each change, ended when silent for 10s",
            "  memory 512 MiB, with all that it starts in a cgroup of its own",
            "  reaches what the host reaches",
        ];
        let others = [
            "all others: in a process of its own if asked for (#[plugin(isolated)]), else in the host's",
            "  started again when it has crashed, at most 5 times within 1m",
            "  state taken every 30s, ended when silent for 10s",
            "  memory 512 MiB",
            "  reaches what the host reaches",
        ];
        assert_eq!(told(toml, &[]), [&parser[..], &risky, &others].concat());
        assert_eq!(told(toml, &["risky", "hello"])[..5], risky);
        let asked = others[0].replace("all others", "hello");
        assert_eq!(told(toml, &["hello"])[0], asked);
        let none = "[isolation]\ndefault = 'none'";
        assert_eq!(told(none, &["hello"]), ["hello: in the host's process"]);
        assert_eq!(told(none, &[]), ["all plugins: in the host's process"]);
    }
}
