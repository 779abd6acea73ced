//! Measures by turns, in windows, so that the ratio of two figures holds; what is made of them is
//! [`ksi_figures`].

use futures_util::future::LocalBoxFuture;
use ksi_figures::{Best, Series};

use crate::error::BenchError;

/// How long one measurement takes, where that can be chosen: shorter than the system lets a thread
/// run that others wait for, so that some of a window are not interrupted on a machine that is busy
/// with something else.
pub(crate) const NANOS: u64 = 1_000_000;
/// For what takes as long as that.
pub(crate) const SHORT: Plan = Plan { windows: 12, turns: 20, best: Best::Least };
/// How often something is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) windows: usize,
    pub(crate) turns: usize,
    pub(crate) best: Best,
}

/// Something that can be measured again and again.
pub(crate) type Measure<'a> = Box<dyn FnMut() -> Measuring<'a> + 'a>;
pub(crate) type Measuring<'a> = LocalBoxFuture<'a, Result<f64, BenchError>>;

/// Puts a measurement into its box.
pub(crate) fn measure<'a, F>(mut of: impl FnMut() -> F + 'a) -> Measure<'a>
where
    F: Future<Output = Result<f64, BenchError>> + 'a,
{
    Box::new(move || Box::pin(of()))
}

/// Measures everything by turns, after one turn that does not count.
///
/// # Errors
/// Something cannot be measured.
pub(crate) async fn by_turns<const N: usize>(
    mut measures: [Measure<'_>; N],
    plan: Plan,
) -> Result<[Series; N], BenchError> {
    let Plan { windows, turns, best } = plan;
    for measure in &mut measures {
        measure().await?;
    }
    let mut all = std::array::from_fn(|_| Series::new(best, turns));
    for _ in 0..windows * turns {
        for (measure, series) in measures.iter_mut().zip(&mut all) {
            series.add(measure().await?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn all_are_measured_by_turns_and_the_first_turn_does_not_count() {
        let turns = RefCell::new(Vec::new());
        let of = |name: char, first: f64| {
            let (turns, mut figure) = (&turns, first);
            measure(move || {
                turns.borrow_mut().push(name);
                figure += 1.0;
                async move { Ok(figure) }
            })
        };
        let plan = Plan { windows: 2, turns: 2, best: Best::Least };
        let found = by_turns([of('a', 1_000.0), of('b', 10.0)], plan).await.unwrap();
        assert_eq!(turns.borrow().iter().collect::<String>(), "ababababab");
        assert_eq!(
            found.each_ref().map(|it| (it.windows(), it.figure())),
            [(2, 1_002.0), (2, 12.0)]
        );
    }
}
