//! A check with the condition on the rows that it is asked of. A row that does not fulfil it gets no verdict that counts,
//! and the metric says how many these were.

use super::{CheckSpec, shorten};
use crate::sample::{Sample, text_of};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Conditions on `meta`: each named field must have the value, or one of the values where there is a list. All of them
/// must hold. A field that the row lacks holds nowhere.
pub type When = BTreeMap<String, Value>;

/// An entry under `[[check]]`: what is asked, and of which rows.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckEntry {
    /// What is asked.
    pub check: CheckSpec,
    /// Of which rows; empty for all.
    pub when: When,
}

const FIELD: &str = "when";

impl<'de> Deserialize<'de> for CheckEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let when = match fields.shift_remove(FIELD) {
            None => When::new(),
            Some(when) => serde_json::from_value(when).map_err(|error| {
                D::Error::custom(format!("`when` must be a table of fields of `meta`: {error}"))
            })?,
        };
        let name = fields.get("name").map(text_of).unwrap_or_default();
        let check = serde_json::from_value(Value::Object(fields))
            .map_err(|error| D::Error::custom(format!("in the check `{name}`: {error}")))?;
        Ok(CheckEntry { check, when })
    }
}

impl Serialize for CheckEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.when.is_empty() {
            return self.check.serialize(serializer);
        }
        let failed = |error: serde_json::Error| serde::ser::Error::custom(error.to_string());
        let mut value = serde_json::to_value(&self.check).map_err(failed)?;
        if let Value::Object(fields) = &mut value {
            fields.insert(FIELD.into(), serde_json::to_value(&self.when).map_err(failed)?);
        }
        value.serialize(serializer)
    }
}

/// Why a check with this condition is not asked of `sample`; `None` where it is.
pub(crate) fn not_asked(when: &When, sample: &Sample) -> Option<String> {
    when.iter().find_map(|(field, wanted)| {
        let found = sample.meta.get(field).unwrap_or(&Value::Null);
        let holds = match wanted {
            Value::Array(any) => any.contains(found),
            one => one == found,
        };
        (!holds).then(|| match found {
            Value::Null => format!("the row has no `meta.{field}`"),
            other => format!("`meta.{field}` is `{}`", shorten(&text_of(other), 60)),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_values_or_lists_of_them() {
        let mut row = sample(json!("x"));
        row.meta.insert("difficulty".into(), json!("hard"));
        row.meta.insert("page".into(), json!(2));
        let asked = |when: Value| not_asked(&serde_json::from_value(when).unwrap(), &row);
        assert_eq!(asked(json!({})), None);
        assert_eq!(asked(json!({"difficulty": "hard", "page": [1, 2]})), None);
        assert_eq!(asked(json!({"difficulty": "easy"})).unwrap(), "`meta.difficulty` is `hard`");
        assert_eq!(asked(json!({"page": [], "difficulty": "hard"})).unwrap(), "`meta.page` is `2`");
        assert_eq!(asked(json!({"tier": "a"})).unwrap(), "the row has no `meta.tier`");
    }

    #[test]
    fn an_entry_keeps_its_form() {
        for text in [
            r#"{"kind":"json_valid","name":"v"}"#,
            r#"{"kind":"json_valid","name":"v","when":{"a":["x",1]}}"#,
        ] {
            let entry: CheckEntry = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        }
        for (text, error) in [
            (r#"{"kind":"json_valid","name":"v","wen":{}}"#, "wen"),
            (r#"{"kind":"json_valid","name":"v","when":5}"#, "`when`"),
            (r#"{"kind":"jsn","name":"v"}"#, "`v`"),
            (r#"{"kind":"rouge","name":"v","variant":"3"}"#, "`3`"),
        ] {
            let found = serde_json::from_str::<CheckEntry>(text).unwrap_err().to_string();
            assert!(found.contains(error), "{found}");
        }
    }
}
