//! `contains`: does the answer contain a text? The texts stand in the task file; without any it is the expected answer,
//! or each item of it where it is a list; a row that expects no text says nothing about any answer.

use super::{Answer, Check, Verdict, shorten};
use crate::normalise::{Normalisation, normalise};
use crate::sample::{Sample, text_of};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainsSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// What must stand in the answer; empty for what the row expects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<String>,
    /// One of the texts is enough; else all must be there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any: bool,
    /// Applied to both sides, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub normalise: Vec<Normalisation>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Contains(pub ContainsSpec);

impl Check for Contains {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        let ContainsSpec { texts, any, normalise: rules, .. } = &self.0;
        let wanted: Vec<String> = match &sample.expected {
            _ if !texts.is_empty() => texts.clone(),
            Value::Array(items) => items.iter().map(text_of).collect(),
            other => vec![text_of(other)],
        };
        if wanted.iter().all(|text| text.trim().is_empty()) {
            return Verdict::missing("the row expects no text");
        }
        let given = normalise(answer.text(), rules);
        let missing: Vec<&str> = wanted
            .iter()
            .filter(|text| !given.contains(&normalise(text.trim(), rules)))
            .map(String::as_str)
            .collect();
        let enough = if *any { missing.len() < wanted.len() } else { missing.is_empty() };
        if enough {
            Verdict::pass()
        } else {
            Verdict::fail(format!("not in the answer: {}", shorten(&missing.join(", "), 150)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{judge, sample};
    use super::*;
    use serde_json::json;

    fn check(texts: &[&str], any: bool) -> Contains {
        Contains(ContainsSpec {
            name: "c".into(),
            texts: texts.iter().map(|text| (*text).into()).collect(),
            any,
            normalise: vec![Normalisation::Case],
        })
    }

    #[test]
    fn all_or_any_of_the_texts_must_be_there() {
        assert!(judge(&check(&["red", "green"], false), json!("x"), "Green and RED"));
        assert!(!judge(&check(&["red", "green"], false), json!("x"), "red"));
        assert!(judge(&check(&["red", "green"], true), json!("x"), "red"));
        assert!(!judge(&check(&["red", "green"], true), json!("x"), ""));
    }

    #[test]
    fn without_texts_the_row_says_what_must_be_there() {
        assert!(judge(&check(&[], false), json!("Oslo"), "it is oslo."));
        assert!(!judge(&check(&[], false), json!(["a1", "b2"]), "a1"));
        assert!(judge(&check(&[], false), json!(["a1", 5]), "a1 5"));
        for nothing in [json!([]), json!(" "), json!([""])] {
            let verdict = check(&[], true).judge(&sample(nothing), &Answer::new("anything"));
            assert_eq!(verdict, Verdict::missing("the row expects no text"));
        }
    }
}
