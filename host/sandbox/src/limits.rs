//! What is wanted of a process, and whether it can be meant.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Bytes, Peers, Ports, SandboxError};

/// How much is taken away from a process. The documentation of this crate says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Profile {
    /// Resources are bounded, and nothing else. `"none"`.
    None,
    /// What no plugin needs is refused; files and ports are those given. `"standard"`.
    #[default]
    Standard,
    /// What std, tokio and threads need is allowed, and nothing else. `"strict"`.
    Strict,
}

impl Profile {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::None => "none",
            Profile::Standard => "standard",
            Profile::Strict => "strict",
        }
    }
}

/// What a process may have and reach, once it has applied it to itself. The default is
/// [`Profile::Standard`], which reads the system's libraries and reaches nothing else, without
/// bounds of resources.
///
/// It crosses to a child process as JSON, and comes from TOML as well.
///
/// ```
/// let mut limits = ksi_sandbox::Limits::default();
/// limits.memory = Some("512 MiB".parse()?);
/// limits.read.push("/etc/greeter".into());
/// let json = serde_json::to_string(&limits)?;
/// assert_eq!(serde_json::from_str::<ksi_sandbox::Limits>(&json)?, limits);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// How much is taken away.
    pub profile: Profile,
    /// Bytes of address space (`RLIMIT_AS`): what is mapped, used or not. Each thread takes some 2
    /// MiB of stack, and up to 64 MiB more for its allocations where the C library's allocator is
    /// used. An allocation beyond it fails, which ends most programs.
    pub memory: Option<Bytes>,
    /// Time of the processor since the process began (`RLIMIT_CPU`), in whole seconds, rounded up.
    /// Beyond it the process is ended by SIGXCPU, and a second later by SIGKILL.
    #[serde(serialize_with = "in_words", deserialize_with = "from_words")]
    pub cpu: Option<Duration>,
    /// Descriptors, counted by the highest number (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
    /// Processes *and threads* of this user in the whole system (`RLIMIT_NPROC`), those of
    /// everybody else who runs as the same user among them: a user of its own is what it is for.
    /// It does not hold for the superuser. Where `execute` is empty, processes are refused anyway.
    pub processes: Option<u64>,
    /// Files, and folders with all below them, that may be read besides those of the profile.
    pub read: Vec<PathBuf>,
    /// Files, and folders with all below them, that may be read, written, made and removed.
    pub write: Vec<PathBuf>,
    /// Programs, and folders of them, that may be run, and read for that. Empty: none, and no
    /// process is made either.
    pub execute: Vec<PathBuf>,
    /// The one program that the process becomes once it is limited, by an exec of its own. It may
    /// be run, and read for that, in each profile; a process is not made for it. With its real
    /// path, where it is a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub becomes: Option<PathBuf>,
    /// Whom it may connect to.
    pub connect: Peers,
    /// Ports of TCP that it may listen on. A socket that listens without one of its own gets one
    /// from the system, which no kernel refuses where some ports are listed: that is told as
    /// [missing](crate::Applied::missing).
    pub bind: Ports,
    /// Whether what the kernel does not have is an error.
    pub require: bool,
}

/// Below it, no process with std and a few threads starts at all.
const LEAST_MEMORY: Bytes = Bytes(16 << 20);
/// Standard input, output and error, and a few for the loader.
const LEAST_FILES: u64 = 16;
/// 31 days.
const MOST_CPU: Duration = Duration::from_secs(31 * 24 * 3600);

