//! What would become of files: all that is done with one before anything of its plugin changes, and
//! nothing after that.
//!
//! Each goes through the steps of a deployment, so that what is said of it is what a host says.
//! What a plugin needs of others, and has agreed on with them, is judged last, among those that are
//! well by themselves. A module of Python is opened too, as it is only known by then; nothing is
//! initialized but in a trial.

mod as_one;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use ksi_wire::module::{CheckedFile, CheckedFiles};
use tokio::sync::Semaphore;

use super::{
    super::{Supervisor, origin::Origin},
    contracts::{Judged, Passed},
};
use crate::{
    history::HOST,
    plugin::{
        file::manifest::Manifest,
        instance::info::Tried,
        lifecycle::{
            error::DeployError,
            prepare::{Candidate, has_subscriptions},
            requirements::missing,
        },
    },
    text::causes::with_causes,
};

/// As what each is judged. Nobody deploys it.
static AS_FILE: Origin = Origin::File(HOST);

/// A file, and what a host would do with it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Checked {
    /// The file, by its absolute path.
    pub file: PathBuf,
    /// The plugin that it would be, or why it would be refused: what a host says then.
    pub verdict: Result<CheckedPlugin, DeployError>,
}

/// What a file would be.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckedPlugin {
    /// What it says of itself.
    pub manifest: Manifest,
    /// What somebody should know, each for itself: what a host warns of, and what could not be
    /// looked at.
    pub remarks: Vec<String>,
}

impl From<&Checked> for CheckedFile {
    /// The same for other programs.
    fn from(checked: &Checked) -> Self {
        let (file, ok) = (checked.file.clone(), checked.verdict.is_ok());
        match &checked.verdict {
            Ok(it) => CheckedFile {
                file,
                ok,
                // A manifest is text, numbers and lists of them.
                plugin: serde_json::to_value(&it.manifest).ok(),
                remarks: it.remarks.clone(),
                code: None,
                reason: None,
            },
            Err(error) => CheckedFile {
                file,
                ok,
                code: Some(error.code().to_owned()),
                reason: Some(with_causes(error).to_string()),
                ..CheckedFile::default()
            },
        }
    }
}

impl FromIterator<Checked> for CheckedFiles {
    fn from_iter<I: IntoIterator<Item = Checked>>(checked: I) -> Self {
        let checked: Vec<CheckedFile> = checked.into_iter().map(|it| (&it).into()).collect();
        CheckedFiles { ok: checked.iter().all(|it| it.ok), checked }
    }
}

/// A file that is being checked.
struct OnTrial {
    file: PathBuf,
    well: Result<Box<Candidate>, DeployError>,
    /// Of its contracts.
    passed: Option<Passed>,
    remarks: Vec<String>,
}

impl Supervisor {
    /// Checks files, several at a time, each by itself; and if they are to be `together`, as a host
    /// would have them that has all of them and no others.
    pub(crate) async fn check(
        self: &Arc<Self>,
        files: Vec<PathBuf>,
        together: bool,
    ) -> Vec<Checked> {
        let mut tried = self.tried(once(files)).await;
        if together {
            self.judge(&mut tried).await;
        }
        tried.into_iter().map(|tried| self.checked(tried, together)).collect()
    }

