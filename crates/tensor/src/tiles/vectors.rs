//! One block of a product of tiles on vector registers, for CPUs without tile registers and for processes that may not use them: the
//! same values of both factors, products in f32, sums in the same order. Factors lie in memory as bf16 either way; a few rows of the
//! left one at a time are widened to f32, the right one is widened on its way into the registers.

use super::TILE;
use crate::bf16::widen;
use crate::cpu::Isa;
use crate::matmul::Into;

/// Pairs of rows of a right factor in a tile.
#[cfg(target_arch = "x86_64")]
const PAIRS: usize = 16;

/// The widest set of instructions that this CPU has for it and may use.
pub fn best() -> Isa {
    match crate::cpu::best() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if !is_x86_feature_detected!("fma") => Isa::Portable,
        isa => isa,
    }
}

/// A factor: its tiles along the inner dimension begin `step` values apart, those of the next 16 rows or columns `second` values
/// after these.
#[derive(Clone, Copy, Debug, Default)]
pub struct Side<'a> {
    pub values: &'a [u16],
    pub second: usize,
    pub step: usize,
}

impl Side<'_> {
    /// Whether there are `depth` tiles `count` times.
    fn holds(&self, depth: usize, count: usize) -> bool {
        (count - 1) * self.second + (depth - 1) * self.step + TILE <= self.values.len()
    }
}

/// One term of a block, both factors `depth` tiles long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strided<'a> {
    pub a: Side<'a>,
    pub b: Side<'a>,
    pub depth: usize,
}

