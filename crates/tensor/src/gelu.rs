//! GELU in its exact form, `x · Φ(x)` (Hendrycks and Gimpel 2016, arXiv 1606.08415), forward only. The gated units of
//! the decoders, with the tanh form, are `activation`'s.

use crate::math::exp;

/// The error function; absolute error ≤ 3e-7. Formula 7.1.26 of Abramowitz and Stegun, "Handbook of Mathematical
/// Functions" (1964).
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let value = 1.0 - p * t * exp(-a * a);
    if x < 0.0 { -value } else { value }
}

crate::dispatched! {
    /// One row in place: `x = gelu(x + bias)`, all of length C.
    pub fn row_with_bias / row_with_bias_on (x: &mut [f32], bias: &[f32]) {
        assert!(x.len() == bias.len());
        for i in 0..x.len() {
            let v = x[i] + bias[i];
            x[i] = 0.5 * v * (1.0 + erf(v * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

/// `x = gelu(x + bias)` for the rows of `x` `[T, C]` in place, C being the length of `bias`. On the calling thread.
pub fn with_bias(x: &mut [f32], bias: &[f32]) {
    x.chunks_exact_mut(bias.len()).for_each(|row| row_with_bias(row, bias));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    #[test]
    fn erf_has_its_known_values() {
        // Rounded to nine digits, from the tables of the handbook.
        for (x, want) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916),
            (0.5, 0.520_499_878),
            (1.0, 0.842_700_793),
            (1.5, 0.966_105_146),
            (2.0, 0.995_322_265),
            (3.0, 0.999_977_910),
        ] {
            assert!((f64::from(erf(x)) - want).abs() < 3e-7, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + erf(x)).abs() < 2e-7);
        }
        assert_eq!((erf(100.0), erf(f32::NEG_INFINITY)), (1.0, -1.0));
    }

    #[test]
    fn gelu_adds_the_bias_on_every_instruction_set() {
        // x · Φ(x) at −1, 0 and 2.
        let want = [-0.158_655_25, 0.0, 1.954_499_7];
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            let mut x = [-1.5, 1.0, 0.0];
            row_with_bias_on(isa, &mut x, &[0.5, -1.0, 2.0]);
            for (got, want) in x.iter().zip(want) {
                assert!((got - want).abs() < 1e-6, "{isa:?}: {got} but {want}");
            }
        }
        let mut x = [2.0, 0.0, 2.0, 0.0];
        with_bias(&mut x, &[0.0, 0.0]);
        assert_eq!((x[0], x[1]), (x[2], x[3]));
    }
}
