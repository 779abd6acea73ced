//! Repetitions by turns, and their medians.

use futures_util::future::LocalBoxFuture;

use crate::error::BenchError;

/// How often each is measured.
pub(crate) const REPETITIONS: usize = 51;
/// How long one repetition takes: shorter than the system lets a thread run that others wait for, so that most repetitions
/// are not interrupted on a machine that is busy with something else, and the median is of such.
pub(crate) const NANOS: u64 = 1_000_000;

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

/// The median of each, after one round that does not count.
pub(crate) async fn medians<const N: usize>(
    mut measures: [Measure<'_>; N],
    repetitions: usize,
) -> Result<[f64; N], BenchError> {
    let mut figures: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(repetitions));
    for repetition in 0..=repetitions {
        for (measure, figures) in measures.iter_mut().zip(&mut figures) {
            let figure = measure().await?;
            if repetition > 0 {
                figures.push(figure);
            }
        }
    }
    Ok(figures.map(median))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
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
                figure -= 1.0;
                async move { Ok(figure) }
            })
        };
        let found = medians([of('a', 1_000.0), of('b', 10.0)], 3).await.unwrap();
        assert_eq!(turns.borrow().iter().collect::<String>(), "abababab");
        assert_eq!(found, [997.0, 7.0], "of 998 to 996 and of 8 to 6");
    }
}
