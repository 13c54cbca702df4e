//! Dropout with a mask that is a function of a key and the place, so the backward pass needs no stored mask.

/// What a mask depends on: draw a new key for every step and every matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of dropping a value, in `0..1`.
    pub rate: f32,
    /// Key of the mask.
    pub key: u64,
}

/// A well-mixed 64-bit value of `x` (the finaliser of splitmix64, Steele et al. 2014).
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Dropout {
    /// `x` with the mask applied and the kept values divided by `1 − rate`. The backward pass is the same map on the gradient.
    pub fn apply(&self, x: &[f32]) -> Vec<f32> {
        let threshold = (self.rate as f64 * (1u64 << 32) as f64) as u64;
        let scale = 1.0 / (1.0 - self.rate);
        let keep =
            |i: usize| (mix(self.key ^ (i as u64).wrapping_mul(0xd134_2543_de82_ef95)) >> 32) >= threshold;
        x.iter().enumerate().map(|(i, &v)| if keep(i) { v * scale } else { 0.0 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_depends_on_the_key_and_keeps_the_mean() {
        let x = vec![1.0; 100_000];
        let (a, b) = (Dropout { rate: 0.25, key: 1 }.apply(&x), Dropout { rate: 0.25, key: 2 }.apply(&x));
        assert_eq!(a, Dropout { rate: 0.25, key: 1 }.apply(&x));
        assert_ne!(a, b);
        let mean = a.iter().sum::<f32>() / 1e5;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }
}
