//! Checks, which are binary questions about one output, and scorers, which give it a number; one file each. A check sees
//! the sample and the answer and gives a [`Verdict`]; how verdicts become metrics is `harness`'s. Checks say in `reason`
//! why something failed, in one line. What a row lacks is never held against an answer: the verdict is missing.

mod all_fields;
pub(crate) mod bleu;
mod choice;
pub(crate) mod chrf;
pub mod contains;
pub mod edit_distance;
mod exact;
pub mod facts;
mod field_exact;
pub mod field_f1;
pub mod forbidden;
pub mod given;
mod json_schema;
mod json_valid;
pub mod labels;
pub mod length;
pub mod number;
pub mod objects_f1;
pub mod one_of;
mod ordinal;
mod places;
pub mod regex;
pub mod rouge;
mod sequence;
pub mod sides;
pub mod similarity;
mod token_f1;
mod verdict;
mod when;
mod words;

pub(crate) use places::require as require_places;
pub use verdict::{Evidence, Kept, Verdict};
pub(crate) use when::not_asked;
pub use when::{CheckEntry, When};

use crate::embedder::SharedEmbedder;
use crate::model::Identity;
use crate::normalise::Normalisation;
use crate::sample::Sample;
use crate::statistics::Unit;
use crate::{Error, Kind, Result, json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::OnceCell;
use std::fmt;

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

/// A question about one output.
pub trait Check: fmt::Debug + Send + Sync {
    /// Answers the question for `answer` to `sample`.
    fn judge(&self, sample: &Sample, answer: &Answer<'_>) -> Verdict;

    /// The verdict where there is no answer: wrong, for this reason.
    fn judge_missing(&self, sample: &Sample, reason: &str) -> Verdict {
        self.judge(sample, &Answer::new("")).unanswered(reason)
    }

    /// The encoder that the check still lacks, as a model reference; most need none.
    fn embedder(&self) -> Option<&str> {
        None
    }

    /// The encoder that it was handed, with the name that the task file gives it.
    fn attached(&self) -> Option<(&str, Identity)> {
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
    /// The answer matches a pattern.
    Regex(regex::RegexSpec),
    /// The answer contains texts.
    Contains(contains::ContainsSpec),
    /// The answer is the expected one of a list of labels.
    OneOf(one_of::OneOfSpec),
    /// The answer names the expected step of a scale.
    Ordinal(one_of::OneOfSpec),
    /// The answer names the expected set of labels.
    Labels(labels::LabelsSpec),
    /// The answer chooses the expected option.
    Choice(choice::ChoiceSpec),
    /// The number in the answer is the expected one.
    Number(number::NumberSpec),
    /// The answer is neither too short nor too long.
    Length(length::LengthSpec),
    /// Certain words do not occur.
    Forbidden(forbidden::ForbiddenSpec),
    /// Every fact of the row appears: `name.share` and `name.all`.
    Facts(facts::FactsSpec),
    /// How many fields are right.
    FieldF1(field_f1::FieldF1Spec),
    /// How well a list of objects fits the expected one.
    ObjectsF1(objects_f1::ObjectsF1Spec),
    /// How alike the texts are letter by letter.
    EditDistance(edit_distance::EditDistanceSpec),
    /// F1 of the bags of words.
    TokenF1(sides::TextSpec),
    /// ROUGE-1, ROUGE-2 or ROUGE-L.
    Rouge(rouge::RougeSpec),
    /// BLEU.
    Bleu(sides::TextSpec),
    /// chrF2.
    Chrf(sides::TextSpec),
    /// A number that stands in the row.
    Given(given::GivenSpec),
    /// How close in meaning the answer is to the expected one: a number from −1 to 1, or with `at_least` a question.
    Similarity(similarity::SimilaritySpec),
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
                require_some(name, "fields", fields.len())?;
                let each = fields.iter().map(|field| NamedCheck {
                    name: format!("{name}.{field}"),
                    check: Box::new(field_exact::FieldExact {
                        field: field.clone(),
                        normalise: normalise.clone(),
                    }),
                });
                Ok(each.collect())
            }
            CheckSpec::AllFields { name, fields, normalise } => {
                require_some(name, "fields", fields.len())?;
                Ok(one(name, Box::new(all_fields::AllFields::new(fields, normalise))))
            }
            CheckSpec::Facts(spec) => Ok(facts::build(spec)),
            other => Ok(one(other.name(), other.build_one()?)),
        }
    }

    fn build_one(&self) -> Result<Box<dyn Check>> {
        Ok(match self {
            CheckSpec::Regex(spec) => Box::new(regex::Regex::new(spec)?),
            CheckSpec::Contains(spec) => {
                require_texts(&spec.name, "texts", &spec.texts)?;
                Box::new(contains::Contains(spec.clone()))
            }
            CheckSpec::OneOf(spec) => Box::new(one_of::OneOf::new(spec)?),
            CheckSpec::Ordinal(spec) => Box::new(ordinal::Ordinal::new(spec)?),
            CheckSpec::Labels(spec) => Box::new(labels::LabelSet::new(spec)),
            CheckSpec::Choice(spec) => Box::new(choice::Choice::new(spec)?),
            CheckSpec::Number(spec) => Box::new(number::Number::new(spec)?),
            CheckSpec::Length(spec) => Box::new(length::Length::new(spec)?),
            CheckSpec::Forbidden(spec) => {
                require_some(&spec.name, "words", spec.words.len())?;
                require_texts(&spec.name, "words", &spec.words)?;
                Box::new(forbidden::Forbidden::new(spec))
            }
            CheckSpec::FieldF1(spec) => {
                require_some(&spec.name, "fields", spec.fields.len())?;
                Box::new(field_f1::FieldF1(spec.clone()))
            }
            CheckSpec::ObjectsF1(spec) => {
                require_some(&spec.name, "keys", spec.keys.len())?;
                Box::new(objects_f1::ObjectsF1(spec.clone()))
            }
            CheckSpec::EditDistance(spec) => Box::new(edit_distance::build(spec)),
            CheckSpec::TokenF1(spec) => Box::new(spec.compare(token_f1::TokenF1)),
            CheckSpec::Rouge(spec) => Box::new(rouge::build(spec)),
            CheckSpec::Bleu(spec) => Box::new(spec.compare(bleu::Bleu)),
            CheckSpec::Chrf(spec) => Box::new(spec.compare(chrf::Chrf)),
            CheckSpec::Given(spec) => Box::new(given::Given(spec.clone())),
            CheckSpec::Similarity(spec) => Box::new(similarity::Similarity::new(spec)?),
            CheckSpec::Exact { .. }
            | CheckSpec::JsonValid { .. }
            | CheckSpec::JsonSchema { .. }
            | CheckSpec::FieldExact { .. }
            | CheckSpec::AllFields { .. }
            | CheckSpec::Facts(_) => unreachable!("`build` makes these itself"),
        })
    }

    /// The name as typed: of the check, or the first part of the names of its checks.
    pub fn name(&self) -> &str {
        match self {
            CheckSpec::Exact { name, .. }
            | CheckSpec::JsonValid { name }
            | CheckSpec::JsonSchema { name, .. }
            | CheckSpec::FieldExact { name, .. }
            | CheckSpec::AllFields { name, .. } => name,
            CheckSpec::Regex(spec) => &spec.name,
            CheckSpec::Contains(spec) => &spec.name,
            CheckSpec::OneOf(spec) | CheckSpec::Ordinal(spec) => &spec.name,
            CheckSpec::Labels(spec) => &spec.name,
            CheckSpec::Choice(spec) => &spec.name,
            CheckSpec::Number(spec) => &spec.name,
            CheckSpec::Length(spec) => &spec.name,
            CheckSpec::Forbidden(spec) => &spec.name,
            CheckSpec::Facts(spec) => &spec.name,
            CheckSpec::FieldF1(spec) => &spec.name,
            CheckSpec::ObjectsF1(spec) => &spec.name,
            CheckSpec::EditDistance(spec) => &spec.name,
            CheckSpec::Rouge(spec) => &spec.name,
            CheckSpec::TokenF1(spec) | CheckSpec::Bleu(spec) | CheckSpec::Chrf(spec) => &spec.name,
            CheckSpec::Given(spec) => &spec.name,
            CheckSpec::Similarity(spec) => &spec.name,
        }
    }

    /// The names of the checks that this entry stands for, without building them.
    pub fn names(&self) -> Vec<String> {
        match self {
            CheckSpec::FieldExact { name, fields, .. } => {
                fields.iter().map(|field| format!("{name}.{field}")).collect()
            }
            CheckSpec::Facts(spec) => facts::names(&spec.name).to_vec(),
            other => vec![other.name().to_owned()],
        }
    }

    /// The answers among which the right one is, where the check says so: labels, or the letters of options.
    pub fn labels(&self) -> Option<Vec<String>> {
        match self {
            CheckSpec::OneOf(spec) if spec.field.is_none() => Some(spec.labels.clone()),
            CheckSpec::Choice(spec) => Some(spec.letters()),
            _ => None,
        }
    }

    /// What its verdicts keep for numbers of the corpus.
    pub fn kept(&self) -> Kept {
        match self {
            CheckSpec::OneOf(_) | CheckSpec::Labels(_) | CheckSpec::Choice(_) => Kept::Labels,
            CheckSpec::FieldF1(_) | CheckSpec::ObjectsF1(_) => Kept::Hits,
            CheckSpec::Number(_) | CheckSpec::Ordinal(_) => Kept::Numbers,
            CheckSpec::Bleu(_) => Kept::Bleu,
            CheckSpec::Chrf(_) => Kept::Chrf,
            _ => Kept::Nothing,
        }
    }

    /// What its numbers are: those that stand in the row and cosines are no shares of 1.
    pub(crate) fn unit(&self) -> Unit {
        match self {
            CheckSpec::Given(_) => Unit::Number,
            CheckSpec::Similarity(spec) if spec.at_least.is_none() => Unit::Number,
            _ => Unit::Share,
        }
    }
}

