//! Quantised rows back to f32, for the embedding and for products in f32, and to tiles of bf16. A cell of 16 rows by 32
//! columns is just one tile, so that tiles need no f32 matrix on the way.

use super::{BLOCK, GROUP, Line, Matrix, Scales};
use crate::bf16::round_pair;
use crate::matmul::Threads;
use crate::tiles::{Packed, TILE};
use half::f16;
use std::ops::Range;

/// The codes of a cell, `[32][16]`: column by column.
fn codes(m: &Matrix, cell: usize) -> [[i32; GROUP]; BLOCK] {
    let bits = m.format.bits();
    let lines = &m.codes[cell * bits..][..bits];
    let mut codes = [[0; GROUP]; BLOCK];
    for (column, codes) in codes.iter_mut().enumerate() {
        let (vector, byte) = (column / 4, 8 * (column as u32 % 4));
        // `width` bits of every row from bit `first` of its byte in a line on.
        let field = |line: usize, first: usize, width: u32| lanes(&lines[line], byte + first as u32, width);
        *codes = match bits {
            8 => field(vector, 0, 8),
            4 => field(vector % 4, 4 * (vector / 4), 4),
            5 => with(field(vector % 4, 4 * (vector / 4), 4), field(4, vector, 1)),
            _ => with(field(vector % 4, 4 * (vector / 4), 4), field(4 + vector / 4, 2 * (vector % 4), 2)),
        };
    }
    codes
}

/// `width` bits from bit `first` on of each 32-bit lane.
#[inline]
fn lanes(line: &Line, first: u32, width: u32) -> [i32; GROUP] {
    let mut lanes = [0; GROUP];
    for (lane, bytes) in lanes.iter_mut().zip(line.0.as_chunks().0) {
        *lane = (u32::from_le_bytes(*bytes) >> first & ((1 << width) - 1)) as i32;
    }
    lanes
}

/// Codes of four bits with those above them.
#[inline]
fn with(low: [i32; GROUP], high: [i32; GROUP]) -> [i32; GROUP] {
    std::array::from_fn(|lane| low[lane] | high[lane] << 4)
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

/// A cell as the tile of Wᵀ that it is: its columns are lines of the tile, two interleaved, its rows are columns.
fn tile(m: &Matrix, cell: usize, to: &mut [u16; TILE]) {
    let (codes, scales, zero) = (codes(m, cell), scales(m, cell), m.format.zero());
    let halves = [0, 1].map(|half| scales.map(|of_lane| of_lane[half]));
    let values = |column: usize| -> [f32; GROUP] {
        let (codes, scales) = (&codes[column], &halves[column / (BLOCK / 2)]);
        std::array::from_fn(|lane| scales[lane].0 * (codes[lane] - zero) as f32 + scales[lane].1)
    };
    for (pair, line) in to.chunks_exact_mut(2 * GROUP).enumerate() {
        round_pair(line, &values(2 * pair), &values(2 * pair + 1));
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
