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

use crate::arguments::{DecodingArguments, RowArguments};
use crate::environment::Environment;
use crate::output::Output;
use crate::progress::Download;
use underdog_eval::split::ReadOptions;
use underdog_eval::{Error, Kind, Result};
use underdog_model::catalogue;
use underdog_model::language_model::{Decoding, LanguageModel};
use underdog_model::linear::Precision;
use underdog_model::reference::Reference;
use underdog_model::sampling::Sampling;
use underdog_tensor::cached::CacheFormat;

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
        underdog_model::pull::pull(entry, &environment.cache, &Download::new(environment))?;
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

/// The number format of keys and values that is asked for.
///
/// # Errors
/// A format that there is not.
pub fn cache_format(text: Option<&str>) -> Result<Option<CacheFormat>> {
    let parse = |text: &str| {
        CacheFormat::parse(text).ok_or_else(|| {
            Error::new(Kind::Usage, "--kv").expected("f32, bf16 or int8").found(format!("`{text}`"))
        })
    };
    text.map(parse).transpose()
}

impl DecodingArguments {
    /// How answers are generated.
    ///
    /// # Errors
    /// Settings that there are not, or that say nothing.
    pub fn decoding(&self, seed: u64) -> Result<Decoding> {
        let Self { temperature, top_k, top_p, min_p, .. } = *self;
        let sampling = Sampling { temperature, top_k, top_p, min_p, seed };
        let drawn = temperature != 0.0;
        if !drawn && (top_k, top_p, min_p) != (0, 1.0, 0.0) {
            return Err(Error::new(Kind::Usage, "--top-k, --top-p and --min-p are for drawn tokens")
                .expected("--temperature above 0 beside them")
                .found("the most probable token is taken"));
        }
        Ok(Decoding {
            cache: cache_format(self.kv.as_deref())?,
            lookup: self.lookup,
            sampling: drawn.then(|| sampling.check()).transpose()?,
            ..Decoding::default()
        })
    }
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
