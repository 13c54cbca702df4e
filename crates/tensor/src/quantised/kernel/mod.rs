//! One group of 16 outputs against rows of 8-bit integers, compiled for what the CPU has. Few rows meet it as it lies; many, on vectors,
//! in tiles after it was taken apart once.
//!
//! Every path computes the same integer sums and adds the blocks in the same order in f32; they differ in how products and
//! sums in f32 are fused. The portable path is the safe reference of the others.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod tile;

use super::activation::{Rounded, Row};
use super::{BLOCK, GROUP, Matrix, Scales, dequantise};
use crate::cpu::{self, Level};
#[cfg(target_arch = "x86_64")]
use tile::TileBlock;

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// 512-bit vectors with VNNI.
    Avx512Vnni,
    /// 256-bit vectors.
    Avx2,
    /// Whatever every CPU of the target has.
    Portable,
}

impl Path {
    /// The fastest that this CPU has and may use.
    pub fn best() -> Path {
        let paths = [(Path::Avx512Vnni, Level::Avx512), (Path::Avx2, Level::Avx2)];
        let may = |(path, level): &(Path, Level)| path.available() && cpu::allowed() >= *level;
        paths.into_iter().find(may).map_or(Path::Portable, |(path, _)| path)
    }

    /// Whether this CPU has it.
    pub fn available(self) -> bool {
        match self {
            Path::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// Rows from which on it pays to take a group of weights apart first.
const MANY: usize = 16;

/// What meets groups one after the other: rows, and memory that groups use again.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    rows: Vec<Row<'a>>,
    tiles: Tiles,
}

/// Many rows as a path reads them, and a group taken apart for them.
#[derive(Debug)]
enum Tiles {
    /// Few rows, or a path that reads them as they lie.
    None,
    #[cfg(target_arch = "x86_64")]
    Avx512(Vec<TileBlock<{ avx512::TILE }>>, avx512::Apart),
    #[cfg(target_arch = "x86_64")]
    Avx2(Vec<TileBlock<{ avx2::TILE }>>, avx2::Apart),
}

impl<'a> Inputs<'a> {
    /// Puts rows in the order in which a path reads them.
    pub fn new(path: Path, x: &'a Rounded) -> Self {
        let rows: Vec<Row<'a>> = (0..x.rows()).map(|row| x.row(row)).collect();
        let tiles = match path {
            _ if rows.len() < MANY || !path.available() => Tiles::None,
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni => Tiles::Avx512(tile::tile_blocks(&rows), avx512::Apart::default()),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => Tiles::Avx2(tile::tile_blocks(&rows), avx2::Apart::default()),
            _ => Tiles::None,
        };
        Inputs { rows, tiles }
    }
}

/// Evaluates `$call` with the constants `$bits` and `$kind` of a format.
#[cfg(target_arch = "x86_64")]
macro_rules! by_format {
    ($format:expr, $bits:ident, $kind:ident => $call:expr) => {
        by_format!($format, $bits, $kind => $call;
            (4, Scales::Plain, PLAIN), (4, Scales::Least, LEAST), (4, Scales::Super, SUPER),
            (5, Scales::Plain, PLAIN), (5, Scales::Least, LEAST), (5, Scales::Super, SUPER),
            (6, Scales::SuperSix, SUPER_SIX), (8, Scales::Plain, PLAIN))
    };
    ($format:expr, $bits:ident, $kind:ident => $call:expr; $(($n:literal, $scales:pat, $k:expr)),*) => {
        match ($format.bits(), $format.scales()) {
            $(($n, $scales) => {
                const $bits: usize = $n;
                const $kind: u8 = $k;
                $call
            })*
            (bits, scales) => unreachable!("no format has {bits} bits and {scales:?}"),
        }
    };
}

/// The 16 outputs of a group for every row of x: calls `store(row, values)` for each.
pub(super) fn group(
    path: Path,
    m: &Matrix,
    group: usize,
    x: &mut Inputs<'_>,
    mut store: impl FnMut(usize, &[f32; GROUP]),
) {
    assert!(group < m.groups() && x.rows.iter().all(|row| row.codes.len() == m.columns));
    let mut row = tiles(m, group, x, &mut store);
    let (fours, rest) = x.rows[row..].as_chunks::<4>();
    for four in fours {
        for values in &some_rows(path, m, group, four) {
            store(row, values);
            row += 1;
        }
    }
    for (i, one) in rest.iter().enumerate() {
        store(row + i, &some_rows(path, m, group, &[*one])[0]);
    }
}

/// The tiles of [`Inputs`], if there are any, with the group taken apart once; gives the first row that is left.
fn tiles(
    m: &Matrix,
    group: usize,
    x: &mut Inputs<'_>,
    store: &mut impl FnMut(usize, &[f32; GROUP]),
) -> usize {
    let mut row = 0;
    #[cfg(target_arch = "x86_64")]
    let mut stored = |tile: &[[f32; GROUP]]| {
        for values in tile {
            store(row, values);
            row += 1;
        }
    };
    match &mut x.tiles {
        Tiles::None => {}
        #[cfg(target_arch = "x86_64")]
        Tiles::Avx512(tiles, apart) => by_format!(m.format, BITS, KIND => {
            // SAFETY: there are such tiles only where the CPU has the features of their path, see [`Inputs::new`].
            unsafe { apart.take::<BITS, KIND>(m, group) };
            // SAFETY: as above.
            tiles.chunks_exact(m.blocks()).for_each(|blocks| stored(&unsafe { apart.tile::<BITS, KIND>(blocks) }));
        }),
        #[cfg(target_arch = "x86_64")]
        Tiles::Avx2(tiles, apart) => by_format!(m.format, BITS, KIND => {
            // SAFETY: as above.
            unsafe { apart.take::<BITS, KIND>(m, group) };
            // SAFETY: as above.
            tiles.chunks_exact(m.blocks()).for_each(|blocks| stored(&unsafe { apart.tile::<BITS, KIND>(blocks) }));
        }),
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (m, group, store);
    row
}

fn some_rows<const R: usize>(path: Path, m: &Matrix, group: usize, x: &[Row<'_>; R]) -> [[f32; GROUP]; R] {
    #[cfg(target_arch = "x86_64")]
    if path.available() {
        match path {
            Path::Avx512Vnni => {
                // SAFETY: the CPU was just asked for the features of this path.
                return by_format!(m.format, BITS, KIND => unsafe { avx512::group::<BITS, KIND, R>(m, group, x) });
            }
            Path::Avx2 => {
                // SAFETY: as above.
                return by_format!(m.format, BITS, KIND => unsafe { avx2::group::<BITS, KIND, R>(m, group, x) });
            }
            Path::Portable => {}
        }
    }
    let _ = path;
    portable(m, group, x)
}

fn portable<const R: usize>(m: &Matrix, group: usize, x: &[Row<'_>; R]) -> [[f32; GROUP]; R] {
    let mut y = [[0.0; GROUP]; R];
    for block in 0..m.blocks() {
        let cell = group * m.blocks() + block;
        let scales = dequantise::scales(m, cell);
        for (y, x) in y.iter_mut().zip(x) {
            let sums = dequantise::dot(m, cell, &x.codes[block * BLOCK..][..BLOCK]);
            let step = x.scales[block];
            let total = x.totals[block];
            for lane in 0..GROUP {
                let ([first, second], [a, b]) = (scales[lane], sums[lane]);
                let products = match m.format.scales() {
                    Scales::SuperSix => first.0 * a as f32 + second.0 * b as f32,
                    _ => first.0 * (a + b) as f32,
                };
                y[lane] += products * step + first.1 * total;
            }
        }
    }
    y
}

/// [`Scales`] as numbers, for constant parameters.
#[cfg(target_arch = "x86_64")]
const PLAIN: u8 = 0;
#[cfg(target_arch = "x86_64")]
const LEAST: u8 = 1;
#[cfg(target_arch = "x86_64")]
const SUPER: u8 = 2;
#[cfg(target_arch = "x86_64")]
const SUPER_SIX: u8 = 3;

/// The code that stands for 0, see [`super::Format::zero`], by the constant parameters of a kernel.
#[cfg(target_arch = "x86_64")]
const fn zero(bits: usize, kind: u8) -> i32 {
    if kind == PLAIN || kind == SUPER_SIX { 1 << (bits - 1) } else { 0 }
}
