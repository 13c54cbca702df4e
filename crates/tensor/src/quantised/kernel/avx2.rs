//! With 256-bit vectors: the 16 outputs of a group in two halves. Sums of two products fit 16 bits and are added up as such for as
//! long as they cannot overflow ([`together`]): widening them to 32 bits each time would double the instructions.

use super::tile::{TileBlock, four};
use super::{BLOCK, GROUP, LEAST, Matrix, PLAIN, Row, SUPER, SUPER_SIX, zero};
use crate::quantised::Line;
use std::arch::x86_64::*;

/// Vectors to a group.
const PARTS: usize = 2;

/// Rows that meet a group taken apart at a time: their sums of 16 bits fill half of the registers.
pub const TILE: usize = 4;

/// Rows `8 · part..` of a line.
#[inline]
#[target_feature(enable = "avx2")]
fn line(line: &Line, part: usize) -> __m256i {
    assert!(part < PARTS);
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

/// As in 512 bits, for 8 of the 16 rows; codes of 8 bits as signed numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn codes<const BITS: usize>(lines: &[Line], part: usize) -> [__m256i; 8] {
    assert!(lines.len() == BITS);
    let low = _mm256_set1_epi8(15);
    let mut codes = [_mm256_setzero_si256(); 8];
    if BITS == 8 {
        for v in 0..8 {
            codes[v] = _mm256_xor_si256(line(&lines[v], part), _mm256_set1_epi8(-128));
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
fn scales<const KIND: u8>(m: &Matrix, cell: usize, part: usize) -> [__m256; 3] {
    let scale = |i: usize| halves(m.scales[i * GROUP + 8 * part..].first_chunk().expect("16 scales"));
    let sub =
        |i: usize| m.subs[(2 * cell + i) * GROUP + 8 * part..].first_chunk().expect("32 integers a cell");
    let none = _mm256_setzero_ps();
    match KIND {
        PLAIN => [scale(cell), none, none],
        LEAST => [scale(2 * cell), none, scale(2 * cell + 1)],
        SUPER => {
            let least = _mm256_mul_ps(scale(cell / 8 * 2 + 1), small::<false>(sub(1)));
            let least = _mm256_sub_ps(none, least);
            [_mm256_mul_ps(scale(cell / 8 * 2), small::<false>(sub(0))), none, least]
        }
        _ => {
            let scale = scale(cell / 8);
            [_mm256_mul_ps(scale, small::<true>(sub(0))), _mm256_mul_ps(scale, small::<true>(sub(1))), none]
        }
    }
}

/// So many vectors of sums of two products can be added up in 16 bits: a code is below 2^BITS and what it meets at most 127. Codes
/// of 8 bits are signed, 128 · 127 · 2 just fits.
const fn together(bits: usize) -> usize {
    match bits {
        4 => 8,
        5 => 4,
        6 => 2,
        _ => 1,
    }
}

const _: () = {
    let mut bits = 4;
    while bits <= 6 {
        assert!(together(bits) as i32 * ((1 << bits) - 1) * 127 * 2 <= i16::MAX as i32);
        bits += 1;
    }
    assert!(128 * 127 * 2 <= i16::MAX as i32);
};

/// Sums of two products each, in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs<const BITS: usize>(codes: __m256i, four: __m256i) -> __m256i {
    match BITS {
        8 => _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(four, codes)),
        _ => _mm256_maddubs_epi16(codes, four),
    }
}

/// A sum for each row and output: what it starts from, and the products of `$count` vectors of codes, from `$first` on, with a block
/// of the rows. No function, since the compiler would call it, and sums would go through memory.
macro_rules! sums {
    ($bits:ident, $cell:ident, $from:expr, $count:expr, $start:expr) => {{
        let (from, count): (usize, usize) = ($from, $count);
        let together = if together($bits) < count { together($bits) } else { count };
        let mut sums = [[_mm256_setzero_si256(); PARTS]; R];
        for r in 0..R {
            sums[r] = [_mm256_set1_epi32($start(r)); PARTS];
        }
        for stretch in 0..count / together {
            let mut short = [[_mm256_setzero_si256(); PARTS]; R];
            for v in 0..together {
                let v = from + stretch * together + v;
                for r in 0..R {
                    let x = _mm256_set1_epi32(four($cell.x[r], v));
                    for part in 0..PARTS {
                        let pairs = pairs::<$bits>($cell.codes[part][v], x);
                        short[r][part] = _mm256_add_epi16(short[r][part], pairs);
                    }
                }
            }
            for r in 0..R {
                for part in 0..PARTS {
                    let wide = _mm256_madd_epi16(short[r][part], _mm256_set1_epi16(1));
                    sums[r][part] = _mm256_add_epi32(sums[r][part], wide);
                }
            }
        }
        sums
    }};
}

/// A cell of weights and the block of R rows that it meets.
struct Cell<'a, const R: usize> {
    codes: [[__m256i; 8]; PARTS],
    scales: [[__m256; 3]; PARTS],
    x: [&'a [i8; BLOCK]; R],
    sums: [[i32; 2]; R],
    steps: [f32; R],
    totals: [f32; R],
}

/// The outputs of a group for R rows: `cell` gives its cells, of which there are `count`.
#[target_feature(enable = "avx2,fma,f16c")]
fn outputs<'a, const BITS: usize, const KIND: u8, const R: usize>(
    count: usize,
    cell: impl Fn(usize) -> Cell<'a, R>,
) -> [[f32; GROUP]; R] {
    let zero = if BITS == 8 { 0 } else { zero(BITS, KIND) };
    let mut y = [[_mm256_setzero_ps(); PARTS]; R];
    for at in 0..count {
        let cell = cell(at);
        let mut products = [[_mm256_setzero_ps(); PARTS]; R];
        if KIND == SUPER_SIX {
            // The second half of the columns has scales of its own.
            for half in [1, 0] {
                let a = sums!(BITS, cell, 4 * half, 4, |r: usize| -zero * cell.sums[r][half]);
                for r in 0..R {
                    for part in 0..PARTS {
                        let a = _mm256_cvtepi32_ps(a[r][part]);
                        products[r][part] = _mm256_fmadd_ps(cell.scales[part][half], a, products[r][part]);
                    }
                }
            }
        } else {
            let a = sums!(BITS, cell, 0, 8, |r: usize| -zero * (cell.sums[r][0] + cell.sums[r][1]));
            for r in 0..R {
                for part in 0..PARTS {
                    products[r][part] = _mm256_mul_ps(cell.scales[part][0], _mm256_cvtepi32_ps(a[r][part]));
                }
            }
        }
        for r in 0..R {
            let (step, total) = (_mm256_set1_ps(cell.steps[r]), _mm256_set1_ps(cell.totals[r]));
            for part in 0..PARTS {
                y[r][part] = _mm256_fmadd_ps(products[r][part], step, y[r][part]);
                if KIND == LEAST || KIND == SUPER {
                    y[r][part] = _mm256_fmadd_ps(cell.scales[part][2], total, y[r][part]);
                }
            }
        }
    }
    values(y)
}

