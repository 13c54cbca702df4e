//! `facts`: does every fact of the row appear in the answer? Two checks: `NAME.share`, the share of facts that appear,
//! 0..=1, and `NAME.all`, whether all do (pass or fail).
//!
//! Facts are read from a place of the row (`from`, `meta.facts` for one): an object (name and value), a list (values), or
//! text with `name[value]` pairs or `name: value` lines. A fact appears when its value, or one of the `phrases` given for
//! it, stands in the answer as words of its own, both sides lower case with runs of white space as one space. A bare
//! yes or no (`yes`, `no`, `true`, `false`, `none`, `dontcare`) says nothing in a text, so a fact with such a value is
//! judged only where it has phrases. Facts named in `skip` are not judged. A row without a fact to judge has no verdict.

use super::sides::look_up;
use super::words::stands_alone;
use super::{Answer, Check, NamedCheck, Verdict, shorten};
use crate::normalise::{Normalisation, normalise};
use crate::sample::{Sample, kind_of, text_of};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactsSpec {
    /// First part of the names of the two checks.
    pub name: String,
    /// Where the facts stand in the row.
    #[serde(default = "the_input")]
    pub from: String,
    /// Names of facts that are not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip: Vec<String>,
    /// Other words for a fact, by `NAME=VALUE` or by `VALUE`; any of them will do, beside the value itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phrases: BTreeMap<String, Vec<String>>,
}

fn the_input() -> String {
    "input".into()
}

/// The names of the two checks.
pub(super) fn names(name: &str) -> [String; 2] {
    [format!("{name}.share"), format!("{name}.all")]
}

/// The two checks.
pub(super) fn build(spec: &FactsSpec) -> Vec<NamedCheck> {
    let [share, all] = names(&spec.name);
    let check = |name, all| NamedCheck { name, check: Box::new(Facts { spec: spec.clone(), all }) };
    vec![check(share, false), check(all, true)]
}

#[derive(Debug)]
struct Facts {
    spec: FactsSpec,
    all: bool,
}

/// A name, empty in a list of values, and a value.
type Fact = (String, String);

fn plain(text: &str) -> String {
    normalise(text, &[Normalisation::Case, Normalisation::Whitespace])
}

fn read(value: &Value) -> Result<Vec<Fact>, String> {
    match value {
        Value::Object(map) => Ok(map.iter().map(|(name, value)| (name.clone(), text_of(value))).collect()),
        Value::Array(items) => Ok(items.iter().map(|item| (String::new(), text_of(item))).collect()),
        Value::String(text) => Ok(read_text(text)),
        other => Err(format!("the facts of the row are {}", kind_of(other))),
    }
}

/// `name[value], name[value]` where there is a bracket, else a `name: value` on each line.
fn read_text(text: &str) -> Vec<Fact> {
    let fact = |name: &str, value: &str| (name.trim().to_owned(), value.trim().to_owned());
    if !text.contains('[') {
        return text.lines().filter_map(|line| line.split_once(':')).map(|(n, v)| fact(n, v)).collect();
    }
    let mut facts = Vec::new();
    for part in text.split_inclusive(']') {
        if let Some((name, value)) = part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            facts.push(fact(name.trim_start_matches([',', ';', ' ', '\n']), value));
        }
    }
    facts
}

impl Facts {
    /// Whether the fact appears in `answer`, which is plain; `None` where it is not judged.
    fn appears(&self, (name, value): &Fact, answer: &str) -> Option<bool> {
        let empty = value.trim().is_empty();
        if empty || self.spec.skip.contains(name) {
            return None;
        }
        let given = |key: &str| self.spec.phrases.get(key).into_iter().flatten();
        let mut phrases = given(&format!("{name}={value}")).chain(given(value)).peekable();
        let bare = matches!(plain(value).as_str(), "yes" | "no" | "true" | "false" | "none" | "dontcare");
        if bare && phrases.peek().is_none() {
            return None;
        }
        Some(
            (!bare && stands_alone(answer, &plain(value)))
                || phrases.any(|phrase| stands_alone(answer, &plain(phrase))),
        )
    }
}

