//! Attention of single query rows over a cache, for decoding: the same sums as [`crate::attention`], cut into stretches of
//! keys that the threads of a [`Pool`] take, and put together in a fixed order whatever the number of threads.

mod kernel;

use crate::attention::{Heads, Run, Span};
use crate::cached::CachedView;
use crate::math;
use crate::pool::{Pool, share};
use std::ops::Range;

/// Keys of one piece of work: few enough that pieces can be dealt out evenly.
const KEYS: usize = 64;
/// Keys or values that are brought into the nearest cache in f32 at a time, for all query heads that share them.
const ROWS: usize = 32;

/// One piece of work: some keys of one key/value head for one row.
#[derive(Debug)]
struct Piece {
    row: usize,
    kv_head: usize,
    /// Which of [`Space::spans`].
    spans: Range<usize>,
    /// Keys in them.
    count: usize,
}

/// Memory that calls use again.
#[derive(Debug, Default)]
pub struct Space {
    spans: Vec<Span>,
    pieces: Vec<Piece>,
    /// Of each piece and each query head of its group: the largest score, the sum of exponentials, the weighted values `[D]`.
    results: Vec<f32>,
    /// One a thread.
    scratch: Vec<Scratch>,
    /// Of each row and head: the largest score and the sum of exponentials.
    tops: Vec<f32>,
    sums: Vec<f32>,
}

#[derive(Debug, Default)]
struct Scratch {
    /// `[H/G, keys of a piece]`.
    scores: Vec<f32>,
    /// `[ROWS, D]`.
    rows: Vec<f32>,
}

/// What a thread works on.
struct Share<'a> {
    pieces: &'a [Piece],
    results: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl Space {
    /// Cuts what a row sees, oldest first, into stretches of at most [`KEYS`] keys, one piece a key/value head.
    fn cut(&mut self, run: &Run, shape: Heads) {
        let oldest = shape.window.map_or(0, |w| (run.position + 1).saturating_sub(w));
        let own = Span { slot: run.slot, len: 1, position: run.position };
        let (mut first, mut count) = (self.spans.len(), 0);
        for span in run.past.iter().chain([&own]) {
            let mut cut = oldest.saturating_sub(span.position).min(span.len);
            while cut < span.len {
                if count == KEYS {
                    self.close(run.row, first, count, shape.kv_heads);
                    (first, count) = (self.spans.len(), 0);
                }
                let len = (KEYS - count).min(span.len - cut);
                self.spans.push(Span { slot: span.slot + cut, len, position: span.position + cut });
                cut += len;
                count += len;
            }
        }
        self.close(run.row, first, count, shape.kv_heads);
    }

    fn close(&mut self, row: usize, first: usize, count: usize, kv_heads: usize) {
        let spans = first..self.spans.len();
        self.pieces.extend((0..kv_heads).map(|kv_head| Piece { row, kv_head, spans: spans.clone(), count }));
    }

    /// Puts the pieces of each row together, in the order of its keys.
    fn merge(&mut self, out: &mut [f32], shape: Heads) {
        let Heads { heads, kv_heads, head_size: d, .. } = shape;
        let group = heads / kv_heads;
        let all = out.len() / d;
        self.tops.clear();
        self.tops.resize(all, f32::NEG_INFINITY);
        self.sums.clear();
        self.sums.resize(all, 0.0);
        let results = self.results.chunks_exact(2 + d);
        let places = self
            .pieces
            .iter()
            .flat_map(|piece| (0..group).map(|query| piece.row * heads + piece.kv_head * group + query));
        for (place, result) in places.clone().zip(results.clone()) {
            self.tops[place] = self.tops[place].max(result[0]);
        }
        out.fill(0.0);
        for (place, result) in places.zip(results) {
            let share = math::exp(result[0] - self.tops[place]);
            self.sums[place] += share * result[1];
            math::add_scaled(&mut out[place * d..][..d], share, &result[2..]);
        }
        for (head, sum) in out.chunks_exact_mut(d).zip(&self.sums) {
            head.iter_mut().for_each(|x| *x /= sum);
        }
    }
}

