//! Transformers as the events show them.

use std::sync::{PoisonError, atomic::Ordering::Relaxed};

use crate::{
    definition::Values,
    events::{Listed, ListedForRouter, Shown, ShownForRouter, ShownProblem},
    registry::{FileProblem, Live, Registry},
};

pub(crate) fn listed(registry: &Registry, source: Option<&str>) -> Listed {
    let mut transformers: Vec<_> = registry.live.iter().map(shown).collect();
    transformers.retain(|shown| source.is_none_or(|source| shown.source == source));
    // In the order of the files, and those that events brought behind them.
    transformers.sort_by_key(|shown| (shown.file.is_none(), shown.file.clone(), shown.line));
    let problems = registry.problems.iter().map(problem).collect();
    Listed { count: transformers.len(), transformers, problems }
}

pub(crate) fn listed_for_router(registry: &Registry) -> ListedForRouter {
    let shown = listed(registry, None).transformers.into_iter().map(|it| ShownForRouter {
        source: it.source,
        target: it.target,
        is_async: it.is_async,
        has_condition: it.has_condition,
        has_response_route: it.has_response_route,
    });
    let transformers: Vec<_> = shown.collect();
    ListedForRouter { count: transformers.len(), transformers }
}

pub(crate) fn problem(problem: &FileProblem) -> ShownProblem {
    let FileProblem { file, problem } = problem;
    ShownProblem {
        file: file.clone(),
        line: (problem.line > 0).then_some(problem.line),
        name: (!problem.name.is_empty()).then(|| problem.name.clone()),
        message: problem.message.clone(),
    }
}

fn shown(live: &Live) -> Shown {
    let (transformer, counts) = (live.slot.current(), &live.slot.counts);
    let is_of_file = !live.key.file.is_empty();
    Shown {
        name: transformer.name.clone(),
        source: transformer.source.clone(),
        target: transformer.target.clone(),
        is_async: transformer.is_async,
        foreach: transformer.foreach.clone(),
        has_condition: transformer.has_condition(),
        has_response_route: transformer.route.is_some(),
        values: match transformer.values {
            Values::Text => "text".to_owned(),
            Values::Native => "native".to_owned(),
        },
        file: is_of_file.then(|| live.key.file.clone()),
        line: is_of_file.then_some(transformer.line),
        events: counts.events.load(Relaxed),
        skipped: counts.skipped.load(Relaxed),
        emitted: counts.emitted.load(Relaxed),
        failed: counts.failed.load(Relaxed),
        last_error: counts.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    }
}
