//! The two factors of a product as tiles of bf16 values, put together whole or piece by piece. Values are rounded to nearest, ties
//! to even.

use super::{BLOCK, TILE};
use crate::aligned::Aligned;
use crate::bf16::{round, round_pair, round_pairs, round_row, widen};
use crate::matmul::{Mat, Threads};
use rayon::prelude::*;

/// Values of the inner dimension in one tile.
pub(super) const DEPTH: usize = 32;

/// A left factor `[rows, k]` in bf16 as strips of tiles: for each 16 rows, for each 32 columns, 16 lines of 32 values. Rows
/// are padded to whole blocks with values of no meaning, columns with zeros.
#[derive(Clone, Debug, Default)]
pub struct Left {
    pub(super) data: Aligned<u16>,
    pub(super) rows: usize,
    pub(super) k: usize,
}

impl Left {
    /// Makes room for `[rows, k]`; every value is to be put.
    pub fn reset(&mut self, rows: usize, k: usize) {
        (self.rows, self.k) = (rows, k);
        let strip = k.div_ceil(DEPTH) * TILE;
        self.data.resize(rows.next_multiple_of(BLOCK) / 16 * strip);
        if !k.is_multiple_of(DEPTH) {
            for strip in self.data.chunks_exact_mut(strip) {
                strip[(k / DEPTH) * TILE..].fill(0);
            }
        }
    }

    /// `[rows, k]` of row-major values.
    pub fn load(&mut self, x: Mat<'_>) {
        let (rows, k) = x.shape();
        self.reset(rows, k);
        (0..rows).for_each(|i| self.put(i, 0, x.row(i)));
    }

    /// Puts values of row `i` from column `start` on, a multiple of 32.
    #[inline]
    pub fn put(&mut self, i: usize, start: usize, values: &[f32]) {
        debug_assert!(start.is_multiple_of(DEPTH) && i < self.data.len() / TILE * 16);
        let strip = (i / 16 * self.depth() + start / DEPTH) * TILE + i % 16 * DEPTH;
        for (tile, values) in values.chunks(DEPTH).enumerate() {
            round_row(&mut self.data[strip + tile * TILE..][..DEPTH], values);
        }
    }

    /// Puts the columns from `start` on, a multiple of 32, of all rows from a panel `[padded rows, 32]`.
    pub fn put_panel(&mut self, start: usize, panel: &[f32]) {
        let (depth, column) = (self.depth(), start / DEPTH);
        assert_eq!(panel.len() / TILE, self.data.len() / TILE / depth, "tiles: a panel of other rows");
        for (strip, panel) in panel.chunks_exact(TILE).enumerate() {
            round_row(&mut self.data[(strip * depth + column) * TILE..][..TILE], panel);
        }
    }

    /// Puts values of column `inner` from row `first` on.
    pub fn put_column(&mut self, inner: usize, first: usize, values: &[f32]) {
        let depth = self.depth();
        for (i, &value) in (first..).zip(values) {
            self.data[(i / 16 * depth + inner / DEPTH) * TILE + i % 16 * DEPTH + inner % DEPTH] =
                round(value);
        }
    }

    /// `(rows, k)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.k)
    }

    pub(super) fn depth(&self) -> usize {
        self.k.div_ceil(DEPTH)
    }
}

/// A right factor `[k, n]` in bf16, laid out as tiles: for each 16 columns, for each 32 rows, pairs of rows interleaved.
/// Padded with zeros to whole tiles.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    pub(super) data: Aligned<u16>,
    pub(super) k: usize,
    pub(super) n: usize,
}

impl Packed {
    /// Rounds and packs `b [k, n]`, in parallel: for weights.
    pub fn pack(b: Mat<'_>) -> Self {
        let mut packed = Packed::default();
        packed.set(b, 1.0);
        packed
    }

    /// Rounds and packs `factor · b`, in parallel, in place of what was there.
    pub fn set(&mut self, b: Mat<'_>, factor: f32) {
        let (k, n) = b.shape();
        self.reset(k, n);
        let depth = self.depth();
        self.data.par_chunks_mut(depth * TILE).enumerate().for_each(|(column, tiles)| {
            let columns = column * 16..n.min(column * 16 + 16);
            for (j, column) in columns.clone().enumerate() {
                let Some(values) = b.column(column) else { break };
                put_column(tiles, j, values, factor);
            }
            if b.column(columns.start).is_none() {
                put_rows(tiles, b, columns, factor);
            }
        });
    }