impl Share<'_> {
    fn work(
        &mut self,
        all: &[Span],
        q: &[f32],
        (keys, values): (CachedView<'_>, CachedView<'_>),
        shape: Heads,
    ) {
        let Heads { heads, kv_heads, head_size: d, scale, .. } = shape;
        let (group, isa) = (heads / kv_heads, kernel::best());
        let Scratch { scores, rows } = &mut *self.scratch;
        rows.resize(ROWS * d, 0.0);
        for (piece, results) in self.pieces.iter().zip(self.results.chunks_exact_mut(group * (2 + d))) {
            let (spans, kv_head) = (&all[piece.spans.clone()], piece.kv_head);
            let q = &q[(piece.row * heads + kv_head * group) * d..][..group * d];
            scores.resize(group * piece.count, 0.0);
            in_parts(keys, spans, kv_head, rows, |part, keys| {
                for (q, scores) in q.chunks_exact(d).zip(scores.chunks_exact_mut(piece.count)) {
                    kernel::scores(isa, &mut scores[part.clone()], q, keys, scale);
                }
            });
            for (scores, result) in scores.chunks_exact_mut(piece.count).zip(results.chunks_exact_mut(2 + d))
            {
                (result[0], result[1]) = math::exp_row(scores);
                result[2..].fill(0.0);
            }
            in_parts(values, spans, kv_head, rows, |part, values| {
                for (scores, result) in scores.chunks_exact(piece.count).zip(results.chunks_exact_mut(2 + d))
                {
                    kernel::weighted(isa, &mut result[2..], &scores[part.clone()], values);
                }
            });
        }
    }
}

/// Calls `act` with stretches of the rows of some spans, counted from the first, and one head of them in f32.
fn in_parts(
    view: CachedView<'_>,
    spans: &[Span],
    kv_head: usize,
    rows: &mut [f32],
    mut act: impl FnMut(Range<usize>, &[f32]),
) {
    let (_, d) = view.shape();
    let mut done = 0;
    for span in spans {
        for at in (0..span.len).step_by(ROWS) {
            let part =
                Span { slot: span.slot + at, len: ROWS.min(span.len - at), position: span.position + at };
            let rows = &mut rows[..part.len * d];
            view.copy(&part, kv_head, rows);
            act(done..done + part.len, rows);
            done += part.len;
        }
    }
}

/// Attention of rows whose runs are of length 1: `out` and `q` are `[T, H·D]`, `keys` and `values` `[slots, G·D]` in
/// any format of a cache.
///
/// # Panics
/// When a run is longer than one row, or shapes do not fit.
pub fn forward(
    (space, pool): (&mut Space, &Pool),
    out: &mut [f32],
    q: &[f32],
    cache: (CachedView<'_>, CachedView<'_>),
    runs: &[Run],
    shape: Heads,
) {
    let Heads { heads, kv_heads, head_size: d, .. } = shape;
    assert!(out.len() == q.len() && q.len() == runs.len() * heads * d, "one row a run");
    space.spans.clear();
    space.pieces.clear();
    for run in runs {
        assert_eq!(run.len, 1, "one row a run");
        space.cut(run, shape);
    }
    let (spans, pieces, threads) = (&space.spans, &space.pieces, pool.threads());
    let size = heads / kv_heads * (2 + d);
    space.results.resize(pieces.len() * size, 0.0);
    space.scratch.resize_with(threads, Scratch::default);
    let mut left = &mut space.results[..];
    let mut shares = Vec::with_capacity(threads);
    for (worker, scratch) in space.scratch.iter_mut().enumerate() {
        let mine = share(pieces.len(), threads, worker);
        let (results, rest) = left.split_at_mut(mine.len() * size);
        left = rest;
        shares.push(Share { pieces: &pieces[mine], results, scratch });
    }
    pool.each(&mut shares, |_, share| share.work(spans, q, cache, shape));
    space.merge(out, shape);
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
                    let (mut space, pool) = (Space::default(), Pool::new(threads));
                    let cache = (view(&keys), view(&values));
                    forward((&mut space, &pool), &mut out, &q, cache, &runs, shape);
                    forward((&mut space, &pool), &mut out, &q, cache, &runs, shape);
                    out
                });
                let error = relative_error(&answers[0], &want);
                assert!(error < 1e-6, "D {d} window {window:?}: {error}");
                assert!(answers[1] == answers[0] && answers[2] == answers[0], "threads change nothing");
            }
        }
    }
}
