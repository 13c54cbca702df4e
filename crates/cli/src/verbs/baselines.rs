//! The baselines that a run measures by itself: the most frequent answer, the nearest training row, and, where the task has
//! classes or labels, a linear classifier on frozen vectors.

use crate::environment::Environment;
use crate::output::Output;
use crate::verbs::candidate::{Candidate, ENCODER, encoder};
use crate::verbs::eval::measure;
use underdog_eval::baseline::{Answers, BaselineReference};
use underdog_eval::embedder::SharedEmbedder;
use underdog_eval::runner::{EvalSettings, Evaluation};
use underdog_eval::split::EvalSet;
use underdog_eval::{Kind, Result};
use underdog_model::catalogue;
use underdog_model::language_model::Reference;

/// What was measured, by role, and why something was not.
#[derive(Default)]
pub struct Measured {
    /// `majority`, `nearest`, `linear`.
    pub evaluations: Vec<(&'static str, Evaluation)>,
    /// For the report.
    pub notes: Vec<String>,
}

/// Measures the baselines of `candidate`'s task on `set`; `settings` gives those of the record with this name. Without
/// the encoder the first one alone is measured, and a note says so.
///
/// # Errors
/// When rows cannot be read or the measuring fails or is stopped.
pub fn measure_baselines(
    candidate: &Candidate<'_>,
    set: &EvalSet,
    settings: &dyn Fn(&str) -> EvalSettings,
    environment: &Environment,
    output: &Output,
) -> Result<Measured> {
    let mut measured = Measured::default();
    let answers = Answers::of(candidate.task.train(candidate.options)?.samples());
    let encoder = match usual_encoder(candidate, environment, output) {
        Ok(encoder) => Some(encoder),
        Err(note) => {
            output.say(&note);
            measured.notes.push(note);
            None
        }
    };
    let mut plan = vec![("majority", BaselineReference::Majority)];
    if encoder.is_some() {
        plan.push(("nearest", BaselineReference::Nearest(ENCODER.into())));
        if answers.targets().is_some() {
            plan.push(("linear", BaselineReference::Linear(ENCODER.into())));
        }
    }
    for (role, reference) in plan {
        let embedder = reference.embedder().and(encoder.as_ref());
        let mut baseline = match candidate.learn(&reference, embedder, output) {
            Ok(baseline) => baseline,
            // Too few rows to choose settings on, for example: the other baselines are there.
            Err(error) if error.kind() == Kind::Usage => {
                measured.notes.push(format!("The baseline {reference} was left out: {error}."));
                continue;
            }
            Err(error) => return Err(error),
        };
        let settings = settings(&format!("{role}.jsonl"));
        let evaluation = measure(role, candidate.task, set, &mut baseline, &settings, environment)?;
        measured.evaluations.push((role, evaluation));
    }
    Ok(measured)
}

/// The encoder, or a note why it is not there. It is fetched only where the base comes from the catalogue too: a run on
/// files of one's own asks for nothing from elsewhere.
fn usual_encoder(
    candidate: &Candidate<'_>,
    environment: &Environment,
    output: &Output,
) -> std::result::Result<SharedEmbedder, String> {
    let fetch = Reference::parse(candidate.reference).is_ok_and(|base| catalogue::find(&base.base).is_ok());
    let here = Reference::parse(ENCODER).and_then(|name| name.locate(&environment.cache));
    match here {
        Err(error) if !fetch => Err(error),
        _ => encoder(ENCODER, environment, output),
    }
    .map_err(|error| {
        format!(
            "The baselines nearest and linear were left out: {error}. `underdog models pull {ENCODER}` gets what they need."
        )
    })
}
