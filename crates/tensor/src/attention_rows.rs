//! Attention of single query rows over a cache, for decoding: the same sums as [`crate::attention`], cut into stretches of
//! keys that the threads of a [`Pool`] take, and put together in a fixed order whatever the number of threads.

use crate::attention::{Heads, Run, Span};
use crate::cached::{CachedView, Element, View};
use crate::math;
use crate::pool::Pool;

/// Keys of one piece of work: with heads of 64 values, their keys and values fit the nearest cache.
const KEYS: usize = 128;
/// Values of a head that are summed in registers.
const LANES: usize = 64;
/// Keys or values in bf16 that are widened at a time, for all query heads that share them.
const WIDE: usize = 32;

/// One piece of work: some keys of one key/value head for one row, and what came of it.
struct Piece {
    row: usize,
    kv_head: usize,
    spans: Vec<Span>,
    /// Of each query head of the group: the largest score, the sum of exponentials, the weighted values.
    top: Vec<f32>,
    sum: Vec<f32>,
    values: Vec<f32>,
    /// `[H/G, keys]`.
    scores: Vec<f32>,
    wide: Vec<f32>,
}

/// Keys whose scores are summed side by side.
const SIDE: usize = 8;

/// `scores[j] = scale · q · k_j` for keys `stride` apart; q is a multiple of 16 long or summed in order at its end.
#[inline(always)]
fn scores_body<T: Element>(scores: &mut [f32], q: &[f32], keys: &[T], stride: usize, scale: f32) {
    let d = q.len();
    let whole = d - d % math::LANES;
    let mut j = 0;
    while j < scores.len() {
        let count = SIDE.min(scores.len() - j);
        // The last keys are scored again rather than one by one where there are enough of them.
        let first = if count < SIDE && scores.len() >= SIDE { scores.len() - SIDE } else { j };
        if scores.len() < SIDE {
            let key = &keys[j * stride..][..d];
            scores[j] = scale * math::sum_by(d, |i| q[i] * key[i].widen());
            j += 1;
            continue;
        }
        let mut sums = [[0.0f32; math::LANES]; SIDE];
        let rows: [&[T]; SIDE] = std::array::from_fn(|i| &keys[(first + i) * stride..][..d]);
        let mut at = 0;
        while at < whole {
            for i in 0..SIDE {
                let ahead = (first + SIDE + i) * stride + at;
                crate::cpu::prefetch(&keys[ahead.min(keys.len())..]);
            }
            let part: &[f32; math::LANES] = q[at..].first_chunk().expect("a whole part");
            for i in 0..SIDE {
                let key: &[T; math::LANES] = rows[i][at..].first_chunk().expect("a whole part");
                for lane in 0..math::LANES {
                    sums[i][lane] += part[lane] * key[lane].widen();
                }
            }
            at += math::LANES;
        }
        // Halves of the lanes are added for all keys at once: as in `math`, the order is that of the lanes.
        let mut eights = [[0.0f32; 8]; SIDE];
        for i in 0..SIDE {
            for lane in 0..8 {
                eights[i][lane] = sums[i][lane] + sums[i][lane + 8];
            }
        }
        let mut turned = [[0.0f32; SIDE]; 8];
        for i in 0..SIDE {
            for lane in 0..8 {
                turned[lane][i] = eights[i][lane];
            }
        }
        let mut total = [0.0f32; SIDE];
        for i in 0..SIDE {
            let [a, b, c, e] = [0, 1, 2, 3].map(|lane| turned[lane][i] + turned[lane + 4][i]);
            total[i] = (a + c) + (b + e);
        }
        for i in 0..SIDE {
            for at in whole..d {
                total[i] += q[at] * rows[i][at].widen();
            }
            scores[first + i] = scale * total[i];
        }
        j = first + SIDE;
    }
}

/// `out += Σ weights[j] · v_j` for values `stride` apart.
#[inline(always)]
fn weighted_body<T: Element>(out: &mut [f32], weights: &[f32], values: &[T], stride: usize) {
    let (blocks, _) = out.as_chunks_mut::<LANES>();
    let whole = blocks.len() * LANES;
    for (index, block) in blocks.iter_mut().enumerate() {
        let mut sums = *block;
        for (j, &weight) in weights.iter().enumerate() {
            let ahead = (j + SIDE) * stride + index * LANES;
            for part in 0..LANES * size_of::<T>() / 64 {
                crate::cpu::prefetch(&values[(ahead + 64 / size_of::<T>() * part).min(values.len())..]);
            }
            let from: &[T; LANES] = values[j * stride + index * LANES..].first_chunk().expect("whole rows");
            for lane in 0..LANES {
                sums[lane] += weight * from[lane].widen();
            }
        }
        *block = sums;
    }
    let rest = &mut out[whole..];
    for (j, &weight) in weights.iter().enumerate() {
        for (i, out) in rest.iter_mut().enumerate() {
            *out += weight * values[j * stride + whole + i].widen();
        }
    }
}

