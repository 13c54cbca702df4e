//! From a model reference as typed to a candidate: a language model, one with similar examples in its prompts, or a
//! baseline that learns from the task's rows.

use crate::environment::Environment;
use crate::output::Output;
use crate::verbs::{fetch_if_missing, load_model, say_skipped};
use std::sync::{Arc, Mutex};
use underdog_eval::baseline::{Answers, Baseline, BaselineReference, Lessons};
use underdog_eval::check::CheckSpec;
use underdog_eval::embedder::SharedEmbedder;
use underdog_eval::few_shot::{FewShot, Shots, Similar};
use underdog_eval::model::Model;
use underdog_eval::split::{ReadOptions, Split};
use underdog_eval::task::Task;
use underdog_eval::{Error, Kind, Result};
use underdog_model::choose::Length;
use underdog_model::constrain::Grammar;
use underdog_model::encoder::Encoder;
use underdog_model::language_model::Decoding;

/// The encoder where none is named.
pub const ENCODER: &str = "all-minilm-l6-v2";

/// What a candidate may need besides its reference.
pub struct Candidate<'a> {
    /// The reference as typed, `?constrain=WHAT` and `?shots=K` included.
    pub reference: &'a str,
    /// `--shots`.
    pub shots: Option<Shots>,
    /// `--constrain`.
    pub constrain: Option<&'a str>,
    /// `--choose`.
    pub choose: Option<&'a str>,
    /// `--precision`.
    pub precision: &'a str,
    /// How it generates its answers.
    pub decoding: Decoding,
    /// The task whose training rows a baseline or examples come from.
    pub task: &'a Task,
    /// How its rows are read.
    pub options: &'a ReadOptions,
    /// The split that is measured: a baseline chooses nothing on its rows.
    pub measured: Split,
    /// Seed of what a baseline draws.
    pub seed: u64,
}

impl Candidate<'_> {
    /// Opens it; catalogue models that are not in the cache are pulled first.
    ///
    /// # Errors
    /// A reference that cannot be opened, or rows that cannot be learnt from.
    pub fn open(&self, environment: &Environment, output: &Output) -> Result<Box<dyn Model>> {
        let (reference, typed) = split_shots(self.reference)?;
        let shots = agreed("shots", self.shots, typed)?;
        let (reference, typed) = match reference.rsplit_once("?constrain=") {
            Some((base, what)) => (base, Some(what)),
            None => (reference, None),
        };
        let constrain = agreed("constrain", self.constrain, typed)?;
        let (reference, typed) = match reference.rsplit_once("?choose=") {
            Some((base, how)) => (base, Some(how)),
            None => (reference, None),
        };
        let choose = agreed("choose", self.choose, typed)?;
        let Some(baseline) = BaselineReference::parse(reference) else {
            let grammar = constrain.map(|what| self.grammar(what)).transpose()?;
            let mut model = load_model(reference, self.precision, environment, output)?;
            model.decoding = self.decoding;
            let trained = (model.shots() > 0).then(|| Shots { count: model.shots(), within: None });
            if shots.is_some_and(|shots| shots.count == 0) {
                model.show_none();
            }
            if let (None, Some(Shots { count, .. })) = (shots, trained) {
                say_shown(count, output);
            }
            let examples = match shots.or(trained).filter(|shots| shots.count > 0) {
                Some(shots) => Some((shots, encoder(ENCODER, environment, output)?)),
                None => None,
            };
            if let Some((grammar, name)) = &grammar {
                model.constrain(grammar, name)?;
            }
            if let Some(how) = choose {
                let how = Length::parse(how)?;
                model.choose_among(&self.labels()?, how)?;
            }
            let Some((shots, encoder)) = examples else { return Ok(Box::new(model)) };
            let rows = self.task.train(self.options)?;
            let similar = Similar::new(shots, self.task, &rows, encoder)?;
            return Ok(Box::new(FewShot::new(Box::new(model), similar)));
        };
        if shots.is_some() || constrain.is_some() || choose.is_some() {
            return Err(Error::new(Kind::Usage, "a baseline takes no examples and no constraint")
                .found(format!("`{}` with --shots, --constrain or --choose", self.reference)));
        }
        if self.decoding != Decoding::default() {
            return Err(Error::new(Kind::Usage, "a baseline generates nothing")
                .found(format!("`{}` with settings of decoding", self.reference)));
        }
        let encoder = baseline.embedder().map(|name| encoder(name, environment, output)).transpose()?;
        Ok(Box::new(self.learn(&baseline, encoder.as_ref(), output)?))
    }

    /// What answers may be, and the name of it: `labels` or `schema`.
    ///
    /// # Errors
    /// A task that has neither, or an unknown name.
    pub fn grammar(&self, what: &str) -> Result<(Grammar, &'static str)> {
        let schema = self.task.harness.spec().check.iter().find_map(|entry| match &entry.check {
            CheckSpec::JsonSchema { schema, .. } => Some(Grammar::Schema(schema.clone())),
            _ => None,
        });
        let labels = || match Answers::of(self.task.train(self.options)?.samples()) {
            Answers::Classes { texts, .. } => Ok(Some(Grammar::Labels(texts))),
            Answers::Sets { labels, .. } => Ok(Some(Grammar::Schema(
                serde_json::json!({"type": "array", "items": {"enum": labels}, "maxItems": labels.len()}),
            ))),
            Answers::Free => Ok(None),
        };
        let nothing = |expected: &str| {
            Error::new(Kind::Usage, format!("this task has nothing to constrain answers to with `{what}`"))
                .expected(expected)
        };
        let labelled = || Ok::<_, Error>(labels()?.map(|grammar| (grammar, "labels")));
        let (found, expected) = match what {
            "schema" => (schema.map(|grammar| (grammar, "schema")), "a check of kind json_schema"),
            "labels" => (labelled()?, "training rows whose answers come back"),
            "auto" => match schema {
                Some(grammar) => (Some((grammar, "schema")), ""),
                None => {
                    (labelled()?, "a check of kind json_schema, or training rows whose answers come back")
                }
            },
            other => {
                return Err(Error::new(Kind::Usage, "--constrain")
                    .expected("labels, schema or auto")
                    .found(format!("`{other}`")));
            }
        };
        found.ok_or_else(|| nothing(expected))
    }

    /// The labels that a check of the harness names, else those of the training rows.
    ///
    /// # Errors
    /// When no check names labels and the answers are none.
    pub fn labels(&self) -> Result<Vec<String>> {
        let checks = &self.task.harness.spec().check;
        if let Some(labels) = checks.iter().find_map(|entry| entry.check.labels()) {
            return Ok(labels);
        }
        match Answers::of(self.task.train(self.options)?.samples()) {
            Answers::Classes { texts, .. } => Ok(texts),
            _ => Err(Error::new(Kind::Usage, "this task has no labels to choose among").expected(
                "a check of kind one_of or choice, or training rows with one of a few answers each",
            )),
        }
    }

    /// A baseline that has learnt from the task's rows.
    ///
    /// # Errors
    /// Rows that are bad, or that it cannot learn from.
    pub fn learn(
        &self,
        baseline: &BaselineReference,
        encoder: Option<&SharedEmbedder>,
        output: &Output,
    ) -> Result<Baseline> {
        let train = self.task.train(self.options)?;
        say_skipped(train.skipped(), output);
        let validation = match self.task.data_file(Split::Validation) {
            Some(_) if self.measured != Split::Validation => Some(self.task.validation(self.options)?),
            _ => None,
        };
        let lessons = Lessons {
            task: self.task,
            train: &train,
            validation: validation.as_ref(),
            seed: self.seed,
            kind: None,
        };
        Baseline::learn(baseline, lessons, encoder)
    }
}

