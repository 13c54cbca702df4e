//! `json_schema`: does the answer, as JSON, fit a schema? It passes or fails. The schema is read by the draft that its
//! `$schema` names, 2020-12 without one; `format` counts up to draft 7 and only describes from 2019-09 on. It is compiled once,
//! when the task is loaded, and nothing outside of it is ever fetched.

use super::{Answer, Check, Verdict};
use crate::sample::Sample;
use crate::{Error, Kind, Result};
use serde_json::Value;

/// See the module.
pub(super) struct JsonSchema {
    validator: jsonschema::Validator,
}

impl std::fmt::Debug for JsonSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JsonSchema")
    }
}

impl JsonSchema {
    /// Compiles `schema` for the check `name`.
    pub fn new(name: &str, schema: &Value) -> Result<Self> {
        let validator = jsonschema::validator_for(schema).map_err(|error| {
            Error::new(Kind::Data, format!("the schema of the check `{name}` is not valid"))
                .expected("a JSON schema without references to other files")
                .found(error.to_string())
        })?;
        Ok(JsonSchema { validator })
    }
}

impl Check for JsonSchema {
    fn judge(&self, _: &Sample, answer: &Answer<'_>) -> Verdict {
        let value = match answer.json() {
            Ok(value) => value,
            Err(reason) => return Verdict::fail(reason),
        };
        match self.validator.iter_errors(value).next() {
            None => Verdict::pass(),
            Some(error) => {
                let place = error.instance_path().to_string();
                let place = if place.is_empty() { "the whole answer".into() } else { place };
                Verdict::fail(format!("{place}: {error}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_draft_is_the_one_that_the_schema_names() {
        let of = |draft: Option<&str>| {
            let mut schema = json!({"type": "string", "format": "date"});
            draft.iter().for_each(|draft| schema["$schema"] = json!(draft));
            JsonSchema::new("schema", &schema).unwrap()
        };
        let draft_7 = "http://json-schema.org/draft-07/schema#";
        assert!(judge(&of(None), json!(null), r#""yesterday""#));
        assert!(!judge(&of(Some(draft_7)), json!(null), r#""yesterday""#));
        assert!(judge(&of(Some(draft_7)), json!(null), r#""2026-12-01""#));
    }

    #[test]
    fn the_answer_must_fit_and_the_reason_names_the_field() {
        let schema = json!({"type": "object", "properties": {"total": {"type": "string"}},
            "required": ["total"], "additionalProperties": false});
        let check = JsonSchema::new("schema", &schema).unwrap();
        assert!(judge(&check, json!("x"), "{\"total\": \"5\"}"));
        for text in ["{\"total\": 5}", "{}", "{\"total\": \"5\", \"x\": 1}", "[]", "no"] {
            assert!(!judge(&check, json!("x"), text), "{text}");
        }
        let sample = Sample {
            id: "r".into(),
            input: "".into(),
            expected: "".into(),
            meta: Default::default(),
            line: 1,
        };
        let verdict = check.judge(&sample, &Answer::new("{\"total\": 5}"));
        assert!(verdict.reason().unwrap().contains("/total"), "{verdict:?}");
    }

    #[test]
    fn broken_and_remote_schemas_are_refused_when_loaded() {
        assert!(JsonSchema::new("s", &json!({"type": "strin"})).is_err());
        let remote = json!({"$ref": "http://example.invalid/schema.json"});
        assert!(JsonSchema::new("s", &remote).unwrap_err().to_string().contains("`s`"));
    }
}