    /// What each is by itself, several at a time.
    async fn tried(self: &Arc<Self>, files: Vec<PathBuf>) -> Vec<OnTrial> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let opening = Arc::new(Semaphore::new(cores));
        let trying: Vec<_> = files
            .into_iter()
            .map(|file| {
                let (supervisor, path, opening) = (self.clone(), file.clone(), opening.clone());
                let tried = async move { supervisor.check_alone(&path, &opening).await };
                (file, self.thread.runtime().spawn(tried))
            })
            .collect();
        let mut tried = Vec::new();
        for (file, trying) in trying {
            let well = trying.await.unwrap_or_else(|error| Err(error.into()));
            tried.push(OnTrial {
                file,
                well: well.map(Box::new),
                passed: None,
                remarks: Vec::new(),
            });
        }
        tried
    }

    async fn check_alone(
        self: &Arc<Self>,
        file: &Path,
        opening: &Semaphore,
    ) -> Result<Candidate, DeployError> {
        let copied = self.preparation.copy(file, false).await?;
        let examined = self.preparation.examine(copied).await?;
        has_subscriptions(&examined.manifest, file)?;
        let trial = self.trial(&examined).await;
        let mut candidate = self.preparation.probe(examined, trial).await?;
        if candidate.manifest.built.is_known_once_open() {
            // Each has a time for that, which all at once would take from one another.
            let _turn = opening.acquire().await;
            candidate.residence = Some(self.activation.open(&mut candidate).await?);
        }
        Ok(candidate)
    }

    /// Refuses those that would not start beside the others. They start one after the other, as in
    /// a host: none before those that handle what it requires.
    async fn judge(self: &Arc<Self>, tried: &mut [OnTrial]) {
        let well = tried.iter().enumerate();
        let mut waiting: Vec<usize> =
            well.filter_map(|(at, it)| it.well.is_ok().then_some(at)).collect();
        let mut live = Vec::new();
        while !waiting.is_empty() {
            let beside = manifests(tried, &live);
            let subscribers = self.router.subscribers();
            let starts = |at: &usize| {
                let candidate = tried[*at].well.as_ref().ok();
                candidate.is_some_and(|it| missing(&it.manifest, &beside, &subscribers).is_empty())
            };
            // When none of them can start, each is told what it misses.
            let next = waiting.remove(waiting.iter().position(starts).unwrap_or_default());
            drop(subscribers);
            match self.admitted(tried, next, &live).await {
                Ok(passed) => {
                    tried[next].passed = passed;
                    live.push(next);
                }
                Err(error) => self.refuse(&mut tried[next], error),
            }
        }
    }

    /// Whether one of them would be let in beside those that were.
    async fn admitted(
        &self,
        tried: &mut [OnTrial],
        at: usize,
        live: &[usize],
    ) -> Result<Option<Passed>, DeployError> {
        {
            let Ok(candidate) = &tried[at].well else { return Ok(None) };
            let name: Arc<str> = candidate.manifest.name.as_str().into();
            let others = live.iter().filter_map(|at| tried[*at].well.as_ref().ok());
            if let Some(other) = others.into_iter().find(|other| other.manifest.name == *name) {
                let (file, other) = (candidate.file.clone(), other.file.clone());
                return Err(DeployError::Duplicate { file, plugin: name, other });
            }
            self.number(&name, candidate, &AS_FILE, &manifests(tried, live))?;
        }
        let Ok(candidate) = &mut tried[at].well else { return Ok(None) };
        let promised = self.promise(candidate).await?;
        let judged = Judged { candidate, promised, origin: &AS_FILE, before: None };
        let passed = self.agree(&[judged]).map_err(|failed| failed.1)?;
        Ok(passed.into_iter().next())
    }

    /// What there is to say of one, which is let go.
    fn checked(self: &Arc<Self>, tried: OnTrial, together: bool) -> Checked {
        let OnTrial { file, well, passed, remarks } = tried;
        let verdict = well.map(|candidate| {
            let manifest = candidate.manifest.clone();
            let untried = match &candidate.tried {
                Tried::Passed => None,
                Tried::Unsure(reason) => Some(format!("it may not start: {reason}")),
                Tried::Skipped(reason) => Some(format!("not tried: {reason}")),
            };
            self.let_go_checked(*candidate);
            let others = (!together && !manifest.requires.is_empty()).then(|| {
                let events = manifest.requires.join(" and ");
                format!("it requires {events}: nothing was checked with it that could handle that")
            });
            let distrust = self.preparation.warns_of(&file).map(|error| error.to_string());
            let contracts = passed.iter().flat_map(|passed| passed.notices.iter().cloned());
            let own = distrust.into_iter().chain(manifest.notices.iter().cloned());
            let remarks = remarks
                .into_iter()
                .chain(own)
                .chain(contracts)
                .chain(untried)
                .chain(others)
                .collect();
            CheckedPlugin { manifest, remarks }
        });
        Checked { file, verdict }
    }
}

/// Files by their absolute paths, each once.
fn once(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut known = BTreeSet::new();
    let absolute = files.into_iter().map(|file| std::path::absolute(&file).unwrap_or(file));
    absolute.filter(|file| known.insert(file.clone())).collect()
}

fn manifests<'a>(tried: &'a [OnTrial], live: &[usize]) -> Vec<&'a Manifest> {
    let candidates = live.iter().filter_map(|at| tried[*at].well.as_ref().ok());
    candidates.map(|candidate| &candidate.manifest).collect()
}
