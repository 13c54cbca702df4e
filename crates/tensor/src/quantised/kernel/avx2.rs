//! With 256-bit vectors: the 16 outputs of a group in two halves.

use super::{BLOCK, GROUP, LEAST, Matrix, PLAIN, Row, SUPER, SUPER_SIX, zero};
use crate::quantised::Line;
use std::arch::x86_64::*;

/// Rows `8 · part..` of a line.
#[inline]
#[target_feature(enable = "avx2")]
fn line(line: &Line, part: usize) -> __m256i {
    assert!(part < 2);
    // SAFETY: a line is 64 bytes on a multiple of 64, so each half is 32 bytes on a multiple of 32.
    unsafe { _mm256_load_si256(line.0.as_ptr().add(32 * part).cast()) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn halves(scales: &[u16; 8]) -> __m256 {
    // SAFETY: 8 numbers of 16 bits are 16 bytes; the load needs no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(scales.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn small<const SIGNED: bool>(subs: &[u8; 8]) -> __m256 {
    let bytes = _mm_set_epi64x(0, i64::from_le_bytes(*subs));
    _mm256_cvtepi32_ps(if SIGNED { _mm256_cvtepi8_epi32(bytes) } else { _mm256_cvtepu8_epi32(bytes) })
}

/// As in 512 bits, for 8 of the 16 rows.
#[inline]
#[target_feature(enable = "avx2")]
fn codes<const BITS: usize>(lines: &[Line], part: usize) -> [__m256i; 8] {
    assert!(lines.len() == BITS);
    let low = _mm256_set1_epi8(15);
    let mut codes = [_mm256_setzero_si256(); 8];
    if BITS == 8 {
        for v in 0..8 {
            codes[v] = line(&lines[v], part);
        }
        return codes;
    }
    for v in 0..4 {
        let both = line(&lines[v], part);
        codes[v] = _mm256_and_si256(both, low);
        codes[4 + v] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
    }
    if BITS == 5 || BITS == 6 {
        for v in 0..8 {
            let (high, shift, mask) = match BITS {
                5 => (line(&lines[4], part), 4 - v as i64, 16),
                _ => (line(&lines[4 + v / 4], part), 4 - 2 * (v % 4) as i64, 48),
            };
            let up = if shift >= 0 {
                _mm256_sll_epi16(high, _mm_cvtsi64_si128(shift))
            } else {
                _mm256_srl_epi16(high, _mm_cvtsi64_si128(-shift))
            };
            codes[v] = _mm256_or_si256(codes[v], _mm256_and_si256(up, _mm256_set1_epi8(mask)));
        }
    }
    codes
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales<const KIND: u8>(m: &Matrix, cell: usize, part: usize) -> (__m256, __m256, __m256) {
    let scale = |i: usize| halves(m.scales[i * GROUP + 8 * part..].first_chunk().expect("16 scales"));
    let sub =
        |i: usize| m.subs[(2 * cell + i) * GROUP + 8 * part..].first_chunk().expect("32 integers a cell");
    let none = _mm256_setzero_ps();
    match KIND {
        PLAIN => (scale(cell), none, none),
        LEAST => (scale(2 * cell), none, scale(2 * cell + 1)),
        SUPER => {
            let least = _mm256_mul_ps(scale(cell / 8 * 2 + 1), small::<false>(sub(1)));
            let least = _mm256_sub_ps(none, least);
            (_mm256_mul_ps(scale(cell / 8 * 2), small::<false>(sub(0))), none, least)
        }
        _ => {
            let scale = scale(cell / 8);
            (_mm256_mul_ps(scale, small::<true>(sub(0))), _mm256_mul_ps(scale, small::<true>(sub(1))), none)
        }
    }
}

/// Sums of four products each. Codes of 8 bits are taken as signed first, so that sums of two products fit 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn products<const BITS: usize>(codes: __m256i, four: __m256i) -> __m256i {
    let pairs = if BITS == 8 {
        let signed = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
        _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(four, signed))
    } else {
        _mm256_maddubs_epi16(codes, four)
    };
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// The outputs of a group for R rows, 8 at a time.
#[target_feature(enable = "avx2,fma,f16c")]
pub fn group<const BITS: usize, const KIND: u8, const R: usize>(
    m: &Matrix,
    group: usize,
    x: &[Row<'_>; R],
) -> [[f32; GROUP]; R] {
    let mut out = [[0.0; GROUP]; R];
    let zero = if BITS == 8 { 0 } else { zero(BITS, KIND) };
    for part in 0..2 {
        let mut y = [_mm256_setzero_ps(); R];
        for block in 0..m.blocks() {
            let cell = group * m.blocks() + block;
            let codes = codes::<BITS>(&m.codes[cell * BITS..][..BITS], part);
            let (first, second, least) = scales::<KIND>(m, cell, part);
            for r in 0..R {
                let four = &x[r].codes[block * BLOCK..][..BLOCK];
                let four = |v: usize| {
                    let at = |i| four[4 * v + i] as u8;
                    _mm256_set1_epi32(i32::from_le_bytes([at(0), at(1), at(2), at(3)]))
                };
                let sums = x[r].sums[block];
                let (mut a, mut b) = (_mm256_set1_epi32(-zero * sums[0]), _mm256_set1_epi32(-zero * sums[1]));
                for v in 0..4 {
                    a = _mm256_add_epi32(a, products::<BITS>(codes[v], four(v)));
                    b = _mm256_add_epi32(b, products::<BITS>(codes[4 + v], four(4 + v)));
                }
                let step = _mm256_set1_ps(x[r].scales[block]);
                let sum = if KIND == SUPER_SIX {
                    let b = _mm256_mul_ps(second, _mm256_cvtepi32_ps(b));
                    _mm256_fmadd_ps(first, _mm256_cvtepi32_ps(a), b)
                } else {
                    _mm256_mul_ps(first, _mm256_cvtepi32_ps(_mm256_add_epi32(a, b)))
                };
                y[r] = _mm256_fmadd_ps(sum, step, y[r]);
                if KIND == LEAST || KIND == SUPER {
                    let total = _mm256_set1_ps(x[r].totals[block]);
                    y[r] = _mm256_fmadd_ps(least, total, y[r]);
                }
            }
        }
        for (out, y) in out.iter_mut().zip(y) {
            // SAFETY: 8 values from 8 · part on lie inside the 16; the store needs no alignment.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(8 * part), y) };
        }
    }
    out
}
