//! What an event may cost: `bounds.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::driver::Case;

/// The file, as it was when this was built.
const FILE: &str = include_str!("../../bounds.toml");

/// What was counted when the file was written, and how far from it a count may be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    margin: Margin,
    event: BTreeMap<Case, Counted>,
}

/// How much more there may be.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Margin {
    /// A share of the instructions.
    own: f64,
    /// A share of what else is counted, and a number to that.
    others: f64,
    more: f64,
}

/// One event, by the names that [`Executed`](super::callgrind::Executed) has.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counted {
    pub(super) own: f64,
    pub(super) calls: f64,
    pub(super) locked: f64,
}

/// How a count stands to its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Within,
    /// Something is above its bound.
    Above,
    /// Nothing is above, and something is so far below that the file should follow.
    Below,
}

impl Bounds {
    /// # Errors
    /// The file is not what it must be.
    pub(super) fn get() -> Result<Self, toml::de::Error> {
        toml::from_str(FILE)
    }

    /// The most that an event of this kind may cost, if there is a bound.
    pub(super) fn of(&self, case: Case) -> Option<Counted> {
        let Margin { own, others, more } = self.margin;
        self.event.get(&case).map(|was| Counted {
            own: was.own * (1.0 + own),
            calls: was.calls * (1.0 + others) + more,
            locked: was.locked * (1.0 + others) + more,
        })
    }

    pub(super) fn hold(&self, case: Case, now: Counted) -> Held {
        let (Some(most), Some(was)) = (self.of(case), self.event.get(&case)) else {
            return Held::Within;
        };
        if now.own > most.own || now.calls > most.calls || now.locked > most.locked {
            Held::Above
        } else if now.own < was.own - (most.own - was.own)
            || now.calls < was.calls - (most.calls - was.calls)
            || now.locked < was.locked - (most.locked - was.locked)
        {
            Held::Below
        } else {
            Held::Within
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        let file = "margin = { own = 0.05, others = 0.01, more = 0.5 }\n\
                    [event]\nrequest = { own = 1000.0, calls = 10.0, locked = 8.0 }";
        toml::from_str(file).unwrap()
    }

    #[test]
    fn a_count_is_held_to_each_of_its_bounds() {
        let was = Counted { own: 1_000.0, calls: 10.0, locked: 8.0 };
        let held = |now| bounds().hold(Case::Request, now);
        assert_eq!(held(was), Held::Within);
        assert_eq!(held(Counted { own: 1_049.0, calls: 10.5, locked: 8.5 }), Held::Within);
        assert_eq!(held(Counted { own: 1_051.0, ..was }), Held::Above);
        assert_eq!(held(Counted { calls: 11.0, ..was }), Held::Above);
        assert_eq!(held(Counted { locked: 9.0, ..was }), Held::Above);
        assert_eq!(held(Counted { own: 900.0, locked: 9.0, ..was }), Held::Above);
        assert_eq!(held(Counted { own: 900.0, ..was }), Held::Below);
        assert_eq!(held(Counted { locked: 7.0, ..was }), Held::Below);
        let free = bounds().hold(Case::EmitToTen, was);
        assert_eq!(free, Held::Within, "it has no bound");
    }

    #[test]
    fn every_event_that_a_host_has_a_part_in_has_a_bound() {
        let bounds = Bounds::get().unwrap();
        for case in Case::ALL {
            assert_eq!(bounds.of(case).is_some(), case != Case::BoxedFuture, "{case:?}");
        }
    }
}