    /// Makes this `[k, n]` of the tiles that `tile(column, depth, to)` writes whole: 16 columns from `16 · column` on, 32
    /// rows from `32 · depth` on, and zeros where they are past the end.
    pub(crate) fn fill(
        &mut self,
        k: usize,
        n: usize,
        threads: Threads,
        tile: impl Fn(usize, usize, &mut [u16; TILE]) + Sync,
    ) {
        self.reset(k, n);
        let size = self.depth() * TILE;
        let fill = |column: usize, tiles: &mut [u16]| {
            tiles.as_chunks_mut().0.iter_mut().enumerate().for_each(|(depth, to)| tile(column, depth, to));
        };
        each_part(&mut self.data, size, threads, fill);
    }

    /// Makes this `[k, n]`, n a multiple of 32, of the tiles of its transpose, which `tile` gives as for [`Packed::fill`].
    pub(crate) fn fill_transposed(
        &mut self,
        k: usize,
        n: usize,
        threads: Threads,
        tile: impl Fn(usize, usize, &mut [u16; TILE]) + Sync,
    ) {
        assert!(n.is_multiple_of(DEPTH), "tiles: {n} columns of a transpose");
        self.reset(k, n);
        let (depth, columns) = (self.depth(), k.div_ceil(16));
        let fill = |row: usize, to: &mut [u16]| {
            for line in 0..depth {
                let mut from = [[0; TILE]; 2];
                for (column, from) in (2 * line..columns).zip(&mut from) {
                    tile(column, row, from);
                }
                put_transposed(to, line, depth, [&from[0], &from[1]]);
            }
        };
        each_part(&mut self.data, 2 * depth * TILE, threads, fill);
    }

    /// Makes room for `[k, n]`, all zero in the last rows and columns, where padding may be.
    pub fn reset(&mut self, k: usize, n: usize) {
        (self.k, self.n) = (k, n);
        let (depth, columns) = (self.depth(), n.div_ceil(16));
        self.data.resize(columns * depth * TILE);
        if !k.is_multiple_of(DEPTH) {
            for tiles in self.data.chunks_exact_mut(depth * TILE) {
                tiles[(depth - 1) * TILE..].fill(0);
            }
        }
        if !n.is_multiple_of(16) && columns > 0 {
            self.data[(columns - 1) * depth * TILE..].fill(0);
        }
    }

    /// Puts rows `i` and `i + 1`, with `i` even, from column `start` on, a multiple of 16. Where `i + 1` is past the end,
    /// `second` must be zeros.
    #[inline]
    pub fn put_pair(&mut self, i: usize, start: usize, first: &[f32], second: &[f32]) {
        debug_assert!(i.is_multiple_of(2) && start.is_multiple_of(16) && i < self.k);
        let depth = self.depth();
        let place = (start / 16 * depth + i / DEPTH) * TILE + i % DEPTH / 2 * 32;
        for (column, (first, second)) in first.chunks(16).zip(second.chunks(16)).enumerate() {
            round_pair(&mut self.data[place + column * depth * TILE..][..32], first, second);
        }
    }

    /// Puts the columns from `start` on, a multiple of 32, of the first rows from a panel `[rows, 32]`, rows a multiple of 32.
    pub fn put_panel(&mut self, start: usize, panel: &[f32]) {
        let (depth, column) = (self.depth(), start / 16);
        for (row, panel) in panel.chunks_exact(2 * TILE).enumerate() {
            for half in 0..2 {
                let place = ((column + half) * depth + row) * TILE;
                round_pairs(&mut self.data[place..][..TILE], panel, half * 16);
            }
        }
    }

    /// Makes `to` the transpose `[columns, k]` of some columns, whose range begins at a multiple of 32 and ends at one or at the
    /// last column. Nothing is rounded again.
    pub fn transpose_into(&self, columns: std::ops::Range<usize>, to: &mut Packed, threads: Threads) {
        let end = columns.end;
        assert!(columns.start.is_multiple_of(BLOCK) && (end.is_multiple_of(BLOCK) || end == self.n));
        to.reset(columns.len(), self.k);
        let size = 2 * to.depth() * TILE;
        each_part(&mut to.data, size, threads, |row, to| self.transpose_row(row, &columns, to));
    }

    /// Tiles of the transpose's columns from `32 · row` on: two columns of tiles, or one where the other is past the end.
    fn transpose_row(&self, row: usize, columns: &std::ops::Range<usize>, to: &mut [u16]) {
        let (depth, to_depth) = (self.depth(), columns.len().div_ceil(DEPTH));
        for line in 0..to_depth {
            let first = columns.start / 16 + 2 * line;
            let tile = |column: usize| {
                // A column of tiles past the end is padding of the transpose, or another block's.
                let inside = column * 16 < columns.end;
                let at = (column * depth + row) * TILE;
                self.data.get(at..at + TILE).filter(|_| inside).and_then(|tile| tile.first_chunk::<TILE>())
            };
            let zeros = [0; TILE];
            let from = [first, first + 1].map(|column| tile(column).unwrap_or(&zeros));
            put_transposed(to, line, to_depth, from);
        }
    }

