//! Attention in f32 on the products of [`crate::matmul`]: the reference of the tiles, and the way on a CPU without them.
//!
//! One block of rows after another, all scores of a block at once. What the numbers mean is said in the parent module.

use super::{Gradients, Heads, Run, Saved, Span};
use crate::cached::CachedView;
use crate::math::{self, add_scaled, exp_row};
use crate::matmul::{Into, Mat, MatMut, Threads, matmul};
use rayon::prelude::*;

/// Query rows that are handled together.
const BLOCK: usize = 64;
/// Accumulators of the keys' and values' gradients. A constant, so that sums do not depend on the number of threads.
const PARTS: usize = 4;

/// One block of query rows of a run, with every key that one of them sees.
struct Block {
    row: usize,
    len: usize,
    position: usize,
    spans: Vec<Span>,
    keys: usize,
}

impl Block {
    fn of(run: &Run, from: usize, window: Option<usize>) -> Self {
        let len = BLOCK.min(run.len - from);
        let position = run.position + from;
        let own = Span { slot: run.slot, len: from + len, position: run.position };
        let oldest = window.map_or(0, |w| (position + 1).saturating_sub(w));
        let clip = |span: &Span| {
            let cut = oldest.saturating_sub(span.position).min(span.len);
            Span { slot: span.slot + cut, len: span.len - cut, position: span.position + cut }
        };
        let spans: Vec<Span> = run.past.iter().chain([&own]).map(clip).filter(|s| s.len > 0).collect();
        let keys = spans.iter().map(|s| s.len).sum();
        Block { row: run.row + from, len, position, spans, keys }
    }

    /// Sets the scores of unseen keys to −∞. `scores` is `[rows, keys]`.
    fn mask(&self, scores: &mut [f32], window: Option<usize>) {
        let last = self.position + self.len - 1;
        let mut column = 0;
        for span in &self.spans {
            let end = span.position + span.len;
            if end > self.position + 1 {
                for (i, row) in scores.chunks_exact_mut(self.keys).enumerate() {
                    let seen = (self.position + i + 1).saturating_sub(span.position).min(span.len);
                    row[column + seen..column + span.len].fill(f32::NEG_INFINITY);
                }
            }
            if let Some(w) = window.filter(|w| span.position + w <= last) {
                for (i, row) in scores.chunks_exact_mut(self.keys).enumerate() {
                    let past = (self.position + i + 1).saturating_sub(w + span.position).min(span.len);
                    row[column..column + past].fill(f32::NEG_INFINITY);
                }
            }
            column += span.len;
        }
    }
}

fn blocks(runs: &[Run], window: Option<usize>) -> Vec<Block> {
    let of = |run| {
        (0..)
            .step_by(BLOCK)
            .take_while(move |&from| from < Run::len(run))
            .map(move |from| Block::of(run, from, window))
    };
    runs.iter().flat_map(of).collect()
}

impl Run {
    fn len(&self) -> usize {
        self.len
    }
}

/// Splits `x` of `width` values a row into the rows of each block.
fn by_block<'a>(blocks: &[Block], mut x: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
    let mut parts = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (part, rest) = x.split_at_mut(block.len * width);
        parts.push(part);
        x = rest;
    }
    parts
}

/// See [`super::forward`].
pub(super) fn forward(
    out: &mut [f32],
    lse: &mut [f32],
    q: &[f32],
    (keys, values): (CachedView<'_>, CachedView<'_>),
    runs: &[Run],
    shape: Heads,
) {
    let Heads { heads, kv_heads, head_size: d, scale, window, .. } = shape;
    let (width, per_group) = (heads * d, heads / kv_heads);
    let blocks = blocks(runs, window);
    let outs = by_block(&blocks, out, width);
    let lses = by_block(&blocks, lse, heads);
    let tasks: Vec<_> = blocks.iter().zip(outs).zip(lses).collect();
    let scratch = || (Vec::new(), Vec::new());
    tasks.into_par_iter().for_each_init(scratch, |(scores, wide), ((block, out), lse)| {
        let (scores, wide): (&mut Vec<f32>, &mut Vec<f32>) = (scores, wide);
        // A single row's heads of one group are themselves rows of a matrix: one product serves them all.
        let (count, queries, stride) =
            if block.len == 1 { (kv_heads, per_group, d) } else { (heads, block.len, width) };
        scores.resize(queries * block.keys, 0.0);
        for unit in 0..count {
            let first = unit * (heads / count);
            let kv = first / per_group;
            let query = Mat::strided(&q[block.row * width + first * d..], queries, d, stride);
            let mut column = 0;
            for span in &block.spans {
                let k = keys.rows(span, kv, wide);
                let c = MatMut::strided(&mut scores[column..], queries, span.len, block.keys);
                matmul(c, Into::Set, scale, query, k.t(), Threads::One);
                column += span.len;
            }
            if block.len > 1 {
                block.mask(scores, window);
            }
            let sums: Vec<f32> = scores
                .chunks_exact_mut(block.keys)
                .enumerate()
                .map(|(i, row)| {
                    let (top, sum) = exp_row(row);
                    let place = if block.len == 1 { first + i } else { i * heads + first };
                    lse[place] = top + sum.ln();
                    sum
                })
                .collect();
            let mut column = 0;
            for (index, span) in block.spans.iter().enumerate() {
                let p = Mat::strided(&scores[column..], queries, span.len, block.keys);
                let v = values.rows(span, kv, wide);
                let into = if index == 0 { Into::Set } else { Into::Add };
                matmul(
                    MatMut::strided(&mut out[first * d..], queries, d, stride),
                    into,
                    1.0,
                    p,
                    v,
                    Threads::One,
                );
                column += span.len;
            }
            for (i, sum) in sums.into_iter().enumerate() {
                out[first * d + i * stride..][..d].iter_mut().for_each(|x| *x /= sum);
            }
        }
    });
}

