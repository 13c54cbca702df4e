//! Attention of a batch of token runs over keys and values that lie in spans: the token tree's attention.
//!
//! A [`Run`] is a stretch of consecutive query rows. It sees the [`Span`]s of its past whole and its own rows causally.
//! Training passes every segment of a forest as one run whose past is its ancestors; decoding passes one row a run whose
//! past lies in the cache. A window counts positions, never places in storage. The softmax is the ordinary one, computed
//! block of rows by block of rows; the backward pass recomputes it from the saved log-sum-exp (Dao et al. 2022, arXiv 2205.14135).
//!
//! Grouped queries: query head `h` reads key/value head `h · G / H`.
//!
//! Two ways lead to the numbers: `reference` in f32, and `tiles` in bf16 where [`Format::Bf16`] asks for it and the CPU has
//! AVX-512. `plan` says which queries meet which keys there.

#[cfg(test)]
mod cached_tests;
#[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code))]
mod plan;
mod reference;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;

use crate::attention_rows;
use crate::block::Format;
use crate::cached::CachedView;
use crate::pool::Pool;

/// Consecutive keys: `len` of them from `slot`, the first at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// The number format of products. In bf16, queries, keys, values, weights and their gradients are rounded where they are
    /// multiplied; inputs, outputs, sums and the softmax are f32 either way. Where the CPU has no AVX-512, and for rows
    /// that are decoded one by one, f32 is used.
    pub format: Format,
}

/// Memory that passes use again, and what was planned for the runs that were seen last.
#[derive(Debug, Default)]
pub struct Space {
    rows: attention_rows::Space,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    plans: Vec<(Heads, Vec<Run>, Option<plan::Plan>)>,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    tiles: tiles::Space,
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
impl Space {
    /// What the tiles should do, and their memory; `None` where they are not worth it.
    fn tiled(&mut self, runs: &[Run], shape: Heads) -> Option<(&plan::Plan, &mut tiles::Space)> {
        let place = self.plans.iter().position(|(of, ..)| *of == shape);
        let place = place.unwrap_or_else(|| {
            self.plans.push((shape, runs.to_vec(), tiled(runs, shape)));
            self.plans.len() - 1
        });
        let (_, of, plan) = &mut self.plans[place];
        if of != runs {
            (*of, *plan) = (runs.to_vec(), tiled(runs, shape));
        }
        plan.as_ref().map(|plan| (plan, &mut self.tiles))
    }
}

/// The forward pass. `out` and `q` are `[T, H·D]`, `lse [T, H]` (natural log of the sum of exponentials of the scaled
/// scores), `keys` and `values` `[slots, G·D]`.
///
/// # Panics
/// When shapes do not fit, or runs do not cover the rows in order.
pub fn forward(
    out: &mut [f32],
    lse: &mut [f32],
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    runs: &[Run],
    shape: Heads,
) {
    forward_in(&mut Space::default(), (out, lse), q, (keys, values), runs, shape);
}

/// [`forward`] in memory that is used again.
///
/// # Panics
/// As there.
pub fn forward_in(
    space: &mut Space,
    (out, lse): (&mut [f32], &mut [f32]),
    q: &[f32],
    (keys, values): (&[f32], &[f32]),
    runs: &[Run],
    shape: Heads,
) {
    let plain = |x| CachedView::plain(x, shape.kv_heads, shape.head_size);
    let rows = check(q, runs, shape);
    assert_eq!((lse.len(), out.len()), (rows * shape.heads, q.len()));
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if let Some((plan, tiles)) = space.tiled(runs, shape) {
        let keys_and_values = (plain(keys), plain(values));
        tiles::forward(tiles, (out, lse), q, keys_and_values, plan, shape);
        return;
    }
    let _ = space;
    reference::forward(out, lse, q, (plain(keys), plain(values)), runs, shape);
}

/// The forward pass over keys and values of a cache, in whatever format it keeps them: rows that are decoded, and prompts. `out`
/// and `q` are `[T, H·D]`. What is read is what [`forward`] would see if the cache were widened to f32.
///
/// # Panics
/// When shapes do not fit, or runs do not cover the rows in order.
pub fn forward_cached(
    (space, pool): (&mut Space, &Pool),
    out: &mut [f32],
    q: &[f32],
    (keys, values): (CachedView<'_>, CachedView<'_>),
    runs: &[Run],
    shape: Heads,
) {
    let rows = check(q, runs, shape);
    assert_eq!(out.len(), q.len());
    assert_eq!((keys.shape(), values.shape()), ((shape.kv_heads, shape.head_size), keys.shape()));
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if let Some(plan) = tiled_cached(runs, shape) {
        let mut lse = vec![0.0; rows * shape.heads];
        tiles::forward(&mut space.tiles, (out, &mut lse), q, (keys, values), &plan, shape);
        return;
    }
    if runs.iter().all(|run| run.len <= plan::SHORT) {
        let single: Vec<Run> = runs.iter().flat_map(Run::rows).collect();
        return attention_rows::forward((&mut space.rows, pool), out, q, (keys, values), &single, shape);
    }
    let mut lse = vec![0.0; rows * shape.heads];
    reference::forward(out, &mut lse, q, (keys, values), runs, shape);
}

impl Run {
    /// Each of its rows as a run of its own.
    fn rows(&self) -> impl Iterator<Item = Run> {
        (0..self.len).map(|i| {
            let own = Span { slot: self.slot, len: i, position: self.position };
            let past = self.past.iter().copied().chain((i > 0).then_some(own)).collect();
            Run { row: self.row + i, len: 1, position: self.position + i, slot: self.slot + i, past }
        })
    }
}

/// The number of rows, which the runs must cover one after another.
fn check(q: &[f32], runs: &[Run], shape: Heads) -> usize {
    let rows = q.len() / (shape.heads * shape.head_size);
    let mut next = 0;
    for run in runs {
        assert_eq!(run.row, next, "runs of a batch must follow each other");
        next += run.len;
    }
    assert_eq!(next, rows, "runs must cover the batch");
    rows
}

/// What the tiles should do, if they are asked for, there and worth it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn tiled(runs: &[Run], shape: Heads) -> Option<plan::Plan> {
    if runs.iter().all(|run| run.len <= 1) { None } else { tiled_cached(runs, shape) }
}

