//! Weights that stay in their 4- to 8-bit blocks, and products with a few rows that read the blocks as they are.
//!
//! The formats are those of GGUF files. A [`Matrix`] holds the file's own numbers, only in another order (`pack`): 16
//! rows side by side, so that one 512-bit accumulator serves 16 outputs and weights are read as one stream. For a product
//! the rows of x are rounded to 8-bit integers per 32 values ([`activation`]) and multiplied as integers (`kernel`).
//!
//! The bound: with `a` the largest |x| in a block of 32, a rounded value is off by at most a/254, so an output is off by at
//! most Σ over blocks of a/254 · Σ|w|, plus f32 rounding. The tests hold every instruction set to it.
//!
//! Products of any number of rows can be had so; which way many rows take is the caller's choice. The other way, a panel of
//! f32 or bf16 weights at a time, is in [`panels`].

pub mod activation;
mod dequantise;
mod kernel;
mod pack;
pub mod panels;

use crate::matmul::Threads;
use crate::pool::{Team, share};
use crate::tiles::Packed;
use activation::Rounded;
pub use kernel::Path;
use std::ops::Range;

/// Outputs that lie side by side.
pub const GROUP: usize = 16;
/// Values of a row that share a scale of the rounded x.
pub const BLOCK: usize = 32;

/// A block format of GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the format's own")]
#[allow(non_camel_case_types, reason = "the names are the format's own")]
pub enum Format {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// How the scales of a block of 32 are stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scales {
    /// A scale.
    Plain,
    /// A scale and a least value.
    Least,
    /// Per 256 a scale and a least value, per 32 small integers that multiply them.
    Super,
    /// Per 256 a scale, per 16 a small integer.
    SuperSix,
}

impl Format {
    /// Values and bytes of a block in a file.
    pub fn block(self) -> (usize, usize) {
        match self {
            Format::Q4_0 => (32, 18),
            Format::Q4_1 => (32, 20),
            Format::Q5_0 => (32, 22),
            Format::Q5_1 => (32, 24),
            Format::Q8_0 => (32, 34),
            Format::Q4_K => (256, 144),
            Format::Q5_K => (256, 176),
            Format::Q6_K => (256, 210),
        }
    }

    /// Bits of a code; also the lines of 64 bytes that the codes of 16 rows by 32 columns take.
    fn bits(self) -> usize {
        match self {
            Format::Q4_0 | Format::Q4_1 | Format::Q4_K => 4,
            Format::Q5_0 | Format::Q5_1 | Format::Q5_K => 5,
            Format::Q6_K => 6,
            Format::Q8_0 => 8,
        }
    }

    fn scales(self) -> Scales {
        match self {
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => Scales::Plain,
            Format::Q4_1 | Format::Q5_1 => Scales::Least,
            Format::Q4_K | Format::Q5_K => Scales::Super,
            Format::Q6_K => Scales::SuperSix,
        }
    }

    /// The code that stands for 0 where there is no least value. Q8_0's signed codes are kept with 128 added.
    fn zero(self) -> i32 {
        match self {
            Format::Q4_0 => 8,
            Format::Q5_0 => 16,
            Format::Q6_K => 32,
            Format::Q8_0 => 128,
            Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => 0,
        }
    }
}

/// 64 bytes on a line of the cache.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A weight `[rows, columns]` in blocks. Rows are padded to a multiple of 16 with zeros.
///
/// A *cell* is 16 rows by 32 columns; cells of a group of rows follow each other. Line `v < 4` of a cell's codes holds in
/// its 32-bit lane `r` the columns `4v..4v+4` of row `r` in the low halves of the bytes and columns 16 further in the high
/// halves; for 5 and 6 bits more lines hold the upper bits; codes of 8 bits take lines `0..8` for columns `4v..4v+4`.
#[derive(Debug)]
pub struct Matrix {
    format: Format,
    rows: usize,
    columns: usize,
    codes: Vec<Line>,
    /// Half-precision scales: 16 or 2 · 16 a cell, or for 8 cells together.
    scales: Vec<u16>,
    /// Small integers: 2 · 16 a cell, where the format has them.
    subs: Vec<u8>,
}

impl Matrix {
    /// From the blocks of a file, row by row. `None` where a scale is not finite: such weights can only be damage.
    ///
    /// # Panics
    /// When `bytes` is not `rows` rows of whole blocks.
    pub fn new(format: Format, bytes: &[u8], rows: usize, columns: usize) -> Option<Self> {
        pack::matrix(format, bytes, rows, columns)
    }

