//! Products of many rows with quantised weights: a panel of weights at a time becomes f32, or bf16 in tiles, and is
//! multiplied as any other weight. The panel is all that is held beside the blocks.

use super::{GROUP, Matrix};
use crate::matmul::{Into, Mat, MatMut, Threads, matmul};
use crate::tiles::{self, Packed};
use rayon::prelude::*;

/// Values of a panel at most: 4 MiB in f32.
const PANEL: usize = 1 << 20;

impl Matrix {
    /// Rows `range`, which begin at a multiple of 16, in f32, on all threads.
    ///
    /// # Panics
    /// When the range is not inside the matrix, or `out` has another size.
    pub fn rows_in_parallel(&self, range: std::ops::Range<usize>, out: &mut [f32]) {
        assert!(range.start.is_multiple_of(GROUP) && out.len() == range.len() * self.columns);
        out.par_chunks_mut(GROUP * self.columns).enumerate().for_each(|(group, out)| {
            let start = range.start + group * GROUP;
            self.rows(start..start + out.len() / self.columns, out);
        });
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
    let height = (PANEL / input).next_multiple_of(GROUP).min(output);
    let (mut values, mut packed, mut part) = (Vec::new(), Packed::default(), Vec::new());
    for first in (0..output).step_by(height.max(1)) {
        let panel = first..output.min(first + height);
        if !tiles::accelerated() {
            values.resize(panel.len() * input, 0.0);
            m.rows_in_parallel(panel.clone(), &mut values);
            let y = MatMut::strided(&mut y[first..], rows, panel.len(), output);
            matmul(y, Into::Set, 1.0, x, Mat::new(&values, panel.len(), input).t(), Threads::All);
            continue;
        }
        m.tiles(panel.clone(), &mut packed, Threads::All);
        if panel.len() == output {
            tiles::matmul(y, Into::Set, x, &packed);
            continue;
        }
        part.resize(rows * panel.len(), 0.0);
        tiles::matmul(&mut part, Into::Set, x, &packed);
        for (y, part) in y.chunks_exact_mut(output).zip(part.chunks_exact(panel.len())) {
            y[panel.clone()].copy_from_slice(part);
        }
    }
}
