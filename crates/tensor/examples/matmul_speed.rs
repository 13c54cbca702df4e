//! How fast products of the training shapes are, as a layer computes them: a frozen weight lies packed, groups of rows go to the
//! threads, each a block at a time. Rows in bf16 lie ready in the one figure, as a norm leaves them; in the other they come in f32 and
//! are rounded and packed first. Prints one JSON object: `cargo xtask bench matmul` keeps it.
//!
//! The first argument is the number of threads, without one it is one a core; the second is `f32` or `bf16`, without it what is
//! fastest here.

#![allow(clippy::print_stdout, reason = "a program to be run by hand and by xtask")]

use rayon::prelude::*;
use std::time::{Duration, Instant};
use underdog_tensor::block::{Format, Panels, Right, Rows};
use underdog_tensor::ceilings::bf16_product;
use underdog_tensor::matmul::{Into, Mat, MatMut, Threads, matmul};
use underdog_tensor::pool::{Pool, Team};
use underdog_tensor::tiles;

/// Rows of a step's parts.
const ROWS: [usize; 3] = [256, 1024, 2048];
/// Inner dimension and columns: attention, MLP both ways, head.
const SHAPES: [(usize, usize); 5] = [(576, 576), (576, 192), (576, 1536), (1536, 576), (576, 49152)];
/// Rows that one block of a layer takes, and groups that a layer makes.
const BLOCK: usize = 256;
const GROUPS: usize = 4;
/// Columns of the head that are worked on at one time.
const SLICE: usize = 512;

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(cores);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
    let format = match std::env::args().nth(2).as_deref() {
        Some("f32") => Format::F32,
        Some("bf16") => Format::Bf16,
        _ if tiles::amx_available() => Format::Bf16,
        _ => Format::F32,
    };
    let ceiling = bf16_product(&Pool::new(threads), Duration::from_millis(400));
    let mut lines = Vec::new();
    for rows in ROWS {
        for (k, n) in SHAPES {
            let ([seconds, packing], error) = pool.install(|| measure(format, rows, k, n));
            let rate = |seconds: f64| 2.0 * (rows * k * n) as f64 / seconds / 1e9;
            let (rate, with_packing) = (rate(seconds[0]), rate(packing[0]));
            let share = format!("{:.3}", rate * 1e9 / ceiling);
            lines.push(format!(
                "{{\"rows\":{rows},\"k\":{k},\"n\":{n},\"gflop_per_s\":{rate:.1},\"share_of_ceiling\":{share},\
                 \"gflop_per_s_from_f32\":{with_packing:.1},\"error\":{error:.2e},\"seconds\":{seconds:?}}}"
            ));
        }
    }
    let ceiling = format!("{:.1}", ceiling / 1e9);
    println!(
        "{{\"format\":\"{format:?}\",\"threads\":{threads},\"ceiling_gflop_per_s\":{ceiling},\"shapes\":[{}]}}",
        lines.join(",")
    );
}

/// Rows of one group, block by block, and its scratch.
struct Group {
    blocks: Vec<(usize, usize, Rows)>,
    out: Panels,
}

/// Seconds of the calls, the shortest first, of products alone and with the rows packed; and the relative error of a row.
fn measure(format: Format, rows: usize, k: usize, n: usize) -> ([Vec<f64>; 2], f64) {
    let value = |i: usize| ((i * 7919) % 1021) as f32 / 1021.0 - 0.5;
    let x: Vec<f32> = (0..rows * k).map(value).collect();
    let w: Vec<f32> = (0..n * k).map(|i| value(i + 13)).collect();
    let weight = Right::of_transposed(format, w.clone(), k, n, 1.0);
    let strip = (rows / GROUPS).next_multiple_of(32);
    let mut groups: Vec<Group> = (0..rows)
        .step_by(strip)
        .map(|start| {
            let end = (start + strip).min(rows);
            let block = |at: usize| (at, BLOCK.min(end - at), Rows::new(format));
            Group { blocks: (start..end).step_by(BLOCK).map(block).collect(), out: Panels::default() }
        })
        .collect();
    let mut run = |packing: bool| {
        timed(|| {
            groups.par_iter_mut().for_each(|group| product(format, group, packing.then_some(&x), &weight))
        })
    };
    let packing = run(true);
    let alone = run(false);
    ([alone, packing], error(&groups[0], &x, &w, (k, n)))
}

fn timed(mut call: impl FnMut()) -> Vec<f64> {
    (0..3).for_each(|_| call());
    let (since, mut seconds) = (Instant::now(), Vec::new());
    while seconds.len() < 5 || (since.elapsed() < Duration::from_millis(150) && seconds.len() < 200) {
        let start = Instant::now();
        call();
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    seconds.truncate(9);
    seconds
}

/// The rows of a group, column slice by column slice, so that what is written stays in cache as in a layer.
fn product(format: Format, group: &mut Group, x: Option<&Vec<f32>>, weight: &Right) {
    let (k, n) = weight.shape();
    for (first, rows, left) in &mut group.blocks {
        if let Some(x) = x {
            left.reset(*rows, k);
            (0..*rows).for_each(|i| left.put(i, 0, &x[(*first + i) * k..][..k]));
        }
        for column in (0..n).step_by(SLICE) {
            group.out.reset(format, *rows, SLICE.min(n - column));
            group.out.product(Into::Set, column, &[(&*left, weight.factor())], Team::One);
        }
    }
}

/// The first row of the last slice of the last block of a group against f32, relative to the largest value.
fn error(group: &Group, x: &[f32], w: &[f32], (k, n): (usize, usize)) -> f64 {
    let columns = group.out.shape().1;
    let first = group.blocks.last().map_or(0, |block| block.0);
    let mut want = vec![0.0; columns];
    let b = Mat::new(&w[(n - columns) * k..], columns, k);
    let c = MatMut::new(&mut want, 1, columns);
    matmul(c, Into::Set, 1.0, Mat::new(&x[first * k..][..k], 1, k), b.t(), Threads::One);
    let mut got = vec![0.0; columns];
    group.out.copy_row(0, &mut got);
    let largest = want.iter().fold(0.0f32, |a, v| a.max(v.abs()));
    let difference = got.iter().zip(&want).fold(0.0f32, |a, (g, w)| a.max((g - w).abs()));
    f64::from(difference / largest)
}
