//! Constrained decoding: only answers that fit a grammar. At every step the tokens that can go on are asked of `llguidance`,
//! and the most probable of them is taken.
//!
//! Which labels or which schema a task has is the caller's to say.

use crate::generate::Choose;
use crate::sampling::Sampler;
use crate::tokenizer::Tokenizer;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use underdog_eval::{Error, Kind, Result};

/// What an answer may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// One of these texts, and nothing around it.
    Labels(Vec<String>),
    /// JSON that fits the schema, on one line with `", "` and `": "`, as completions are written.
    Schema(Value),
}

/// A grammar that is ready for a model.
pub struct Constraint {
    name: String,
    fingerprint: String,
    start: Matcher,
    stop: u32,
    not_held: Option<String>,
}

impl Constraint {
    /// For the tokens of `tokenizer`; the first of `stop` ends an answer. Keywords of a schema that `llguidance` cannot follow are
    /// left to the checks, see [`Constraint::not_held`].
    ///
    /// # Errors
    /// A schema that is no object or has parts that nobody understands, no labels, or no token that ends an answer.
    pub fn new(grammar: &Grammar, name: &str, tokenizer: &Tokenizer, stop: &[u32]) -> Result<Self> {
        let wrong = |found: String| {
            Error::new(Kind::Usage, "answers cannot be constrained in this way")
                .expected("labels that are not empty, or a JSON schema that is an object")
                .found(found)
        };
        let Some(&stop) = stop.first() else { return Err(wrong("a model that never stops".into())) };
        let (compiled, content) = match grammar {
            Grammar::Labels(labels) if labels.is_empty() || labels.iter().any(String::is_empty) => {
                return Err(wrong("no labels, or an empty one".into()));
            }
            Grammar::Labels(labels) => {
                let alternatives: Vec<String> = labels.iter().map(|label| escaped(label)).collect();
                (TopLevelGrammar::from_regex(&format!("({})", alternatives.join("|"))), json!(labels))
            }
            Grammar::Schema(Value::Object(schema)) => schema_grammar(schema, false),
            Grammar::Schema(_) => return Err(wrong("a schema that is no object".into())),
        };
        let (mut not_held, mut content) = (None, content);
        let start = match (matcher(compiled, tokenizer, stop), grammar) {
            (Err(reason), Grammar::Schema(Value::Object(schema))) => {
                let (compiled, lenient) = schema_grammar(schema, true);
                (not_held, content) = (Some(reason), lenient);
                matcher(compiled, tokenizer, stop)
            }
            (start, _) => start,
        };
        let start = start.map_err(wrong)?;
        let hash = Sha256::digest(content.to_string().as_bytes());
        let fingerprint = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Constraint { name: name.to_owned(), fingerprint, start, stop, not_held })
    }

    /// What of a schema answers are not held to while they are written, in the words of the library; `None` for all of it.
    pub fn not_held(&self) -> Option<&str> {
        self.not_held.as_deref()
    }

    /// What records call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// 16 hexadecimal digits that change with the grammar.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Chooses the tokens of one answer from its beginning.
    pub fn start(&self) -> Constrained {
        Constrained { matcher: self.start.deep_clone(), stop: self.stop, sampler: None }
    }
}

/// One answer that is being constrained.
pub struct Constrained {
    matcher: Matcher,
    stop: u32,
    sampler: Option<Sampler>,
}

impl Constrained {
    /// Draws from the allowed tokens instead of taking the most probable one.
    pub fn sampled(self, sampler: Sampler) -> Self {
        Constrained { sampler: Some(sampler), ..self }
    }
}

impl Choose for Constrained {
    /// The most probable of the allowed tokens, or a random one of them. Where none is, or the grammar gives up (a limit of the library), the
    /// answer ends.
    fn choose(&mut self, logits: &[f32]) -> u32 {
        let Ok(allowed) = self.matcher.compute_mask_or_eos() else { return self.stop };
        let mut best: Option<(f32, usize)> = None;
        allowed.iter_set_entries(|token| {
            // A model may have fewer logits than the last word of the mask has bits.
            if let Some(&logit) = logits.get(token)
                && best.is_none_or(|(other, _)| logit > other)
            {
                best = Some((logit, token));
            }
        });
        let mut token = best.map_or(self.stop, |(_, token)| token as u32);
        if let (Some(sampler), Some(_)) = (&mut self.sampler, best) {
            let mut masked = vec![f32::NEG_INFINITY; logits.len()];
            allowed.iter_set_entries(|token| {
                if let Some(&logit) = logits.get(token) {
                    masked[token] = logit;
                }
            });
            token = sampler.choose(&masked);
        }
        if token != self.stop && self.matcher.consume_token(token).is_err() {
            return self.stop;
        }
        token
    }
}

