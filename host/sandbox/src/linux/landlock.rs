//! Which files, ports and processes the process reaches: landlock.
//!
//! What this kernel does not know of it is told, by the version in which it came.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};
use rustix::fs::FileType;

use crate::{Applied, Limits, Peers, Ports, Profile, SandboxError, paths};

/// The newest version of which all is asked for. Its kernel need not be there.
const NEWEST: ABI = ABI::V10;

/// The process's own folder in `/proc`. The kernel may forget such a folder and make it anew under
/// another identity, which the rules then do not know; not while it is open.
static OWN: OnceLock<PathFd> = OnceLock::new();

pub(super) fn restrict(limits: &Limits, applied: &mut Applied) -> Result<(), SandboxError> {
    let handled = ruleset(limits).map_err(failed("what is to be limited"))?;
    let mut rules = handled.create().map_err(failed("making the rules"))?;
    rules = files(limits, rules)?;
    rules = ports(limits, rules).map_err(failed("adding the ports"))?;
    let status = rules.restrict_self().map_err(failed("taking effect"))?;
    if let LandlockStatus::Available { effective_abi, .. } = status.landlock {
        tell(limits, effective_abi, applied);
    }
    missing(limits, status.landlock, applied);
    Ok(())
}

fn failed(step: &'static str) -> impl Fn(RulesetError) -> SandboxError {
    move |error| SandboxError::Landlock { step, source: Box::new(error) }
}

/// Everything that is handled is refused unless a rule allows it.
fn ruleset(limits: &Limits) -> Result<Ruleset, RulesetError> {
    let mut files = AccessFs::from_all(NEWEST);
    let mut scopes = Scope::from_all(NEWEST);
    let mut net = BitFlags::EMPTY;
    match &limits.connect {
        Peers::Any => {
            files.remove(AccessFs::ResolveUnix);
            scopes.remove(Scope::AbstractUnixSocket);
        }
        Peers::Only { .. } => net |= AccessNet::ConnectTcp,
    }
    if limits.bind != Ports::Any {
        net |= AccessNet::BindTcp;
    }
    let ruleset = Ruleset::default().handle_access(files)?.scope(scopes)?;
    // None at all is an error.
    match net.is_empty() {
        true => Ok(ruleset),
        false => ruleset.handle_access(net),
    }
}

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const RUN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | Execute});
const DEVICE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate});

/// No devices are made, nothing is run, and no socket is spoken to because it lies there.
fn write() -> BitFlags<AccessFs> {
    let not = make_bitflags!(AccessFs::{MakeChar | MakeBlock | Execute | ResolveUnix});
    AccessFs::from_all(NEWEST) & !not
}

fn files(limits: &Limits, mut rules: RulesetCreated) -> Result<RulesetCreated, SandboxError> {
    let standard: &[&str] = match limits.profile {
        Profile::Strict => &[],
        _ => paths::STANDARD,
    };
    for path in paths::STRICT.iter().chain(standard) {
        rules = allow_if_there(rules, path, READ)?;
    }
    for path in paths::DEVICES {
        rules = allow_if_there(rules, path, DEVICE)?;
    }
    if let Ok(own) = PathFd::new("/proc/self") {
        let own = OWN.get_or_init(|| own);
        rules = rules.add_rule(PathBeneath::new(own, READ)).map_err(failed("/proc/self"))?;
    }
    if !limits.execute.is_empty() || limits.becomes.is_some() {
        for path in paths::LOADERS {
            rules = allow_if_there(rules, path, RUN)?;
        }
    }
    if !limits.execute.is_empty() {
        // What is run looks at itself there, and cannot be named before. What processes outside
        // have in memory stays hidden: landlock lets nobody trace them.
        rules = allow_if_there(rules, "/proc", READ)?;
    }
    let sockets = match &limits.connect {
        Peers::Only { sockets, .. } => sockets.iter().cloned().collect(),
        Peers::Any => Vec::new(),
    };
    let becomes: Vec<PathBuf> = limits.becomes.iter().cloned().collect();
    for (setting, paths, access) in [
        ("becomes", &becomes, RUN),
        ("read", &limits.read, READ),
        ("write", &limits.write, write()),
        ("execute", &limits.execute, RUN),
        ("connect", &sockets, AccessFs::ResolveUnix.into()),
    ] {
        for path in paths {
            rules = allow(rules, setting, path, access)?;
        }
    }
    Ok(rules)
}

/// Of the lists of the operator: that one is missing is an error.
fn allow(
    rules: RulesetCreated,
    setting: &'static str,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, SandboxError> {
    let bad = |source| SandboxError::Path { setting, path: PathBuf::from(path), source };
    let open = PathFd::new(path).map_err(|error| bad(Box::new(error)))?;
    let is_folder = rustix::fs::fstat(&open)
        .map(|found| FileType::from_raw_mode(found.st_mode).is_dir())
        .map_err(|error| bad(Box::new(error)))?;
    // What only folders have is an error for anything else.
    let access = if is_folder { access } else { access & AccessFs::from_file(NEWEST) };
    rules.add_rule(PathBeneath::new(open, access)).map_err(|error| bad(Box::new(error)))
}

