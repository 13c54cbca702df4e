//! Which places of a row a check reads, so that a name that no row has is told before anything is asked: the check would say
//! nothing about any answer, or take every answer that leaves it out for right.

use super::sides::look_up;
use super::{CheckEntry, CheckSpec};
use crate::sample::Sample;
use crate::{Error, Kind, Result};
use serde_json::Value;
use std::collections::BTreeSet;

/// A place of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place<'a> {
    /// A field of `expected`.
    Expected(&'a str),
    /// A field of `meta`.
    Meta(&'a str),
    /// `input`, `expected`, `meta.NAME` and fields of these after dots.
    Path(&'a str),
    /// A key of the objects in a list: all of `expected`, or a field of it.
    Item(Option<&'a str>, &'a str),
}

/// Every place that the checks read is in some row. A row without it expects nothing there.
///
/// # Errors
/// Names the check, what it asks for, and what rows have there.
pub(crate) fn require(checks: &[CheckEntry], samples: &[Sample]) -> Result<()> {
    for entry in checks {
        let asked_for = entry.when.keys().map(|field| Place::Meta(field));
        for place in of(&entry.check).into_iter().chain(asked_for) {
            if !samples.iter().any(|sample| place.is_in(sample)) {
                let name = entry.check.name();
                return Err(Error::new(
                    Kind::Data,
                    format!("the check `{name}` asks for {}, which no row has", place.words()),
                )
                .expected(known(place, samples))
                .found(format!("`{}`", place.name())));
            }
        }
    }
    Ok(())
}

impl CheckSpec {
    /// The one field of the answer and of `expected` that it looks at, where it does not look at the whole.
    pub fn field(&self) -> Option<&str> {
        let field = match self {
            CheckSpec::OneOf(spec) | CheckSpec::Ordinal(spec) => &spec.field,
            CheckSpec::Labels(spec) => &spec.field,
            CheckSpec::Number(spec) => &spec.field,
            CheckSpec::ObjectsF1(spec) => &spec.field,
            CheckSpec::EditDistance(spec) => &spec.field,
            CheckSpec::Rouge(spec) => &spec.field,
            CheckSpec::TokenF1(spec) | CheckSpec::Bleu(spec) | CheckSpec::Chrf(spec) => &spec.field,
            CheckSpec::Similarity(spec) => &spec.field,
            _ => return None,
        };
        field.as_deref()
    }

    /// Where a comparison of texts finds the right answers of a row, if not in `expected`.
    fn references(&self) -> Option<&str> {
        let references = match self {
            CheckSpec::EditDistance(spec) => &spec.references,
            CheckSpec::Rouge(spec) => &spec.references,
            CheckSpec::TokenF1(spec) | CheckSpec::Bleu(spec) | CheckSpec::Chrf(spec) => &spec.references,
            CheckSpec::Similarity(spec) => &spec.references,
            _ => return None,
        };
        references.as_deref()
    }
}

/// The places that a check reads by name.
fn of(check: &CheckSpec) -> Vec<Place<'_>> {
    match check {
        CheckSpec::FieldExact { fields, .. } | CheckSpec::AllFields { fields, .. } => {
            fields.iter().map(|field| Place::Expected(field)).collect()
        }
        CheckSpec::FieldF1(spec) => spec.fields.keys().map(|field| Place::Expected(field)).collect(),
        CheckSpec::ObjectsF1(spec) => {
            spec.keys.keys().map(|key| Place::Item(spec.field.as_deref(), key)).collect()
        }
        CheckSpec::Given(spec) => vec![Place::Path(&spec.from)],
        CheckSpec::Facts(spec) => vec![Place::Path(&spec.from)],
        // With references, the field is one of the answer.
        other => {
            let expected = other.field().map(Place::Expected);
            other.references().map(Place::Path).or(expected).into_iter().collect()
        }
    }
}

impl<'a> Place<'a> {
    fn is_in(self, sample: &Sample) -> bool {
        match self {
            Place::Expected(field) => sample.expected.get(field).is_some(),
            Place::Meta(field) => sample.meta.contains_key(field),
            Place::Path(path) => look_up(sample, path).is_ok(),
            Place::Item(field, key) => items(field, sample).any(|item| item.get(key).is_some()),
        }
    }

    fn name(self) -> &'a str {
        match self {
            Place::Expected(name) | Place::Meta(name) | Place::Path(name) | Place::Item(_, name) => name,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Place::Expected(_) => "a field of `expected`",
            Place::Meta(_) => "a field of `meta`",
            Place::Path(_) => "a place",
            Place::Item(..) => "a key of the expected objects",
        }
    }
}

