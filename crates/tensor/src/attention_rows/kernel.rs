//! The two sums of attention for one query over rows that lie one after another, compiled for what the CPU has: scores of
//! keys, and the weighted sum of values.
//!
//! The vector paths fuse products with sums, so they differ from the portable code, their reference, by rounding. Heads whose
//! size is no multiple of 16 take the portable code.

use crate::cpu::{self, Isa};
use crate::math;

/// Values of a vector; heads must be a multiple of it for the vector paths.
const LANES: usize = math::LANES;

/// The widest path that this CPU has and [`crate::cpu::SWITCH`] allows.
pub fn best() -> Isa {
    match cpu::best() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if !is_x86_feature_detected!("fma") => Isa::Portable,
        isa => isa,
    }
}

/// `scores[j] = scale · q · k_j`, with keys `[scores.len(), q.len()]`.
///
/// # Panics
/// When shapes do not fit.
pub fn scores(isa: Isa, scores: &mut [f32], q: &[f32], keys: &[f32], scale: f32) {
    assert_eq!(keys.len(), scores.len() * q.len(), "keys of a stretch");
    #[cfg(target_arch = "x86_64")]
    if q.len().is_multiple_of(LANES) {
        if isa == Isa::Avx512 && is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU was just asked for the feature.
            return unsafe { avx512::scores(scores, q, keys, scale) };
        }
        if isa == Isa::Avx2 && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the CPU was just asked for the features.
            return unsafe { avx2::scores(scores, q, keys, scale) };
        }
    }
    let _ = isa;
    for (score, key) in scores.iter_mut().zip(keys.chunks_exact(q.len())) {
        *score = scale * math::dot(q, key);
    }
}

/// `out += Σ weights[j] · v_j`, with values `[weights.len(), out.len()]`.
///
/// # Panics
/// When shapes do not fit.
pub fn weighted(isa: Isa, out: &mut [f32], weights: &[f32], values: &[f32]) {
    assert_eq!(values.len(), weights.len() * out.len(), "values of a stretch");
    #[cfg(target_arch = "x86_64")]
    if out.len().is_multiple_of(LANES) {
        if isa == Isa::Avx512 && is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU was just asked for the feature.
            return unsafe { avx512::weighted(out, weights, values) };
        }
        if isa == Isa::Avx2 && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the CPU was just asked for the features.
            return unsafe { avx2::weighted(out, weights, values) };
        }
    }
    let _ = isa;
    for (&weight, value) in weights.iter().zip(values.chunks_exact(out.len())) {
        math::add_scaled(out, weight, value);
    }
}

