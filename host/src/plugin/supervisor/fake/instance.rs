//! Instances of scripted plugins, and where they live.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Context,
};

use ksi_abi::{Buffer, CallEnd, Counted, Description, ReplyForm};
use ksi_kernel::{
    call::{Started, outcome::CallOutcome},
    event::{Event, Payload},
    report::OutcomeKind,
    value::Keeper,
};

use super::script::{Act, Script};
use crate::plugin::instance::{
    body::{Answer, Body, Unused},
    configs::PluginConfig,
    live::{FirstCalls, Live, LiveInstance},
    residence::{Creation, NotMade, Residence, Vacated},
    services::HostServices,
    signals::Handled,
};

/// How the process of an instance has ended, for people.
pub(super) const ENDED: &str = "its process ended, as the script says";

/// Where instances of one version are made.
pub(super) struct FakeResidence {
    pub(super) version: u32,
    pub(super) script: Arc<Script>,
    /// In processes of their own.
    pub(super) isolated: bool,
    /// Held by what refers to it.
    pub(super) references: Arc<()>,
}

/// One of them.
struct FakeBody {
    version: u32,
    script: Arc<Script>,
    /// Whether its process has.
    ended: Arc<AtomicBool>,
}

impl Residence for FakeResidence {
    fn belongs_to(&self, _: &Arc<str>, _: u64) {}

    fn describe(&self) -> Result<Description, String> {
        match self.script.begin(&format!("describe {}", self.version)) {
            Act::Well => Ok(Description::default()),
            _ => Err("no description".to_owned()),
        }
    }

    fn create(&self, _: PluginConfig, services: &Arc<HostServices>) -> Creation {
        let (version, script) = (self.version, self.script.clone());
        let reference = self.references.clone();
        if let Ok(watch) = services.session().watch(&["never:emitted"], 1) {
            script.watches.lock().insert(version, Arc::new(watch));
        }
        Box::pin(async move {
            // As long as it is on its way it has the host.
            let _reference = reference;
            match script.ran(&format!("create {version}")).await {
                Act::Well => {
                    let ended = Arc::<AtomicBool>::default();
                    script.ended_processes.lock().insert(version, ended.clone());
                    Ok(Box::new(FakeBody { version, script, ended }) as Box<dyn Body>)
                }
                Act::CannotBegin => Err(NotMade::NotStarted("no process".to_owned())),
                _ => Err(NotMade::Failed("no instance".to_owned())),
            }
        })
    }

    fn references(&self) -> usize {
        Arc::strong_count(&self.references) - 1
    }

    fn is_here(&self) -> bool {
        !self.isolated
    }

    fn signals(&self) -> Vec<Handled> {
        Vec::new()
    }

    fn withdraw(&self) {}

    fn vacate(self: Box<Self>) -> Vacated {
        let step = format!("vacate {}", self.version);
        match self.script.begin(&step) {
            Act::Well => Vacated::Gone,
            Act::Fails | Act::CannotBegin => {
                let tried = self.script.count(&step);
                Vacated::Stays { cause: format!("it stays, try {tried}"), residence: self }
            }
            Act::Waits => Vacated::Needed { by: vec!["somebody".to_owned()], residence: self },
        }
    }
}

impl FakeBody {
    async fn answer(&self, step: &str) -> OutcomeKind {
        let well = self.is_there() && self.script.run(&format!("{step} {}", self.version)).await;
        match well {
            _ if !self.is_there() => OutcomeKind::Crashed { message: ENDED.to_owned() },
            true => OutcomeKind::Replied(Payload::from_json_bytes(b"1".to_vec())),
            false => {
                OutcomeKind::Failed { code: "fake".into(), message: "as the script says".into() }
            }
        }
    }
}

impl Body for FakeBody {
    fn start(&self, _: u64, _: Counted<Event>, _: &ReplyForm, _: &mut Context<'_>) -> Started {
        if !self.is_there() {
            return Started::Ready(CallOutcome::Crashed { message: ENDED.into() });
        }
        let version = Buffer::from(&*self.version.to_string());
        Started::Ready(CallEnd::Reply(version).into())
    }

    fn snapshot(&self, _: u32) -> Answer<'_> {
        Box::pin(self.answer("snapshot"))
    }

    fn restore<'a>(&'a self, _: u32, _: &'a [u8]) -> Answer<'a> {
        Box::pin(self.answer("restore"))
    }

    fn read_back<'a>(&'a self, _: u32, _: &'a [u8]) -> Answer<'a> {
        Box::pin(async { OutcomeKind::NoReply })
    }

    fn is_there(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        None
    }

    fn into_live(self: Box<Self>, first_calls: FirstCalls) -> (Arc<dyn LiveInstance>, Unused) {
        let (live, unused) = Live::new(*self, first_calls);
        (live, unused)
    }
}

impl Drop for FakeBody {
    fn drop(&mut self) {
        self.script.begin(&format!("drop {}", self.version));
    }
}
