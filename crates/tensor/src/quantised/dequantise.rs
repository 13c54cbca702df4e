//! Quantised rows back to f32, for the embedding and for products in f32, and to tiles of bf16. A cell of 16 rows by 32
//! columns is just one tile, so that tiles need no f32 matrix on the way.

use super::{BLOCK, GROUP, Line, Matrix, Scales};
use crate::bf16::round;
use crate::matmul::Threads;
use crate::tiles::{Packed, TILE};
use std::ops::Range;

/// The codes of a cell, `[32][16]`: column by column.
#[inline(always)]
fn codes(m: &Matrix, cell: usize) -> [[i32; GROUP]; BLOCK] {
    let bits = m.format.bits();
    let lines = &m.codes[cell * bits..][..bits];
    // `width` bits of every row from bit `first` of its byte in a line on.
    let field = |line: usize, column: usize, first: usize, width: u32| {
        lanes(&lines[line], (8 * (column % 4) + first) as u32, width)
    };
    let low = |column: usize| field(column / 4 % 4, column, 4 * (column / 16), 4);
    match bits {
        8 => std::array::from_fn(|column| field(column / 4, column, 0, 8)),
        4 => std::array::from_fn(low),
        5 => std::array::from_fn(|column| with(low(column), field(4, column, column / 4, 1))),
        _ => std::array::from_fn(|column| {
            let vector = column / 4;
            with(low(column), field(4 + vector / 4, column, 2 * (vector % 4), 2))
        }),
    }
}

/// `width` bits from bit `first` on of each 32-bit lane.
#[inline(always)]
fn lanes(line: &Line, first: u32, width: u32) -> [i32; GROUP] {
    let (words, _) = line.0.as_chunks();
    std::array::from_fn(|lane| (u32::from_le_bytes(words[lane]) >> first & ((1 << width) - 1)) as i32)
}

/// Codes of four bits with those above them.
#[inline(always)]
fn with(low: [i32; GROUP], high: [i32; GROUP]) -> [i32; GROUP] {
    std::array::from_fn(|lane| low[lane] | high[lane] << 4)
}

/// A finite half as it is: its exponent has 112 less to go than that of an f32, which a product makes up for exactly, below the
/// normal numbers too. A conversion of the library asks the CPU what it can each time.
#[inline(always)]
fn widened(half: u16) -> f32 {
    const TO_THE_112: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(half);
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * TO_THE_112;
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

/// Scale and offset of each row of a cell, for the two halves of its columns: `value = scale · (code − zero) + offset`.
#[inline(always)]
pub(super) fn scales(m: &Matrix, cell: usize) -> [[(f32, f32); 2]; GROUP] {
    let halves = |at: usize| -> [f32; GROUP] {
        let halves = &m.scales[at * GROUP..][..GROUP];
        std::array::from_fn(|lane| widened(halves[lane]))
    };
    let subs = |at: usize| &m.subs[at * GROUP..][..GROUP];
    match m.format.scales() {
        Scales::Plain => halves(cell).map(|scale| [(scale, 0.0); 2]),
        Scales::Least => {
            let (scale, least) = (halves(2 * cell), halves(2 * cell + 1));
            std::array::from_fn(|lane| [(scale[lane], least[lane]); 2])
        }
        Scales::Super => {
            let (scale, least) = (halves(2 * (cell / 8)), halves(2 * (cell / 8) + 1));
            let (of_scale, of_least) = (subs(2 * cell), subs(2 * cell + 1));
            std::array::from_fn(|lane| {
                let scale = scale[lane] * f32::from(of_scale[lane]);
                [(scale, -(least[lane] * f32::from(of_least[lane]))); 2]
            })
        }
        Scales::SuperSix => {
            let (scale, first, second) = (halves(cell / 8), subs(2 * cell), subs(2 * cell + 1));
            std::array::from_fn(|lane| {
                [first[lane], second[lane]].map(|sub| (scale[lane] * f32::from(sub as i8), 0.0))
            })
        }
    }
}

pub(super) fn rows(m: &Matrix, range: Range<usize>, out: &mut [f32]) {
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
                    *out = scale * (codes[column][lane] - zero) as f32 + offset;
                }
            }
        }
    }
}

crate::dispatched! {
    /// A cell as the tile of Wᵀ that it is: its columns are lines of the tile, two interleaved, its rows are columns.
    pub fn tile / tile_on (m: &Matrix, cell: usize, to: &mut [u16; TILE]) {
        let (codes, scales, zero) = (codes(m, cell), scales(m, cell), m.format.zero());
        let of_half = |half: usize| (scales.map(|of_lane| of_lane[half].0), scales.map(|of_lane| of_lane[half].1));
        let halves = [of_half(0), of_half(1)];
        for (pair, line) in to.as_chunks_mut::<{ 2 * GROUP }>().0.iter_mut().enumerate() {
            let (scale, offset) = &halves[2 * pair / (BLOCK / 2)];
            let value = |column: usize, lane: usize| {
                scale[lane] * (codes[column][lane] - zero) as f32 + offset[lane]
            };
            for lane in 0..GROUP {
                let (first, second) = (value(2 * pair, lane), value(2 * pair + 1, lane));
                let two = u32::from(round(first)) | u32::from(round(second)) << 16;
                line[2 * lane] = two as u16;
                line[2 * lane + 1] = (two >> 16) as u16;
            }
        }
    }
}

pub(super) fn tiles(m: &Matrix, rows: Range<usize>, to: &mut Packed, threads: Threads) {
    // A group that ended inside would leave its other rows where padding has to be zero.
    let whole = rows.start.is_multiple_of(GROUP) && (rows.end.is_multiple_of(GROUP) || rows.end == m.rows);
    assert!(whole && rows.end <= m.rows, "tiles of rows {rows:?} of {}", m.rows);
    let first = rows.start / GROUP;
    to.fill(m.columns, rows.len(), threads, |column, depth, to| {
        tile(m, (first + column) * m.blocks() + depth, to);
    });
}

pub(super) fn transposed_tiles(m: &Matrix, to: &mut Packed, threads: Threads) {
    to.fill_transposed(m.rows, m.columns, threads, |column, depth, to| {
        tile(m, column * m.blocks() + depth, to);
    });
}

/// The sums `Σ (code − zero) · x` of one cell's rows over the two halves of its columns, and nothing rounded.
pub(super) fn dot(m: &Matrix, cell: usize, x: &[i8]) -> [[i32; 2]; GROUP] {
    let (codes, zero) = (codes(m, cell), m.format.zero());
    let mut sums = [[0; 2]; GROUP];
    for column in 0..BLOCK {
        for lane in 0..GROUP {
            sums[lane][column / (BLOCK / 2)] += (codes[column][lane] - zero) * i32::from(x[column]);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_finite_half_is_widened_as_it_is() {
        for half in (0..=u16::MAX).filter(|half| f16::from_bits(*half).is_finite()) {
            assert_eq!(widened(half).to_bits(), f16::from_bits(half).to_f32().to_bits(), "{half:#x}");
        }
    }
}
