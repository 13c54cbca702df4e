//! What a check or scorer found about one output, in the form that stands in records. Numbers of a whole corpus are
//! made from the [`Evidence`] that verdicts carry, in `corpus`.

use super::shorten;
use serde::{Deserialize, Serialize};

/// What a check or scorer found about one output. As JSON the variants are told apart by their fields, and records of
/// before a variant existed stay readable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Verdict {
    /// The answer of a check or scorer whose metric may be a number of the whole corpus, with what that is made from.
    Counted {
        /// A finite number in 0..=1, higher is better; 0 or 1 for a check.
        value: f64,
        /// What the output adds to the numbers of the corpus.
        evidence: Evidence,
        /// What led to the value, in one line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The answer to a check.
    Pass {
        /// Whether the output passed.
        pass: bool,
        /// Why not, in one line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The answer of a scorer; its range is in the scorer's own docs.
    Value {
        /// A finite number.
        value: f64,
        /// What led to it, in one line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The check was asked and could not say anything: the row lacks what it needs, or a limit was passed.
    Missing {
        /// Why, in one line.
        missing: String,
    },
    /// The check is not asked of such samples (its `when`).
    NotAsked {
        /// Which condition the sample does not fulfil.
        not_asked: String,
    },
}

/// What one output adds to a number of the whole corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Labels, for micro and macro F1. None found where the answer named no known label.
    Labels {
        /// Labels of the answer, each once.
        found: Vec<String>,
        /// Labels of the row, each once.
        expected: Vec<String>,
    },
    /// Parts of an answer (fields, objects), for micro F1. Fractions where a part may be right in part.
    Hits {
        /// Expected parts that were found.
        hit: f64,
        /// Parts that were found and not expected.
        extra: f64,
        /// Parts that were expected and not found.
        missed: f64,
    },
    /// Two numbers, for correlations and agreement.
    Numbers {
        /// The number of the answer.
        found: f64,
        /// The number of the row.
        expected: f64,
    },
    /// Sums over the corpus, in the order that the scorer documents (`bleu`, `chrf`).
    Counts(Vec<u64>),
}

/// What a kind of check keeps for numbers of the corpus (see [`Evidence`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// [`Evidence::Labels`].
    Labels,
    /// [`Evidence::Hits`].
    Hits,
    /// [`Evidence::Numbers`].
    Numbers,
    /// [`Evidence::Counts`] of BLEU.
    Bleu,
    /// [`Evidence::Counts`] of chrF.
    Chrf,
}

impl Verdict {
    /// The output passed.
    pub fn pass() -> Self {
        Verdict::Pass { pass: true, reason: None }
    }

    /// The output failed because of `reason`, which is cut at 200 characters.
    pub fn fail(reason: impl Into<String>) -> Self {
        Verdict::Pass { pass: false, reason: Some(shorten(&reason.into(), 200)) }
    }

    /// Nothing can be said, because of `reason`, which is cut at 200 characters.
    pub fn missing(reason: impl Into<String>) -> Self {
        Verdict::Missing { missing: shorten(&reason.into(), 200) }
    }

