//! A lane: one request after the other, each with a number of its own, and the judgement of what
//! comes back.
//!
//! A plugin that counts keeps for each lane how many requests it counted and the number of the last
//! one, and says so in every answer. Since a lane has one request under way at a time, each answer
//! tells whether the one before it was counted, also when that one failed: so every count is known
//! exactly, across all hand-overs of the state.

use std::time::{Duration, Instant};

use crate::{
    answers::{As, At, Judged, explains},
    counted::Expected,
    kills::Kills,
    ledger::{Client, Fault, Ledger},
    roles::Role,
    wire::{Answer, Ask, Counted, Ending, Outcome},
};

/// Numbers of one lane lie between multiples of this.
const NUMBERS: u64 = 1 << 36;
/// After a request that crashed, the next one waits so long: what a process has asked in turn
/// before it ended must be over, or a count could come after a later one.
const AFTER_CRASH: Duration = Duration::from_millis(200);
/// How long `wait` waits in the plugin.
const WAIT: Duration = Duration::from_micros(500);

/// What a lane asks for, over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What is answered at once, by all plugins in turn.
    Busy,
    /// What waits, blocks, panics and is late.
    Slow,
    /// What is sent, so that no outcome comes back.
    Sent,
    /// `quick` alone, to see when its new code answers.
    Look,
}

/// What one request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// An answer with the number.
    Echo,
    /// A count on the lane, and perhaps an answer of another plugin in it.
    Add {
        via: Option<Role>,
    },
    /// The same, asked for by another plugin.
    Pass {
        to: Role,
        via: Option<Role>,
    },
    /// A count that is told by an event.
    Sent,
    Panic,
    Late,
}

/// A request under way.
pub(crate) struct Request {
    pub(crate) event: String,
    pub(crate) ask: Ask,
    role: Role,
    what: What,
    began: Instant,
}

impl Request {
    pub(crate) fn number(&self) -> u64 {
        self.ask.number
    }
}

pub(crate) struct Lane {
    id: u64,
    client: Client,
    kind: Kind,
    step: u64,
    /// Of `count` and of `heavy`.
    counted: [Expected; 2],
    pause: Option<Duration>,
}

impl Lane {
    pub(crate) fn new(id: u64, client: Client, kind: Kind) -> Self {
        // Lanes are out of step, so that not all ask the same plugin at a time.
        Lane { id, client, kind, step: id * 5, counted: Default::default(), pause: None }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// How long the next request is to wait.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        self.pause.take()
    }

