//! Which version of a plugin may answer when.
//!
//! Numbers of versions are unique over all plugins. A version may answer from the rename of its
//! file on, and may not answer requests that began after another one was seen in its place.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    kills::Kills,
    library::Defect,
    roles::{ROLES, Role},
};

/// How much of what was seen is remembered of each plugin.
const SEEN: usize = 8;

struct Version {
    role: Role,
    defect: Defect,
    answered: Option<Instant>,
    /// Requests that begin later must be answered by another one.
    over: Option<Instant>,
}

struct Known {
    versions: Vec<Version>,
    /// When a plugin went back to a version before, of which nothing is seen yet.
    back: [Option<Instant>; ROLES],
    /// When it last did.
    last_back: [Option<Instant>; ROLES],
    /// What was seen last, by plugin, for whoever has to find out what is wrong.
    seen: [VecDeque<(Instant, String)>; ROLES],
}

impl Known {
    fn note(&mut self, role: Role, what: String) {
        let seen = &mut self.seen[role.index()];
        if seen.len() == SEEN {
            seen.pop_front();
        }
        seen.push_back((Instant::now(), what));
    }

    fn seen(&self, role: Role, now: Instant) -> String {
        let each = self.seen[role.index()].iter();
        let each = each.map(|(at, what)| format!("{:?} before: {what}", now - *at));
        each.collect::<Vec<_>>().join("; ")
    }
}

/// What an answer tells of the version that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The request began before this version was seen to answer anything: it waited for the swap.
    pub(crate) waited: bool,
}

pub(crate) struct Versions {
    known: Mutex<Known>,
    first_answers: Notify,
}

impl Versions {
    /// With room for so many, so that a long run does not look like a leak.
    pub(crate) fn new(room: usize) -> Self {
        let known = Known {
            versions: Vec::with_capacity(room),
            back: [None; ROLES],
            last_back: [None; ROLES],
            seen: Default::default(),
        };
        Versions { known: Mutex::new(known), first_answers: Notify::new() }
    }

    /// A version whose file is about to be put in place: its number.
    pub(crate) fn begin(&self, role: Role, defect: Defect) -> u32 {
        let known = &mut self.lock().versions;
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
        kills: &Kills,
    ) -> Result<Seen, String> {
        let known = &mut *self.lock();
        let Some(version) = entry(&mut known.versions, number) else {
            return Err(format!("version {number}, which was never made"));
        };
        if version.role != role {
            let (of, by) = (version.role.name(), role.name());
            return Err(format!("version {number}, which is one of {of}, as a version of {by}"));
        }
        if !matches!(version.defect, Defect::None | Defect::Worse) {
            return Err(format!("version {number}, which was to be refused: {:?}", version.defect));
        }
        if known.back[role.index()].is_some_and(|back| back < began) {
            // This is the one that is live again.
            known.back[role.index()] = None;
            version.over = None;
            known.note(role, format!("{number} is live again"));
            supersede(&mut known.versions, role, number, ended);
        }
        let Some(version) = entry(&mut known.versions, number) else { unreachable!("as above") };
        if let Some(over) = version.over.filter(|over| *over < began)
            && !kills.explain(role, began, ended)
        {
            let (late, seen) = (began - over, known.seen(role, Instant::now()));
            return Err(format!(
                "version {number}, which was replaced {late:?} before the request ({seen})"
            ));
        }
        let first = *version.answered.get_or_insert(ended);
        if first == ended {
            known.note(role, format!("{number} answers"));
            self.first_answers.notify_waiters();
        }
        Ok(Seen { waited: began < first })
    }

    /// Whether a failure that names this version is one on purpose.
    pub(crate) fn may_fail(&self, number: u32) -> bool {
        entry(&mut self.lock().versions, number)
            .is_some_and(|version| version.defect == Defect::Worse)
    }

    /// Waits for the first answer of a version; when it was, or `None` after the limit.
    pub(crate) async fn first_answer(&self, number: u32, limit: Duration) -> Option<Instant> {
        let answered = async {
            loop {
                let mut changed = std::pin::pin!(self.first_answers.notified());
                changed.as_mut().enable();
                if let Some(at) = self.lock().versions.get(index(number)).and_then(|it| it.answered)
                {
                    return at;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, answered).await.ok()
    }

    /// From then on another version answers in place of this one.
    pub(crate) fn replaced(&self, number: u32, at: Instant) {
        if let Some(version) = entry(&mut self.lock().versions, number) {
            version.over = Some(at);
        }
    }

    /// From then on this version answers in place of all others of its plugin.
    pub(crate) fn superseded_by(&self, role: Role, number: u32, at: Instant) {
        let known = &mut *self.lock();
        known.note(role, format!("all but {number} are replaced"));
        // It may have gone back from it since.
        if known.last_back[role.index()].is_none_or(|back| back < at) {
            supersede(&mut known.versions, role, number, at);
        }
    }

    /// A process has ended on probation, and a version before is live again: the one that answers
    /// next.
    pub(crate) fn went_back(&self, role: Role) {
        let (known, now) = (&mut *self.lock(), Some(Instant::now()));
        known.note(role, "it has gone back".to_owned());
        known.back[role.index()] = now;
        known.last_back[role.index()] = now;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn supersede(known: &mut [Version], role: Role, number: u32, at: Instant) {
    let others = known.iter_mut().enumerate().filter(|(place, _)| *place != index(number));
    let of_role = others.map(|(_, version)| version).filter(|version| version.role == role);
    // One that has answered nothing yet is on its way.
    let was_live = of_role.filter(|version| version.over.is_none() && version.answered.is_some());
    was_live.for_each(|version| version.over = Some(at));
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
        let kills = Kills::default();
        let (start, step) = (Instant::now(), Duration::from_millis(1));
        let at = |steps: u32| start + step * steps;
        let answered = |role, number, began, ended| {
            versions.answered(role, number, at(began), at(ended), &kills)
        };
        let old = versions.begin(Role::Count, Defect::None);
        let new = versions.begin(Role::Count, Defect::None);
        let bad = versions.begin(Role::Count, Defect::Init);
        assert_eq!(answered(Role::Count, old, 0, 1), Ok(Seen { waited: true }));
        assert_eq!(answered(Role::Count, new, 0, 3), Ok(Seen { waited: true }));
        versions.replaced(old, at(3));
        assert_eq!(answered(Role::Count, old, 2, 5), Ok(Seen { waited: false }));
        assert!(answered(Role::Count, old, 4, 5).is_err(), "it began after the swap");
        assert!(answered(Role::Relay, new, 4, 5).is_err(), "another plugin's");
        assert!(answered(Role::Count, bad, 4, 5).is_err(), "it must not be live");
        assert!(answered(Role::Count, 0, 4, 5).is_err());
        assert!(answered(Role::Count, 9, 4, 5).is_err());
    }

    #[test]
    fn after_an_end_on_probation_the_version_before_answers_again_and_no_other() {
        let (versions, kills) = (Versions::new(4), Kills::default());
        let answered = |number, began| {
            versions.answered(Role::Count, number, began, Instant::now(), &kills).is_ok()
        };
        let [first, old, bad] = [(); 3].map(|()| versions.begin(Role::Count, Defect::None));
        for number in [first, old, bad] {
            let now = Instant::now();
            assert!(answered(number, now));
            versions.superseded_by(Role::Count, number, now);
        }
        assert!(!answered(old, Instant::now()));
        versions.went_back(Role::Count);
        assert!(answered(old, Instant::now()), "it is live again");
        assert!(!answered(bad, Instant::now()) && !answered(first, Instant::now()));
        assert!(answered(old, Instant::now()));
    }
}
