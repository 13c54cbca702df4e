//! `similarity`: how close in meaning are the answer and the expected one? The cosine of their vectors by a local encoder,
//! −1 to 1 (1 for equal texts; texts that have nothing to do with each other lie around 0), as sentence-transformers'
//! `cos_sim` gives it. With `at_least` it is a question: is the cosine that high?
//!
//! Each answer is embedded when it comes, so that a run that is cut off loses nothing. Opening the encoder is left to the
//! program: [`Harness::attach`](crate::harness::Harness::attach) hands it in.

use super::{Answer, Check, Verdict};
use crate::embedder::{self, SharedEmbedder};
use crate::sample::Sample;
use crate::{Error, Kind, Result};
use std::sync::OnceLock;

/// See the module.
pub(super) struct Similarity {
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
pub(super) fn usual_embedder() -> String {
    "all-minilm-l6-v2".into()
}

impl Similarity {
    /// # Errors
    /// When `at_least` lies outside of −1 to 1.
    pub fn new(name: &str, at_least: Option<f64>, embedder: &str) -> Result<Self> {
        if let Some(bound) = at_least.filter(|bound| !(-1.0..=1.0).contains(bound)) {
            return Err(Error::new(Kind::Data, format!("the check `{name}` has a bound that is no cosine"))
                .expected("`at_least` from -1 to 1")
                .found(bound.to_string()));
        }
        Ok(Similarity { at_least, embedder: embedder.to_owned(), attached: OnceLock::new() })
    }

    fn similarity(&self, expected: &str, answer: &str) -> std::result::Result<f64, String> {
        let Some(embedder) = self.attached.get() else {
            return Err(format!("the encoder `{}` is not there", self.embedder));
        };
        let vectors = embedder::embed(embedder, &[expected, answer]).map_err(|error| error.to_string())?;
        match &vectors[..] {
            [expected, answer] => Ok(embedder::similarity(expected, answer)),
            other => Err(format!("the encoder gave {} vectors for 2 texts", other.len())),
        }
    }
}

impl Check for Similarity {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        let expected = sample.expected_text();
        match (self.similarity(expected.trim(), answer.text().trim()), self.at_least) {
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

    fn attach(&self, embedder: &SharedEmbedder) {
        // One that is there already stays.
        let _ = self.attached.set(embedder.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Letters;
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    fn verdict(at_least: Option<f64>, expected: &str, answer: &str) -> Verdict {
        let check = Similarity::new("s", at_least, "letters").unwrap();
        assert_eq!(check.embedder(), Some("letters"));
        let embedder: SharedEmbedder = Arc::new(Mutex::new(Letters));
        check.attach(&embedder);
        assert_eq!(check.embedder(), None, "nothing is needed any more");
        let sample = Sample {
            id: "r".into(),
            input: "i".into(),
            expected: json!(expected),
            meta: Default::default(),
            line: 1,
        };
        check.judge(&sample, &Answer::new(answer))
    }

    #[test]
    fn the_cosine_is_a_number_or_with_a_bound_a_question() {
        let number = |answer| verdict(None, "aab", answer).number().unwrap();
        assert!((number(" baa\n") - 1.0).abs() < 1e-6);
        assert!((number("ab") - 3.0 / 10f64.sqrt()).abs() < 1e-6);
        assert_eq!(number("ccc"), 0.0);
        assert_eq!(verdict(Some(0.9), "aab", "ab"), Verdict::pass());
        let failed = verdict(Some(0.99), "aab", "ab");
        assert_eq!(failed.reason(), Some("similarity 0.949, below 0.99"));
    }

    #[test]
    fn without_an_encoder_there_is_no_number_and_the_reason() {
        let check = Similarity::new("s", None, "letters").unwrap();
        let sample = Sample {
            id: "r".into(),
            input: "i".into(),
            expected: json!("x"),
            meta: Default::default(),
            line: 1,
        };
        let verdict = check.judge(&sample, &Answer::new("x"));
        assert_eq!(verdict.number(), None);
        assert_eq!(verdict.reason(), Some("the encoder `letters` is not there"));
        assert!(Similarity::new("s", Some(1.5), "letters").unwrap_err().to_string().contains("1.5"));
        assert!(Similarity::new("s", Some(f64::NAN), "letters").is_err());
    }
}