/// Refuses texts of nothing but white space: they stand in every answer.
fn require_texts(name: &str, what: &str, texts: &[String]) -> Result<()> {
    match texts.iter().find(|text| text.trim().is_empty()) {
        None => Ok(()),
        Some(text) => Err(Error::new(Kind::Data, format!("the check `{name}` asks for an empty text"))
            .expected(format!("texts with a letter or sign in `{what}`"))
            .found(format!("`{text}`"))),
    }
}

fn require_some(name: &str, what: &str, count: usize) -> Result<()> {
    if count > 0 {
        return Ok(());
    }
    Err(Error::new(Kind::Data, format!("the check `{name}` has no {what}"))
        .expected(format!("at least one in `{what}`")))
}

/// The first `limit` characters, with a mark where something was cut.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
pub(crate) fn sample(expected: Value) -> Sample {
    Sample { id: "r".into(), input: "i".into(), expected, meta: Default::default(), line: 1 }
}

#[cfg(test)]
pub(crate) fn judge(check: &dyn Check, expected: Value, text: &str) -> bool {
    let verdict = check.judge(&sample(expected), &Answer::new(text));
    let passed = verdict.number() == Some(1.0);
    assert_eq!(passed, verdict.reason().is_none(), "a failure has a reason, a pass needs none: {verdict:?}");
    passed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_with_fields_becomes_one_check_each() {
        let spec: CheckSpec =
            serde_json::from_str(r#"{"kind":"field_exact","name":"f","fields":["a","b"]}"#).unwrap();
        let names: Vec<_> = spec.build().unwrap().into_iter().map(|check| check.name).collect();
        assert_eq!(names, ["f.a", "f.b"]);
        for text in ["", " "] {
            for kind in [
                json!({"name": "c", "kind": "forbidden", "words": ["a", text]}),
                json!({"name": "c", "kind": "contains", "texts": [text]}),
            ] {
                let spec: CheckSpec = serde_json::from_value(kind).unwrap();
                assert!(spec.build().unwrap_err().to_string().contains("empty text"));
            }
        }
        let empty: CheckSpec =
            serde_json::from_str(r#"{"kind":"all_fields","name":"f","fields":[]}"#).unwrap();
        assert!(empty.build().unwrap_err().to_string().contains("no fields"));
        assert!(serde_json::from_str::<CheckSpec>(r#"{"kind":"exact","name":"f","normalize":[]}"#).is_err());
    }
}
