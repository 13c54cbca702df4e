//! Rounding with the instructions that CPUs with AVX512-BF16 have for it, 32 values at a time. They round as [`super::round`] does,
//! but for values below the smallest normal number, which become 0.

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
