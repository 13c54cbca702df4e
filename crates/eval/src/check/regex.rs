//! `regex`: does the answer match a pattern, anywhere or (with `whole`) from end to end, white space at the ends aside?
//! Patterns are those of the crate `regex`: no look-around and no back-references, and the time is linear in the answer.

use super::{Answer, Check, Verdict, shorten};
use crate::sample::Sample;
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegexSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// The pattern.
    pub pattern: String,
    /// The whole answer must match, not a part of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Regex {
    pattern: regex::Regex,
}

impl Regex {
    /// Compiles the pattern.
    pub fn new(spec: &RegexSpec) -> Result<Self> {
        let pattern = if spec.whole { format!(r"\A(?:{})\z", spec.pattern) } else { spec.pattern.clone() };
        let pattern = regex::Regex::new(&pattern).map_err(|error| {
            let text = error.to_string();
            let reason = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            Error::new(Kind::Data, format!("the pattern of the check `{}` cannot be used", spec.name))
                .expected("a regular expression without look-around and back-references")
                .found(format!("`{}` ({})", shorten(&spec.pattern, 80), reason.trim()))
        })?;
        Ok(Regex { pattern })
    }
}

impl Check for Regex {
    fn judge(&self, _: &Sample, answer: &Answer<'_>) -> Verdict {
        if self.pattern.is_match(answer.text().trim()) {
            return Verdict::pass();
        }
        Verdict::fail(format!("`{}` does not match `{}`", shorten(answer.text(), 60), self.pattern.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::*;
    use serde_json::json;

    fn check(pattern: &str, whole: bool) -> Result<Regex> {
        Regex::new(&RegexSpec { name: "r".into(), pattern: pattern.into(), whole })
    }

    #[test]
    fn a_part_or_the_whole_answer_must_match() {
        let part = check(r"\d{2}/\d{2}", false).unwrap();
        assert!(judge(&part, json!("x"), "on 01/02 or so"));
        assert!(!judge(&part, json!("x"), "1/2"));
        assert!(!judge(&part, json!("x"), ""));
        let whole = check("a|ab", true).unwrap();
        assert!(judge(&whole, json!("x"), " ab\n"));
        assert!(!judge(&whole, json!("x"), "abc"));
    }

    #[test]
    fn broken_and_endless_patterns_are_refused_or_harmless() {
        let error = check("(a", false).unwrap_err().to_string();
        assert!(error.contains("`r`") && error.contains("`(a`") && error.contains("unclosed"), "{error}");
        assert!(check(r"(a)\1", false).is_err());
        assert!(check("(((a{1000}){1000}){1000}){1000}", false).is_err(), "too large when compiled");
        assert!(!judge(&check("(a+)+$", false).unwrap(), json!("x"), &("a".repeat(1 << 20) + "b")));
    }
}
