//! Arguments of `underdog bench`.

use clap::{Args, Subcommand};
use std::path::PathBuf;
use underdog_eval::split::Split;

/// `underdog bench …`
#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// One stream: a prompt of 512 tokens, then 128 new tokens, without speculation.
    Decode(BenchDecodeArguments),
    /// Many rows: the prompts of a task, each continued by the same number of tokens.
    Generate(BenchGenerateArguments),
    /// One very long prompt, then some new tokens; shows how the cost of a token grows.
    Long(BenchLongArguments),
}

/// `underdog bench generate …`
#[derive(Debug, Args)]
pub struct BenchGenerateArguments {
    /// Task folder.
    pub task: PathBuf,
    /// Model to run.
    #[arg(long, short, value_name = "M")]
    pub model: String,
    /// Rows whose prompts are taken: train, validation or test.
    #[arg(long, default_value = "test")]
    pub split: Split,
    /// The first N rows [default: all].
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// New tokens of each row, exactly; tokens that would end an answer do not.
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub new_tokens: usize,
    /// Rows that are decoded together [default: as in eval].
    #[arg(long, value_name = "B")]
    pub rows: Option<usize>,
    /// Number format in which the weights are multiplied: auto, f32, bf16 or native.
    #[arg(long, default_value = "auto", value_name = "P")]
    pub precision: String,
    /// Number format of keys and values: f32, bf16 or int8 [default: f32 for weights in f32, else bf16].
    #[arg(long, value_name = "F")]
    pub kv: Option<String>,
    /// Guess up to N tokens ahead from the text.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub lookup: usize,
}

/// `underdog bench long …`
#[derive(Debug, Args)]
pub struct BenchLongArguments {
    /// Model to run.
    #[arg(long, short, value_name = "M")]
    pub model: String,
    /// A text, or a JSON Lines file whose inputs are joined.
    #[arg(long, value_name = "FILE")]
    pub prompt_file: PathBuf,
    /// Tokens of the prompt, from the beginning of the text.
    #[arg(long, default_value_t = 30_000, value_name = "N")]
    pub tokens: usize,
    /// Tokens decoded after it.
    #[arg(long, default_value_t = 300, value_name = "N")]
    pub new_tokens: usize,
    /// Prompt tokens that go through the layers together.
    #[arg(long, default_value_t = 2048, value_name = "N")]
    pub chunk: usize,
    /// Number format in which the weights are multiplied: native (as the file has them), auto, f32 or bf16.
    #[arg(long, default_value = "native", value_name = "P")]
    pub precision: String,
    /// Number format of keys and values: f32, bf16 or int8 [default: f32 for weights in f32, else bf16].
    #[arg(long, value_name = "F")]
    pub kv: Option<String>,
}

/// `underdog bench decode …`
#[derive(Debug, Args)]
pub struct BenchDecodeArguments {
    /// Model to run.
    #[arg(long, short, value_name = "M")]
    pub model: String,
    /// Number format in which the weights are multiplied: native (as the file has them), auto, f32 or bf16.
    #[arg(long, default_value = "native", value_name = "P")]
    pub precision: String,
    /// Measured rounds after one that warms up; the median counts.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub repeats: usize,
    /// Number format of keys and values: f32, bf16 or int8 [default: f32 for weights in f32, else bf16].
    #[arg(long, value_name = "F")]
    pub kv: Option<String>,
}
