//! Attention of a batch of token runs over keys and values that lie in spans: the token tree's attention.
//!
//! A [`Run`] is a stretch of consecutive query rows. It sees the [`Span`]s of its past whole and its own rows causally.
//! Training passes every segment of a forest as one run whose past is its ancestors; decoding passes one row a run whose
//! past lies in the cache. A window counts positions, never places in storage. The softmax is the ordinary one, computed
//! block of rows by block of rows; the backward pass recomputes it from the saved log-sum-exp (Dao et al. 2022, arXiv 2205.14135).
//!
//! Grouped queries: query head `h` reads key/value head `h · G / H`.

use crate::math::{self, add_scaled, exp_row};
use crate::matmul::{Into, Mat, MatMut, Threads, matmul};
use rayon::prelude::*;

/// Query rows that are handled together.
const BLOCK: usize = 64;
/// Accumulators of the keys' and values' gradients. A constant, so that sums do not depend on the number of threads.
const PARTS: usize = 4;

/// Consecutive keys: `len` of them from `slot`, the first at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Index of the first key in the key storage.
    pub slot: usize,
    /// Number of keys.
    pub len: usize,
    /// Position of the first key in its sequence.
    pub position: usize,
}

/// Consecutive query rows whose own keys lie at `slot..slot + len`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// First row of the batch. Runs of a batch follow each other without a gap.
    pub row: usize,
    /// Number of rows.
    pub len: usize,
    /// Position of the first row in its sequence.
    pub position: usize,
    /// Where the run's own keys lie.
    pub slot: usize,
    /// What lies before the run in its sequence, oldest first.
    pub past: Vec<Span>,
}

/// What the heads look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// H, query heads; a multiple of G.
    pub heads: usize,
    /// G, key/value heads.
    pub kv_heads: usize,
    /// D.
    pub head_size: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// A key is seen while `query position − key position < window`.
    pub window: Option<usize>,
}

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

