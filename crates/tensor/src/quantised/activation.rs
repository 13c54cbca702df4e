//! Rows of x as 8-bit integers with one scale for 32 values.

use super::BLOCK;

/// Rows `[T, width]` rounded for integer products.
#[derive(Clone, Debug)]
pub struct Rounded {
    width: usize,
    /// Codes in −127..=127, row-major.
    pub(super) codes: Vec<i8>,
    /// The scale of each block.
    pub(super) scales: Vec<f32>,
    /// The sums of the codes of the two halves of each block.
    pub(super) sums: Vec<[i32; 2]>,
    /// What each block sums up to: its scale times its sums.
    pub(super) totals: Vec<f32>,
}

/// One row of [`Rounded`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub codes: &'a [i8],
    pub scales: &'a [f32],
    pub sums: &'a [[i32; 2]],
    pub totals: &'a [f32],
}

impl Rounded {
    /// Rounds `x [T, width]`.
    ///
    /// # Panics
    /// When `width` is not a multiple of 32 or does not divide the length of `x`.
    pub fn new(x: &[f32], width: usize) -> Self {
        assert!(width > 0 && width.is_multiple_of(BLOCK) && x.len().is_multiple_of(width), "rows of {width}");
        let blocks = x.len() / BLOCK;
        let (mut codes, mut scales, mut sums) = (vec![0; x.len()], vec![0.0; blocks], vec![[0; 2]; blocks]);
        round(&mut codes, &mut scales, &mut sums, x);
        let totals = sums.iter().zip(&scales).map(|([a, b], scale)| (a + b) as f32 * scale).collect();
        Rounded { width, codes, scales, sums, totals }
    }

    /// T.
    pub fn rows(&self) -> usize {
        self.codes.len() / self.width
    }

    /// Values a row.
    pub fn width(&self) -> usize {
        self.width
    }

    #[inline]
    pub(super) fn row(&self, row: usize) -> Row<'_> {
        let blocks = self.width / BLOCK;
        Row {
            codes: &self.codes[row * self.width..][..self.width],
            scales: &self.scales[row * blocks..][..blocks],
            sums: &self.sums[row * blocks..][..blocks],
            totals: &self.totals[row * blocks..][..blocks],
        }
    }
}

crate::dispatched! {
    /// Codes, scales and half sums of blocks of 32 values. A block with an infinity or a NaN gets a scale that is no finite
    /// number, so that damage shows in the product.
    pub fn round / round_on (codes: &mut [i8], scales: &mut [f32], sums: &mut [[i32; 2]], x: &[f32]) {
        let (x, rest) = x.as_chunks::<BLOCK>();
        let (codes, _) = codes.as_chunks_mut::<BLOCK>();
        assert!(rest.is_empty() && codes.len() == x.len() && scales.len() == x.len() && sums.len() == x.len());
        for i in 0..x.len() {
            // Without its sign, the bits of a larger number are a larger integer, those of an infinity or a NaN the largest: a
            // search that needs no comparison of numbers.
            let mut top = 0;
            for j in 0..BLOCK {
                top = top.max(x[i][j].to_bits() & 0x7fff_ffff);
            }
            let top = f32::from_bits(top);
            let inverse = if top > 0.0 { 127.0 / top } else { 0.0 };
            scales[i] = top / 127.0;
            let mut ints = [0i32; BLOCK];
            for j in 0..BLOCK {
                // Adding 1.5 · 2^23 rounds to the nearest integer, ties to even.
                let sum = (x[i][j] * inverse).clamp(-127.0, 127.0) + 12_582_912.0;
                ints[j] = sum.to_bits() as i32 - 0x4b40_0000;
            }
            for j in 0..BLOCK {
                codes[i][j] = ints[j] as i8;
            }
            for half in 0..2 {
                sums[i][half] = ints[half * BLOCK / 2..][..BLOCK / 2].iter().sum();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use underdog_testkit::hashed_values;

    #[test]
    fn a_value_is_off_by_half_a_step_at_most_on_every_instruction_set() {
        let mut x = hashed_values(5, 0, 96, 3.0);
        x[32..64].fill(0.0);
        let want = Rounded::new(&x, 96);
        for (i, &value) in x.iter().enumerate() {
            let scale = want.scales[i / 32];
            assert!((value - want.codes[i] as f32 * scale).abs() <= scale * 0.5001, "[{i}]");
        }
        assert_eq!(want.codes.iter().map(|&c| (c as i32).abs()).max(), Some(127));
        assert_eq!(want.sums[2][1], want.codes[80..96].iter().map(|&c| c as i32).sum::<i32>());
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            let mut got = want.clone();
            got.codes.fill(1);
            round_on(isa, &mut got.codes, &mut got.scales, &mut got.sums, &x);
            assert_eq!((&got.codes, &got.sums), (&want.codes, &want.sums), "{isa:?}");
        }
    }

    #[test]
    fn damage_is_not_hidden() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = vec![1.0; 32];
            x[7] = bad;
            assert!(!Rounded::new(&x, 32).scales[0].is_finite());
        }
    }
}
