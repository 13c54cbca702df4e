//! A block of rows on its way through a layer: as the left factor of products with frozen weights ([`Rows`]), as the right
//! factor of the products that give an adapter's gradient ([`Right`]), and as the f32 result of a product ([`Panels`]).
//!
//! The same calls work in f32 (through `gemm`) and in bf16 (`tiles`); sums are f32 in both. A block is small enough to stay in
//! a core's cache from one product to the next. Products themselves are in `product`. What this module leaves to others: which
//! products a layer is made of (`model`).

mod product;

pub use product::products_in_blocks;

use crate::aligned::Aligned;
use crate::matmul::Mat;
use crate::quantised::{Matrix, activation::Rounded};
use crate::tiles::{self, Left, Packed};
use std::sync::OnceLock;

/// The number format of both factors of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// f32.
    F32,
    /// bf16, as tiles.
    Bf16,
}

/// A left factor `[rows, k]`.
#[derive(Clone, Debug)]
pub enum Rows {
    /// Row-major.
    F32 {
        /// `[rows, k]`.
        values: Vec<f32>,
        /// Values in a row.
        k: usize,
        /// The same as 8-bit integers, once a product with a weight in blocks has asked for it.
        rounded: OnceLock<Rounded>,
    },
    /// As tiles.
    Bf16(Left),
}

impl Rows {
    /// Nothing yet.
    pub fn new(format: Format) -> Self {
        match format {
            Format::F32 => Rows::F32 { values: Vec::new(), k: 0, rounded: OnceLock::new() },
            Format::Bf16 => Rows::Bf16(Left::default()),
        }
    }

    /// Makes room for `[rows, k]`; every value is to be put.
    pub fn reset(&mut self, rows: usize, width: usize) {
        match self {
            Rows::F32 { values, k, rounded } => {
                rounded.take();
                *k = width;
                values.resize(rows * width, 0.0);
            }
            Rows::Bf16(left) => left.reset(rows, width),
        }
    }

    /// Puts values of row `i` from column `start` on, a multiple of 32.
    #[inline]
    pub fn put(&mut self, i: usize, start: usize, from: &[f32]) {
        match self {
            Rows::F32 { values, k, rounded } => {
                rounded.take();
                values[i * *k + start..][..from.len()].copy_from_slice(from);
            }
            Rows::Bf16(left) => left.put(i, start, from),
        }
    }

    /// Puts all rows of a product from column `start` on.
    pub fn put_panels(&mut self, start: usize, panels: &Panels) {
        if let (Rows::Bf16(left), true) = (&mut *self, panels.n.is_multiple_of(tiles::BLOCK)) {
            let size = panels.width * panels.height;
            let each = panels.values.chunks_exact(size).enumerate();
            return each.for_each(|(p, panel)| left.put_panel(start + p * panels.width, panel));
        }
        for i in 0..panels.rows {
            for (column, piece) in panels.row(i) {
                self.put(i, start + column, piece);
            }
        }
    }

    /// The values `[rows, k]` where they are row-major, to be written in place.
    pub fn plain_mut(&mut self) -> Option<&mut [f32]> {
        match self {
            Rows::F32 { values, rounded, .. } => {
                rounded.take();
                Some(values)
            }
            Rows::Bf16(_) => None,
        }
    }

    /// The transpose of a product.
    pub fn load_transposed(&mut self, panels: &Panels) {
        self.reset(panels.n, panels.rows);
        for i in 0..panels.rows {
            for (column, piece) in panels.row(i) {
                match self {
                    Rows::F32 { values, .. } => {
                        let to = values[column * panels.rows + i..].iter_mut().step_by(panels.rows);
                        to.zip(piece).for_each(|(to, value)| *to = *value);
                    }
                    Rows::Bf16(left) => left.put_column(i, column, piece),
                }
            }
        }
    }

    /// `(rows, k)`.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Rows::F32 { values, k, .. } => (values.len() / (*k).max(1), *k),
            Rows::Bf16(left) => left.shape(),
        }
    }
}