fn blocks(runs: &[Run], window: Option<usize>, rows: usize) -> Vec<Block> {
    let mut next = 0;
    for run in runs {
        assert_eq!(run.row, next, "runs of a batch must follow each other");
        next += run.len;
    }
    assert_eq!(next, rows, "runs must cover the batch");
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

/// The forward pass. `out` and `q` are `[T, H·D]`, `lse [T, H]` (natural log of the sum of exponentials of the scaled
/// scores), `keys` and `values` `[slots, G·D]`.
pub fn forward(
    out: &mut [f32],
    lse: &mut [f32],
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    runs: &[Run],
    shape: Heads,
) {
    let Heads { heads, kv_heads, head_size: d, scale, window } = shape;
    let (width, kv_width, per_group) = (heads * d, kv_heads * d, heads / kv_heads);
    let rows = q.len() / width;
    assert_eq!((lse.len(), out.len()), (rows * heads, q.len()));
    let blocks = blocks(runs, window, rows);
    let outs = by_block(&blocks, out, width);
    let lses = by_block(&blocks, lse, heads);
    let tasks: Vec<_> = blocks.iter().zip(outs).zip(lses).collect();
    tasks.into_par_iter().for_each_init(Vec::new, |scores: &mut Vec<f32>, ((block, out), lse)| {
        // A single row's heads of one group are themselves rows of a matrix: one product serves them all.
        let (count, queries, stride) =
            if block.len == 1 { (kv_heads, per_group, d) } else { (heads, block.len, width) };
        scores.resize(queries * block.keys, 0.0);
        for unit in 0..count {
            let first = unit * (heads / count);
            let kv = first / per_group * d;
            let query = Mat::strided(&q[block.row * width + first * d..], queries, d, stride);
            let mut column = 0;
            for span in &block.spans {
                let k = Mat::strided(&keys[span.slot * kv_width + kv..], span.len, d, kv_width);
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
                let v = Mat::strided(&values[span.slot * kv_width + kv..], span.len, d, kv_width);
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

/// What the forward pass used and made.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// Rotated queries `[T, H·D]`.
    pub q: &'a [f32],
    /// Rotated keys `[T, G·D]`.
    pub k: &'a [f32],
    /// Values `[T, G·D]`.
    pub v: &'a [f32],
    /// The output `[T, H·D]`.
    pub out: &'a [f32],
    /// Log-sum-exp `[T, H]`.
    pub lse: &'a [f32],
}

/// Gradients of queries `[T, H·D]`, keys and values `[T, G·D]`.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// ∂L/∂q.
    pub dq: Vec<f32>,
    /// ∂L/∂k, summed over all rows that see the key.
    pub dk: Vec<f32>,
    /// ∂L/∂v, likewise.
    pub dv: Vec<f32>,
}

/// The backward pass for `dout = ∂L/∂out [T, H·D]`, where every key belongs to a row of the batch (`slot` = row).
/// Gradients of shared keys are summed in f32 in a fixed order, whatever the number of threads.
pub fn backward(dout: &[f32], saved: Saved<'_>, runs: &[Run], shape: Heads) -> Gradients {
    let width = shape.heads * shape.head_size;
    let rows = saved.q.len() / width;
    let blocks = blocks(runs, shape.window, rows);
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
    /// One row: `p` from scores to probabilities by the saved log-sum-exp, `dp` from ∂L/∂p to ∂L/∂score.
    pub fn row_backward / row_backward_on (p: &mut [f32], dp: &mut [f32], lse: f32, delta: f32) {
        assert_eq!(p.len(), dp.len());
        for j in 0..p.len() {
            let weight = math::exp(p[j] - lse);
            p[j] = weight;
            dp[j] = weight * (dp[j] - delta);
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
    let Heads { heads, kv_heads, head_size: d, scale, window } = shape;
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
            let delta = math::dot(&dout[at + i * width..][..d], &saved.out[at + i * width..][..d]);
            let lse = saved.lse[(block.row + i) * heads + head];
            row_backward(&mut p[i * n..(i + 1) * n], &mut dp[i * n..(i + 1) * n], lse, delta);
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

#[cfg(test)]
mod tests {
    use super::*;
    use underdog_testkit::{assert_gradient, hashed_values};

    /// A root of 3 tokens with two children of 2 and 70 tokens: more than one block, two branches.
    fn forest() -> Vec<Run> {
        let root = Span { slot: 0, len: 3, position: 0 };
        vec![
            Run { row: 0, len: 3, position: 0, slot: 0, past: vec![] },
            Run { row: 3, len: 2, position: 3, slot: 3, past: vec![root] },
            Run { row: 5, len: 70, position: 3, slot: 5, past: vec![root] },
        ]
    }

    /// Σ dout · attention(q, k, v), straight from the definition in f64.
    fn definition(q: &[f64], k: &[f64], v: &[f64], dout: &[f32], runs: &[Run], shape: Heads) -> f64 {
        let Heads { heads, kv_heads, head_size: d, scale, window } = shape;
        let mut sum = 0.0;
        for run in runs {
            for i in 0..run.len {
                let position = run.position + i;
                let own = Span { slot: run.slot, len: run.len, position: run.position };
                let seen: Vec<usize> = run
                    .past
                    .iter()
                    .chain([&own])
                    .flat_map(|s| (0..s.len).map(|j| (s.slot + j, s.position + j)))
                    .filter(|&(_, p)| p <= position && window.is_none_or(|w| position - p < w))
                    .map(|(slot, _)| slot)
                    .collect();
                for h in 0..heads {
                    let g = h / (heads / kv_heads);
                    let at = (run.row + i) * heads * d + h * d;
                    let score = |&s: &usize| -> f64 {
                        (0..d).map(|c| q[at + c] * k[s * kv_heads * d + g * d + c]).sum::<f64>()
                            * scale as f64
                    };
                    let weights: Vec<f64> = seen.iter().map(|s| score(s).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    for (s, w) in seen.iter().zip(&weights) {
                        for c in 0..d {
                            sum += w / total * v[s * kv_heads * d + g * d + c] * dout[at + c] as f64;
                        }
                    }
                }
            }
        }
        sum
    }

    #[test]
    fn forward_and_backward_follow_the_definition_with_and_without_a_window() {
        for window in [None, Some(2), Some(40)] {
            let shape = Heads { heads: 4, kv_heads: 2, head_size: 3, scale: 0.7, window };
            let runs = forest();
            let t = 75;
            let (q, k, v) = (
                hashed_values(3, 0, t * 12, 3.0),
                hashed_values(3, 1, t * 6, 3.0),
                hashed_values(3, 2, t * 6, 3.0),
            );
            let dout = hashed_values(3, 3, t * 12, 2.0);
            let (mut out, mut lse) = (vec![0.0; t * 12], vec![0.0; t * 4]);
            forward(&mut out, &mut lse, &q, &k, &v, &runs, shape);
            let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| x as f64).collect() };
            let (qw, kw, vw) = (wide(&q), wide(&k), wide(&v));
            let got: f64 = out.iter().zip(&dout).map(|(a, b)| (a * b) as f64).sum();
            assert!((got - definition(&qw, &kw, &vw, &dout, &runs, shape)).abs() < 1e-4, "{window:?}");
            let saved = Saved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
            let g = backward(&dout, saved, &runs, shape);
            let some = |x: &[f32]| -> Vec<f32> { x[..60].to_vec() };
            let with = |x: &[f64], all: &[f64]| -> Vec<f64> { x.iter().chain(&all[60..]).copied().collect() };
            assert_gradient("dq", &some(&g.dq), &some(&q), |x| {
                definition(&with(x, &qw), &kw, &vw, &dout, &runs, shape)
            });
            assert_gradient("dk", &some(&g.dk), &some(&k), |x| {
                definition(&qw, &with(x, &kw), &vw, &dout, &runs, shape)
            });
            assert_gradient("dv", &some(&g.dv), &some(&v), |x| {
                definition(&qw, &kw, &with(x, &vw), &dout, &runs, shape)
            });
        }
    }

    #[test]
    fn one_row_at_a_time_is_the_same_as_all_rows_at_once() {
        let shape = Heads { heads: 4, kv_heads: 2, head_size: 8, scale: 0.3, window: Some(5) };
        let (q, k, v) = (
            hashed_values(4, 0, 20 * 32, 3.0),
            hashed_values(4, 1, 20 * 16, 3.0),
            hashed_values(4, 2, 20 * 16, 3.0),
        );
        let whole = [Run { row: 0, len: 20, position: 0, slot: 0, past: vec![] }];
        let (mut want, mut lse) = (vec![0.0; 20 * 32], vec![0.0; 20 * 4]);
        forward(&mut want, &mut lse, &q, &k, &v, &whole, shape);
        for i in 0..20 {
            let past = if i == 0 { vec![] } else { vec![Span { slot: 0, len: i, position: 0 }] };
            let run = [Run { row: 0, len: 1, position: i, slot: i, past }];
            let (mut out, mut one) = (vec![0.0; 32], vec![0.0; 4]);
            forward(&mut out, &mut one, &q[i * 32..(i + 1) * 32], &k, &v, &run, shape);
            for c in 0..32 {
                assert!((out[c] - want[i * 32 + c]).abs() < 1e-6, "row {i} value {c}");
            }
            for h in 0..4 {
                assert!((one[h] - lse[i * 4 + h]).abs() < 1e-5, "row {i} head {h}");
            }
        }
    }
}
