//! `underdog run TASK`: base → train → tuned → comparison → report, each stage resumable on its own.

use crate::arguments::RunArguments;
use crate::environment::{Environment, machine};
use crate::output::{Output, score_card};
use crate::run_folder;
use crate::verbs::eval::measure;
use crate::verbs::train::{describe, examples, recipe, teach};
use crate::verbs::{load_model, say_skipped};
use serde_json::json;
use std::path::{Path, PathBuf};
use underdog_eval::report::{CandidateResult, Command, Fingerprint, ReportData, TrainSummary};
use underdog_eval::runner::{EvalSettings, Evaluation};
use underdog_eval::split::Split;
use underdog_eval::task::Task;
use underdog_eval::{Error, Kind, Result};
use underdog_train::metrics;
use underdog_train::recipe::Recipe;
use underdog_train::trainer::{RunFiles, Summary};

/// Runs the verb.
pub fn run(arguments: &RunArguments, environment: &Environment, output: &Output) -> Result<()> {
    if arguments.split == Split::Train {
        return Err(Error::new(Kind::Usage, "--split").expected("validation or test").found("train"));
    }
    let mut task = Task::load(&arguments.task)?;
    if let Some(file) = &arguments.data {
        task = task.with_data(arguments.split, file);
    }
    if let Some(file) = &arguments.train_data {
        task = task.with_data(Split::Train, file);
    }
    let recipe = recipe(&task, arguments.model.as_deref(), &arguments.set)?;
    let options = arguments.rows.options();
    let set = task.eval_set(arguments.split, &options)?;
    let rows = task.train(&options)?;
    say_skipped(&set.skipped, output);
    say_skipped(rows.skipped(), output);
    let mut model = load_model(&recipe.base, environment, output)?;
    let examples = examples(&task, rows.samples(), &model)?;
    let folder = run_folder::resolve(&arguments.folder, &task.name, "run")?;
    output.say(&format!("{}: {} rows to learn from, everything goes to {}", task.name, examples.len(), folder.display()));

    let settings = |name: &str| EvalSettings {
        record_path: folder.join(name),
        resume: arguments.folder.resume,
        limit: arguments.rows.limit,
        seed: recipe.seed,
    };
    let base = measure("base", &task, &set, &mut model, &settings("base.jsonl"), environment)?;
    let files = RunFiles { directory: folder.clone(), resume: arguments.folder.resume };
    let (lora, summary) = teach(&model, &examples, &recipe, &files, environment)?;
    model.adopt(lora, &files.adapter());
    let tuned = measure("tuned", &task, &set, &mut model, &settings("tuned.jsonl"), environment)?;

    let finished = Finished { task: &task, recipe: &recipe, files: &files, base, tuned, summary };
    let (report, path) = finished.report(arguments, &options_note(&options))?;
    let object = json!({
        "task": task.name,
        "report": path.display().to_string(),
        "candidates": {"base": finished.base, "tuned": finished.tuned},
        "train": finished.summary,
        "claims": report.claims,
    });
    output.result(&object, || {
        let claims: Vec<String> = report.claims.iter().map(|c| c.sentence.clone()).collect();
        format!(
            "{}\n{}\n{}\n\nreport {}",
            score_card(&[("base", &finished.base), ("tuned", &finished.tuned)]),
            claims.join("\n"),
            describe(&finished.summary, &recipe),
            path.display()
        )
    })
}

fn options_note(options: &underdog_eval::split::ReadOptions) -> Vec<String> {
    let mut notes = Vec::new();
    if options.allow_leakage {
        notes.push("Inputs that stand both in the training rows and in the measured rows were allowed.".to_string());
    }
    notes
}

/// All that a report is made of.
struct Finished<'a> {
    task: &'a Task,
    recipe: &'a Recipe,
    files: &'a RunFiles,
    base: Evaluation,
    tuned: Evaluation,
    summary: Summary,
}

impl Finished<'_> {
    /// Makes and writes the report; gives it and the path of its page.
    fn report(&self, arguments: &RunArguments, notes: &[String]) -> Result<(ReportData, PathBuf)> {
        let candidate = |role: &str, evaluation: &Evaluation| CandidateResult { role: role.into(), evaluation: evaluation.clone() };
        let candidates = vec![candidate("base", &self.base), candidate("tuned", &self.tuned)];
        let mut report = ReportData::new(self.task, candidates, self.recipe.seed)?;
        let lines = metrics::read_until(&self.files.metrics(), usize::MAX)?;
        report.loss_curve = lines.iter().map(|m| (m.step as u64, m.loss)).collect();
        report.train = Some(train_summary(&self.summary));
        report.commands = commands(arguments, self.recipe, &self.files.adapter());
        report.machine = Some(machine());
        report.notes.extend_from_slice(notes);
        let recipe = serde_json::to_string(self.recipe).unwrap_or_default();
        report.fingerprints.push(Fingerprint { name: "recipe".into(), value: recipe });
        report.write(&self.files.directory)?;
        Ok((report, self.files.directory.join("report.html")))
    }
}

fn train_summary(summary: &Summary) -> TrainSummary {
    TrainSummary {
        method: summary.method.clone(),
        steps: summary.steps as u64,
        rows: summary.rows as u64,
        epochs: summary.epochs,
        rows_per_s: summary.rows_per_s,
        flat_tokens: summary.flat_tokens,
        tree_tokens: summary.tree_tokens,
        seconds: summary.seconds,
        loss_first: summary.loss_first,
        loss_last: summary.loss_last,
        peak_rss_mib: summary.peak_rss_mib.map(|mib| mib as f64),
        adapter: summary.adapter.clone(),
    }
}

/// What to type to get the same again, and to use the result.
fn commands(arguments: &RunArguments, recipe: &Recipe, adapter: &Path) -> Vec<Command> {
    let task = arguments.task.display();
    let mut again = format!("underdog run {task}");
    let mut add = |flag: &str, value: Option<String>| {
        if let Some(value) = value {
            again.push_str(&format!(" {flag} {value}"));
        }
    };
    add("--model", arguments.model.clone());
    add("--split", (arguments.split != Split::Test).then(|| arguments.split.to_string()));
    add("--data", arguments.data.as_ref().map(|p| p.display().to_string()));
    add("--train-data", arguments.train_data.as_ref().map(|p| p.display().to_string()));
    add("--limit", arguments.rows.limit.map(|n| n.to_string()));
    arguments.set.iter().for_each(|set| add("--set", Some(set.clone())));
    let command = |purpose: &str, command: String| Command { purpose: purpose.into(), command };
    let tuned = format!("{}+{}", recipe.base, adapter.display());
    vec![
        command("Repeat this run", again),
        command("Measure the tuned model again", format!("underdog eval {task} --model {tuned}")),
        command("Talk to the tuned model", format!("underdog chat {tuned} --task {task}")),
    ]
}
