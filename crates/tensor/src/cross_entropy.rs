//! Log-probabilities of target tokens under the output head, and their gradient, a block of rows and of the vocabulary at a
//! time: logits live in a core's cache only, and are computed once.
//!
//! `∂ log p(t) / ∂ hidden = W[t] − Σ p(v) W[v]`, so the forward pass sums up the expected row of W beside the online softmax, as
//! attention does with W for keys and for values (Milakov and Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv
//! 2205.14135). The backward pass, for any derivative by the log-probabilities, is then a sum of a few rows.

use crate::block::{Factor, Format, Panels, Right, Rows};
use crate::math::{self, exp};
use crate::matmul::Into;
use crate::pool::Team;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a block.
const ROWS: usize = 256;
/// Columns of the vocabulary that a block meets at a time: with them, hidden states, logits and sums fit into a core's cache.
const COLUMNS: usize = 256;
/// Stretches of the vocabulary that are worked on in parallel: a constant, so that sums do not depend on the number of threads.
const STRETCHES: usize = 8;

/// A token whose log-probability is wanted at a row. Several targets may stand on one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Row of the hidden states.
    pub row: usize,
    /// Token id below V.
    pub token: u32,
}

/// What is known about one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Natural logarithm of the probability.
    pub log_prob: f32,
    /// Whether no other token had a larger logit (the first of equals counts).
    pub is_top: bool,
}

/// Some rows of a head's weight in the forms that products want.
pub struct Piece<'a> {
    /// Right factor of `hidden → logits`, with the column of it that these rows begin at.
    pub forward: (Factor<'a>, usize),
    /// Right factor `[rows, C]` of `weights → expected row`.
    pub backward: Factor<'a>,
}

/// Where a head may unpack a [`Piece`].
#[derive(Debug)]
pub struct Unpacked {
    /// As the file means them, `[rows, C]`.
    pub values: Vec<f32>,
    /// Way to the logits.
    pub forward: Right,
    /// Way back.
    pub backward: Right,
}

/// The output head, a weight `[V, C]`. `model` has it, in whatever number format.
pub trait Head: Sync {
    /// C.
    fn width(&self) -> usize;
    /// V.
    fn vocab(&self) -> usize;
    /// The format of its products.
    fn format(&self) -> Format;
    /// Rows `range` of the weight; the range begins at a multiple of 32 and ends at one or at V.
    fn piece<'a>(&'a self, range: Range<usize>, unpacked: &'a mut Unpacked) -> Piece<'a>;
    /// Row `token` of the weight, `[C]`.
    fn row(&self, token: usize, to: &mut [f32]);
}

/// Memory that passes use again.
#[derive(Debug, Default)]
pub struct Space {
    parts: Vec<Part>,
    hidden: Option<Rows>,
}

/// The largest logit of a row so far, and sums relative to it.
#[derive(Clone, Copy, Debug)]
struct Running {
    top: f32,
    best: usize,
    /// Σ e^(logit − top).
    sum: f32,
    /// The same over the weights as they are multiplied: rounded in bf16.
    rounded: f32,
}

impl Running {
    const EMPTY: Running = Running { top: f32::NEG_INFINITY, best: 0, sum: 0.0, rounded: 0.0 };
}

/// What one stretch of the vocabulary says about a block of rows.
#[derive(Debug)]
struct Part {
    rows: Vec<Running>,
    /// Targets of the block whose token lies in the stretch, with their logits.
    picked: Vec<(usize, f32)>,
    /// `Σ e^(logit − top) W`, `[rows, C]`.
    expected: Panels,
    logits: Panels,
    weights: Rows,
    unpacked: Unpacked,
}

/// A block of rows, with the targets that stand on it.
struct Block<'a> {
    hidden: &'a Rows,
    first: usize,
    targets: &'a [Target],
    /// Whether the expected rows are wanted.
    expected: bool,
}

/// Bytes of the scratch of a head of this width, whatever the number of rows and tokens.
pub fn scratch_bytes(width: usize) -> usize {
    // Sums, logits and their weights; a piece of the head as it is, and both ways.
    STRETCHES * 4 * (ROWS * width + 2 * ROWS * COLUMNS + 3 * COLUMNS * width)
}

/// Index of the largest value, the first of equals; 0 for an empty row.
pub fn argmax(row: &[f32]) -> usize {
    let top = math::max(row);
    row.iter().position(|&x| x == top).unwrap_or(0)
}

