//! `underdog train TASK`: task → recipe → rows → loop → adapter.

use crate::arguments::TrainArguments;
use crate::environment::{Environment, peak_memory_mib};
use crate::memory::available;
use crate::output::{Output, duration};
use crate::progress::Meter;
use crate::run_folder;
use crate::verbs::candidate::{ENCODER, encoder};
use crate::verbs::{load_base, say_skipped};
use serde_json::json;
use std::path::Path;
use underdog_eval::few_shot::{FewShot, Shots, Similar, disagree};
use underdog_eval::model::Model;
use underdog_eval::report::TrainSummary;
use underdog_eval::split::{Rows, Split, Train};
use underdog_eval::task::Task;
use underdog_eval::{Error, Kind, Result};
use underdog_model::language_model::LanguageModel;
use underdog_model::lora::Lora;
use underdog_train::data::{Example, Row, tokenize};
use underdog_train::memory;
use underdog_train::recipe::Recipe;
use underdog_train::trainer::{self, RunFiles};

/// Rows that `--preview` shows.
const PREVIEWED: usize = 3;

/// Runs the verb.
pub fn run(arguments: &TrainArguments, environment: &Environment, output: &Output) -> Result<()> {
    let mut task = Task::load(&arguments.task)?;
    if let Some(file) = &arguments.data {
        task = task.with_data(Split::Train, file);
    }
    let recipe = recipe(&task, arguments.model.as_deref(), &arguments.set)?;
    let rows = task.train(&arguments.rows.options()?)?.limited(arguments.rows.limit, recipe.seed)?;
    say_skipped(rows.skipped(), output);
    let model = load_base(&recipe.base, &recipe.precision, environment, output)?;
    let similar = similar(&task, &rows, &recipe, environment, output)?;
    let examples = examples(&task, &rows, &model, similar.as_ref(), &recipe)?;
    if recipe.disagreeing()? {
        output.say(&learned_from(&examples, &rows));
    }
    if arguments.preview {
        return preview(&model, &examples, &recipe, output);
    }
    let directory = run_folder::resolve(&arguments.folder, &task.name, "train")?;
    let harness_fingerprint = Some(task.harness.fingerprint().to_owned());
    let files = RunFiles { directory, resume: arguments.folder.resume, harness_fingerprint };
    let (_, summary) = teach(&model, &examples, &recipe, &files, environment)?;
    output.result(&summary, || describe(&summary, &recipe, &arguments.task))
}

/// The task's recipe with the model and the overrides on top.
pub fn recipe(task: &Task, model: Option<&str>, set: &[String]) -> Result<Recipe> {
    let mut set = set.to_vec();
    if let Some(model) = model {
        set.push(format!("base={}", toml::Value::String(model.into())));
    }
    Recipe::resolve(&task.recipe, &set)
}

/// The rows that a recipe wants to show before every question, if it wants any.
///
/// # Errors
/// When the encoder that finds them cannot be opened, or a row makes no prompt.
pub fn similar(
    task: &Task,
    rows: &Rows<Train>,
    recipe: &Recipe,
    environment: &Environment,
    output: &Output,
) -> Result<Option<Similar>> {
    if recipe.shots == 0 {
        return Ok(None);
    }
    Similar::new(
        Shots { count: recipe.shots, within: None },
        task,
        rows,
        encoder(ENCODER, environment, output)?,
    )
    .map(Some)
}

/// The rows that the recipe learns from as token sequences, with similar rows before every question where there are any.
///
/// # Errors
/// A row that makes no prompt or does not fit the model; a recipe that leaves no row to learn from.
pub fn examples(
    task: &Task,
    rows: &Rows<Train>,
    model: &LanguageModel,
    similar: Option<&Similar>,
    recipe: &Recipe,
) -> Result<Vec<Example>> {
    let samples = rows.samples();
    let alone = samples.iter().map(|sample| task.messages(sample)).collect::<Result<Vec<_>>>()?;
    let shown = match similar {
        Some(similar) => similar.show(&alone.iter().map(Vec::as_slice).collect::<Vec<_>>(), &|_| None)?,
        None => alone.clone(),
    };
    let disagreeing = recipe.disagreeing()?;
    let mut learned = Vec::with_capacity(samples.len());
    for ((sample, alone), messages) in samples.iter().zip(&alone).zip(shown) {
        if !disagreeing || disagree(&messages, alone) {
            learned.push(Row { id: sample.id.clone(), messages, completion: task.completion(sample)? });
        }
    }
    if disagreeing && learned.is_empty() {
        return Err(Error::new(Kind::Usage, "recipe value `rows`")
            .expected("rows whose similar rows disagree")
            .found(format!("similar rows that agree, for each of {} rows", samples.len()))
            .hint("rows = \"all\" learns from every row; more `shots` disagree sooner"));
    }
    tokenize(model, &learned, recipe.learned()?)
}

/// How many rows are learned from, and of how many where some are left out.
pub fn learned_from(examples: &[Example], rows: &Rows<Train>) -> String {
    match (examples.len(), rows.samples().len()) {
        (kept, all) if kept == all => format!("{all} rows to learn from"),
        (kept, all) => format!("{kept} of {all} rows to learn from, those whose similar rows disagree"),
    }
}

