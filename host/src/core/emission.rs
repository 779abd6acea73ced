//! An event of a client on its way in: let in at once, when the start is over, or not at all.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ksi_kernel::{
    event::{self, NewEvent},
    report::{self, Report},
    router::progress::Progress,
};

use super::Core;
use crate::{
    catalog,
    stopping::{Permit, Refused},
};

/// Places of a payload that a refusal names.
const VIOLATIONS: usize = 16;

/// An event on its way to its report. To be polled on dispatch workers.
pub(crate) struct Emission {
    report: Pin<Box<dyn Future<Output = Report> + Send>>,
    pub(super) progress: Arc<Progress>,
    /// Until its report is there, a host that stops waits for it.
    _inside: Option<Permit>,
}

impl Future for Emission {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        self.report.as_mut().poll(cx)
    }
}

impl Emission {
    /// It was expected to be over at once, and goes on: from here on it is noted how far it has
    /// come.
    pub(crate) fn follow(&self) {
        self.progress.follow();
    }
}

impl Core {
    /// Begins to emit an event, for somebody who may have to be [answered](Self::answered) before
    /// it has ended. What has ended by then is known if it is `followed`, which costs something, or
    /// once it is told to [follow](Emission::follow).
    ///
    /// It comes from outside: a host that is stopping refuses it, unless it is one of its own; and
    /// while the host starts, it waits, because the plugin that it is for may come still.
    pub(crate) fn emission(self: &Arc<Self>, event: NewEvent, followed: bool) -> Emission {
        let progress = if followed { Progress::default() } else { Progress::unfollowed() };
        let progress = Arc::new(progress);
        if self.start_up.is_over() || self.answers_while_starting(event::name_of(&event)) {
            return self.let_in(event, progress);
        }
        let (core, seen) = (self.clone(), progress.clone());
        let report = Box::pin(async move {
            tokio::select! {
                () = core.start_up.ended() => {}
                () = core.stop.requested() => {}
            }
            core.let_in(event, seen).await
        });
        Emission { report, progress, _inside: None }
    }

    fn let_in(&self, event: NewEvent, progress: Arc<Progress>) -> Emission {
        let inside = match self.stop.enter() {
            Ok(inside) => Some(inside),
            Err(Refused) if self.answers_itself(event::name_of(&event)) => None,
            Err(Refused) => {
                let refused = report::not_let_in(Refused::CODE, Refused::MESSAGE);
                let report = Box::pin(std::future::ready(refused));
                return Emission { report, progress, _inside: None };
            }
        };
        if self.settings.validates_clients()
            && let Some(wrong) = self.violations(&event)
        {
            let refused = report::not_let_in("invalid_payload", &wrong);
            let report = Box::pin(std::future::ready(refused));
            return Emission { report, progress, _inside: inside };
        }
        let (router, seen) = (self.router.clone(), progress.clone());
        let report = Box::pin(async move { router.emit_followed(event, seen).await });
        Emission { report, progress, _inside: inside }
    }

    /// What handlers of an event do not take of its payload, in words: the first few.
    fn violations(&self, event: &NewEvent) -> Option<String> {
        let found = self.router.violations(event);
        if found.is_empty() {
            return None;
        }
        let each = found.iter().flat_map(|(plugin, handler, places)| {
            places.iter().map(move |place| format!("{plugin}.{handler}: {place}"))
        });
        let told: Vec<String> = each.take(VIOLATIONS).collect();
        let further = found.iter().map(|(_, _, places)| places.len()).sum::<usize>() - told.len();
        let further = if further > 0 { "; and more" } else { "" };
        let event = event::name_of(event);
        let told = told.join("; ");
        Some(format!(
            "no handler of {event} was called, because this payload is not what they take (contracts.validate): \
             {told}{further}"
        ))
    }

    /// Whether an event is one that the host itself answers.
    fn answers_itself(&self, event: &str) -> bool {
        self.router.answers_alone(event)
    }

    fn answers_while_starting(&self, event: &str) -> bool {
        self.answers_itself(event) && !catalog::changes_plugins(event)
    }
}
