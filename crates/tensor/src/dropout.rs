//! Dropout whose mask is a function of a key and a place, so that the backward pass computes it again and nothing is stored.

/// Rate and key of one mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of values set to zero, in 0..1.
    pub rate: f32,
    /// Picks the mask.
    pub key: u64,
}

/// Spreads the bits of `x` (the finaliser of SplitMix64).
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

crate::dispatched! {
    /// `x[j] · scale` where the mask keeps column `start + j`, 0 elsewhere. 32-bit lanes: the finaliser of MurmurHash3.
    pub fn mask_row / mask_row_on (x: &mut [f32], key: u32, start: u32, threshold: u32, scale: f32) {
        for (j, x) in x.iter_mut().enumerate() {
            let h = key ^ (start + j as u32).wrapping_mul(0x9e37_79b1);
            let h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
            let h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
            let h = h ^ (h >> 16);
            *x = if h >= threshold { *x * scale } else { 0.0 };
        }
    }
}

impl Dropout {
    /// The same rate under a key that `of` is mixed into: one mask for each product.
    pub fn for_part(self, of: u64) -> Self {
        Dropout { key: mix(self.key ^ mix(of)), ..self }
    }

    /// Drops values of row `row` from column `start` on.
    pub fn apply(&self, row: usize, start: usize, x: &mut [f32]) {
        let threshold = (self.rate as f64 * (1u64 << 32) as f64) as u32;
        let key = mix(self.key ^ (row as u64).wrapping_mul(0xd134_2543_de82_ef95)) as u32;
        mask_row(x, key, start as u32, threshold, 1.0 / (1.0 - self.rate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(key: u64, row: usize) -> Vec<f32> {
        let mut x = vec![1.0; 10_000];
        Dropout { rate: 0.25, key }.apply(row, 0, &mut x);
        x
    }

    #[test]
    fn the_mask_depends_on_key_and_place_and_keeps_the_mean() {
        assert_eq!(masked(1, 0), masked(1, 0));
        assert_ne!(masked(1, 0), masked(2, 0));
        assert_ne!(masked(1, 0), masked(1, 1));
        let mut tail = vec![1.0; 100];
        Dropout { rate: 0.25, key: 1 }.apply(0, 32, &mut tail);
        assert_eq!(tail, masked(1, 0)[32..132]);
        let mean = (0..20).map(|row| masked(1, row).iter().sum::<f32>() / 1e4).sum::<f32>() / 20.0;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }
}
