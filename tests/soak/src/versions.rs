//! Which version of a plugin may answer when.
//!
//! Numbers of versions are unique over all plugins. A version may answer from the rename of its
//! file on, and may not answer requests that began after another one was seen in its place.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{library::Defect, roles::Role};

struct Version {
    role: Role,
    defect: Defect,
    answered: Option<Instant>,
    /// Requests that begin later must be answered by another one.
    over: Option<Instant>,
}

/// What an answer tells of the version that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The request began before this version was seen to answer anything: it waited for the swap.
    pub(crate) waited: bool,
}

pub(crate) struct Versions {
    known: Mutex<Vec<Version>>,
    first_answers: Notify,
}

impl Versions {
    /// With room for so many, so that a long run does not look like a leak.
    pub(crate) fn new(room: usize) -> Self {
        Versions { known: Mutex::new(Vec::with_capacity(room)), first_answers: Notify::new() }
    }

    /// A version whose file is about to be put in place: its number.
    pub(crate) fn begin(&self, role: Role, defect: Defect) -> u32 {
        let mut known = self.lock();
        known.push(Version { role, defect, answered: None, over: None });
        u32::try_from(known.len()).unwrap_or(u32::MAX)
    }

    /// Judges an answer to a request that began and ended then.
    pub(crate) fn answered(
        &self,
        role: Role,
        number: u32,
        began: Instant,
        ended: Instant,
    ) -> Result<Seen, String> {
        let mut known = self.lock();
        let Some(version) = entry(&mut known, number) else {
            return Err(format!("version {number}, which was never made"));
        };
        if version.role != role {
            let (of, by) = (version.role.name(), role.name());
            return Err(format!("version {number}, which is one of {of}, as a version of {by}"));
        }
        if !matches!(version.defect, Defect::None | Defect::Worse) {
            return Err(format!("version {number}, which was to be refused: {:?}", version.defect));
        }
        if let Some(over) = version.over.filter(|over| *over < began) {
            let late = began - over;
            return Err(format!(
                "version {number}, which was replaced {late:?} before the request"
            ));
        }
        let first = *version.answered.get_or_insert(ended);
        drop(known);
        if first == ended {
            self.first_answers.notify_waiters();
        }
        Ok(Seen { waited: began < first })
    }

    /// Whether a failure that names this version is one on purpose.
    pub(crate) fn may_fail(&self, number: u32) -> bool {
        entry(&mut self.lock(), number).is_some_and(|version| version.defect == Defect::Worse)
    }

    /// Waits for the first answer of a version; when it was, or `None` after the limit.
    pub(crate) async fn first_answer(&self, number: u32, limit: Duration) -> Option<Instant> {
        let answered = async {
            loop {
                let mut changed = std::pin::pin!(self.first_answers.notified());
                changed.as_mut().enable();
                if let Some(at) = self.lock().get(index(number)).and_then(|it| it.answered) {
                    return at;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, answered).await.ok()
    }

    /// From then on another version answers in place of this one.
    pub(crate) fn replaced(&self, number: u32, at: Instant) {
        if let Some(version) = entry(&mut self.lock(), number) {
            version.over = Some(at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Version>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry(known: &mut [Version], number: u32) -> Option<&mut Version> {
    known.get_mut(index(number))
}

/// Numbers begin at 1, so that a library nobody has changed is none of these.
fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_answers_between_its_rename_and_its_replacement() {
        let versions = Versions::new(4);
        let (start, step) = (Instant::now(), Duration::from_millis(1));
        let at = |steps: u32| start + step * steps;
        let old = versions.begin(Role::Count, Defect::None);
        let new = versions.begin(Role::Count, Defect::None);
        let bad = versions.begin(Role::Count, Defect::Init);
        assert_eq!(versions.answered(Role::Count, old, at(0), at(1)), Ok(Seen { waited: true }));
        assert_eq!(versions.answered(Role::Count, new, at(0), at(3)), Ok(Seen { waited: true }));
        versions.replaced(old, at(3));
        assert_eq!(versions.answered(Role::Count, old, at(2), at(5)), Ok(Seen { waited: false }));
        assert!(
            versions.answered(Role::Count, old, at(4), at(5)).is_err(),
            "it began after the swap"
        );
        assert!(versions.answered(Role::Relay, new, at(4), at(5)).is_err(), "another plugin's");
        assert!(versions.answered(Role::Count, bad, at(4), at(5)).is_err(), "it must not be live");
        assert!(versions.answered(Role::Count, 0, at(4), at(5)).is_err());
        assert!(versions.answered(Role::Count, 9, at(4), at(5)).is_err());
    }
}
