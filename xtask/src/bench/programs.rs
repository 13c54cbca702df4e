//! The benchmarks but that of growth: products, training, decoding, and whether fast training learns the same.

use super::tasks::{self, Shape};
use super::{Bench, Ceiling, cargo, median, object};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// The model of all benchmarks.
pub const MODEL: &str = "smollm2-135m-instruct";
/// Rows of banking77 as the peers take them: the recipe of the task puts similar rows before every question.
pub const QUESTION_ALONE: [&str; 2] = ["shots=0", "answers=last"];
/// Rounds in which ours and the peer take turns.
const ROUNDS: usize = 3;

/// Products against PyTorch's: in turns, and the best round of each shape counts on both sides.
pub fn matmul(bench: &Bench) -> Result<(Value, Value), String> {
    cargo(&bench.root, &["build", "--release", "--locked", "--workspace", "--example", "matmul_speed"])?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).to_string();
    let program = bench.root.join("target/release/examples/matmul_speed");
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(object(Command::new(&program).args([threads.as_str(), "bf16"]))?);
        if let Some(python) = &bench.python {
            let mut command = Command::new(python);
            // Its threads stay on cores of their own; unbound, two of them may share one for a whole run.
            command.env("OMP_PROC_BIND", "true").env("OMP_PLACES", "cores");
            command.arg(bench.root.join("bench/peers/matmul_torch.py")).arg(&threads);
            peer.push(object(&mut command)?);
        }
    }
    let (best_ours, best_peer) = (best(&ours), best(&peer));
    let share = mean(&best_ours).map(|rate| rate / bench.ceiling.gflop_per_s);
    println!("  {:.0} % of the ceiling, geometric mean", 100.0 * share.unwrap_or(f64::NAN));
    let ratios: Vec<f64> = best_ours.iter().zip(&best_peer).map(|(a, b)| a / b).collect();
    let results = json!({"gflop_per_s": best_ours, "geometric_mean": mean(&best_ours), "share_of_arithmetic": share,
        "peer_gflop_per_s": best_peer, "peer_geometric_mean": mean(&best_peer), "ratios": ratios,
        "ratio": mean(&ratios), "rounds": {"ours": ours, "peer": peer}});
    if let Some(ratio) = results["ratio"].as_f64() {
        println!("  ours / PyTorch, geometric mean: {ratio:.2}");
    }
    Ok((json!({"threads": threads, "rounds": ROUNDS, "python": bench.python.is_some()}), results))
}

/// The best rate of every shape over the rounds.
fn best(rounds: &[Value]) -> Vec<f64> {
    let rates = |round: &Value| -> Vec<f64> {
        let shapes = round["shapes"].as_array().cloned().unwrap_or_default();
        shapes.iter().filter_map(|shape| shape["gflop_per_s"].as_f64()).collect()
    };
    let all: Vec<Vec<f64>> = rounds.iter().map(rates).collect();
    let shapes = all.first().map_or(0, Vec::len);
    (0..shapes)
        .map(|i| all.iter().filter_map(|round| round.get(i)).fold(0.0, |a: f64, &b| a.max(b)))
        .collect()
}

/// The geometric mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().map(|v| v.ln()).sum();
    (!values.is_empty()).then(|| (sum / values.len() as f64).exp())
}

/// banking77 as the marks have it: six steps a batch size, the first one not counted.
pub fn train(bench: &Bench) -> Result<(Value, Value), String> {
    let (steps, mut results) = (6, Vec::new());
    let task = bench.root.join("tasks/banking77");
    for (batch, memory) in [(8, 768), (32, 768), (64, 768), (64, 300)] {
        let mut set =
            vec![format!("batch={batch}"), format!("steps={steps}"), format!("memory_mib={memory}")];
        set.extend(QUESTION_ALONE.map(String::from));
        let run = training(bench, MODEL, &task, &set, &["--limit", &(batch * steps).to_string()])?;
        let share = run.share(&bench.ceiling);
        println!(
            "  batch {batch}, memory_mib {memory}: {:.1} rows/s, {:.0} % of the ceiling, {} MiB",
            run.rows_per_s(batch),
            100.0 * share,
            run.summary["peak_rss_mib"]
        );
        results.push(json!({"batch": batch, "memory_mib": memory, "rows_per_s": run.rows_per_s(batch),
            "share_of_arithmetic": share, "seconds": run.seconds, "summary": run.summary}));
    }
    Ok((json!({"task": "banking77", "steps": steps}), json!(results)))
}

/// What a training left behind.
pub struct Training {
    /// Its `--json` object.
    pub summary: Value,
    /// Seconds of each step.
    pub seconds: Vec<f64>,
    /// Loss of each step.
    pub losses: Vec<f64>,
}

