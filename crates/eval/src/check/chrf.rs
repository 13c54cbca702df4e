//! `chrf`: chrF2 (Popović 2015) in 0..=1, as sacrebleu computes it (there in 0..=100): character n-grams of orders 1 to 6
//! without white space, no words, β = 2, effective order. Of several references the best counts. The metric over a corpus
//! (`aggregate = "chrf"`) is made from the sums of the evidence and is not a mean of the samples.
//!
//! Evidence: for each order the n-grams of the answer (0 where the reference has none), of the reference, and in common.

use super::Evidence;
use super::sides::{Score, TextScorer, is_python_space};
use std::borrow::Cow;
use std::collections::HashMap;

const ORDERS: usize = 6;
/// β squared: recall weighs twice as much as precision.
const FACTOR: f64 = 4.0;

/// See the module.
#[derive(Debug)]
pub(super) struct Chrf;

impl TextScorer for Chrf {
    fn score(&self, answer: &str, references: &[Cow<'_, str>]) -> Result<Score, String> {
        let answer = Text::new(answer);
        let (mut value, mut counts) = (-1.0, Vec::new());
        for reference in references {
            let these = against(&answer, &Text::new(reference));
            let this = from_counts(&these);
            if this > value {
                (value, counts) = (this, these);
            }
        }
        Ok(Score { value, evidence: Some(Evidence::Counts(counts)) })
    }
}

/// A text without its white space, and where its characters begin.
struct Text {
    text: String,
    starts: Vec<usize>,
}

impl Text {
    fn new(text: &str) -> Self {
        let text: String = text.chars().filter(|c| !is_python_space(*c)).collect();
        let starts = text.char_indices().map(|(start, _)| start).chain([text.len()]).collect();
        Text { text, starts }
    }

    fn grams(&self, order: usize) -> impl ExactSizeIterator<Item = &str> {
        self.starts.windows(order + 1).map(move |ends| &self.text[ends[0]..ends[order]])
    }
}

/// Only n-grams of the reference are looked up, so that an answer of many megabytes keeps none of its own.
fn against(answer: &Text, reference: &Text) -> Vec<u64> {
    let of_order = |order| {
        let mut counts: HashMap<&str, [u64; 2]> = HashMap::new();
        reference.grams(order).for_each(|gram| counts.entry(gram).or_default()[0] += 1);
        for gram in answer.grams(order) {
            if let Some(both) = counts.get_mut(gram) {
                both[1] += 1;
            }
        }
        let common = counts.values().map(|[reference, answer]| reference.min(answer)).sum();
        let of_answer = if counts.is_empty() { 0 } else { answer.grams(order).len() as u64 };
        [of_answer, reference.grams(order).len() as u64, common]
    };
    (1..=ORDERS).flat_map(of_order).collect()
}

/// chrF2 in 0..=1 from sums of the evidence.
pub(crate) fn from_counts(counts: &[u64]) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for order in counts.chunks_exact(3) {
        let [answer, reference, common] = [order[0], order[1], order[2]].map(|count| count as f64);
        if answer > 0.0 && reference > 0.0 {
            precision += common / answer;
            recall += common / reference;
            orders += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    (1.0 + FACTOR) * precision * recall / (FACTOR * precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(answer: &str, references: &[&str]) -> f64 {
        let references: Vec<_> = references.iter().map(|text| Cow::Borrowed(*text)).collect();
        Chrf.score(answer, &references).map(|score| score.value).unwrap()
    }

    #[test]
    fn characters_count_and_spaces_do_not() {
        assert!((score("a b c", &["abc"]) - 1.0).abs() < 1e-12);
        assert_eq!(
            (score("x", &["y"]), score("", &["y"]), score("x", &[""]), score("", &[""])),
            (0.0, 0.0, 0.0, 0.0)
        );
        // Order 1: 1 of 2 against 1 of 1; order 2 has nothing in the reference.
        assert!((score("ab", &["a"]) - 5.0 * 0.5 / (4.0 * 0.5 + 1.0)).abs() < 1e-12);
        assert!((score("é😀", &["zz", "é😀"]) - 1.0).abs() < 1e-12);
    }
}
