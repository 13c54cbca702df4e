//! A task: a folder with `task.toml` and data. Here the file as typed becomes the task as resolved; rows are read in
//! `sample`, the harness is built in `harness`, the `[recipe]` table is left to the trainer.

use crate::check::CheckEntry;
use crate::harness::{Harness, HarnessSpec, MetricSpec};
use crate::model::{Message, Role};
use crate::record::Prompt;
use crate::sample::{ReadRows, Sample, read_jsonl};
use crate::score::ScoreSpec;
use crate::split::{
    EvalSet, Part, ReadOptions, Rows, Side, Split, Test, Train, Validation, refuse_leakage, shared_inputs,
};
use crate::template::Templates;
use crate::{Error, Kind, Result, files, json};
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The version of `task.toml` that this program writes about and reads.
pub const TASK_VERSION: u32 = 1;

/// `task.toml` as typed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFile {
    version: u32,
    name: String,
    #[serde(default)]
    description: String,
    max_new_tokens: usize,
    score: ScoreSpec,
    prompt: PromptFile,
    data: DataFile,
    check: Vec<CheckEntry>,
    metric: Vec<MetricSpec>,
    #[serde(default)]
    recipe: toml::Table,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptFile {
    #[serde(default)]
    system: Option<String>,
    #[serde(default = "only_the_input")]
    user: String,
}

