//! `bleu`: BLEU (Papineni et al. 2002) in 0..=1, as sacrebleu computes it (there in 0..=100) with the tokens of
//! mteval-v13a, orders 1 to 4 and exponential smoothing. For one sample it is the sentence BLEU with effective order; the
//! metric over a corpus (`aggregate = "bleu"`) is made from the sums of the evidence and is not a mean of these.
//!
//! Evidence: length of the answer, length of the reference nearest to it, matched n-grams of orders 1 to 4, n-grams of
//! the answer of orders 1 to 4.

use super::Evidence;
use super::sides::{Score, TextScorer, is_python_space};
use std::borrow::Cow;
use std::collections::HashMap;

const ORDERS: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Bleu;

impl TextScorer for Bleu {
    fn score(&self, answer: &str, references: &[Cow<'_, str>]) -> Result<Score, String> {
        let counts = counts(answer, references);
        Ok(Score { value: from_counts(&counts, true), evidence: Some(Evidence::Counts(counts)) })
    }
}

/// BLEU in 0..=1 from sums of the evidence; with `effective_order` only the orders that the answer is long enough for.
pub(crate) fn from_counts(counts: &[u64], effective_order: bool) -> f64 {
    let [answer, reference, rest @ ..] = counts else { return 0.0 };
    if rest.len() != 2 * ORDERS || rest[..ORDERS].iter().all(|count| *count == 0) {
        return 0.0;
    }
    let brevity = if answer < reference { (1.0 - *reference as f64 / *answer as f64).exp() } else { 1.0 };
    let (mut logs, mut orders, mut smoothing) = (0.0, 0, 1.0);
    for (correct, total) in rest[..ORDERS].iter().zip(&rest[ORDERS..]) {
        if *total == 0 {
            break;
        }
        let share = if *correct == 0 {
            smoothing *= 2.0;
            1.0 / (smoothing * *total as f64)
        } else {
            *correct as f64 / *total as f64
        };
        logs += share.ln();
        orders += 1;
    }
    // An order that the answer is too short for has precision 0, and so has the product.
    if orders < ORDERS && !effective_order { 0.0 } else { brevity * (logs / orders as f64).exp() }
}

fn counts(answer: &str, references: &[Cow<'_, str>]) -> Vec<u64> {
    let answer = tokenise(answer);
    let answer: Vec<&str> = answer.split(' ').filter(|token| !token.is_empty()).collect();
    let tokenised: Vec<String> = references.iter().map(|reference| tokenise(reference)).collect();
    let references: Vec<Vec<&str>> =
        tokenised.iter().map(|text| text.split(' ').filter(|token| !token.is_empty()).collect()).collect();
    let nearest = references.iter().map(Vec::len).min_by_key(|len| (len.abs_diff(answer.len()), *len));
    let mut counts = vec![answer.len() as u64, nearest.unwrap_or(0) as u64];
    counts.extend((1..=ORDERS).map(|order| matched(&answer, &references, order)));
    counts.extend((1..=ORDERS).map(|order| (answer.len() + 1).saturating_sub(order) as u64));
    counts
}

/// N-grams of the answer that stand in a reference, each at most as often as in the reference that has most of it.
fn matched(answer: &[&str], references: &[Vec<&str>], order: usize) -> u64 {
    let mut most: HashMap<&[&str], u64> = HashMap::new();
    for reference in references {
        for (gram, count) in grams(reference, order) {
            let entry = most.entry(gram).or_default();
            *entry = count.max(*entry);
        }
    }
    let clipped = |(gram, count): (&[&str], u64)| count.min(most.get(gram).copied().unwrap_or(0));
    grams(answer, order).into_iter().map(clipped).sum()
}

fn grams<'a, 't>(tokens: &'a [&'t str], order: usize) -> HashMap<&'a [&'t str], u64> {
    let mut counts = HashMap::new();
    tokens.windows(order).for_each(|gram| *counts.entry(gram).or_default() += 1);
    counts
}

/// The tokens of mteval-v13a, with single spaces between them.
fn tokenise(text: &str) -> String {
    let text = text.trim_end_matches(is_python_space);
    let mut text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if text.contains('&') {
        for (escape, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
            text = text.replace(escape, character);
        }
    }
    let mut characters: Vec<char> = Vec::with_capacity(text.len() + 2);
    for character in [' '].into_iter().chain(text.chars()).chain([' ']) {
        // ASCII symbols stand alone, but for the apostrophe, comma, dash and period.
        if matches!(character, ' '..='&' | '('..='+' | '/' | ':'..='@' | '['..='`' | '{'..='~') {
            characters.extend([' ', character, ' ']);
        } else {
            characters.push(character);
        }
    }
    let digit = |c: char| c.is_ascii_digit();
    let point = |c: char| c == '.' || c == ',';
    let characters = between(&characters, |a, b| !digit(a) && point(b), |a, b| [a, ' ', b, ' ']);
    let characters = between(&characters, |a, b| point(a) && !digit(b), |a, b| [' ', a, ' ', b]);
    let characters = between(&characters, |a, b| digit(a) && b == '-', |a, b| [a, ' ', b, ' ']);
    let text: String = characters.into_iter().collect();
    text.split(is_python_space).filter(|token| !token.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Replaces pairs of neighbours from left to right; a character is in one pair at most.
fn between(
    text: &[char],
    pair: impl Fn(char, char) -> bool,
    put: impl Fn(char, char) -> [char; 4],
) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    let mut at = 0;
    while at < text.len() {
        match text.get(at + 1) {
            Some(next) if pair(text[at], *next) => {
                out.extend(put(text[at], *next));
                at += 2;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_mteval() {
        assert_eq!(
            tokenise("It's 1,000.50 (or 5-6), e.g. &lt;b&gt;.\n"),
            "It's 1,000.50 ( or 5 - 6 ) , e . g . < b > ."
        );
        assert_eq!(tokenise("re-\nunite well-known A.B."), "reunite well-known A . B .");
        assert_eq!(tokenise(" \x1c\n"), "");
    }

    #[test]
    fn the_corpus_is_not_the_mean_of_its_sentences() {
        let one = counts("the cat sat on the mat", &["the cat sat on the mat".into()]);
        let two = counts("a dog", &["a dog barks loudly".into()]);
        assert!((from_counts(&one, false) - 1.0).abs() < 1e-12);
        let sentence = from_counts(&two, true);
        assert!((sentence - (1.0f64 - 2.0).exp()).abs() < 1e-12, "{sentence}");
        assert_eq!(from_counts(&two, false), 0.0, "too short for order 4");
        let sum: Vec<u64> = one.iter().zip(&two).map(|(a, b)| a + b).collect();
        assert!((from_counts(&sum, false) - (1.0 - 10.0 / 8.0f64).exp()).abs() < 1e-12);
        assert_eq!(from_counts(&counts("", &["x".into()]), true), 0.0);
        assert_eq!(from_counts(&[], true), 0.0);
    }

    #[test]
    fn the_nearest_reference_decides_the_length_and_all_of_them_the_matches() {
        let found = counts("a b c", &["a b".into(), "c a b d".into(), "x".into()]);
        assert_eq!(found, [3, 2, 3, 1, 0, 0, 3, 2, 1, 0]);
    }
}