    /// Whether the next request is to wait.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.pause.is_some()
    }

    /// Waits as long as the next request is to.
    pub(crate) async fn rest(&mut self) {
        if let Some(pause) = self.pause() {
            tokio::time::sleep(pause).await;
        }
    }

    /// The next request, which begins now.
    pub(crate) fn next(&mut self, ledger: &Ledger) -> Request {
        let number = self.id * NUMBERS + self.step + 1;
        let (role, verb, what) = self.choose();
        self.step += 1;
        let (to, via) = match what {
            What::Add { via } => (None, via),
            What::Pass { to, via } => (Some(to.event("add")), via),
            What::Sent => (Some(Role::Count.event("sent")), None),
            _ => (None, None),
        };
        let via = via.map(|via| via.event("echo"));
        let micros = u64::try_from(WAIT.as_micros()).unwrap_or_default();
        ledger.note_asked(self.client);
        Request {
            event: role.event(verb),
            ask: Ask { number, lane: self.id, micros, to, via },
            role,
            what,
            began: Instant::now(),
        }
    }

    fn choose(&self) -> (Role, &'static str, What) {
        use Role::{Count, Heavy, Other, Quick, Relay, Tokio};
        let add = |role, via| (role, "add", What::Add { via });
        let pass = |by, to, via| (by, "pass", What::Pass { to, via });
        let echo = |role| (role, "echo", What::Echo);
        match (self.kind, self.step % 16) {
            (Kind::Busy, 0 | 8) => add(Count, None),
            (Kind::Busy, 3 | 10) => add(Heavy, None),
            // From plugin to plugin and back, while the first one's call is under way.
            (Kind::Busy, 2) => pass(Relay, Count, Some(Relay)),
            (Kind::Busy, 13) => add(Count, Some(Relay)),
            // A plugin that asks itself.
            (Kind::Busy, 6) => pass(Count, Count, Some(Count)),
            (Kind::Busy, 9) => echo(Relay),
            (Kind::Busy, 4 | 12) => echo(Quick),
            (Kind::Busy, 15) => echo(Tokio),
            (Kind::Busy, _) => echo(Other),
            (Kind::Slow, 3) => (Tokio, "panic", What::Panic),
            (Kind::Slow, 7) => (Tokio, "late", What::Late),
            (Kind::Slow, 5 | 11) => (Tokio, "block", What::Echo),
            (Kind::Slow, _) => (Tokio, "wait", What::Echo),
            (Kind::Sent, step) if step % 2 == 0 => (Count, "sent", What::Sent),
            (Kind::Sent, _) => (Relay, "forward", What::Sent),
            (Kind::Look, _) => echo(Quick),
        }
    }

    /// What became of a request.
    pub(crate) fn ended(
        &mut self,
        request: &Request,
        ending: Ending,
        took: Duration,
        ledger: &Ledger,
    ) {
        // What is sent has no latency that its sender would feel.
        if request.what != What::Sent {
            ledger.latency.record(request.role, took);
        }
        // Not when it began and what it took: what a client inside measures begins later.
        let ended = Instant::now();
        let at = At { number: request.ask.number, began: request.began, ended, took, ledger };
        let mut outcomes = ending.outcomes;
        let outcome = match (outcomes.pop(), outcomes.len()) {
            (Some(outcome), 0) => outcome,
            (None, _) => {
                let text = || format!("nobody handled {}", request.event);
                return ledger.fault(Fault::Unexplained, text);
            }
            (Some(last), more) => {
                let text = || format!("{} got {} outcomes: {last:?}, ..", request.event, more + 1);
                return ledger.fault(Fault::Twice, text);
            }
        };
        match outcome {
            Outcome::Replied(answer) => match self.judge(request, &answer, &at) {
                Ok(As::Asked) => ledger.note_answered(),
                Ok(As::BadVersion) => ledger.note_explained(),
                Ok(As::Killed) => {
                    self.pause = Some(AFTER_CRASH);
                    ledger.kills.note_crashed();
                    ledger.note_explained();
                }
                Err((fault, text)) => {
                    ledger
                        .fault(fault, || format!("{} answered {answer:?}: {text}", request.event));
                }
            },
            Outcome::Other { code, message } => self.failed(request, &code, &message, ledger),
        }
    }

    /// Nobody can tell what became of a request, since the process that would was killed.
    pub(crate) fn abandoned(&mut self, request: &Request, ledger: &Ledger) {
        self.may_be_counted(request);
        self.pause = Some(AFTER_CRASH);
        ledger.kills.note_untold();
        ledger.note_explained();
    }

    /// No outcome came.
    pub(crate) fn lost(&mut self, request: &Request, limit: Duration, ledger: &Ledger) {
        self.may_be_counted(request);
        let text =
            || format!("{} {} had no outcome in {limit:?}", request.event, request.ask.number);
        ledger.fault(Fault::Lost, text);
    }

    fn failed(&mut self, request: &Request, code: &str, message: &str, ledger: &Ledger) {
        let on_purpose = match (request.what, code) {
            (What::Panic, "panicked") => message.contains(&request.ask.number.to_string()),
            (What::Late, "timed_out") => true,
            _ => false,
        };
        if on_purpose {
            return ledger.note_answered();
        }
        self.may_be_counted(request);
        if code == "bad_version" && explains(message, ledger) {
            return ledger.note_explained();
        }
        if code == "crashed" && was_killed(request, ledger) {
            self.pause = Some(AFTER_CRASH);
            ledger.kills.note_crashed();
            return ledger.note_explained();
        }
        ledger
            .fault(Fault::Unexplained, || format!("{} ended as {code}: {message}", request.event));
    }

    fn judge(&mut self, request: &Request, answer: &Answer, at: &At<'_>) -> Judged {
        match request.what {
            What::Panic | What::Late => Err((Fault::Wrong, "no answer was to come".to_owned())),
            What::Echo => at.check(request.role, answer).map(|_| As::Asked),
            What::Sent => {
                at.check(Role::Count, answer)?;
                match &answer.trouble {
                    None => self.count(Role::Count, answer, &at.ledger.kills),
                    Some(_) if at.ledger.versions.may_fail(answer.version) => Ok(As::BadVersion),
                    Some(trouble) => Err((Fault::Unexplained, trouble.clone())),
                }
            }
            What::Add { via } => {
                let seen = at.check(request.role, answer)?;
                if request.role == Role::Heavy && seen.waited {
                    at.ledger.latency.held.record(at.took);
                }
                self.count(request.role, answer, &at.ledger.kills)?;
                via.map_or(Ok(As::Asked), |via| at.inner(answer, via).map(|(how, _)| how))
            }
            What::Pass { to, via } => {
                at.check(request.role, answer)?;
                let (how, counted) = at.inner(answer, to).inspect_err(|_| {
                    self.may_be_counted(request);
                })?;
                let Some(counted) = counted else {
                    self.may_be_counted(request);
                    return Ok(how);
                };
                self.count(to, counted, &at.ledger.kills)?;
                via.map_or(Ok(As::Asked), |via| at.inner(counted, via).map(|(how, _)| how))
            }
        }
    }

    /// Compares what a plugin says that it counted.
    fn count(&mut self, role: Role, answer: &Answer, kills: &Kills) -> Judged {
        let (Some(count), Some(previous)) = (answer.count, answer.previous) else {
            return Err((Fault::Wrong, "it does not say what it counted".to_owned()));
        };
        let Some(expected) = self.expected(role) else { return Ok(As::Asked) };
        let said = Counted { count, last: answer.number };
        let advanced = expected.advance(said, previous, (role, kills));
        advanced.map(|()| As::Asked).map_err(|text| (Fault::State, text))
    }

    /// Compares what a plugin has in the end.
    pub(crate) fn compare(
        &mut self,
        role: Role,
        found: Counted,
        kills: &Kills,
    ) -> Result<(), String> {
        self.expected(role).map_or(Ok(()), |expected| expected.compare(found, (role, kills)))
    }

    fn may_be_counted(&mut self, request: &Request) {
        let role = match request.what {
            What::Add { .. } => request.role,
            What::Pass { to, .. } => to,
            What::Sent => Role::Count,
            _ => return,
        };
        if let Some(expected) = self.expected(role) {
            expected.may_have(request.ask.number);
        }
    }

    fn expected(&mut self, role: Role) -> Option<&mut Expected> {
        match role {
            Role::Count => Some(&mut self.counted[0]),
            Role::Heavy => Some(&mut self.counted[1]),
            _ => None,
        }
    }
}

/// Whether a process of a plugin that a request goes through was killed while it was under way. A
/// client inside a plugin goes with that.
pub(crate) fn was_killed(request: &Request, ledger: &Ledger) -> bool {
    let roles: &[Role] = match request.what {
        What::Add { via: Some(via) } => &[request.role, via],
        What::Pass { to, via } => &[request.role, to, via.unwrap_or(to)],
        What::Sent => &[request.role, Role::Count],
        _ => &[request.role],
    };
    let now = Instant::now();
    roles.iter().any(|role| ledger.kills.explain(*role, request.began, now))
}