fn only_the_input() -> String {
    "{{ input }}".into()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataFile {
    train: Option<PathBuf>,
    validation: Option<PathBuf>,
    test: Option<PathBuf>,
}

/// A task, resolved: what is asked, of which rows, and how answers are judged.
#[derive(Debug)]
pub struct Task {
    /// Name in records and reports.
    pub name: String,
    /// What the task is, in a sentence or two; may be empty.
    pub description: String,
    /// Upper bound of generated tokens for one answer, at least 1.
    pub max_new_tokens: usize,
    /// The templates as typed.
    pub prompt: Prompt,
    /// The checks, the metrics and the score.
    pub harness: Harness,
    /// The `[recipe]` table as typed; the trainer resolves it.
    pub recipe: toml::Table,
    /// The folder of the task.
    pub folder: PathBuf,
    templates: Templates,
    prompt_fingerprint: String,
    train: Option<PathBuf>,
    validation: Option<PathBuf>,
    test: Option<PathBuf>,
}

impl Task {
    /// Loads `task.toml` from the folder `dir` (or that file itself). Data is read later, split by split.
    ///
    /// # Errors
    /// When the file is missing, is not TOML of the known fields (with line and column), or the harness or a template
    /// cannot be built.
    pub fn load(dir: &Path) -> Result<Task> {
        let path = if dir.extension().is_some_and(|end| end == "toml") {
            dir.to_owned()
        } else {
            dir.join("task.toml")
        };
        if !path.is_file() {
            return Err(Error::new(Kind::Usage, "there is no task here")
                .expected("a folder with a task.toml")
                .at(dir.display().to_string())
                .hint("tasks/invoices and tasks/banking77 come with the source"));
        }
        let text = files::read_text(&path, "task file")?;
        let file: TaskFile = toml::from_str(&text).map_err(|error| {
            let place = match error.span() {
                Some(span) => format!("{}:{}", path.display(), line_and_column(&text, span.start)),
                None => path.display().to_string(),
            };
            Error::new(Kind::Data, "the task file is not valid").found(error.message()).at(place)
        })?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Task::resolve(file, folder).map_err(|error| match &error.facts().place {
            Some(place) => {
                let place = format!("{}, {place}", path.display());
                error.at(place)
            }
            None => error.at(path.display().to_string()),
        })
    }

    fn resolve(file: TaskFile, folder: PathBuf) -> Result<Task> {
        if file.version != TASK_VERSION {
            return Err(Error::new(Kind::Data, "the task file has another version")
                .expected(TASK_VERSION.to_string())
                .found(file.version.to_string()));
        }
        if file.name.trim().is_empty() || file.max_new_tokens == 0 {
            return Err(Error::new(Kind::Data, "the task lacks a name or room to answer")
                .expected("`name` not empty and `max_new_tokens` of 1 or more")
                .found(format!("`{}` and {}", file.name, file.max_new_tokens)));
        }
        let PromptFile { system, user } = file.prompt;
        let prompt =
            serde_json::json!({"system": system, "user": user, "max_new_tokens": file.max_new_tokens});
        let place = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Ok(Task {
            templates: Templates::new(system.as_deref(), &user)?,
            prompt_fingerprint: json::fingerprint(&prompt),
            prompt: Prompt { system, user },
            harness: Harness::new(HarnessSpec { score: file.score, check: file.check, metric: file.metric })?,
            train: place(file.data.train),
            validation: place(file.data.validation),
            test: place(file.data.test),
            name: file.name,
            description: file.description,
            max_new_tokens: file.max_new_tokens,
            recipe: file.recipe,
            folder,
        })
    }

    /// The same task with the rows of `split` read from `file`, for `--data`. Any JSON Lines file with `input` and
    /// `expected` will do; other fields go to the samples' `meta`.
    pub fn with_data(mut self, split: Split, file: &Path) -> Task {
        *self.path_of(split) = Some(file.to_owned());
        self
    }

    fn path_of(&mut self, split: Split) -> &mut Option<PathBuf> {
        match split {
            Split::Train => &mut self.train,
            Split::Validation => &mut self.validation,
            Split::Test => &mut self.test,
        }
    }

    /// The file of `split`, if the task has one.
    pub fn data_file(&self, split: Split) -> Option<&Path> {
        match split {
            Split::Train => self.train.as_deref(),
            Split::Validation => self.validation.as_deref(),
            Split::Test => self.test.as_deref(),
        }
    }

    /// The rows to train on.
    ///
    /// # Errors
    /// When the task has no such split, a row is bad (unless skipped), none is left, or an input also occurs in the
    /// validation or test split (unless allowed).
    pub fn train(&self, options: &ReadOptions) -> Result<Rows<Train>> {
        self.rows(options)
    }

    /// The rows to choose a recipe on.
    ///
    /// # Errors
    /// As [`Task::train`]; an input must not occur in the training split.
    pub fn validation(&self, options: &ReadOptions) -> Result<Rows<Validation>> {
        self.rows(options)
    }

    /// The rows to measure on.
    ///
    /// # Errors
    /// As [`Task::train`]; an input must not occur in the training split.
    pub fn test(&self, options: &ReadOptions) -> Result<Rows<Test>> {
        self.rows(options)
    }

    /// The rows of any split, for measuring only.
    ///
    /// # Errors
    /// As [`Task::train`], or when a check asks for a field that no row expects.
    pub fn eval_set(&self, split: Split, options: &ReadOptions) -> Result<EvalSet> {
        let set = match split {
            Split::Train => self.train(options).map(EvalSet::from),
            Split::Validation => self.validation(options).map(EvalSet::from),
            Split::Test => self.test(options).map(EvalSet::from),
        }?;
        self.harness
            .require_fields(&set.samples)
            .map_err(|error| error.at(set.source.display().to_string()))?;
        Ok(set)
    }

    fn rows<P: Part>(&self, options: &ReadOptions) -> Result<Rows<P>> {
        let Some(path) = self.data_file(P::SPLIT) else {
            return Err(Error::new(
                Kind::Usage,
                format!("the task `{}` has no {} split", self.name, P::SPLIT),
            )
            .expected(format!("`{}` under [data] in its task.toml", P::SPLIT)));
        };
        let read = read_jsonl(path, options.skip_bad_rows)?;
        if !options.allow_leakage {
            self.refuse_leakage(P::SPLIT, path, &read)?;
        }
        Ok(Rows::new(read, path))
    }

    /// Compares the rows just read with those on the other side: held-out rows with training rows and the other way
    /// round. Bad rows of the other side do not matter here; they are named when that side is read itself.
    fn refuse_leakage(&self, split: Split, path: &Path, read: &ReadRows) -> Result<()> {
        let others: &[Split] = match split {
            Split::Train => &[Split::Validation, Split::Test],
            Split::Validation | Split::Test => &[Split::Train],
        };
        for &other in others {
            let Some(other_path) = self.data_file(other) else { continue };
            let other_rows = read_jsonl(other_path, true)?;
            let here = Side { split, samples: &read.samples, source: path };
            let there = Side { split: other, samples: &other_rows.samples, source: other_path };
            if split == Split::Train { refuse_leakage(here, there)? } else { refuse_leakage(there, here)? }
        }
        Ok(())
    }

    /// How many of the `measured` inputs stand in the training rows too, spacing aside; 0 where the task has no file of
    /// training rows. Broken training rows do not count.
    ///
    /// # Errors
    /// When the training rows cannot be read.
    pub fn shared_with_training<'a>(&self, measured: impl Iterator<Item = &'a Value>) -> Result<usize> {
        match self.data_file(Split::Train) {
            Some(path) if path.exists() => Ok(shared_inputs(&read_jsonl(path, true)?.samples, measured)),
            _ => Ok(0),
        }
    }

    /// The prompt for `sample`: the system message, if the task has one, and the user message.
    ///
    /// # Errors
    /// When a template reads something the sample lacks.
    pub fn messages(&self, sample: &Sample) -> Result<Vec<Message>> {
        let system = self.templates.system(sample)?.map(|content| Message { role: Role::System, content });
        let user = Message { role: Role::User, content: self.templates.user(sample)? };
        Ok(system.into_iter().chain([user]).collect())
    }

    /// Whether a typed text alone can fill the templates, for a conversation.
    ///
    /// # Errors
    /// When a template reads `id` or `meta`, which only a row has.
    pub fn require_typed(&self) -> Result<()> {
        match self.templates.reads_of_row() {
            None => Ok(()),
            Some(name) => Err(Error::new(Kind::Usage, "this task cannot be talked to")
                .expected("templates that read `input` only")
                .found(format!("`{name}`, which only a row has"))
                .hint("give the model its instructions with --system instead")),
        }
    }

    /// The prompt for a text that someone types: the same as for a row whose input it is.
    ///
    /// # Errors
    /// As [`Task::require_typed`], or when a template reads a field of the input, which text has not.
    pub fn typed(&self, text: &str) -> Result<Vec<Message>> {
        self.require_typed()?;
        let (input, expected) = (Value::String(text.to_owned()), Value::Null);
        let meta = serde_json::Map::new();
        self.messages(&Sample { id: "typed".into(), input, expected, meta, line: 1 })
    }

    /// The answer to train towards: expected text as it is, any other value as one line of JSON in the field order of the
    /// data, with `", "` and `": "`.
    ///
    /// # Errors
    /// When it is empty, which would teach nothing.
    pub fn completion(&self, sample: &Sample) -> Result<String> {
        let text = sample.expected_text();
        if text.trim().is_empty() {
            return Err(Error::new(Kind::Data, "the expected answer is empty")
                .expected("text to train towards")
                .at(format!("sample `{}` on line {}", sample.id, sample.line)));
        }
        Ok(text)
    }

    /// sha256 of what the candidate is asked with: both templates and the bound on new tokens.
    pub fn prompt_fingerprint(&self) -> &str {
        &self.prompt_fingerprint
    }
}

fn line_and_column(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&character| character != '\n').count() + 1;
    format!("{line}:{column}")
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
