//! `underdog run TASK`: base → train → tuned → comparison → report, each stage resumable on its own.

use crate::arguments::RunArguments;
use crate::environment::{Environment, machine, reset_peak_memory};
use crate::output::{Output, score_card};
use crate::records::candidate_bytes;
use crate::run_folder;
use crate::verbs::baselines::{Measured, measure_all};
use crate::verbs::candidate::{Candidate, attach_encoders};
use crate::verbs::eval::measure;
use crate::verbs::train::{asked, describe, examples, learned_from, recipe, similar, teach};
use crate::verbs::{load_base, say_skipped, skipped_note};
use serde_json::json;
use std::path::{Path, PathBuf};
use underdog_eval::report::{CandidateResult, Command, Fingerprint, ReportData, TrainSummary};
use underdog_eval::runner::{EvalSettings, Evaluation};
use underdog_eval::split::{EvalSet, ReadOptions, Rows, Split, Train};
use underdog_eval::task::Task;
use underdog_eval::{Error, Kind, Result};
use underdog_model::language_model::Decoding;
use underdog_model::linear::Precision;
use underdog_train::metrics;
use underdog_train::recipe::Recipe;
use underdog_train::trainer::RunFiles;

/// `--shots` where it is not typed.
const USUAL_SHOTS: usize = 4;

/// Runs the verb.
pub fn run(arguments: &RunArguments, environment: &Environment, output: &Output) -> Result<()> {
    let material = Material::read(arguments, output)?;
    let Material { task, recipe, options, set, rows } = &material;
    attach_encoders(task, environment, output)?;
    let mut model = load_base(&recipe.base, &recipe.precision, environment, output)?;
    let similar = similar(task, rows, recipe, environment, output)?;
    let examples = examples(task, rows, &model, similar.as_ref(), recipe)?;
    let folder = run_folder::resolve(&arguments.folder, &task.name, "run")?;
    output.say(&format!(
        "{}: {}, everything goes to {}",
        task.name,
        learned_from(&examples, rows),
        folder.display()
    ));

    let settings = |name: &str| EvalSettings {
        record_path: folder.join(name),
        resume: arguments.folder.resume,
        limit: arguments.rows.limit,
        seed: recipe.seed,
    };
    let base = measure("base", task, set, &mut model, &settings("base.jsonl"), environment)?;
    let candidate = Candidate {
        reference: &recipe.base,
        shots: None,
        constrain: None,
        choose: None,
        precision: &recipe.precision,
        decoding: Decoding::default(),
        task,
        options,
        measured: arguments.split,
        seed: recipe.seed,
    };
    let baselines = match arguments.no_baselines {
        true => Measured::default(),
        false => {
            measure_all((&candidate, &mut model), arguments.shots, set, &settings, (environment, output))?
        }
    };
    let harness_fingerprint = Some(task.harness.fingerprint().to_owned());
    let resume = arguments.folder.resume;
    let files = RunFiles { directory: folder.clone(), resume, harness_fingerprint };
    reset_peak_memory();
    let (lora, summary) = teach(&model, &examples, recipe, &files, environment)?;
    model.adopt(lora, &files.adapter());
    reset_peak_memory();
    let mut student = asked(&mut model, similar);
    let tuned = measure("tuned", task, set, &mut *student, &settings("tuned.jsonl"), environment)?;
    drop(student);
    let precision = model.precision();
    Finished { material: &material, files, base, tuned, summary, precision, baselines, environment }
        .tell(arguments, output)
}

/// What is read and checked before a model is opened.
struct Material {
    task: Task,
    recipe: Recipe,
    options: ReadOptions,
    set: EvalSet,
    rows: Rows<Train>,
}

impl Material {
    fn read(arguments: &RunArguments, output: &Output) -> Result<Self> {
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
        let options = arguments.rows.options()?;
        let set = task.eval_set(arguments.split, &options)?;
        let rows = task.train(&options)?;
        say_skipped(&set.skipped, output);
        set.repeated_note().iter().for_each(|note| output.say(note));
        say_skipped(rows.skipped(), output);
        Ok(Material { task, recipe, options, set, rows })
    }

    /// What a report has to say about the rows.
    fn notes(&self) -> Vec<String> {
        let skipped = [&self.set.skipped[..], self.rows.skipped()];
        let mut notes: Vec<String> = skipped.into_iter().filter_map(skipped_note).collect();
        notes.extend(self.set.repeated_note());
        if self.options.allow_leakage {
            notes.push(
                "Inputs that stand both in the training rows and in the measured rows were allowed.".into(),
            );
        }
        notes
    }
}

/// All that a report is made of.
struct Finished<'a> {
    material: &'a Material,
    files: RunFiles,
    base: Evaluation,
    tuned: Evaluation,
    summary: TrainSummary,
    precision: Precision,
    baselines: Measured,
    environment: &'a Environment,
}

