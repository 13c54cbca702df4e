//! A frozen weight as the output head: logits of rows that are decoded, the best token of each, and pieces of the vocabulary
//! for the loss.

use super::{Linear, Weight, meets_blocks};
use std::ops::Range;
use underdog_tensor::block::{Factor, Format, Right};
use underdog_tensor::cross_entropy::{self, Head, Piece, argmax};
use underdog_tensor::matmul::{Into, Mat, MatMut, Threads, matmul};
use underdog_tensor::pool::Team;
use underdog_tensor::quantised::{self, Product, activation::Rounded, panels};
use underdog_tensor::tiles;

/// Rows whose logits are in memory at once, about, where only the best token is wanted.
const BEST_ROWS: usize = 64;

impl Linear {
    /// `hidden Wᵀ [T, output]` on all threads, row-major, with `hidden [T, input]`: the logits of rows that are decoded.
    pub fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        let rows = hidden.len() / self.input;
        let mut y = vec![0.0; rows * self.output];
        let x = Mat::new(hidden, rows, self.input);
        match &self.weight {
            Weight::Blocks { matrix, pool } if meets_blocks(rows) => {
                let x = Rounded::new(hidden, self.input);
                quantised::products(Team::All(pool), &x, &mut [Product { weight: matrix, y: &mut y }]);
            }
            Weight::Blocks { matrix, .. } => panels::product(matrix, hidden, &mut y),
            Weight::F32(_) | Weight::Turned(_) => {
                let Factor::F32(weight) = self.forward() else { unreachable!("a weight in f32") };
                matmul(MatMut::new(&mut y, rows, self.output), Into::Set, 1.0, x, weight, Threads::All);
            }
            Weight::Bf16 { packed, .. } => tiles::matmul(&mut y, Into::Set, x, packed),
        }
        y
    }

    /// The output with the largest value for each row of `x [N, input]`, the first of equals.
    pub fn best(&self, x: &[f32]) -> Vec<u32> {
        let rows = x.len() / self.input;
        if let (Weight::Bf16 { packed, .. }, true) = (&self.weight, rows > 0) {
            return tiles::best(Mat::new(x, rows, self.input), packed);
        }
        // Parts of equal size: a small one would take another way through weights in blocks.
        let part = rows.div_ceil(rows.div_ceil(BEST_ROWS).max(1)).max(1);
        let best = |part| {
            let logits = self.logits(part);
            logits.chunks_exact(self.output).map(|row| argmax(row) as u32).collect::<Vec<_>>()
        };
        x.chunks(part * self.input).flat_map(best).collect()
    }
}

/// A linear product can be the output head.
impl Head for Linear {
    fn width(&self) -> usize {
        self.input
    }

    fn vocab(&self) -> usize {
        self.output
    }

    fn format(&self) -> Format {
        match &self.weight {
            Weight::F32(_) | Weight::Turned(_) => Format::F32,
            Weight::Bf16 { .. } => Format::Bf16,
            Weight::Blocks { .. } if tiles::accelerated() => Format::Bf16,
            Weight::Blocks { .. } => Format::F32,
        }
    }

    fn piece<'a>(&'a self, range: Range<usize>, unpacked: &'a mut cross_entropy::Unpacked) -> Piece<'a> {
        let (rows, width) = (range.len(), self.input);
        let cross_entropy::Unpacked { values, forward, backward } = unpacked;
        match &self.weight {
            Weight::Turned(_) => unreachable!("the weights of layers are turned, a head is not"),
            Weight::F32(weight) => Piece {
                forward: (self.forward(), range.start),
                backward: Factor::F32(Mat::new(&weight[range.start * width..range.end * width], rows, width)),
            },
            Weight::Bf16 { packed, .. } => {
                if let Right::Bf16(backward) = backward {
                    packed.transpose_into(range.clone(), backward, Threads::One);
                }
                Piece { forward: (Factor::Bf16(packed), range.start), backward: backward.factor() }
            }
            Weight::Blocks { matrix, .. } => match (forward, backward) {
                (Right::Bf16(forward), Right::Bf16(backward)) => {
                    matrix.tiles(range, forward, Threads::One);
                    forward.transpose_into(0..rows, backward, Threads::One);
                    Piece { forward: (Factor::Bf16(forward), 0), backward: Factor::Bf16(backward) }
                }
                _ => {
                    values.resize(rows * width, 0.0);
                    matrix.rows(range, values);
                    let values = Mat::new(values, rows, width);
                    Piece { forward: (Factor::F32(values.t()), 0), backward: Factor::F32(values) }
                }
            },
        }
    }

    fn row(&self, token: usize, to: &mut [f32]) {
        Linear::row(self, token, to);
    }
}