/// The first `rows` rows (32 at most) of a block `c [32, 16·N]`, with rows `width` apart, of the sum of all terms, and up to seven
/// more of no meaning; else as one of the tile registers. An `isa` that this CPU lacks runs the portable code.
///
/// # Panics
/// When a factor or `c` is too small.
pub fn block<const N: usize>(
    isa: Isa,
    rows: usize,
    terms: &[Strided<'_>],
    c: &mut [f32],
    width: usize,
    into: Into,
) {
    let rows = rows.next_multiple_of(8);
    assert!(rows <= 32 && width >= 16 * N && c.len() >= (rows - 1) * width + 16 * N);
    for Strided { a, b, depth } in terms {
        assert!(*depth > 0 && a.holds(*depth, rows.div_ceil(16)) && b.holds(*depth, N));
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if best() == Isa::Avx512 => {
            for row in (0..rows).step_by(avx512::HEIGHT) {
                // SAFETY: the CPU was just asked for these instructions. The asserts keep the rows from `row` on inside `c`, and
                // what they meet inside the factors.
                unsafe { avx512::rows::<N>(terms, (row, 0), c, width, into) };
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if best() != Isa::Portable => {
            for row in (0..rows).step_by(avx2::HEIGHT) {
                // The sums of two tiles of columns would not fit the registers.
                for column in 0..N {
                    // SAFETY: as above.
                    unsafe { avx2::rows::<1>(terms, (row, column), c, width, into) };
                }
            }
        }
        _ => (0..rows).for_each(|row| one_row::<N>(terms, row, &mut c[row * width..][..16 * N], into)),
    }
}

/// Row `row` of a block without instructions made for it.
fn one_row<const N: usize>(terms: &[Strided<'_>], row: usize, c: &mut [f32], into: Into) {
    let mut sums = [[0.0; 16]; N];
    if into == Into::Add {
        sums.as_flattened_mut().copy_from_slice(c);
    }
    for Strided { a, b, depth } in terms {
        for tile in 0..*depth {
            let a = &a.values[row / 16 * a.second + tile * a.step + row % 16 * 32..][..32];
            for (n, sums) in sums.iter_mut().enumerate() {
                let b = &b.values[n * b.second + tile * b.step..][..TILE];
                for (pair, line) in a.chunks_exact(2).zip(b.chunks_exact(32)) {
                    let (first, second) = (widen(pair[0]), widen(pair[1]));
                    for (sum, two) in sums.iter_mut().zip(line.chunks_exact(2)) {
                        *sum += first * widen(two[0]);
                        *sum += second * widen(two[1]);
                    }
                }
            }
        }
    }
    c.copy_from_slice(sums.as_flattened());
}

/// `rows`: some rows of a block, all sums in registers. What is given from `$feature` to `$pairs` is one set of instructions.
#[cfg(target_arch = "x86_64")]
macro_rules! rows {
    ($feature:literal, $vector:ty, $lanes:literal, $height:literal, $zero:ident, $load:ident, $store:ident, $splat:ident,
     $fused:ident, $widened:ident, $pairs:ident) => {
        /// Rows that are computed at once.
        pub const HEIGHT: usize = $height;
        /// Vectors to a line of 16 columns.
        const VECTORS: usize = 16 / $lanes;

        /// Rows `row` to `row + HEIGHT` of a block and `N` tiles of its columns from tile `column` on.
        ///
        /// # Safety
        /// `c` and the factors are as large as [`super::block`] says.
        #[target_feature(enable = $feature)]
        pub unsafe fn rows<const N: usize>(
            terms: &[Strided<'_>],
            (row, column): (usize, usize),
            c: &mut [f32],
            width: usize,
            into: Into,
        ) {
            let c = c[row * width + 16 * column..].as_mut_ptr();
            let mut sums = [[[$zero(); VECTORS]; N]; HEIGHT];
            let mut wide = [[0.0f32; 32]; HEIGHT];
            // SAFETY: the caller keeps every line that is read or written inside its slice.
            unsafe {
                if into == Into::Add {
                    for i in 0..HEIGHT {
                        for n in 0..N {
                            for v in 0..VECTORS {
                                sums[i][n][v] = $load(c.add(i * width + 16 * n + $lanes * v));
                            }
                        }
                    }
                }
                for term in terms {
                    let a = term.a.values.as_ptr().add(row / 16 * term.a.second + row % 16 * 32);
                    for tile in 0..term.depth {
                        for i in 0..HEIGHT {
                            for v in 0..32 / $lanes {
                                let from = a.add(tile * term.a.step + i * 32 + v * $lanes);
                                $store(wide[i].as_mut_ptr().add(v * $lanes), $widened(from));
                            }
                        }
                        let b = term.b.values.as_ptr().add(column * term.b.second + tile * term.b.step);
                        for pair in 0..PAIRS {
                            let (mut first, mut second) = ([[$zero(); VECTORS]; N], [[$zero(); VECTORS]; N]);
                            for n in 0..N {
                                for v in 0..VECTORS {
                                    let line = b.add(n * term.b.second + pair * 32 + 2 * $lanes * v);
                                    (first[n][v], second[n][v]) = $pairs(line);
                                }
                            }
                            for i in 0..HEIGHT {
                                let x = $splat(wide[i][2 * pair]);
                                for n in 0..N {
                                    for v in 0..VECTORS {
                                        sums[i][n][v] = $fused(x, first[n][v], sums[i][n][v]);
                                    }
                                }
                            }
                            for i in 0..HEIGHT {
                                let x = $splat(wide[i][2 * pair + 1]);
                                for n in 0..N {
                                    for v in 0..VECTORS {
                                        sums[i][n][v] = $fused(x, second[n][v], sums[i][n][v]);
                                    }
                                }
                            }
                        }
                    }
                }
                for i in 0..HEIGHT {
                    for n in 0..N {
                        for v in 0..VECTORS {
                            $store(c.add(i * width + 16 * n + $lanes * v), sums[i][n][v]);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{Into, PAIRS, Strided};
    use std::arch::x86_64::*;

    /// 16 values in f32.
    ///
    /// # Safety
    /// There are as many behind `from`.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn widened(from: *const u16) -> __m512 {
        // SAFETY: see above.
        let values = unsafe { _mm256_loadu_si256(from.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(values)))
    }

    /// The first and the second of 16 pairs.
    ///
    /// # Safety
    /// There are as many behind `from`.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn pairs(from: *const u16) -> (__m512, __m512) {
        // SAFETY: see above.
        let both = unsafe { _mm512_loadu_si512(from.cast()) };
        let second = _mm512_and_si512(both, _mm512_set1_epi32(-1 << 16));
        (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(both)), _mm512_castsi512_ps(second))
    }

    rows!(
        "avx512f",
        __m512,
        16,
        8,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        widened,
        pairs
    );
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Into, PAIRS, Strided};
    use std::arch::x86_64::*;

    /// 8 values in f32.
    ///
    /// # Safety
    /// There are as many behind `from`.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn widened(from: *const u16) -> __m256 {
        // SAFETY: see above.
        let values = unsafe { _mm_loadu_si128(from.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(values)))
    }

    /// The first and the second of 8 pairs.
    ///
    /// # Safety
    /// There are as many behind `from`.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn pairs(from: *const u16) -> (__m256, __m256) {
        // SAFETY: see above.
        let both = unsafe { _mm256_loadu_si256(from.cast()) };
        let second = _mm256_and_si256(both, _mm256_set1_epi32(-1 << 16));
        (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(both)), _mm256_castsi256_ps(second))
    }

    rows!(
        "avx2,fma",
        __m256,
        8,
        4,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        widened,
        pairs
    );
}