impl Finished<'_> {
    /// Everything measured, by role: the base, the tuned model, then the baselines.
    fn candidates(&self) -> Vec<(&str, &Evaluation)> {
        let models = [("base", &self.base), ("tuned", &self.tuned)];
        let baselines = self.baselines.evaluations.iter().map(|(role, evaluation)| (*role, evaluation));
        models.into_iter().chain(baselines).collect()
    }

    /// Writes the report and says what is in it.
    fn tell(&self, arguments: &RunArguments, output: &Output) -> Result<()> {
        let Material { task, recipe, .. } = self.material;
        let (report, path) = self.report(arguments)?;
        let candidates: serde_json::Map<String, serde_json::Value> = self
            .candidates()
            .into_iter()
            .map(|(role, evaluation)| (role.to_owned(), json!(evaluation)))
            .collect();
        let object = json!({
            "task": task.name,
            "report": path.display().to_string(),
            "candidates": candidates,
            "train": self.summary,
            "claims": report.claims,
        });
        output.result(&object, || {
            let claims: Vec<String> = report.claims.iter().map(|c| c.sentence().to_owned()).collect();
            format!(
                "{}\n{}\n{}\n\nreport {}",
                score_card(&self.candidates()),
                claims.join("\n"),
                describe(&self.summary, recipe, &arguments.task),
                path.display()
            )
        })
    }

    /// Makes and writes the report; gives it and the path of its page.
    fn report(&self, arguments: &RunArguments) -> Result<(ReportData, PathBuf)> {
        let Material { task, recipe, .. } = self.material;
        let candidate = |(role, evaluation): (&str, &Evaluation)| CandidateResult {
            role: role.into(),
            evaluation: evaluation.clone(),
            bytes: candidate_bytes(&evaluation.candidate, &self.environment.cache),
        };
        let candidates = self.candidates().into_iter().map(candidate).collect();
        let mut report = ReportData::new(task, candidates, recipe.seed)?;
        let lines = metrics::read_until(&self.files.metrics(), usize::MAX)?;
        report.loss_curve = lines.iter().map(|m| (m.step as u64, m.loss)).collect();
        report.train = Some(self.summary.clone());
        report.commands = commands(arguments, recipe, self.precision, &self.files.adapter());
        report.machine = Some(format!("{}, {}", machine(), self.precision.name()));
        report.notes.extend(self.material.notes());
        report.notes.extend_from_slice(&self.baselines.notes);
        let recipe = serde_json::to_string(recipe).unwrap_or_default();
        report.fingerprints.push(Fingerprint { name: "recipe".into(), value: recipe });
        report.write(&self.files.directory)?;
        Ok((report, self.files.directory.join("report.html")))
    }
}

/// What to type to get the same again, and to use the result. The precision is the one that was used: `auto` means
/// another one on another machine.
fn commands(arguments: &RunArguments, recipe: &Recipe, used: Precision, adapter: &Path) -> Vec<Command> {
    let (task, tuned) = (quoted(&arguments.task.display()), format!("{}+{}", recipe.base, adapter.display()));
    let tuned = quoted(&tuned);
    // What decides the measured rows; the rest decides the training.
    let mut rows = String::new();
    let flag = |text: &mut String, name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {name} {}", quoted(&value)));
        }
    };
    flag(&mut rows, "--split", (arguments.split != Split::Test).then(|| arguments.split.to_string()));
    flag(&mut rows, "--data", arguments.data.as_ref().map(|p| p.display().to_string()));
    flag(&mut rows, "--train-data", arguments.train_data.as_ref().map(|p| p.display().to_string()));
    flag(&mut rows, "--limit", arguments.rows.limit.map(|n| n.to_string()));
    rows.push_str(if arguments.rows.skip_bad_rows { " --skip-bad-rows" } else { "" });
    rows.push_str(if arguments.rows.allow_leakage { " --allow-leakage" } else { "" });
    let mut again = format!("underdog run {task}{rows}");
    again.push_str(if arguments.no_baselines { " --no-baselines" } else { "" });
    flag(&mut again, "--shots", (arguments.shots != USUAL_SHOTS).then(|| arguments.shots.to_string()));
    flag(&mut again, "--model", arguments.model.clone());
    let sets_precision = |set: &&String| set.split('=').next().is_some_and(|key| key.trim() == "precision");
    let others = arguments.set.iter().filter(|set| !sets_precision(set));
    others.for_each(|set| flag(&mut again, "--set", Some(set.clone())));
    flag(&mut again, "--set", Some(format!("precision={}", used.name())));
    let command = |purpose: &str, command: String| Command { purpose: purpose.into(), command };
    let precision = format!(" --precision {}", used.name());
    let shots = if recipe.shots > 0 { format!(" --shots {}", recipe.shots) } else { String::new() };
    let measure =
        format!("underdog eval {task} --model {tuned}{shots}{rows}{precision} --seed {}", recipe.seed);
    let shown = arguments.train_data.as_ref().filter(|_| recipe.shots > 0);
    let shown = shown.map_or(String::new(), |file| format!(" --train-data {}", quoted(&file.display())));
    vec![
        command("Repeat this run", again),
        command("Measure the tuned model again", measure),
        command("Talk to the tuned model", format!("underdog chat {tuned} --task {task}{shown}{precision}")),
    ]
}

/// A word as a shell takes it.
pub fn quoted(word: &impl std::fmt::Display) -> String {
    let word = word.to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted(&"a/b-1.gguf+c"), "a/b-1.gguf+c");
        assert_eq!(quoted(&"my task"), "'my task'");
        assert_eq!(quoted(&"it's $5"), r"'it'\''s $5'");
    }
}
