//! The code of each reason why a file is refused, which `ksi explain` explains.

use super::DeployError;
use crate::plugin::{
    file::manifest::ManifestError, lifecycle::hand_over::HandOverError, probe::error::ProbeError,
    python::error::PythonError,
};

impl DeployError {
    /// For programs: what kind of reason it is, in a word that stays the same. All are explained
    /// in docs/codes.md.
    pub fn code(&self) -> &'static str {
        match self {
            DeployError::Copy(_) => "not_copied",
            DeployError::NotAsKept { .. } => "not_as_kept",
            DeployError::Untrusted { .. } => "untrusted",
            DeployError::Manifest { source, .. } => of_manifest(source),
            DeployError::Python { source, .. } => of_python(source),
            DeployError::Probe { source, .. } => of_probe(source),
            DeployError::Duplicate { .. } => "duplicate",
            DeployError::Load { .. } => "not_opened",
            DeployError::Worker { .. } => "not_opened_in_process",
            DeployError::Describe { .. } => "not_described",
            DeployError::Subscription { .. } => "bad_subscription",
            DeployError::Init { .. } | DeployError::InitTimedOut { .. } => "init_failed",
            DeployError::Config { .. } => "configuration_refused",
            DeployError::Secret { .. } => "no_secret",
            DeployError::Missing { .. } => "missing_requirement",
            DeployError::Contract { .. } => "contract_broken",
            DeployError::SamePlugin { .. } => "same_plugin",
            DeployError::ExclusiveTogether { .. } => "exclusive_together",
            DeployError::TooManyTogether { .. } => "too_many_together",
            DeployError::HandOver { source, .. } => of_hand_over(source),
            DeployError::Persist { .. } | DeployError::NotRestoredInTrial { .. } => {
                "kept_state_not_restored"
            }
            DeployError::LosesState { .. } => "loses_state",
            DeployError::Quarantined { .. } => "quarantined",
            DeployError::NothingBefore { .. } => "nothing_before",
            DeployError::TooManyPinned { .. } => "too_many_pinned",
            DeployError::NoSuchPlugin { .. } => "no_such_module",
            DeployError::NotLive { .. } => "not_live",
            DeployError::Together { source } | DeployError::Reinstated { source, .. } => {
                source.code()
            }
            DeployError::Down { .. } => "down",
            DeployError::Stopping => "stopping",
            DeployError::Panicked(_) => "host_panicked",
        }
    }
}

fn of_manifest(error: &ManifestError) -> &'static str {
    match error {
        ManifestError::Empty => "empty",
        ManifestError::NotElf { .. } => "not_elf",
        ManifestError::Not64Bit { .. } => "not_64_bit",
        ManifestError::OtherArchitecture { .. } => "other_architecture",
        ManifestError::NotSharedLibrary { .. } => "not_a_shared_library",
        ManifestError::Torn { .. } => "torn",
        ManifestError::Damaged { .. } => "damaged",
        ManifestError::NoManifest | ManifestError::NotLoaded => "no_manifest",
        ManifestError::SeveralPlugins { .. } => "several_plugins",
        ManifestError::OtherAbi { .. } => "other_abi",
        ManifestError::PanicStrategy { .. } => "panic_strategy",
        ManifestError::BadName { .. } => "bad_plugin_name",
        ManifestError::TooLarge { .. }
        | ManifestError::BadMagic { .. }
        | ManifestError::NoJson
        | ManifestError::BadJson(_)
        | ManifestError::TrailingBytes { .. }
        | ManifestError::BadHeader { .. }
        | ManifestError::UnsupportedFormat { .. }
        | ManifestError::BadState { .. } => "bad_manifest",
    }
}

fn of_python(error: &PythonError) -> &'static str {
    match error {
        PythonError::Manifest(error) => of_manifest(error),
        PythonError::Syntax { .. } => "python_syntax",
        PythonError::NotInstalled { .. }
        | PythonError::NoPackage { .. }
        | PythonError::Install { .. }
        | PythonError::Environment { .. } => "python_packages",
        PythonError::NoPlace(_) => "not_copied",
        _ => "python",
    }
}

fn of_probe(error: &ProbeError) -> &'static str {
    match error {
        ProbeError::Spawn { .. } => "probe_not_started",
        ProbeError::Refused { .. } => "probe_refused",
        ProbeError::Trial { .. } => "state_not_taken",
        ProbeError::Died { .. } => "probe_died",
        ProbeError::TimedOut { .. } => "probe_timed_out",
        ProbeError::Answer { .. } => "probe_not_understood",
    }
}

fn of_hand_over(error: &HandOverError) -> &'static str {
    match error {
        HandOverError::NoState | HandOverError::Snapshot(_) => "state_not_given",
        HandOverError::NoCommonVersion { .. } | HandOverError::Restore(_) => "state_not_taken",
        HandOverError::Busy { .. }
        | HandOverError::Leaving { .. }
        | HandOverError::NotReleased { .. }
        | HandOverError::NotReady { .. }
        | HandOverError::TooManyHeld { .. }
        | HandOverError::NotAside { .. } => "hand_over_held_up",
    }
}
