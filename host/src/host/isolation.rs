//! How plugins live in processes of their own, as the configuration says at the moment.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use ksi_kernel::router::Router;
use ksi_sandbox::{Limits, Profile, cgroup::Bounds};
use ksi_worker_protocol::{FRAME_LIMIT, life};
use tokio::sync::mpsc;

use crate::{
    catalog,
    config::{Cgroup, Checkpoint, Config, IsolationPolicy, Restart},
    core::settings::Settings,
    log_levels::LogLevels,
    plugin::{
        lifecycle::prepare::Sandboxes,
        state::snapshot::LARGEST_SNAPSHOT,
        supervisor::{
            checkpoint::CheckpointPolicy,
            restart::{RestartPolicies, RestartPolicy, RestartWhen},
        },
        worker::{
            self,
            down::Down,
            link::{Confined, Health, LinkLimits},
            process::{GroupPolicy, GroupUse, Processes, Program},
            residence::{ProcessResidences, Spawner, WorkerPolicies, WorkerPolicy},
        },
    },
    system::sandbox::SandboxSpec,
};

/// What a worker may have asked for at a time.
const ASKS: usize = 4_096;

/// Who lives in a process of its own, and where it is told that one has ended.
pub(super) fn isolation(
    config: &Config,
    settings: &Arc<Settings>,
    program: Option<PathBuf>,
    router: &Arc<Router>,
    started: Instant,
    levels: &LogLevels,
) -> (ProcessResidences, mpsc::UnboundedReceiver<Down>) {
    let (downs, ends) = mpsc::unbounded_channel();
    let Config { limits, timeouts, .. } = config;
    let payload = limits.payload_bytes as u64;
    let state = LARGEST_SNAPSHOT;
    // Large payloads go in memory files, whose length these bound.
    let frame = FRAME_LIMIT;
    let link = LinkLimits { frame, payload, state: payload.max(state), asks: ASKS };
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
    let zero = now.saturating_sub(started.elapsed()).as_nanos();
    let spawner = Spawner {
        processes: Processes::new(),
        router: router.clone(),
        open_limit: timeouts.probe,
        shutdown: timeouts.shutdown,
        link,
        limits: life::Limits {
            frame,
            payload,
            state,
            depth: u32::try_from(limits.event_depth).unwrap_or(u32::MAX),
            tasks: limits.background_tasks as u64,
            subscriptions: limits.subscriptions as u64,
            emits: ASKS as u64,
            sends: limits.queued_events as u64,
            watch_events: limits.subscriber_queue as u64,
            watch_bytes: limits.subscriber_bytes as u64,
            blocking_threads: limits.blocking_threads as u64,
            ..life::Limits::default()
        },
        clock_zero: u64::try_from(zero).unwrap_or(u64::MAX),
        levels: levels.clone(),
        downs,
    };
    let native = program.map(|program| Program::with_argument(program, worker::ARGUMENT));
    let (settings, is_possible) = (settings.clone(), native.is_some());
    let policies: WorkerPolicies = Arc::new(move |plugin| {
        let policy = settings.isolation(&plugin.name);
        let sandbox = spec_of(&policy);
        let health = Health { stuck: policy.stuck };
        let limits = &policy.limits;
        let confined = (limits.profile != Profile::None).then(|| {
            let bind = limits.bind.clone();
            Arc::new(Confined { bind, is_change: catalog::changes_the_host })
        });
        // Whoever only asks for one lives in the host where there can be none.
        let isolated = policy.mode.is_process(plugin.isolated && is_possible);
        let isolated = isolated || plugin.built.needs_process();
        let mut nothing = Limits::default();
        nothing.profile = Profile::None;
        let (limited, group) = (*limits != nothing, group_of(&policy));
        WorkerPolicy { isolated, limited, health, group, sandbox, confined }
    });
    let (spawner, native) = (Arc::new(spawner), native.map(Arc::new));
    (ProcessResidences { spawner, native, policies }, ends)
}

/// What the processes have and reach in which the files of such plugins are opened before.
pub(super) fn sandboxes(settings: &Arc<Settings>) -> Sandboxes {
    let settings = settings.clone();
    Arc::new(move |plugin| {
        let policy = settings.isolation(&plugin.name);
        match policy.mode.is_process(plugin.isolated) {
            false => SandboxSpec::Null,
            true => spec_of(&policy),
        }
    })
}

fn group_of(policy: &IsolationPolicy) -> GroupPolicy {
    let mut bounds = Bounds::default();
    bounds.memory = policy.limits.memory;
    bounds.processes = policy.limits.processes;
    let group = match policy.cgroup {
        Cgroup::WhereDelegated => GroupUse::WhereDelegated,
        Cgroup::Never => GroupUse::Never,
        Cgroup::Require => GroupUse::Required,
    };
    GroupPolicy { group, bounds }
}

fn spec_of(policy: &IsolationPolicy) -> SandboxSpec {
    // What is no text was refused where it was read; whoever reads this would refuse it too.
    serde_json::to_value(&policy.limits).unwrap_or_else(|error| error.to_string().into())
}

/// What follows when one of them has ended.
pub(super) fn restarts(config: &Config, settings: &Arc<Settings>) -> RestartPolicies {
    let (longest_wait, settings) = (config.recovery.longest, settings.clone());
    Arc::new(move |plugin| {
        let policy = settings.isolation(plugin);
        let IsolationPolicy { restart, intensity, period, checkpoint, .. } = policy;
        let checkpoint = match checkpoint {
            Checkpoint::Every(interval) => CheckpointPolicy::Every(interval),
            Checkpoint::OnChange => CheckpointPolicy::OnChange,
        };
        let when = match restart {
            Restart::OnCrash => RestartWhen::OnCrash,
            Restart::Always => RestartWhen::Always,
            Restart::Never => RestartWhen::Never,
        };
        RestartPolicy { when, intensity, period, longest_wait, checkpoint }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_started_again_and_how_often_is_as_the_configuration_has_it() {
        let toml = "
            [recovery]
            longest = '3m'
            [isolation]
            restart = 'always'
            [isolation.plugins.once]
            restart = 'never'
            [isolation.plugins.often]
            restart = 'on_crash'
            intensity = 9
            period = '1s'
        ";
        let config = Config::from_toml(toml, "/".as_ref()).unwrap();
        let restarts = restarts(&config, &Settings::new(&config, None));
        assert_eq!(restarts("any").when, RestartWhen::Always);
        assert_eq!(restarts("once").when, RestartWhen::Never);
        let often = RestartPolicy {
            when: RestartWhen::OnCrash,
            intensity: 9,
            period: Duration::from_secs(1),
            longest_wait: Duration::from_secs(180),
            checkpoint: CheckpointPolicy::Every(Duration::from_secs(30)),
        };
        assert_eq!(restarts("often"), often);
    }
}
