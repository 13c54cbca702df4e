//! The two sides of a comparison of texts: the answer (or one field of it) and the references of the row. Scorers of
//! texts implement `TextScorer` and know nothing of fields, rows and missing things.

use super::{Answer, Check, Evidence, Verdict};
use crate::sample::{Sample, kind_of, text_of};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// Where the two texts come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sides {
    /// The field of the answer, an object, and of `expected`; without it the whole answer and all of `expected`.
    pub field: Option<String>,
    /// Where the row has a list of right answers, such as `meta.references`; without it `expected` is the only one.
    pub references: Option<String>,
}

impl Sides {
    /// The text of the answer.
    ///
    /// # Errors
    /// In one line: the answer is wrong, because it lacks the field.
    pub fn answer<'a>(&self, answer: &'a Answer<'_>) -> Result<Cow<'a, str>, String> {
        let Some(field) = &self.field else { return Ok(Cow::Borrowed(answer.text())) };
        match answer.json()? {
            Value::Object(map) => match map.get(field) {
                Some(Value::String(text)) => Ok(Cow::Borrowed(text)),
                Some(Value::Null) | None => Err(format!("the answer has no `{field}`")),
                Some(other) => Ok(Cow::Owned(text_of(other))),
            },
            other => Err(format!("expected an object, found {}", kind_of(other))),
        }
    }

    /// What the row expects: the field of `expected`, or all of it.
    ///
    /// # Errors
    /// In one line: nothing can be said about any answer, because the row lacks the field.
    pub fn expected<'s>(&self, sample: &'s Sample) -> Result<&'s Value, String> {
        let Some(field) = &self.field else { return Ok(&sample.expected) };
        match sample.expected.get(field) {
            None | Some(Value::Null) => Err(format!("`expected` of the row has no `{field}`")),
            Some(value) => Ok(value),
        }
    }

    /// The right answers of the row, one at least.
    ///
    /// # Errors
    /// As [`Sides::expected`].
    pub fn references<'s>(&self, sample: &'s Sample) -> Result<Vec<Cow<'s, str>>, String> {
        let text = |value: &'s Value| match value {
            Value::String(text) => Cow::Borrowed(text.as_str()),
            other => Cow::Owned(text_of(other)),
        };
        let Some(path) = &self.references else { return Ok(vec![text(self.expected(sample)?)]) };
        match look_up(sample, path)? {
            Value::Array(items) if items.is_empty() => Err(format!("`{path}` of the row is an empty list")),
            Value::Array(items) => Ok(items.iter().map(text).collect()),
            other => Ok(vec![text(other)]),
        }
    }
}

/// What one writes in a task file about a scorer of texts without settings of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// The field of the answer and of `expected` that holds the text; without it all of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Where the row has a list of right answers, such as `meta.references`, of which the best counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<String>,
}

impl TextSpec {
    pub(super) fn compare<S>(&self, scorer: S) -> Compared<S> {
        let sides = Sides { field: self.field.clone(), references: self.references.clone() };
        Compared { sides, scorer }
    }
}

/// The value at `path` of a row: `input`, `expected` or `meta`, and fields of it after dots (`meta.references`).
///
/// # Errors
/// In one line, when it is not there or null.
pub(super) fn look_up<'s>(sample: &'s Sample, path: &str) -> Result<&'s Value, String> {
    let mut parts = path.split('.');
    let mut found = match parts.next() {
        Some("input") => Some(&sample.input),
        Some("expected") => Some(&sample.expected),
        Some("meta") => match parts.next() {
            Some(name) => sample.meta.get(name),
            None => None,
        },
        _ => None,
    };
    for part in parts {
        found = found.and_then(|value| value.get(part));
    }
    found.filter(|value| !value.is_null()).ok_or_else(|| format!("the row has no `{path}`"))
}

/// A number for two texts.
pub(super) struct Score {
    /// In 0..=1, 1 for the best.
    pub value: f64,
    /// What it adds to a number of the corpus.
    pub evidence: Option<Evidence>,
}

