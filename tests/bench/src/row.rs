//! One line of the table.

use ksi_figures::{Series, Spread};
use serde::Serialize;

/// What was measured, what it is held against, and what the ratio of the two must reach.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) figure: f64,
    pub(crate) unit: &'static str,
    pub(crate) limit: Option<Limit>,
    /// Figure by limit.
    pub(crate) ratio: Option<f64>,
    /// What the windows say of the ratio, or where there is no limit of the figure. Nothing, if it
    /// was not measured in windows, as what is counted is not.
    pub(crate) spread: Option<Spread>,
    pub(crate) bar: Option<Bar>,
    /// Whether the bar is met.
    pub(crate) verdict: Option<Verdict>,
}

/// The same work in another way, measured in the same turns.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Limit {
    pub(crate) what: String,
    pub(crate) figure: f64,
}

/// What is to be reached.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    AtMost(f64),
}

/// How a row stands to its bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// The machine was too uneven to say so.
    NotJudged,
}

impl Row {
    /// A figure that is counted, or put together from others.
    pub(crate) fn counted(what: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        let (what, limit, ratio, spread, bar, verdict) =
            (what.into(), None, None, None, None, None);
        Row { what, figure, unit, limit, ratio, spread, bar, verdict }
    }

    /// A figure that was measured in windows, by itself.
    pub(crate) fn measured(what: impl Into<String>, figure: &Series, unit: &'static str) -> Self {
        Row { spread: Some(figure.spread()), ..Row::counted(what, figure.figure(), unit) }
    }

    /// One that was measured in the same turns as what it is held against.
    pub(crate) fn pair(
        what: impl Into<String>,
        figure: &Series,
        unit: &'static str,
        against: impl Into<String>,
        limit: &Series,
    ) -> Self {
        let ratio = figure.ratio(limit);
        let row = Row::counted(what, figure.figure(), unit).against(against, limit.figure());
        Row { spread: Some(ratio), ..row }
    }

    pub(crate) fn against(mut self, what: impl Into<String>, figure: f64) -> Self {
        self.limit = Some(Limit { what: what.into(), figure });
        self.ratio = Some(self.figure / figure);
        self
    }

    pub(crate) fn bar(mut self, bar: Option<Bar>) -> Self {
        self.bar = bar;
        let reached = bar.and_then(|bar| match bar {
            Bar::AtMost(most) => Some(self.figure <= most),
            Bar::RatioAtMost(most) => self.ratio.map(|ratio| ratio <= most),
            Bar::RatioAtLeast(least) => self.ratio.map(|ratio| ratio >= least),
        });
        self.verdict = reached.map(|reached| match reached {
            _ if self.is_uneven() => Verdict::NotJudged,
            true => Verdict::Met,
            false => Verdict::Missed,
        });
        self
    }

    /// Whether the machine was too uneven while it was measured.
    pub(crate) fn is_uneven(&self) -> bool {
        self.spread.is_some_and(|spread| spread.uneven)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_from_its_own_side() {
        let row = || Row::counted("", 30.0, "ns").against("", 10.0);
        let verdict = |bar| row().bar(Some(bar)).verdict;
        assert_eq!(verdict(Bar::RatioAtMost(3.0)), Some(Verdict::Met));
        assert_eq!(verdict(Bar::RatioAtMost(2.9)), Some(Verdict::Missed));
        assert_eq!(verdict(Bar::RatioAtLeast(3.1)), Some(Verdict::Missed));
        assert_eq!(verdict(Bar::AtMost(30.0)), Some(Verdict::Met));
        assert_eq!(Row::counted("", 1.0, "s").bar(Some(Bar::RatioAtMost(1.0))).verdict, None);
    }

    #[test]
    fn a_bar_is_neither_met_nor_missed_on_a_machine_that_is_too_uneven() {
        for bar in [Bar::RatioAtMost(9.0), Bar::RatioAtMost(0.1), Bar::AtMost(99.0)] {
            let spread = Spread { figure: 3.0, least: 2.0, most: 4.0, uneven: true };
            let row = Row::counted("", 30.0, "ns").against("", 10.0);
            let row = Row { spread: Some(spread), ..row }.bar(Some(bar));
            assert_eq!(row.verdict, Some(Verdict::NotJudged));
        }
    }
}
