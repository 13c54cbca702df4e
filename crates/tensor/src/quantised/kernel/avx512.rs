//! With 512-bit vectors and VNNI: the 16 outputs of a group are the lanes of a vector.

use super::tile::TileBlock;
use super::{BLOCK, GROUP, LEAST, Matrix, PLAIN, Row, SUPER, SUPER_SIX, zero};
use crate::quantised::Line;
use std::arch::x86_64::*;

/// Cells that are asked for ahead of time: about 2 KiB, since the hardware does not look past a page.
const AHEAD: usize = 8;

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn line(line: &Line) -> __m512i {
    // SAFETY: a line is 64 bytes on a multiple of 64.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn halves(scales: &[u16; GROUP]) -> __m512 {
    // SAFETY: 16 numbers of 16 bits are 32 bytes; the load needs no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(scales.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn small<const SIGNED: bool>(subs: &[u8; GROUP]) -> __m512 {
    // SAFETY: the load takes 16 bytes and needs no alignment.
    let bytes = unsafe { _mm_loadu_si128(subs.as_ptr().cast()) };
    _mm512_cvtepi32_ps(if SIGNED { _mm512_cvtepi8_epi32(bytes) } else { _mm512_cvtepu8_epi32(bytes) })
}

/// The eight vectors of codes of a cell: lane `r` of vector `v` holds columns `4v..4v+4` of row `r`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn codes<const BITS: usize>(lines: &[Line]) -> [__m512i; 8] {
    assert!(lines.len() == BITS);
    let low = _mm512_set1_epi8(15);
    let mut codes = [_mm512_setzero_si512(); 8];
    if BITS == 8 {
        for v in 0..8 {
            codes[v] = line(&lines[v]);
        }
        return codes;
    }
    for v in 0..4 {
        let both = line(&lines[v]);
        codes[v] = _mm512_and_si512(both, low);
        codes[4 + v] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), low);
    }
    if BITS == 5 {
        let (high, bit) = (line(&lines[4]), _mm512_set1_epi8(16));
        let up = [
            _mm512_slli_epi16::<4>(high),
            _mm512_slli_epi16::<3>(high),
            _mm512_slli_epi16::<2>(high),
            _mm512_slli_epi16::<1>(high),
            high,
            _mm512_srli_epi16::<1>(high),
            _mm512_srli_epi16::<2>(high),
            _mm512_srli_epi16::<3>(high),
        ];
        for v in 0..8 {
            codes[v] = _mm512_or_si512(codes[v], _mm512_and_si512(up[v], bit));
        }
    }
    if BITS == 6 {
        let bits = _mm512_set1_epi8(48);
        for part in 0..2 {
            let high = line(&lines[4 + part]);
            let up = [
                _mm512_slli_epi16::<4>(high),
                _mm512_slli_epi16::<2>(high),
                high,
                _mm512_srli_epi16::<2>(high),
            ];
            for v in 0..4 {
                let at = 4 * part + v;
                codes[at] = _mm512_or_si512(codes[at], _mm512_and_si512(up[v], bits));
            }
        }
    }
    codes
}

/// Scale (of the first half and of the second) and least value of the 16 rows of a cell.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn scales<const KIND: u8>(m: &Matrix, cell: usize) -> (__m512, __m512, __m512) {
    let scale = |i: usize| halves(m.scales[i * GROUP..].first_chunk().expect("16 scales a cell"));
    let sub = |i: usize| m.subs[(2 * cell + i) * GROUP..].first_chunk().expect("32 integers a cell");
    let none = _mm512_setzero_ps();
    match KIND {
        PLAIN => (scale(cell), none, none),
        LEAST => (scale(2 * cell), none, scale(2 * cell + 1)),
        SUPER => {
            let least = _mm512_mul_ps(scale(cell / 8 * 2 + 1), small::<false>(sub(1)));
            let least = _mm512_sub_ps(none, least);
            (_mm512_mul_ps(scale(cell / 8 * 2), small::<false>(sub(0))), none, least)
        }
        _ => {
            let scale = scale(cell / 8);
            let part = |i| _mm512_mul_ps(scale, small::<true>(sub(i)));
            (part(0), part(1), none)
        }
    }
}

/// The outputs of a group for R rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub fn group<const BITS: usize, const KIND: u8, const R: usize>(
    m: &Matrix,
    group: usize,
    x: &[Row<'_>; R],
) -> [[f32; GROUP]; R] {
    let mut y = [_mm512_setzero_ps(); R];
    for block in 0..m.blocks() {
        let cell = group * m.blocks() + block;
        let ahead = m.codes.as_ptr().wrapping_add((cell + AHEAD) * BITS);
        for v in 0..BITS {
            // Past the end of the codes it is a hint about an address that nothing is read from.
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(v).cast());
        }
        let codes = codes::<BITS>(&m.codes[cell * BITS..][..BITS]);
        let (first, second, least) = scales::<KIND>(m, cell);
        for r in 0..R {
            let row = x[r].codes[block * BLOCK..].first_chunk().expect("whole blocks");
            let sums = x[r].sums[block];
            let (mut a, mut b) = (
                _mm512_set1_epi32(-zero(BITS, KIND) * sums[0]),
                _mm512_set1_epi32(-zero(BITS, KIND) * sums[1]),
            );
            for v in 0..4 {
                a = _mm512_dpbusd_epi32(a, codes[v], four(row, v));
                b = _mm512_dpbusd_epi32(b, codes[4 + v], four(row, 4 + v));
            }
            let step = _mm512_set1_ps(x[r].scales[block]);
            let products = if KIND == SUPER_SIX {
                let b = _mm512_mul_ps(second, _mm512_cvtepi32_ps(b));
                _mm512_fmadd_ps(first, _mm512_cvtepi32_ps(a), b)
            } else {
                _mm512_mul_ps(first, _mm512_cvtepi32_ps(_mm512_add_epi32(a, b)))
            };
            y[r] = _mm512_fmadd_ps(products, step, y[r]);
            if KIND == LEAST || KIND == SUPER {
                y[r] = _mm512_fmadd_ps(least, _mm512_set1_ps(x[r].totals[block]), y[r]);
            }
        }
    }
    values(y)
}

