//! One group of 16 outputs against rows of 8-bit integers, compiled for what the CPU has.
//!
//! Every path computes the same integer sums and adds the blocks in the same order in f32; they differ in how products and
//! sums in f32 are fused. The portable path is the safe reference of the others.

use super::activation::{Rounded, Row};
use super::{BLOCK, GROUP, Matrix, Scales, dequantise};

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
    /// The fastest that this CPU has.
    pub fn best() -> Path {
        [Path::Avx512Vnni, Path::Avx2].into_iter().find(|path| path.available()).unwrap_or(Path::Portable)
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

/// The 16 outputs of a group for every row of x: calls `store(row, values)` for each.
pub(super) fn group(
    path: Path,
    m: &Matrix,
    group: usize,
    x: &Rounded,
    store: &mut dyn FnMut(usize, &[f32; GROUP]),
) {
    assert!(group < m.groups() && x.width() == m.columns);
    let mut row = 0;
    while x.rows() - row >= 4 {
        let rows = std::array::from_fn::<_, 4, _>(|i| x.row(row + i));
        some_rows(path, m, group, rows).iter().enumerate().for_each(|(i, values)| store(row + i, values));
        row += 4;
    }
    while row < x.rows() {
        store(row, &some_rows(path, m, group, [x.row(row)])[0]);
        row += 1;
    }
}

fn some_rows<const R: usize>(path: Path, m: &Matrix, group: usize, x: [Row<'_>; R]) -> [[f32; GROUP]; R] {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! call {
            ($module:ident) => {
                // SAFETY: the CPU was just asked for the features of this path.
                unsafe {
                    match (m.format.bits(), m.format.scales()) {
                        (4, Scales::Plain) => $module::group::<4, PLAIN, R>(m, group, x),
                        (4, Scales::Least) => $module::group::<4, LEAST, R>(m, group, x),
                        (4, _) => $module::group::<4, SUPER, R>(m, group, x),
                        (5, Scales::Plain) => $module::group::<5, PLAIN, R>(m, group, x),
                        (5, Scales::Least) => $module::group::<5, LEAST, R>(m, group, x),
                        (5, _) => $module::group::<5, SUPER, R>(m, group, x),
                        (6, _) => $module::group::<6, SUPER_SIX, R>(m, group, x),
                        _ => $module::group::<8, PLAIN, R>(m, group, x),
                    }
                }
            };
        }
        if path == Path::Avx512Vnni && path.available() {
            return call!(avx512);
        }
        if path == Path::Avx2 && path.available() {
            return call!(avx2);
        }
    }
    let _ = path;
    portable(m, group, x)
}

fn portable<const R: usize>(m: &Matrix, group: usize, x: [Row<'_>; R]) -> [[f32; GROUP]; R] {
    let mut y = [[0.0; GROUP]; R];
    for block in 0..m.blocks() {
        let cell = group * m.blocks() + block;
        let scales = dequantise::scales(m, cell);
        for (y, x) in y.iter_mut().zip(&x) {
            let sums = dequantise::dot(m, cell, &x.codes[block * BLOCK..][..BLOCK]);
            let step = x.scales[block];
            let total = (x.sums[block][0] + x.sums[block][1]) as f32 * step;
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

#[cfg(target_arch = "x86_64")]
mod avx512 {
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
        x: [Row<'_>; R],
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
                let four: &[i8; BLOCK] = x[r].codes[block * BLOCK..].first_chunk().expect("whole blocks");
                let four = |v: usize| {
                    let at = |i| four[4 * v + i] as u8;
                    _mm512_set1_epi32(i32::from_le_bytes([at(0), at(1), at(2), at(3)]))
                };
                let sums = x[r].sums[block];
                let (mut a, mut b) = (
                    _mm512_set1_epi32(-zero(BITS, KIND) * sums[0]),
                    _mm512_set1_epi32(-zero(BITS, KIND) * sums[1]),
                );
                for v in 0..4 {
                    a = _mm512_dpbusd_epi32(a, codes[v], four(v));
                    b = _mm512_dpbusd_epi32(b, codes[4 + v], four(4 + v));
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
                    let total = _mm512_set1_ps((sums[0] + sums[1]) as f32 * x[r].scales[block]);
                    y[r] = _mm512_fmadd_ps(least, total, y[r]);
                }
            }
        }
        let mut values = [[0.0; GROUP]; R];
        for r in 0..R {
            // SAFETY: 16 values are 64 bytes; the store needs no alignment.
            unsafe { _mm512_storeu_ps(values[r].as_mut_ptr(), y[r]) };
        }
        values
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
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
                (
                    _mm256_mul_ps(scale, small::<true>(sub(0))),
                    _mm256_mul_ps(scale, small::<true>(sub(1))),
                    none,
                )
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
        x: [Row<'_>; R],
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
                    let (mut a, mut b) =
                        (_mm256_set1_epi32(-zero * sums[0]), _mm256_set1_epi32(-zero * sums[1]));
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
                        let total = _mm256_set1_ps((sums[0] + sums[1]) as f32 * x[r].scales[block]);
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
}
