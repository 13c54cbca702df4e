//! Layer normalisation with weight and bias (Ba, Kiros and Hinton 2016, arXiv 1607.06450), forward only: encoders are
//! not trained here. The root-mean-square kind of the decoders is `norm`'s.

use crate::math::sum_over;

crate::dispatched! {
    /// One row in place: `x = (x − mean) / sqrt(variance + eps) · weight + bias`, all of length C.
    pub fn row_in_place / row_in_place_on (x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        let n = x.len();
        assert!(weight.len() == n && bias.len() == n);
        let mean = sum_over([x], |[x]| x) / n as f32;
        let variance = sum_over([x], |[x]| (x - mean) * (x - mean)) / n as f32;
        let inverse = 1.0 / (variance + eps).sqrt();
        for i in 0..n {
            x[i] = (x[i] - mean) * inverse * weight[i] + bias[i];
        }
    }
}

/// Normalises the rows of `x` `[T, C]` in place, C being the length of `weight` and `bias`. On the calling thread: an
/// encoder works on several groups of texts at once.
pub fn in_place(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    x.chunks_exact_mut(weight.len()).for_each(|row| row_in_place(row, weight, bias, eps));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use underdog_testkit::hashed_values;

    #[test]
    fn rows_follow_the_definition_on_every_instruction_set() {
        let (x, weight, bias) =
            (hashed_values(1, 0, 37, 2.0), hashed_values(1, 1, 37, 2.0), hashed_values(1, 2, 37, 2.0));
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / 37.0;
        let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / 37.0;
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            let mut got = x.clone();
            row_in_place_on(isa, &mut got, &weight, &bias, 1e-3);
            for i in 0..37 {
                let want = (f64::from(x[i]) - mean) / (variance + 1e-3).sqrt() * f64::from(weight[i])
                    + f64::from(bias[i]);
                assert!((f64::from(got[i]) - want).abs() < 2e-6, "{isa:?} [{i}]: {} but {want}", got[i]);
            }
        }
    }

    #[test]
    fn every_row_is_normalised_on_its_own() {
        let mut x = vec![1.0, 3.0, 10.0, 30.0];
        in_place(&mut x, &[1.0, 1.0], &[0.0, 0.5], 0.0);
        assert_eq!(x, [-1.0, 1.5, -1.0, 1.5]);
    }
}
