//! `json_valid`: is the whole answer one JSON value? Text around it or a code fence makes it none (see `Answer::json`).

use super::{Answer, Check, Verdict};
use crate::sample::Sample;

/// See the module.
#[derive(Debug)]
pub(super) struct JsonValid;

impl Check for JsonValid {
    fn judge(&self, _: &Sample, answer: &Answer<'_>) -> Verdict {
        match answer.json() {
            Ok(_) => Verdict::pass(),
            Err(reason) => Verdict::fail(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::*;
    use serde_json::json;

    #[test]
    fn only_one_whole_value_is_json() {
        for text in ["{}", " {\"a\": [1, null]}\n", "\"x\"", "5", "{\"a\": \"\\ud800\"}"] {
            assert!(judge(&JsonValid, json!("x"), text), "{text}");
        }
        let deep = "[".repeat(100_000);
        for text in ["", "  ", "{", "{} {}", "```json\n{}\n```", "{'a': 1}", "{\"a\": NaN}", "\0", &deep] {
            assert!(!judge(&JsonValid, json!("x"), text));
        }
    }
}
