//! Numbers as JSON has them, compared without rounding.

use std::{cmp::Ordering, fmt};

use serde_json::{Number, Value};

/// A number. One that is whole is an `Int`, whichever way it is written, if it is not huge.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Num {
    Int(i128),
    Real(f64),
}

/// Up to here a `f64` that is whole becomes an `i128`, which holds it exactly.
const HUGE: f64 = 1e37;

impl Num {
    pub(crate) fn of(value: &Value) -> Option<Num> {
        value.as_number().and_then(Num::of_number)
    }

    pub(crate) fn of_number(number: &Number) -> Option<Num> {
        if let Some(int) = number.as_i128() {
            return Some(Num::Int(int));
        }
        let real = number.as_f64()?;
        if real.fract() == 0.0 && real.abs() < HUGE {
            return Some(Num::Int(real as i128));
        }
        real.is_finite().then_some(Num::Real(real))
    }

    pub(crate) fn is_whole(self) -> bool {
        match self {
            Num::Int(_) => true,
            Num::Real(real) => real.fract() == 0.0,
        }
    }

    /// The largest whole number up to this one.
    pub(crate) fn floor(self) -> Num {
        match self {
            Num::Real(real) if real.abs() < HUGE => Num::Int(real.floor() as i128),
            other => other,
        }
    }

    /// The smallest whole number from this one on.
    pub(crate) fn ceil(self) -> Num {
        match self {
            Num::Real(real) if real.abs() < HUGE => Num::Int(real.ceil() as i128),
            other => other,
        }
    }

    pub(crate) fn plus(self, more: i128) -> Num {
        match self {
            Num::Int(int) => Num::Int(int.saturating_add(more)),
            Num::Real(real) => Num::Real(real + more as f64),
        }
    }

    /// What lies between this one and the next, or the one before.
    pub(crate) fn half(self, sign: i8) -> Num {
        let half = f64::from(sign) / 2.0;
        match self {
            Num::Int(int) => Num::Real(int as f64 + half),
            Num::Real(real) => Num::Real(real + half),
        }
    }

    /// As JSON, if JSON as it is read here can hold it.
    pub(crate) fn to_value(self) -> Option<Value> {
        match self {
            Num::Int(int) => match (i64::try_from(int), u64::try_from(int)) {
                (Ok(small), _) => Some(small.into()),
                (_, Ok(large)) => Some(large.into()),
                // As it would be read, if that is the same.
                _ => (int as f64 as i128 == int).then(|| Value::from(int as f64)),
            },
            Num::Real(real) => Number::from_f64(real).map(Value::Number),
        }
    }
}

impl PartialEq for Num {
    fn eq(&self, other: &Num) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Num {}

impl PartialOrd for Num {
    fn partial_cmp(&self, other: &Num) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Num {
    fn cmp(&self, other: &Num) -> Ordering {
        match (*self, *other) {
            (Num::Int(a), Num::Int(b)) => a.cmp(&b),
            (Num::Real(a), Num::Real(b)) => a.total_cmp(&b),
            (Num::Int(a), Num::Real(b)) => int_to_real(a, b),
            (Num::Real(a), Num::Int(b)) => int_to_real(b, a).reverse(),
        }
    }
}

fn int_to_real(int: i128, real: f64) -> Ordering {
    // Beyond, every `f64` is larger or smaller than every `i128`.
    if real >= 1.7e38 {
        return Ordering::Less;
    }
    if real <= -1.7e38 {
        return Ordering::Greater;
    }
    let floor = real.floor();
    match int.cmp(&(floor as i128)) {
        Ordering::Equal if real > floor => Ordering::Less,
        order => order,
    }
}

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Num::Int(int) => int.fmt(f),
            Num::Real(real) => real.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn num(value: Value) -> Num {
        Num::of(&value).unwrap()
    }

    #[test]
    fn whole_numbers_and_others_are_compared_without_rounding() {
        assert_eq!(num(json!(1)), num(json!(1.0)));
        assert!(num(json!(9_007_199_254_740_993_u64)) > num(json!(9_007_199_254_740_992.0)));
        assert!(num(json!(0)) < num(json!(0.5)) && num(json!(0.5)) < num(json!(1)));
        assert!(num(json!(-1)) < num(json!(-0.5)) && num(json!(-0.5)) < num(json!(0)));
        assert!(num(json!(u64::MAX)) < num(json!(1e300)) && num(json!(-1e300)) < num(json!(0)));
        assert!(Num::Int(i128::MAX) < num(json!(1e39)));
    }
}