/// The outputs of a group for R rows.
#[target_feature(enable = "avx2,fma,f16c")]
pub fn group<const BITS: usize, const KIND: u8, const R: usize>(
    m: &Matrix,
    group: usize,
    x: &[Row<'_>; R],
) -> [[f32; GROUP]; R] {
    outputs::<BITS, KIND, R>(m.blocks(), |at| {
        let cell = group * m.blocks() + at;
        let lines = &m.codes[cell * BITS..][..BITS];
        Cell {
            codes: [codes::<BITS>(lines, 0), codes::<BITS>(lines, 1)],
            scales: [scales::<KIND>(m, cell, 0), scales::<KIND>(m, cell, 1)],
            x: x.map(|row| row.codes[at * BLOCK..].first_chunk().expect("whole blocks")),
            sums: x.map(|row| row.sums[at]),
            steps: x.map(|row| row.scales[at]),
            totals: x.map(|row| row.totals[at]),
        }
    })
}

/// A group of weights taken apart, for more than one tile of rows: what [`group`] works out again for every few rows.
#[derive(Debug, Default)]
pub struct Apart {
    /// Of each cell, as [`codes`] gives them.
    codes: Vec<[[__m256i; 8]; PARTS]>,
    /// Of each cell, as [`scales`] gives them.
    scales: Vec<[[__m256; 3]; PARTS]>,
}

impl Apart {
    /// Takes a group apart.
    #[target_feature(enable = "avx2,f16c")]
    pub fn take<const BITS: usize, const KIND: u8>(&mut self, m: &Matrix, group: usize) {
        self.codes.clear();
        self.scales.clear();
        for cell in group * m.blocks()..(group + 1) * m.blocks() {
            let lines = &m.codes[cell * BITS..][..BITS];
            self.codes.push([codes::<BITS>(lines, 0), codes::<BITS>(lines, 1)]);
            self.scales.push([scales::<KIND>(m, cell, 0), scales::<KIND>(m, cell, 1)]);
        }
    }

    /// The outputs of the group for a tile of rows: the sums of [`group`] in the same order, so that they are equal bit by bit.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn tile<const BITS: usize, const KIND: u8>(&self, x: &[TileBlock<TILE>]) -> [[f32; GROUP]; TILE] {
        assert!(x.len() == self.codes.len() && x.len() == self.scales.len());
        outputs::<BITS, KIND, TILE>(x.len(), |at| {
            let TileBlock { codes, sums, scales, totals } = &x[at];
            Cell {
                codes: self.codes[at],
                scales: self.scales[at],
                x: codes.each_ref(),
                sums: *sums,
                steps: *scales,
                totals: *totals,
            }
        })
    }
}

/// Vectors as numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn values<const R: usize>(y: [[__m256; PARTS]; R]) -> [[f32; GROUP]; R] {
    let mut values = [[0.0; GROUP]; R];
    for r in 0..R {
        for part in 0..PARTS {
            // SAFETY: 8 values from 8 · part on lie inside the 16; the store needs no alignment.
            unsafe { _mm256_storeu_ps(values[r].as_mut_ptr().add(8 * part), y[r][part]) };
        }
    }
    values
}
