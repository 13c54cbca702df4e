//! `underdog bench …`: one file a benchmark.

mod decode;
mod generate;
mod long;

use crate::arguments::BenchVerb;
use crate::environment::{Environment, machine};
use crate::output::Output;
use serde::Serialize;
use std::time::Duration;
use underdog_eval::Result;
use underdog_model::language_model::LanguageModel;
use underdog_model::linear::{Precision, meets_blocks};
use underdog_tensor::block::Format;
use underdog_tensor::cached::CacheFormat;
use underdog_tensor::ceilings;
use underdog_tensor::pool::Pool;

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

/// Operations a second of the products that `rows` rows take, as far as this machine can go: of weights in blocks in 8-bit
/// integers where rows meet them so, else in the format that rows come in.
fn product_ceiling(model: &LanguageModel, rows: usize) -> f64 {
    let (time, pool) = (Duration::from_millis(400), Pool::new(rayon::current_num_threads()));
    match model.precision().format() {
        _ if model.precision() == Precision::Native && meets_blocks(rows) => {
            ceilings::integer_product(&pool, time)
        }
        Format::Bf16 => ceilings::bf16_product(&pool, time),
        Format::F32 => ceilings::f32_product(time),
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
