//! `field_f1`: how many fields of the answer, an object, are right, 0..=1. A field with the expected value is a hit; with
//! another one it is both too much and missed; one that is only there or only expected is too much or missed. F1 =
//! 2 hits / (2 hits + too much + missed), 1 where nothing is expected and nothing there: van
//! Rijsbergen's F (1979) over fields instead of labels. Values are compared as text
//! after the normalisations of their field, so `5` equals `"5"`; absent, null and white space are nothing. Other fields
//! than those listed are not looked at. The counts are kept for micro F1 over the corpus.

use super::{Answer, Check, Evidence, Verdict, shorten};
use crate::normalise::{Normalisation, normalise};
use crate::sample::{Sample, kind_of, text_of};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldF1Spec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// The fields, each with what is applied to both of its sides, in order.
    pub fields: BTreeMap<String, Vec<Normalisation>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct FieldF1(pub FieldF1Spec);

/// The value of a field as it is compared; `None` for nothing.
pub(super) fn comparable(value: Option<&Value>, rules: &[Normalisation]) -> Option<String> {
    let text = match value? {
        Value::Null => return None,
        Value::String(text) => normalise(text.trim(), rules),
        other => normalise(&text_of(other), rules),
    };
    (!text.trim().is_empty()).then_some(text)
}

/// F1 of hits, and 1 where there was nothing to hit.
pub(super) fn f1(hit: f64, extra: f64, missed: f64) -> f64 {
    let all = 2.0 * hit + extra + missed;
    if all == 0.0 { 1.0 } else { 2.0 * hit / all }
}

impl Check for FieldF1 {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        if !sample.expected.is_object() {
            return Verdict::missing(format!("the row expects {}, not an object", kind_of(&sample.expected)));
        }
        let (found, broken) = match answer.json() {
            Ok(Value::Object(map)) => (Some(map), None),
            Ok(other) => (None, Some(format!("expected an object, found {}", kind_of(other)))),
            Err(reason) => (None, Some(reason.to_owned())),
        };
        let (mut hit, mut extra, mut missed) = (0.0, 0.0, 0.0);
        let mut wrong = Vec::new();
        for (field, rules) in &self.0.fields {
            let expected = comparable(sample.expected.get(field), rules);
            let given = comparable(found.and_then(|map| map.get(field)), rules);
            if expected == given {
                hit += f64::from(u8::from(expected.is_some()));
                continue;
            }
            extra += f64::from(u8::from(given.is_some()));
            missed += f64::from(u8::from(expected.is_some()));
            wrong.push(field.as_str());
        }
        let value = if broken.is_some() { 0.0 } else { f1(hit, extra, missed) };
        let wrong = (!wrong.is_empty()).then(|| format!("wrong: {}", wrong.join(", ")));
        let reason = broken.or(wrong).map(|reason| shorten(&reason, 200));
        Verdict::Counted { value, evidence: Evidence::Hits { hit, extra, missed }, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use serde_json::json;

    fn check() -> FieldF1 {
        let fields = [
            ("name", vec![Normalisation::Case]),
            ("total", vec![Normalisation::Number]),
            ("date", vec![Normalisation::Date]),
        ];
        let fields = fields.map(|(name, rules)| (name.to_owned(), rules)).into();
        FieldF1(FieldF1Spec { name: "f".into(), fields })
    }

    #[test]
    fn each_field_counts_by_its_own_rules() {
        let row = sample(json!({"name": "ACME", "total": "5.00", "date": "3/4/2020"}));
        let judge = |text: &str| check().judge(&row, &Answer::new(text));
        assert_eq!(judge(r#"{"name": "acme", "total": 5, "date": "2020-04-03"}"#).number(), Some(1.0));
        assert_eq!(judge(r#"{"name": "acme", "total": "6"}"#).number(), Some(2.0 / (2.0 + 1.0 + 2.0)));
        assert_eq!(judge("{}").number(), Some(0.0));
        let broken = judge("no");
        assert_eq!(broken.evidence(), Some(&Evidence::Hits { hit: 0.0, extra: 0.0, missed: 3.0 }));
        assert_eq!(broken.number(), Some(0.0));
        assert!(broken.reason().unwrap().contains("not JSON"));
    }

    #[test]
    fn where_nothing_is_expected_nothing_is_right() {
        let row = sample(json!({"name": null, "total": ""}));
        assert_eq!(check().judge(&row, &Answer::new(r#"{"name": " "}"#)).number(), Some(1.0));
        assert_eq!(check().judge(&row, &Answer::new(r#"{"name": "x"}"#)).number(), Some(0.0));
        assert_eq!(check().judge(&row, &Answer::new("no")).number(), Some(0.0), "broken is never right");
        assert_eq!(check().judge(&sample(json!("x")), &Answer::new("{}")).number(), None);
    }
}
