//! Puts new files in place of plugins, good ones and bad ones, and sees to it that each has the end
//! that it must have.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    announced::{All, Announced, Of},
    drafts::Drafts,
    error::SoakError,
    ledger::Ledger,
    library::Defect,
    roles::Role,
    running::{Running, draft_of},
};

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A kind of file that takes the place of a plugin's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File {
    Good,
    /// It must be refused, and none of its code may answer anything.
    Refused(Defect),
    /// It must become live, be found out, and be rolled back from.
    Worse,
}

/// What became of the files.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) done: u64,
    pub(crate) refused: u64,
    pub(crate) rolled_back: u64,
    /// Refusals of a bad file that was refused before: the folder told of it twice.
    pub(crate) again: u64,
    /// Files that a process was killed with before they were live, or before anybody saw them live:
    /// another one was put in their place.
    pub(crate) killed: u64,
    pub(crate) killed_live: u64,
    /// Whatever did not have the end that it must have.
    pub(crate) otherwise: u64,
}

impl Tally {
    pub(crate) fn files(&self) -> u64 {
        self.done + self.refused + self.rolled_back + self.otherwise
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.done += other.done;
        self.refused += other.refused;
        self.rolled_back += other.rolled_back;
        self.again += other.again;
        self.killed += other.killed;
        self.killed_live += other.killed_live;
        self.otherwise += other.otherwise;
    }
}

/// Replaces one plugin.
pub(crate) struct Reloader {
    role: Role,
    file: PathBuf,
    drafts: Arc<Drafts>,
    ledger: Arc<Ledger>,
    announced: Announced,
    /// Files so far, which decide what the next one is made from.
    turn: usize,
    /// Refusals that are accounted for.
    refused: u64,
    /// Good files since the last bad one. Of a bad one, the folder may tell again while the next is
    /// on its way.
    good_since_bad: u32,
    pub(crate) tally: Tally,
}

