//! `labels`: does the answer name exactly the expected set of labels? The answer is a JSON list of texts, or labels
//! between commas, semicolons and line ends; a label twice counts once, the order does not count, and an answer of
//! nothing, `[]` or `none` is the empty set. It passes or fails: exact set match, which is the `accuracy_score` of
//! scikit-learn on indicator rows. Labels that are not expected are wrong and count as found in micro F1. Micro and macro F1 are metrics of the corpus (`micro_f1`, `macro_f1`).

use super::sides::Sides;
use super::{Answer, Check, Evidence, Verdict, shorten};
use crate::normalise::{Normalisation, normalise};
use crate::sample::{Sample, text_of};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelsSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// The field of the answer and of `expected` that holds the labels; without it all of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Applied to each label of both sides, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub normalise: Vec<Normalisation>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct LabelSet {
    sides: Sides,
    normalise: Vec<Normalisation>,
}

impl LabelSet {
    pub fn new(spec: &LabelsSpec) -> Self {
        let sides = Sides { field: spec.field.clone(), references: None };
        LabelSet { sides, normalise: spec.normalise.clone() }
    }

    fn set(&self, value: &Value) -> BTreeSet<String> {
        let clean = |text: &str| normalise(text.trim(), &self.normalise);
        let set: BTreeSet<String> = match value {
            Value::Array(items) => items.iter().map(|item| clean(&text_of(item))).collect(),
            Value::String(text) => text.split([',', ';', '\n']).map(clean).collect(),
            other => BTreeSet::from([clean(&text_of(other))]),
        };
        let named = set.into_iter().filter(|label| !label.is_empty());
        let set: BTreeSet<String> = named.collect();
        let nothing = set.len() == 1 && set.iter().all(|label| label.eq_ignore_ascii_case("none"));
        if nothing { BTreeSet::new() } else { set }
    }
}

impl Check for LabelSet {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        let expected = match self.sides.expected(sample) {
            Ok(expected) => self.set(expected),
            Err(reason) => return Verdict::missing(reason),
        };
        let (found, broken) = match (&self.sides.field, answer.json()) {
            (None, Ok(list @ Value::Array(_))) => (self.set(list), None),
            (None, _) => (self.set(&Value::String(answer.text().to_owned())), None),
            (Some(field), Ok(Value::Object(map))) => match map.get(field) {
                Some(value) if !value.is_null() => (self.set(value), None),
                _ => (BTreeSet::new(), Some(format!("the answer has no `{field}`"))),
            },
            (Some(_), Ok(_)) => (BTreeSet::new(), Some("the answer is no object".to_owned())),
            (Some(_), Err(reason)) => (BTreeSet::new(), Some(reason.to_owned())),
        };
        let list =
            |set: &mut dyn Iterator<Item = &String>| set.map(String::as_str).collect::<Vec<_>>().join(", ");
        let reason = match broken {
            Some(reason) => Some(reason),
            None if found == expected => None,
            None => {
                let (missed, extra) =
                    (list(&mut expected.difference(&found)), list(&mut found.difference(&expected)));
                Some(format!("missed: {missed}; too much: {extra}"))
            }
        };
        Verdict::Counted {
            value: f64::from(u8::from(reason.is_none())),
            evidence: Evidence::Labels {
                found: found.into_iter().collect(),
                expected: expected.into_iter().collect(),
            },
            reason: reason.map(|reason| shorten(&reason, 200)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{judge, sample};
    use super::*;
    use serde_json::json;

    fn check(field: Option<&str>) -> LabelSet {
        let normalise = vec![Normalisation::Case];
        LabelSet::new(&LabelsSpec { name: "l".into(), field: field.map(str::to_owned), normalise })
    }

    #[test]
    fn lists_of_json_and_of_commas_are_sets() {
        let expected = json!(["joy", "anger"]);
        for right in [r#"["Anger", "joy"]"#, "joy, anger", "anger\njoy\n", "joy;anger;joy", " JOY,Anger "] {
            assert!(judge(&check(None), expected.clone(), right), "{right}");
        }
        for wrong in ["joy", "", "joy, anger, fear", "joy and anger", "[\"joy\"", "{}"] {
            assert!(!judge(&check(None), expected.clone(), wrong), "{wrong}");
        }
        for nothing in ["", "[]", "None"] {
            assert!(judge(&check(None), json!([]), nothing), "{nothing}");
        }
        assert!(judge(&check(None), json!("joy, anger"), "anger, joy"));
        assert!(judge(&check(None), json!(["591", 7]), "[\"7\", 591]"));
    }

    #[test]
    fn what_was_found_is_kept_for_the_corpus() {
        let verdict = check(None).judge(&sample(json!(["a", "b"])), &Answer::new("b, c"));
        let labels =
            Evidence::Labels { found: vec!["b".into(), "c".into()], expected: vec!["a".into(), "b".into()] };
        assert_eq!(verdict.evidence(), Some(&labels));
        assert_eq!(verdict.reason(), Some("missed: a; too much: c"));
        let field = check(Some("f"));
        assert!(judge(&field, json!({"f": ["a"]}), r#"{"f": ["A"]}"#));
        assert!(!judge(&field, json!({"f": []}), "{}"));
        assert_eq!(field.judge(&sample(json!({})), &Answer::new("{}")).number(), None);
    }
}
