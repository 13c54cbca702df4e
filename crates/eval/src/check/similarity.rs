//! `similarity`: how close in meaning are the answer and the expected one? The cosine of their vectors by a local encoder,
//! −1 to 1 (1 for equal texts; texts that have nothing to do with each other lie around 0), as sentence-transformers'
//! `cos_sim` gives it. Of several references the best counts. With `at_least` it is a question: is the cosine that high? No
//! answer counts as one that has nothing to do with the expected one, 0.
//!
//! Each answer is embedded when it comes, so that a run that is cut off loses nothing. Opening the encoder is left to the
//! program: [`Harness::attach`](crate::harness::Harness::attach) hands it in.

use super::sides::Sides;
use super::{Answer, Check, Verdict};
use crate::embedder::{self, SharedEmbedder};
use crate::model::Identity;
use crate::sample::Sample;
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::OnceLock;

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimilaritySpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// The cosine from which on an answer passes, −1 to 1; without it the check gives the cosine itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The encoder, as a model reference.
    #[serde(default = "usual_embedder")]
    pub embedder: String,
    /// The field of the answer and of `expected` that holds the text; without it all of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Where the row has a list of right answers, such as `meta.references`, of which the best counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<String>,
}

/// See the module.
pub(super) struct Similarity {
    sides: Sides,
    at_least: Option<f64>,
    embedder: String,
    attached: OnceLock<SharedEmbedder>,
}

impl std::fmt::Debug for Similarity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let attached = self.attached.get().is_some();
        write!(f, "Similarity {{ {:?}, {}, attached: {attached} }}", self.at_least, self.embedder)
    }
}

/// The encoder where a check names none.
fn usual_embedder() -> String {
    "all-minilm-l6-v2".into()
}

impl Similarity {
    /// # Errors
    /// When `at_least` lies outside of −1 to 1.
    pub fn new(spec: &SimilaritySpec) -> Result<Self> {
        if let Some(bound) = spec.at_least.filter(|bound| !(-1.0..=1.0).contains(bound)) {
            let what = format!("the check `{}` has a bound that is no cosine", spec.name);
            return Err(Error::new(Kind::Data, what)
                .expected("`at_least` from -1 to 1")
                .found(bound.to_string()));
        }
        let sides = Sides { field: spec.field.clone(), references: spec.references.clone() };
        Ok(Similarity {
            sides,
            at_least: spec.at_least,
            embedder: spec.embedder.clone(),
            attached: OnceLock::new(),
        })
    }

    /// The largest cosine between `answer` and any of the `references`, of which there is at least one.
    fn best(&self, answer: &str, references: &[Cow<'_, str>]) -> std::result::Result<f64, String> {
        let Some(embedder) = self.attached.get() else {
            return Err(format!("the encoder `{}` is not there", self.embedder));
        };
        let texts: Vec<&str> =
            std::iter::once(answer).chain(references.iter().map(|text| text.trim())).collect();
        let vectors = embedder::embed(embedder, &texts).map_err(|error| error.to_string())?;
        match vectors.split_first() {
            Some((answer, others)) if others.len() == references.len() => {
                let cosines = others.iter().map(|other| embedder::similarity(other, answer));
                Ok(cosines.fold(-1.0, f64::max))
            }
            _ => Err(format!("the encoder gave {} vectors for {} texts", vectors.len(), texts.len())),
        }
    }
}

impl Check for Similarity {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        let references = match self.sides.references(sample) {
            Ok(references) => references,
            Err(reason) => return Verdict::missing(reason),
        };
        let text = match self.sides.answer(answer) {
            Ok(text) => text,
            Err(reason) => return self.judge_missing(sample, &reason),
        };
        match (self.best(text.trim(), &references), self.at_least) {
            (Ok(value), None) => Verdict::Value { value, reason: None },
            (Ok(value), Some(bound)) if value >= bound => Verdict::pass(),
            (Ok(value), Some(bound)) => Verdict::fail(format!("similarity {value:.3}, below {bound}")),
            (Err(reason), _) => Verdict::missing(reason),
        }
    }