/// A trained model, asked as it was trained: with similar rows before every question where there are any.
pub fn asked<'a>(model: &'a mut LanguageModel, similar: Option<Similar>) -> Box<dyn Model + 'a> {
    match similar {
        Some(similar) => Box::new(FewShot::new(Box::new(model), similar)),
        None => Box::new(model),
    }
}

/// Trains with a progress bar and the peak of memory; there is none where every step was done earlier. What would not fit the
/// memory is refused before the first step.
pub fn teach(
    model: &LanguageModel,
    examples: &[Example],
    recipe: &Recipe,
    files: &RunFiles,
    environment: &Environment,
) -> Result<(Lora, TrainSummary)> {
    if let Some(available) = available(&environment.system) {
        memory::check(model, examples, recipe, &available)?;
    }
    let mut meter = Meter::new("train", recipe.total_steps(examples.len()));
    let mut worked = false;
    let result = trainer::train(model, examples, recipe, files, &environment.stop, &mut |progress| {
        worked = true;
        let m = progress.metrics;
        let tokens = m.num_tokens as f64 / m.step as f64 / m.seconds;
        let rows = progress.batch as f64 / m.seconds;
        meter.update(m.step, &format!("loss {:.4}  {rows:.2} rows/s  {tokens:.0} tokens/s", m.loss));
    });
    meter.finish();
    let (lora, mut summary) = result?;
    summary.peak_rss_mib = peak_memory_mib().filter(|_| worked);
    Ok((lora, summary))
}

/// The summary as a person reads it.
pub fn describe(summary: &TrainSummary, recipe: &Recipe, task: &Path) -> String {
    let loss = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.4}"));
    let rate = summary.rows_per_s.map_or_else(|| "-".into(), |r| format!("{r:.2}"));
    format!(
        "{} on {} rows, {} steps of {} ({:.1} epochs) in {}, {rate} rows/s\n\
         loss {} → {}; {} tokens, {} of them computed; peak memory {}\nadapter {}\ntry it: underdog chat {}+{} --task {}",
        summary.method,
        summary.rows,
        summary.steps,
        recipe.batch,
        summary.epochs,
        duration(summary.seconds),
        loss(summary.loss_first),
        loss(summary.loss_last),
        summary.flat_tokens,
        summary.tree_tokens,
        summary.peak_rss_mib.map_or_else(|| "-".into(), |m| format!("{m} MiB")),
        summary.adapter,
        recipe.base,
        summary.adapter,
        task.display()
    )
}

/// Shows rows as the model sees them. A token that carries loss stands in ⟦brackets⟧.
fn preview(model: &LanguageModel, examples: &[Example], recipe: &Recipe, output: &Output) -> Result<()> {
    let peak = memory::planned(model, examples, recipe)?.peak().div_ceil(1 << 20);
    let shown: Vec<&Example> = examples.iter().take(PREVIEWED).collect();
    let pieces =
        |e: &Example| whole_characters(e.sequence.tokens.iter().map(|&id| model.tokenizer.decode_piece(id)));
    let object = |e: &&Example| {
        let tokens = e.sequence.tokens.iter().zip(pieces(e));
        let tokens: Vec<_> = tokens.map(|(id, text)| json!({"id": id, "text": text})).collect();
        json!({"id": e.id, "prompt_tokens": e.prompt_len(), "tokens": tokens})
    };
    let objects: Vec<_> = shown.iter().map(object).collect();
    output.result(&json!({"rows": examples.len(), "planned_peak_mib": peak, "preview": objects}), || {
        let mut text = String::new();
        for example in &shown {
            text.push_str(&format!(
                "── {}: {} prompt tokens, {} with loss\n",
                example.id,
                example.prompt_len(),
                example.answer_len()
            ));
            for (i, piece) in pieces(example).into_iter().enumerate() {
                match example.in_answer(i) {
                    true if piece.is_empty() => {}
                    true => text.push_str(&format!("⟦{piece}⟧")),
                    false => text.push_str(&piece),
                }
            }
            text.push('\n');
        }
        text.push_str(&format!("planned peak of memory: {peak} MiB\n"));
        text
    })
}

/// The text of each token, where a character of several tokens stands with the last of them.
fn whole_characters(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
    let mut open = Vec::new();
    let text = |piece: Vec<u8>| {
        open.extend(piece);
        let whole = match std::str::from_utf8(&open) {
            // The end of it may go on in the next token.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => open.len(),
        };
        String::from_utf8_lossy(&open.drain(..whole).collect::<Vec<u8>>()).into_owned()
    };
    pieces.map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_of_several_tokens_is_shown_whole() {
        let bytes = "a☂日".as_bytes();
        let pieces = [&bytes[..2], &bytes[2..3], &bytes[3..5], &bytes[5..], &[0xff]];
        let text = whole_characters(pieces.into_iter().map(<[u8]>::to_vec));
        assert_eq!(text, ["a", "", "☂", "日", "\u{fffd}"]);
    }
}
