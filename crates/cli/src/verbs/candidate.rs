//! From a model reference as typed to a candidate: a language model, one with similar examples in its prompts, or a
//! baseline that learns from the task's rows.

use crate::environment::Environment;
use crate::output::Output;
use crate::verbs::{fetch_if_missing, load_model, say_skipped};
use std::sync::{Arc, Mutex};
use underdog_eval::baseline::{Baseline, BaselineReference, Lessons};
use underdog_eval::embedder::SharedEmbedder;
use underdog_eval::few_shot::FewShot;
use underdog_eval::model::Model;
use underdog_eval::split::{ReadOptions, Split};
use underdog_eval::task::Task;
use underdog_eval::{Error, Kind, Result};
use underdog_model::encoder::Encoder;

/// The encoder where none is named.
pub const ENCODER: &str = "all-minilm-l6-v2";

/// What a candidate may need besides its reference.
pub struct Candidate<'a> {
    /// The reference as typed, `?shots=K` included.
    pub reference: &'a str,
    /// `--shots`.
    pub shots: Option<usize>,
    /// `--precision`.
    pub precision: &'a str,
    /// The task whose training rows a baseline or examples come from.
    pub task: &'a Task,
    /// How its rows are read.
    pub options: &'a ReadOptions,
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
        let shots = match (self.shots, typed) {
            (Some(flag), Some(typed)) if flag != typed => {
                return Err(Error::new(Kind::Usage, "--shots and the model reference differ")
                    .expected(format!("?shots={flag}"))
                    .found(format!("?shots={typed}")));
            }
            (flag, typed) => flag.or(typed),
        };
        let Some(baseline) = BaselineReference::parse(reference) else {
            let Some(shots) = shots else {
                return Ok(Box::new(load_model(reference, self.precision, environment, output)?));
            };
            let rows = self.task.train(self.options)?;
            let encoder = encoder(ENCODER, environment, output)?;
            let model = Box::new(load_model(reference, self.precision, environment, output)?);
            return Ok(Box::new(FewShot::new(model, shots, self.task, &rows, encoder)?));
        };
        if shots.is_some() {
            return Err(Error::new(Kind::Usage, "a baseline takes no examples")
                .found(format!("`{}` with shots", self.reference)));
        }
        let encoder = baseline.embedder().map(|name| encoder(name, environment, output)).transpose()?;
        Ok(Box::new(self.learn(&baseline, encoder.as_ref(), output)?))
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
            Some(_) => Some(self.task.validation(self.options)?),
            None => None,
        };
        let lessons =
            Lessons { task: self.task, train: &train, validation: validation.as_ref(), seed: self.seed };
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

/// Takes `?shots=K` off the end of a reference.
fn split_shots(reference: &str) -> Result<(&str, Option<usize>)> {
    let Some((base, shots)) = reference.rsplit_once("?shots=") else { return Ok((reference, None)) };
    match shots.parse() {
        Ok(shots) if shots > 0 => Ok((base, Some(shots))),
        _ => Err(Error::new(Kind::Usage, "the model reference asks for examples that cannot be")
            .expected("?shots= and a number of 1 or more at its end")
            .found(format!("`{reference}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shots_are_taken_off_the_end_of_a_reference() {
        assert_eq!(split_shots("m+a?shots=4").unwrap(), ("m+a", Some(4)));
        assert_eq!(split_shots("what?.gguf").unwrap(), ("what?.gguf", None));
        assert!(split_shots("m?shots=0").is_err() && split_shots("m?shots=x").is_err());
    }
}
