//! Matrix products in bf16, accumulated in f32: `c = Σ a · b` over terms, each with a left factor as [`Left`] and a right one as
//! [`Packed`], which lie in memory as tiles.
//!
//! Both factors are rounded to bf16 (nearest, ties to even), products are exact, sums are f32. Tiles are multiplied in the tile
//! registers of AMX (`registers`), elsewhere in vector registers (`vectors`). The safe reference is [`crate::matmul`] on rounded
//! inputs; the tests compare the three. What this module leaves to others: which rows meet which weights, and when (`block`).

mod factor;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod registers;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[path = "no_registers.rs"]
mod registers;
#[cfg(test)]
mod tests;
pub(crate) mod vectors;

use crate::aligned::Aligned;
use crate::cpu::Isa;
use crate::cross_entropy::argmax;
use crate::matmul::{Into, Mat};
pub use factor::{Left, Packed};
use rayon::prelude::*;
pub(crate) use registers::Session;
use vectors::{Side, Strided};

/// Rows and columns of one block of the output: two tiles each way.
pub const BLOCK: usize = 32;
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
        let ask = || match crate::cpu::allowed() == crate::cpu::Level::Amx && registers::exist() {
            false => State::Absent,
            true if crate::cpu::refuses_tiles() || !registers::permitted() => State::Refused,
            true => State::Ready,
        };
        *ANSWER.get_or_init(ask)
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    State::Absent
}

/// Whether the tile registers may be used.
pub fn amx_available() -> bool {
    state() == State::Ready
}

/// Whether products in bf16 are faster here than those in f32: in tile registers, or with instructions for fused sums. Without
/// either, `gemm` knows more of the CPU than [`panel`] does.
pub fn accelerated() -> bool {
    amx_available() || vectors::best() != Isa::Portable
}

/// One term of a block: strips of the left factor, columns of the right one, both `depth` tiles long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term<'a> {
    pub a: &'a [u16],
    pub b: &'a [u16],
    pub depth: usize,
}

impl<'a> From<Term<'a>> for Strided<'a> {
    fn from(Term { a, b, depth }: Term<'a>) -> Self {
        let side = |values| Side { values, second: depth * TILE, step: TILE };
        Strided { a: side(a), b: side(b), depth }
    }
}

/// What multiplies tiles.
pub(crate) enum Unit {
    /// The tile registers.
    Registers(Session),
    /// Vector registers, with the given instructions.
    Vectors(Isa),
}

impl Unit {
    /// The fastest that this process may use, on this thread.
    pub fn best() -> Self {
        if amx_available() { Unit::Registers(Session::begin()) } else { Unit::Vectors(vectors::best()) }
    }

    /// The first `rows` rows (32 at most, and some of no meaning) of a block, and 32 columns of it or 16.
    fn block(&self, rows: usize, wide: bool, terms: &[Term<'_>], c: &mut [f32], width: usize, into: Into) {
        match (self, rows > 16, wide) {
            (Unit::Registers(session), true, true) => session.block::<2, 2>(terms, c, width, into),
            (Unit::Registers(session), true, false) => session.block::<2, 1>(terms, c, width, into),
            (Unit::Registers(session), false, true) => session.block::<1, 2>(terms, c, width, into),
            (Unit::Registers(session), false, false) => session.block::<1, 1>(terms, c, width, into),
            (Unit::Vectors(isa), ..) => {
                let mut strided = [Strided::default(); TERMS];
                strided.iter_mut().zip(terms).for_each(|(to, term)| *to = (*term).into());
                let terms = &strided[..terms.len()];
                match wide {
                    true => vectors::block::<2>(*isa, rows, terms, c, width, into),
                    false => vectors::block::<1>(*isa, rows, terms, c, width, into),
                }
            }
        }
    }
}

/// `c = Σ a · b` or `c += Σ a · b` over the terms, for the columns of the right factors from `column` on, a multiple of 32, as
/// many as fit into `width`: `c` holds rows of `width` values, whole blocks of them, on this thread.
pub fn panel(c: &mut [f32], width: usize, into: Into, column: usize, terms: &[(&Left, &Packed)]) {
    panel_on(&Unit::best(), c, width, into, column, terms);
}

/// [`panel`] on a given unit.
fn panel_on(unit: &Unit, c: &mut [f32], width: usize, into: Into, column: usize, terms: &[(&Left, &Packed)]) {
    let Some(((first, _), right)) = terms.first().map(|t| (t, t.1)) else { return };
    let (rows, n) = (first.rows, right.n);
    assert!(terms.iter().all(|(a, b)| a.k == b.k && a.rows == rows && b.n == n), "tiles: terms do not fit");
    let padded = rows.next_multiple_of(BLOCK);
    assert!(width.is_multiple_of(BLOCK) && c.len() == padded * width && column.is_multiple_of(BLOCK));
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
            unit.block((rows - row).min(BLOCK), n - start > 16, views, c, width, into);
        }
    }
}

/// `c = a · b` or `c += a · b` on all threads, with `a [m, k]` of contiguous rows and `c [m, n]` row-major: for the head.
///
/// # Panics
/// When shapes do not fit.
pub fn matmul(c: &mut [f32], into: Into, a: Mat<'_>, b: &Packed) {
    let (m, k) = a.shape();
    assert_eq!(
        (k, m * b.n),
        (b.k, c.len()),
        "tiles: [{m}, {k}] · [{}, {}] into {} values",
        b.k,
        b.n,
        c.len()
    );
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
/// When shapes do not fit, or `b` has no columns.
pub fn best(a: Mat<'_>, b: &Packed) -> Vec<u32> {
    let (m, k) = a.shape();
    assert!(k == b.k && b.n > 0, "tiles: [{m}, {k}] · [{}, {}]", b.k, b.n);
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
