//! `underdog bench long`: one very long prompt and some new tokens, with the rate of each stretch of the prompt, so that it
//! shows how the cost of a token grows.

use super::{Setup, product_ceiling};
use crate::arguments::BenchLongArguments;
use crate::environment::{Environment, peak_memory_mib, reset_peak_memory};
use crate::output::Output;
use crate::verbs::{cache_format, load_model};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;
use underdog_eval::{Error, Kind, Result};
use underdog_model::language_model::LanguageModel;
use underdog_model::linear::Use;
use underdog_model::transformer::{KvCache, LayerTimes, Workspace};
use underdog_model::tree::Batch;
use underdog_tensor::attention::Span;

/// Stretches of the prompt that are timed.
const STRETCHES: usize = 10;

/// The rate of some consecutive tokens.
#[derive(Debug, Serialize)]
struct Stretch {
    from: usize,
    to: usize,
    tokens_per_s: f64,
    /// In all layers that see a window, and in all that see everything.
    windowed_ms_per_token: f64,
    whole_ms_per_token: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    setup: Setup,
    prompt_tokens: usize,
    new_tokens: usize,
    chunk: usize,
    prompt_seconds: f64,
    decode_seconds: f64,
    seconds: f64,
    prompt: Vec<Stretch>,
    /// Arithmetic of the prompt's products with weights, without attention, in 10⁹ operations a second.
    prompt_gflop_per_s: f64,
    /// The machine's ceiling of such products, measured in this run.
    ceiling_gflop_per_s: f64,
    share_of_arithmetic: f64,
    decode_tokens_per_s: f64,
    kv_bytes_per_token: usize,
    /// Of the whole process, the loading of the model among it; `None` where the platform does not tell.
    peak_rss_mib: Option<u64>,
    /// From the first prompt token on.
    peak_rss_running_mib: Option<u64>,
}

#[derive(Deserialize)]
struct Row {
    input: String,
}

/// Runs the verb.
pub fn run(arguments: &BenchLongArguments, environment: &Environment, output: &Output) -> Result<()> {
    let text = text(&arguments.prompt_file)?;
    let cache = cache_format(arguments.kv.as_deref())?;
    let model = load_model(&arguments.model, &arguments.precision, environment, output)?;
    let tokens = tokens(&model, &text, arguments)?;
    let loading = peak_memory_mib();
    reset_peak_memory();
    let mut cache = model.transformer.cache(tokens.len() + arguments.new_tokens, cache);
    let times = times(&model, &tokens, arguments, &mut cache, environment)?;
    let running = peak_memory_mib();
    let prompt_seconds = times.prompt.last().map_or(0.0, |mark| mark.seconds);
    let weights = model.transformer.weights_per_token().0;
    let gflop = 2.0 * weights as f64 * tokens.len() as f64 / prompt_seconds / 1e9;
    let ceiling = product_ceiling(&model, arguments.chunk) / 1e9;
    let measured = Measured {
        setup: Setup::of(&arguments.model, &model, cache.format()),
        prompt_tokens: tokens.len(),
        new_tokens: arguments.new_tokens,
        chunk: arguments.chunk,
        prompt_seconds,
        decode_seconds: times.decode,
        seconds: prompt_seconds + times.decode,
        prompt: stretches(&times.prompt),
        prompt_gflop_per_s: gflop,
        ceiling_gflop_per_s: ceiling,
        share_of_arithmetic: gflop / ceiling,
        decode_tokens_per_s: arguments.new_tokens as f64 / times.decode,
        kv_bytes_per_token: cache.bytes_per_slot(),
        peak_rss_mib: running.max(loading),
        peak_rss_running_mib: running,
    };
    output.result(&measured, || {
        let peak = measured.peak_rss_mib.map_or_else(|| "-".into(), |mib| format!("{mib} MiB"));
        let line = |s: &Stretch| {
            let (windowed, whole) = (s.windowed_ms_per_token, s.whole_ms_per_token);
            let rate = format!("  {:>6} to {:>6}  {:.0} tokens/s", s.from, s.to, s.tokens_per_s);
            match windowed > 0.0 {
                true => format!("{rate}, {windowed:.3} ms a token in windowed layers, {whole:.3} in the others\n"),
                false => format!("{rate}\n"),
            }
        };
        format!(
            "prompt  {} tokens in {:.1} s, {:.0} GFLOP/s without attention, {:.0} % of the ceiling ({:.0})\n{}decode  {} tokens in {:.1} s, {:.1} tokens/s\nmemory  {peak}, {} bytes of keys and \
             values a token",
            measured.prompt_tokens,
            measured.prompt_seconds,
            measured.prompt_gflop_per_s,
            100.0 * measured.share_of_arithmetic,
            measured.ceiling_gflop_per_s,
            measured.prompt.iter().map(line).collect::<String>(),
            measured.new_tokens,
            measured.decode_seconds,
            measured.decode_tokens_per_s,
            measured.kv_bytes_per_token,
        )
    })
}

/// The text of a file, or the inputs of a JSON Lines file, one after the other.
fn text(path: &Path) -> Result<String> {
    let at = |error: Error| error.at(path.display().to_string());
    let text = std::fs::read_to_string(path)
        .map_err(|e| at(Error::new(Kind::Data, "cannot read the prompt").found(e.to_string())))?;
    if path.extension().is_none_or(|e| e != "jsonl") {
        return Ok(text);
    }
    let row = |line: &str| {
        serde_json::from_str::<Row>(line)
            .map(|row| row.input)
            .map_err(|e| at(Error::new(Kind::Data, "a row without a text as its input").found(e.to_string())))
    };
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(row).collect::<Result<Vec<_>>>()?.join("\n\n"))
}

