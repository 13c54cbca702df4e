//! Rounding with the instructions that CPUs with AVX512-BF16 have for it, 32 values at a time. They round as [`super::round`] does,
//! but for values below the smallest normal number, which become 0. And transposes, for those who lay out tiles.

use std::arch::x86_64::*;

/// Rounds whole groups of 32 values; gives how many values were done.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn round_row(to: &mut [u16], from: &[f32]) -> usize {
    let mut done = 0;
    for (to, from) in to.chunks_exact_mut(32).zip(from.chunks_exact(32)) {
        // SAFETY: both chunks hold 32 values.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(from.as_ptr()), _mm512_loadu_ps(from.as_ptr().add(16)));
            let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), rounded);
        }
        done += 32;
    }
    done
}

/// Rounds 16 values of two rows and interleaves them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn round_pair(to: &mut [u16; 32], first: &[f32; 16], second: &[f32; 16]) {
    // SAFETY: the sizes are those of the types.
    unsafe {
        let first: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(_mm512_loadu_ps(first.as_ptr())));
        let second: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(_mm512_loadu_ps(second.as_ptr())));
        let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(second));
        let both = _mm512_or_si512(_mm512_cvtepu16_epi32(first), high);
        _mm512_storeu_si512(to.as_mut_ptr().cast(), both);
    }
}

/// Rounds a tile of a right factor: 16 columns from `column` on of 32 rows of 32 values.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn round_pairs(to: &mut [u16], from: &[f32], column: usize) {
    for (to, rows) in to.as_chunks_mut::<32>().0.iter_mut().zip(from.chunks_exact(64)) {
        let (Some(first), Some(second)) = (rows[column..].first_chunk(), rows[32 + column..].first_chunk())
        else {
            return;
        };
        round_pair(to, first, second);
    }
}

/// The transpose of 16 × 16 values of 4 bytes: within quarters of a vector first, then quarters among vectors.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn transposed(mut r: [__m512i; 16]) -> [__m512i; 16] {
    let mut t = r;
    for i in (0..16).step_by(2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for i in (0..16).step_by(4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for c in 0..4 {
        t[c] = _mm512_shuffle_i32x4::<0x88>(r[c], r[4 + c]);
        t[4 + c] = _mm512_shuffle_i32x4::<0xdd>(r[c], r[4 + c]);
        t[8 + c] = _mm512_shuffle_i32x4::<0x88>(r[8 + c], r[12 + c]);
        t[12 + c] = _mm512_shuffle_i32x4::<0xdd>(r[8 + c], r[12 + c]);
    }
    for c in 0..4 {
        r[c] = _mm512_shuffle_i32x4::<0x88>(t[c], t[8 + c]);
        r[4 + c] = _mm512_shuffle_i32x4::<0x88>(t[4 + c], t[12 + c]);
        r[8 + c] = _mm512_shuffle_i32x4::<0xdd>(t[c], t[8 + c]);
        r[12 + c] = _mm512_shuffle_i32x4::<0xdd>(t[4 + c], t[12 + c]);
    }
    r
}

/// Two tiles of a right factor that lie side by side (32 rows of two times 16 columns, pairs of rows interleaved) become two tiles
/// of its transpose, side by side.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn transpose_tiles(to: [&mut [u16; 512]; 2], from: [&[u16; 512]; 2]) {
    const FIRST: [u16; 32] = turns(0);
    const SECOND: [u16; 32] = turns(16);
    // SAFETY: tiles hold 16 vectors of 64 bytes; the orders hold one.
    unsafe {
        let orders = [FIRST, SECOND].map(|order| _mm512_loadu_si512(order.as_ptr().cast()));
        let mut rows = [_mm512_setzero_si512(); 32];
        for (tile, rows) in from.iter().zip(rows.chunks_exact_mut(16)) {
            let mut lines = [_mm512_setzero_si512(); 16];
            for (i, line) in lines.iter_mut().enumerate() {
                *line = _mm512_loadu_si512(tile.as_ptr().add(32 * i).cast());
            }
            rows.copy_from_slice(&transposed(lines));
        }
        for (to, order) in to.into_iter().zip(orders) {
            for (line, two) in rows.chunks_exact(2).enumerate() {
                let both = _mm512_permutex2var_epi16(two[0], order, two[1]);
                _mm512_storeu_si512(to.as_mut_ptr().add(32 * line).cast(), both);
            }
        }
    }
}

/// The order that takes the 16 values from `start` on of two vectors in turns.
const fn turns(start: u16) -> [u16; 32] {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 32 {
        order[i as usize] = start + i / 2 + i % 2 * 32;
        i += 1;
    }
    order
}