/// The same where single rows may share what they see.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn tiled_cached(runs: &[Run], shape: Heads) -> Option<plan::Plan> {
    let fits = shape.heads / shape.kv_heads <= plan::COLUMNS;
    if shape.format != Format::Bf16
        || !fits
        || runs.iter().map(|run| run.len).sum::<usize>() <= 1
        || !tiles::available()
    {
        return None;
    }
    Some(plan::Plan::of(runs, shape)).filter(plan::Plan::is_worth_packing)
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
#[derive(Clone, Debug, Default)]
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
///
/// # Panics
/// When shapes do not fit, or runs do not cover the rows in order.
pub fn backward(dout: &[f32], saved: Saved<'_>, runs: &[Run], shape: Heads) -> Gradients {
    let mut gradients = Gradients::default();
    backward_in(&mut Space::default(), &mut gradients, dout, saved, runs, shape);
    gradients
}

/// [`backward`] in memory that is used again; what `gradients` held is of no meaning.
///
/// # Panics
/// As there.
pub fn backward_in(
    space: &mut Space,
    gradients: &mut Gradients,
    dout: &[f32],
    saved: Saved<'_>,
    runs: &[Run],
    shape: Heads,
) {
    let rows = check(saved.q, runs, shape);
    let kv_width = shape.kv_heads * shape.head_size;
    assert_eq!((saved.k.len(), saved.v.len()), (rows * kv_width, rows * kv_width));
    assert_eq!((dout.len(), saved.out.len()), (saved.q.len(), saved.q.len()));
    assert_eq!(saved.lse.len(), rows * shape.heads);
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if let Some((plan, tiles)) = space.tiled(runs, shape) {
        return tiles::backward(tiles, gradients, dout, saved, plan, shape);
    }
    let _ = space;
    *gradients = reference::backward(dout, saved, runs, shape);
}
