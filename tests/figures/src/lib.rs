//! Figures that are measured by turns, in windows, so that the ratio of two of them holds.
//!
//! A window is a few turns, and in each turn everything is measured once: what slows the machine
//! down does so for all. Of a window counts the best of each, which is the one that nothing came in
//! between of. The ratio of two figures is that of their best over all windows, and lies within the
//! windows' own ratios: how far these are apart says how much it is worth.
//!
//! It knows nothing of what is measured. See `ksi-bench` and `ksi-soak`.

use serde::Serialize;

/// By how much of the ratio the middle half of the windows may differ. Where they differ by more,
/// the machine was too uneven.
const EVEN: f64 = 0.1;
/// With fewer windows nobody can say so.
const ENOUGH: usize = 10;

/// Which figure is the one of a machine that does nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Best {
    /// Of times.
    Least,
    /// Of rates.
    Most,
}

/// What was measured: the best of each window.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    windows: Vec<f64>,
    best: Best,
    /// Turns in a window, and how many the last one has.
    turns: usize,
    filled: usize,
}

/// A figure with what the windows say of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Of the best of all windows.
    pub figure: f64,
    /// The least that it is in one window.
    pub least: f64,
    /// The most that it is in one window.
    pub most: f64,
    /// Whether the windows differ by too much, or are too few to tell.
    pub uneven: bool,
}

impl Best {
    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            Best::Least => one.min(other),
            Best::Most => one.max(other),
        }
    }
}

impl Series {
    /// One with nothing in it, of windows of so many turns.
    pub fn new(best: Best, turns: usize) -> Self {
        Series { windows: Vec::new(), best, turns: turns.max(1), filled: 0 }
    }

    /// Adds what was measured in the next turn. A window that is not full yet counts as well.
    pub fn add(&mut self, figure: f64) {
        match self.windows.last_mut() {
            Some(window) if self.filled < self.turns => {
                *window = self.best.of(*window, figure);
                self.filled += 1;
            }
            _ => {
                self.windows.push(figure);
                self.filled = 1;
            }
        }
    }

    /// How many windows there are.
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// The best of all windows.
    pub fn figure(&self) -> f64 {
        let figures = self.windows.iter().copied();
        figures.reduce(|one, other| self.best.of(one, other)).unwrap_or(f64::NAN)
    }

    /// The same in another unit; `best` of that one.
    pub fn map(&self, best: Best, to: impl Fn(f64) -> f64) -> Series {
        let windows = self.windows.iter().map(|figure| to(*figure)).collect();
        Series { windows, best, ..*self }
    }

    /// The figure by itself.
    pub fn spread(&self) -> Spread {
        Spread::of(self.figure(), self.windows.clone())
    }

    /// Its ratio to another that was measured in the same turns.
    pub fn ratio(&self, limit: &Series) -> Spread {
        let pairs = self.windows.iter().zip(&limit.windows);
        Spread::of(self.figure() / limit.figure(), pairs.map(|(one, other)| one / other).collect())
    }
}

impl Spread {
    fn of(figure: f64, mut windows: Vec<f64>) -> Self {
        windows.sort_by(f64::total_cmp);
        let at = |place: usize| windows.get(place).copied().unwrap_or(f64::NAN);
        let (last, quarter) = (windows.len().saturating_sub(1), windows.len() / 4);
        let middle_half = at(last - quarter) - at(quarter);
        // What is no number is not even.
        let even = windows.len() >= ENOUGH && middle_half <= figure * EVEN;
        Spread { figure, least: at(0), most: at(last), uneven: !even }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(best: Best, windows: &[f64]) -> Series {
        let mut series = Series::new(best, 1);
        windows.iter().for_each(|figure| series.add(*figure));
        series
    }

    #[test]
    fn the_best_of_so_many_turns_is_a_window() {
        let of = |best| {
            let mut series = Series::new(best, 2);
            [5.0, 3.0, 4.0, 9.0, 7.0].into_iter().for_each(|figure| series.add(figure));
            series.windows
        };
        assert_eq!(of(Best::Least), [3.0, 4.0, 7.0]);
        assert_eq!(of(Best::Most), [5.0, 9.0, 7.0]);
    }

    #[test]
    fn a_ratio_is_of_the_best_and_lies_within_those_of_the_windows() {
        let slow = [1.0, 1.1, 1.05, 2.0, 1.0, 1.3, 1.2, 1.5, 1.0, 1.7];
        let figure = series(Best::Least, &slow.map(|slow| slow * 30.0));
        let mut of_limit = slow.map(|slow| slow * 10.0);
        of_limit[2] = 12.0;
        let ratio = figure.ratio(&series(Best::Least, &of_limit));
        assert!(
            (ratio.figure, ratio.least) == (3.0, 31.5 / 12.0) && ratio.most < 3.001,
            "{ratio:?}"
        );
        assert!(!ratio.uneven, "the machine was slow for both");
        let rates = series(Best::Most, &[20.0, 18.0]).ratio(&series(Best::Most, &[10.0, 9.5]));
        assert_eq!(rates.figure, 2.0);
    }

    #[test]
    fn one_window_that_was_disturbed_is_no_uneven_machine_and_half_of_them_are() {
        let limit = series(Best::Least, &[10.0; 12]);
        let with = |disturbed: usize| {
            let windows: Vec<_> =
                (0..12).map(|at| if at < disturbed { 50.0 } else { 30.0 }).collect();
            series(Best::Least, &windows).ratio(&limit)
        };
        assert_eq!(with(1), Spread { figure: 3.0, least: 3.0, most: 5.0, uneven: false });
        assert!(!with(3).uneven && with(6).uneven);
        let slowly: Vec<_> = (0..12).map(|at| 30.0 + f64::from(at)).collect();
        assert!(series(Best::Least, &slowly).ratio(&limit).uneven, "it got slower, the limit not");
    }

    #[test]
    fn what_was_measured_in_too_few_windows_or_never_is_uneven() {
        assert!(series(Best::Least, &[]).spread().uneven);
        assert!(series(Best::Least, &[3.0; 9]).spread().uneven, "too few");
        assert!(!series(Best::Least, &[3.0; 10]).spread().uneven);
        assert!(series(Best::Least, &[0.0; 12]).ratio(&series(Best::Least, &[0.0; 12])).uneven);
    }

    #[test]
    fn times_are_rates_turned_over() {
        let rates = series(Best::Most, &[50_000.0, 40_000.0]);
        assert_eq!(rates.map(Best::Least, |rate| 1e6 / rate).figure(), 20.0);
    }
}
