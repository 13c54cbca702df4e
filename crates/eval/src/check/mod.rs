//! Checks: binary questions about one output, one file each. A check sees the sample and the answer and gives a
//! [`Verdict`]; how verdicts become metrics is `harness`'s. Checks say in `reason` why something failed, in one line.

mod all_fields;
mod exact;
mod field_exact;
mod json_schema;
mod json_valid;
mod similarity;

use crate::embedder::SharedEmbedder;
use crate::normalise::Normalisation;
use crate::sample::Sample;
use crate::{Error, Kind, Result, json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::OnceCell;
use std::fmt;

/// What a check or scorer found about one output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Verdict {
    /// The answer to a check.
    Pass {
        /// Whether the output passed.
        pass: bool,
        /// Why not, in one line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The answer of a scorer; its range is in the scorer's own docs.
    Value {
        /// A finite number.
        value: f64,
        /// What led to it, in one line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl Verdict {
    /// The output passed.
    pub fn pass() -> Self {
        Verdict::Pass { pass: true, reason: None }
    }

    /// The output failed because of `reason`, which is cut at 200 characters.
    pub fn fail(reason: impl Into<String>) -> Self {
        Verdict::Pass { pass: false, reason: Some(shorten(&reason.into(), 200)) }
    }

    /// 1 for passed, 0 for failed, or the graded number; `None` where a scorer gave no finite number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Verdict::Pass { pass, .. } => Some(f64::from(u8::from(*pass))),
            Verdict::Value { value, .. } => value.is_finite().then_some(*value),
        }
    }

    /// Why, if there is something to say.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Pass { reason, .. } | Verdict::Value { reason, .. } => reason.as_deref(),
        }
    }
}

/// One output, with what several checks need of it computed once.
pub struct Answer<'a> {
    text: &'a str,
    json: OnceCell<std::result::Result<Value, String>>,
}

impl<'a> Answer<'a> {
    /// The answer as the candidate gave it.
    pub fn new(text: &'a str) -> Self {
        Answer { text, json: OnceCell::new() }
    }

    /// The text as given.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The text as one JSON value with nothing but white space around it, or why it is none. Text in front, after, or
    /// code fences make it none: whoever reads the answer by program would fail as well.
    pub fn json(&self) -> std::result::Result<&Value, &str> {
        let parsed = self.json.get_or_init(|| {
            let text = self.text.trim();
            if text.is_empty() {
                return Err("the answer is empty".into());
            }
            json::parse(text).map_err(|error| format!("not JSON: {error}"))
        });
        parsed.as_ref().map_err(String::as_str)
    }
}

/// A binary question about one output.
pub trait Check: fmt::Debug + Send + Sync {
    /// Answers the question for `answer` to `sample`.
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict;

    /// The encoder that the check still lacks, as a model reference; most need none.
    fn embedder(&self) -> Option<&str> {
        None
    }

    /// Hands in the encoder that [`Check::embedder`] names.
    fn attach(&self, _embedder: &SharedEmbedder) {}
}

/// A check as it stands in a task file under `[[check]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CheckSpec {
    /// The whole answer equals the expected one.
    Exact {
        /// Name of the check in records and metrics.
        name: String,
        /// Applied to both sides, in this order.
        #[serde(default)]
        normalise: Vec<Normalisation>,
    },
    /// The whole answer is one JSON value.
    JsonValid {
        /// Name of the check in records and metrics.
        name: String,
    },
    /// The whole answer is JSON that fits the schema.
    JsonSchema {
        /// Name of the check in records and metrics.
        name: String,
        /// A JSON schema; references to other files are not followed.
        schema: Value,
    },
    /// One check for each field: the answer's field equals the expected one. Their names are `name.field`.
    FieldExact {
        /// First part of the names of the checks.
        name: String,
        /// The fields, each a check of its own.
        fields: Vec<String>,
        /// Applied to both sides, in this order.
        #[serde(default)]
        normalise: Vec<Normalisation>,
    },
    /// All of the fields equal the expected ones.
    AllFields {
        /// Name of the check in records and metrics.
        name: String,
        /// The fields that must be right together.
        fields: Vec<String>,
        /// Applied to both sides, in this order.
        #[serde(default)]
        normalise: Vec<Normalisation>,
    },
    /// How close in meaning the answer is to the expected one: a number from −1 to 1, or with `at_least` a question.
    Similarity {
        /// Name of the check in records and metrics.
        name: String,
        /// The cosine from which on an answer passes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_least: Option<f64>,
        /// The encoder, as a model reference.
        #[serde(default = "similarity::usual_embedder")]
        embedder: String,
    },
}