/// A right factor `[k, n]`: a weight, half of an adapter's pair, or a block of rows.
#[derive(Clone, Debug)]
pub enum Right {
    /// Row-major.
    F32 {
        /// `[k, n]`, or `[n, k]`.
        values: Vec<f32>,
        /// Rows.
        k: usize,
        /// Columns.
        n: usize,
        /// Whether `values` are `[n, k]`.
        transposed: bool,
    },
    /// As tiles.
    Bf16(Packed),
}

impl Right {
    /// Nothing yet.
    pub fn new(format: Format) -> Self {
        match format {
            Format::F32 => Right::F32 { values: Vec::new(), k: 0, n: 0, transposed: false },
            Format::Bf16 => Right::Bf16(Packed::default()),
        }
    }

    /// How its values are kept.
    pub fn format(&self) -> Format {
        match self {
            Right::F32 { .. } => Format::F32,
            Right::Bf16(_) => Format::Bf16,
        }
    }

    /// `factor · b`, with `b [k, n]` row-major.
    pub fn plain(format: Format, b: &[f32], k: usize, n: usize, factor: f32) -> Self {
        let mut right = Right::new(format);
        right.set(Mat::new(b, k, n), factor);
        right
    }

    /// `factor · b` in place of what was there; `b` is row-major or the transpose of such a matrix.
    pub fn set(&mut self, b: Mat<'_>, factor: f32) {
        match self {
            Right::Bf16(packed) => packed.set(b, factor),
            Right::F32 { values, k, n, transposed } => {
                (*k, *n) = b.shape();
                *transposed = b.column(0).is_some();
                values.clear();
                let scaled = |row: &[f32]| row.iter().map(|v| v * factor).collect::<Vec<f32>>();
                if *transposed {
                    (0..*n).filter_map(|j| b.column(j)).for_each(|row| values.extend(scaled(row)));
                } else {
                    (0..*k).for_each(|i| values.extend(scaled(b.row(i))));
                }
            }
        }
    }

    /// `factor · bᵀ`, with `b [n, k]` row-major.
    pub fn of_transposed(format: Format, b: Vec<f32>, k: usize, n: usize, factor: f32) -> Self {
        let mut values = b;
        if factor != 1.0 {
            values.iter_mut().for_each(|v| *v *= factor);
        }
        match format {
            Format::F32 => Right::F32 { values, k, n, transposed: true },
            Format::Bf16 => Right::Bf16(Packed::pack(Mat::new(&values, n, k).t())),
        }
    }

    /// Makes room for `[rows, n]`; every value is to be put.
    pub fn reset(&mut self, rows: usize, columns: usize) {
        match self {
            Right::F32 { values, k, n, transposed } => {
                (*k, *n, *transposed) = (rows, columns, false);
                values.resize(rows * columns, 0.0);
            }
            Right::Bf16(packed) => packed.reset(rows, columns),
        }
    }

    /// Puts rows `i` and `i + 1`, `i` even, from column `start` on, a multiple of 32. Where `i` is the last row, `second` is
    /// not looked at.
    #[inline]
    pub fn put_pair(&mut self, i: usize, start: usize, first: &[f32], second: &[f32]) {
        match self {
            Right::F32 { values, k, n, .. } => {
                values[i * *n + start..][..first.len()].copy_from_slice(first);
                if i + 1 < *k {
                    values[(i + 1) * *n + start..][..second.len()].copy_from_slice(second);
                }
            }
            Right::Bf16(packed) if i + 1 < packed.shape().0 => packed.put_pair(i, start, first, second),
            Right::Bf16(packed) => packed.put_pair(i, start, first, &vec![0.0; first.len()]),
        }
    }

    /// Puts all rows of a product from column `start` on.
    pub fn put_panels(&mut self, start: usize, panels: &Panels) {
        let mut done = 0;
        if let (Right::Bf16(packed), true) = (&mut *self, panels.n.is_multiple_of(tiles::BLOCK)) {
            done = panels.rows - panels.rows % tiles::BLOCK;
            let size = panels.width * panels.height;
            for (p, panel) in panels.values.chunks_exact(size).enumerate() {
                packed.put_panel(start + p * panels.width, &panel[..done * panels.width]);
            }
        }
        for i in (done..panels.rows).step_by(2) {
            // A row past the end is not looked at.
            let second = panels.row((i + 1).min(panels.rows - 1));
            for ((column, first), (_, second)) in panels.row(i).zip(second) {
                self.put_pair(i, start + column, first, second);
            }
        }
    }

