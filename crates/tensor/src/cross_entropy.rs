//! Log-probabilities of target tokens under the output head, forward and backward, a chunk of rows at a time: the full
//! `[T, V]` matrix of logits never exists. The backward pass recomputes the chunk.

use crate::math::{self, log_sum_exp};
use rayon::prelude::*;

/// Logits that exist at one time: 16 MiB.
pub const CHUNK: usize = 4 << 20;

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

/// The output head: hidden states `[N, C]` to logits `[N, V]`. `model` has it, in whatever number format.
pub trait Head {
    /// C.
    fn width(&self) -> usize;
    /// V.
    fn vocab(&self) -> usize;
    /// Logits `[N, V]` of `hidden [N, C]`.
    fn logits(&self, hidden: &[f32]) -> Vec<f32>;
    /// `dhidden [N, C]` += `dlogits [N, V]` through the head.
    fn backward(&self, dhidden: &mut [f32], dlogits: &[f32]);
}

fn rows_per_chunk(head: &impl Head) -> usize {
    (CHUNK / head.vocab()).max(4)
}

/// Index of the largest value, the first of equals; 0 for an empty row.
pub fn argmax(row: &[f32]) -> usize {
    let top = math::max(row);
    row.iter().position(|&x| x == top).unwrap_or(0)
}

/// The targets of one chunk of rows: `targets` is sorted by row.
fn chunks<'t>(
    targets: &'t [Target],
    rows: usize,
    step: usize,
) -> impl Iterator<Item = (std::ops::Range<usize>, std::ops::Range<usize>)> + 't {
    assert!(targets.is_sorted_by_key(|t| t.row), "targets must be sorted by row");
    assert!(targets.last().is_none_or(|t| t.row < rows), "a target lies past the last row");
    (0..rows).step_by(step).map(move |from| {
        let to = (from + step).min(rows);
        let start = targets.partition_point(|t| t.row < from);
        (from..to, start..targets.partition_point(|t| t.row < to))
    })
}

/// One [`Score`] per target. `hidden` is `[N, C]`; `targets` are sorted by row.
pub fn forward(head: &impl Head, hidden: &[f32], targets: &[Target]) -> Vec<Score> {
    let (c, v) = (head.width(), head.vocab());
    assert!(targets.iter().all(|t| (t.token as usize) < v), "a target is no token of the vocabulary");
    let mut scores = Vec::with_capacity(targets.len());
    for (rows, range) in chunks(targets, hidden.len() / c, rows_per_chunk(head)) {
        let logits = head.logits(&hidden[rows.start * c..rows.end * c]);
        let tops: Vec<(f32, f32, usize)> = logits
            .par_chunks_exact(v)
            .map(|row| {
                let (top, log_sum) = log_sum_exp(row);
                (top, log_sum, argmax(row))
            })
            .collect();
        scores.extend(targets[range].iter().map(|target| {
            let row = target.row - rows.start;
            let (top, log_sum, best) = tops[row];
            let log_prob = logits[row * v + target.token as usize] - top - log_sum;
            Score { log_prob, is_top: best == target.token as usize }
        }));
    }
    scores
}

crate::dispatched! {
    /// Turns a row of logits into `−weight · softmax`.
    pub fn softmax_scaled / softmax_scaled_on (row: &mut [f32], weight: f32) {
        let (_, sum) = math::exp_row_inline(row);
        let factor = -weight / sum;
        for x in row.iter_mut() {
            *x *= factor;
        }
    }
}