/// The weighted sum of rows in vectors of `LANES` values, with the instructions of one set.
#[cfg(target_arch = "x86_64")]
macro_rules! weighted_sum {
    ($features:literal, $zero:ident, $all:ident, $fused:ident, $add:ident, $load:ident, $store:ident) => {
        #[target_feature(enable = $features)]
        pub fn weighted(out: &mut [f32], weights: &[f32], values: &[f32]) {
            let (d, mut at) = (out.len(), 0);
            assert!(d.is_multiple_of(LANES) && values.len() == weights.len() * d);
            while at < d {
                // SAFETY: `at` and `d` are multiples of a vector, so as many vectors of the output are left as are asked for.
                unsafe {
                    if d - at >= 4 * LANES {
                        part::<4>(out, at, weights, values);
                        at += 4 * LANES;
                    } else {
                        part::<1>(out, at, weights, values);
                        at += LANES;
                    }
                }
            }
        }

        /// V vectors of the output from `at` on; even and odd rows are summed apart, so that one sum need not wait for the
        /// other.
        ///
        /// # Safety
        /// `at + V · LANES <= out.len()`, and `values` is `[weights.len(), out.len()]`.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn part<const V: usize>(out: &mut [f32], at: usize, weights: &[f32], values: &[f32]) {
            let (d, values) = (out.len(), values.as_ptr());
            let mut sums = [[$zero(); V]; 2];
            for (j, &weight) in weights.iter().enumerate() {
                let weight = $all(weight);
                for (v, sum) in sums[j % 2].iter_mut().enumerate() {
                    // SAFETY: row j has d values, of which those from `at` to `at + V · LANES` are read.
                    let value = unsafe { $load(values.add(j * d + at + LANES * v)) };
                    *sum = $fused(weight, value, *sum);
                }
            }
            for v in 0..V {
                let to = out[at + LANES * v..].as_mut_ptr();
                let sum = $add(sums[0][v], sums[1][v]);
                // SAFETY: a vector of the output lies from there on.
                unsafe { $store(to, $add($load(to), sum)) };
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
use weighted_sum;

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::LANES;
    use std::arch::x86_64::*;

    /// Lane `i` of the result is the sum of the lanes of `sums[i]`. Vectors are folded in halves two at a time, so 15 steps
    /// do for all 16.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn fold(sums: [__m512; LANES]) -> __m512 {
        // Quarters of a vector hold what is left of a key; `quarters(i)` those of keys i, i + 4, i + 8 and i + 12.
        let quarters = |i: usize| {
            let half = |a: __m512, b: __m512| {
                _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b))
            };
            let (a, b) = (half(sums[i], sums[i + 4]), half(sums[i + 8], sums[i + 12]));
            _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b))
        };
        let pairs = |a: __m512, b: __m512| _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (a, b) = (pairs(quarters(0), quarters(1)), pairs(quarters(2), quarters(3)));
        _mm512_add_ps(_mm512_shuffle_ps::<0x44>(a, b), _mm512_shuffle_ps::<0xEE>(a, b))
    }

    #[target_feature(enable = "avx512f")]
    pub fn scores(scores: &mut [f32], q: &[f32], keys: &[f32], scale: f32) {
        let (d, count) = (q.len(), scores.len());
        assert!(d.is_multiple_of(LANES) && keys.len() == count * d);
        let (q, scale) = (q.as_ptr(), _mm512_set1_ps(scale));
        for first in (0..count).step_by(LANES) {
            let some = LANES.min(count - first);
            let keys = keys[first * d..].as_ptr();
            let mut sums = [_mm512_setzero_ps(); LANES];
            for at in (0..d).step_by(LANES) {
                // SAFETY: `at + 16 <= d`, which is the length of q and of a key, and `some` keys lie from `first` on.
                unsafe {
                    let part = _mm512_loadu_ps(q.add(at));
                    if some == LANES {
                        for (i, sum) in sums.iter_mut().enumerate() {
                            *sum = _mm512_fmadd_ps(part, _mm512_loadu_ps(keys.add(i * d + at)), *sum);
                        }
                    } else {
                        for (i, sum) in sums.iter_mut().take(some).enumerate() {
                            *sum = _mm512_fmadd_ps(part, _mm512_loadu_ps(keys.add(i * d + at)), *sum);
                        }
                    }
                }
            }
            let mask = ((1u32 << some) - 1) as __mmask16;
            let total = _mm512_mul_ps(scale, fold(sums));
            // SAFETY: only the first `some` lanes are written, and as many scores lie from `first` on.
            unsafe { _mm512_mask_storeu_ps(scores[first..].as_mut_ptr(), mask, total) };
        }
    }

    super::weighted_sum!(
        "avx512f",
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps
    );
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    /// Values of a vector here.
    const LANES: usize = 8;

    /// Lane `i` of the result is the sum of the lanes of `sums[i]`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn fold(sums: [__m256; LANES]) -> __m256 {
        let four = |i: usize| {
            _mm256_hadd_ps(_mm256_hadd_ps(sums[i], sums[i + 1]), _mm256_hadd_ps(sums[i + 2], sums[i + 3]))
        };
        let (a, b) = (four(0), four(4));
        _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn scores(scores: &mut [f32], q: &[f32], keys: &[f32], scale: f32) {
        let d = q.len();
        assert!(d.is_multiple_of(LANES) && keys.len() == scores.len() * d);
        for (scores, keys) in scores.chunks_mut(LANES).zip(keys.chunks(LANES * d)) {
            let mut sums = [_mm256_setzero_ps(); LANES];
            for at in (0..d).step_by(LANES) {
                // SAFETY: `at + 8 <= d`, which is the length of q and of each of the keys, as many as there are scores.
                unsafe {
                    let part = _mm256_loadu_ps(q.as_ptr().add(at));
                    let key = |i: usize| _mm256_loadu_ps(keys.as_ptr().add(i * d + at));
                    if scores.len() == LANES {
                        for (i, sum) in sums.iter_mut().enumerate() {
                            *sum = _mm256_fmadd_ps(part, key(i), *sum);
                        }
                    } else {
                        for (i, sum) in sums.iter_mut().take(scores.len()).enumerate() {
                            *sum = _mm256_fmadd_ps(part, key(i), *sum);
                        }
                    }
                }
            }
            let mut all = [0.0; LANES];
            // SAFETY: 8 values are 32 bytes; the store needs no alignment.
            unsafe { _mm256_storeu_ps(all.as_mut_ptr(), _mm256_mul_ps(_mm256_set1_ps(scale), fold(sums))) };
            scores.copy_from_slice(&all[..scores.len()]);
        }
    }

    super::weighted_sum!(
        "avx2,fma",
        _mm256_setzero_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use underdog_testkit::{hashed_values, relative_error};

    #[test]
    fn every_instruction_set_gives_the_sums_of_the_portable_code() {
        for d in [16, 24, 48, 64, 80, 256] {
            for count in [0, 1, 7, 8, 16, 33] {
                let q = hashed_values(1, 0, d, 2.0);
                let rows = hashed_values(1, 1, count * d, 2.0);
                let weights = hashed_values(1, 2, count, 1.0);
                let sums = [Isa::Portable, Isa::Avx2, Isa::Avx512].map(|isa| {
                    let (mut to, mut out) = (vec![f32::NAN; count], q.clone());
                    scores(isa, &mut to, &q, &rows, 0.3);
                    weighted(isa, &mut out, &weights, &rows);
                    (to, out)
                });
                for (got, isa) in sums[1..].iter().zip(["avx2", "avx512"]) {
                    let errors = [relative_error(&got.0, &sums[0].0), relative_error(&got.1, &sums[0].1)];
                    assert!(errors.iter().all(|e| *e < 1e-6), "{isa}, D {d}, {count} rows: {errors:?}");
                }
            }
        }
    }
}
