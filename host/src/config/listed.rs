//! Every key with its value, as it could be written in a file: for whoever asks what is in effect.
//!
//! Everything is taken apart without `..`, so that a new key cannot be forgotten here.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::origin::below;
use super::{
    AfterDrain, Cgroup, Checkpoint, Config, ContractPolicy, Contracts, ContractsOf, InstallWith,
    Isolation, IsolationMode, IsolationOf, Log, LogFormat, Metrics, Python, PythonOf, Recorder,
    Recovery, Reload, ReloadOf, Restart, StateFiles, UntrustedPlugins, Validate, range,
};

use crate::secrets::Reference;

/// Keys and values in the order of the configuration's tables, with their ways, as in
/// `reload.plugins.hello.drain`. What nobody has said and what is nothing then is null.
pub(crate) type Listed = Vec<(String, Value)>;

pub(crate) fn listed(config: &Config) -> Listed {
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
        metrics,
        recorder,
        log,
        plugins,
        origins: _,
    } = config;
    let mut list = List(Vec::new());
    list.put("host", "plugin_dirs", paths(plugin_dirs));
    list.put("host", "socket", path(socket));
    list.put("host", "pid_file", path(pid_file));
    list.put("host", "private_dir", path(private_dir));
    list.put("host", "untrusted_plugins", untrusted_plugins.map(untrusted).into());
    timeouts.all().into_iter().for_each(|(key, it)| list.put("timeouts", key, time(it)));
    limits.all().into_iter().for_each(|(key, it, _)| list.put("limits", key, it.into()));
    list.reload(reload);
    list.isolation(isolation);
    list.python(python);
    list.contracts(contracts);
    let StateFiles { persist, dir, interval } = state;
    list.put("state", "persist", (*persist).into());
    list.put("state", "dir", path(dir));
    list.put("state", "interval", time(*interval));
    let Recovery { first, longest, attempts, after_rollback, dir } = recovery;
    list.put("recovery", "first", time(*first));
    list.put("recovery", "longest", time(*longest));
    list.put("recovery", "attempts", (*attempts).into());
    list.put("recovery", "after_rollback", time(*after_rollback));
    list.put("recovery", "dir", path(dir));
    let Metrics { interval } = metrics;
    list.put("metrics", "interval", time(*interval));
    let Log { format, level, levels } = log;
    let format = match format {
        LogFormat::Human => "human",
        LogFormat::Json => "json",
    };
    list.put("log", "format", format.into());
    list.put("log", "level", level.map(|level| level.to_string()).into());
    for (name, level) in levels {
        list.put("log.levels", name, level.to_string().into());
    }
    let Recorder { calls, kept, failure_bytes, slow } = recorder;
    list.put("recorder", "calls", (*calls).into());
    list.put("recorder", "kept", (*kept).into());
    list.put("recorder", "failure_bytes", (*failure_bytes).into());
    list.put("recorder", "slow", time(*slow));
    plugins.iter().for_each(|(name, own)| list.leaves(&below("plugin", name), own));
    list.0
}

struct List(Listed);

impl List {
    fn put(&mut self, table: &str, key: &str, value: Value) {
        self.0.push((below(table, key), value));
    }

    /// What only counts if it is said.
    fn said(&mut self, table: &str, key: &str, value: Option<Value>) {
        value.into_iter().for_each(|value| self.put(table, key, value));
    }

    /// What a plugin is given, value by value. Lists are values.
    fn leaves(&mut self, path: &str, value: &Value) {
        let is_table = |value: &&Map<String, Value>| !value.is_empty();
        let table = value.as_object().filter(is_table);
        match table.filter(|_| Reference::of(value).is_none()) {
            Some(object) => {
                object.iter().for_each(|(key, value)| self.leaves(&below(path, key), value));
            }
            None => self.0.push((path.to_owned(), value.clone())),
        }
    }

