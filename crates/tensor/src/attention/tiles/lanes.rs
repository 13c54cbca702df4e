//! Elementwise work between the products, on vectors of 16 columns: the online softmax, masks, the gradient of the scores.
//!
//! Scores are in units of ln 2 (queries were multiplied by `scale · log₂ e`), so a weight is a power of two.

use super::Sight;
use super::registers::{Lane, Tile};
use std::arch::x86_64::*;

/// What a hidden score becomes: a weight of 0 under every maximum.
const HIDDEN: f32 = -1e38;
/// The maximum before anything was seen, well above [`HIDDEN`].
pub const NOTHING: f32 = -1e30;
/// How far scores may rise above the maximum before sums are scaled anew: weights stay below 2^8.
const SLACK: f32 = 8.0;

#[target_feature(enable = "avx512f")]
#[inline]
pub fn load(lane: &Lane) -> __m512 {
    // SAFETY: a lane is 64 aligned bytes.
    unsafe { _mm512_load_ps(lane.0.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub fn store(lane: &mut Lane, x: __m512) {
    // SAFETY: a lane is 64 aligned bytes.
    unsafe { _mm512_store_ps(lane.0.as_mut_ptr(), x) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_positions(all: &[i32; 32], half: usize) -> __m512i {
    let all: &[i32] = &all[16 * half..16 * half + 16];
    // SAFETY: 16 values from there on were just cut out.
    unsafe { _mm512_loadu_si512(all.as_ptr().cast()) }
}

/// Line `line` of a tile.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn store_line(tile: &mut Tile, line: usize, x: __m512i) {
    let line = &mut tile.0[line * 32..line * 32 + 32];
    // SAFETY: 32 values of 2 bytes from there on were just cut out; lines of a tile are aligned.
    unsafe { _mm512_store_si512(line.as_mut_ptr().cast(), x) }
}

/// Rounds to bf16 (nearest, ties to even): `a` into the lower half, `b` into the upper one.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub fn halves(a: __m512, b: __m512) -> __m512i {
    const UPPER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = 2 * i as u16 + 1;
            i += 1;
        }
        order
    };
    if crate::cpu::has_wide_bf16() {
        return halves_at_once(a, b);
    }
    // SAFETY: 32 values of 2 bytes are 64 bytes.
    let upper = unsafe { _mm512_loadu_si512(UPPER.as_ptr().cast()) };
    _mm512_permutex2var_epi16(rounded(a), upper, rounded(b))
}

/// [`halves`] with the instruction made for it. In assembly, because its callers are compiled for CPUs without it, too, and a call
/// would put all their registers into memory.
#[target_feature(enable = "avx512f")]
#[inline]
fn halves_at_once(a: __m512, b: __m512) -> __m512i {
    let both;
    // SAFETY: the caller asked the CPU for the instruction, which reads and writes registers only.
    unsafe {
        std::arch::asm!("vcvtne2ps2bf16 {both}, {b}, {a}", both = lateout(zmm_reg) both, a = in(zmm_reg) a,
             b = in(zmm_reg) b, options(pure, nomem, nostack, preserves_flags));
    }
    both
}

/// The value in bf16 in the upper half of each lane; what is in the lower one has no meaning. What
/// arithmetic gives as a NaN stays one.
#[target_feature(enable = "avx512f")]
#[inline]
fn rounded(x: __m512) -> __m512i {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)))
}

/// Rounds to bf16, the values of `a` and `b` in turns.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub fn pairs(a: __m512, b: __m512) -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        order
    };
    if crate::cpu::has_wide_bf16() {
        // SAFETY: 32 values of 2 bytes are 64 bytes.
        let order = unsafe { _mm512_loadu_si512(ORDER.as_ptr().cast()) };
        return _mm512_permutexvar_epi16(order, halves_at_once(a, b));
    }
    _mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srli_epi32::<16>(rounded(a)), rounded(b))
}

