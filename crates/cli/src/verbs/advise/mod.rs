//! `underdog advise TASK`: should you fine-tune at all? Baselines, and learning curves on nested parts of the training rows,
//! measured on validation rows; what follows from them is `eval`'s. Every point keeps its record and its training, so
//! that a run that was cut off goes on where it stood.

mod points;

use self::points::{at_point, counts, shares};
use crate::arguments::{AdviseArguments, Curves};
use crate::environment::{Environment, machine};
use crate::output::{Output, duration, range, value};
use crate::records::candidate_bytes;
use crate::run_folder;
use crate::verbs::baselines::{Measured, left_out, measure_prompts, usual_encoder};
use crate::verbs::candidate::{Candidate, ENCODER, attach_encoders};
use crate::verbs::eval::measure;
use crate::verbs::run::quoted;
use crate::verbs::train::{asked, examples, learned_from, recipe, similar, teach};
use crate::verbs::{load_base, say_skipped, skipped_note};
use std::path::{Path, PathBuf};
use underdog_eval::advise::{AdviseData, Findings, LearningCurve};
use underdog_eval::baseline::{Answers, Baseline, BaselineReference, Lessons};
use underdog_eval::embedder::SharedEmbedder;
use underdog_eval::report::{BASE, CandidateResult, Command, Fingerprint, TUNED, TaskSummary};
use underdog_eval::runner::{EvalSettings, Evaluation};
use underdog_eval::split::{EvalSet, ReadOptions, Rows, Split, Train};
use underdog_eval::task::Task;
use underdog_eval::{Error, Kind, Result};
use underdog_model::language_model::{Decoding, LanguageModel};
use underdog_train::recipe::Recipe;
use underdog_train::trainer::RunFiles;

/// Runs the verb.
pub fn run(arguments: &AdviseArguments, environment: &Environment, output: &Output) -> Result<()> {
    let task = task(arguments)?;
    let shares = shares(&arguments.shares)?;
    let recipe = recipe(&task, arguments.model.as_deref(), &arguments.set)?;
    let options = arguments.rows.options()?;
    let set = task.eval_set(arguments.split, &options)?;
    let rows = task.train(&options)?;
    say_skipped(&set.skipped, output);
    say_skipped(rows.skipped(), output);
    attach_encoders(&task, environment, output)?;
    let mut model = load_base(&recipe.base, &recipe.precision, environment, output)?;
    let folder = run_folder::resolve(&arguments.folder, &task.name, "advise")?;
    let counts = counts(&shares, rows.samples().len());
    output.say(&format!("{}: points at {counts:?} training rows, in {}", task.name, folder.display()));
    let asking = Asking {
        arguments,
        task: &task,
        recipe: &recipe,
        options: &options,
        set: &set,
        rows: &rows,
        counts: &counts,
        folder: &folder,
        environment,
        output,
    };
    let mut found = asking.baselines(&mut model)?;
    if arguments.curve != Curves::Linear {
        asking.trained(&mut model, &mut found)?;
    }
    let path = asking.finish(found, &model)?;
    let data = AdviseData::read(&folder)?.ok_or_else(|| Error::new(Kind::System, "the advice is gone"))?;
    output.result(&data, || format!("{}\n\nadvice {}", text(&data), path.display()))
}

fn task(arguments: &AdviseArguments) -> Result<Task> {
    if arguments.split == Split::Train {
        return Err(Error::new(Kind::Usage, "--split").expected("validation or test").found("train"));
    }
    let mut task = Task::load(&arguments.task)?;
    if let Some(file) = &arguments.data {
        task = task.with_data(arguments.split, file);
    }
    if task.data_file(arguments.split).is_none() {
        return Err(Error::new(
            Kind::Usage,
            format!("the task names no {} rows to advise on", arguments.split),
        )
        .hint(
            "add `validation` to [data] of task.toml, or name a file with --data; test rows are for the end",
        ));
    }
    Ok(task)
}

/// What was found so far.
#[derive(Default)]
struct Found {
    candidates: Vec<(String, Evaluation)>,
    curves: Vec<LearningCurve>,
    notes: Vec<String>,
}

/// All that the measuring needs.
struct Asking<'a> {
    arguments: &'a AdviseArguments,
    task: &'a Task,
    recipe: &'a Recipe,
    options: &'a ReadOptions,
    set: &'a EvalSet,
    rows: &'a Rows<Train>,
    counts: &'a [usize],
    folder: &'a Path,
    environment: &'a Environment,
    output: &'a Output,
}

