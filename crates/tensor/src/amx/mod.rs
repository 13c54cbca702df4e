//! Matrix products in bf16 on AMX tiles, accumulated in f32: `c = Σ a · b` over terms, each with a left factor as [`Left`]
//! and a right one as [`Packed`].
//!
//! Both factors are rounded to bf16 (nearest, ties to even), products are exact, sums are f32. The safe reference is
//! [`crate::matmul`] on rounded inputs; the tests compare the two. What this module leaves to others: which rows meet which
//! weights, and when (`block`).

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod kernel;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[path = "no_kernel.rs"]
mod kernel;
#[cfg(test)]
mod tests;

use crate::aligned::Aligned;
use crate::bf16::{round, round_pair, round_pairs, round_row, widen};
use crate::cross_entropy::argmax;
use crate::matmul::{Into, Mat, Threads};
pub(crate) use kernel::Session;
use rayon::prelude::*;

/// Rows and columns of one block of the output: two tiles each way.
pub const BLOCK: usize = 32;
/// Values of the inner dimension in one tile.
const DEPTH: usize = 32;
/// Terms that one product may have: queries, keys and values with their low-rank parts are six.
pub(crate) const TERMS: usize = 8;
/// Columns of a stretch of [`best`].
const SHARE: usize = 512;
/// Values in one tile.
pub(crate) const TILE: usize = 512;

/// How a process stands to the tile registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They may be used.
    Ready,
    /// The CPU has none for bf16, or [`crate::cpu::SWITCH`] holds them back.
    Absent,
    /// The CPU has them, and the system does not let this process use them.
    Refused,
}

/// Asks CPU and system, once.
pub fn state() -> State {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        use std::sync::OnceLock;
        static ANSWER: OnceLock<State> = OnceLock::new();
        let ask = || match crate::cpu::allowed() == crate::cpu::Level::Amx && kernel::exist() {
            false => State::Absent,
            true if crate::cpu::refuses_tiles() || !kernel::permitted() => State::Refused,
            true => State::Ready,
        };
        *ANSWER.get_or_init(ask)
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    State::Absent
}

/// Whether tiles may be used.
pub fn available() -> bool {
    state() == State::Ready
}

/// A left factor `[rows, k]` in bf16 as strips of tiles: for each 16 rows, for each 32 columns, 16 lines of 32 values. Rows
/// are padded to whole blocks with values of no meaning, columns with zeros.
#[derive(Clone, Debug, Default)]
pub struct Left {
    data: Aligned<u16>,
    rows: usize,
    k: usize,
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
        assert_eq!(panel.len() / TILE, self.data.len() / TILE / depth, "amx: a panel of other rows");
        for (strip, panel) in panel.chunks_exact(TILE).enumerate() {
            round_row(&mut self.data[(strip * depth + column) * TILE..][..TILE], panel);
        }
    }

    /// The transpose of `x [k, rows]` with rows `stride` apart.
    pub fn load_transposed(&mut self, x: &[f32], stride: usize, k: usize, rows: usize) {
        self.reset(rows, k);
        let depth = self.depth();
        for (inner, x) in x.chunks(stride).take(k).enumerate() {
            for (i, &value) in x[..rows].iter().enumerate() {
                self.data[(i / 16 * depth + inner / DEPTH) * TILE + i % 16 * DEPTH + inner % DEPTH] =
                    round(value);
            }
        }
    }

    /// `(rows, k)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.k)
    }

    fn depth(&self) -> usize {
        self.k.div_ceil(DEPTH)
    }
}

/// A right factor `[k, n]` in bf16, laid out as tiles: for each 16 columns, for each 32 rows, pairs of rows interleaved.
/// Padded with zeros to whole tiles.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    data: Aligned<u16>,
    k: usize,
    n: usize,
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
        match threads {
            Threads::One => {
                to.data.chunks_mut(size).enumerate().for_each(|(i, to)| self.transpose_row(i, &columns, to));
            }
            Threads::All => {
                let each = to.data.par_chunks_mut(size).with_min_len(2).enumerate();
                each.for_each(|(i, to)| self.transpose_row(i, &columns, to));
            }
        }
    }

    /// Tiles of the transpose's columns from `32 · row` on: two columns of tiles, or one where the other is past the end.
    fn transpose_row(&self, row: usize, columns: &std::ops::Range<usize>, to: &mut [u16]) {
        let (depth, to_depth) = (self.depth(), columns.len().div_ceil(DEPTH));
        let mut spare = [[0; TILE]; 2];
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
            let (low, high) = spare.split_at_mut(1);
            transpose_tiles([&mut low[0], &mut high[0]], from);
            for (half, tile) in spare.iter().enumerate() {
                let at = (half * to_depth + line) * TILE;
                if let Some(to) = to.get_mut(at..at + TILE) {
                    to.copy_from_slice(tile);
                }
            }
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

    fn depth(&self) -> usize {
        self.k.div_ceil(DEPTH)
    }
}

/// See [`crate::bf16::wide::transpose_tiles`].
fn transpose_tiles(to: [&mut [u16; TILE]; 2], from: [&[u16; TILE]; 2]) {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::has_wide_bf16() {
        // SAFETY: the CPU was just asked for these instructions.
        return unsafe { crate::bf16::wide::transpose_tiles(to, from) };
    }
    transpose_tiles_plain(to, from);
}

