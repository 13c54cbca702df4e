//! `number`: is the number in the answer the expected one, within `tolerance` (absolute) or `relative` (a share of the
//! expected one), whichever allows more? Which number of the answer counts is said by `pick`: the last by default,
//! because an answer that reasons ends with its result. What a number is: see [`crate::numbers`]. The two numbers are
//! kept for correlations (`pearson`, `spearman`, `kendall`).

use super::sides::Sides;
use super::{Answer, Check, Evidence, Verdict, shorten};
use crate::numbers::numbers;
use crate::sample::{Sample, text_of};
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which number of a text counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// The last one.
    #[default]
    Last,
    /// The first one.
    First,
    /// The only one; a text with several has none.
    Only,
}

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// How far off an answer may be, 0 or more.
    #[serde(default)]
    pub tolerance: f64,
    /// How far off, as a share of the expected number, 0 or more.
    #[serde(default)]
    pub relative: f64,
    /// Which number of the answer counts.
    #[serde(default)]
    pub pick: Pick,
    /// The field of the answer and of `expected` that holds the number; without it all of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Number {
    tolerance: f64,
    relative: f64,
    pick: Pick,
    sides: Sides,
}

impl Number {
    pub fn new(spec: &NumberSpec) -> Result<Self> {
        let NumberSpec { name, tolerance, relative, pick, field } = spec;
        let sound = |value: f64| value.is_finite() && value >= 0.0;
        if !sound(*tolerance) || !sound(*relative) {
            return Err(Error::new(Kind::Data, format!("the check `{name}` has an impossible tolerance"))
                .expected("`tolerance` and `relative` of 0 or more")
                .found(format!("{tolerance} and {relative}")));
        }
        let sides = Sides { field: field.clone(), references: None };
        Ok(Number { tolerance: *tolerance, relative: *relative, pick: *pick, sides })
    }
}

fn pick(text: &str, pick: Pick) -> Option<f64> {
    let mut found = numbers(text);
    match pick {
        Pick::First => found.next(),
        Pick::Last => found.last(),
        Pick::Only => found.next().filter(|_| found.next().is_none()),
    }
}

impl Check for Number {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        let expected = match self.sides.expected(sample) {
            Ok(Value::Number(number)) => number.as_f64(),
            Ok(other) => pick(&text_of(other), self.pick),
            Err(reason) => return Verdict::missing(reason),
        };
        let Some(expected) = expected else {
            return Verdict::missing("the row expects no number");
        };
        let text = match self.sides.answer(answer) {
            Ok(text) => text,
            Err(reason) => return Verdict::fail(reason),
        };
        let Some(found) = pick(&text, self.pick) else {
            return Verdict::fail(format!(
                "expected {expected}, found no number: `{}`",
                shorten(text.trim(), 60)
            ));
        };
        // The last binary digits of a decimal tolerance must not decide: 0.3 is within 0.1 of 0.2.
        let allowed = self.tolerance.max(self.relative * expected.abs());
        let slack = 4.0 * f64::EPSILON * expected.abs().max(found.abs());
        let right = found == expected || (allowed > 0.0 && (found - expected).abs() <= allowed + slack);
        Verdict::Counted {
            value: f64::from(u8::from(right)),
            evidence: Evidence::Numbers { found, expected },
            reason: (!right).then(|| format!("expected {expected}, found {found}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{judge, sample};
    use super::*;
    use serde_json::json;

    fn check(tolerance: f64, relative: f64, pick: Pick) -> Number {
        Number::new(&NumberSpec { name: "n".into(), tolerance, relative, pick, field: None }).unwrap()
    }

    #[test]
    fn the_number_must_be_within_the_tolerance() {
        let exact = check(0.0, 0.0, Pick::Last);
        assert!(judge(&exact, json!("11"), "5 and 6 make 11.0."));
        assert!(!judge(&exact, json!("11"), "11.0000001"));
        assert!(!judge(&exact, json!(11), "eleven"));
        assert!(judge(&check(0.1, 0.0, Pick::Last), json!(0.2), "0.3"), "the end belongs to it");
        assert!(judge(&check(0.0, 0.01, Pick::Last), json!(-200), "-198"));
        assert!(!judge(&check(0.0, 0.01, Pick::Last), json!(-200), "-197.9"));
        assert!(judge(&check(0.0, 0.0, Pick::Last), json!("1,234.5"), "$1234.50"));
    }

    #[test]
    fn which_number_counts_is_stated() {
        for (pick, right) in [(Pick::Last, "6 5"), (Pick::First, "5 6"), (Pick::Only, "5 apples")] {
            assert!(judge(&check(0.0, 0.0, pick), json!(5), right));
        }
        assert!(!judge(&check(0.0, 0.0, Pick::Only), json!(5), "5 5"));
    }

    #[test]
    fn fields_and_rows_without_a_number() {
        let spec = NumberSpec {
            name: "n".into(),
            tolerance: 0.0,
            relative: 0.0,
            pick: Pick::Last,
            field: Some("t".into()),
        };
        let check = Number::new(&spec).unwrap();
        assert!(judge(&check, json!({"t": 5}), r#"{"t": "RM 5.00"}"#));
        assert!(!judge(&check, json!({"t": 5}), "{}"));
        assert_eq!(check.judge(&sample(json!({"t": "none"})), &Answer::new("{}")).number(), None);
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(Number::new(&NumberSpec { tolerance: wrong, ..spec.clone() }).is_err());
        }
    }
}