impl Training {
    /// Rows a second of the middle step after the first, which warms up.
    pub fn rows_per_s(&self, batch: usize) -> f64 {
        batch as f64 / self.step()
    }

    fn step(&self) -> f64 {
        median(self.seconds.get(1..).filter(|s| !s.is_empty()).unwrap_or(&self.seconds)).unwrap_or(f64::NAN)
    }

    /// Share of the ceiling that the middle step's products with weights reach, forward and back: attention, the head, the
    /// adapter and what is computed again are not counted.
    pub fn share(&self, ceiling: &Ceiling) -> f64 {
        let tokens = self.summary["tree_tokens"].as_f64().unwrap_or(f64::NAN) / self.seconds.len() as f64;
        4.0 * ceiling.weights * tokens / self.step() / 1e9 / ceiling.gflop_per_s
    }
}

/// Runs `underdog train` in a fresh folder and reads its metrics.
pub fn training(
    bench: &Bench,
    model: &str,
    task: &Path,
    set: &[String],
    more: &[&str],
) -> Result<Training, String> {
    let out = bench.scratch.join("run");
    let _ = std::fs::remove_dir_all(&out);
    let mut command = Command::new(&bench.underdog);
    command.arg("train").arg(task).args(["--json", "--model", model, "--allow-leakage", "--out"]).arg(&out);
    set.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    let summary = object(command.args(more))?;
    let path = out.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let all = |key: &str| lines.iter().filter_map(|line| line[key].as_f64()).collect::<Vec<f64>>();
    let summary_without_paths = |mut summary: Value| {
        summary.as_object_mut().map(|object| object.shift_remove("adapter"));
        summary
    };
    Ok(Training { seconds: all("seconds"), losses: all("loss"), summary: summary_without_paths(summary) })
}

/// `underdog bench decode`.
pub fn decode(bench: &Bench) -> Result<(Value, Value), String> {
    let repeats = 5;
    let mut command = Command::new(&bench.underdog);
    let rounds: Result<Vec<Value>, String> = (0..ROUNDS)
        .map(|_| {
            command = Command::new(&bench.underdog);
            object(command.args([
                "bench",
                "decode",
                "--json",
                "--model",
                MODEL,
                "--repeats",
                &repeats.to_string(),
            ]))
        })
        .collect();
    Ok((json!({"model": MODEL, "repeats": repeats, "rounds": ROUNDS}), json!(rounds?)))
}

/// How far the smoothed loss of a fast format may be from that of f32.
const APART: f64 = 0.01;

/// 100 steps on banking77 without its list of intents in every precision, few rows a step and more; says where the smoothed
/// curves are further apart than the mark allows.
pub fn loss(bench: &Bench) -> Result<(Value, Value), String> {
    let (steps, batches, window) = (100, [4, 16], 10);
    let task = tasks::write(&bench.scratch.join("loss"), Shape { rows: 1, prompt: 1, shared: 0.0 })?;
    let rows = bench.root.join("tasks/banking77/train.jsonl").display().to_string();
    let mut results = Vec::new();
    for batch in batches {
        let mut curves = serde_json::Map::new();
        for precision in ["f32", "bf16", "native"] {
            let set = [format!("precision={precision}"), format!("batch={batch}"), format!("steps={steps}")];
            let run = training(bench, MODEL, &task, &set, &["--data", &rows])?;
            curves.insert(precision.into(), json!(run.losses));
        }
        let mut distance = serde_json::Map::new();
        for name in ["bf16", "native"] {
            let pairs = smooth(&curves[name], window).into_iter().zip(smooth(&curves["f32"], window));
            let far = pairs.fold(0.0, |worst: f64, (a, b)| worst.max((a / b - 1.0).abs()));
            let verdict = if far <= APART { "reached" } else { "missed" };
            println!(
                "  {batch} rows a step, {name}: at most {:.2} % from f32, smoothed; mark {:.0} % {verdict}",
                100.0 * far,
                100.0 * APART
            );
            distance.insert(name.into(), json!(far));
        }
        results.push(json!({"batch": batch, "distance": distance, "losses": curves}));
    }
    Ok((
        json!({"steps": steps, "batches": batches, "window": window, "rows": "tasks/banking77/train.jsonl"}),
        json!(results),
    ))
}

/// Means over the last `window` values, from the first full window on.
fn smooth(values: &Value, window: usize) -> Vec<f64> {
    let values: Vec<f64> = values.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    values.windows(window).map(|w| w.iter().sum::<f64>() / window as f64).collect()
}