/// A schema in the form of completions; `lenient` leaves out what the library cannot follow. With it the text that the
/// fingerprint is made of.
fn schema_grammar(schema: &Map<String, Value>, lenient: bool) -> (TopLevelGrammar, Value) {
    let mut form = json!({"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false});
    if lenient {
        form["lenient"] = true.into();
    }
    let mut schema = schema.clone();
    schema.insert("x-guidance".into(), form);
    let schema = Value::Object(schema);
    (TopLevelGrammar::from_json_schema(schema.clone()), schema)
}

/// A compiled grammar at the beginning of an answer, or why there is none.
fn matcher(
    grammar: TopLevelGrammar,
    tokenizer: &Tokenizer,
    stop: u32,
) -> std::result::Result<Matcher, String> {
    let parser = factory(tokenizer, stop)
        .and_then(|factory| Ok(factory.create_parser(grammar)?))
        .map_err(|error| error.to_string())?;
    let mut start = Matcher::new(Ok(parser));
    // What is wrong with a grammar can come up with the first question only.
    start.compute_mask().map_err(|error| error.to_string())?;
    Ok(start)
}

/// The vocabulary as the library wants it. Special tokens get its mark in front, so that none of them counts as text.
fn factory(
    tokenizer: &Tokenizer,
    stop: u32,
) -> std::result::Result<ParserFactory, Box<dyn std::error::Error>> {
    let word = |id: u32| {
        let piece = tokenizer.decode_piece(id);
        let special = id == stop || (!piece.is_empty() && tokenizer.decode(&[id]).is_empty());
        if special { [&[TokTrie::SPECIAL_TOKEN_MARKER], piece.as_slice()].concat() } else { piece }
    };
    let size = u32::try_from(tokenizer.vocab_size())?;
    let words: Vec<Vec<u8>> = (0..size).map(word).collect();
    let trie = TokTrie::from(&TokRxInfo::new(size, stop), &words);
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &[])?;
    // A library does not speak to the terminal.
    factory.quiet();
    Ok(factory)
}

/// A text as a regular expression that matches it and nothing else.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if r"\.+*?()|[]{}^$#&-~/<>".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use underdog_testkit::golden;

    /// Lets a "model" that always likes the same characters best answer; gives the text and whether it ended itself.
    fn answer(grammar: &Grammar, likes: &str) -> (String, bool) {
        let tokenizer = Tokenizer::from_directory(&golden("models/tiny-llama")).unwrap();
        let stop = tokenizer.eos().unwrap();
        let constraint = Constraint::new(grammar, "x", &tokenizer, &[stop]).unwrap();
        let mut row = constraint.start();
        let size = tokenizer.vocab_size();
        let mut ids = Vec::new();
        for _ in 0..60 {
            let logit = |id: u32| {
                let piece = String::from_utf8_lossy(&tokenizer.decode_piece(id)).into_owned();
                if id == stop { -1.0 } else { piece.chars().filter(|c| likes.contains(*c)).count() as f32 }
            };
            let logits: Vec<f32> = (0..size as u32).map(logit).collect();
            let token = row.choose(&logits);
            if token == stop {
                return (tokenizer.decode(&ids), true);
            }
            ids.push(token);
        }
        (tokenizer.decode(&ids), false)
    }

    #[test]
    fn an_answer_is_one_of_the_labels_whatever_the_model_likes() {
        let labels = ["card_arrival", "card arrival?", "a.b (c)|d", "Ünï", "car"].map(str::to_owned).to_vec();
        let grammar = Grammar::Labels(labels.clone());
        for likes in ["_", "?", ".", "|", "Ü", "zzz", "r"] {
            let (text, ended) = answer(&grammar, likes);
            assert!(ended && labels.contains(&text), "{likes}: {text:?}");
        }
        assert_eq!(answer(&grammar, "cd_").0, "card_arrival");
    }

    #[test]
    fn what_the_library_cannot_follow_is_left_to_the_checks_and_said() {
        let tokenizer = Tokenizer::from_directory(&golden("models/tiny-llama")).unwrap();
        let of = |schema| Constraint::new(&Grammar::Schema(schema), "x", &tokenizer, &[1]).unwrap();
        let unique = of(json!({"type": "array", "items": {"enum": ["a"]}, "uniqueItems": true}));
        let reason = unique.not_held().expect("unique items cannot be followed");
        assert!(reason.contains("uniqueItems"), "{reason}");
        assert_eq!(of(json!({"type": "array", "items": {"enum": ["a"]}})).not_held(), None);
    }

    #[test]
    fn an_answer_fits_the_schema_in_the_form_of_the_data() {
        let schema = json!({"type": "object", "additionalProperties": false, "required": ["kind", "n"],
            "properties": {"kind": {"enum": ["a", "bb"]}, "n": {"type": "boolean"}}});
        let (text, ended) = answer(&Grammar::Schema(schema), "bf");
        assert!(ended);
        assert_eq!(text, r#"{"kind": "bb", "n": false}"#);
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let tokenizer = Tokenizer::from_directory(&golden("models/tiny-llama")).unwrap();
        let refused = |grammar: Grammar| Constraint::new(&grammar, "x", &tokenizer, &[1]).err().unwrap();
        for grammar in [
            Grammar::Labels(vec![]),
            Grammar::Labels(vec!["".into()]),
            Grammar::Schema(json!(true)),
            Grammar::Schema(json!({"type": "no-such-type"})),
        ] {
            assert_eq!(refused(grammar).kind(), Kind::Usage);
        }
    }
}