crate::dispatched! {
    /// Scores of f32 keys.
    pub fn scores / scores_on (to: &mut [f32], q: &[f32], keys: &[f32], stride: usize, scale: f32) {
        scores_body(to, q, keys, stride, scale);
    }
}

crate::dispatched! {
    /// Rows of `d` values in bf16, `stride` apart, widened to rows that lie one after another.
    pub fn widen_rows / widen_rows_on (to: &mut [f32], from: &[u16], stride: usize, d: usize) {
        for (i, to) in to.chunks_exact_mut(d).enumerate() {
            let ahead = ((i + SIDE) * stride).min(from.len());
            for line in 0..d.div_ceil(32) {
                crate::cpu::prefetch(&from[(ahead + 32 * line).min(from.len())..]);
            }
            for (to, from) in to.iter_mut().zip(&from[i * stride..][..d]) {
                *to = from.widen();
            }
        }
    }
}

crate::dispatched! {
    /// Scores of 8-bit keys, without the keys' scales.
    pub fn scores_int8 / scores_int8_on (to: &mut [f32], q: &[f32], keys: &[i8], stride: usize, scale: f32) {
        scores_body(to, q, keys, stride, scale);
    }
}

crate::dispatched! {
    /// Weighted sum of f32 values.
    pub fn weighted / weighted_on (out: &mut [f32], weights: &[f32], values: &[f32], stride: usize) {
        weighted_body(out, weights, values, stride);
    }
}

crate::dispatched! {
    /// Weighted sum of 8-bit values, whose scales are in the weights.
    pub fn weighted_int8 / weighted_int8_on (out: &mut [f32], weights: &[f32], values: &[i8], stride: usize) {
        weighted_body(out, weights, values, stride);
    }
}

/// Scores of the keys of a span for one query head.
fn score_span(to: &mut [f32], q: &[f32], keys: CachedView<'_>, span: &Span, kv_head: usize, scale: f32) {
    let (kv_heads, d) = keys.shape();
    let (stride, from) = (kv_heads * d, (span.slot * kv_heads + kv_head) * d);
    match keys.data {
        View::F32(keys) => scores(to, q, &keys[from..], stride, scale),
        View::Bf16(_) => unreachable!("`in_parts` widens"),
        View::Int8(keys, scales) => {
            scores_int8(to, q, &keys[from..], stride, scale);
            let scales = scales[span.slot * kv_heads + kv_head..].iter().step_by(kv_heads);
            to.iter_mut().zip(scales).for_each(|(to, scale)| *to *= scale);
        }
    }
}

/// Adds the weighted values of a span. The weights may be changed.
fn add_span(to: &mut [f32], weights: &mut [f32], values: CachedView<'_>, span: &Span, kv_head: usize) {
    let (kv_heads, d) = values.shape();
    let (stride, from) = (kv_heads * d, (span.slot * kv_heads + kv_head) * d);
    match values.data {
        View::F32(values) => weighted(to, weights, &values[from..], stride),
        View::Bf16(_) => unreachable!("`in_parts` widens"),
        View::Int8(values, scales) => {
            let scales = scales[span.slot * kv_heads + kv_head..].iter().step_by(kv_heads);
            weights.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale);
            weighted_int8(to, weights, &values[from..], stride);
        }
    }
}

