//! Slices: the samples of one value of a `meta` field. Few values are slices as they are; many numbers become thirds. What
//! is measured on a slice is `cells`'.

use crate::record::SampleRecord;
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Up to this many values a field makes slices without being asked for.
const FEW: usize = 8;
/// More slices than this nobody reads, and no correction leaves anything of them.
const MOST: usize = 50;
/// The value of samples without the field.
const ABSENT: &str = "(none)";

/// The samples of one value of a `meta` field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slice {
    /// The field.
    pub field: String,
    /// Its value as text, or a third of its numbers.
    pub value: String,
}

/// One field's slices, and which of them each sample is in, by id.
#[derive(Debug)]
pub(super) struct Slicing<'a> {
    pub slices: Vec<Slice>,
    of: HashMap<&'a str, usize>,
}

impl Slicing<'_> {
    pub fn index(&self, id: &str) -> Option<usize> {
        self.of.get(id).copied()
    }
}

/// The fields of `meta` with two to eight values among `samples`, in order; `without` (the group) is left out.
pub fn slice_fields(samples: &[SampleRecord], without: &str) -> Vec<String> {
    let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (field, value) in samples.iter().flat_map(|sample| &sample.meta) {
        let known = values.entry(field).or_default();
        match label(value) {
            Some(label) if known.len() <= FEW => drop(known.insert(label)),
            Some(_) => {}
            // Lists and objects are no values of a slice: more than few.
            None => known.extend((0..=FEW).map(|i| format!("\0{i}"))),
        }
    }
    let few =
        |(field, values): &(&str, BTreeSet<String>)| *field != without && (2..=FEW).contains(&values.len());
    values.into_iter().filter(few).map(|(field, _)| field.to_owned()).collect()
}

/// The slices of one field.
///
/// # Errors
/// When no sample has the field, or it has too many values that are not numbers.
pub(super) fn slicing<'a>(samples: &'a [SampleRecord], field: &str) -> Result<Slicing<'a>> {
    if !samples.iter().any(|sample| sample.meta.contains_key(field)) {
        let known: BTreeSet<&String> = samples.iter().flat_map(|sample| sample.meta.keys()).collect();
        let known: Vec<_> = known.into_iter().map(|name| format!("`{name}`")).collect();
        return Err(Error::new(Kind::Usage, "no sample has this field in its meta")
            .expected(if known.is_empty() {
                "samples with meta".to_owned()
            } else {
                format!("one of {}", known.join(", "))
            })
            .found(format!("`{field}`")));
    }
    let labels = labels(samples, field);
    let mut values: Vec<&String> = labels.iter().collect::<BTreeSet<_>>().into_iter().collect();
    if values.len() > MOST {
        return Err(Error::new(Kind::Usage, format!("`{field}` has too many values for slices"))
            .expected(format!("at most {MOST}, or numbers"))
            .found(values.len().to_string()));
    }
    // Numbers as numbers, then everything else by the alphabet.
    values.sort_by(|a, b| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        (x, y) => x.is_err().cmp(&y.is_err()).then_with(|| a.cmp(b)),
    });
    let index = |label: &String| values.iter().position(|value| *value == label);
    Ok(Slicing {
        of: samples
            .iter()
            .zip(&labels)
            .filter_map(|(s, label)| Some((s.id.as_str(), index(label)?)))
            .collect(),
        slices: values
            .iter()
            .map(|value| Slice { field: field.to_owned(), value: (*value).clone() })
            .collect(),
    })
}

/// The value of `field` of each sample as text; thirds where there are many numbers.
fn labels(samples: &[SampleRecord], field: &str) -> Vec<String> {
    let values: Vec<Option<&Value>> = samples.iter().map(|sample| sample.meta.get(field)).collect();
    let mut numbers: Vec<f64> = values.iter().filter_map(|value| value.and_then(Value::as_f64)).collect();
    let all_numbers = values.iter().flatten().all(|value| value.is_number());
    numbers.sort_by(f64::total_cmp);
    let mut distinct = numbers.clone();
    distinct.dedup();
    if !all_numbers || distinct.len() <= FEW {
        let text = |value: &Option<&Value>| value.and_then(label).unwrap_or_else(|| ABSENT.to_owned());
        return values.iter().map(text).collect();
    }
    let (first, second) = (numbers[(numbers.len() - 1) / 3], numbers[(numbers.len() - 1) * 2 / 3]);
    let third = |number: f64| match number {
        n if n <= first => format!("1st third, up to {first}"),
        n if n <= second => format!("2nd third, up to {second}"),
        _ => format!("3rd third, above {second}"),
    };
    values
        .iter()
        .map(|value| value.and_then(Value::as_f64).map_or_else(|| ABSENT.to_owned(), third))
        .collect()
}

/// A value as the name of a slice or of a group; `None` for lists and objects.
pub(super) fn label(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(answer) => Some(answer.to_string()),
        Value::Null => Some(ABSENT.to_owned()),
        Value::Array(_) | Value::Object(_) => None,
    }
}