impl Asking<'_> {
    fn settings(&self, name: &str) -> EvalSettings {
        EvalSettings {
            record_path: self.folder.join(name),
            resume: self.arguments.folder.resume,
            limit: self.arguments.rows.limit,
            seed: self.recipe.seed,
        }
    }

    /// The record of a point; that of all rows stands with the other candidates.
    fn place(&self, role: &str, count: usize) -> String {
        match Some(&count) == self.counts.last() {
            true => format!("{role}.jsonl"),
            false => format!("points/{role}-{count}.jsonl"),
        }
    }

    /// The untrained model free, constrained and with examples; majority, nearest and linear with its curve.
    fn baselines(&self, model: &mut LanguageModel) -> Result<Found> {
        let mut found = Found::default();
        let base = measure(BASE, self.task, self.set, model, &self.settings("base.jsonl"), self.environment)?;
        found.candidates.push((BASE.to_owned(), base));
        let candidate = Candidate {
            reference: &self.recipe.base,
            shots: None,
            constrain: None,
            choose: None,
            precision: &self.recipe.precision,
            decoding: Decoding::default(),
            task: self.task,
            options: self.options,
            measured: self.arguments.split,
            seed: self.recipe.seed,
        };
        let encoder = match usual_encoder(&candidate, self.environment, self.output) {
            Ok(encoder) => Some(encoder),
            Err(error) => {
                found.notes.push(left_out(&error));
                None
            }
        };
        let settings = |name: &str| self.settings(name);
        let Measured { evaluations, notes } = measure_prompts(
            (&candidate, model),
            (self.arguments.shots, encoder.as_ref()),
            self.set,
            &settings,
            (self.environment, self.output),
        )?;
        found.candidates.extend(evaluations.into_iter().map(|(role, e)| (role.to_owned(), e)));
        found.notes.extend(notes);
        self.simple(encoder.as_ref(), &mut found)?;
        Ok(found)
    }

    fn simple(&self, encoder: Option<&SharedEmbedder>, found: &mut Found) -> Result<()> {
        let kind = Answers::of(self.rows.samples());
        let last = self.counts.last().copied().unwrap_or(1);
        let mut plan = vec![("majority", BaselineReference::Majority, vec![last])];
        if encoder.is_some() {
            plan.push(("nearest", BaselineReference::Nearest(ENCODER.into()), vec![last]));
            if kind.targets().is_some() {
                let counts =
                    if self.arguments.curve == Curves::Tuned { vec![last] } else { self.counts.to_vec() };
                plan.push(("linear", BaselineReference::Linear(ENCODER.into()), counts));
            }
        }
        for (role, reference, counts) in plan {
            let mut points = Vec::new();
            for count in counts {
                let part = self.rows.clone().limited(Some(count), self.recipe.seed)?;
                // No validation rows to choose settings on: those are what is measured here.
                let lessons = Lessons {
                    task: self.task,
                    train: &part,
                    validation: None,
                    seed: self.recipe.seed,
                    kind: Some(&kind),
                };
                let embedder = reference.embedder().and(encoder);
                let mut baseline = match Baseline::learn(&reference, lessons, embedder) {
                    Ok(baseline) => baseline,
                    Err(error) if error.kind() == Kind::Usage => {
                        found.notes.push(format!("{role} with {count} rows was left out: {error}."));
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let settings = self.settings(&self.place(role, count));
                let evaluation =
                    measure(role, self.task, self.set, &mut baseline, &settings, self.environment)?;
                points.push((count, evaluation));
            }
            self.keep(role, points, found)?;
        }
        Ok(())
    }

    /// Trains on each part and measures.
    fn trained(&self, model: &mut LanguageModel, found: &mut Found) -> Result<()> {
        let all = self.rows.samples().len();
        let mut points = Vec::new();
        for (point, &count) in self.counts.iter().enumerate() {
            self.output.say(&format!("point {} of {}: {count} training rows", point + 1, self.counts.len()));
            let part = self.rows.clone().limited(Some(count), self.recipe.seed)?;
            let similar = similar(self.task, &part, self.recipe, self.environment, self.output)?;
            let examples = examples(self.task, &part, model, similar.as_ref(), self.recipe)?;
            if self.recipe.disagreeing()? {
                self.output.say(&learned_from(&examples, &part));
            }
            let recipe = at_point(self.recipe, (count, all), self.arguments.steps_cap);
            let directory = self.folder.join(format!("points/{TUNED}-{count}"));
            let harness_fingerprint = Some(self.task.harness.fingerprint().to_owned());
            let files = RunFiles { directory, resume: self.arguments.folder.resume, harness_fingerprint };
            std::fs::create_dir_all(&files.directory)
                .map_err(|e| Error::io("cannot make the folder of a point", &files.directory, &e))?;
            let (lora, _) = teach(model, &examples, &recipe, &files, self.environment)?;
            model.adopt(lora, &files.adapter());
            let settings = self.settings(&self.place(TUNED, count));
            let mut student = asked(model, similar);
            let evaluation = measure(TUNED, self.task, self.set, &mut *student, &settings, self.environment)?;
            drop(student);
            model.lora = None;
            points.push((count, evaluation));
        }
        self.keep(TUNED, points, found)
    }

    /// The curve of several points, and the last point as a candidate.
    fn keep(&self, role: &str, mut points: Vec<(usize, Evaluation)>, found: &mut Found) -> Result<()> {
        let curve = match role {
            "linear" => self.arguments.curve != Curves::Tuned,
            role => role == TUNED,
        };
        if curve && !points.is_empty() {
            let measured: Vec<_> = points.iter().map(|(count, evaluation)| (*count, evaluation)).collect();
            let curve = LearningCurve::of(role, &measured, self.recipe.seed)?;
            // The trained model's curve comes first.
            found.curves.insert(if role == TUNED { 0 } else { found.curves.len() }, curve);
        }
        if let Some((_, evaluation)) = points.pop() {
            found.candidates.push((role.to_owned(), evaluation));
        }
        Ok(())
    }

    /// Puts everything together and writes it; gives the path of the page.
    fn finish(&self, found: Found, model: &LanguageModel) -> Result<PathBuf> {
        let inputs = found.candidates[0].1.samples.iter().map(|sample| &sample.input);
        let shared = self.task.shared_with_training(inputs)?;
        let cache = &self.environment.cache;
        let candidate = |(role, evaluation): (String, Evaluation)| {
            let bytes = candidate_bytes(&evaluation.candidate, cache);
            CandidateResult { role, evaluation, bytes }
        };
        let mut data = AdviseData::new(Findings {
            task: TaskSummary {
                name: self.task.name.clone(),
                description: self.task.description.clone(),
                score: self.task.harness.score().to_owned(),
            },
            train_rows: self.rows.samples().len(),
            shared,
            candidates: found.candidates.into_iter().map(candidate).collect(),
            curves: found.curves,
            seed: self.recipe.seed,
        })?;
        let precision = model.precision().name();
        data.machine = Some(format!("{}, {precision}", machine()));
        data.commands = vec![Command { purpose: "Ask again".into(), command: again(self.arguments) }];
        let recipe = serde_json::to_string(self.recipe).unwrap_or_default();
        data.fingerprints.push(Fingerprint { name: "recipe".into(), value: recipe });
        data.notes.extend([&self.set.skipped[..], self.rows.skipped()].into_iter().filter_map(skipped_note));
        data.notes.extend(found.notes);
        if let Some(cap) = self.arguments.steps_cap {
            data.notes.push(format!(
                "Every training was cut at {cap} steps: with all of its steps the trained model may score higher."
            ));
        }
        if self.arguments.split == Split::Test {
            data.notes.push(
                "Advised on the test split: what is chosen because of it is no longer tested by it.".into(),
            );
        }
        data.write(self.folder)?;
        Ok(self.folder.join("advise.html"))
    }
}

/// What to type to get the same again.
fn again(arguments: &AdviseArguments) -> String {
    let mut command = format!("underdog advise {}", quoted(&arguments.task.display()));
    let mut flag = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command.push_str(&format!(" {name} {}", quoted(&value)));
        }
    };
    flag("--model", arguments.model.clone());
    flag("--split", (arguments.split != Split::Validation).then(|| arguments.split.to_string()));
    flag("--data", arguments.data.as_ref().map(|path| path.display().to_string()));
    flag("--limit", arguments.rows.limit.map(|n| n.to_string()));
    flag("--curve", Some(arguments.curve.name().to_owned()));
    let shares: Vec<String> = arguments.shares.iter().map(f64::to_string).collect();
    flag("--shares", Some(shares.join(",")));
    flag("--steps-cap", arguments.steps_cap.map(|cap| cap.to_string()));
    flag("--shots", Some(arguments.shots.to_string()));
    arguments.set.iter().for_each(|set| flag("--set", Some(set.clone())));
    command
}

fn text(data: &AdviseData) -> String {
    let mut text =
        format!("{} on {} rows ({}), learnt from {}\n", data.task.name, data.n, data.split, data.train_rows);
    let width = data.candidates.iter().map(|c| c.role.len()).max().unwrap_or(0);
    for candidate in &data.candidates {
        let (value, range) = (value(&candidate.score), range(&candidate.score));
        text.push_str(&format!(
            "  {:<width$}  {value:>7} {range:<16} measured in {}\n",
            candidate.role,
            duration(candidate.seconds)
        ));
    }
    for curve in &data.curves {
        text.push_str(&format!("  {}:\n", curve.role));
        for point in &curve.points {
            let (value, range) = (value(&point.score), range(&point.score));
            text.push_str(&format!("    {:>6} rows  {value:>7} {range}\n", point.rows));
        }
    }
    text.push_str(&format!("\n{}\n{}", data.headline, data.reasons.join("\n")));
    for note in &data.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    text
}
