//! One file a verb, and what several verbs do alike.

pub mod advise;
pub mod baselines;
pub mod bench;
pub mod candidate;
pub mod chat;
pub mod compare;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod models;
pub mod plan;
pub mod report;
pub mod run;
pub mod train;
pub mod view;

use crate::arguments::RowArguments;
use crate::environment::Environment;
use crate::output::Output;
use crate::progress::Download;
use underdog_eval::split::ReadOptions;
use underdog_eval::{Error, Kind, Result};
use underdog_model::catalogue;
use underdog_model::language_model::{LanguageModel, Reference};
use underdog_model::linear::Precision;

/// Loads a model; a catalogue model that is not in the cache is pulled first.
pub fn load_model(
    text: &str,
    precision: &str,
    environment: &Environment,
    output: &Output,
) -> Result<LanguageModel> {
    let precision = Precision::parse(precision)?;
    let reference = fetch_if_missing(text, environment, output)?;
    LanguageModel::load(&reference, &environment.cache, precision)
}

/// Pulls a catalogue model that is not in the cache; gives the reference as parsed.
pub fn fetch_if_missing(text: &str, environment: &Environment, output: &Output) -> Result<Reference> {
    let reference = Reference::parse(text)?;
    if reference.locate(&environment.cache).is_err()
        && let Ok(entry) = catalogue::find(&reference.base)
    {
        output.say(&format!("{} is not in the cache yet", entry.name));
        underdog_model::pull::pull(entry, &environment.cache, &Download::default())?;
    }
    Ok(reference)
}

/// Loads the model that training starts from.
///
/// # Errors
/// As [`load_model`]; a base with an adapter, because training starts a fresh one and would silently leave it out.
pub fn load_base(
    text: &str,
    precision: &str,
    environment: &Environment,
    output: &Output,
) -> Result<LanguageModel> {
    if let Some(adapter) = Reference::parse(text)?.adapter {
        return Err(Error::new(Kind::Usage, "training starts from a base without an adapter")
            .found(format!("`{text}`"))
            .hint(format!("leave +{} out; a fresh adapter is trained", adapter.display())));
    }
    load_model(text, precision, environment, output)
}

impl RowArguments {
    /// How rows are read.
    ///
    /// # Errors
    /// A limit of no rows, found out before anything is made for the run.
    pub fn options(&self) -> Result<ReadOptions> {
        if self.limit == Some(0) {
            return Err(Error::new(Kind::Usage, "--limit leaves no rows").expected("1 or more").found("0"));
        }
        Ok(ReadOptions { skip_bad_rows: self.skip_bad_rows, allow_leakage: self.allow_leakage })
    }
}

/// Says which rows were left out.
pub fn say_skipped(skipped: &[Error], output: &Output) {
    if let Some(note) = skipped_note(skipped) {
        output.say(&note);
    }
}

/// How many rows were left out, and the first of them; `None` where none was.
pub fn skipped_note(skipped: &[Error]) -> Option<String> {
    match skipped {
        [] => None,
        [only] => Some(format!("1 broken row was left out: {only}")),
        [first, ..] => Some(format!("{} broken rows were left out, the first: {first}", skipped.len())),
    }
}
