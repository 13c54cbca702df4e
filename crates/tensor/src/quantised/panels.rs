//! Products of many rows with quantised weights: a panel of weights at a time becomes f32, or bf16 in tiles, and is
//! multiplied as any other weight. The panel is all that is held beside the blocks.

use super::{GROUP, Matrix};
use crate::matmul::{Into, Mat, MatMut, Threads, matmul};
use crate::tiles::{self, Packed};
use rayon::prelude::*;

/// Values of a panel at most: 4 MiB in f32.
const PANEL: usize = 1 << 20;

/// The panels of a matrix: `f(first row, rows, values)`, the values `[rows, columns]`.
fn panels(m: &Matrix, mut f: impl FnMut(usize, usize, &[f32])) {
    let (rows, columns) = m.shape();
    let height = (PANEL / columns).next_multiple_of(GROUP).min(rows);
    let mut scratch = vec![0.0; height * columns];
    for first in (0..rows).step_by(height.max(1)) {
        let count = height.min(rows - first);
        let panel = &mut scratch[..count * columns];
        panel.par_chunks_mut(GROUP * columns).enumerate().for_each(|(group, out)| {
            let start = first + group * GROUP;
            m.rows(start..start + out.len() / columns, out);
        });
        f(first, count, panel);
    }
}

/// `y = x Wᵀ`, with `x [T, input]` and `y [T, output]`: in bf16 where that is faster ([`tiles::accelerated`]), in f32 elsewhere.
///
/// # Panics
/// When shapes do not fit.
pub fn product(m: &Matrix, x: &[f32], y: &mut [f32]) {
    let (output, input) = m.shape();
    let rows = x.len() / input;
    assert_eq!((rows * input, rows * output), (x.len(), y.len()), "quantised product of many rows");
    let x = Mat::new(x, rows, input);
    let mut part = Vec::new();
    panels(m, |first, count, panel| {
        let panel = Mat::new(panel, count, input);
        if !tiles::accelerated() {
            let y = MatMut::strided(&mut y[first..], rows, count, output);
            matmul(y, Into::Set, 1.0, x, panel.t(), Threads::All);
        } else if count == output {
            tiles::matmul(y, Into::Set, x, &Packed::pack(panel.t()));
        } else {
            part.resize(rows * count, 0.0);
            tiles::matmul(&mut part, Into::Set, x, &Packed::pack(panel.t()));
            for (y, part) in y.chunks_exact_mut(output).zip(part.chunks_exact(count)) {
                y[first..first + count].copy_from_slice(part);
            }
        }
    });
}
