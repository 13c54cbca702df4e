//! `underdog bench …`: one file a benchmark.

mod decode;

use crate::arguments::BenchVerb;
use crate::environment::Environment;
use crate::output::Output;
use underdog_eval::Result;

/// Runs the verb.
pub fn run(verb: &BenchVerb, environment: &Environment, output: &Output) -> Result<()> {
    match verb {
        BenchVerb::Decode(arguments) => decode::run(arguments, environment, output),
    }
}