/// A span as the sums read it: in bf16 widened, some rows at a time, because several query heads meet the same rows. Calls `act`
/// with a view, the span and the head in it.
fn in_parts(
    view: CachedView<'_>,
    span: &Span,
    kv_head: usize,
    wide: &mut Vec<f32>,
    mut act: impl FnMut(CachedView<'_>, &Span, usize),
) {
    let View::Bf16(values) = view.data else { return act(view, span, kv_head) };
    let (kv_heads, d) = view.shape();
    wide.resize(WIDE * d, 0.0);
    for at in (0..span.len).step_by(WIDE) {
        let part = Span { slot: 0, len: WIDE.min(span.len - at), position: span.position + at };
        let from = ((span.slot + at) * kv_heads + kv_head) * d;
        widen_rows(&mut wide[..part.len * d], &values[from..], kv_heads * d, d);
        act(CachedView::plain(&wide[..part.len * d], 1, d), &part, 0);
    }
}

/// Spans that a row sees, oldest first, cut into stretches of at most [`KEYS`] keys.
fn stretches(run: &Run, window: Option<usize>) -> Vec<Vec<Span>> {
    let oldest = window.map_or(0, |w| (run.position + 1).saturating_sub(w));
    let own = Span { slot: run.slot, len: 1, position: run.position };
    let mut all: Vec<Vec<Span>> = Vec::new();
    let mut room = 0;
    for span in run.past.iter().chain([&own]) {
        let mut cut = oldest.saturating_sub(span.position).min(span.len);
        while cut < span.len {
            if room == 0 {
                all.push(Vec::new());
                room = KEYS;
            }
            let len = room.min(span.len - cut);
            let last = all.len() - 1;
            all[last].push(Span { slot: span.slot + cut, len, position: span.position + cut });
            cut += len;
            room -= len;
        }
    }
    all
}

/// Attention of rows whose runs are of length 1: `out` and `q` are `[T, H·D]`, `keys` and `values` `[slots, G·D]` in
/// any format of a cache, read as they lie.
///
/// # Panics
/// When a run is longer than one row, or shapes do not fit.
pub fn forward(
    pool: &Pool,
    out: &mut [f32],
    q: &[f32],
    (keys, values): (CachedView<'_>, CachedView<'_>),
    runs: &[Run],
    shape: Heads,
) {
    let Heads { heads, kv_heads, head_size: d, scale, window, .. } = shape;
    let (width, group) = (heads * d, heads / kv_heads);
    assert!(out.len() == q.len() && q.len() == runs.len() * width, "one row a run");
    let mut pieces = Vec::new();
    for run in runs {
        assert_eq!(run.len, 1, "one row a run");
        for spans in stretches(run, window) {
            let count: usize = spans.iter().map(|s| s.len).sum();
            pieces.extend((0..kv_heads).map(|kv_head| Piece {
                row: run.row,
                kv_head,
                spans: spans.clone(),
                top: vec![0.0; group],
                sum: vec![0.0; group],
                values: vec![0.0; group * d],
                scores: vec![0.0; group * count],
                wide: Vec::new(),
            }));
        }
    }
    pool.each(&mut pieces, |_, piece| {
        let Piece { row, kv_head, spans, top, sum, values: to, scores, wide } = piece;
        let count = scores.len() / group;
        let q = |query: usize| &q[*row * width + (*kv_head * group + query) * d..][..d];
        let mut at = 0;
        for span in &*spans {
            in_parts(keys, span, *kv_head, wide, |keys, part, head| {
                for (query, scores) in scores.chunks_exact_mut(count).enumerate() {
                    score_span(&mut scores[at..at + part.len], q(query), keys, part, head, scale);
                }
                at += part.len;
            });
        }
        for (query, scores) in scores.chunks_exact_mut(count).enumerate() {
            (top[query], sum[query]) = math::exp_row(scores);
        }
        let mut at = 0;
        for span in &*spans {
            in_parts(values, span, *kv_head, wide, |values, part, head| {
                for (scores, to) in scores.chunks_exact_mut(count).zip(to.chunks_exact_mut(d)) {
                    add_span(to, &mut scores[at..at + part.len], values, part, head);
                }
                at += part.len;
            });
        }
    });
    out.fill(0.0);
    let mut tops = vec![f32::NEG_INFINITY; runs.len() * heads];
    for piece in &pieces {
        for query in 0..group {
            let place = piece.row * heads + piece.kv_head * group + query;
            tops[place] = tops[place].max(piece.top[query]);
        }
    }
    let mut sums = vec![0.0; tops.len()];
    for piece in &pieces {
        for query in 0..group {
            let place = piece.row * heads + piece.kv_head * group + query;
            let share = math::exp(piece.top[query] - tops[place]);
            sums[place] += share * piece.sum[query];
            math::add_scaled(&mut out[place * d..][..d], share, &piece.values[query * d..][..d]);
        }
    }
    for (head, sum) in out.chunks_exact_mut(d).zip(sums) {
        head.iter_mut().for_each(|x| *x /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention;
    use underdog_testkit::{hashed_values, relative_error};

    #[test]
    fn rows_get_what_the_attention_of_the_tree_gives() {
        for (d, heads, kv_heads) in [(64, 9, 3), (24, 4, 1), (256, 4, 1)] {
            for window in [None, Some(40), Some(1)] {
                let slots = 700;
                let past = vec![
                    Span { slot: 300, len: 200, position: 0 },
                    Span { slot: 20, len: 100, position: 200 },
                ];
                let runs = [
                    Run { row: 0, len: 1, position: 300, slot: 650, past: past.clone() },
                    Run { row: 1, len: 1, position: 200, slot: 5, past: past[..1].to_vec() },
                    Run { row: 2, len: 1, position: 0, slot: 7, past: vec![] },
                ];
                let shape = Heads {
                    heads,
                    kv_heads,
                    head_size: d,
                    scale: 0.3,
                    window,
                    format: crate::block::Format::F32,
                };
                let q = hashed_values(3, 0, 3 * heads * d, 2.0);
                let keys = hashed_values(3, 1, slots * kv_heads * d, 2.0);
                let values = hashed_values(3, 2, slots * kv_heads * d, 2.0);
                let (mut want, mut lse) = (vec![0.0; q.len()], vec![0.0; 3 * heads]);
                attention::forward(&mut want, &mut lse, &q, &keys, &values, &runs, shape);
                let view = |x| CachedView::plain(x, kv_heads, d);
                let answers = [1, 2, 3].map(|threads| {
                    let mut out = vec![f32::NAN; q.len()];
                    forward(&Pool::new(threads), &mut out, &q, (view(&keys), view(&values)), &runs, shape);
                    out
                });
                let error = relative_error(&answers[0], &want);
                assert!(error < 1e-6, "D {d} window {window:?}: {error}");
                assert!(answers[1] == answers[0] && answers[2] == answers[0], "threads change nothing");
            }
        }
    }
}
