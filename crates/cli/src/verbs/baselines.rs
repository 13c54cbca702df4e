//! The baselines that a run measures by itself: the untrained model held to labels or a schema, and with similar examples
//! in its prompt; the most frequent answer, the nearest training row, and, where the task has classes or labels, a linear
//! classifier on frozen vectors.

use crate::environment::Environment;
use crate::output::{Output, duration};
use crate::verbs::candidate::{Candidate, ENCODER, encoder};
use crate::verbs::eval::measure;
use underdog_eval::baseline::{Answers, BaselineReference};
use underdog_eval::embedder::SharedEmbedder;
use underdog_eval::few_shot::{FewShot, Shots, Similar};
use underdog_eval::runner::{EvalSettings, Evaluation};
use underdog_eval::split::EvalSet;
use underdog_eval::{Error, Kind, Result};
use underdog_model::catalogue;
use underdog_model::language_model::LanguageModel;
use underdog_model::reference::Reference;

/// A prompt with examples has at most so many tokens: longer ones take more time than they are worth to a small model.
const PROMPT_TOKENS: usize = 2_000;

/// What was measured, by role, and why something was not.
#[derive(Default)]
pub struct Measured {
    /// `constrained`, `few-shot`; `majority`, `nearest`, `linear`.
    pub evaluations: Vec<(&'static str, Evaluation)>,
    /// For the report.
    pub notes: Vec<String>,
}

/// Measures all baselines on `set`; without the encoder those that need none, and a note says so.
///
/// # Errors
/// As [`measure_prompts`] and [`measure_baselines`].
pub fn measure_all(
    (candidate, model): (&Candidate<'_>, &mut LanguageModel),
    shots: usize,
    set: &EvalSet,
    settings: &dyn Fn(&str) -> EvalSettings,
    (environment, output): (&Environment, &Output),
) -> Result<Measured> {
    let encoder = usual_encoder(candidate, environment, output);
    let known = encoder.as_ref().ok();
    let surroundings = (environment, output);
    let mut all = measure_prompts((candidate, model), (shots, known), set, settings, surroundings)?;
    let simple = measure_baselines((candidate, known), set, settings, environment, output)?;
    all.evaluations.extend(simple.evaluations);
    all.notes.extend(simple.notes);
    if let Err(error) = &encoder {
        let note = left_out(error);
        output.say(&note);
        all.notes.push(note);
    }
    Ok(all)
}

/// Measures the untrained `model` constrained, where the task has labels or a schema, and with the `shots` most similar
/// training rows before each question, where there is an encoder to find them.
///
/// # Errors
/// When rows cannot be read or the measuring fails or is stopped.
pub fn measure_prompts(
    (candidate, model): (&Candidate<'_>, &mut LanguageModel),
    (shots, encoder): (usize, Option<&SharedEmbedder>),
    set: &EvalSet,
    settings: &dyn Fn(&str) -> EvalSettings,
    (environment, output): (&Environment, &Output),
) -> Result<Measured> {
    let mut measured = Measured::default();
    let task = candidate.task;
    match candidate.grammar("auto") {
        Ok((grammar, name)) => match model.constrain(&grammar, name) {
            Ok(()) => {
                let settings = settings("constrained.jsonl");
                let result = measure("constrained", task, set, model, &settings, environment);
                model.free();
                measured.keep("constrained", result?, output);
            }
            Err(error) if error.kind() == Kind::Usage => {
                let note = format!("The base model was not measured held to {name}: {error}.");
                output.say(&note);
                measured.notes.push(note);
            }
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == Kind::Usage => {
            measured.notes.push(
                "The baseline constrained was left out: the task has neither labels nor a schema.".into(),
            );
        }
        Err(error) => return Err(error),
    }
    if let Some(encoder) = encoder.filter(|_| shots > 0) {
        let context = model.transformer.config().context;
        let within = PROMPT_TOKENS.min(context.saturating_sub(task.max_new_tokens + 1));
        let rows = task.train(candidate.options)?;
        let shots = Shots { count: shots, within: Some(within) };
        let similar = Similar::new(shots, task, &rows, encoder.clone())?;
        let mut few = FewShot::new(Box::new(&mut *model), similar);
        let evaluation = measure("few-shot", task, set, &mut few, &settings("few-shot.jsonl"), environment)?;
        measured.keep("few-shot", evaluation, output);
    }
    Ok(measured)
}

impl Measured {
    fn keep(&mut self, role: &'static str, evaluation: Evaluation, output: &Output) {
        output.say(&format!("{role}: {} rows measured in {}", evaluation.n, duration(evaluation.seconds)));
        self.evaluations.push((role, evaluation));
    }
}

/// Measures the baselines of `candidate`'s task on `set`; `settings` gives those of the record with this name. Without
/// the encoder the first one alone is measured, and a note says so.
///
/// # Errors
/// When rows cannot be read or the measuring fails or is stopped.
pub fn measure_baselines(
    (candidate, encoder): (&Candidate<'_>, Option<&SharedEmbedder>),
    set: &EvalSet,
    settings: &dyn Fn(&str) -> EvalSettings,
    environment: &Environment,
    output: &Output,
) -> Result<Measured> {
    let mut measured = Measured::default();
    let answers = Answers::of(candidate.task.train(candidate.options)?.samples());
    let mut plan = vec![("majority", BaselineReference::Majority)];
    if encoder.is_some() {
        plan.push(("nearest", BaselineReference::Nearest(ENCODER.into())));
        match answers.targets() {
            Some(_) => plan.push(("linear", BaselineReference::Linear(ENCODER.into()))),
            None => {
                measured.notes.push("The baseline linear was left out: the answers are no labels.".into())
            }
        }
    }
    for (role, reference) in plan {
        let embedder = reference.embedder().and(encoder);
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
        measured.keep(role, evaluation, output);
    }
    Ok(measured)
}

/// The encoder, or why it is not there. It is fetched only where the base comes from the catalogue too: a run on
/// files of one's own asks for nothing from elsewhere.
///
/// # Errors
/// When it is not in the cache and cannot or may not be fetched.
pub fn usual_encoder(
    candidate: &Candidate<'_>,
    environment: &Environment,
    output: &Output,
) -> Result<SharedEmbedder> {
    let fetch = Reference::parse(candidate.reference).is_ok_and(|base| catalogue::find(&base.base).is_ok());
    let here = Reference::parse(ENCODER).and_then(|name| name.locate(&environment.cache));
    match here {
        Err(error) if !fetch => Err(error),
        _ => encoder(ENCODER, environment, output),
    }
}

/// What a report says where the encoder is not there.
pub fn left_out(error: &Error) -> String {
    format!(
        "The baselines few-shot, nearest and linear were left out: {error}. `underdog models pull {ENCODER}` gets what they need."
    )
}
