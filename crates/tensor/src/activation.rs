//! Gated linear units (Shazeer 2020, arXiv 2002.05202): `a = f(gate) · up`, forward and backward.

use crate::math::{exp, tanh};

/// The function on the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `x · sigmoid(x)`.
    Silu,
    /// The tanh approximation of `x · Φ(x)`.
    GeluTanh,
}

const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// `f(x)` and `f'(x)` of SiLU.
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + exp(-x));
    (x * s, s * (1.0 + x * (1.0 - s)))
}

/// `f(x)` and `f'(x)` of GELU in its tanh form.
#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    let t = tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
    let slope = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
    (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
}

crate::dispatched! {
    /// `a[i] = silu(gate[i]) · up[i]`.
    pub fn silu_forward / silu_forward_on (a: &mut [f32], gate: &[f32], up: &[f32]) {
        assert!(a.len() == gate.len() && a.len() == up.len());
        for i in 0..a.len() {
            a[i] = silu(gate[i]).0 * up[i];
        }
    }
}

crate::dispatched! {
    /// `a[i] = gelu(gate[i]) · up[i]`.
    pub fn gelu_forward / gelu_forward_on (a: &mut [f32], gate: &[f32], up: &[f32]) {
        assert!(a.len() == gate.len() && a.len() == up.len());
        for i in 0..a.len() {
            a[i] = gelu_tanh(gate[i]).0 * up[i];
        }
    }
}

crate::dispatched! {
    /// SiLU's part of [`backward`].
    pub fn silu_backward / silu_backward_on (gate: &mut [f32], up: &mut [f32], da: &mut [f32]) {
        assert!(da.len() == gate.len() && da.len() == up.len());
        for i in 0..da.len() {
            let (value, slope) = silu(gate[i]);
            gate[i] = value * up[i];
            let d = da[i];
            da[i] = d * up[i] * slope;
            up[i] = d * value;
        }
    }
}

crate::dispatched! {
    /// GELU's part of [`backward`].
    pub fn gelu_backward / gelu_backward_on (gate: &mut [f32], up: &mut [f32], da: &mut [f32]) {
        assert!(da.len() == gate.len() && da.len() == up.len());
        for i in 0..da.len() {
            let (value, slope) = gelu_tanh(gate[i]);
            gate[i] = value * up[i];
            let d = da[i];
            da[i] = d * up[i] * slope;
            up[i] = d * value;
        }
    }
}

/// `a = gate(g) · up` over slices of equal length, on this thread.
pub fn forward(kind: Gate, a: &mut [f32], gate: &[f32], up: &[f32]) {
    match kind {
        #[cfg(target_arch = "x86_64")]
        Gate::Silu if crate::cpu::has_wide_words() => {
            assert!(a.len() == gate.len() && a.len() == up.len());
            // SAFETY: the CPU was just asked for these instructions.
            let done = unsafe { wide::silu_forward(a, gate, up) };
            silu_forward(&mut a[done..], &gate[done..], &up[done..]);
        }
        Gate::Silu => silu_forward(a, gate, up),
        Gate::GeluTanh => gelu_forward(a, gate, up),
    }
}

/// For `da = ∂L/∂a`: turns `da` into `∂L/∂gate`, `gate` into `a` itself and `up` into `∂L/∂up`, on this thread.
pub fn backward(kind: Gate, gate: &mut [f32], up: &mut [f32], da: &mut [f32]) {
    match kind {
        #[cfg(target_arch = "x86_64")]
        Gate::Silu if crate::cpu::has_wide_words() => {
            assert!(da.len() == gate.len() && da.len() == up.len());
            // SAFETY: the CPU was just asked for these instructions.
            let done = unsafe { wide::silu_backward(gate, up, da) };
            silu_backward(&mut gate[done..], &mut up[done..], &mut da[done..]);
        }
        Gate::Silu => silu_backward(gate, up, da),
        Gate::GeluTanh => gelu_backward(gate, up, da),
    }
}