/// `2^x`, within 4e-6 of the exact value; 0 for hidden scores. A polynomial through the Chebyshev points of 0..1.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn exp2(x: __m512) -> __m512 {
    const FLOOR: i32 = 9;
    let r = _mm512_reduce_ps::<FLOOR>(x);
    let p = _mm512_set1_ps(0.013_670_309);
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.051_744_998));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.241_604_36));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.692_972_9));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.000_003_5));
    _mm512_scalef_ps(p, x)
}

/// Which of 16 columns see a key.
#[target_feature(enable = "avx512f")]
#[inline]
fn seen(key: __m512i, oldest: __m512i, newest: __m512i) -> __mmask16 {
    _mm512_cmple_epi32_mask(key, newest) & _mm512_cmpge_epi32_mask(key, oldest)
}

/// Hides what may not be seen of the scores `[32 keys, 32]` of one group.
#[target_feature(enable = "avx512f")]
pub fn hide(scores: &mut [Lane], sight: &Sight, group: usize) {
    for half in 0..2 {
        let (oldest, newest) = (load_positions(&sight.oldest, half), load_positions(&sight.newest, half));
        for key in 0..32 {
            let position = _mm512_set1_epi32(sight.key(group * 32 + key));
            let lane = &mut scores[2 * key + half];
            let hidden = _mm512_set1_ps(HIDDEN);
            store(lane, _mm512_mask_mov_ps(hidden, seen(position, oldest, newest), load(lane)));
        }
    }
}

/// The running maximum and sum of 32 columns.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    pub top: [Lane; 2],
    pub sum: [Lane; 2],
}

impl Softmax {
    /// Nothing was seen yet.
    pub const EMPTY: Softmax = Softmax { top: [Lane([NOTHING; 16]); 2], sum: [Lane::ZERO; 2] };

    /// Takes in scores `[keys, 32]`: their weights go, rounded, into `weights` (two tiles for 32 keys), and `out [D, 32]` is
    /// scaled where the maximum rose. Sums are of the rounded weights, so that they agree with the products.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    pub fn take(&mut self, scores: &[Lane], weights: &mut [Tile], out: &mut [Lane]) {
        for half in 0..2 {
            let mut tops = [_mm512_set1_ps(HIDDEN); 4];
            for four in scores.chunks_exact(8) {
                for i in 0..4 {
                    tops[i] = _mm512_max_ps(tops[i], load(&four[2 * i + half]));
                }
            }
            let peak = _mm512_max_ps(_mm512_max_ps(tops[0], tops[1]), _mm512_max_ps(tops[2], tops[3]));
            let mut top = load(&self.top[half]);
            let mut sum = load(&self.sum[half]);
            let rose = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(peak, _mm512_add_ps(top, _mm512_set1_ps(SLACK)));
            if rose != 0 {
                let new = _mm512_mask_mov_ps(top, rose, peak);
                let factor = exp2(_mm512_sub_ps(top, new));
                sum = _mm512_mul_ps(sum, factor);
                for row in out.chunks_exact_mut(2) {
                    let scaled = _mm512_mul_ps(load(&row[half]), factor);
                    store(&mut row[half], scaled);
                }
                top = new;
                store(&mut self.top[half], top);
            }
            let mut sums = [sum, _mm512_setzero_ps()];
            for (tiles, group) in weights.chunks_exact_mut(2).zip(scores.chunks_exact(64)) {
                for (line, keys) in group.chunks_exact(4).enumerate() {
                    let even = exp2(_mm512_sub_ps(load(&keys[half]), top));
                    let odd = exp2(_mm512_sub_ps(load(&keys[2 + half]), top));
                    let both = pairs(even, odd);
                    store_line(&mut tiles[half], line, both);
                    let upper = _mm512_and_si512(both, _mm512_set1_epi32(0xffff_0000_u32 as i32));
                    sums[0] = _mm512_add_ps(sums[0], _mm512_castsi512_ps(_mm512_slli_epi32::<16>(both)));
                    sums[1] = _mm512_add_ps(sums[1], _mm512_castsi512_ps(upper));
                }
            }
            store(&mut self.sum[half], _mm512_add_ps(sums[0], sums[1]));
        }
    }
}

