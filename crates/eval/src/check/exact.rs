//! `exact`: is the answer the expected text? White space at both ends never counts; inside, only what the
//! normalisations say is forgiven.

use super::{Answer, Check, Verdict, shorten};
use crate::normalise::{Normalisation, normalise};
use crate::sample::Sample;

/// See the module.
#[derive(Debug)]
pub(super) struct Exact {
    pub normalise: Vec<Normalisation>,
}

impl Check for Exact {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        let expected = normalise(sample.expected_text().trim(), &self.normalise);
        let found = normalise(answer.text().trim(), &self.normalise);
        if expected == found {
            return Verdict::pass();
        }
        Verdict::fail(format!("expected `{}`, found `{}`", shorten(&expected, 60), shorten(&found, 60)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::*;
    use serde_json::json;

    #[test]
    fn only_white_space_at_the_ends_is_forgiven_unless_asked() {
        let plain = Exact { normalise: vec![] };
        assert!(judge(&plain, json!("card_arrival"), " card_arrival\n"));
        assert!(!judge(&plain, json!("card_arrival"), "Card_arrival"));
        assert!(!judge(&plain, json!("card_arrival"), "card_arrival."));
        assert!(!judge(&plain, json!("card_arrival"), ""));
        let lenient = Exact { normalise: vec![Normalisation::Case] };
        assert!(judge(&lenient, json!("card_arrival"), "Card_Arrival"));
    }

    #[test]
    fn an_expected_value_that_is_no_text_is_compared_as_its_json_line() {
        let plain = Exact { normalise: vec![] };
        assert!(judge(&plain, json!({"a": 1}), "{\"a\": 1}"));
        assert!(judge(&plain, json!(5), "5"));
    }
}
