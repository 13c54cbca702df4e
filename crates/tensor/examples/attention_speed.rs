//! Times attention forward and backward, f32 against bf16, on shapes of training: `attention_speed [threads] [repeats] [all|bf16] [shape]`.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::time::Instant;
use underdog_tensor::attention::{Heads, Run, Saved, Span, backward, forward};
use underdog_tensor::block::Format;

fn run(row: usize, len: usize, past: Vec<Span>) -> Run {
    let position = past.last().map_or(0, |s| s.position + s.len);
    Run { row, len, position, slot: row, past }
}

/// Values between −1 and 1 that look random.
fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Pairs of a query row and a key that it sees.
fn pairs(runs: &[Run], window: Option<usize>) -> usize {
    let row = |position: usize| window.map_or(position + 1, |w| w.min(position + 1));
    runs.iter().map(|run| (0..run.len).map(|i| row(run.position + i)).sum::<usize>()).sum()
}

fn best(repeats: usize, mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..repeats).map(time).fold(f64::INFINITY, f64::min)
}

fn measure(name: &str, runs: &[Run], shape: Heads, repeats: usize) {
    if std::env::args().nth(4).is_some_and(|shape| shape != name) {
        return;
    }
    let rows: usize = runs.iter().map(|run| run.len).sum();
    let (width, kv_width) = (rows * shape.heads * shape.head_size, rows * shape.kv_heads * shape.head_size);
    let (q, k, v) = (values(width, 1), values(kv_width, 2), values(kv_width, 3));
    let dout = values(width, 4);
    let flops = (4 * pairs(runs, shape.window) * shape.heads * shape.head_size) as f64;
    let mut before = (0.0, 0.0);
    let only = std::env::args().nth(3).is_some_and(|format| format == "bf16");
    for format in [Format::F32, Format::Bf16].into_iter().skip(only as usize) {
        let shape = Heads { format, ..shape };
        let (mut out, mut lse) = (vec![0.0; width], vec![0.0; rows * shape.heads]);
        let there = best(repeats, || forward(&mut out, &mut lse, &q, &k, &v, runs, shape));
        let saved = Saved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
        let back = best(repeats, || drop(backward(&dout, saved, runs, shape)));
        if format == Format::F32 {
            before = (there, back);
        }
        println!(
            "{name:34} {format:?}: forward {:8.2} ms {:6.0} GFLOP/s {:5.1} ×, backward {:8.2} ms {:6.0} GFLOP/s {:5.1} ×",
            there * 1e3,
            flops / there / 1e9,
            before.0 / there,
            back * 1e3,
            2.5 * flops / back / 1e9,
            before.1 / back,
        );
    }
}

fn main() {
    underdog_tensor::memory::keep_freed_memory();
    let number = |i, otherwise| std::env::args().nth(i).and_then(|a| a.parse().ok()).unwrap_or(otherwise);
    let (threads, repeats) = (number(1, 2), number(2, 10));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
    let smol =
        Heads { heads: 9, kv_heads: 3, head_size: 64, scale: 0.125, window: None, format: Format::F32 };
    let gemma = Heads { heads: 4, kv_heads: 1, head_size: 256, scale: 0.0625, ..smol };
    let rows: Vec<Run> = (0..6).map(|i| run(600 * i, 600, vec![])).collect();
    let root = Span { slot: 0, len: 560, position: 0 };
    let tree: Vec<Run> = std::iter::once(run(0, 560, vec![]))
        .chain((0..32).map(|i| run(560 + 42 * i, 42, vec![root])))
        .collect();
    let long = [run(0, 4000, vec![])];
    println!("{threads} threads, best of {repeats}");
    pool.install(|| {
        measure("6 × 600", &rows, smol, repeats);
        measure("560 + 32 × 42", &tree, smol, repeats);
        measure("4000", &long, smol, repeats);
        measure("4000, window 512", &long, Heads { window: Some(512), ..smol }, repeats);
        measure("4000, window 512, 4 heads of 256", &long, Heads { window: Some(512), ..gemma }, repeats);
        measure("4000, 4 heads of 256", &long, gemma, repeats);
    });
}
