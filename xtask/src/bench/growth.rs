//! How cost grows: ten times the rows, four times the prompt, more and more of the prompt shared, one thread and two. Training and
//! evaluation of the same made-up rows.

use super::programs::{MODEL, training};
use super::tasks::{self, Shape};
use super::{Bench, object};
use serde_json::{Value, json};
use std::process::Command;

/// Rows of a training step.
const BATCH: usize = 16;
/// Rows of all series but that of rows: a step that warms up and three that are timed.
const ROWS: usize = 4 * BATCH;
/// The prompt of all series but that of prompts, in words.
const PROMPT: usize = 256;

/// One point: which series, where on its axis, and what is run. `threads` is `None` for all cores.
struct Point {
    series: &'static str,
    x: f64,
    shape: Shape,
    threads: Option<usize>,
}

fn points() -> Vec<Point> {
    let shape = |rows, prompt, shared| Shape { rows, prompt, shared };
    let point = |series, x, shape| Point { series, x, shape, threads: None };
    let mut points = Vec::new();
    for rows in [BATCH, 4 * BATCH, 10 * BATCH] {
        points.push(point("rows", rows as f64, shape(rows, 64, 0.5)));
    }
    for prompt in [64, 128, 256] {
        points.push(point("prompt", prompt as f64, shape(ROWS, prompt, 0.0)));
    }
    for shared in [0.0, 0.5, 0.8, 0.95] {
        points.push(point("shared", shared, shape(ROWS, PROMPT, shared)));
    }
    for threads in [1, 2] {
        let shape = shape(ROWS, PROMPT, 0.5);
        points.push(Point { series: "threads", x: threads as f64, shape, threads: Some(threads) });
    }
    points
}

/// Measures all points, one after the other, as often as stated.
pub fn measure(bench: &Bench) -> Result<(Value, Value), String> {
    let points = points();
    let mut results: Vec<Value> = points
        .iter()
        .map(|p| {
            json!({"series": p.series, "x": p.x, "rows": p.shape.rows, "prompt_words": p.shape.prompt,
            "shared": p.shape.shared, "threads": p.threads, "train": [], "eval": []})
        })
        .collect();
    for _ in 0..bench.repeats {
        for (point, result) in points.iter().zip(&mut results) {
            let (train, eval) = both(bench, point)?;
            println!(
                "  {} {}: {} rows/s trained, {} evaluated",
                point.series, point.x, train["rows_per_s"], eval["rows_per_s"]
            );
            for (key, value) in [("train", train), ("eval", eval)] {
                if let Some(list) = result[key].as_array_mut() {
                    list.push(value);
                }
            }
        }
    }
    Ok((json!({"model": MODEL, "batch": BATCH, "repeats": bench.repeats, "new_tokens": 8}), json!(results)))
}

fn both(bench: &Bench, point: &Point) -> Result<(Value, Value), String> {
    let task = tasks::write(&bench.scratch.join("task"), point.shape)?;
    let threads = point.threads.map(|n| n.to_string());
    let more: Vec<&str> = threads.iter().flat_map(|n| ["--threads", n.as_str()]).collect();
    let set = [format!("batch={BATCH}"), "epochs=1".to_string()];
    let run = training(bench, MODEL, &task, &set, &more)?;
    let total: f64 = run.seconds.iter().sum();
    // All of a run where its length is what grows; else without the first step, which warms up.
    let rate = if point.series == "rows" { point.shape.rows as f64 / total } else { run.rows_per_s(BATCH) };
    let train = json!({"rows_per_s": rate, "total_seconds": total, "seconds": run.seconds,
        // The ceiling is that of all threads.
        "share_of_arithmetic": point.threads.is_none().then(|| run.share(&bench.ceiling)),
        "flat_tokens": run.summary["flat_tokens"], "tree_tokens": run.summary["tree_tokens"],
        "peak_rss_mib": run.summary["peak_rss_mib"]});
    let out = bench.scratch.join("eval");
    let _ = std::fs::remove_dir_all(&out);
    let mut command = Command::new(&bench.underdog);
    command
        .arg("eval")
        .arg(&task)
        .args(["--json", "--allow-leakage", "--model", MODEL, "--out"])
        .arg(&out)
        .args(&more);
    let done = object(&mut command)?;
    let eval = json!({"rows_per_s": done["rows_per_s"], "total_seconds": done["seconds"],
        "prompt_tokens": done["prompt_tokens"], "computed_tokens": done["computed_tokens"],
        "new_tokens": done["new_tokens"], "peak_rss_mib": done["peak_rss_mib"]});
    Ok((train, eval))
}
