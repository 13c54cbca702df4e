//! `edit_distance`: how alike answer and reference are letter by letter: 1 − Levenshtein distance / length of the longer
//! one, in Unicode scalar values, 0..=1; two empty texts are alike. White space at the ends does not count. Of several
//! references the best counts. Without a number where a comparison would take more than about a second (see `sequence`).

use super::sequence;
use super::sides::{Compared, Score, Sides, TextScorer, best};
use crate::normalise::{Normalisation, normalise};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditDistanceSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// The field of the answer and of `expected` that holds the text; without it all of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Where the row has a list of right answers, such as `meta.references`, of which the best counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<String>,
    /// Applied to both sides, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub normalise: Vec<Normalisation>,
}

pub(super) fn build(spec: &EditDistanceSpec) -> Compared<EditDistance> {
    let sides = Sides { field: spec.field.clone(), references: spec.references.clone() };
    Compared { sides, scorer: EditDistance { normalise: spec.normalise.clone() } }
}

/// See the module.
#[derive(Debug)]
pub(super) struct EditDistance {
    pub normalise: Vec<Normalisation>,
}

impl TextScorer for EditDistance {
    fn score(&self, answer: &str, references: &[Cow<'_, str>]) -> Result<Score, String> {
        let characters = |text: &str| normalise(text.trim(), &self.normalise).chars().collect::<Vec<_>>();
        let answer = characters(answer);
        best(references, |reference| {
            let reference = characters(reference);
            let longer = answer.len().max(reference.len());
            let distance = sequence::edit_distance(&answer, &reference)?;
            Ok(if longer == 0 { 1.0 } else { 1.0 - distance as f64 / longer as f64 })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_differ_are_counted() {
        let plain = EditDistance { normalise: vec![] };
        let score = |a: &str, b: &str| plain.score(a, &[b.into()]).map(|score| score.value);
        assert_eq!(score("kitten", "sitting"), Ok(1.0 - 3.0 / 7.0));
        assert_eq!((score("", " "), score("é", "e"), score("", "abc")), (Ok(1.0), Ok(0.0), Ok(0.0)));
        let lenient = EditDistance { normalise: vec![Normalisation::Case] };
        assert_eq!(lenient.score("AB", &["ab".into()]).map(|score| score.value), Ok(1.0));
    }

    #[test]
    fn ten_megabytes_take_no_minutes() {
        let long = "lorem ipsum ".repeat(900_000);
        let plain = EditDistance { normalise: vec![] };
        let value = plain.score(&long, &["lorem ipsum dolor".into()]).map(|score| score.value).unwrap();
        assert!(value > 0.0 && value < 1e-5);
        assert!(plain.score(&long, &[long.as_str().into()]).is_err());
    }
}
