//! Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467), forward and backward.
//!
//! The weight is applied as it is: loaders add the 1 where a format stores `weight − 1`.

use crate::math::{dot, sum_over};
use rayon::prelude::*;

/// Rows that one task handles; enough to hide the cost of handing it out.
const ROWS: usize = 32;

crate::dispatched! {
    /// One row: `y = x / sqrt(mean(x²) + eps) · weight`, all of length C.
    pub fn row_forward / row_forward_on (y: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
        let n = x.len();
        assert!(y.len() == n && weight.len() == n);
        let inverse = 1.0 / (dot(x, x) / n as f32 + eps).sqrt();
        for i in 0..n {
            y[i] = x[i] * inverse * weight[i];
        }
    }
}

crate::dispatched! {
    /// One row: `dx += ∂L/∂x` for the row's `dy`.
    pub fn row_backward / row_backward_on (dx: &mut [f32], x: &[f32], weight: &[f32], eps: f32, dy: &[f32]) {
        let n = x.len();
        assert!(dx.len() == n && weight.len() == n && dy.len() == n);
        let inverse = 1.0 / (dot(x, x) / n as f32 + eps).sqrt();
        let projection = sum_over([dy, weight, x], |[dy, weight, x]| dy * weight * x) * inverse * inverse / n as f32;
        for i in 0..n {
            dx[i] += inverse * (dy[i] * weight[i] - x[i] * projection);
        }
    }
}

/// `y = norm(x) · weight` for rows of `weight.len()` values. `x` and `y` are `[T, C]`.
pub fn forward(y: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let c = weight.len();
    assert_eq!(y.len(), x.len());
    y.par_chunks_mut(ROWS * c).zip(x.par_chunks(ROWS * c)).for_each(|(y, x)| {
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            row_forward(y, x, weight, eps);
        }
    });
}

/// `dx += ∂L/∂x` for `dy = ∂L/∂y`; all `[T, C]`. The weight is frozen and gets no gradient.
pub fn backward(dx: &mut [f32], x: &[f32], weight: &[f32], eps: f32, dy: &[f32]) {
    let c = weight.len();
    assert!(dx.len() == x.len() && dy.len() == x.len());
    let rows = dx.par_chunks_mut(ROWS * c).zip(x.par_chunks(ROWS * c)).zip(dy.par_chunks(ROWS * c));
    rows.for_each(|((dx, x), dy)| {
        for ((dx, x), dy) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(dy.chunks_exact(c)) {
            row_backward(dx, x, weight, eps, dy);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use underdog_testkit::{assert_gradient, hashed_values};

    #[test]
    fn the_backward_is_the_derivative_on_every_instruction_set() {
        let (x, weight, dy) =
            (hashed_values(1, 0, 37, 2.0), hashed_values(1, 1, 37, 2.0), hashed_values(1, 2, 37, 2.0));
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            let mut dx = vec![0.0; 37];
            row_backward_on(isa, &mut dx, &x, &weight, 1e-5, &dy);
            assert_gradient("norm", &dx, &x, |x| {
                let mean = x.iter().map(|v| v * v).sum::<f64>() / 37.0;
                let inverse = 1.0 / (mean + 1e-5).sqrt();
                (0..37).map(|i| x[i] * inverse * weight[i] as f64 * dy[i] as f64).sum()
            });
            let mut y = vec![0.0; 37];
            row_forward_on(isa, &mut y, &x, &weight, 1e-5);
            let mean = x.iter().map(|&v| (v * v) as f64).sum::<f64>() / 37.0;
            assert!((y[5] as f64 - x[5] as f64 / (mean + 1e-5).sqrt() * weight[5] as f64).abs() < 1e-6);
        }
    }

    #[test]
    fn the_gradient_is_added_to_what_is_there() {
        let mut dx = vec![1.0, 1.0];
        backward(&mut dx, &[1.0, 2.0], &[1.0, 1.0], 0.0, &[0.0, 0.0]);
        assert_eq!(dx, [1.0, 1.0]);
    }
}
