//! The arguments of `underdog advise`.

use super::{FolderArguments, RowArguments};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use underdog_eval::split::Split;

/// Which learning curves are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Curves {
    /// That of the linear classifier; nothing is trained.
    Linear,
    /// That of the trained model.
    Tuned,
    /// Both.
    Both,
}

impl Curves {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Curves::Linear => "linear",
            Curves::Tuned => "tuned",
            Curves::Both => "both",
        }
    }
}

/// `underdog advise …`
#[derive(Debug, Args)]
pub struct AdviseArguments {
    /// Task folder.
    pub task: PathBuf,
    /// Base model [default: the recipe's].
    #[arg(long, short, value_name = "M")]
    pub model: Option<String>,
    /// Rows to measure on: validation, or test, which then no longer tests what is chosen because of it.
    #[arg(long, default_value = "validation")]
    pub split: Split,
    /// Measure on this JSON Lines file instead.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Which learning curves are drawn; linear trains no model.
    #[arg(long, value_enum, default_value_t = Curves::Both, value_name = "WHICH")]
    pub curve: Curves,
    /// Parts of the training rows, in per cent, each inside the next.
    #[arg(long, value_delimiter = ',', default_value = "5,10,25,50,100", value_name = "PERCENT")]
    pub shares: Vec<f64>,
    /// No training takes more steps than this.
    #[arg(long, value_name = "N")]
    pub steps_cap: Option<usize>,
    /// Similar training rows shown to the untrained model; fewer where a prompt would exceed 2,000 tokens.
    #[arg(long, default_value_t = 4, value_name = "K")]
    pub shots: usize,
    /// Override a field of the recipe, e.g. --set lr=1e-4 --set epochs=2.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// --limit is on the measured rows.
    #[command(flatten)]
    pub rows: RowArguments,
    #[command(flatten)]
    pub folder: FolderArguments,
}
