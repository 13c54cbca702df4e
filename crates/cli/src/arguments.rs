//! Arguments as typed. The help texts are here and nowhere else.

mod advise;
mod bench;

pub use advise::{AdviseArguments, Curves};
pub use bench::{BenchDecodeArguments, BenchGenerateArguments, BenchLongArguments, BenchVerb};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use underdog_eval::few_shot::Shots;
use underdog_eval::split::Split;

/// Train a small open language model for one task, measure it honestly, and own it.
#[derive(Debug, Parser)]
#[command(name = "underdog", version, arg_required_else_help = true, after_help = AFTER)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Print exactly one JSON object on stdout; talk goes to stderr.
    #[arg(long, global = true)]
    pub json: bool,
    /// Worker threads [default: one a core].
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
}

const AFTER: &str = "\
A model M is a catalogue name (see `underdog models list`), a .gguf file or a Hugging Face folder, \
each with +ADAPTER for a PEFT adapter folder on top. To be measured, M can also be a baseline that learns \
from the training rows: majority, nearest:all-minilm-l6-v2 or linear:all-minilm-l6-v2.

Exit codes: 0 done, 2 wrong request, 3 task or data, 4 model files, 5 machine, 130 stopped.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List, fetch and inspect models.
    #[command(subcommand)]
    Models(ModelsVerb),
    /// Measure a model on a task.
    Eval(EvalArguments),
    /// Train an adapter for a task.
    Train(TrainArguments),
    /// Measure the base, train, measure again and report what may be claimed.
    Run(RunArguments),
    /// Should you fine-tune at all? Baselines and learning curves on validation rows, and a recommendation.
    Advise(AdviseArguments),
    /// Talk to a model.
    Chat(ChatArguments),
    /// Compare records with a baseline and say what may be claimed.
    Compare(CompareArguments),
    /// Make the report again from records.
    Report(ReportArguments),
    /// Show the runs of a folder in the browser, with a leaderboard and live progress.
    View(ViewArguments),
    /// How many rows a comparison takes, or what given rows can show.
    Plan(PlanArguments),
    /// Write a model and its adapter as one GGUF file.
    Export(ExportArguments),
    /// Measure how fast this machine is at something.
    #[command(subcommand)]
    Bench(BenchVerb),
    /// Measure the ceilings of this machine: arithmetic and memory bandwidth.
    Doctor,
}

impl Verb {
    /// Whether the verb runs a model or measures the machine.
    pub fn computes(&self) -> bool {
        use Verb::{Bench, Chat, Doctor, Eval, Run, Train};
        matches!(self, Eval(_) | Train(_) | Run(_) | Chat(_) | Bench(_) | Doctor)
    }
}

/// `underdog export …`
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// Model to export, with +ADAPTER to merge an adapter; its base must be a GGUF file.
    pub model: String,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// How matrices are stored: f16, q8_0, q4_0, q4_1, q4_k_m or q6_k.
    #[arg(long, default_value = "q8_0", value_name = "TYPE")]
    pub quantize: String,
}

/// How answers are generated.
#[derive(Clone, Debug, Args)]
pub struct DecodingArguments {
    /// Number format of keys and values: f32, bf16 or int8 [default: f32 for weights in f32, else bf16].
    #[arg(long, value_name = "F")]
    pub kv: Option<String>,
    /// Guess up to N tokens ahead from the text, for answers that copy; in f32 they stay the same, else a token may differ where
    /// two are nearly even.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub lookup: usize,
    /// Draw tokens at random at this temperature; 0 takes the most probable one.
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub temperature: f32,
    /// Draw from the K most probable tokens only; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub top_k: usize,
    /// Draw from the fewest tokens that together have this share.
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    pub top_p: f32,
    /// Draw from tokens at least so probable, relative to the most probable one.
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    pub min_p: f32,
}

/// `underdog models …`
#[derive(Debug, Subcommand)]
pub enum ModelsVerb {
    /// The catalogue, and what is in the cache.
    List,
    /// Fetch a catalogue model into the cache shared by all projects.
    Pull {
        /// Catalogue name.
        name: String,
    },
    /// What a model file holds.
    Inspect {
        /// Model to inspect.
        model: String,
    },
}

