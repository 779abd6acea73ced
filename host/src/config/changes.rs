//! What differs between two configurations, by key: what a host that runs can take over, and what a
//! restart is for.
//!
//! Everything is taken apart without `..`, so that a new key cannot be forgotten here.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Config, Contracts, Isolation, Log, Metrics, Python, Recorder, Recovery, Reload, StateFiles,
};

/// The keys whose values differ, as `limits.connections` or `plugin.hello`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Plugins whose own tables differ, by name.
    pub(crate) plugins: Vec<String>,
    /// What holds from the next replacement on.
    pub(crate) at_once: Vec<String>,
    /// What the host was built with.
    pub(crate) at_restart: Vec<String>,
}

impl Changes {
    pub(crate) fn between(old: &Config, new: &Config) -> Self {
        let mut changes = Changes::default();
        let Config {
            plugin_dirs,
            socket,
            pid_file,
            private_dir,
            untrusted_plugins,
            timeouts,
            limits,
            reload,
            isolation,
            python,
            contracts,
            state,
            recovery,
            log,
            metrics,
            recorder,
            plugins,
            origins: _,
        } = new;
        changes.restart("host.plugin_dirs", *plugin_dirs != old.plugin_dirs);
        changes.restart("host.socket", *socket != old.socket);
        changes.restart("host.pid_file", *pid_file != old.pid_file);
        changes.restart("host.private_dir", *private_dir != old.private_dir);
        let trust = *untrusted_plugins != old.untrusted_plugins;
        changes.restart("host.untrusted_plugins", trust);
        for ((key, new), (_, old)) in timeouts.all().into_iter().zip(old.timeouts.all()) {
            let key = format!("timeouts.{key}");
            match key.as_str() {
                // Of the policy of every plugin, as `reload` is.
                "timeouts.drain" | "timeouts.hold" => changes.now(&key, new != old),
                _ => changes.restart(&key, new != old),
            }
        }
        for ((key, new, _), (_, old, _)) in limits.all().into_iter().zip(old.limits.all()) {
            changes.restart(&format!("limits.{key}"), new != old);
        }
        changes.of_reload(&old.reload, reload);
        changes.of_isolation(&old.isolation, isolation);
        let Python { interpreter, install, spare, environments, path, plugins: of_python } = python;
        changes.restart("python.interpreter", *interpreter != old.python.interpreter);
        changes.restart("python.install", *install != old.python.install);
        changes.restart("python.spare", *spare != old.python.spare);
        changes.restart("python.environments", *environments != old.python.environments);
        changes.restart("python.path", *path != old.python.path);
        for plugin in differing(&old.python.plugins, of_python) {
            changes.restart(&format!("python.plugins.{plugin}"), true);
        }
        let Contracts { policy, clients, validate, plugins: of_contracts, events } = contracts;
        changes.now("contracts.policy", *policy != old.contracts.policy);
        changes.now("contracts.clients", *clients != old.contracts.clients);
        changes.now("contracts.validate", *validate != old.contracts.validate);
        for plugin in differing(&old.contracts.plugins, of_contracts) {
            changes.now(&format!("contracts.plugins.{plugin}"), true);
        }
        for event in differing(&old.contracts.events, events) {
            changes.now(&format!("contracts.events.{event:?}"), true);
        }
        let StateFiles { persist, dir, interval } = state;
        changes.restart("state.persist", *persist != old.state.persist);
        changes.restart("state.dir", *dir != old.state.dir);
        changes.restart("state.interval", *interval != old.state.interval);
        let Recovery { first, longest, attempts, after_rollback, dir } = recovery;
        changes.restart("recovery.first", *first != old.recovery.first);
        changes.restart("recovery.longest", *longest != old.recovery.longest);
        changes.restart("recovery.attempts", *attempts != old.recovery.attempts);
        changes.restart("recovery.after_rollback", *after_rollback != old.recovery.after_rollback);
        changes.restart("recovery.dir", *dir != old.recovery.dir);
        let Log { format, level, levels } = log;
        changes.restart("log.format", *format != old.log.format);
        changes.now("log.level", *level != old.log.level);
        for name in differing(&old.log.levels, levels) {
            changes.now(&format!("log.levels.{name:?}"), true);
        }
        let Metrics { interval } = metrics;
        changes.restart("metrics.interval", *interval != old.metrics.interval);
        let Recorder { calls, kept, failure_bytes, slow } = recorder;
        changes.restart("recorder.calls", *calls != old.recorder.calls);
        changes.restart("recorder.kept", *kept != old.recorder.kept);
        let old_bytes = old.recorder.failure_bytes;
        changes.restart("recorder.failure_bytes", *failure_bytes != old_bytes);
        changes.restart("recorder.slow", *slow != old.recorder.slow);
        changes.plugins = differing(&old.plugins, plugins);
        changes
    }