    /// `(k, n)`.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Right::F32 { k, n, .. } => (*k, *n),
            Right::Bf16(packed) => packed.shape(),
        }
    }

    /// As a product takes it.
    pub fn factor(&self) -> Factor<'_> {
        match self {
            Right::F32 { values, k, n, transposed: true } => Factor::F32(Mat::new(values, *n, *k).t()),
            Right::F32 { values, k, n, .. } => Factor::F32(Mat::new(values, *k, *n)),
            Right::Bf16(packed) => Factor::Bf16(packed),
        }
    }
}

/// A right factor `[k, n]` as a product takes it.
#[derive(Clone, Copy, Debug)]
pub enum Factor<'a> {
    /// f32, either way round.
    F32(Mat<'a>),
    /// As tiles.
    Bf16(&'a Packed),
    /// `[n, k]` in the blocks of a file, for rows in f32: whole, and as the first term of a product.
    Blocks(&'a Matrix),
}

/// The result `[rows, n]` of a product in f32. In bf16 it lies in panels of 32 columns, one after the other, as the tiles write
/// them; in f32 in one panel. Elementwise work on results of equal shape may go over [`Panels::flat`].
#[derive(Clone, Debug, Default)]
pub struct Panels {
    values: Aligned<f32>,
    rows: usize,
    n: usize,
    /// Columns of one panel.
    width: usize,
    /// Rows of one panel: padded.
    height: usize,
}

impl Panels {
    /// Makes room for `[rows, n]`; what was there is of no meaning.
    pub fn reset(&mut self, format: Format, rows: usize, n: usize) {
        let (width, height) = match format {
            Format::F32 => (n, rows),
            Format::Bf16 => (tiles::BLOCK, rows.next_multiple_of(tiles::BLOCK)),
        };
        (self.rows, self.n, self.width, self.height) = (rows, n, width, height);
        self.values.resize(n.div_ceil(width.max(1)) * width * height);
    }

    /// `(rows, n)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.n)
    }

    /// All values with their padding, in storage order.
    pub fn flat(&self) -> &[f32] {
        &self.values
    }

    /// All values with their padding, in storage order.
    pub fn flat_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The pieces of row `i`, each with its first column, a multiple of 32.
    #[inline]
    pub fn row(&self, i: usize) -> impl Iterator<Item = (usize, &[f32])> {
        (0..self.n).step_by(self.width.max(1)).map(move |column| {
            let start = column * self.height + i * self.width;
            (column, &self.values[start..start + self.width.min(self.n - column)])
        })
    }

    /// Element (i, j).
    pub fn get(&self, i: usize, j: usize) -> f32 {
        let width = self.width.max(1);
        self.values[j / width * width * self.height + i * width + j % width]
    }

    /// As [`Panels::row`], to be changed.
    #[inline]
    pub fn row_mut(&mut self, i: usize) -> impl Iterator<Item = (usize, &mut [f32])> {
        let (width, height, n) = (self.width, self.height, self.n);
        let panels = self.values.chunks_exact_mut((width * height).max(1)).enumerate();
        panels.map(move |(p, panel)| {
            let column = p * width;
            (column, &mut panel[i * width..][..width.min(n - column)])
        })
    }

    /// Copies row `i` to `to [n]`.
    pub fn copy_row(&self, i: usize, to: &mut [f32]) {
        for (column, piece) in self.row(i) {
            to[column..column + piece.len()].copy_from_slice(piece);
        }
    }

    /// Sets row `i` to `from [n]`.
    pub fn set_row(&mut self, i: usize, from: &[f32]) {
        for column in (0..self.n).step_by(self.width.max(1)) {
            let (start, len) = (column * self.height + i * self.width, self.width.min(self.n - column));
            self.values[start..start + len].copy_from_slice(&from[column..column + len]);
        }
    }
}

#[cfg(test)]
mod tests;
