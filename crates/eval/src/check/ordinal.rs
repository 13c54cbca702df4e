//! `ordinal`: does the answer name the expected step of a scale? As `one_of`; besides, the places on the scale (from 0)
//! are kept, for the agreement κ of the whole corpus (`aggregate = "quadratic_kappa"`) and for correlations. An answer that
//! is not on the scale counts there as the step farthest from the expected one: leaving it out would reward silence.

use super::one_of::{Labels, OneOfSpec, Pair, pair};
use super::sides::Sides;
use super::{Answer, Check, Evidence, Verdict, shorten};
use crate::Result;
use crate::sample::Sample;

/// See the module.
#[derive(Debug)]
pub(super) struct Ordinal {
    labels: Labels,
    sides: Sides,
}

impl Ordinal {
    pub fn new(spec: &OneOfSpec) -> Result<Self> {
        let sides = Sides { field: spec.field.clone(), references: None };
        Ok(Ordinal { labels: Labels::new(&spec.name, &spec.labels, &spec.normalise)?, sides })
    }
}

impl Check for Ordinal {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        let Pair { found, expected, reason } = match pair(&self.labels, &self.sides, sample, answer) {
            Ok(pair) => pair,
            Err(reason) => return Verdict::missing(reason),
        };
        let last = self.labels.names.len() - 1;
        let found = found.unwrap_or(if expected * 2 >= last { 0 } else { last });
        Verdict::Counted {
            value: f64::from(u8::from(reason.is_none())),
            evidence: Evidence::Numbers { found: found as f64, expected: expected as f64 },
            reason: reason.map(|reason| shorten(&reason, 200)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use serde_json::json;

    #[test]
    fn places_on_the_scale_are_kept() {
        let labels = ["bad", "fair", "good", "great"].map(String::from).to_vec();
        let spec = OneOfSpec { name: "o".into(), labels, field: None, normalise: vec![] };
        let check = Ordinal::new(&spec).unwrap();
        for (expected, answer, value, found) in [
            ("good", "good", 1.0, 2.0),
            ("good", "bad", 0.0, 0.0),
            ("bad", "?", 0.0, 3.0),
            ("great", "", 0.0, 0.0),
        ] {
            let verdict = check.judge(&sample(json!(expected)), &Answer::new(answer));
            assert_eq!(verdict.number(), Some(value));
            assert!(matches!(verdict.evidence(), Some(Evidence::Numbers { found: f, .. }) if *f == found));
        }
    }
}