fn tokens(model: &LanguageModel, text: &str, arguments: &BenchLongArguments) -> Result<Vec<u32>> {
    let wrong = |expected: String, found: usize| {
        let what = "the prompt does not have as many tokens as asked for";
        Err(Error::new(Kind::Usage, what).expected(expected).found(found.to_string()))
    };
    let context = model.transformer.config().context;
    if arguments.tokens == 0 || arguments.tokens + arguments.new_tokens > context {
        return wrong(
            format!("1 to {} tokens", context.saturating_sub(arguments.new_tokens)),
            arguments.tokens,
        );
    }
    if arguments.chunk == 0 || arguments.new_tokens == 0 {
        return Err(Error::new(Kind::Usage, "--chunk and --new-tokens").expected("1 or more").found("0"));
    }
    let bos = model.tokenizer.bos().filter(|_| model.tokenizer.adds_bos());
    let mut tokens: Vec<u32> = bos.into_iter().chain(model.tokenizer.encode(text)).collect();
    if tokens.len() < arguments.tokens {
        return wrong(format!("a file of {} tokens", arguments.tokens), tokens.len());
    }
    tokens.truncate(arguments.tokens);
    Ok(tokens)
}

/// Where things stood at the end of a chunk.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// Tokens that were done.
    done: usize,
    /// Since the beginning.
    seconds: f64,
    layers: LayerTimes,
}

/// The end of each chunk, and the seconds of the new tokens.
struct Times {
    prompt: Vec<Mark>,
    decode: f64,
}

fn times(
    model: &LanguageModel,
    tokens: &[u32],
    arguments: &BenchLongArguments,
    cache: &mut KvCache,
    environment: &Environment,
) -> Result<Times> {
    let transformer = &model.transformer;
    let lora = model.lora.as_ref().map(|lora| transformer.ready(lora, Use::Forward));
    let mut space = Workspace::default();
    let past = |len: usize| {
        if len == 0 { vec![] } else { vec![Span { slot: 0, len, position: 0 }] }
    };
    let stopped = || Error::new(Kind::Stopped, "the benchmark was stopped");
    let (mut prompt, mut hidden) = (Vec::<Mark>::new(), Vec::new());
    let start = Instant::now();
    for chunk in tokens.chunks(arguments.chunk) {
        let done = prompt.last().map_or(0, |mark| mark.done);
        let mut batch = Batch::default();
        batch.push(chunk, done, done, past(done));
        hidden = transformer.extend_hidden(lora.as_ref(), &batch, cache, &[chunk.len() - 1], &mut space);
        let seconds = start.elapsed().as_secs_f64();
        prompt.push(Mark { done: done + chunk.len(), seconds, layers: space.layer_times() });
        if environment.stopped() {
            return Err(stopped());
        }
    }
    let start = Instant::now();
    for i in 0..arguments.new_tokens {
        let at = tokens.len() + i;
        let mut batch = Batch::default();
        batch.push(&transformer.best(&hidden), at, at, past(at));
        hidden = transformer.extend_hidden(lora.as_ref(), &batch, cache, &[0], &mut space);
        if environment.stopped() {
            return Err(stopped());
        }
    }
    Ok(Times { prompt, decode: start.elapsed().as_secs_f64() })
}

/// Rates of about [`STRETCHES`] stretches of whole chunks.
fn stretches(marks: &[Mark]) -> Vec<Stretch> {
    let mut since = Mark::default();
    let stretch = |part: &[Mark]| {
        let until = part[part.len() - 1];
        let tokens = (until.done - since.done) as f64;
        let milliseconds = |a: f64, b: f64| 1e3 * (b - a) / tokens;
        let stretch = Stretch {
            from: since.done,
            to: until.done,
            tokens_per_s: tokens / (until.seconds - since.seconds),
            windowed_ms_per_token: milliseconds(since.layers.windowed, until.layers.windowed),
            whole_ms_per_token: milliseconds(since.layers.whole, until.layers.whole),
        };
        since = until;
        stretch
    };
    marks.chunks(marks.len().div_ceil(STRETCHES).max(1)).map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_the_prompt_with_their_own_rates() {
        let mark = |i: usize| {
            let layers = LayerTimes { windowed: 0.02 * i as f64, whole: 0.01 * (i * i) as f64 };
            Mark { done: 10 * i, seconds: (i * i) as f64, layers }
        };
        let stretches = stretches(&(1..=25).map(mark).collect::<Vec<_>>());
        assert_eq!((stretches.len(), stretches[0].from, stretches[8].to), (9, 0, 250));
        assert!(stretches.windows(2).all(|two| two[0].to == two[1].from));
        assert!((stretches[0].tokens_per_s - 30.0 / 9.0).abs() < 1e-9);
        assert!((stretches[1].tokens_per_s - 30.0 / 27.0).abs() < 1e-9);
        assert!(stretches.iter().all(|s| (s.windowed_ms_per_token - 2.0).abs() < 1e-9));
        assert!((stretches[1].whole_ms_per_token - 9.0).abs() < 1e-9);
    }
}
