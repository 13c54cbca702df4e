//! `rouge`: ROUGE-1, ROUGE-2 or ROUGE-L (Lin 2004) of answer and reference as F measure, 0..=1, as the package rouge-score
//! computes it without its stemmer: lower case, everything but a–z and 0–9 separates words, ROUGE-L over the whole text.
//! Of several references the best counts.

use super::sequence;
use super::sides::{Compared, Score, Sides, TextScorer, best};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;

/// Which of the family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rouge {
    /// Words.
    #[serde(rename = "1")]
    One,
    /// Pairs of neighbouring words.
    #[serde(rename = "2")]
    Two,
    /// The longest common subsequence of words.
    #[default]
    #[serde(rename = "l")]
    L,
}

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RougeSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// Which of the family: `1`, `2` or `l`.
    #[serde(default)]
    pub variant: Rouge,
    /// The field of the answer and of `expected` that holds the text; without it all of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Where the row has a list of right answers, such as `meta.references`, of which the best counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<String>,
}

pub(super) fn build(spec: &RougeSpec) -> Compared<Rouge> {
    let sides = Sides { field: spec.field.clone(), references: spec.references.clone() };
    Compared { sides, scorer: spec.variant }
}

impl TextScorer for Rouge {
    fn score(&self, answer: &str, references: &[Cow<'_, str>]) -> Result<Score, String> {
        let answer = answer.to_lowercase();
        let answer = words(&answer);
        best(references, |reference| {
            let reference = reference.to_lowercase();
            let reference = words(&reference);
            let (common, of_answer, of_reference) = match self {
                Rouge::L => {
                    let common = sequence::common_subsequence(&answer, &reference)?;
                    (common, answer.len(), reference.len())
                }
                Rouge::One => overlap(&answer, &reference, 1),
                Rouge::Two => overlap(&answer, &reference, 2),
            };
            Ok(if common == 0 { 0.0 } else { 2.0 * common as f64 / (of_answer + of_reference) as f64 })
        })
    }
}

fn words(lower: &str) -> Vec<&str> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    lower.split(|c| !inside(c)).filter(|word| !word.is_empty()).collect()
}

/// Runs of `order` words in common, in the answer and in the reference.
fn overlap(answer: &[&str], reference: &[&str], order: usize) -> (usize, usize, usize) {
    let mut left: HashMap<&[&str], usize> = HashMap::new();
    reference.windows(order).for_each(|run| *left.entry(run).or_default() += 1);
    let mut common = 0;
    for run in answer.windows(order) {
        if let Some(count) = left.get_mut(run).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    let runs = |words: &[&str]| (words.len() + 1).saturating_sub(order);
    (common, runs(answer), runs(reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(which: Rouge, answer: &str, reference: &str) -> f64 {
        which.score(answer, &[reference.into()]).map(|score| score.value).unwrap()
    }

    #[test]
    fn each_counts_what_its_name_says() {
        let (answer, reference) = ("the cat sat on the mat", "The cat lay on a mat!");
        assert!((score(Rouge::One, answer, reference) - 8.0 / 12.0).abs() < 1e-12);
        assert!((score(Rouge::Two, answer, reference) - 2.0 / 10.0).abs() < 1e-12);
        assert!((score(Rouge::L, answer, reference) - 8.0 / 12.0).abs() < 1e-12);
        assert!((score(Rouge::L, "b a", "a b") - 0.5).abs() < 1e-12);
        for which in [Rouge::One, Rouge::Two, Rouge::L] {
            assert_eq!((score(which, "", "x"), score(which, "é", ""), score(which, "", "")), (0.0, 0.0, 0.0));
        }
        assert_eq!(serde_json::to_string(&[Rouge::One, Rouge::Two, Rouge::L]).unwrap(), r#"["1","2","l"]"#);
    }
}
