//! `underdog bench decode`: tokens a second of one stream, and the share of the memory's bandwidth that decoding reaches.

use super::{Setup, product_ceiling};
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

/// What was measured. Rates are medians of the rounds, so that one lucky round decides nothing.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    setup: Setup,
    prompt_tokens: usize,
    new_tokens: usize,
    repeats: usize,
    prompt_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    /// In the order in which they were measured.
    rounds: Vec<Round>,
    /// Multiplications and additions of the prompt's products a second.
    prompt_gflop_per_s: f64,
    /// Of the products of many rows on this machine.
    ceiling_gflop_per_s: f64,
    /// The first over the second.
    share_of_arithmetic: f64,
    /// What decoding a token reads: weights, and keys and values at the middle of the stretch.
    bytes_per_token: usize,
    weight_bytes: usize,
    /// Reading as many bytes again and again with the same threads, beside each round.
    read_gb_per_s: f64,
    /// Bytes a token times tokens a second over that rate, round by round.
    share_of_bandwidth: f64,
    /// Of the rounds, without the loading of the model; `None` where the platform does not tell.
    peak_rss_mib: Option<u64>,
}

/// One prompt, what was decoded after it, and the bandwidth right after that.
#[derive(Clone, Copy, Debug, Serialize)]
struct Round {
    prompt_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    read_gb_per_s: f64,
}

/// Runs the verb.
pub fn run(arguments: &BenchDecodeArguments, environment: &Environment, output: &Output) -> Result<()> {
    if arguments.repeats == 0 {
        return Err(Error::new(Kind::Usage, "--repeats").expected("at least 1").found("0"));
    }
    let model = load_model(&arguments.model, &arguments.precision, environment, output)?;
    let context = model.transformer.config().context;
    if context < PROMPT + NEW {
        return Err(Error::new(Kind::Usage, "the model's context is too short for this benchmark")
            .expected(format!("{} tokens", PROMPT + NEW))
            .found(context.to_string()));
    }
    reset_peak_memory();
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(PROMPT);
    let tokens: Vec<u32> = model.tokenizer.encode(&text).into_iter().take(PROMPT).collect();
    let mut cache = model.transformer.cache(PROMPT + NEW, cache_format(arguments.kv.as_deref())?);
    let weight_bytes = model.transformer.matrix_bytes();
    let bytes_per_token = weight_bytes + cache.bytes_per_slot() * (PROMPT + NEW / 2);
    let pool = Pool::new(rayon::current_num_threads());
    round(&model, &tokens, &mut cache);
    let mut rounds = Vec::with_capacity(arguments.repeats);
    let mut peak_rss_mib = None;
    for _ in 0..arguments.repeats {
        if environment.stopped() {
            return Err(Error::new(Kind::Stopped, "the benchmark was stopped"));
        }
        let (prompt, new) = round(&model, &tokens, &mut cache);
        // The buffer that is read next is no part of it.
        peak_rss_mib = peak_rss_mib.or_else(peak_memory_mib);
        rounds.push(Round {
            prompt_tokens_per_s: PROMPT as f64 / prompt,
            decode_tokens_per_s: NEW as f64 / new,
            read_gb_per_s: read_bandwidth(&pool, bytes_per_token, Duration::from_millis(150)) / 1e9,
        });
    }
    let of_rounds = |number: &dyn Fn(&Round) -> f64| median(rounds.iter().map(number).collect());
    let prompt_tokens_per_s = of_rounds(&|round| round.prompt_tokens_per_s);
    let gflop = 2.0 * model.transformer.weights_per_token().0 as f64 * prompt_tokens_per_s / 1e9;
    let ceiling = product_ceiling(&model, PROMPT) / 1e9;
    let share =
        |round: &Round| bytes_per_token as f64 * round.decode_tokens_per_s / 1e9 / round.read_gb_per_s;
    let measured = Measured {
        setup: Setup::of(&arguments.model, &model, cache.format()),
        prompt_tokens: PROMPT,
        new_tokens: NEW,
        repeats: arguments.repeats,
        prompt_tokens_per_s,
        decode_tokens_per_s: of_rounds(&|round| round.decode_tokens_per_s),
        prompt_gflop_per_s: gflop,
        ceiling_gflop_per_s: ceiling,
        share_of_arithmetic: gflop / ceiling,
        bytes_per_token,
        weight_bytes,
        read_gb_per_s: of_rounds(&|round| round.read_gb_per_s),
        share_of_bandwidth: of_rounds(&share),
        rounds,
        peak_rss_mib,
    };
    output.result(&measured, || measured.text())
}

impl Measured {
    fn text(&self) -> String {
        let peak = self.peak_rss_mib.map_or_else(|| "-".into(), |mib| format!("{mib} MiB"));
        format!(
            "medians of {} rounds\nprompt  {:.0} tokens/s ({PROMPT} tokens), {:.0} GFLOP/s, {:.0} % of the ceiling ({:.0})\n\
             decode  {:.1} tokens/s ({NEW} tokens after {PROMPT}), {:.0} % of the bandwidth ({:.1} MB a token, {:.1} GB/s)\n\
             memory  {peak}",
            self.repeats,
            self.prompt_tokens_per_s,
            self.prompt_gflop_per_s,
            100.0 * self.share_of_arithmetic,
            self.ceiling_gflop_per_s,
            self.decode_tokens_per_s,
            100.0 * self.share_of_bandwidth,
            self.bytes_per_token as f64 / 1e6,
            self.read_gb_per_s,
        )
    }
}

/// The middle one, of an even number the mean of the middle two; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.get(half.wrapping_sub(1)), values.get(half)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => (low + high) / 2.0,
        (_, Some(middle)) => *middle,
        _ => 0.0,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_find_the_rates_under_the_names_that_were_promised() {
        let setup =
            Setup { model: "m".into(), precision: "native", kv: "bf16", machine: "x".into(), threads: 2 };
        let round = Round { prompt_tokens_per_s: 2.0, decode_tokens_per_s: 1.0, read_gb_per_s: 3.0 };
        let measured = Measured {
            setup,
            prompt_tokens: PROMPT,
            new_tokens: NEW,
            repeats: 1,
            prompt_tokens_per_s: 2.0,
            decode_tokens_per_s: 1.0,
            rounds: vec![round],
            prompt_gflop_per_s: 1.0,
            ceiling_gflop_per_s: 2.0,
            share_of_arithmetic: 0.5,
            bytes_per_token: 1,
            weight_bytes: 1,
            read_gb_per_s: 3.0,
            share_of_bandwidth: 0.5,
            peak_rss_mib: None,
        };
        let object = serde_json::to_value(&measured).unwrap();
        assert_eq!(
            (&object["prompt_tokens_per_s"], &object["decode_tokens_per_s"]),
            (&2.0.into(), &1.0.into())
        );
        assert_eq!((&object["model"], &object["rounds"][0]["read_gb_per_s"]), (&"m".into(), &3.0.into()));
        assert!(
            measured.text().contains("50 % of the ceiling")
                && measured.text().contains("50 % of the bandwidth")
        );
    }

    #[test]
    fn the_median_is_the_middle_or_between_two() {
        assert_eq!(median(vec![3.0, 1.0, 9.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 9.0, 2.0]), 3.0);
        assert_eq!((median(vec![5.0]), median(Vec::new())), (5.0, 0.0));
    }
}