    /// Column `j`, `[k]`: a row of the weight whose transpose this is.
    pub fn column(&self, j: usize, to: &mut [f32]) {
        assert!(j < self.n && to.len() == self.k);
        let tiles = &self.data[j / 16 * self.depth() * TILE..];
        for (tile, to) in tiles.chunks_exact(TILE).zip(to.chunks_mut(DEPTH)) {
            for (i, to) in to.iter_mut().enumerate() {
                *to = widen(tile[i / 2 * 32 + j % 16 * 2 + i % 2]);
            }
        }
    }

    /// Element (row, column).
    pub fn get(&self, row: usize, column: usize) -> f32 {
        let tile = &self.data[(column / 16 * self.depth() + row / DEPTH) * TILE..][..TILE];
        widen(tile[row % DEPTH / 2 * 32 + column % 16 * 2 + row % 2])
    }

    /// `(k, n)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    pub(super) fn depth(&self) -> usize {
        self.k.div_ceil(DEPTH)
    }
}

/// `put(i, part)` for every part of `size` values, on as many threads.
fn each_part(data: &mut [u16], size: usize, threads: Threads, put: impl Fn(usize, &mut [u16]) + Sync) {
    match threads {
        Threads::One => data.chunks_mut(size).enumerate().for_each(|(i, part)| put(i, part)),
        Threads::All => {
            data.par_chunks_mut(size).with_min_len(2).enumerate().for_each(|(i, part)| put(i, part));
        }
    }
}

/// Puts the transpose of two tiles that lie side by side at depth `line` of two columns of tiles, or of one where the other
/// is past the end.
fn put_transposed(to: &mut [u16], line: usize, depth: usize, from: [&[u16; TILE]; 2]) {
    let [mut low, mut high] = [[0; TILE]; 2];
    transpose_tiles([&mut low, &mut high], from);
    for (half, tile) in [low, high].iter().enumerate() {
        let at = (half * depth + line) * TILE;
        if let Some(to) = to.get_mut(at..at + TILE) {
            to.copy_from_slice(tile);
        }
    }
}

/// See [`crate::bf16::wide::transpose_tiles`].
pub(super) fn transpose_tiles(to: [&mut [u16; TILE]; 2], from: [&[u16; TILE]; 2]) {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::has_wide_words() {
        // SAFETY: the CPU was just asked for these instructions.
        return unsafe { crate::bf16::wide::transpose_tiles(to, from) };
    }
    transpose_tiles_plain(to, from);
}

/// [`transpose_tiles`] value by value.
pub(super) fn transpose_tiles_plain(to: [&mut [u16; TILE]; 2], from: [&[u16; TILE]; 2]) {
    let place = |row: usize, column: usize| (column / 16, row / 2 * 32 + column % 16 * 2 + row % 2);
    for row in 0..DEPTH {
        for column in 0..DEPTH {
            let ((tile, at), (from_tile, from_at)) = (place(row, column), place(column, row));
            to[tile][at] = from[from_tile][from_at];
        }
    }
}

/// Column `j` of a column of tiles.
fn put_column(tiles: &mut [u16], j: usize, values: &[f32], factor: f32) {
    for (tile, values) in tiles.chunks_exact_mut(TILE).zip(values.chunks(DEPTH)) {
        let (mut scaled, mut rounded) = ([0.0; DEPTH], [0; DEPTH]);
        scaled.iter_mut().zip(values).for_each(|(to, from)| *to = from * factor);
        round_row(&mut rounded, &scaled);
        for (line, pair) in tile.chunks_exact_mut(32).zip(rounded.chunks_exact(2)) {
            line[2 * j..2 * j + 2].copy_from_slice(pair);
        }
    }
}

/// All rows of a column of tiles, from the columns of `b` that belong to it.
fn put_rows(tiles: &mut [u16], b: Mat<'_>, columns: std::ops::Range<usize>, factor: f32) {
    let (k, _) = b.shape();
    for row in (0..k).step_by(2) {
        let mut two = [[0.0; 16]; 2];
        for (to, row) in two.iter_mut().zip(row..k) {
            to.iter_mut().zip(&b.row(row)[columns.clone()]).for_each(|(to, from)| *to = from * factor);
        }
        let line = &mut tiles[row / DEPTH * TILE + row % DEPTH / 2 * 32..][..32];
        round_pair(line, &two[0][..columns.len()], &two[1][..columns.len()]);
    }
}