    fn reload(&mut self, reload: &Reload) {
        const TABLE: &str = "reload";
        let Reload { after_drain, probation, margin, min_calls, trial, kept_versions, plugins } =
            reload;
        self.put(TABLE, "after_drain", drained(*after_drain));
        self.put(TABLE, "probation", time(*probation));
        self.put(TABLE, "margin", json!(margin));
        self.put(TABLE, "min_calls", json!(min_calls));
        self.put(TABLE, "trial", json!(trial));
        self.put(TABLE, "kept_versions", json!(kept_versions));
        for (name, own) in plugins {
            let table = &below("reload.plugins", name);
            let ReloadOf {
                drain,
                hold,
                after_drain,
                probation,
                margin,
                min_calls,
                exclusive,
                trial,
            } = own;
            self.said(table, "drain", drain.map(time));
            self.said(table, "hold", hold.map(time));
            self.said(table, "after_drain", after_drain.map(drained));
            self.said(table, "probation", probation.map(time));
            self.said(table, "margin", margin.map(|it| json!(it)));
            self.said(table, "min_calls", min_calls.map(Value::from));
            self.said(table, "exclusive", exclusive.then(|| true.into()));
            self.said(table, "trial", trial.map(Value::from));
        }
    }

    fn isolation(&mut self, isolation: &Isolation) {
        const TABLE: &str = "isolation";
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
        } = isolation;
        self.put(TABLE, "default", mode(*default));
        self.put(TABLE, "restart", restarted(*restart));
        self.put(TABLE, "intensity", json!(intensity));
        self.put(TABLE, "period", time(*period));
        self.put(TABLE, "checkpoint", checkpointed(*checkpoint));
        self.put(TABLE, "stuck", time(*stuck));
        self.put(TABLE, "memory", memory.map(shown).into());
        self.put(TABLE, "cpu", cpu.map(time).into());
        self.put(TABLE, "open_files", json!(open_files));
        self.put(TABLE, "processes", json!(processes));
        self.put(TABLE, "profile", profile.as_str().into());
        self.put(TABLE, "read", paths(read));
        self.put(TABLE, "write", paths(write));
        self.put(TABLE, "exec", paths(exec));
        self.put(TABLE, "connect", json!(connect));
        self.put(TABLE, "bind", json!(bind));
        self.put(TABLE, "require", json!(require));
        self.put(TABLE, "cgroup", grouped(*cgroup));
        plugins.iter().for_each(|(name, own)| self.isolation_of(name, own));
    }

    fn isolation_of(&mut self, name: &str, own: &IsolationOf) {
        let table = &below("isolation.plugins", name);
        let IsolationOf {
            mode: lives,
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
        } = own;
        self.said(table, "mode", lives.map(mode));
        self.said(table, "restart", restart.map(restarted));
        self.said(table, "intensity", intensity.map(Value::from));
        self.said(table, "period", period.map(time));
        self.said(table, "checkpoint", checkpoint.map(checkpointed));
        self.said(table, "stuck", stuck.map(time));
        self.said(table, "memory", memory.map(shown));
        self.said(table, "cpu", cpu.map(time));
        self.said(table, "open_files", open_files.map(Value::from));
        self.said(table, "processes", processes.map(Value::from));
        self.said(table, "profile", profile.map(|it| it.as_str().into()));
        self.said(table, "read", read.as_deref().map(paths));
        self.said(table, "write", write.as_deref().map(paths));
        self.said(table, "exec", exec.as_deref().map(paths));
        self.said(table, "connect", connect.as_ref().map(|it| json!(it)));
        self.said(table, "bind", bind.as_ref().map(|it| json!(it)));
        self.said(table, "require", require.map(Value::from));
        self.said(table, "cgroup", cgroup.map(grouped));
    }

    fn python(&mut self, python: &Python) {
        const TABLE: &str = "python";
        let Python { interpreter, install, spare, environments, path: folders, plugins } = python;
        self.put(TABLE, "interpreter", shown(interpreter.display()));
        let install = install.map(|with| match with {
            InstallWith::Uv => "uv",
            InstallWith::Pip => "pip",
        });
        self.put(TABLE, "install", install.map_or(false.into(), Value::from));
        self.put(TABLE, "spare", json!(spare));
        self.put(TABLE, "environments", path(environments));
        self.put(TABLE, "path", paths(folders));
        for (name, PythonOf { keep }) in plugins {
            let keep = keep.as_ref().map(|it| json!(it));
            self.said(&below("python.plugins", name), "keep", keep);
        }
    }

    fn contracts(&mut self, contracts: &Contracts) {
        const TABLE: &str = "contracts";
        let Contracts { policy, clients, validate, plugins, events } = contracts;
        self.put(TABLE, "policy", policed(*policy));
        self.put(TABLE, "clients", policed(*clients));
        let validate = match validate {
            Validate::Off => "off",
            Validate::Clients => "clients",
        };
        self.put(TABLE, "validate", validate.into());
        let mut of = |table: &str, all: &BTreeMap<String, ContractsOf>| {
            for (name, ContractsOf { policy, clients }) in all {
                let table = &below(table, name);
                self.said(table, "policy", policy.map(policed));
                self.said(table, "clients", clients.map(policed));
            }
        };
        of("contracts.plugins", plugins);
        of("contracts.events", events);
    }
}

