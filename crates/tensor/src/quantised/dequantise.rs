//! Quantised rows back to f32, for the embedding and for products of many rows.

use super::{BLOCK, GROUP, Matrix, Scales};
use half::f16;

/// The codes of a cell, `[32][16]`: column by column.
fn codes(m: &Matrix, cell: usize) -> [[u8; GROUP]; BLOCK] {
    let bits = m.format.bits();
    let lines = &m.codes[cell * bits..][..bits];
    let mut codes = [[0; GROUP]; BLOCK];
    for column in 0..BLOCK {
        let vector = column / 4;
        for lane in 0..GROUP {
            let byte = 4 * lane + column % 4;
            let low = |line: usize| lines[line].0[byte];
            codes[column][lane] = match bits {
                8 => low(vector),
                4 => low(vector % 4) >> (4 * (vector / 4)) & 15,
                5 => low(vector % 4) >> (4 * (vector / 4)) & 15 | (low(4) >> vector & 1) << 4,
                _ => {
                    low(vector % 4) >> (4 * (vector / 4)) & 15
                        | (low(4 + vector / 4) >> (2 * (vector % 4)) & 3) << 4
                }
            };
        }
    }
    codes
}

/// Scale and offset of each row of a cell, for the two halves of its columns: `value = scale · (code − zero) + offset`.
pub(super) fn scales(m: &Matrix, cell: usize) -> [[(f32, f32); 2]; GROUP] {
    let half = |i: usize| f16::from_bits(m.scales[i]).to_f32();
    std::array::from_fn(|lane| match m.format.scales() {
        Scales::Plain => [(half(cell * GROUP + lane), 0.0); 2],
        Scales::Least => {
            let at = 2 * cell * GROUP + lane;
            [(half(at), half(at + GROUP)); 2]
        }
        Scales::Super => {
            let (at, sub) = (2 * (cell / 8) * GROUP + lane, 2 * cell * GROUP + lane);
            let scale = half(at) * f32::from(m.subs[sub]);
            [(scale, -(half(at + GROUP) * f32::from(m.subs[sub + GROUP]))); 2]
        }
        Scales::SuperSix => {
            let (scale, sub) = (half(cell / 8 * GROUP + lane), 2 * cell * GROUP + lane);
            [0, GROUP].map(|half| (scale * f32::from(m.subs[sub + half] as i8), 0.0))
        }
    })
}

pub(super) fn rows(m: &Matrix, range: std::ops::Range<usize>, out: &mut [f32]) {
    assert!(range.start <= range.end && range.end <= m.rows, "rows {range:?} of {}", m.rows);
    assert_eq!(out.len(), range.len() * m.columns, "a panel of {} rows", range.len());
    let zero = m.format.zero();
    for group in range.start / GROUP..range.end.div_ceil(GROUP) {
        let lanes = range.start.max(group * GROUP)..range.end.min((group + 1) * GROUP);
        for block in 0..m.blocks() {
            let cell = group * m.blocks() + block;
            let (codes, scales) = (codes(m, cell), scales(m, cell));
            for row in lanes.clone() {
                let lane = row % GROUP;
                let out = &mut out[(row - range.start) * m.columns + block * BLOCK..][..BLOCK];
                for (column, out) in out.iter_mut().enumerate() {
                    let (scale, offset) = scales[lane][column / (BLOCK / 2)];
                    *out = scale * (i32::from(codes[column][lane]) - zero) as f32 + offset;
                }
            }
        }
    }
}

/// The sums `Σ (code − zero) · x` of one cell's rows over the two halves of its columns, and nothing rounded.
pub(super) fn dot(m: &Matrix, cell: usize, x: &[i8]) -> [[i32; 2]; GROUP] {
    let (codes, zero) = (codes(m, cell), m.format.zero());
    let mut sums = [[0; 2]; GROUP];
    for column in 0..BLOCK {
        for lane in 0..GROUP {
            sums[lane][column / (BLOCK / 2)] +=
                (i32::from(codes[column][lane]) - zero) * i32::from(x[column]);
        }
    }
    sums
}