/// The objects of an expected list.
fn items<'s>(field: Option<&str>, sample: &'s Sample) -> impl Iterator<Item = &'s Value> {
    let list = match field {
        None => Some(&sample.expected),
        Some(field) => sample.expected.get(field),
    };
    list.and_then(Value::as_array).into_iter().flatten()
}

/// What rows have where `place` is looked for, in words.
fn known(place: Place<'_>, samples: &[Sample]) -> String {
    let keys = |value: &Value| value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
    let of_row = |sample: &Sample| -> Vec<String> {
        match place {
            Place::Expected(_) => keys(&sample.expected),
            Place::Item(field, _) => {
                items(field, sample).flat_map(|item| -> Vec<String> { keys(item) }).collect()
            }
            Place::Meta(_) => sample.meta.keys().cloned().collect(),
            Place::Path(_) => {
                let meta = sample.meta.keys().map(|name| format!("meta.{name}"));
                meta.chain(["input".into(), "expected".into()]).collect()
            }
        }
    };
    let names: BTreeSet<String> = samples.iter().flat_map(of_row).map(|name| format!("`{name}`")).collect();
    match (names.is_empty(), place) {
        (false, _) => format!("one of {}", names.into_iter().collect::<Vec<_>>().join(", ")),
        (true, Place::Expected(_)) => "rows whose `expected` is an object".into(),
        (true, Place::Item(..)) => "rows that expect a list of objects".into(),
        (true, _) => "rows with `meta`".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_that_reads_a_place_of_a_row_is_asked_for_it() {
        let mut row = sample(json!({"total": "5", "items": [{"price": 1}]}));
        row.meta.insert("facts".into(), json!({"a": 1}));
        let rows = [sample(json!({})), row];
        let tried = |entry: Value| {
            let entry: CheckEntry = serde_json::from_value(entry).unwrap();
            require(&[entry], &rows).map_err(|error| error.facts().found.clone().unwrap_or_default())
        };
        let scorer = |kind: &str, field: &str| json!({"kind": kind, "name": "c", "field": field});
        for kind in ["number", "labels", "edit_distance", "rouge", "token_f1", "bleu", "chrf", "similarity"] {
            assert_eq!(tried(scorer(kind, "total")), Ok(()), "{kind}");
            assert_eq!(tried(scorer(kind, "totl")), Err("`totl`".into()), "{kind}");
        }
        for (right, wrong) in [
            (json!({"kind": "field_exact", "name": "c", "fields": ["total"]}), ("total", "totl")),
            (json!({"kind": "all_fields", "name": "c", "fields": ["total"]}), ("total", "totl")),
            (json!({"kind": "field_f1", "name": "c", "fields": {"total": []}}), ("total", "totl")),
            (
                json!({"kind": "objects_f1", "name": "c", "field": "items", "keys": {"price": []}}),
                ("price", "prize"),
            ),
            (
                json!({"kind": "objects_f1", "name": "c", "field": "items", "keys": {"price": []}}),
                ("items", "itms"),
            ),
            (
                json!({"kind": "one_of", "name": "c", "field": "total", "labels": ["5", "6"]}),
                ("total", "totl"),
            ),
            (json!({"kind": "given", "name": "c", "from": "meta.facts.a"}), ("facts.a", "facts.b")),
            (json!({"kind": "facts", "name": "c", "from": "meta.facts"}), ("facts\"}", "fcts\"}")),
            (json!({"kind": "rouge", "name": "c", "references": "meta.facts"}), ("meta.facts", "meta.fcts")),
            (json!({"kind": "exact", "name": "c", "when": {"facts": {"a": 1}}}), ("{\"facts\"", "{\"fcts\"")),
        ] {
            assert_eq!(tried(right.clone()), Ok(()), "{right}");
            let text = right.to_string();
            assert_eq!(text.matches(wrong.0).count(), 1, "{text}");
            assert!(tried(serde_json::from_str(&text.replace(wrong.0, wrong.1)).unwrap()).is_err(), "{text}");
        }
    }
}
