//! `forbidden`: does the answer keep clear of certain words? A word counts where no letter, digit or underscore stands
//! right before or after it, so that "cure" does not stand in "secure"; entries of several words are phrases. Case does
//! not count unless `case` is set.

use super::words::stands_alone;
use super::{Answer, Check, Verdict, shorten};
use crate::sample::Sample;
use serde::{Deserialize, Serialize};

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForbiddenSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// Words and phrases that must not occur.
    pub words: Vec<String>,
    /// Only words in the same case count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub case: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Forbidden {
    words: Vec<String>,
    case: bool,
}

impl Forbidden {
    pub fn new(spec: &ForbiddenSpec) -> Self {
        let fold = |word: &String| if spec.case { word.clone() } else { word.to_lowercase() };
        Forbidden { words: spec.words.iter().map(fold).collect(), case: spec.case }
    }
}

impl Check for Forbidden {
    fn judge(&self, _: &Sample, answer: &Answer<'_>) -> Verdict {
        let text = if self.case { answer.text().to_owned() } else { answer.text().to_lowercase() };
        let found: Vec<&str> =
            self.words.iter().filter(|word| stands_alone(&text, word)).map(String::as_str).collect();
        if found.is_empty() {
            Verdict::pass()
        } else {
            Verdict::fail(format!("in the answer: {}", shorten(&found.join(", "), 150)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::*;
    use serde_json::json;

    #[test]
    fn whole_words_and_phrases_are_found() {
        let spec =
            ForbiddenSpec { name: "f".into(), words: vec!["cure".into(), "No risk".into()], case: false };
        let check = Forbidden::new(&spec);
        for text in ["A Cure!", "there is no risk.", "cure"] {
            assert!(!judge(&check, json!("x"), text), "{text}");
        }
        for text in ["secure", "no  risks", "", "cure_all"] {
            assert!(judge(&check, json!("x"), text), "{text}");
        }
        let exact = Forbidden::new(&ForbiddenSpec { case: true, ..spec });
        assert!(judge(&exact, json!("x"), "A Cure!"));
    }
}
