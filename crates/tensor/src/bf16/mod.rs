//! f32 to bf16 and back, a row at a time. Rounding is to nearest, ties to even; infinities stay, a NaN stays one.

#[cfg(target_arch = "x86_64")]
pub(crate) mod wide;

/// `x` in bf16.
#[inline(always)]
pub fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16;
    if x.is_nan() { ((bits >> 16) | 0x40) as u16 } else { rounded as u16 }
}

/// The value of a bf16.
#[inline(always)]
pub fn widen(x: u16) -> f32 {
    f32::from_bits((x as u32) << 16)
}

/// Rounds a row; `to` may be longer, the rest is left alone.
#[inline]
pub fn round_row(to: &mut [u16], from: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::has_wide_bf16() {
        // SAFETY: the CPU was just asked for these instructions.
        let done = unsafe { wide::round_row(&mut to[..from.len()], from) };
        return round_row_plain(&mut to[done..], &from[done..]);
    }
    round_row_plain(to, from);
}

/// Rounds two rows of equal length and interleaves them: `to[2j]` from `first[j]`, `to[2j + 1]` from `second[j]`.
#[inline]
pub fn round_pair(to: &mut [u16], first: &[f32], second: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if let (true, 16, Some(to), Some(first), Some(second)) = (
        crate::cpu::has_wide_bf16(),
        first.len(),
        to.first_chunk_mut(),
        first.first_chunk(),
        second.first_chunk(),
    ) {
        // SAFETY: the CPU was just asked for these instructions.
        return unsafe { wide::round_pair(to, first, second) };
    }
    round_pair_plain(to, first, second);
}

/// One tile of a right factor: 16 columns from `column` on of 32 rows of 32 values, pairs of rows interleaved.
#[inline]
pub fn round_pairs(to: &mut [u16], from: &[f32], column: usize) {
    assert!(to.len() == 512 && from.len() == 1024 && column <= 16);
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::has_wide_bf16() {
        // SAFETY: the CPU was just asked for these instructions.
        return unsafe { wide::round_pairs(to, from, column) };
    }
    for (to, rows) in to.chunks_exact_mut(32).zip(from.chunks_exact(64)) {
        round_pair_plain(to, &rows[column..column + 16], &rows[32 + column..32 + column + 16]);
    }
}

crate::dispatched! {
    /// [`round_row`] without instructions made for it.
    pub fn round_row_plain / round_row_on (to: &mut [u16], from: &[f32]) {
        for (to, from) in to[..from.len()].iter_mut().zip(from) {
            *to = round(*from);
        }
    }
}

crate::dispatched! {
    /// Widens a row of equal length.
    pub fn widen_row / widen_row_on (to: &mut [f32], from: &[u16]) {
        assert_eq!(to.len(), from.len());
        for (to, from) in to.iter_mut().zip(from) {
            *to = widen(*from);
        }
    }
}

crate::dispatched! {
    /// [`round_pair`] without instructions made for it.
    pub fn round_pair_plain / round_pair_on (to: &mut [u16], first: &[f32], second: &[f32]) {
        let n = first.len();
        assert!(second.len() == n && to.len() >= 2 * n);
        for j in 0..n {
            let pair = round(first[j]) as u32 | (round(second[j]) as u32) << 16;
            to[2 * j] = pair as u16;
            to[2 * j + 1] = (pair >> 16) as u16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_with_ties_to_even() {
        let bf16 = |bits: u32| round(f32::from_bits(bits));
        assert_eq!(bf16(0x3f80_8000), 0x3f80, "a tie goes to the even neighbour below");
        assert_eq!(bf16(0x3f81_8000), 0x3f82, "a tie goes to the even neighbour above");
        assert_eq!(bf16(0x3f80_8001), 0x3f81);
        assert_eq!(round(f32::INFINITY), 0x7f80);
        assert!(widen(round(f32::NAN)).is_nan());
        assert_eq!(round(-0.0), 0x8000);
    }

    #[test]
    fn rows_are_rounded_as_single_values_on_every_instruction_set() {
        use crate::cpu::Isa;
        let x = underdog_testkit::hashed_values(8, 0, 77, 1e3);
        let y = underdog_testkit::hashed_values(8, 1, 77, 1e-3);
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            let (mut row, mut pairs, mut back) = (vec![7; 80], vec![0; 154], vec![0.0; 77]);
            round_row_on(isa, &mut row, &x);
            assert_eq!(row[77..], [7; 3]);
            round_pair_on(isa, &mut pairs, &x, &y);
            widen_row_on(isa, &mut back, &row[..77]);
            let (mut best, mut best_pairs) = (vec![7; 80], vec![0; 154]);
            round_row(&mut best, &x);
            round_pair(&mut best_pairs, &x, &y);
            assert_eq!((&best, &best_pairs), (&row, &pairs));
            round_pair(&mut best_pairs[..32], &x[..16], &y[..16]);
            assert_eq!(best_pairs, pairs);
            for j in 0..77 {
                assert_eq!((row[j], back[j]), (round(x[j]), widen(round(x[j]))));
                assert_eq!((pairs[2 * j], pairs[2 * j + 1]), (round(x[j]), round(y[j])));
            }
        }
    }
}
