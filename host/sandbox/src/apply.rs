//! A process takes from itself what it is not to have.

use crate::{Applied, Limits, SandboxError};

impl Limits {
    /// Limits the calling process, for good: there is no way back, and what it starts is limited
    /// as well. It must have **one thread**, because files and system calls are limited by thread,
    /// and others would go on as they were.
    ///
    /// One descriptor stays open, of the process's own folder in `/proc`.
    ///
    /// # Errors
    /// The settings cannot be meant, there is another thread, a path of the lists cannot be
    /// opened, the kernel refuses a step, or [`Limits::require`] is set and something is missing.
    /// What was set by then stays, so that a process that gets one had better end.
    pub fn apply(&self) -> Result<Applied, SandboxError> {
        self.check()?;
        #[cfg(target_os = "linux")]
        let applied = crate::linux::apply(self)?;
        #[cfg(not(target_os = "linux"))]
        let applied = elsewhere();
        or_refused(applied, self.require)
    }
}

/// An error if something is missing that is required.
fn or_refused(applied: Applied, require: bool) -> Result<Applied, SandboxError> {
    match require && !applied.missing.is_empty() {
        true => Err(SandboxError::Missing { missing: applied.missing }),
        false => Ok(applied),
    }
}

#[cfg(not(target_os = "linux"))]
fn elsewhere() -> Applied {
    let (found, advice) = ("a system that is not supported", "run it on Linux");
    let mut applied = Applied::default();
    applied.lacks("nothing is limited", "to limit this process", found, advice);
    applied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_and_refused_where_it_is_required() {
        let mut applied = Applied::default();
        assert!(or_refused(applied.clone(), true).is_ok());
        let advice = "boot with lsm=landlock";
        applied.lacks("files are not limited", "landlock", "Linux without it", advice);
        assert!(or_refused(applied.clone(), false).is_ok());
        let error = or_refused(applied, true).unwrap_err().to_string();
        let said = "files are not limited: tried landlock, found Linux without it; boot with";
        assert!(error.contains(said), "{error}");
    }
}