/// How rows are read.
#[derive(Clone, Debug, Args)]
pub struct RowArguments {
    /// Leave broken rows out and count them.
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// Allow an input to stand both in the training rows and in the measured rows.
    #[arg(long)]
    pub allow_leakage: bool,
    /// A seeded random sample of N rows.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Where a run lives.
#[derive(Clone, Debug, Args)]
pub struct FolderArguments {
    /// Folder for everything the run writes [default: the next free underdog-runs/TASK/VERB-NNN].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with a run that was cut off: the one in --out, or the newest of this task and verb.
    #[arg(long)]
    pub resume: bool,
}

/// `underdog eval …`
#[derive(Debug, Args)]
pub struct EvalArguments {
    /// Task folder.
    pub task: PathBuf,
    /// Model to measure.
    #[arg(long, short, value_name = "M")]
    pub model: String,
    /// Show the model the K most similar training rows with their answers before each question; `K,T` for prompts of T tokens at
    /// most [default: as many as the adapter was trained with].
    #[arg(long, value_name = "K")]
    pub shots: Option<Shots>,
    /// Allow only answers that fit: labels (those of the training rows), schema (of a json_schema check) or auto.
    #[arg(long, value_name = "WHAT")]
    pub constrain: Option<String>,
    /// Rows to measure on: train, validation or test.
    #[arg(long, default_value = "test")]
    pub split: Split,
    /// Measure on this JSON Lines file with `input` and `expected` instead.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// The model was trained on this JSON Lines file instead: no row of it may be measured.
    #[arg(long, value_name = "FILE")]
    pub train_data: Option<PathBuf>,
    /// Choose among the labels of a check (one_of, choice), else of the training rows, by their log-probability after the prompt: log-prob (a token on average) or log-prob-sum.
    #[arg(long, value_name = "HOW", conflicts_with = "constrain")]
    pub choose: Option<String>,
    /// Number format in which the weights are multiplied: auto (bf16 where that is faster: AMX, AVX-512, AVX2), f32, bf16 or native (blocks as the file has them).
    #[arg(long, default_value = "auto", value_name = "P")]
    pub precision: String,
    /// Seed of --limit, of the intervals and of drawn tokens.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub decoding: DecodingArguments,
    #[command(flatten)]
    pub rows: RowArguments,
    #[command(flatten)]
    pub folder: FolderArguments,
}

/// `underdog train …`
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// Task folder.
    pub task: PathBuf,
    /// Base model [default: the recipe's].
    #[arg(long, short, value_name = "M")]
    pub model: Option<String>,
    /// Train on this JSON Lines file with `input` and `expected` instead.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Override a field of the recipe, e.g. --set lr=1e-4 --set steps=50.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Show three tokenised rows with what carries loss marked, and stop.
    #[arg(long)]
    pub preview: bool,
    #[command(flatten)]
    pub rows: RowArguments,
    #[command(flatten)]
    pub folder: FolderArguments,
}

/// `underdog run …`
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Task folder.
    pub task: PathBuf,
    /// Base model [default: the recipe's].
    #[arg(long, short, value_name = "M")]
    pub model: Option<String>,
    /// Rows to measure on: validation or test.
    #[arg(long, default_value = "test")]
    pub split: Split,
    /// Measure on this JSON Lines file instead.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Train on this JSON Lines file instead.
    #[arg(long, value_name = "FILE")]
    pub train_data: Option<PathBuf>,
    /// Override a field of the recipe, e.g. --set lr=1e-4 --set steps=50.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Similar training rows shown to the untrained model in the baseline few-shot; fewer where a prompt would exceed 2,000 tokens.
    #[arg(long, default_value_t = 4, value_name = "K")]
    pub shots: usize,
    /// Leave out the baselines (constrained, few-shot, majority, nearest, linear), which are measured besides.
    #[arg(long)]
    pub no_baselines: bool,
    /// --limit is on the measured rows; all training rows are used.
    #[command(flatten)]
    pub rows: RowArguments,
    #[command(flatten)]
    pub folder: FolderArguments,
}