/// [`transpose_tiles`] value by value.
fn transpose_tiles_plain(to: [&mut [u16; TILE]; 2], from: [&[u16; TILE]; 2]) {
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

/// One term of a block: strips of the left factor, columns of the right one, both `depth` tiles long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term<'a> {
    pub a: &'a [u16],
    pub b: &'a [u16],
    pub depth: usize,
}

/// `c = Σ a · b` or `c += Σ a · b` over the terms, for the columns of the right factors from `column` on, a multiple of 32, as
/// many as fit into `width`: `c` holds rows of `width` values, whole blocks of them, on this thread.
pub fn panel(c: &mut [f32], width: usize, into: Into, column: usize, terms: &[(&Left, &Packed)]) {
    let Some(((first, _), right)) = terms.first().map(|t| (t, t.1)) else { return };
    let (rows, n) = (first.rows, right.n);
    assert!(terms.iter().all(|(a, b)| a.k == b.k && a.rows == rows && b.n == n), "amx: terms do not fit");
    let padded = rows.next_multiple_of(BLOCK);
    assert!(width.is_multiple_of(BLOCK) && c.len() == padded * width && column.is_multiple_of(BLOCK));
    let session = Session::begin();
    let mut views = [Term { a: &[], b: &[], depth: 0 }; TERMS];
    let views = &mut views[..terms.len()];
    for (j, start) in (column..n.min(column + width)).step_by(BLOCK).enumerate() {
        for row in (0..rows).step_by(BLOCK) {
            for (view, (a, b)) in views.iter_mut().zip(terms) {
                *view = Term {
                    a: &a.data[row / 16 * a.depth() * TILE..],
                    b: &b.data[start / 16 * b.depth() * TILE..],
                    depth: a.depth(),
                };
            }
            let c = &mut c[row * width + j * BLOCK..];
            match (rows - row > 16, n - start > 16) {
                (true, true) => session.block::<2, 2>(views, c, width, into),
                (true, false) => session.block::<2, 1>(views, c, width, into),
                (false, true) => session.block::<1, 2>(views, c, width, into),
                (false, false) => session.block::<1, 1>(views, c, width, into),
            }
        }
    }
}

/// `c = a · b` or `c += a · b` on all threads, with `a [m, k]` of contiguous rows and `c [m, n]` row-major: for the head.
///
/// # Panics
/// When shapes do not fit, or AMX is not [`available`].
pub fn matmul(c: &mut [f32], into: Into, a: Mat<'_>, b: &Packed) {
    let (m, k) = a.shape();
    assert!(available(), "AMX is not available");
    assert_eq!((k, m * b.n), (b.k, c.len()), "amx: [{m}, {k}] · [{}, {}] into {} values", b.k, b.n, c.len());
    if m == 0 || b.n == 0 {
        return;
    }
    let mut left = Left::default();
    left.load(a);
    // Columns are dealt out, so that every task reads its own part of b; the panels are put together row by row after that.
    let share = b.n.div_ceil(rayon::current_num_threads() * 4).next_multiple_of(BLOCK).min(1024);
    let size = m.next_multiple_of(BLOCK) * share;
    let mut panels = Aligned::<f32>::zeros(b.n.div_ceil(share) * size);
    panels.par_chunks_mut(size).enumerate().for_each(|(i, c)| {
        panel(c, share, Into::Set, i * share, &[(&left, b)]);
    });
    c.par_chunks_exact_mut(b.n).enumerate().for_each(|(row, c)| {
        for (c, panel) in c.chunks_mut(share).zip(panels.chunks_exact(size)) {
            let panel = &panel[row * share..][..c.len()];
            match into {
                Into::Set => c.copy_from_slice(panel),
                Into::Add => c.iter_mut().zip(panel).for_each(|(c, p)| *c += p),
            }
        }
    });
}

/// For each row of `a · b` the column of its largest value, the first of equals, on all threads: the product is looked at a
/// stretch of columns at a time and never lies in memory as a whole.
///
/// # Panics
/// When shapes do not fit, AMX is not [`available`], or `b` has no columns.
pub fn best(a: Mat<'_>, b: &Packed) -> Vec<u32> {
    let (m, k) = a.shape();
    assert!(available(), "AMX is not available");
    assert!(k == b.k && b.n > 0, "amx: [{m}, {k}] · [{}, {}]", b.k, b.n);
    let mut left = Left::default();
    left.load(a);
    let size = m.next_multiple_of(BLOCK) * SHARE;
    let found: Vec<Vec<(f32, u32)>> = (0..b.n.div_ceil(SHARE))
        .into_par_iter()
        .map_init(
            || Aligned::<f32>::zeros(size),
            |c, i| {
                panel(c, SHARE, Into::Set, i * SHARE, &[(&left, b)]);
                let columns = SHARE.min(b.n - i * SHARE);
                let top = |row: &[f32]| {
                    let at = argmax(&row[..columns]);
                    (row[at], (i * SHARE + at) as u32)
                };
                c.chunks_exact(SHARE).take(m).map(top).collect()
            },
        )
        .collect();
    let first = |a: (f32, u32), b: (f32, u32)| if b.0 > a.0 { b } else { a };
    (0..m).map(|row| found.iter().map(|tops| tops[row]).fold((f32::NEG_INFINITY, 0), first).1).collect()
}