/// See [`super::backward`].
pub(super) fn backward(dout: &[f32], saved: Saved<'_>, runs: &[Run], shape: Heads) -> Gradients {
    let width = shape.heads * shape.head_size;
    let blocks = blocks(runs, shape.window);
    let mut dq = vec![0.0; saved.q.len()];
    let parts = by_block(&blocks, &mut dq, width);
    let total: usize = blocks.iter().map(|b| b.len * b.keys).sum();
    let mut tasks: Vec<Vec<(&Block, &mut [f32])>> = (0..PARTS).map(|_| Vec::new()).collect();
    let mut done = 0;
    for (block, part) in blocks.iter().zip(parts) {
        tasks[done * PARTS / total.max(1)].push((block, part));
        done += block.len * block.keys;
    }
    let sums: Vec<(Vec<f32>, Vec<f32>)> = tasks
        .into_par_iter()
        .with_max_len(1)
        .map(|task| {
            let (mut dk, mut dv) = (vec![0.0; saved.k.len()], vec![0.0; saved.v.len()]);
            let mut scratch = Scratch::default();
            for (block, dq) in task {
                block_backward(block, dout, saved, shape, dq, &mut dk, &mut dv, &mut scratch);
            }
            (dk, dv)
        })
        .collect();
    let mut sums = sums.into_iter();
    let (mut dk, mut dv) = sums.next().unwrap_or_default();
    for (more_k, more_v) in sums {
        add_scaled(&mut dk, 1.0, &more_k);
        add_scaled(&mut dv, 1.0, &more_v);
    }
    Gradients { dq, dk, dv }
}

#[derive(Default)]
struct Scratch {
    p: Vec<f32>,
    dp: Vec<f32>,
}

crate::dispatched! {
    /// One row: `p` from scores to probabilities by the saved log-sum-exp, `dp` from ∂L/∂p to ∂L/∂score = p (∂L/∂p − mean), with
    /// the mean of ∂L/∂p by the probabilities. It is summed up from the value of the most probable key on: where a row sees a single
    /// key, the gradient is 0 and not what rounding leaves of it.
    pub fn row_backward / row_backward_on (p: &mut [f32], dp: &mut [f32], lse: f32) {
        assert_eq!(p.len(), dp.len());
        let top = math::max(p);
        let pivot = p.iter().position(|score| *score == top).map_or(0.0, |j| dp[j]);
        for j in 0..p.len() {
            p[j] = math::exp(p[j] - lse);
            dp[j] -= pivot;
        }
        let mean = math::dot(p, dp) / math::sum_over([p], |[p]| p);
        for j in 0..p.len() {
            dp[j] = p[j] * (dp[j] - mean);
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn block_backward(
    block: &Block,
    dout: &[f32],
    saved: Saved<'_>,
    shape: Heads,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
    scratch: &mut Scratch,
) {
    let Heads { heads, kv_heads, head_size: d, scale, window, .. } = shape;
    let (width, kv_width) = (heads * d, kv_heads * d);
    let (rows, n) = (block.len, block.keys);
    let Scratch { p, dp } = scratch;
    p.resize(rows * n, 0.0);
    dp.resize(rows * n, 0.0);
    for head in 0..heads {
        let kv = head / (heads / kv_heads) * d;
        let at = block.row * width + head * d;
        let q = Mat::strided(&saved.q[at..], rows, d, width);
        let dy = Mat::strided(&dout[at..], rows, d, width);
        let mut column = 0;
        for span in &block.spans {
            let from = span.slot * kv_width + kv;
            let k = Mat::strided(&saved.k[from..], span.len, d, kv_width);
            let v = Mat::strided(&saved.v[from..], span.len, d, kv_width);
            matmul(
                MatMut::strided(&mut p[column..], rows, span.len, n),
                Into::Set,
                scale,
                q,
                k.t(),
                Threads::One,
            );
            matmul(
                MatMut::strided(&mut dp[column..], rows, span.len, n),
                Into::Set,
                1.0,
                dy,
                v.t(),
                Threads::One,
            );
            column += span.len;
        }
        block.mask(p, window);
        for i in 0..rows {
            let lse = saved.lse[(block.row + i) * heads + head];
            row_backward(&mut p[i * n..(i + 1) * n], &mut dp[i * n..(i + 1) * n], lse);
        }
        let mut column = 0;
        for (index, span) in block.spans.iter().enumerate() {
            let from = span.slot * kv_width + kv;
            let k = Mat::strided(&saved.k[from..], span.len, d, kv_width);
            let ds = Mat::strided(&dp[column..], rows, span.len, n);
            let weights = Mat::strided(&p[column..], rows, span.len, n);
            let into = if index == 0 { Into::Set } else { Into::Add };
            matmul(MatMut::strided(&mut dq[head * d..], rows, d, width), into, scale, ds, k, Threads::One);
            matmul(
                MatMut::strided(&mut dk[from..], span.len, d, kv_width),
                Into::Add,
                scale,
                ds.t(),
                q,
                Threads::One,
            );
            matmul(
                MatMut::strided(&mut dv[from..], span.len, d, kv_width),
                Into::Add,
                1.0,
                weights.t(),
                dy,
                Threads::One,
            );
            column += span.len;
        }
    }
}
