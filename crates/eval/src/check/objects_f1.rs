//! `objects_f1`: how well a list of objects of the answer (line items of a receipt) fits the expected one, 0..=1, in any
//! order. Two objects are alike by the share of `keys` with the same value (compared as in `field_f1`; a key that neither
//! has is left out of the share). Each object is matched with at most one of the other list so that the sum of likeness is
//! the largest possible, and F1 = 2 · sum / (objects of the answer + expected objects); 1 where both lists are empty.
//!
//! The matching is the Hungarian method (Kuhn 1955, Munkres 1957) with shortest augmenting paths and potentials
//! (Jonker and Volgenant 1987), in n² · m steps.

use super::field_f1::{comparable, f1};
use super::{Answer, Check, Evidence, Verdict, shorten};
use crate::normalise::Normalisation;
use crate::sample::{Sample, kind_of};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// More steps of the matching than this take longer than a few seconds, and there is a reason in place of a number.
const MOST_STEPS: u128 = 4_000_000_000;

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectsF1Spec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// The field of the answer and of `expected` that holds the list; without it all of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The keys that are compared, each with what is applied to both sides, in order.
    pub keys: BTreeMap<String, Vec<Normalisation>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct ObjectsF1(pub ObjectsF1Spec);

type Values = Vec<Option<String>>;

impl ObjectsF1 {
    /// The objects as lists of comparable values, in the order of the keys.
    fn objects(&self, value: &Value) -> Result<Vec<Values>, String> {
        let list = match &self.0.field {
            None => Some(value),
            Some(field) => match value {
                Value::Object(map) => map.get(field),
                other => return Err(format!("expected an object, found {}", kind_of(other))),
            },
        };
        let place = self.0.field.as_deref().unwrap_or("the whole");
        match list {
            None | Some(Value::Null) => Err(format!("there is no `{place}`")),
            Some(Value::Array(items)) => Ok(items
                .iter()
                .map(|item| self.0.keys.iter().map(|(key, rules)| comparable(item.get(key), rules)).collect())
                .collect()),
            Some(other) => Err(format!("`{place}` is {}, not a list", kind_of(other))),
        }
    }
}

/// The share of keys with the same value, of those that one of the two has.
fn likeness(a: &Values, b: &Values) -> f64 {
    let (mut same, mut all) = (0u32, 0u32);
    for (a, b) in a.iter().zip(b).filter(|(a, b)| a.is_some() || b.is_some()) {
        same += u32::from(a == b);
        all += 1;
    }
    if all == 0 { 0.0 } else { f64::from(same) / f64::from(all) }
}