/// SiLU in vectors of 16 with fused arithmetic.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    /// `1 / (1 + e^−x)`, within 3 units in the last place: 2^n · e^r with r of at most ln 2 / 2, the polynomial of
    /// [`crate::math::exp`], and one Newton step for the quotient.
    #[target_feature(enable = "avx512f,avx512dq")]
    #[inline]
    fn sigmoid(x: __m512) -> __m512 {
        let set = |value: f32| _mm512_set1_ps(value);
        let x = _mm512_min_ps(_mm512_max_ps(x, set(-87.0)), set(87.0));
        let n = _mm512_roundscale_ps::<8>(_mm512_mul_ps(x, set(-std::f32::consts::LOG2_E)));
        // r = −x − n · ln 2, with ln 2 in two parts.
        let r = _mm512_fnmadd_ps(n, set(0.693_359_4), _mm512_sub_ps(_mm512_setzero_ps(), x));
        let r = _mm512_fnmadd_ps(n, set(-2.121_944_4e-4), r);
        let p = _mm512_fmadd_ps(set(1.987_569_1e-4), r, set(1.398_2e-3));
        let p = _mm512_fmadd_ps(p, r, set(8.333_452e-3));
        let p = _mm512_fmadd_ps(p, r, set(4.166_579_6e-2));
        let p = _mm512_fmadd_ps(p, r, set(1.666_666_5e-1));
        let p = _mm512_fmadd_ps(p, r, set(0.5));
        let p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, _mm512_add_ps(r, set(1.0)));
        let under = _mm512_add_ps(_mm512_scalef_ps(p, n), set(1.0));
        let guess = _mm512_rcp14_ps(under);
        _mm512_mul_ps(guess, _mm512_fnmadd_ps(under, guess, set(2.0)))
    }

    /// Whole vectors of `a = silu(gate) · up`; gives how many values were done.
    #[target_feature(enable = "avx512f,avx512dq")]
    pub fn silu_forward(a: &mut [f32], gate: &[f32], up: &[f32]) -> usize {
        let done = a.len() - a.len() % 16;
        for i in (0..done).step_by(16) {
            // SAFETY: the slices are equally long, and 16 values from `i` on lie inside them.
            unsafe {
                let (g, u) = (_mm512_loadu_ps(gate.as_ptr().add(i)), _mm512_loadu_ps(up.as_ptr().add(i)));
                let value = _mm512_mul_ps(_mm512_mul_ps(g, sigmoid(g)), u);
                _mm512_storeu_ps(a.as_mut_ptr().add(i), value);
            }
        }
        done
    }

    /// Whole vectors of the backward pass, see [`super::backward`]; gives how many values were done.
    #[target_feature(enable = "avx512f,avx512dq")]
    pub fn silu_backward(gate: &mut [f32], up: &mut [f32], da: &mut [f32]) -> usize {
        let done = da.len() - da.len() % 16;
        for i in (0..done).step_by(16) {
            // SAFETY: the slices are equally long, and 16 values from `i` on lie inside them.
            unsafe {
                let g = _mm512_loadu_ps(gate.as_ptr().add(i));
                let (u, d) = (_mm512_loadu_ps(up.as_ptr().add(i)), _mm512_loadu_ps(da.as_ptr().add(i)));
                let s = sigmoid(g);
                let value = _mm512_mul_ps(g, s);
                // slope = s · (1 + g · (1 − s)) = s + value · (1 − s)
                let slope = _mm512_fmadd_ps(value, _mm512_sub_ps(_mm512_set1_ps(1.0), s), s);
                _mm512_storeu_ps(gate.as_mut_ptr().add(i), _mm512_mul_ps(value, u));
                _mm512_storeu_ps(da.as_mut_ptr().add(i), _mm512_mul_ps(_mm512_mul_ps(d, u), slope));
                _mm512_storeu_ps(up.as_mut_ptr().add(i), _mm512_mul_ps(d, value));
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use underdog_testkit::{assert_gradient, hashed_values};

    fn reference(kind: Gate, x: f64) -> f64 {
        match kind {
            Gate::Silu => x / (1.0 + (-x).exp()),
            Gate::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
            }
        }
    }

    #[test]
    fn the_backward_is_the_derivative_of_gate_and_of_up() {
        for kind in [Gate::Silu, Gate::GeluTanh] {
            let (gate, up, da) =
                (hashed_values(2, 0, 50, 8.0), hashed_values(2, 1, 50, 4.0), hashed_values(2, 2, 50, 2.0));
            let (mut gated, mut dup, mut dgate) = (gate.clone(), up.clone(), da.clone());
            backward(kind, &mut gated, &mut dup, &mut dgate);
            let loss = |gate: &[f64], up: &[f64]| -> f64 {
                (0..50).map(|i| reference(kind, gate[i]) * up[i] * da[i] as f64).sum()
            };
            let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&v| v as f64).collect() };
            assert_gradient("gate", &dgate, &gate, |x| loss(x, &wide(&up)));
            assert_gradient("up", &dup, &up, |x| loss(&wide(&gate), x));
            let mut a = vec![0.0; 50];
            forward(kind, &mut a, &gate, &up);
            assert_eq!(a[..48], gated[..48]);
            for i in 0..50 {
                assert!(
                    (a[i] as f64 - reference(kind, gate[i] as f64) * up[i] as f64).abs() < 2e-6,
                    "{kind:?} [{i}]"
                );
            }
        }
    }
}
