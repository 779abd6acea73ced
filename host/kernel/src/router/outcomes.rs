//! How the handlers of an event ended, and whose they were.

use std::{slice, sync::Arc};

use smallvec::{SmallVec, smallvec};

use crate::{
    call::{CallTarget, HandlerInfo, outcome::CallOutcome},
    report::{Outcome, Report},
};

/// Whose handlers they were, and how each ended, in the router's order: priority, then plugin name,
/// then order of declaration.
pub(crate) struct Outcomes {
    pub(crate) handlers: Handlers,
    pub(crate) ended: SmallVec<[CallOutcome; 1]>,
}

/// Whose handlers they were.
pub(crate) enum Handlers {
    /// The one that was called, with its generation: for those who let go of it at once.
    Called(Arc<CallTarget>),
    /// The only one, without its generation.
    One(Arc<HandlerInfo>),
    /// Those of a name.
    Known(Arc<[Arc<HandlerInfo>]>),
}

impl Handlers {
    /// What is known of each.
    pub(crate) fn infos(&self) -> &[Arc<HandlerInfo>] {
        match self {
            Handlers::Called(entry) => slice::from_ref(&entry.info),
            Handlers::One(info) => slice::from_ref(info),
            Handlers::Known(known) => known,
        }
    }

    /// The same handlers, without holding a generation.
    pub(crate) fn without_generation(self) -> Self {
        match self {
            Handlers::Called(entry) => Handlers::One(entry.info.clone()),
            other => other,
        }
    }
}

impl Outcomes {
    /// Of the only handler.
    pub(crate) fn one(entry: Arc<CallTarget>, ended: CallOutcome) -> Self {
        Outcomes { handlers: Handlers::Called(entry), ended: smallvec![ended] }
    }

    /// The same for somebody who lets go of it anywhere. Where plugin code may run.
    pub(crate) fn without_code(mut self) -> Self {
        self.ended = self.ended.into_iter().map(CallOutcome::without_code).collect();
        // Nor does it keep the generation that was called.
        self.handlers = self.handlers.without_generation();
        self
    }

    /// What became of an event that was not accepted.
    pub(crate) fn refused(reason: String) -> Self {
        let reason = reason.into();
        Outcomes {
            handlers: Handlers::One(HandlerInfo::nobody()),
            ended: smallvec![CallOutcome::Rejected { reason }],
        }
    }
}

impl From<Outcomes> for Report {
    /// Replies that are values become JSON. Where plugin code may run.
    fn from(Outcomes { handlers, ended }: Outcomes) -> Self {
        let outcomes = handlers.infos().iter().zip(ended).map(|(handler, ended)| Outcome {
            plugin: handler.plugin.clone(),
            handler: handler.handler.clone(),
            result: ended.into(),
        });
        Report::new(outcomes.collect())
    }
}