/// `underdog chat …`
#[derive(Debug, Args)]
pub struct ChatArguments {
    /// Model to talk to.
    pub model: String,
    /// System message.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Put what is typed into the prompt of a task, as in training.
    #[arg(long, value_name = "TASK", conflicts_with = "system")]
    pub task: Option<PathBuf>,
    /// Show so many similar training rows of the task before the first question [default: as many as the adapter was trained with].
    #[arg(long, value_name = "K", requires = "task")]
    pub shots: Option<usize>,
    /// Find them in this file instead of the task's.
    #[arg(long, value_name = "FILE", requires = "task")]
    pub train_data: Option<PathBuf>,
    /// Number format in which the weights are multiplied: auto (bf16 where that is faster: AMX, AVX-512, AVX2), f32, bf16 or native (blocks as the file has them).
    #[arg(long, default_value = "auto", value_name = "P")]
    pub precision: String,
    /// At most so many new tokens an answer.
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub max_new_tokens: usize,
    /// Seed of drawn tokens.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub decoding: DecodingArguments,
}

/// `underdog compare …`
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// Records or run folders, the baseline first; a folder of `underdog run` is its tuned model, alone both its models.
    #[arg(required = true, value_name = "RECORD")]
    pub records: Vec<PathBuf>,
    /// The score may be lower by so much, as a share: 0.02 is two points. State it before you measure.
    #[arg(long, value_name = "M")]
    pub margin: Option<f64>,
    /// Also compare on each value of this field of meta; `all` for every field with few values.
    #[arg(long, value_name = "FIELD")]
    pub by: Vec<String>,
    /// Field of meta whose equal values stand or fall together [default: group, where samples have it].
    #[arg(long, value_name = "FIELD")]
    pub group: Option<String>,
    /// Look for measured inputs among this task's training rows; where there are any, nothing may be claimed.
    #[arg(long, value_name = "TASK")]
    pub task: Option<PathBuf>,
    /// Seed of the bootstrap and permutation draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `underdog report …`
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// The folder of a run, or records: the last is what the report is about, unless one is called tuned.jsonl.
    #[arg(required = true, value_name = "RECORD")]
    pub records: Vec<PathBuf>,
    /// The page to write [default: report.html in the folder of the run, else here].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Folder with the advice of `underdog advise` whose learning curve the page shows [default: where the records are].
    #[arg(long, value_name = "DIR")]
    pub advice: Option<PathBuf>,
    /// Look for measured inputs among this task's training rows; where there are any, nothing may be claimed.
    #[arg(long, value_name = "TASK")]
    pub task: Option<PathBuf>,
    /// Seed of the bootstrap and permutation draws [default: the records'].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// `underdog view …`
#[derive(Debug, Args)]
pub struct ViewArguments {
    /// Folder with runs somewhere in it.
    #[arg(default_value = "underdog-runs")]
    pub folder: PathBuf,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 7423, value_name = "N")]
    pub port: u16,
    /// Address to listen on. Anyone who reaches another one than this machine's own can read the runs.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: std::net::IpAddr,
}

/// `underdog plan …`
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// Difference to see, as a share: 0.05 is five points. With --rows: the chance to see it.
    #[arg(long, short, value_name = "D", allow_negative_numbers = true)]
    pub difference: Option<f64>,
    /// Rows there are. Without --difference: the smallest one that they show.
    #[arg(long, value_name = "N")]
    pub rows: Option<u64>,
    /// Accuracy of the baseline, 0 to 1.
    #[arg(long, short, value_name = "P")]
    pub accuracy: Option<f64>,
    /// Correlation between right answers of both, -1 to 1 [default: 0.5].
    #[arg(long, value_name = "R", allow_negative_numbers = true, conflicts_with_all = ["discordance", "unpaired"])]
    pub correlation: Option<f64>,
    /// Share of rows that only one of both gets right, instead of accuracy and correlation.
    #[arg(long, value_name = "S", conflicts_with = "unpaired")]
    pub discordance: Option<f64>,
    /// Both are measured on different rows.
    #[arg(long)]
    pub unpaired: bool,
    /// Chance to see the difference.
    #[arg(long, default_value_t = 0.8, value_name = "P")]
    pub power: f64,
    /// Take what is not known from two records, the baseline first.
    #[arg(long, num_args = 2, value_names = ["BASE", "CANDIDATE"], conflicts_with_all = ["accuracy", "correlation", "discordance", "unpaired"])]
    pub from: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