impl Limits {
    /// Looks whether this can be meant.
    ///
    /// # Errors
    /// [`SandboxError::Wrong`], which names the setting.
    pub fn check(&self) -> Result<(), SandboxError> {
        let Self { profile, memory, cpu, open_files, processes, .. } = self;
        let Self { connect, bind, execute, becomes, .. } = self;
        let wrong = |setting, text: String| Err(SandboxError::Wrong { setting, text });
        if let Some(memory) = memory.filter(|memory| *memory < LEAST_MEMORY) {
            return wrong("memory", format!("is {memory}, and must be {LEAST_MEMORY} at least"));
        }
        if let Some(cpu) = cpu.filter(|cpu| cpu.is_zero() || *cpu > MOST_CPU) {
            let cpu = humantime::format_duration(cpu);
            return wrong("cpu", format!("is {cpu}, and must be above zero and at most 31 days"));
        }
        if let Some(files) = open_files.filter(|files| *files < LEAST_FILES) {
            return wrong("open_files", format!("is {files}, and must be {LEAST_FILES} at least"));
        }
        if *processes == Some(0) {
            let text = "is 0, and must be 1 at least: threads count among them";
            return wrong("processes", text.to_owned());
        }
        for (setting, paths) in
            [("read", &self.read), ("write", &self.write), ("execute", &self.execute)]
        {
            if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
                return wrong(setting, format!("has {path:?}, which is no absolute path"));
            }
        }
        if let Some(path) = becomes.as_ref().filter(|path| !path.is_absolute()) {
            return wrong("becomes", format!("is {path:?}, which is no absolute path"));
        }
        if let Peers::Only { sockets, .. } = connect
            && let Some(path) = sockets.iter().find(|path| !path.is_absolute())
        {
            return wrong("connect", format!("has {path:?}, which is no absolute path"));
        }
        if *profile == Profile::Strict {
            let never = "cannot be allowed in the profile `strict`; use `standard`";
            if !connect.is_nobody() {
                return wrong("connect", never.to_owned());
            }
            if !bind.is_none() {
                return wrong("bind", never.to_owned());
            }
            if !execute.is_empty() {
                return wrong("execute", never.to_owned());
            }
        }
        Ok(())
    }
}

fn in_words<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    value.map(|value| humantime::format_duration(value).to_string()).serialize(to)
}

fn from_words<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let wrong = |error| {
        let text = format!("`{text}` is no duration such as \"500ms\" or \"5s\": {error}");
        de::Error::custom(text)
    };
    humantime::parse_duration(&text).map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Limits {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn all_settings_are_read_from_toml_and_cross_as_json() {
        let limits = read(
            r#"
            profile = "strict"
            memory = "256 MiB"
            cpu = "1m 30s"
            open_files = 64
            processes = 8
            read = ["/a"]
            write = ["/b"]
            execute = ["/c"]
            connect = [443, "udp", "/run/x.sock"]
            bind = [8080]
            require = true
            "#,
        );
        assert_eq!(limits.cpu, Some(Duration::from_secs(90)));
        assert_eq!(limits.memory, Some(Bytes(256 << 20)));
        let json = serde_json::to_string(&limits).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&json).unwrap(), limits);
        let json = serde_json::to_string(&Limits::default()).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&json).unwrap(), Limits::default());
    }

    #[test]
    fn what_cannot_be_meant_is_named_before_anything_is_limited() {
        for (toml, setting, text) in [
            ("memory = 4096", "memory", "must be 16 MiB at least"),
            ("cpu = '0s'", "cpu", "above zero"),
            ("cpu = '32 days'", "cpu", "at most 31 days"),
            ("open_files = 3", "open_files", "must be 16 at least"),
            ("processes = 0", "processes", "threads count"),
            ("read = ['a']", "read", "no absolute path"),
            ("write = ['b/c']", "write", "no absolute path"),
            ("execute = ['']", "execute", "no absolute path"),
            ("becomes = 'python3'", "becomes", "no absolute path"),
            ("connect = ['./x']", "connect", "no absolute path"),
            ("profile = 'strict'\nconnect = [1]", "connect", "use `standard`"),
            ("profile = 'strict'\nbind = 'any'", "bind", "use `standard`"),
            ("profile = 'strict'\nexecute = ['/']", "execute", "use `standard`"),
        ] {
            let error = read(toml).check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{setting}` ")), "{toml}: {error}");
            assert!(error.contains(text), "{toml}: {error}");
        }
    }
}