/// The largest possible sum of `gain(row, column)`, 0 or more each, with every row and column used at most once.
fn best_sum(rows: usize, columns: usize, gain: impl Fn(usize, usize) -> f64) -> f64 {
    debug_assert!(rows <= columns);
    // Potentials and partners from 1; row 0 and column 0 stand for "none".
    let (mut u, mut v) = (vec![0.0; rows + 1], vec![0.0; columns + 1]);
    let mut row_of = vec![0; columns + 1];
    let mut before = vec![0; columns + 1];
    for row in 1..=rows {
        row_of[0] = row;
        let mut column = 0;
        let mut least = vec![f64::INFINITY; columns + 1];
        let mut done = vec![false; columns + 1];
        while row_of[column] != 0 {
            done[column] = true;
            let from = row_of[column];
            let (mut step, mut next) = (f64::INFINITY, 0);
            for other in (1..=columns).filter(|other| !done[*other]) {
                let cost = -gain(from - 1, other - 1) - u[from] - v[other];
                if cost < least[other] {
                    (least[other], before[other]) = (cost, column);
                }
                if least[other] < step {
                    (step, next) = (least[other], other);
                }
            }
            for other in 0..=columns {
                if done[other] {
                    u[row_of[other]] += step;
                    v[other] -= step;
                } else {
                    least[other] -= step;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[before[column]];
            column = before[column];
        }
    }
    (1..=columns)
        .filter(|column| row_of[*column] != 0)
        .map(|column| gain(row_of[column] - 1, column - 1))
        .sum()
}

impl Check for ObjectsF1 {
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict {
        let expected = match self.objects(&sample.expected) {
            Ok(objects) => objects,
            Err(reason) => return Verdict::missing(format!("the row: {reason}")),
        };
        let (found, broken) = match answer.json().map_err(str::to_owned).and_then(|value| self.objects(value))
        {
            Ok(objects) => (objects, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let (few, many) =
            if found.len() <= expected.len() { (&found, &expected) } else { (&expected, &found) };
        if (few.len() as u128).pow(2) * many.len() as u128 > MOST_STEPS {
            return Verdict::missing(format!("too many objects to match: {} and {}", few.len(), many.len()));
        }
        let hit = best_sum(few.len(), many.len(), |a, b| likeness(&few[a], &many[b]));
        let (extra, missed) = (found.len() as f64 - hit, expected.len() as f64 - hit);
        let value = if broken.is_some() { 0.0 } else { f1(hit, extra, missed) };
        let partly = || format!("{hit:.2} of {} objects, {} in the answer", expected.len(), found.len());
        let reason = broken.or_else(|| (value < 1.0).then(partly)).map(|reason| shorten(&reason, 200));
        Verdict::Counted { value, evidence: Evidence::Hits { hit, extra, missed }, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::random::Random;
    use serde_json::json;

    fn check() -> ObjectsF1 {
        let keys = [
            ("name".to_owned(), vec![Normalisation::Case]),
            ("price".to_owned(), vec![Normalisation::Number]),
        ];
        ObjectsF1(ObjectsF1Spec { name: "o".into(), field: Some("items".into()), keys: keys.into() })
    }

    #[test]
    fn order_does_not_count_and_parts_do() {
        let row = sample(json!({"items": [{"name": "Tea", "price": 2}, {"name": "Bun", "price": "1.50"}]}));
        let judge = |text: &str| check().judge(&row, &Answer::new(text));
        assert_eq!(
            judge(r#"{"items": [{"name": "bun", "price": 1.5}, {"name": "TEA", "price": "2.00"}]}"#).number(),
            Some(1.0)
        );
        // The greedy pair (Tea, Tea) is also the best one here; the second object is half right.
        assert_eq!(
            judge(r#"{"items": [{"name": "Tea", "price": 2}, {"name": "Bun", "price": 9}]}"#).number(),
            Some(0.75)
        );
        assert_eq!(judge(r#"{"items": [{"name": "Tea", "price": 2}]}"#).number(), Some(2.0 / 3.0));
        for wrong in ["no", "{}", r#"{"items": 5}"#, "[]", r#"{"items": []}"#, r#"{"items": [1, null, "x"]}"#]
        {
            assert_eq!(judge(wrong).number(), Some(0.0), "{wrong}");
            assert!(judge(wrong).reason().is_some());
        }
        let empty = sample(json!({"items": []}));
        assert_eq!(check().judge(&empty, &Answer::new(r#"{"items": []}"#)).number(), Some(1.0));
        assert_eq!(check().judge(&empty, &Answer::new("no")).number(), Some(0.0));
        assert_eq!(check().judge(&sample(json!({})), &Answer::new("{}")).number(), None);
    }

    /// The largest sum by trying everything.
    fn try_all(gain: &[Vec<f64>], row: usize, used: &mut Vec<bool>) -> f64 {
        if row == gain.len() {
            return 0.0;
        }
        let mut best = try_all(gain, row + 1, used);
        for column in 0..used.len() {
            if !used[column] {
                used[column] = true;
                best = best.max(gain[row][column] + try_all(gain, row + 1, used));
                used[column] = false;
            }
        }
        best
    }

    #[test]
    fn the_matching_is_the_best_of_all() {
        let mut random = Random::new(9);
        for (rows, columns) in [(0, 0), (0, 3), (1, 4), (3, 3), (4, 6), (5, 5)] {
            for _ in 0..20 {
                let gain: Vec<Vec<f64>> =
                    (0..rows).map(|_| (0..columns).map(|_| random.below(5) as f64 / 4.0).collect()).collect();
                let found = best_sum(rows, columns, |a, b| gain[a][b]);
                assert!((found - try_all(&gain, 0, &mut vec![false; columns])).abs() < 1e-9);
            }
        }
    }
}
