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
        Gate::Silu => silu_forward(a, gate, up),
        Gate::GeluTanh => gelu_forward(a, gate, up),
    }
}

/// For `da = ∂L/∂a`: turns `da` into `∂L/∂gate`, `gate` into `a` itself and `up` into `∂L/∂up`, on this thread.
pub fn backward(kind: Gate, gate: &mut [f32], up: &mut [f32], da: &mut [f32]) {
    match kind {
        Gate::Silu => silu_backward(gate, up, da),
        Gate::GeluTanh => gelu_backward(gate, up, da),
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
            assert_eq!(a, gated);
            for i in 0..50 {
                assert!(
                    (a[i] as f64 - reference(kind, gate[i] as f64) * up[i] as f64).abs() < 2e-6,
                    "{kind:?} [{i}]"
                );
            }
        }
    }
}
