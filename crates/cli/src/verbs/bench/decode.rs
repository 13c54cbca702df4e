//! `underdog bench decode`: tokens a second of one stream, and the share of the memory's bandwidth that decoding reaches.

use super::Setup;
use crate::arguments::BenchDecodeArguments;
use crate::environment::{Environment, peak_memory_mib, reset_peak_memory};
use crate::output::Output;
use crate::verbs::{cache_format, load_model};
use serde::Serialize;
use std::time::{Duration, Instant};
use underdog_eval::{Error, Kind, Result};
use underdog_model::language_model::LanguageModel;
use underdog_model::linear::Use;
use underdog_model::transformer::{KvCache, Workspace};
use underdog_model::tree::Batch;
use underdog_tensor::attention::Span;
use underdog_tensor::ceilings::read_bandwidth;
use underdog_tensor::cross_entropy::argmax;
use underdog_tensor::pool::Pool;

/// Tokens of the prompt.
const PROMPT: usize = 512;
/// Tokens decoded after it.
const NEW: usize = 128;

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    setup: Setup,
    prompt_tokens: usize,
    new_tokens: usize,
    repeats: usize,
    prompt_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    /// What decoding a token reads: weights, and keys and values at the middle of the stretch.
    bytes_per_token: usize,
    weight_bytes: usize,
    /// Reading as many bytes again and again with the same threads.
    read_gb_per_s: f64,
    /// Bytes a token times tokens a second over that rate.
    share_of_bandwidth: f64,
    /// Of the rounds, without the loading of the model; `None` where the platform does not tell.
    peak_rss_mib: Option<u64>,
}

/// Runs the verb.
pub fn run(arguments: &BenchDecodeArguments, environment: &Environment, output: &Output) -> Result<()> {
    if arguments.repeats == 0 {
        return Err(Error::new(Kind::Usage, "--repeats").expected("at least 1").found("0"));
    }
    let model = load_model(&arguments.model, &arguments.precision, environment, output)?;
    reset_peak_memory();
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(PROMPT);
    let tokens: Vec<u32> = model.tokenizer.encode(&text).into_iter().take(PROMPT).collect();
    let (mut prompt, mut new) = (f64::INFINITY, f64::INFINITY);
    let mut cache = model.transformer.cache(PROMPT + NEW, cache_format(arguments.kv.as_deref())?);
    round(&model, &tokens, &mut cache);
    for _ in 0..arguments.repeats {
        if environment.stopped() {
            return Err(Error::new(Kind::Stopped, "the benchmark was stopped"));
        }
        let (p, n) = round(&model, &tokens, &mut cache);
        (prompt, new) = (prompt.min(p), new.min(n));
    }
    let peak_rss_mib = peak_memory_mib();
    let weight_bytes = model.transformer.matrix_bytes();
    let bytes_per_token = weight_bytes + cache.bytes_per_slot() * (PROMPT + NEW / 2);
    let pool = Pool::new(rayon::current_num_threads());
    let rate = read_bandwidth(&pool, bytes_per_token, Duration::from_millis(500));
    let decode = NEW as f64 / new;
    let measured = Measured {
        setup: Setup::of(&arguments.model, &model, cache.format()),
        prompt_tokens: PROMPT,
        new_tokens: NEW,
        repeats: arguments.repeats,
        prompt_tokens_per_s: PROMPT as f64 / prompt,
        decode_tokens_per_s: decode,
        bytes_per_token,
        weight_bytes,
        read_gb_per_s: rate / 1e9,
        share_of_bandwidth: bytes_per_token as f64 * decode / rate,
        peak_rss_mib,
    };
    output.result(&measured, || {
        let peak = measured.peak_rss_mib.map_or_else(|| "-".into(), |mib| format!("{mib} MiB"));
        format!(
            "prompt  {:.0} tokens/s ({PROMPT} tokens)\ndecode  {:.1} tokens/s ({NEW} tokens after {PROMPT}), {:.0} % of \
             the bandwidth ({:.1} MB a token, {:.1} GB/s)\nmemory  {peak}",
            measured.prompt_tokens_per_s,
            measured.decode_tokens_per_s,
            100.0 * measured.share_of_bandwidth,
            measured.bytes_per_token as f64 / 1e6,
            measured.read_gb_per_s,
        )
    })
}

/// Seconds of the prompt and of the new tokens, greedy.
fn round(model: &LanguageModel, tokens: &[u32], cache: &mut KvCache) -> (f64, f64) {
    let transformer = &model.transformer;
    let lora = model.lora.as_ref().map(|lora| transformer.ready(lora, Use::Forward));
    let mut space = Workspace::default();
    let start = Instant::now();
    let mut batch = Batch::default();
    batch.push(tokens, 0, 0, vec![]);
    let mut logits = transformer.extend(lora.as_ref(), &batch, cache, &[tokens.len() - 1], &mut space);
    let prompt = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for i in 0..NEW {
        let at = tokens.len() + i;
        let mut batch = Batch::default();
        batch.push(&[argmax(&logits) as u32], at, at, vec![Span { slot: 0, len: at, position: 0 }]);
        logits = transformer.extend(lora.as_ref(), &batch, cache, &[0], &mut space);
    }
    (prompt, start.elapsed().as_secs_f64())
}
