//! `underdog bench …`: one file a benchmark.

mod decode;
mod generate;
mod long;

use crate::arguments::BenchVerb;
use crate::environment::Environment;
use crate::output::Output;
use underdog_eval::Result;

/// Runs the verb.
pub fn run(verb: &BenchVerb, environment: &Environment, output: &Output) -> Result<()> {
    match verb {
        BenchVerb::Decode(arguments) => decode::run(arguments, environment, output),
        BenchVerb::Generate(arguments) => generate::run(arguments, environment, output),
        BenchVerb::Long(arguments) => long::run(arguments, environment, output),
    }
}