/// Opens an encoder; a catalogue model that is not in the cache is pulled first.
///
/// # Errors
/// When it cannot be found, fetched or read.
pub fn encoder(name: &str, environment: &Environment, output: &Output) -> Result<SharedEmbedder> {
    fetch_if_missing(name, environment, output)?;
    Ok(Arc::new(Mutex::new(Encoder::load(name, &environment.cache)?)))
}

/// Hands the checks of a task the encoders that they need; a catalogue model that is not in the cache is pulled first.
///
/// # Errors
/// As [`encoder`].
pub fn attach_encoders(task: &Task, environment: &Environment, output: &Output) -> Result<()> {
    for name in task.harness.missing_embedders() {
        task.harness.attach(name, &encoder(name, environment, output)?);
    }
    Ok(())
}

/// The value of a flag, or of the same setting in the model reference; both only where they are equal.
fn agreed<T: PartialEq + std::fmt::Display>(
    name: &str,
    flag: Option<T>,
    typed: Option<T>,
) -> Result<Option<T>> {
    match (&flag, &typed) {
        (Some(flag), Some(typed)) if flag != typed => {
            Err(Error::new(Kind::Usage, format!("--{name} and the model reference differ"))
                .expected(format!("?{name}={flag}"))
                .found(format!("?{name}={typed}")))
        }
        _ => Ok(flag.or(typed)),
    }
}

/// Says that an adapter is asked as it was trained, without being told.
pub fn say_shown(count: usize, output: &Output) {
    output.say(&format!(
        "The adapter was trained with {count} similar rows before every question and is asked so; --shots 0 asks without."
    ));
}

/// Takes `?shots=K` off the end of a reference.
fn split_shots(reference: &str) -> Result<(&str, Option<Shots>)> {
    let Some((base, shots)) = reference.rsplit_once("?shots=") else { return Ok((reference, None)) };
    match shots.parse() {
        Ok(shots) => Ok((base, Some(shots))),
        Err(_) => Err(Error::new(Kind::Usage, "the model reference asks for examples that cannot be")
            .expected("?shots= and a number at its end, or ?shots=K,TOKENS")
            .found(format!("`{reference}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shots_are_taken_off_the_end_of_a_reference() {
        assert_eq!(split_shots("m+a?shots=4").unwrap(), ("m+a", Some(Shots { count: 4, within: None })));
        assert_eq!(split_shots("m?shots=4,99").unwrap().1, Some(Shots { count: 4, within: Some(99) }));
        assert_eq!(split_shots("what?.gguf").unwrap(), ("what?.gguf", None));
        assert_eq!(split_shots("m?shots=0").unwrap().1, Some(Shots { count: 0, within: None }));
        assert!(split_shots("m?shots=0,5").is_err() && split_shots("m?shots=x").is_err());
        assert_eq!(agreed("shots", Some(2), Some(2)).unwrap(), Some(2));
        assert!(agreed("shots", Some(2), Some(3)).unwrap_err().to_string().contains("?shots=3"));
    }
}
