//! One file a verb, and what several verbs do alike.

pub mod chat;
pub mod eval;
pub mod models;
pub mod run;
pub mod train;

use crate::arguments::RowArguments;
use crate::environment::Environment;
use crate::output::Output;
use crate::progress::Download;
use underdog_eval::split::ReadOptions;
use underdog_eval::{Error, Result};
use underdog_model::catalogue;
use underdog_model::language_model::{LanguageModel, Reference};

/// Loads a model; a catalogue model that is not in the cache is pulled first.
pub fn load_model(text: &str, environment: &Environment, output: &Output) -> Result<LanguageModel> {
    let reference = Reference::parse(text)?;
    if reference.locate(&environment.cache).is_err() {
        if let Ok(entry) = catalogue::find(&reference.base) {
            output.say(&format!("{} is not in the cache yet", entry.name));
            underdog_model::pull::pull(entry, &environment.cache, &Download::default())?;
        }
    }
    LanguageModel::load(&reference, &environment.cache)
}

impl RowArguments {
    /// How rows are read.
    pub fn options(&self) -> ReadOptions {
        ReadOptions { skip_bad_rows: self.skip_bad_rows, allow_leakage: self.allow_leakage }
    }
}

/// Says which rows were left out.
pub fn say_skipped(skipped: &[Error], output: &Output) {
    if let Some(first) = skipped.first() {
        output.say(&format!("{} broken rows were left out, the first: {first}", skipped.len()));
    }
}
