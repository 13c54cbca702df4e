//! `length`: is the answer neither too short nor too long? In Unicode characters (white space at the ends aside), in
//! words (between white space) or in sentences (see `words`).

use super::words::{count_sentences, count_words};
use super::{Answer, Check, Verdict};
use crate::sample::Sample;
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// In what an answer is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Unicode scalar values.
    Characters,
    /// Runs between white space.
    Words,
    /// Stretches up to a full stop, question or exclamation mark.
    Sentences,
}

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// In what the answer is measured.
    pub unit: Unit,
    /// At least so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<usize>,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Length {
    unit: Unit,
    min: usize,
    max: usize,
}

impl Length {
    pub fn new(spec: &LengthSpec) -> Result<Self> {
        let (min, max) = (spec.min.unwrap_or(0), spec.max.unwrap_or(usize::MAX));
        if (spec.min.is_none() && spec.max.is_none()) || min > max {
            return Err(Error::new(Kind::Data, format!("the check `{}` has no range", spec.name))
                .expected("`min`, `max` or both, `min` not above `max`")
                .found(
                    format!("min {:?} and max {:?}", spec.min, spec.max)
                        .replace("Some", "")
                        .replace("None", "none"),
                ));
        }
        Ok(Length { unit: spec.unit, min, max })
    }
}

impl Check for Length {
    fn judge(&self, _: &Sample, answer: &Answer<'_>) -> Verdict {
        let text = answer.text().trim();
        let (length, unit) = match self.unit {
            Unit::Characters => (text.chars().count(), "characters"),
            Unit::Words => (count_words(text), "words"),
            Unit::Sentences => (count_sentences(text), "sentences"),
        };
        match length {
            _ if length < self.min => Verdict::fail(format!("{length} {unit}, fewer than {}", self.min)),
            _ if length > self.max => Verdict::fail(format!("{length} {unit}, more than {}", self.max)),
            _ => Verdict::pass(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::*;
    use serde_json::json;

    fn check(unit: Unit, min: Option<usize>, max: Option<usize>) -> Result<Length> {
        Length::new(&LengthSpec { name: "l".into(), unit, min, max })
    }

    #[test]
    fn both_ends_belong_to_the_range() {
        let characters = check(Unit::Characters, Some(2), Some(3)).unwrap();
        for (text, right) in [("é", false), (" éé\n", true), ("ééé", true), ("éééé", false), ("", false)]
        {
            assert_eq!(judge(&characters, json!("x"), text), right, "{text}");
        }
        assert!(judge(&check(Unit::Words, None, Some(2)).unwrap(), json!("x"), "a b"));
        assert!(!judge(&check(Unit::Sentences, Some(2), None).unwrap(), json!("x"), "One."));
    }

    #[test]
    fn a_range_that_holds_nothing_or_everything_is_refused() {
        assert!(check(Unit::Words, None, None).unwrap_err().to_string().contains("`l`"));
        assert!(check(Unit::Words, Some(3), Some(2)).is_err());
    }
}