/// A check with its name.
#[derive(Debug)]
pub struct NamedCheck {
    /// Name in records and metrics, unique in its harness.
    pub name: String,
    /// The question.
    pub check: Box<dyn Check>,
}

impl CheckSpec {
    /// The checks this entry stands for: one, or one for each field.
    ///
    /// # Errors
    /// When the schema is not one, or the list of fields is empty.
    pub fn build(&self) -> Result<Vec<NamedCheck>> {
        let one = |name: &str, check: Box<dyn Check>| vec![NamedCheck { name: name.to_owned(), check }];
        match self {
            CheckSpec::Exact { name, normalise } => {
                Ok(one(name, Box::new(exact::Exact { normalise: normalise.clone() })))
            }
            CheckSpec::JsonValid { name } => Ok(one(name, Box::new(json_valid::JsonValid))),
            CheckSpec::JsonSchema { name, schema } => {
                Ok(one(name, Box::new(json_schema::JsonSchema::new(name, schema)?)))
            }
            CheckSpec::FieldExact { name, fields, normalise } => {
                require_fields(name, fields)?;
                let each = fields.iter().map(|field| NamedCheck {
                    name: format!("{name}.{field}"),
                    check: Box::new(field_exact::FieldExact {
                        field: field.clone(),
                        normalise: normalise.clone(),
                    }),
                });
                Ok(each.collect())
            }
            CheckSpec::Similarity { name, at_least, embedder } => {
                Ok(one(name, Box::new(similarity::Similarity::new(name, *at_least, embedder)?)))
            }
            CheckSpec::AllFields { name, fields, normalise } => {
                require_fields(name, fields)?;
                Ok(one(name, Box::new(all_fields::AllFields::new(fields, normalise))))
            }
        }
    }
}

fn require_fields(name: &str, fields: &[String]) -> Result<()> {
    if fields.is_empty() {
        return Err(Error::new(Kind::Data, format!("the check `{name}` has no fields"))
            .expected("at least one name in `fields`"));
    }
    Ok(())
}

/// The first `limit` characters, with a mark where something was cut.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
pub(crate) fn judge(check: &dyn Check, expected: Value, text: &str) -> bool {
    let sample = Sample { id: "r".into(), input: "i".into(), expected, meta: Default::default(), line: 1 };
    let verdict = check.judge(&sample, &Answer::new(text));
    let passed = verdict.number() == Some(1.0);
    assert_eq!(passed, verdict.reason().is_none(), "a failure has a reason, a pass needs none: {verdict:?}");
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_read_back_and_keep_their_form() {
        for (verdict, text) in [
            (Verdict::pass(), r#"{"pass":true}"#),
            (Verdict::fail("no"), r#"{"pass":false,"reason":"no"}"#),
            (Verdict::Value { value: 0.5, reason: None }, r#"{"value":0.5}"#),
        ] {
            assert_eq!(serde_json::to_string(&verdict).unwrap(), text);
            assert_eq!(serde_json::from_str::<Verdict>(text).unwrap(), verdict);
        }
        assert_eq!(Verdict::Value { value: f64::NAN, reason: None }.number(), None);
        assert_eq!(Verdict::fail("x".repeat(500)).reason().unwrap().chars().count(), 201);
    }

    #[test]
    fn an_entry_with_fields_becomes_one_check_each() {
        let spec: CheckSpec =
            serde_json::from_str(r#"{"kind":"field_exact","name":"f","fields":["a","b"]}"#).unwrap();
        let names: Vec<_> = spec.build().unwrap().into_iter().map(|check| check.name).collect();
        assert_eq!(names, ["f.a", "f.b"]);
        let empty: CheckSpec =
            serde_json::from_str(r#"{"kind":"all_fields","name":"f","fields":[]}"#).unwrap();
        assert!(empty.build().unwrap_err().to_string().contains("no fields"));
        assert!(serde_json::from_str::<CheckSpec>(r#"{"kind":"exact","name":"f","normalize":[]}"#).is_err());
    }
}
