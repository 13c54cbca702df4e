//! `token_f1`: the F1 of the bags of words of answer and reference, 0..=1, as SQuAD 1.1 defines it (Rajpurkar et al.
//! 2016): lower case, the 32 ASCII punctuation characters and the words a, an, the dropped, split at white space. Where
//! one side has no words, 1 if the other has none either, else 0 (SQuAD 2.0). Of several references the best counts.

use super::sides::{Score, TextScorer, best, is_python_space};
use std::borrow::Cow;
use std::collections::HashMap;

/// See the module.
#[derive(Debug)]
pub(super) struct TokenF1;

impl TextScorer for TokenF1 {
    fn score(&self, answer: &str, references: &[Cow<'_, str>]) -> Result<Score, String> {
        let answer = plain(answer);
        let words = words(&answer);
        best(references, |reference| Ok(f1(&words, &self::words(&plain(reference)))))
    }
}

/// Lower case, without ASCII punctuation, articles as spaces.
fn plain(text: &str) -> String {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let word = |c: char| c.is_alphanumeric();
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let inside = word(first);
        let end = rest.find(|c| word(c) != inside).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        out.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = after;
    }
    out
}

fn words(text: &str) -> Vec<&str> {
    text.split(is_python_space).filter(|word| !word.is_empty()).collect()
}

fn f1(answer: &[&str], reference: &[&str]) -> f64 {
    if answer.is_empty() || reference.is_empty() {
        return f64::from(u8::from(answer.is_empty() && reference.is_empty()));
    }
    let mut left: HashMap<&str, usize> = HashMap::with_capacity(reference.len());
    reference.iter().for_each(|word| *left.entry(word).or_default() += 1);
    let mut same = 0;
    for word in answer {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    2.0 * f64::from(same) / (answer.len() + reference.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(answer: &str, reference: &str) -> f64 {
        TokenF1.score(answer, &[reference.into()]).map(|score| score.value).unwrap()
    }

    #[test]
    fn words_count_as_often_as_they_stand_there() {
        assert_eq!(score("The Red, apple!", "a red apple"), 1.0);
        assert_eq!(score("red red", "red apple"), 0.5);
        assert_eq!(score("pear", "apple"), 0.0);
        assert_eq!((score("", ""), score("the", ""), score("", "x"), score("x", "")), (1.0, 1.0, 0.0, 0.0));
        assert_eq!(score("a’b", "b"), 0.0, "the article leaves its apostrophe");
        assert_eq!(score("theory", "ory"), 0.0);
    }
}