    fn of_reload(&mut self, old: &Reload, new: &Reload) {
        let Reload { after_drain, probation, margin, min_calls, trial, kept_versions, plugins } =
            new;
        self.now("reload.after_drain", *after_drain != old.after_drain);
        self.now("reload.probation", *probation != old.probation);
        self.now("reload.margin", *margin != old.margin);
        self.now("reload.min_calls", *min_calls != old.min_calls);
        self.now("reload.trial", *trial != old.trial);
        self.restart("reload.kept_versions", *kept_versions != old.kept_versions);
        for plugin in differing(&old.plugins, plugins) {
            self.now(&format!("reload.plugins.{plugin}"), true);
        }
    }

    fn of_isolation(&mut self, old: &Isolation, new: &Isolation) {
        let Isolation {
            default,
            restart,
            intensity,
            period,
            checkpoint,
            stuck,
            memory,
            cpu,
            open_files,
            processes,
            profile,
            read,
            write,
            exec,
            connect,
            bind,
            require,
            cgroup,
            plugins,
            told: _,
        } = new;
        for (key, differs) in [
            ("default", *default != old.default),
            ("restart", *restart != old.restart),
            ("intensity", *intensity != old.intensity),
            ("period", *period != old.period),
            ("checkpoint", *checkpoint != old.checkpoint),
            ("stuck", *stuck != old.stuck),
            ("memory", *memory != old.memory),
            ("cpu", *cpu != old.cpu),
            ("open_files", *open_files != old.open_files),
            ("processes", *processes != old.processes),
            ("profile", *profile != old.profile),
            ("read", *read != old.read),
            ("write", *write != old.write),
            ("exec", *exec != old.exec),
            ("connect", *connect != old.connect),
            ("bind", *bind != old.bind),
            ("require", *require != old.require),
            ("cgroup", *cgroup != old.cgroup),
        ] {
            self.now(&format!("isolation.{key}"), differs);
        }
        for plugin in differing(&old.plugins, plugins) {
            self.now(&format!("isolation.plugins.{plugin}"), true);
        }
    }

    fn now(&mut self, key: &str, differs: bool) {
        self.at_once.extend(differs.then(|| key.to_owned()));
    }

    fn restart(&mut self, key: &str, differs: bool) {
        self.at_restart.extend(differs.then(|| key.to_owned()));
    }
}

/// Keys that have different values in two maps, or are in one of them alone.
fn differing<T: PartialEq>(old: &BTreeMap<String, T>, new: &BTreeMap<String, T>) -> Vec<String> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).cloned().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn changes(old: &str, new: &str) -> Changes {
        let read = |text: &str| Config::from_toml(text, "/".as_ref()).unwrap();
        Changes::between(&read(old), &read(new))
    }

    #[test]
    fn every_key_that_differs_is_named_with_when_it_counts() {
        let old = "[plugin.same]\na = 1\n[plugin.gone]\n[plugin.other]\na = 1";
        let new = "
            [host]
            socket = 's'
            [timeouts]
            handler = '1s'
            hold = '1s'
            [limits]
            connections = 7
            workers = 3
            [reload]
            margin = 0.5
            kept_versions = 1
            [reload.plugins.slow]
            drain = '1m'
            [isolation]
            memory = '1 GiB'
            bind = [80]
            [isolation.plugins.slow]
            mode = 'process'
            profile = 'standard'
            [state]
            interval = '1m'
            [recovery]
            attempts = 1
            [log]
            format = 'json'
            level = 'warn'
            levels = { slow = 'debug' }
            [metrics]
            interval = '1m'
            [recorder]
            calls = 0
            slow = '1s'
            [plugin.same]
            a = 1
            [plugin.other]
            a = 2
            [plugin.new]
        ";
        let changes = changes(old, new);
        assert_eq!(changes.plugins, ["gone", "new", "other"]);
        let at_once = [
            "timeouts.hold",
            "reload.margin",
            "reload.plugins.slow",
            "isolation.memory",
            "isolation.bind",
            "isolation.plugins.slow",
            "log.level",
            "log.levels.\"slow\"",
        ];
        assert_eq!(changes.at_once, at_once);
        let restart = [
            "host.socket",
            "timeouts.handler",
            "limits.connections",
            "limits.workers",
            "reload.kept_versions",
            "state.interval",
            "recovery.attempts",
            "log.format",
            "metrics.interval",
            "recorder.calls",
            "recorder.slow",
        ];
        assert_eq!(changes.at_restart, restart);
    }

    #[test]
    fn of_the_same_configuration_nothing_is_named() {
        let text = "[limits]\nworkers = 2\n[plugin.a]\nx = [1, 2]";
        assert_eq!(changes(text, text), Changes::default());
    }
}