impl Check for Facts {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        let facts = match look_up(sample, &self.spec.from).and_then(read) {
            Ok(facts) => facts,
            Err(reason) => return Verdict::missing(reason),
        };
        let answer = plain(answer.text());
        let judged: Vec<(&Fact, bool)> =
            facts.iter().filter_map(|fact| Some((fact, self.appears(fact, &answer)?))).collect();
        if judged.is_empty() {
            return Verdict::missing(format!("no fact to judge in `{}` of the row", self.spec.from));
        }
        let absent: Vec<String> = judged
            .iter()
            .filter(|(_, appears)| !appears)
            .map(|((name, value), _)| if name.is_empty() { value.clone() } else { format!("{name} {value}") })
            .collect();
        let reason =
            (!absent.is_empty()).then(|| shorten(&format!("not in the answer: {}", absent.join(", ")), 200));
        match (self.all, reason) {
            (true, None) => Verdict::pass(),
            (true, Some(reason)) => Verdict::fail(reason),
            (false, reason) => {
                let value = 1.0 - absent.len() as f64 / judged.len() as f64;
                Verdict::Value { value, reason }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use serde_json::json;

    fn numbers(spec: &FactsSpec, facts: Value, answer: &str) -> [Option<f64>; 2] {
        let mut row = sample(json!("x"));
        row.meta.insert("facts".into(), facts);
        let checks = build(spec);
        [0, 1].map(|i| checks[i].check.judge(&row, &Answer::new(answer)).number())
    }

    fn spec() -> FactsSpec {
        let phrases = [("usb=false".to_owned(), vec!["no usb".into(), "without usb".into()])];
        FactsSpec {
            name: "f".into(),
            from: "meta.facts".into(),
            skip: vec!["style".into()],
            phrases: phrases.into(),
        }
    }

    #[test]
    fn values_must_stand_in_the_answer() {
        let facts = json!({"style": "inform", "name": "Tera 45", "price": "9 dollars", "family": "yes"});
        assert_eq!(numbers(&spec(), facts.clone(), "The TERA  45 costs 9 dollars."), [Some(1.0), Some(1.0)]);
        assert_eq!(numbers(&spec(), facts.clone(), "The tera 455 costs 9 dollars."), [Some(0.5), Some(0.0)]);
        assert_eq!(numbers(&spec(), facts, ""), [Some(0.0), Some(0.0)]);
    }

    #[test]
    fn a_bare_yes_or_no_is_judged_by_its_phrases_only() {
        let facts = json!({"usb": "false", "hdmi": "false"});
        assert_eq!(numbers(&spec(), facts.clone(), "it has no USB ports"), [Some(1.0), Some(1.0)]);
        assert_eq!(numbers(&spec(), facts, "false"), [Some(0.0), Some(0.0)]);
        assert_eq!(numbers(&spec(), json!({"hdmi": "no"}), "no"), [None, None]);
    }

    #[test]
    fn facts_are_read_from_pairs_lines_lists_and_objects() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let wanted = vec![pair("name", "The Mill"), pair("near", "River A")];
        assert_eq!(read(&json!("name[The Mill], near[River A]")), Ok(wanted.clone()));
        assert_eq!(read(&json!("name: The Mill\nnear: River A\n")), Ok(wanted.clone()));
        assert_eq!(read(&json!({"name": "The Mill", "near": "River A"})), Ok(wanted));
        assert_eq!(read(&json!(["a", 5])), Ok(vec![pair("", "a"), pair("", "5")]));
        assert!(read(&json!(5)).is_err());
        assert_eq!(read(&json!("[[[")), Ok(vec![]));
        assert_eq!(numbers(&spec(), json!(null), "x"), [None, None]);
    }
}