/// Of the system: no system has all of them.
fn allow_if_there(
    rules: RulesetCreated,
    path: &str,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, SandboxError> {
    match rustix::fs::access(path, rustix::fs::Access::EXISTS) {
        Ok(()) => allow(rules, "the system's files", path.as_ref(), access),
        Err(_) => Ok(rules),
    }
}

fn ports(limits: &Limits, mut rules: RulesetCreated) -> Result<RulesetCreated, RulesetError> {
    if let Peers::Only { ports, .. } = &limits.connect {
        for port in ports {
            rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
    }
    if let Ports::Only(ports) = &limits.bind {
        for port in ports {
            rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
    }
    Ok(rules)
}

fn tell(limits: &Limits, abi: ABI, applied: &mut Applied) {
    let listed = |paths: &[PathBuf]| match paths {
        [] => "nothing".to_owned(),
        paths => paths.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(", "),
    };
    applied.is_set("read", format!("the system's libraries; {}", listed(&limits.read)));
    applied.is_set("write", listed(&limits.write));
    applied.is_set("execute", listed(&limits.execute));
    if abi >= ABI::V4 {
        applied.is_set("connect", limits.connect.to_string());
        applied.is_set("bind", limits.bind.to_string());
    }
    if abi >= ABI::V6 {
        applied.is_set("signals", "to processes that it has started");
    }
}

/// What each version brought, as far as it is wanted.
fn missing(limits: &Limits, status: LandlockStatus, applied: &mut Applied) {
    let (abi, found, advice) = match status {
        LandlockStatus::Available { effective_abi, .. } => {
            (effective_abi, format!("landlock {effective_abi}"), "run a later kernel")
        }
        LandlockStatus::NotEnabled => {
            let advice = "boot it with `landlock` in its parameter `lsm=`";
            (ABI::Unsupported, "a kernel in which landlock is switched off".to_owned(), advice)
        }
        _ => {
            let advice = "run Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK, in a container \
                          that does not refuse it";
            (ABI::Unsupported, "no landlock".to_owned(), advice)
        }
    };
    let (ports, sockets) = match &limits.connect {
        Peers::Only { ports, sockets, .. } => (!ports.is_empty(), !sockets.is_empty()),
        Peers::Any => (false, false),
    };
    // Where nothing is allowed, there are no sockets at all, and nobody listens.
    let listens = matches!(&limits.bind, Ports::Only(ports) if !ports.is_empty());
    let ports = ports || listens;
    for (what, tried, since, wanted) in [
        ("files are not limited", "landlock", ABI::V1, true),
        ("cutting files short is not limited", "landlock 3 (Linux 6.2)", ABI::V3, true),
        ("TCP ports are not limited", "landlock 4 (Linux 6.7)", ABI::V4, ports),
        ("control of devices is not limited", "landlock 5 (Linux 6.10)", ABI::V5, true),
        ("signals to other processes are not limited", "landlock 6 (Linux 6.12)", ABI::V6, true),
        ("which Unix sockets is not limited", "landlock 9 (Linux 7.1)", ABI::V9, sockets),
    ] {
        if wanted && abi < since {
            applied.lacks(what, tried, &found, advice);
        }
    }
    if listens {
        let what = "a socket that listens without a port of its own, and is given one by the \
                    system, is not limited to the ports of `bind`";
        let found = "no version of it that is asked when a socket listens";
        let advice = "have a firewall refuse it, or write \"any\" for `bind` if it need not be";
        applied.lacks(what, "landlock", found, advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(limits: &str, status: LandlockStatus) -> Vec<String> {
        let mut applied = Applied::default();
        missing(&serde_json::from_str(limits).unwrap(), status, &mut applied);
        applied.missing.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_kernel_without_landlock_is_told_with_what_to_do() {
        let lacking = lacking("{}", LandlockStatus::NotEnabled);
        assert!(lacking[0].starts_with("files are not limited: tried landlock"), "{lacking:?}");
        assert!(lacking[0].contains("`lsm=`"), "{lacking:?}");
        assert!(!lacking.iter().any(|it| it.contains("TCP")), "no port is wanted: {lacking:?}");
    }

    #[test]
    fn an_older_kernel_is_told_of_what_is_wanted_alone() {
        let of = |abi| LandlockStatus::Available { effective_abi: abi, kernel_abi: None };
        assert_eq!(lacking("{}", of(ABI::V7)), Vec::<String>::new());
        let sockets = lacking(r#"{"connect": ["/run/x.sock"]}"#, of(ABI::V7));
        assert!(sockets[0].starts_with("which Unix sockets"), "{sockets:?}");
        assert_eq!(lacking(r#"{"connect": [1]}"#, of(ABI::V4)).len(), 2);
        let listens = lacking(r#"{"bind": [1]}"#, of(ABI::V10));
        assert!(listens[0].starts_with("a socket that listens without a port"), "{listens:?}");
        for limits in ["{}", r#"{"bind": "any"}"#, r#"{"connect": [1]}"#] {
            assert_eq!(lacking(limits, of(ABI::V10)), Vec::<String>::new(), "{limits}");
        }
        let ports = lacking(r#"{"bind": [1]}"#, of(ABI::V3));
        assert!(ports[0].starts_with("TCP ports are not limited"), "{ports:?}");
    }
}