/// One [`Score`] per target. `hidden` is `[N, C]`; `targets` are sorted by row. With `expected`, every row's expected row of the
/// weight goes there, `[N, C]`: what [`backward`] needs.
///
/// # Panics
/// When targets are not sorted, lie past the last row or are no tokens.
pub fn forward(
    head: &impl Head,
    hidden: &[f32],
    targets: &[Target],
    mut expected: Option<&mut Vec<f32>>,
    space: &mut Space,
) -> Vec<Score> {
    let (c, v) = (head.width(), head.vocab());
    let rows = hidden.len() / c;
    assert!(targets.iter().all(|t| (t.token as usize) < v), "a target is no token of the vocabulary");
    assert!(targets.is_sorted_by_key(|t| t.row), "targets must be sorted by row");
    assert!(targets.last().is_none_or(|t| t.row < rows), "a target lies past the last row");
    let mut scores = Vec::with_capacity(targets.len());
    if let Some(expected) = &mut expected {
        expected.resize(rows * c, 0.0);
    }
    let (packed, parts) = space.prepare(head.format());
    for first in (0..rows).step_by(ROWS) {
        let end = (first + ROWS).min(rows);
        packed.reset(end - first, c);
        hidden[first * c..end * c].chunks_exact(c).enumerate().for_each(|(i, row)| packed.put(i, 0, row));
        let from = targets.partition_point(|t| t.row < first);
        let targets = &targets[from..targets.partition_point(|t| t.row < end)];
        let block = Block { hidden: packed, first, targets, expected: expected.is_some() };
        let stretch = v.div_ceil(STRETCHES).next_multiple_of(COLUMNS);
        let each = parts.par_iter_mut().with_max_len(1).enumerate();
        each.for_each(|(i, part)| part.run(head, &block, (i * stretch).min(v)..((i + 1) * stretch).min(v)));
        let merged = merge(parts, end - first);
        scores.resize(scores.len() + targets.len(), Score { log_prob: f32::NAN, is_top: false });
        let known = scores.len() - targets.len();
        for &(target, logit) in parts.iter().flat_map(|part| &part.picked) {
            let Running { top, best, sum, .. } = merged[targets[target].row - first];
            let is_top = best == targets[target].token as usize;
            scores[known + target] = Score { log_prob: logit - top - sum.ln(), is_top };
        }
        if let Some(expected) = &mut expected {
            let to = expected[first * c..end * c].par_chunks_exact_mut(c).enumerate();
            to.for_each(|(i, to)| gather(parts, &merged[i], i, to));
        }
    }
    scores
}

/// `∂L/∂hidden [N, C]` into `dhidden` for `d[i] = ∂L/∂log_prob` of target `i`, with the expected rows of the forward pass. The
/// head is frozen and gets no gradient.
pub fn backward(head: &impl Head, expected: &[f32], targets: &[Target], d: &[f32], dhidden: &mut [f32]) {
    assert_eq!((targets.len(), expected.len()), (d.len(), dhidden.len()));
    let c = head.width();
    let rows = dhidden.par_chunks_exact_mut(c).zip(expected.par_chunks_exact(c)).enumerate();
    rows.with_min_len(16).for_each_init(
        || vec![0.0; c],
        |weight, (row, (to, expected))| {
            let start = targets.partition_point(|t| t.row < row);
            let end = targets.partition_point(|t| t.row <= row);
            let total: f32 = d[start..end].iter().sum();
            to.iter_mut().zip(expected).for_each(|(to, e)| *to = -total * e);
            for (target, d) in targets[start..end].iter().zip(&d[start..end]) {
                head.row(target.token as usize, weight);
                math::add_scaled(to, *d, weight);
            }
        },
    );
}

impl Space {
    fn prepare(&mut self, format: Format) -> (&mut Rows, &mut [Part]) {
        let same = matches!(
            (&self.hidden, format),
            (Some(Rows::F32 { .. }), Format::F32) | (Some(Rows::Bf16(_)), Format::Bf16)
        );
        if !same {
            self.hidden = None;
            self.parts = (0..STRETCHES).map(|_| Part::new(format)).collect();
        }
        (self.hidden.get_or_insert_with(|| Rows::new(format)), &mut self.parts)
    }
}

impl Part {
    fn new(format: Format) -> Self {
        Part {
            rows: Vec::new(),
            picked: Vec::new(),
            expected: Panels::default(),
            logits: Panels::default(),
            weights: Rows::new(format),
            unpacked: Unpacked {
                values: Vec::new(),
                forward: Right::new(format),
                backward: Right::new(format),
            },
        }
    }

    /// The whole stretch.
    fn run(&mut self, head: &impl Head, block: &Block<'_>, stretch: Range<usize>) {
        let (n, format) = (block.hidden.shape().0, head.format());
        self.rows.clear();
        self.rows.resize(n, Running::EMPTY);
        self.picked.clear();
        if block.expected {
            self.expected.reset(format, n, head.width());
        }
        for start in stretch.clone().step_by(COLUMNS) {
            let columns = start..(start + COLUMNS).min(stretch.end);
            let Part { rows, picked, expected, logits, weights, unpacked } = self;
            let piece = head.piece(columns.clone(), unpacked);
            logits.reset(format, n, columns.len());
            let (factor, at) = piece.forward;
            logits.product(Into::Set, at, &[(block.hidden, factor)], Team::One);
            for (i, target) in block.targets.iter().enumerate() {
                let token = target.token as usize;
                if columns.contains(&token) {
                    picked.push((i, logits.get(target.row - block.first, token - start)));
                }
            }
            let into = if start == stretch.start { Into::Set } else { Into::Add };
            for (i, running) in rows.iter_mut().enumerate() {
                let factor = soften(logits, i, start, running, format == Format::Bf16);
                if factor != 1.0 && block.expected && into == Into::Add {
                    expected.row_mut(i).for_each(|(_, piece)| scale(piece, factor));
                }
            }
            if block.expected {
                weights.reset(n, columns.len());
                weights.put_panels(0, logits);
                expected.product(into, 0, &[(weights, piece.backward)], Team::One);
            }
        }
    }
}

