//! `underdog eval TASK --model M`: task → model → record → score card.

use crate::arguments::EvalArguments;
use crate::environment::{Environment, peak_memory_mib};
use crate::output::{Output, duration, percent, score_card};
use crate::progress::Meter;
use crate::run_folder;
use crate::verbs::candidate::{Candidate, attach_encoders};
use crate::verbs::say_skipped;
use std::ops::ControlFlow;
use underdog_eval::Result;
use underdog_eval::model::Model;
use underdog_eval::runner::{EvalSettings, Evaluation, evaluate};
use underdog_eval::split::{EvalSet, Split};
use underdog_eval::task::Task;
use underdog_train::recipe::Recipe;

/// Runs the verb.
pub fn run(arguments: &EvalArguments, environment: &Environment, output: &Output) -> Result<()> {
    let mut task = Task::load(&arguments.task)?;
    // Nothing of it is used here, but a misspelt key should be known before hours of answers are followed by training.
    Recipe::resolve(&task.recipe, &[])?;
    if let Some(file) = &arguments.train_data {
        task = task.with_data(Split::Train, file);
    }
    if let Some(file) = &arguments.data {
        task = task.with_data(arguments.split, file);
    }
    let options = arguments.rows.options()?;
    let set = task.eval_set(arguments.split, &options)?;
    say_skipped(&set.skipped, output);
    set.repeated_note().iter().for_each(|note| output.say(note));
    attach_encoders(&task, environment, output)?;
    let candidate = Candidate {
        reference: &arguments.model,
        shots: arguments.shots,
        constrain: arguments.constrain.as_deref(),
        choose: arguments.choose.as_deref(),
        precision: &arguments.precision,
        decoding: arguments.decoding.decoding(arguments.seed)?,
        task: &task,
        options: &options,
        measured: arguments.split,
        seed: arguments.seed,
    };
    let mut model = candidate.open(environment, output)?;
    let folder = run_folder::resolve(&arguments.folder, &task.name, "eval")?;
    let settings = EvalSettings {
        record_path: folder.join("record.jsonl"),
        resume: arguments.folder.resume,
        limit: arguments.rows.limit,
        seed: arguments.seed,
    };
    let evaluation = measure("eval", &task, &set, model.as_mut(), &settings, environment)?;
    evaluation.leakage_note().iter().for_each(|note| output.say(note));
    output.result(&evaluation, || {
        let rate = evaluation.rows_per_s.map_or_else(|| "-".into(), |r| format!("{r:.2}"));
        format!(
            "{}\n{} in {}, {rate} rows/s; {} prompt tokens, {} of them computed; {} new tokens; record {}",
            score_card(&[("", &evaluation)]),
            evaluation.candidate,
            duration(evaluation.seconds),
            evaluation.prompt_tokens,
            evaluation.computed_tokens,
            evaluation.new_tokens,
            evaluation.record.display()
        )
    })
}

/// Evaluates with a progress bar and the peak of memory; there is none where every sample was measured earlier.
pub fn measure(
    label: &str,
    task: &Task,
    set: &EvalSet,
    model: &mut dyn Model,
    settings: &EvalSettings,
    environment: &Environment,
) -> Result<Evaluation> {
    let mut meter: Option<Meter> = None;
    let mut worked = false;
    let result = evaluate(task, set, model, settings, &mut |progress| {
        worked |= progress.done < progress.n;
        let meter = meter.get_or_insert_with(|| Meter::new(label, progress.n));
        let rate = progress.done as f64 / progress.seconds.max(1e-9);
        meter.update(progress.done, &format!("score {}  {rate:.2} rows/s", percent(progress.score)));
        if environment.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Some(meter) = meter {
        meter.finish();
    }
    let mut evaluation = result?;
    evaluation.peak_rss_mib = peak_memory_mib().filter(|_| worked).map(|mib| mib as f64);
    Ok(evaluation)
}
