//! The definition, gradients and certain targets, in both formats.

use super::*;
use crate::matmul::{Mat, Threads};
use crate::tiles::Packed;
use underdog_testkit::{assert_gradient, hashed_values, relative_error};

/// A head with a row-major weight `[V, C]`.
struct Plain {
    weight: Vec<f32>,
    packed: Option<Packed>,
    width: usize,
}

impl Plain {
    fn new(weight: Vec<f32>, width: usize, format: Format) -> Self {
        let view = Mat::new(&weight, weight.len() / width, width);
        let packed = (format == Format::Bf16).then(|| Packed::pack(view.t()));
        Plain { weight, packed, width }
    }
}

impl Head for Plain {
    fn width(&self) -> usize {
        self.width
    }

    fn vocab(&self) -> usize {
        self.weight.len() / self.width
    }

    fn format(&self) -> Format {
        if self.packed.is_some() { Format::Bf16 } else { Format::F32 }
    }

    fn piece<'a>(&'a self, range: Range<usize>, unpacked: &'a mut Unpacked) -> Piece<'a> {
        let (width, vocab) = (self.width, self.vocab());
        let Some(packed) = &self.packed else {
            let part = &self.weight[range.start * width..range.end * width];
            return Piece {
                forward: (Factor::F32(Mat::new(&self.weight, vocab, width).t()), range.start),
                backward: Factor::F32(Mat::new(part, range.len(), width)),
            };
        };
        let Right::Bf16(back) = &mut unpacked.backward else { unreachable!("of the head's format") };
        packed.transpose_into(range.clone(), back, Threads::One);
        Piece { forward: (Factor::Bf16(packed), range.start), backward: Factor::Bf16(back) }
    }

    fn row(&self, token: usize, to: &mut [f32]) {
        to.copy_from_slice(&self.weight[token * self.width..][..self.width]);
    }
}

fn targets(all: &[(usize, u32)]) -> Vec<Target> {
    all.iter().map(|&(row, token)| Target { row, token }).collect()
}

/// log p of a target by the definition, in f64.
fn log_prob(weight: &[f32], c: usize, h: &[f64], t: &Target) -> f64 {
    let logit = |j: usize| -> f64 { (0..c).map(|i| h[t.row * c + i] * weight[j * c + i] as f64).sum() };
    let all: Vec<f64> = (0..weight.len() / c).map(logit).collect();
    let top = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    all[t.token as usize] - top - all.iter().map(|l| (l - top).exp()).sum::<f64>().ln()
}

#[test]
fn log_probs_and_their_gradient_follow_the_definition() {
    // The second shape has several blocks of columns in a stretch and two blocks of rows.
    for (n, c, v, scale) in [(5, 4, 11, 3.0), (300, 3, 8 * 600 + 7, 9.0)] {
        let (weight, hidden) = (hashed_values(5, 0, v * c, 3.0), hashed_values(5, 1, n * c, scale));
        let head = Plain::new(weight.clone(), c, Format::F32);
        let targets = targets(&[(0, 3), (2, 10), (2, 0), (2, 0), (4, 7), (n - 1, v as u32 - 1)]);
        let d = [0.5, -1.0, 2.0, 0.25, 1.5, -0.7];
        let wide: Vec<f64> = hidden.iter().map(|&x| x as f64).collect();
        let (mut expected, mut space) = (Vec::new(), Space::default());
        for round in 0..2 {
            let scores = forward(&head, &hidden, &targets, Some(&mut expected), &mut space);
            for (score, t) in scores.iter().zip(&targets) {
                let want = log_prob(&weight, c, &wide, t);
                let error = (score.log_prob as f64 - want).abs();
                assert!(error < 1e-5 * want.abs().max(1.0), "{t:?}, round {round}: {error}");
            }
        }
        let mut got = vec![f32::NAN; n * c];
        backward(&head, &expected, &targets, &d, &mut got);
        let mut rows = vec![0, 2, 4, n - 1];
        rows.dedup();
        assert!(got.chunks(c).enumerate().all(|(i, row)| rows.contains(&i) || row.iter().all(|&x| x == 0.0)));
        let of = |x: &[f32]| rows.iter().flat_map(|r| x[r * c..(r + 1) * c].to_vec()).collect::<Vec<_>>();
        assert_gradient("hidden", &of(&got), &of(&hidden), |h| {
            let place = |t: &Target| rows.iter().position(|&r| r == t.row).unwrap_or(0);
            let at = |t: &Target| log_prob(&weight, c, h, &Target { row: place(t), token: t.token });
            targets.iter().zip(&d).map(|(t, d)| at(t) * *d as f64).sum()
        });
    }
}

/// In bf16 the gradient of a target that is all but certain is small, and right in proportion: nothing of the size of a row
/// of the weight is rounded away.
#[test]
fn in_bf16_results_stay_close_to_f32_even_for_certain_targets() {
    let (n, c, v) = (70, 64, 2_500);
    let round =
        |x: Vec<f32>| x.iter().map(|&x| crate::bf16::widen(crate::bf16::round(x))).collect::<Vec<_>>();
    let weight = round(hashed_values(6, 0, v * c, 1.0));
    for scale in [1.0, 4.0] {
        let mut hidden = hashed_values(6, 1, n * c, 0.2);
        let all: Vec<Target> = (0..n).map(|row| Target { row, token: (row * 31 % v) as u32 }).collect();
        for (h, t) in hidden.chunks_exact_mut(c).zip(&all) {
            let w = &weight[t.token as usize * c..][..c];
            h.iter_mut().zip(w).for_each(|(h, w)| *h += scale * 0.2 * w);
        }
        let hidden = round(hidden);
        let run = |format| {
            let head = Plain::new(weight.clone(), c, format);
            let (mut expected, mut space) = (Vec::new(), Space::default());
            let scores = forward(&head, &hidden, &all, Some(&mut expected), &mut space);
            let mut dhidden = vec![0.0; n * c];
            backward(&head, &expected, &all, &vec![1.0; n], &mut dhidden);
            (scores, dhidden)
        };
        let ((want, exact), (got, rounded)) = (run(Format::F32), run(Format::Bf16));
        for (want, got) in want.iter().zip(&got) {
            assert!((want.log_prob - got.log_prob).abs() < 1e-4, "{want:?} {got:?}");
            assert_eq!(want.is_top, got.is_top);
        }
        for (row, (got, want)) in rounded.chunks(c).zip(exact.chunks(c)).enumerate() {
            let error = relative_error(got, want);
            assert!(error < 1e-2, "scale {scale}, row {row}: {error}");
        }
    }
}

#[test]
fn the_top_token_is_named() {
    let head = Plain::new(vec![1.0, 3.0, 2.0, 3.0], 1, Format::F32);
    let all = targets(&[(0, 1), (0, 2), (0, 3)]);
    let scores = forward(&head, &[1.0], &all, None, &mut Space::default());
    let tops: Vec<bool> = scores.iter().map(|s| s.is_top).collect();
    assert_eq!(tops, [true, false, false], "the first of equals");
}

#[test]
fn what_is_no_number_stays_none() {
    let head = Plain::new(vec![1.0, 3.0, 2.0, 3.0], 1, Format::F32);
    let scores = forward(&head, &[f32::NAN], &targets(&[(0, 1)]), None, &mut Space::default());
    assert!(scores[0].log_prob.is_nan());
}