    fn judge_missing(&self, _: &Sample, reason: &str) -> Verdict {
        match self.at_least {
            None => Verdict::Value { value: 0.0, reason: Some(reason.to_owned()) },
            Some(_) => Verdict::fail(reason),
        }
    }

    fn embedder(&self) -> Option<&str> {
        self.attached.get().is_none().then_some(&self.embedder)
    }

    fn attached(&self) -> Option<(&str, Identity)> {
        self.attached.get().map(|embedder| (self.embedder.as_str(), embedder::identity(embedder)))
    }

    fn attach(&self, embedder: &SharedEmbedder) {
        // One that is there already stays.
        let _ = self.attached.set(embedder.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Letters;
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};

    /// The check that these settings beside name and encoder make, with the encoder of the tests.
    fn check(settings: Value) -> Similarity {
        let mut spec = json!({"name": "s", "embedder": "letters"});
        spec.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let check = Similarity::new(&serde_json::from_value(spec).unwrap()).unwrap();
        assert_eq!(check.embedder(), Some("letters"));
        let embedder: SharedEmbedder = Arc::new(Mutex::new(Letters));
        check.attach(&embedder);
        assert_eq!(check.embedder(), None, "nothing is needed any more");
        check
    }

    fn verdict(settings: Value, expected: &str, answer: &str) -> Verdict {
        check(settings).judge(&super::super::sample(json!(expected)), &Answer::new(answer))
    }

    #[test]
    fn the_cosine_is_a_number_or_with_a_bound_a_question() {
        let number = |answer| verdict(json!({}), "aab", answer).number().unwrap();
        assert!((number(" baa\n") - 1.0).abs() < 1e-6);
        assert!((number("ab") - 3.0 / 10f64.sqrt()).abs() < 1e-6);
        assert_eq!(number("ccc"), 0.0);
        assert_eq!(verdict(json!({"at_least": 0.9}), "aab", "ab"), Verdict::pass());
        let failed = verdict(json!({"at_least": 0.99}), "aab", "ab");
        assert_eq!(failed.reason(), Some("similarity 0.949, below 0.99"));
    }

    #[test]
    fn of_several_references_the_closest_counts() {
        let mut row = super::super::sample(json!("c"));
        row.meta.insert("references".into(), json!(["c", "aab", " ba\n", "d"]));
        let best = |settings, answer| check(settings).judge(&row, &Answer::new(answer));
        let several = json!({"references": "meta.references"});
        assert!((best(several.clone(), "ab").number().unwrap() - 1.0).abs() < 1e-6);
        assert_eq!(best(json!({}), "ab").number(), Some(0.0), "`expected` alone without `references`");
        let bound = json!({"references": "meta.references", "at_least": 0.99});
        assert_eq!(best(bound.clone(), "ab"), Verdict::pass());
        assert_eq!(best(bound, "ae").reason(), Some("similarity 0.632, below 0.99"));
        row.meta.clear();
        let lacking = check(several).judge(&row, &Answer::new("ab"));
        assert_eq!(lacking, Verdict::missing("the row has no `meta.references`"));
    }

    #[test]
    fn one_field_of_both_sides_can_be_compared() {
        let row = super::super::sample(json!({"why": "aab"}));
        let why = |text| check(json!({"field": "why"})).judge(&row, &Answer::new(text));
        assert!((why(r#"{"why": "baa"}"#).number().unwrap() - 1.0).abs() < 1e-6);
        let wrong = why("{}");
        assert_eq!((wrong.number(), wrong.reason()), (Some(0.0), Some("the answer has no `why`")));
    }

    #[test]
    fn without_an_encoder_there_is_no_number_and_the_reason() {
        let spec = |at_least: Option<f64>| SimilaritySpec {
            name: "s".into(),
            at_least,
            embedder: "letters".into(),
            field: None,
            references: None,
        };
        let check = Similarity::new(&spec(None)).unwrap();
        let verdict = check.judge(&super::super::sample(json!("x")), &Answer::new("x"));
        assert_eq!(verdict.number(), None);
        assert_eq!(verdict.reason(), Some("the encoder `letters` is not there"));
        assert!(Similarity::new(&spec(Some(1.5))).unwrap_err().to_string().contains("1.5"));
        assert!(Similarity::new(&spec(Some(f64::NAN))).is_err());
    }
}