impl Reloader {
    pub(crate) fn new(running: &Running, role: Role) -> Self {
        Reloader {
            role,
            file: running.folder().join(role.file()),
            drafts: running.drafts.clone(),
            ledger: running.stage.ledger.clone(),
            announced: running.announced.clone(),
            turn: 0,
            refused: 0,
            good_since_bad: u32::MAX,
            tally: Tally::default(),
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Where the host looks for it.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Puts a file in place and waits for what must come of it; for a good one, how long its code
    /// took to answer.
    ///
    /// # Errors
    /// The file cannot be written, or the plugin is left without a version that answers: there is
    /// no sense in going on.
    pub(crate) async fn replace(&mut self, file: File) -> Result<Option<Duration>, SoakError> {
        self.look_for_more_refusals();
        self.turn += 1;
        self.good_since_bad = match file {
            File::Good => self.good_since_bad.saturating_add(1),
            _ => 0,
        };
        match file {
            File::Good => self.good().await.map(Some),
            File::Refused(defect) => self.refused(defect).await,
            File::Worse => self.worse().await,
        }
        .inspect_err(|_| self.tally.otherwise += 1)
    }

    async fn good(&mut self) -> Result<Duration, SoakError> {
        loop {
            let before = self.announced.now().of(self.role).clone();
            let (version, renamed) = self.put(Defect::None).await?;
            let ledger = self.ledger.clone();
            let answered = tokio::select! {
                biased;
                answered = ledger.versions.first_answer(version, PATIENCE) => answered,
                () = self.killed_with(&before) => {
                    if self.was_killed(renamed) {
                        continue;
                    }
                    None
                }
            };
            let Some(answered) = answered else {
                return Err(self.stuck(version, "has not answered"));
            };
            self.ledger.versions.superseded_by(self.role, version, answered);
            let role = self.role;
            let reloaded = |all: &All| all.of(role).reloaded > before.reloaded;
            if !self.announced.until(PATIENCE, reloaded).await {
                return Err(self.stuck(version, "was not announced"));
            }
            self.tally.done += 1;
            return Ok(answered - renamed);
        }
    }

    /// Waits until a file is refused, or gone back from, and counts that: of a good one, when a
    /// process was killed.
    async fn killed_with(&mut self, before: &Of) {
        let role = self.role;
        let ended = |all: &All| {
            let now = all.of(role);
            let gone_back = now.generation > before.generation && now.back_from >= now.generation;
            now.refused > before.refused || gone_back
        };
        let announced = self.announced.clone();
        if !announced.until(PATIENCE, ended).await {
            return;
        }
        let now = announced.now().of(role).clone();
        if now.refused > before.refused {
            self.refused += 1;
            self.tally.killed += 1;
        } else {
            self.tally.killed_live += 1;
        }
    }

    fn was_killed(&self, since: Instant) -> bool {
        self.ledger.kills.explain(self.role, since, Instant::now())
    }

    async fn refused(&mut self, defect: Defect) -> Result<Option<Duration>, SoakError> {
        let before = self.announced.now().of(self.role).refused;
        let (version, _) = self.put(defect).await?;
        if !self.announced.until(PATIENCE, |all| all.of(self.role).refused > before).await {
            return Err(self.stuck(version, "is bad and was not refused"));
        }
        self.tally.refused += 1;
        self.refused += 1;
        Ok(None)
    }

    async fn worse(&mut self) -> Result<Option<Duration>, SoakError> {
        let role = self.role;
        let before = self.announced.now().of(role).clone();
        let (version, renamed) = loop {
            let (version, renamed) = self.put(Defect::Worse).await?;
            let (live, refused) = (before.reloaded, self.announced.now().of(role).refused);
            let became = |all: &All| all.of(role).reloaded > live || all.of(role).refused > refused;
            if !self.announced.until(PATIENCE, became).await {
                return Err(self.stuck(version, "did not become live"));
            }
            if self.announced.now().of(role).reloaded > live || !self.was_killed(renamed) {
                break (version, renamed);
            }
            self.refused += 1;
            self.tally.killed += 1;
        };
        let gone_back = |all: &All| all.of(role).back_from >= all.of(role).generation;
        if !self.announced.until(PATIENCE, gone_back).await {
            return Err(self.stuck(version, "is worse and was not rolled back from"));
        }
        // What begins from here on must be answered by the version before it again.
        self.ledger.versions.replaced(version, Instant::now());
        let state = self.announced.now().of(role).state.clone();
        let expected = if role.keeps_state() { "handed_over" } else { "none" };
        // Of a process that was killed, there is what was taken of it last.
        if state.as_deref() == Some(expected) || self.was_killed(renamed) {
            self.tally.rolled_back += 1;
        } else {
            eprintln!("{} was rolled back with its state {state:?}", role.name());
            self.tally.otherwise += 1;
        }
        Ok(None)
    }

    /// What was refused beyond what was told: a bad file that was looked at twice, or a good one.
    pub(crate) fn look_for_more_refusals(&mut self) {
        let announced = self.announced.now();
        let of = announced.of(self.role);
        let more = of.refused.saturating_sub(self.refused);
        self.refused = of.refused;
        if self.good_since_bad < 2 {
            self.tally.again += more;
        } else if more > 0 {
            let (name, reason) = (self.role.name(), of.reason.as_deref().unwrap_or_default());
            eprintln!("a file of {name} was refused although it is good: {reason}");
            self.tally.otherwise += more;
        }
    }

    /// Writes a version beside the file and renames it: its number, and when.
    async fn put(&mut self, defect: Defect) -> Result<(u32, Instant), SoakError> {
        let version = self.ledger.versions.begin(self.role, defect);
        let failed = |source| SoakError::File { path: self.file.clone(), source };
        let draft = draft_of(&self.file);
        let (drafts, path, of) = (self.drafts.clone(), draft.clone(), (self.role, self.turn));
        let write = move || drafts.write(&path, of, version, defect);
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)?;
        let renamed = Instant::now();
        std::fs::rename(&draft, &self.file).map_err(failed)?;
        Ok((version, renamed))
    }

    fn stuck(&self, version: u32, what: &str) -> SoakError {
        let seen = self.announced.now().of(self.role).clone();
        let name = self.role.name();
        SoakError::Stuck(format!(
            "version {version} of {name} {what} in {PATIENCE:?}; announced: {seen:?}"
        ))
    }
}