fn shown(value: impl Display) -> Value {
    value.to_string().into()
}

fn time(time: Duration) -> Value {
    range::shown(time).into()
}

fn path(path: &Option<PathBuf>) -> Value {
    path.as_ref().map(|path| path.display().to_string()).into()
}

fn paths(paths: &[PathBuf]) -> Value {
    paths.iter().map(|path| Path::display(path).to_string()).collect()
}

fn untrusted(untrusted: UntrustedPlugins) -> Value {
    let word = match untrusted {
        UntrustedPlugins::Refuse => "refuse",
        UntrustedPlugins::Warn => "warn",
        UntrustedPlugins::Allow => "allow",
    };
    word.into()
}

fn drained(after: AfterDrain) -> Value {
    let word = match after {
        AfterDrain::Cancel => "cancel",
        AfterDrain::Keep => "keep",
    };
    word.into()
}

fn mode(mode: IsolationMode) -> Value {
    let word = match mode {
        IsolationMode::Asked => "asked",
        IsolationMode::None => "none",
        IsolationMode::Process => "process",
    };
    word.into()
}

fn restarted(restart: Restart) -> Value {
    let word = match restart {
        Restart::OnCrash => "on_crash",
        Restart::Always => "always",
        Restart::Never => "never",
    };
    word.into()
}

fn checkpointed(checkpoint: Checkpoint) -> Value {
    match checkpoint {
        Checkpoint::Every(every) => time(every),
        Checkpoint::OnChange => "on_change".into(),
    }
}

fn grouped(cgroup: Cgroup) -> Value {
    match cgroup {
        Cgroup::WhereDelegated => true.into(),
        Cgroup::Never => false.into(),
        Cgroup::Require => "require".into(),
    }
}

fn policed(policy: ContractPolicy) -> Value {
    let word = match policy {
        ContractPolicy::Off => "off",
        ContractPolicy::Warn => "warn",
        ContractPolicy::Refuse => "refuse",
    };
    word.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What is listed, as a file that says it.
    fn written(listed: &Listed) -> String {
        let said = listed.iter().filter(|(_, value)| !value.is_null());
        said.map(|(key, value)| {
            // TOML writes this JSON as it is, but for objects, which no value is.
            format!("{key} = {value}\n")
        })
        .collect()
    }

    #[test]
    fn a_file_of_all_that_is_listed_says_the_same() {
        let text = "
            [host]
            plugin_dirs = ['/p']
            socket = '/s'
            untrusted_plugins = 'refuse'
            [timeouts]
            handler = '1m 30s'
            [limits]
            workers = 3
            [reload]
            after_drain = 'keep'
            [reload.plugins.slow]
            drain = '2m'
            exclusive = true
            margin = 0.25
            [isolation]
            memory = '1 GiB'
            profile = 'standard'
            connect = [443, 'udp']
            checkpoint = 'on_change'
            [isolation.plugins.slow]
            mode = 'process'
            cgroup = 'require'
            read = ['/data']
            bind = 'any'
            [python]
            install = 'uv'
            [python.plugins.counts]
            keep = ['_state']
            [contracts]
            validate = 'clients'
            events.'state:*'.policy = 'off'
            plugins.slow.clients = 'warn'
            [state]
            dir = '/state'
            [recovery]
            attempts = 1
            [metrics]
            interval = '1m'
            [plugin.slow]
            'a b'.c = [1, 'x']
            rate = 0.5
            [plugin.idle]
        ";
        let config = Config::from_toml(text, "/".as_ref()).unwrap();
        let again = written(&listed(&config));
        assert_eq!(Config::from_toml(&again, "/".as_ref()).unwrap(), config, "{again}");
        let default = written(&listed(&Config::default()));
        assert_eq!(Config::from_toml(&default, "/".as_ref()).unwrap(), Config::default());
    }
}
