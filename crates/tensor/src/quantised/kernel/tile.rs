//! Many rows in the order in which the kernels that take a group apart read them: some rows side by side, a block of their columns
//! after the other. What is computed with them is each instruction set's own business.

use super::{BLOCK, Row};

/// A block of the columns of a tile of `R` rows.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct TileBlock<const R: usize> {
    pub codes: [[i8; BLOCK]; R],
    pub sums: [[i32; 2]; R],
    pub scales: [f32; R],
    pub totals: [f32; R],
}

/// The blocks of whole tiles of rows, tile by tile; rows that are left over are left out.
pub fn tile_blocks<const R: usize>(x: &[Row<'_>]) -> Vec<TileBlock<R>> {
    let (tiles, _) = x.as_chunks::<R>();
    let block = |rows: &[Row<'_>; R], at: usize| TileBlock {
        codes: rows.map(|row| *row.codes[at * BLOCK..].first_chunk().expect("whole blocks")),
        sums: rows.map(|row| row.sums[at]),
        scales: rows.map(|row| row.scales[at]),
        totals: rows.map(|row| row.totals[at]),
    };
    let count = x.first().map_or(0, |row| row.scales.len());
    let mut blocks = Vec::with_capacity(tiles.len() * count);
    for rows in tiles {
        blocks.extend((0..count).map(|at| block(rows, at)));
    }
    blocks
}

/// Columns `4v..4v+4` of a block of a row, as one number of 32 bits.
#[inline(always)]
pub fn four(codes: &[i8; BLOCK], v: usize) -> i32 {
    let at = |i| codes[4 * v + i] as u8;
    i32::from_le_bytes([at(0), at(1), at(2), at(3)])
}
