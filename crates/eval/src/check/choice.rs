//! `choice`: is the option that the answer chooses, read off the text by its letter, the expected one? A candidate that chooses
//! by log-probability answers with the letter it holds most likely, so its answers are judged alike.
//!
//! The letter is, by the first rule that finds one: the whole answer, brackets and a mark after it aside (`b`, `(B)`,
//! `B.`); a capital at the start with `)`, `.` or `:` after it; the last capital that stands alone after the word
//! "answer", with nothing but "is", marks and spaces between. Any other answer chooses nothing and is wrong.

use super::sides::Sides;
use super::words::in_word;
use super::{Answer, Check, Evidence, Verdict, shorten};
use crate::sample::{Sample, text_of};
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// How the chosen option is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The letter in the answer: the only way, which task files may state.
    #[default]
    Letter,
}

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChoiceSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// How many options there are, 2 to 26: A, B, …
    pub options: usize,
    /// How the chosen one is found.
    #[serde(default)]
    pub by: By,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Choice {
    options: u8,
}

impl ChoiceSpec {
    /// The letters, A first.
    pub(super) fn letters(&self) -> Vec<String> {
        ('A'..='Z').take(self.options).map(String::from).collect()
    }
}

impl Choice {
    pub fn new(spec: &ChoiceSpec) -> Result<Self> {
        match u8::try_from(spec.options) {
            Ok(options @ 2..=26) => Ok(Choice { options }),
            _ => Err(Error::new(Kind::Data, format!("the check `{}` has no such options", spec.name))
                .expected("2 to 26 `options`")
                .found(spec.options.to_string())),
        }
    }

    fn option(&self, letter: char) -> Option<u8> {
        let place = (letter.to_ascii_uppercase() as u32).checked_sub('A' as u32)?;
        u8::try_from(place).ok().filter(|place| *place < self.options)
    }

    fn only_letter(&self, text: &str) -> Option<u8> {
        let bare = text.trim().trim_start_matches(['(', '[']).trim_end_matches([')', ']', '.', ':']);
        let mut characters = bare.chars();
        let first = characters.next()?;
        if characters.next().is_none() { self.option(first) } else { None }
    }

    /// The option that the text chooses, by the rules of the module.
    fn read(&self, text: &str) -> Option<u8> {
        let capital = |letter: char| if letter.is_ascii_uppercase() { self.option(letter) } else { None };
        let leading = |text: &str| {
            let mut characters = text.trim_start().trim_start_matches(['(', '[']).chars();
            let option = capital(characters.next()?)?;
            matches!(characters.next()?, ')' | '.' | ':' | ']').then_some(option)
        };
        let after_word = |text: &str| {
            // ASCII only, so that places in it are places in the text.
            let lower = text.to_ascii_lowercase();
            let mut found = None;
            for (start, word) in lower.match_indices("answer") {
                let rest = &text[start + word.len()..];
                let marks = |c: char| !in_word(c) && c != '\n';
                let rest = rest.trim_start_matches(marks);
                let rest = rest.strip_prefix("is ").or(rest.strip_prefix("is:")).unwrap_or(rest);
                let mut characters = rest.trim_start_matches(marks).chars();
                let option = characters.next().and_then(capital);
                if option.is_some() && !characters.next().is_some_and(in_word) {
                    found = option;
                }
            }
            found
        };
        self.only_letter(text).or_else(|| leading(text)).or_else(|| after_word(text))
    }
}

fn letter(option: u8) -> String {
    char::from(b'A' + option).to_string()
}

impl Check for Choice {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        let row = match Sides::default().expected(sample) {
            Ok(value) => text_of(value),
            Err(reason) => return Verdict::missing(reason),
        };
        let Some(expected) = self.only_letter(&row) else {
            return Verdict::missing(format!("the row expects `{}`, which is no option", shorten(&row, 60)));
        };
        let found = self.read(answer.text());
        let reason = match found {
            Some(found) if found == expected => None,
            Some(found) => Some(format!("expected {}, found {}", letter(expected), letter(found))),
            None => Some(format!(
                "expected {}, found no option: `{}`",
                letter(expected),
                shorten(answer.text().trim(), 60)
            )),
        };
        Verdict::Counted {
            value: f64::from(u8::from(reason.is_none())),
            evidence: Evidence::Labels {
                found: found.map(letter).into_iter().collect(),
                expected: vec![letter(expected)],
            },
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{judge, sample};
    use super::*;
    use serde_json::json;

    #[test]
    fn the_letters_of_the_options_are_the_labels_to_choose_from() {
        let spec = ChoiceSpec { name: "c".into(), options: 3, by: By::Letter };
        let labels = crate::check::CheckSpec::Choice(spec).labels().unwrap();
        assert_eq!(labels, ["A", "B", "C"]);
    }

    #[test]
    fn letters_are_read_by_the_rules() {
        let check = Choice::new(&ChoiceSpec { name: "c".into(), options: 4, by: By::Letter }).unwrap();
        for right in [
            "B",
            "b",
            "(B)",
            "B.",
            "[b]",
            "B) because",
            "B: x",
            "The answer is B.",
            "A is wrong. Answer: (B)",
            "answer is A? No, the ANSWER is **B**",
        ] {
            assert!(judge(&check, json!("B"), right), "{right}");
        }
        for wrong in
            ["", "A", "E", "Because", "A or B", "the answer is Brown", "5", "the answer is not B", "answer é"]
        {
            assert!(!judge(&check, json!("B"), wrong), "{wrong}");
        }
        assert_eq!(check.judge(&sample(json!("Z")), &Answer::new("A")).number(), None);
        assert_eq!(ChoiceSpec { name: "c".into(), options: 3, by: By::Letter }.letters(), ["A", "B", "C"]);
        assert!(Choice::new(&ChoiceSpec { name: "c".into(), options: 27, by: By::Letter }).is_err());
    }
}