    /// `(rows, columns)`, as `[output, input]`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Its format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.codes.len() * 64 + self.scales.len() * 2 + self.subs.len()
    }

    fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP)
    }

    /// Blocks of 32 in a row.
    fn blocks(&self) -> usize {
        self.columns / BLOCK
    }

    /// Rows `range` in f32, row-major `[range.len(), columns]`: exactly what the file's blocks mean.
    ///
    /// # Panics
    /// When the range is not inside the matrix or `out` has another size.
    pub fn rows(&self, range: Range<usize>, out: &mut [f32]) {
        dequantise::rows(self, range, out);
    }

    /// Rows `range`, which begin at a multiple of 16 and end at one or at the last row, as the right factor Wᵀ
    /// `[columns, range.len()]` in bf16: what is in [`Matrix::rows`], rounded. `to` keeps its memory.
    ///
    /// # Panics
    /// When the range is not inside the matrix, or begins or ends elsewhere.
    pub fn tiles(&self, range: Range<usize>, to: &mut Packed, threads: Threads) {
        dequantise::tiles(self, range, to, threads);
    }

    /// The whole matrix as the right factor W `[rows, columns]` in bf16, for gradients. `to` keeps its memory.
    pub fn transposed_tiles(&self, to: &mut Packed, threads: Threads) {
        dequantise::transposed_tiles(self, to, threads);
    }
}

/// One of several products of the same rows.
pub struct Product<'a> {
    /// W `[output, input]`.
    pub weight: &'a Matrix,
    /// y `[T, output]`, overwritten.
    pub y: &'a mut [f32],
}

/// Products of one input that are computed in one go, at most: decoding makes some hundred a token and should allocate nothing for
/// them.
const MOST: usize = 4;

/// Where a worker writes: its own columns of every row.
struct Target {
    y: *mut f32,
    len: usize,
}

// SAFETY: workers write disjoint groups of columns, see `products_on`.
unsafe impl Sync for Target {}

/// `y = x Wᵀ` for every product, all of one input, on the best path of this CPU: all T rows are multiplied while a group of
/// weights is in the nearest cache.
///
/// # Panics
/// When shapes do not fit, or for more than four products.
pub fn products(team: Team<'_>, x: &Rounded, products: &mut [Product<'_>]) {
    products_on(Path::best(), team, x, products);
}

/// The same on a given path, for tests; one that this CPU lacks runs the portable code.
pub fn products_on(path: Path, team: Team<'_>, x: &Rounded, products: &mut [Product<'_>]) {
    assert!(products.len() <= MOST, "{} products in one go", products.len());
    let mut starts = [0; MOST + 1];
    let mut targets: [Option<(&Matrix, Target)>; MOST] = [const { None }; MOST];
    for (i, Product { weight, y }) in products.iter_mut().enumerate() {
        assert_eq!((weight.columns, weight.rows * x.rows()), (x.width(), y.len()), "quantised product");
        starts[i + 1] = starts[i] + weight.groups();
        targets[i] = Some((*weight, Target { y: y.as_mut_ptr(), len: y.len() }));
    }
    let total = starts[products.len()];
    let groups = |mine: Range<usize>| {
        let mut x = kernel::Inputs::new(path, x);
        for (index, (weight, target)) in targets.iter().flatten().enumerate() {
            let (from, to) = (mine.start.max(starts[index]), mine.end.min(starts[index + 1]));
            for group in from..to {
                let group = group - starts[index];
                kernel::group(path, weight, group, &mut x, |row, values| {
                    let first = group * GROUP;
                    let count = GROUP.min(weight.rows - first);
                    let at = row * weight.rows + first;
                    assert!(at + count <= target.len);
                    // SAFETY: the range lies inside y; a group belongs to one worker, and y is borrowed exclusively
                    // until all are done.
                    unsafe {
                        let to = target.y.add(at);
                        if count == GROUP {
                            // A whole group is one vector, and no call of a function that copies.
                            to.cast::<[f32; GROUP]>().write_unaligned(*values);
                        } else {
                            std::ptr::copy_nonoverlapping(values.as_ptr(), to, count);
                        }
                    }
                });
            }
        }
    };
    match team {
        Team::One => groups(0..total),
        Team::All(pool) => pool.run(&|worker| groups(share(total, pool.threads(), worker))),
    }
}

#[cfg(test)]
mod tests;
