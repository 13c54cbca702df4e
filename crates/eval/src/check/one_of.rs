//! `one_of`: is the answer the expected one of a list of labels? The whole answer (white space at the ends aside) must
//! name a label; an answer that names none is wrong, and for macro F1 it is missed by its label and found by none.

use super::sides::Sides;
use super::{Answer, Check, Evidence, Verdict, shorten};
use crate::normalise::{Normalisation, normalise};
use crate::sample::{Sample, text_of};
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneOfSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// The labels; for `ordinal` from the lowest to the highest.
    pub labels: Vec<String>,
    /// The field of the answer and of `expected` that holds the label; without it all of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Applied to both sides and the labels, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub normalise: Vec<Normalisation>,
}

/// A list of labels by their normalised names.
#[derive(Debug)]
pub(super) struct Labels {
    pub names: Vec<String>,
    index: HashMap<String, usize>,
    normalise: Vec<Normalisation>,
}

impl Labels {
    /// # Errors
    /// When there are fewer than two labels, or two are the same after the normalisations.
    pub fn new(check: &str, names: &[String], normalise_by: &[Normalisation]) -> Result<Self> {
        let mut index = HashMap::new();
        for (at, name) in names.iter().enumerate() {
            if index.insert(normalise(name.trim(), normalise_by), at).is_some() {
                return Err(Error::new(Kind::Data, format!("the check `{check}` has a label twice"))
                    .expected("labels that stay different after `normalise`")
                    .found(format!("`{name}`")));
            }
        }
        if names.len() < 2 {
            return Err(Error::new(Kind::Data, format!("the check `{check}` has too few labels"))
                .expected("two or more in `labels`")
                .found(names.len().to_string()));
        }
        Ok(Labels { names: names.to_vec(), index, normalise: normalise_by.to_vec() })
    }

    /// The place in the list of the label that `text` names.
    pub fn find(&self, text: &str) -> Option<usize> {
        self.index.get(&normalise(text.trim(), &self.normalise)).copied()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct OneOf {
    labels: Labels,
    sides: Sides,
}

/// A label of the answer and of the row.
pub(super) struct Pair {
    pub found: Option<usize>,
    pub expected: usize,
    /// Why the answer is wrong, where it is.
    pub reason: Option<String>,
}

/// The label of the answer and of the row.
///
/// # Errors
/// In one line, when the row names no label.
pub(super) fn pair(
    labels: &Labels,
    sides: &Sides,
    sample: &Sample,
    answer: &Answer<'_>,
) -> std::result::Result<Pair, String> {
    let text = text_of(sides.expected(sample)?);
    let Some(expected) = labels.find(&text) else {
        return Err(format!("the row expects `{}`, which is none of the labels", shorten(&text, 60)));
    };
    let name = &labels.names[expected];
    let (found, reason) = match sides.answer(answer) {
        Err(reason) => (None, Some(reason)),
        Ok(text) => match labels.find(&text) {
            Some(found) if found == expected => (Some(found), None),
            Some(found) => (Some(found), Some(format!("expected `{name}`, found `{}`", labels.names[found]))),
            None => {
                (None, Some(format!("expected `{name}`, found no label: `{}`", shorten(text.trim(), 60))))
            }
        },
    };
    Ok(Pair { found, expected, reason })
}

impl OneOf {
    pub fn new(spec: &OneOfSpec) -> Result<Self> {
        let sides = Sides { field: spec.field.clone(), references: None };
        Ok(OneOf { labels: Labels::new(&spec.name, &spec.labels, &spec.normalise)?, sides })
    }
}

impl Check for OneOf {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        match pair(&self.labels, &self.sides, sample, answer) {
            Err(reason) => Verdict::missing(reason),
            Ok(Pair { found, expected, reason }) => Verdict::Counted {
                value: f64::from(u8::from(reason.is_none())),
                evidence: Evidence::Labels {
                    found: found.map(|label| self.labels.names[label].clone()).into_iter().collect(),
                    expected: vec![self.labels.names[expected].clone()],
                },
                reason: reason.map(|reason| shorten(&reason, 200)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{judge, sample};
    use super::*;
    use serde_json::json;

    fn spec(labels: &[&str]) -> OneOfSpec {
        OneOfSpec {
            name: "o".into(),
            labels: labels.iter().map(|label| (*label).into()).collect(),
            field: None,
            normalise: vec![Normalisation::Case],
        }
    }

    #[test]
    fn the_answer_names_the_right_label_a_wrong_one_or_none() {
        let check = OneOf::new(&spec(&["Red", "Green"])).unwrap();
        assert!(judge(&check, json!("Red"), " red\n"));
        assert!(!judge(&check, json!("Red"), "green"));
        assert!(!judge(&check, json!("Red"), "It is red"));
        let verdict = check.judge(&sample(json!("Red")), &Answer::new(""));
        let none = Evidence::Labels { found: vec![], expected: vec!["Red".into()] };
        assert_eq!(verdict.evidence(), Some(&none));
        let strange = check.judge(&sample(json!("blue")), &Answer::new("Red"));
        assert_eq!(strange, Verdict::missing("the row expects `blue`, which is none of the labels"));
    }

    #[test]
    fn a_field_can_hold_the_label() {
        let check = OneOf::new(&OneOfSpec { field: Some("c".into()), ..spec(&["Red", "Green"]) }).unwrap();
        assert!(judge(&check, json!({"c": "Red"}), r#"{"c": "RED", "d": 1}"#));
        assert!(!judge(&check, json!({"c": "Red"}), "red"));
        assert_eq!(check.judge(&sample(json!("Red")), &Answer::new("{}")).number(), None);
    }

    #[test]
    fn lists_that_tell_nothing_apart_are_refused() {
        assert!(OneOf::new(&spec(&["a"])).unwrap_err().to_string().contains("two or more"));
        assert!(OneOf::new(&spec(&["a", "A"])).unwrap_err().to_string().contains("`A`"));
    }
}
