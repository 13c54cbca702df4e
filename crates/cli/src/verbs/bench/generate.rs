//! `underdog bench generate`: rows a second of batch generation on the prompts of a task, every answer equally long.

use super::{Setup, product_ceiling};
use crate::arguments::BenchGenerateArguments;
use crate::environment::{Environment, peak_memory_mib, reset_peak_memory};
use crate::output::Output;
use crate::verbs::{cache_format, load_model};
use serde::Serialize;
use std::ops::ControlFlow;
use std::time::Instant;
use underdog_eval::model::Request;
use underdog_eval::split::ReadOptions;
use underdog_eval::task::Task;
use underdog_eval::{Error, Kind, Result};
use underdog_model::generate::{Event, Limits, Prompt, Settings, generate_with};
use underdog_model::language_model::LanguageModel;

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    setup: Setup,
    task: String,
    rows: usize,
    rows_together: usize,
    new_tokens_a_row: usize,
    seconds: f64,
    rows_per_s: f64,
    new_tokens_per_s: f64,
    prompt_tokens: usize,
    /// What shared beginnings left to compute.
    prompt_tokens_computed: usize,
    /// Arithmetic of the products with weights, without attention, in 10⁹ operations a second.
    gflop_per_s: f64,
    /// The machine's ceiling in the same number format, measured in this run: in f32 of a square product, else of factors that
    /// lie in the cache ready to be multiplied.
    ceiling_gflop_per_s: f64,
    share_of_arithmetic: f64,
    kv_bytes_per_token: usize,
    /// Of the generation, without the loading of the model; `None` where the platform does not tell.
    peak_rss_mib: Option<u64>,
    /// The answers' tokens in one number: equal for equal answers.
    answers: String,
}

/// Runs the verb.
pub fn run(arguments: &BenchGenerateArguments, environment: &Environment, output: &Output) -> Result<()> {
    let task = Task::load(&arguments.task)?;
    let set = task.eval_set(arguments.split, &ReadOptions { skip_bad_rows: true, allow_leakage: true })?;
    let cache = cache_format(arguments.kv.as_deref())?;
    let model = load_model(&arguments.model, &arguments.precision, environment, output)?;
    let prompt = |sample| {
        let messages = task.messages(sample)?;
        // One token more is asked for where an answer may end by itself; here none does.
        let prompt = model.prompt(&Request { messages, max_new_tokens: arguments.new_tokens })?;
        Ok(Prompt { max_new: prompt.max_new.min(arguments.new_tokens), ..prompt })
    };
    let limit = arguments.limit.unwrap_or(set.samples.len());
    let prompts = set.samples.iter().take(limit).map(prompt).collect::<Result<Vec<Prompt>>>()?;
    if prompts.is_empty() || arguments.new_tokens == 0 || arguments.rows == Some(0) {
        return Err(Error::new(Kind::Usage, "there is nothing to generate").expected("rows and tokens"));
    }
    let usual = Limits::default();
    let limits = Limits { rows: arguments.rows.unwrap_or(usual.rows), ..usual };
    reset_peak_memory();
    let settings = Settings { stop: &[], limits, cache, lookup: arguments.lookup };
    let done = generate(&model, &prompts, &settings, environment)?;
    let peak_rss_mib = peak_memory_mib();
    let measured = measured(arguments, &model, &prompts, &settings, done, peak_rss_mib);
    output.result(&measured, || {
        let peak = measured.peak_rss_mib.map_or_else(|| "-".into(), |mib| format!("{mib} MiB"));
        format!(
            "{:.2} rows/s ({} rows, {} together, {} new tokens each)\n{:.0} new tokens/s, {} of {} prompt tokens computed\n{:.0} \
             GFLOP/s, {:.0} % of the ceiling ({:.0})\nmemory  {peak}, {} bytes of keys and values a token",
            measured.rows_per_s,
            measured.rows,
            measured.rows_together,
            measured.new_tokens_a_row,
            measured.new_tokens_per_s,
            measured.prompt_tokens_computed,
            measured.prompt_tokens,
            measured.gflop_per_s,
            100.0 * measured.share_of_arithmetic,
            measured.ceiling_gflop_per_s,
            measured.kv_bytes_per_token,
        )
    })
}

/// What came of a generation.
struct Done {
    seconds: f64,
    computed: usize,
    new_tokens: usize,
    /// FNV-1a of all answers' tokens, in the order of the prompts.
    answers: u64,
}

fn generate(
    model: &LanguageModel,
    prompts: &[Prompt],
    settings: &Settings<'_>,
    environment: &Environment,
) -> Result<Done> {
    let mut answers = vec![Vec::new(); prompts.len()];
    let mut computed = 0;
    let start = Instant::now();
    let lora = model.lora.as_ref();
    generate_with(&model.transformer, lora, prompts, settings, &|_| None, &mut |event| {
        if let Event::Done(i, done) = event {
            computed += done.computed;
            answers[i] = done.tokens;
        }
        if environment.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let seconds = start.elapsed().as_secs_f64();
    if environment.stopped() {
        return Err(Error::new(Kind::Stopped, "the benchmark was stopped"));
    }
    let all = answers.iter().flatten();
    let hash = all
        .clone()
        .flat_map(|token| token.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Ok(Done { seconds, computed, new_tokens: all.count(), answers: hash })
}

fn measured(
    arguments: &BenchGenerateArguments,
    model: &LanguageModel,
    prompts: &[Prompt],
    settings: &Settings<'_>,
    done: Done,
    peak_rss_mib: Option<u64>,
) -> Measured {
    let transformer = &model.transformer;
    let (layers, head) = transformer.weights_per_token();
    // Every new token is chosen by the head; the first one comes from a prompt token, the last one is not read again.
    let read = done.computed + done.new_tokens - prompts.len();
    let gflop = 2.0 * (layers as f64 * read as f64 + head as f64 * done.new_tokens as f64) / 1e9;
    let ceiling = product_ceiling(model, settings.limits.rows) / 1e9;
    let cache = transformer.cache(1, settings.cache);
    Measured {
        setup: Setup::of(&arguments.model, model, cache.format()),
        task: arguments.task.display().to_string(),
        rows: prompts.len(),
        rows_together: settings.limits.rows,
        new_tokens_a_row: arguments.new_tokens,
        seconds: done.seconds,
        rows_per_s: prompts.len() as f64 / done.seconds,
        new_tokens_per_s: done.new_tokens as f64 / done.seconds,
        prompt_tokens: prompts.iter().map(|p| p.tokens.len()).sum(),
        prompt_tokens_computed: done.computed,
        gflop_per_s: gflop / done.seconds,
        ceiling_gflop_per_s: ceiling,
        share_of_arithmetic: gflop / done.seconds / ceiling,
        kv_bytes_per_token: cache.bytes_per_slot(),
        peak_rss_mib,
        answers: format!("{:016x}", done.answers),
    }
}