/// Takes row `i` of a block of logits, whose first column is token `start`, into `running` and makes weights of it. Gives the
/// factor that brings earlier sums to the new maximum.
fn soften(logits: &mut Panels, i: usize, start: usize, running: &mut Running, round: bool) -> f32 {
    let mut top = running.top;
    for (_, piece) in logits.row(i) {
        top = largest(piece, top);
    }
    let mut factor = 1.0;
    if top > running.top {
        let place = logits
            .row(i)
            .find_map(|(column, piece)| piece.iter().position(|&x| x == top).map(|at| column + at));
        running.best = start + place.unwrap_or(0);
        factor = (running.top - top).exp();
        running.sum *= factor;
        running.rounded *= factor;
        running.top = top;
    }
    let mut sums = [[0.0; math::LANES]; 2];
    for (_, piece) in logits.row_mut(i) {
        weigh(piece, top, round, &mut sums);
    }
    running.sum += sums[0].iter().sum::<f32>();
    running.rounded += sums[1].iter().sum::<f32>();
    factor
}

crate::dispatched! {
    /// The largest of `row` and `floor`.
    pub fn largest / largest_on (row: &[f32], floor: f32) -> f32 {
        let top = math::max(row);
        if top > floor { top } else { floor }
    }
}

crate::dispatched! {
    /// `row[i] *= factor`.
    pub fn scale / scale_on (row: &mut [f32], factor: f32) {
        row.iter_mut().for_each(|x| *x *= factor);
    }
}

crate::dispatched! {
    /// Replaces logits by `e^(logit − top)`, rounded to bf16 where a product will do so, and adds both to the lanes of `sums`.
    pub fn weigh / weigh_on (row: &mut [f32], top: f32, round: bool, sums: &mut [[f32; math::LANES]; 2]) {
        if round { weigh_as::<true>(row, top, sums) } else { weigh_as::<false>(row, top, sums) }
    }
}

/// [`weigh`] with or without the rounding, a whole chunk of lanes at a time: the last, shorter one apart, or none of it would become
/// vector instructions.
#[inline(always)]
fn weigh_as<const ROUND: bool>(row: &mut [f32], top: f32, sums: &mut [[f32; math::LANES]; 2]) {
    let [mut exact, mut rounded] = *sums;
    let (chunks, rest) = row.as_chunks_mut::<{ math::LANES }>();
    let weigh = |x: f32| {
        let weight = exp(x - top);
        // To nearest, ties to even: weights are finite and not below zero.
        let bits = weight.to_bits();
        let near = f32::from_bits(bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000);
        (weight, if ROUND { near } else { weight })
    };
    for chunk in chunks {
        for lane in 0..math::LANES {
            let (weight, value) = weigh(chunk[lane]);
            exact[lane] += weight;
            rounded[lane] += value;
            chunk[lane] = value;
        }
    }
    for (lane, x) in rest.iter_mut().enumerate() {
        let (weight, value) = weigh(*x);
        exact[lane] += weight;
        rounded[lane] += value;
        *x = value;
    }
    *sums = [exact, rounded];
}

/// The sums of all stretches for each of `rows` rows, relative to the largest logit of all.
fn merge(parts: &[Part], rows: usize) -> Vec<Running> {
    let row = |i: usize| {
        let mut all = Running::EMPTY;
        for part in parts {
            let Running { top, best, .. } = part.rows[i];
            if top > all.top {
                (all.top, all.best) = (top, best);
            }
        }
        for part in parts {
            let Running { top, sum, rounded, .. } = part.rows[i];
            if sum != 0.0 {
                let factor = (top - all.top).exp();
                all.sum += factor * sum;
                all.rounded += factor * rounded;
            }
        }
        all
    };
    (0..rows).map(row).collect()
}

/// The expected row of the weight at row `i` of a block.
fn gather(parts: &[Part], merged: &Running, i: usize, to: &mut [f32]) {
    to.fill(0.0);
    for part in parts {
        let Running { top, sum, .. } = part.rows[i];
        let factor = (top - merged.top).exp() / merged.rounded;
        if sum == 0.0 || factor == 0.0 {
            continue;
        }
        for (column, piece) in part.expected.row(i) {
            math::add_scaled(&mut to[column..column + piece.len()], factor, piece);
        }
    }
}

#[cfg(test)]
#[path = "cross_entropy_tests.rs"]
mod tests;