/// A scorer that compares a text with one or several right ones.
pub(super) trait TextScorer: fmt::Debug + Send + Sync {
    /// The score of `answer` against `references`, of which there is at least one.
    ///
    /// # Errors
    /// In one line, why no number can be given.
    fn score(&self, answer: &str, references: &[Cow<'_, str>]) -> Result<Score, String>;
}

/// A [`TextScorer`] between the two sides, as a check.
#[derive(Debug)]
pub(super) struct Compared<S> {
    pub sides: Sides,
    pub scorer: S,
}

impl<S: TextScorer> Check for Compared<S> {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        let references = match self.sides.references(sample) {
            Ok(references) => references,
            Err(reason) => return Verdict::missing(reason),
        };
        let (text, wrong) = match self.sides.answer(answer) {
            Ok(text) => (text, None),
            Err(reason) => (Cow::Borrowed(""), Some(reason)),
        };
        let verdict = match self.scorer.score(&text, &references) {
            // What is longer than all that is right, and too long to be compared with it, is wrong.
            Err(reason) if references.iter().all(|reference| text.len() > reference.len()) => {
                Verdict::fail(reason)
            }
            Err(reason) => Verdict::missing(reason),
            Ok(Score { value, evidence: None }) => Verdict::Value { value, reason: None },
            Ok(Score { value, evidence: Some(evidence) }) => {
                Verdict::Counted { value, evidence, reason: None }
            }
        };
        match wrong {
            None => verdict,
            Some(reason) => verdict.unanswered(&reason),
        }
    }
}

/// The largest number that `score` gives for any of the `references`.
pub(super) fn best(
    references: &[Cow<'_, str>],
    score: impl Fn(&str) -> Result<f64, String>,
) -> Result<Score, String> {
    let mut value: f64 = 0.0;
    for reference in references {
        value = value.max(score(reference)?);
    }
    Ok(Score { value, evidence: None })
}

/// White space as Python's `str.split` sees it: that of Unicode and the four separators of ASCII.
pub(super) fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::super::token_f1::TokenF1;
    use super::*;
    use serde_json::json;

    fn compared(field: Option<&str>, references: Option<&str>) -> Compared<TokenF1> {
        let sides = Sides { field: field.map(str::to_owned), references: references.map(str::to_owned) };
        Compared { sides, scorer: TokenF1 }
    }

    #[test]
    fn one_field_of_both_sides_can_be_compared() {
        let check = compared(Some("note"), None);
        let row = sample(json!({"note": "red apple", "n": 1}));
        let number = |text: &str| check.judge(&row, &Answer::new(text)).number();
        assert_eq!(number(r#"{"note": "red apple"}"#), Some(1.0));
        for wrong in ["red apple", "{}", "[]", r#"{"note": null}"#] {
            let verdict = check.judge(&row, &Answer::new(wrong));
            assert_eq!(verdict.number(), Some(0.0), "{wrong}");
            assert!(verdict.reason().is_some());
        }
    }

    #[test]
    fn a_row_without_what_is_needed_says_nothing_about_the_answer() {
        let no_field = compared(Some("note"), None).judge(&sample(json!({"n": 1})), &Answer::new("x"));
        assert_eq!(no_field, Verdict::missing("`expected` of the row has no `note`"));
        let mut row = sample(json!("x"));
        let check = compared(None, Some("meta.references"));
        assert_eq!(
            check.judge(&row, &Answer::new("x")),
            Verdict::missing("the row has no `meta.references`")
        );
        row.meta.insert("references".into(), json!([]));
        assert_eq!(check.judge(&row, &Answer::new("x")).number(), None);
        row.meta.insert("references".into(), json!(["y", "x"]));
        assert_eq!(check.judge(&row, &Answer::new("x")).number(), Some(1.0), "the best of them counts");
    }

    #[test]
    fn an_answer_that_is_too_long_to_be_compared_is_wrong_and_a_row_that_is_says_nothing() {
        let sides = Sides { field: None, references: None };
        let check =
            Compared { sides, scorer: super::super::edit_distance::EditDistance { normalise: vec![] } };
        let (long, longer) = ("x".repeat(200_000), "x".repeat(300_000));
        let verdict = check.judge(&sample(json!(long)), &Answer::new(&longer));
        assert_eq!(verdict.number(), Some(0.0), "{verdict:?}");
        assert!(verdict.reason().unwrap().contains("300000"));
        assert_eq!(check.judge(&sample(json!(longer)), &Answer::new(&long)).number(), None);
    }

    #[test]
    fn paths_lead_into_the_row() {
        let mut row = sample(json!({"a": {"b": 1}}));
        row.meta.insert("c".into(), json!({"d": null}));
        assert_eq!(look_up(&row, "expected.a.b"), Ok(&json!(1)));
        assert_eq!(look_up(&row, "input"), Ok(&json!("i")));
        for path in ["meta", "meta.x", "meta.c.d", "other", "", "expected.a.b.c"] {
            assert!(look_up(&row, path).unwrap_err().contains(&format!("`{path}`")));
        }
    }
}