/// What the backward pass knows of 32 columns: log-sum-exp in units of ln 2, and `dout · out`.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    pub lse: [Lane; 2],
    pub delta: [Lane; 2],
}

/// The factors that scores `[32 keys, 32]` become: weights and their gradients in lines of 32 queries, and the gradients in
/// lines of 16 pairs of keys. Two tiles each.
pub struct Factors<'a> {
    pub weights: &'a mut [Tile],
    pub gradients: &'a mut [Tile],
    pub pairs: &'a mut [Tile],
}

/// From the scores and `∂L/∂weight` (both `[32 keys, 32]`) of one group to [`Factors`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub fn gradients(
    scores: &[Lane],
    dweights: &[Lane],
    columns: &Columns,
    sight: &Sight,
    group: usize,
    to: Factors<'_>,
) {
    let clear = sight.is_clear(group);
    let newest = [load_positions(&sight.newest, 0), load_positions(&sight.newest, 1)];
    let oldest = [load_positions(&sight.oldest, 0), load_positions(&sight.oldest, 1)];
    let lse = [load(&columns.lse[0]), load(&columns.lse[1])];
    let delta = [load(&columns.delta[0]), load(&columns.delta[1])];
    let rows = scores.chunks_exact(4).zip(dweights.chunks_exact(4)).take(16);
    for (line, (scores, dweights)) in rows.enumerate() {
        let mut ds = [_mm512_setzero_ps(); 4];
        for odd in 0..2 {
            let key = 2 * line + odd;
            let mut p = [_mm512_setzero_ps(); 2];
            for half in 0..2 {
                let at = 2 * odd + half;
                p[half] = exp2(_mm512_sub_ps(load(&scores[at]), lse[half]));
                if !clear {
                    let position = _mm512_set1_epi32(sight.key(group * 32 + key));
                    p[half] = _mm512_maskz_mov_ps(seen(position, oldest[half], newest[half]), p[half]);
                }
                ds[at] = _mm512_mul_ps(p[half], _mm512_sub_ps(load(&dweights[at]), delta[half]));
            }
            store_line(&mut to.weights[key / 16], key % 16, halves(p[0], p[1]));
            store_line(&mut to.gradients[key / 16], key % 16, halves(ds[2 * odd], ds[2 * odd + 1]));
        }
        store_line(&mut to.pairs[0], line, pairs(ds[0], ds[2]));
        store_line(&mut to.pairs[1], line, pairs(ds[1], ds[3]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::round;

    #[target_feature(enable = "avx512f,avx512bw")]
    fn rounded_both_ways(a: &Lane, b: &Lane) -> Tile {
        let mut tile = Tile::ZERO;
        store_line(&mut tile, 0, halves(load(a), load(b)));
        store_line(&mut tile, 1, pairs(load(a), load(b)));
        tile
    }

    #[test]
    fn lanes_are_rounded_as_single_values() {
        if !crate::cpu::has_wide_words() {
            println!("this machine has no AVX-512: lanes are not rounded here");
            return;
        }
        let lane = |seed| {
            let mut lane = Lane::ZERO;
            lane.0.copy_from_slice(&underdog_testkit::hashed_values(seed, 0, 16, 3.0));
            lane
        };
        let (mut a, b) = (lane(1), lane(2));
        // Ties to the even neighbour below and above, an infinity, and a zero with its sign.
        let special = [0x3f80_8000, 0x3f81_8000, 0xff80_0000, 0x8000_0000].map(f32::from_bits);
        a.0[..4].copy_from_slice(&special);
        // SAFETY: the CPU was just asked for these instructions.
        let tile = unsafe { rounded_both_ways(&a, &b) };
        for i in 0..16 {
            let (a, b) = (round(a.0[i]), round(b.0[i]));
            assert_eq!((tile.0[i], tile.0[16 + i]), (a, b), "halves, {i}");
            assert_eq!((tile.0[32 + 2 * i], tile.0[33 + 2 * i]), (a, b), "pairs, {i}");
        }
    }
}
