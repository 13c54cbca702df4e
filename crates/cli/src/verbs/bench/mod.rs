//! `underdog bench …`: one file a benchmark.

mod decode;
mod generate;
mod long;

use crate::arguments::BenchVerb;
use crate::environment::{Environment, machine};
use crate::output::Output;
use serde::Serialize;
use underdog_eval::Result;
use underdog_model::language_model::LanguageModel;
use underdog_tensor::cached::CacheFormat;

/// What ran where: the first fields of every result.
#[derive(Debug, Serialize)]
struct Setup {
    model: String,
    precision: &'static str,
    kv: &'static str,
    machine: String,
    threads: usize,
}

impl Setup {
    /// `reference` is what the user called the model.
    fn of(reference: &str, model: &LanguageModel, kv: CacheFormat) -> Self {
        Setup {
            model: reference.to_owned(),
            precision: model.precision().name(),
            kv: kv.name(),
            machine: machine(),
            threads: rayon::current_num_threads(),
        }
    }
}

/// Runs the verb.
pub fn run(verb: &BenchVerb, environment: &Environment, output: &Output) -> Result<()> {
    match verb {
        BenchVerb::Decode(arguments) => decode::run(arguments, environment, output),
        BenchVerb::Generate(arguments) => generate::run(arguments, environment, output),
        BenchVerb::Long(arguments) => long::run(arguments, environment, output),
    }
}
