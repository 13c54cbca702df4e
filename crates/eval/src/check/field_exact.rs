//! `field_exact`: is one field of the answer, an object, the expected one?
//!
//! The rules: a row whose `expected` is no object says nothing about any answer. An answer that is no JSON object is wrong. Where the expected value is text, the answer's must be text
//! and equal after the normalisations; any other expected value must be equal as JSON. Where nothing is expected (the
//! field is absent, null or empty), nothing must be there: absent, null, or text of white space only.

use super::{Answer, Check, Verdict, shorten};
use crate::normalise::{Normalisation, normalise};
use crate::sample::{Sample, kind_of, text_of};
use serde_json::Value;

/// See the module.
#[derive(Debug)]
pub(super) struct FieldExact {
    pub field: String,
    pub normalise: Vec<Normalisation>,
}

impl Check for FieldExact {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        if !sample.expected.is_object() {
            return Verdict::missing(format!(
                "`expected` of the row is {}, no object",
                kind_of(&sample.expected)
            ));
        }
        let found = match answer.json() {
            Ok(Value::Object(map)) => map.get(&self.field),
            Ok(other) => return Verdict::fail(format!("expected an object, found {}", kind_of(other))),
            Err(reason) => return Verdict::fail(reason),
        };
        let expected = sample.expected.get(&self.field);
        match (present(expected), present(found)) {
            (None, None) => Verdict::pass(),
            (None, Some(found)) => Verdict::fail(format!("expected nothing, found `{}`", show(found))),
            (Some(expected), None) => Verdict::fail(format!("expected `{}`, found nothing", show(expected))),
            (Some(expected), Some(found)) if self.equal(expected, found) => Verdict::pass(),
            (Some(expected), Some(found)) => {
                Verdict::fail(format!("expected `{}`, found `{}`", show(expected), show(found)))
            }
        }
    }
}

impl FieldExact {
    fn equal(&self, expected: &Value, found: &Value) -> bool {
        match (expected, found) {
            (Value::String(expected), Value::String(found)) => {
                normalise(expected, &self.normalise) == normalise(found, &self.normalise)
            }
            _ => expected == found,
        }
    }
}

/// The value, if there is anything to compare.
fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| match value {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        _ => true,
    })
}

fn show(value: &Value) -> String {
    shorten(&text_of(value), 80)
}

#[cfg(test)]
mod tests {
    use super::super::{judge, sample};
    use super::*;
    use serde_json::json;

    fn check(normalise: &[Normalisation]) -> FieldExact {
        FieldExact { field: "total".into(), normalise: normalise.to_vec() }
    }

    #[test]
    fn text_must_be_equal_after_the_normalisations() {
        let expected = json!({"total": "RM 5.00", "date": "x"});
        assert!(judge(&check(&[]), expected.clone(), r#"{"total": "RM 5.00"}"#));
        assert!(!judge(&check(&[]), expected.clone(), r#"{"total": "rm  5.00"}"#));
        let lenient = check(&[Normalisation::Case, Normalisation::Whitespace]);
        assert!(judge(&lenient, expected.clone(), r#"{"total": "rm  5.00 "}"#));
        assert!(!judge(&lenient, expected, r#"{"total": "RM5.00"}"#));
    }

    #[test]
    fn missing_and_other_kinds_are_wrong() {
        for text in
            ["{}", r#"{"total": null}"#, r#"{"total": 5}"#, r#"{"total": ["5"]}"#, "[]", "\"5\"", "5", "{"]
        {
            assert!(!judge(&check(&[]), json!({"total": "5"}), text), "{text}");
        }
        assert!(judge(&check(&[]), json!({"total": 5}), r#"{"total": 5}"#));
        assert!(!judge(&check(&[]), json!({"total": 5}), r#"{"total": "5"}"#));
    }

    #[test]
    fn where_nothing_is_expected_nothing_must_be_there() {
        for expected in [json!({}), json!({"total": null}), json!({"total": ""})] {
            for text in ["{}", r#"{"total": null}"#, r#"{"total": " "}"#] {
                assert!(judge(&check(&[]), expected.clone(), text), "{expected} {text}");
            }
            assert!(!judge(&check(&[]), expected.clone(), r#"{"total": "5"}"#));
            assert!(!judge(&check(&[]), expected, "no JSON"));
        }
        for text in ["{}", "no JSON"] {
            let verdict = check(&[]).judge(&sample(json!("no object")), &Answer::new(text));
            assert!(verdict.number().is_none() && verdict.reason().unwrap().contains("no object"), "{text}");
        }
    }
}
