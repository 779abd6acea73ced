//! What would become of files as one change in place of what there is: in a host that serves, or in
//! a folder, whose files have been judged before and are what a host would have.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    super::{
        contracts::{Judged, Promised, live_party},
        together::{MOST, name_of},
    },
    AS_FILE, Checked, OnTrial, once,
};
use crate::{
    plugin::{
        file::manifest::Manifest,
        lifecycle::{error::DeployError, hand_over::Predecessor},
        supervisor::Supervisor,
    },
    text::causes::with_causes,
};

/// What is said of one that no other process has opened. This one is not to hold, for a question,
/// what may never leave it.
const NOT_COMPARED: &str = "what it sends and takes was not compared: it is not known before it is opened, and that \
                            would be in the process of the host";

/// What a file would take the place of.
enum Before {
    Nothing,
    Live(Predecessor),
    /// What a folder holds by the same name, in this file.
    Found(Arc<Promised>, PathBuf),
}

impl Supervisor {
    /// Checks files as one change in place of what is live.
    ///
    /// # Errors
    /// The host does not check so many at once, or it stops.
    pub(crate) async fn check_beside_live(
        self: &Arc<Self>,
        files: Vec<PathBuf>,
    ) -> Result<Vec<Checked>, DeployError> {
        let files = once(files);
        if files.len() > MOST {
            return Err(DeployError::TooManyTogether { most: MOST });
        }
        self.ensure_running()?;
        let mut tried = self.tried(files).await;
        self.judge_as_one(&mut tried, &[]).await;
        Ok(tried.into_iter().map(|tried| self.checked(tried, true)).collect())
    }

    /// Checks files as one change in a host that has those of folders. What is found in those and
    /// refused by itself is among the remarks of every file.
    pub(crate) async fn check_against(
        self: &Arc<Self>,
        files: Vec<PathBuf>,
        found: Vec<PathBuf>,
    ) -> Vec<Checked> {
        let files = once(files);
        // Somebody may check a file of the folder itself.
        let found = found.into_iter().filter(|file| !files.contains(file)).collect();
        let mut others = self.tried(found).await;
        self.judge(&mut others).await;
        let mut tried = self.tried(files).await;
        self.judge_as_one(&mut tried, &others).await;
        let mut left_out = Vec::new();
        for other in others {
            if let Checked { file, verdict: Err(error) } = self.checked(other, true) {
                let reason = with_causes(&error);
                left_out
                    .push(format!("{} was left out, which is refused: {reason}", file.display()));
            }
        }
        for it in &mut tried {
            it.remarks.extend(left_out.iter().cloned());
        }
        tried.into_iter().map(|tried| self.checked(tried, true)).collect()
    }

    /// Refuses those that would not go live.
    async fn judge_as_one(self: &Arc<Self>, tried: &mut [OnTrial], found: &[OnTrial]) {
        let mut before = Vec::new();
        for at in 0..tried.len() {
            let it = self.before(&tried[at], found);
            let replaced = replaced(&it, &tried[at].file);
            tried[at].remarks.extend(replaced);
            let conditions = self.conditions(tried, at, &it, found);
            let promised = match (conditions, &mut tried[at].well) {
                (Ok(()), Ok(candidate)) if self.activation.would_be_opened_here(candidate) => {
                    tried[at].remarks.push(NOT_COMPARED.to_owned());
                    Ok(None)
                }
                (Ok(()), Ok(candidate)) => self.promise(candidate).await.map(Some),
                (Ok(()), Err(_)) => Ok(None),
                (Err(error), _) => Err(error),
            };
            match promised {
                Ok(Some(promised)) => {
                    before.push((at, promised, it));
                }
                Ok(None) => {}
                Err(error) => self.refuse(&mut tried[at], error),
            }
        }
        let judged: Vec<Judged<'_>> = before
            .iter()
            .filter_map(|(at, promised, before)| {
                let before = match before {
                    Before::Nothing => None,
                    Before::Live(live) => Some(live_party(live)),
                    Before::Found(promised, _) => Some(promised.party()),
                };
                let (candidate, promised) = (tried[*at].well.as_ref().ok()?, promised.clone());
                Some(Judged { candidate, promised, origin: &AS_FILE, before })
            })
            .collect();
        let places: Vec<usize> = before.iter().map(|(at, ..)| *at).collect();
        let compared = self.compare(&judged);
        for (at, compared) in places.into_iter().zip(compared) {
            match compared {
                Ok(notices) => tried[at].remarks.extend(notices),
                Err(error) => self.refuse(&mut tried[at], error),
            }
        }
    }

    fn before(&self, tried: &OnTrial, found: &[OnTrial]) -> Before {
        let Ok(candidate) = &tried.well else { return Before::Nothing };
        let name = &*candidate.manifest.name;
        if let Some(live) = self.predecessor(name) {
            return Before::Live(live);
        }
        let mut others = found.iter().filter_map(|other| other.well.as_ref().ok());
        let other = others.find(|other| other.manifest.name == name);
        match (other, self.promised(name)) {
            (Some(other), Some(promised)) => Before::Found(promised, other.file.clone()),
            _ => Before::Nothing,
        }
    }

    /// All but contracts that one has to meet.
    fn conditions(
        &self,
        tried: &[OnTrial],
        at: usize,
        before: &Before,
        found: &[OnTrial],
    ) -> Result<(), DeployError> {
        let Ok(candidate) = &tried[at].well else { return Ok(()) };
        let name = name_of(candidate);
        let with_it = || {
            let others = tried.iter().enumerate().filter(|(place, _)| *place != at);
            others.filter_map(|(_, other)| other.well.as_ref().ok())
        };
        if let Some(other) = with_it().find(|other| other.manifest.name == *name) {
            let file = other.file.clone();
            return Err(DeployError::SamePlugin { file, plugin: name });
        }
        let live = match before {
            Before::Live(live) => Some(live),
            Before::Nothing | Before::Found(..) => None,
        };
        if tried.len() > 1 {
            self.changes_with_others(candidate, live)?;
        }
        let is_replaced = |name: &str| {
            let mut these = tried.iter().filter_map(|it| it.well.as_ref().ok());
            these.any(|it| it.manifest.name == name)
        };
        let stay = found.iter().filter_map(|other| other.well.as_ref().ok());
        let stay = stay.filter(|other| !is_replaced(&other.manifest.name));
        let beside: Vec<&Manifest> = with_it().chain(stay).map(|it| &it.manifest).collect();
        // It would be put in the place of what is live.
        let file: &Path = live.map_or(&candidate.file, |live| &live.info.file);
        self.is_admitted(&name, file, &candidate.manifest, &AS_FILE, &self.registry(), &beside)
    }

    pub(super) fn refuse(self: &Arc<Self>, tried: &mut OnTrial, error: DeployError) {
        if let Ok(candidate) = std::mem::replace(&mut tried.well, Err(error)) {
            self.let_go_checked(*candidate);
        }
    }
}

/// What there is to say of what a file would replace.
fn replaced(before: &Before, by: &Path) -> Option<String> {
    let of = |manifest: &Manifest, file: &Path| {
        let (name, version) = (&manifest.name, &manifest.version);
        match file == by {
            true => format!("it replaces {name} {version}"),
            false => format!("put in place of {}, it replaces {name} {version}", file.display()),
        }
    };
    match before {
        Before::Nothing => None,
        Before::Live(live) => Some(of(&live.info.manifest, &live.info.file)),
        Before::Found(promised, file) => Some(of(promised.party().manifest, file)),
    }
}
