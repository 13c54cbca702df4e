//! `all_fields`: are all of the fields right at once, each by the rules of `field_exact`? Other fields of the answer
//! are not looked at; a schema can forbid them. A row whose `expected` is no object says nothing about any answer.

use super::field_exact::FieldExact;
use super::{Answer, Check, Verdict};
use crate::normalise::Normalisation;
use crate::sample::Sample;

/// See the module.
#[derive(Debug)]
pub(super) struct AllFields {
    fields: Vec<FieldExact>,
}

impl AllFields {
    /// One question about all of `fields`.
    pub fn new(fields: &[String], normalise: &[Normalisation]) -> Self {
        let each = |field: &String| FieldExact { field: field.clone(), normalise: normalise.to_vec() };
        AllFields { fields: fields.iter().map(each).collect() }
    }
}

impl Check for AllFields {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        if !sample.expected.is_object() {
            return Verdict::missing("`expected` of the row is no object");
        }
        if let Err(reason) = answer.json() {
            return Verdict::fail(reason);
        }
        let wrong: Vec<&str> = self
            .fields
            .iter()
            .filter(|field| field.judge(sample, answer).number() != Some(1.0))
            .map(|field| field.field.as_str())
            .collect();
        if wrong.is_empty() { Verdict::pass() } else { Verdict::fail(format!("wrong: {}", wrong.join(", "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{judge, sample};
    use super::*;
    use serde_json::json;

    #[test]
    fn one_wrong_field_fails_it() {
        let check = AllFields::new(&["a".into(), "b".into()], &[]);
        let expected = json!({"a": "1", "b": "2"});
        assert!(judge(&check, expected.clone(), r#"{"b": "2", "a": "1", "c": 3}"#));
        assert!(!judge(&check, expected.clone(), r#"{"a": "1", "b": "3"}"#));
        assert!(!judge(&check, expected.clone(), r#"{"a": "1"}"#));
        assert!(!judge(&check, expected, "x"));
        assert_eq!(check.judge(&sample(json!("no object")), &Answer::new("{}")).number(), None);
    }
}
