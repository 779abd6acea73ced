//! One line of the table.

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
    pub(crate) bar: Option<Bar>,
    /// Whether the bar is met.
    pub(crate) met: Option<bool>,
}

/// The same work in another way, measured in the same run.
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

impl Row {
    pub(crate) fn new(what: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        Row { what: what.into(), figure, unit, limit: None, ratio: None, bar: None, met: None }
    }

    pub(crate) fn against(mut self, what: impl Into<String>, figure: f64) -> Self {
        self.limit = Some(Limit { what: what.into(), figure });
        self.ratio = Some(self.figure / figure);
        self
    }

    pub(crate) fn bar(mut self, bar: Option<Bar>) -> Self {
        self.bar = bar;
        self.met = match bar {
            None => None,
            Some(Bar::AtMost(most)) => Some(self.figure <= most),
            Some(Bar::RatioAtMost(most)) => self.ratio.map(|ratio| ratio <= most),
            Some(Bar::RatioAtLeast(least)) => self.ratio.map(|ratio| ratio >= least),
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_from_its_own_side() {
        let met = |bar| Row::new("", 30.0, "ns").against("", 10.0).bar(Some(bar)).met;
        assert_eq!(met(Bar::RatioAtMost(3.0)), Some(true));
        assert_eq!(met(Bar::RatioAtMost(2.9)), Some(false));
        assert_eq!(met(Bar::RatioAtLeast(3.1)), Some(false));
        assert_eq!(met(Bar::AtMost(30.0)), Some(true));
        assert_eq!(Row::new("", 1.0, "s").bar(Some(Bar::RatioAtMost(1.0))).met, None);
    }
}