/// `∂L/∂hidden [N, C]` for `d[i] = ∂L/∂log_prob` of target `i`. The head is frozen and gets no gradient.
pub fn backward(head: &impl Head, hidden: &[f32], targets: &[Target], d: &[f32]) -> Vec<f32> {
    assert_eq!(targets.len(), d.len());
    let (c, v) = (head.width(), head.vocab());
    let mut dhidden = vec![0.0; hidden.len()];
    for (rows, range) in chunks(targets, hidden.len() / c, rows_per_chunk(head)) {
        let mut dlogits = head.logits(&hidden[rows.start * c..rows.end * c]);
        let (targets, d) = (&targets[range.clone()], &d[range]);
        dlogits.par_chunks_exact_mut(v).enumerate().for_each(|(i, row)| {
            let start = targets.partition_point(|t| t.row < rows.start + i);
            let end = targets.partition_point(|t| t.row <= rows.start + i);
            softmax_scaled(row, d[start..end].iter().sum());
            for (target, d) in targets[start..end].iter().zip(&d[start..end]) {
                row[target.token as usize] += d;
            }
        });
        head.backward(&mut dhidden[rows.start * c..rows.end * c], &dlogits);
    }
    dhidden
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matmul::{Into, Mat, MatMut, Threads, matmul};
    use underdog_testkit::{assert_gradient, hashed_values};

    /// A head with a row-major weight `[V, C]`.
    struct Plain {
        weight: Vec<f32>,
        width: usize,
    }

    impl Head for Plain {
        fn width(&self) -> usize {
            self.width
        }

        fn vocab(&self) -> usize {
            self.weight.len() / self.width
        }

        fn logits(&self, hidden: &[f32]) -> Vec<f32> {
            let (rows, v) = (hidden.len() / self.width, self.vocab());
            let mut logits = vec![0.0; rows * v];
            let weight = Mat::new(&self.weight, v, self.width);
            let out = MatMut::new(&mut logits, rows, v);
            matmul(out, Into::Set, 1.0, Mat::new(hidden, rows, self.width), weight.t(), Threads::All);
            logits
        }

        fn backward(&self, dhidden: &mut [f32], dlogits: &[f32]) {
            let (rows, v) = (dhidden.len() / self.width, self.vocab());
            let weight = Mat::new(&self.weight, v, self.width);
            let out = MatMut::new(dhidden, rows, self.width);
            matmul(out, Into::Add, 1.0, Mat::new(dlogits, rows, v), weight, Threads::All);
        }
    }

    #[test]
    fn log_probs_and_their_gradient_follow_the_definition() {
        let (n, c, v) = (5, 4, 11);
        let (weight, hidden) = (hashed_values(5, 0, v * c, 3.0), hashed_values(5, 1, n * c, 3.0));
        let head = Plain { weight: weight.clone(), width: c };
        let target = |row, token| Target { row, token };
        let targets = [target(0, 3), target(2, 10), target(2, 0), target(2, 0), target(4, 7)];
        let d = [0.5, -1.0, 2.0, 0.25, 1.5];
        let log_prob = |h: &[f64], t: &Target| -> f64 {
            let logit =
                |j: usize| -> f64 { (0..c).map(|i| h[t.row * c + i] * weight[j * c + i] as f64).sum() };
            logit(t.token as usize) - (0..v).map(|j| logit(j).exp()).sum::<f64>().ln()
        };
        let wide: Vec<f64> = hidden.iter().map(|&x| x as f64).collect();
        for (score, t) in forward(&head, &hidden, &targets).iter().zip(&targets) {
            assert!((score.log_prob as f64 - log_prob(&wide, t)).abs() < 1e-5, "{t:?}");
        }
        let got = backward(&head, &hidden, &targets, &d);
        assert_gradient("hidden", &got, &hidden, |h| {
            targets.iter().zip(&d).map(|(t, d)| log_prob(h, t) * *d as f64).sum()
        });
    }

    #[test]
    fn the_top_token_is_named() {
        let head = Plain { weight: vec![1.0, 2.0, 3.0], width: 1 };
        let scores = forward(&head, &[1.0], &[Target { row: 0, token: 1 }, Target { row: 0, token: 2 }]);
        assert_eq!((scores[0].is_top, scores[1].is_top), (false, true));
    }
}