    /// 1 for passed, 0 for failed, or the graded number; `None` where there is no finite number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Verdict::Pass { pass, .. } => Some(f64::from(u8::from(*pass))),
            Verdict::Value { value, .. } | Verdict::Counted { value, .. } => {
                value.is_finite().then_some(*value)
            }
            Verdict::Missing { .. } | Verdict::NotAsked { .. } => None,
        }
    }

    /// Why, if there is something to say.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Pass { reason, .. }
            | Verdict::Value { reason, .. }
            | Verdict::Counted { reason, .. } => reason.as_deref(),
            Verdict::Missing { missing: reason } | Verdict::NotAsked { not_asked: reason } => Some(reason),
        }
    }

    /// What the output adds to numbers of the corpus, if it adds something.
    pub fn evidence(&self) -> Option<&Evidence> {
        match self {
            Verdict::Counted { evidence, .. } => Some(evidence),
            _ => None,
        }
    }

    /// This verdict as it may stand in a record: JSON has no NaN, and a number that is none is missing.
    pub(crate) fn sound(self) -> Self {
        let finite = |value: f64| value.is_finite();
        let sound = match &self {
            Verdict::Value { value, .. } => finite(*value),
            Verdict::Counted { value, evidence, .. } => {
                finite(*value)
                    && match evidence {
                        Evidence::Numbers { found, expected } => finite(*found) && finite(*expected),
                        Evidence::Hits { hit, extra, missed } => {
                            [*hit, *extra, *missed].map(finite) == [true; 3]
                        }
                        Evidence::Labels { .. } | Evidence::Counts(_) => true,
                    }
            }
            _ => true,
        };
        if sound { self } else { Verdict::missing("the scorer gave no finite number") }
    }

    /// The verdict on a sample without an answer, from the one on an empty answer: wrong, for this reason, and adding to
    /// the numbers of the corpus what an empty answer adds. What says nothing about any answer stays so.
    pub(crate) fn unanswered(self, reason: &str) -> Self {
        match self {
            Verdict::Counted { evidence, .. } => {
                Verdict::Counted { value: 0.0, evidence, reason: Some(shorten(reason, 200)) }
            }
            Verdict::Pass { .. } | Verdict::Value { .. } => Verdict::fail(reason),
            Verdict::Missing { .. } | Verdict::NotAsked { .. } => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_read_back_and_keep_their_form() {
        let numbers = Evidence::Numbers { found: 1.0, expected: 2.0 };
        let labels = Evidence::Labels { found: vec![], expected: vec!["a".into()] };
        for (verdict, text) in [
            (Verdict::pass(), r#"{"pass":true}"#),
            (Verdict::fail("no"), r#"{"pass":false,"reason":"no"}"#),
            (Verdict::Value { value: 0.5, reason: None }, r#"{"value":0.5}"#),
            (Verdict::missing("x"), r#"{"missing":"x"}"#),
            (Verdict::NotAsked { not_asked: "y".into() }, r#"{"not_asked":"y"}"#),
            (
                Verdict::Counted { value: 1.0, evidence: numbers, reason: None },
                r#"{"value":1.0,"evidence":{"numbers":{"found":1.0,"expected":2.0}}}"#,
            ),
            (
                Verdict::Counted { value: 0.0, evidence: labels, reason: Some("r".into()) },
                r#"{"value":0.0,"evidence":{"labels":{"found":[],"expected":["a"]}},"reason":"r"}"#,
            ),
            (
                Verdict::Counted { value: 0.0, evidence: Evidence::Counts(vec![1, 2]), reason: None },
                r#"{"value":0.0,"evidence":{"counts":[1,2]}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&verdict).unwrap(), text);
            assert_eq!(serde_json::from_str::<Verdict>(text).unwrap(), verdict);
        }
        assert_eq!(Verdict::Value { value: f64::NAN, reason: None }.number(), None);
        assert_eq!(Verdict::fail("x".repeat(500)).reason().unwrap().chars().count(), 201);
    }

    #[test]
    fn a_number_that_is_none_is_missing_before_it_is_written() {
        let nan = Verdict::Value { value: f64::NAN, reason: None }.sound();
        assert_eq!(serde_json::to_string(&nan).unwrap(), r#"{"missing":"the scorer gave no finite number"}"#);
        let hits = Evidence::Hits { hit: f64::INFINITY, extra: 0.0, missed: 0.0 };
        let counted = Verdict::Counted { value: 1.0, evidence: hits, reason: None };
        assert!(matches!(counted.sound(), Verdict::Missing { .. }));
        assert_eq!(Verdict::pass().sound(), Verdict::pass());
    }

    #[test]
    fn without_an_answer_a_sample_is_wrong_and_still_counts() {
        assert_eq!(Verdict::pass().unanswered("no"), Verdict::fail("no"));
        let verdict = Verdict::Counted { value: 1.0, evidence: Evidence::Counts(vec![3]), reason: None };
        let wrong = verdict.unanswered("no");
        assert_eq!((wrong.number(), wrong.reason()), (Some(0.0), Some("no")));
        assert_eq!(wrong.evidence(), Some(&Evidence::Counts(vec![3])));
        assert_eq!(Verdict::missing("row").unanswered("no"), Verdict::missing("row"));
    }
}