/// The bits of 1.5 · 2²³: an integer of less than 2²² added to them is added to the number. A scale has at most 19 significant
/// bits, so that its product with that number is exact, and what is left after taking it away again is rounded once, as the
/// product with the integer would be: one instruction instead of a conversion and a product.
const SHIFTED: i32 = 0x4b40_0000;

/// Rows that meet a group taken apart at a time: their sums, as integers and in f32, fill most of the registers.
pub const TILE: usize = 8;

/// A group of weights taken apart, for more than one tile of rows: what [`group`] works out again for every few rows.
#[derive(Debug, Default)]
pub struct Apart {
    /// Of each cell, as [`codes`] gives them.
    codes: Vec<[__m512i; 8]>,
    /// Of each cell, as [`scales`] gives them.
    scales: Vec<[__m512; 3]>,
}

impl Apart {
    /// Takes a group apart.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn take<const BITS: usize, const KIND: u8>(&mut self, m: &Matrix, group: usize) {
        self.codes.clear();
        self.scales.clear();
        for cell in group * m.blocks()..(group + 1) * m.blocks() {
            self.codes.push(codes::<BITS>(&m.codes[cell * BITS..][..BITS]));
            let (first, second, least) = scales::<KIND>(m, cell);
            self.scales.push([first, second, least]);
        }
    }

    /// The outputs of the group for a tile of rows: the sums of [`group`] in the same order, so that they are equal bit by bit.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn tile<const BITS: usize, const KIND: u8>(&self, x: &[TileBlock<TILE>]) -> [[f32; GROUP]; TILE] {
        let zero = zero(BITS, KIND);
        assert!(x.len() == self.codes.len() && x.len() == self.scales.len());
        let mut y = [_mm512_setzero_ps(); TILE];
        for ((codes, [first, second, least]), x) in self.codes.iter().zip(&self.scales).zip(x) {
            let mut a = [_mm512_setzero_si512(); TILE];
            let mut products = [_mm512_setzero_ps(); TILE];
            if KIND == SUPER_SIX {
                // The second half of the columns has scales of its own.
                for r in 0..TILE {
                    a[r] = _mm512_set1_epi32(-zero * x.sums[r][1]);
                }
                for v in 4..8 {
                    for r in 0..TILE {
                        a[r] = _mm512_dpbusd_epi32(a[r], codes[v], four(&x.codes[r], v));
                    }
                }
                for r in 0..TILE {
                    products[r] = _mm512_mul_ps(*second, _mm512_cvtepi32_ps(a[r]));
                    a[r] = _mm512_set1_epi32(-zero * x.sums[r][0]);
                }
            } else {
                for r in 0..TILE {
                    a[r] = _mm512_set1_epi32(SHIFTED - zero * (x.sums[r][0] + x.sums[r][1]));
                }
            }
            let back = _mm512_mul_ps(*first, _mm512_set1_ps(-f32::from_bits(SHIFTED as u32)));
            for v in 0..if KIND == SUPER_SIX { 4 } else { 8 } {
                for r in 0..TILE {
                    a[r] = _mm512_dpbusd_epi32(a[r], codes[v], four(&x.codes[r], v));
                }
            }
            for r in 0..TILE {
                products[r] = if KIND == SUPER_SIX {
                    _mm512_fmadd_ps(*first, _mm512_cvtepi32_ps(a[r]), products[r])
                } else {
                    _mm512_fmadd_ps(*first, _mm512_castsi512_ps(a[r]), back)
                };
                y[r] = _mm512_fmadd_ps(products[r], _mm512_set1_ps(x.scales[r]), y[r]);
                if KIND == LEAST || KIND == SUPER {
                    y[r] = _mm512_fmadd_ps(*least, _mm512_set1_ps(x.totals[r]), y[r]);
                }
            }
        }
        values(y)
    }
}

/// Columns `4v..4v+4` of a block of a row, in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn four(codes: &[i8; BLOCK], v: usize) -> __m512i {
    _mm512_set1_epi32(super::tile::four(codes, v))
}

/// Vectors as numbers.
#[inline]
#[target_feature(enable = "avx512f")]
fn values<const R: usize>(y: [__m512; R]) -> [[f32; GROUP]; R] {
    let mut values = [[0.0; GROUP]; R];
    for r in 0..R {
        // SAFETY: 16 values are 64 bytes; the store needs no alignment.
        unsafe { _mm512_storeu_ps(values[r].as_mut_ptr(), y[r]) };
    }
    values
}
