//! One layer backward. Base weights are frozen: gradients go to the input and to the adapter's pairs only.

use super::layer::{Activations, Mlp, Scope};
use crate::lora::Module;
use underdog_tensor::activation;
use underdog_tensor::attention::{self, Heads, Saved};
use underdog_tensor::norm;
use underdog_tensor::rope::{Turn, rotate};

impl Scope<'_> {
    /// From `dy = ∂L/∂(layer output) [T, C]` to `∂L/∂x [T, C]`; adapter gradients are added to `gradients`.
    pub fn backward(&self, kept: Activations, dy: Vec<f32>, gradients: &mut [f32]) -> Vec<f32> {
        let Activations { x, q, k, v, out, lse, o, middle, mlp } = kept;
        let dmiddle = self.mlp_backward(&middle, mlp, dy, gradients);
        self.attention_backward(&x, o, KeptAttention { q, k, v, out, lse }, dmiddle, gradients)
    }

    /// The gradient that reaches a product's output through an optional norm after it.
    fn through_norm(&self, output: Option<&[f32]>, weight: Option<&[f32]>, dy: &[f32]) -> Option<Vec<f32>> {
        let (output, weight) = (output?, weight?);
        let mut d = vec![0.0; output.len()];
        norm::backward(&mut d, output, weight, self.eps, dy);
        Some(d)
    }

    fn linear_backward(&self, module: Module, dx: &mut [f32], gradients: &mut [f32], x: &[f32], dy: &[f32]) {
        self.weights.linear(module).backward(dx, gradients, x, dy, self.pair(module));
    }

    fn mlp_backward(
        &self,
        middle: &[f32],
        mlp: Option<Mlp>,
        dy: Vec<f32>,
        gradients: &mut [f32],
    ) -> Vec<f32> {
        let w = self.weights;
        let normed = self.norm(middle, &w.mlp_norm);
        let mlp = mlp.unwrap_or_else(|| self.mlp(&normed));
        let gated = self.gated(&mlp);
        let Mlp { mut gate, mut up } = mlp;
        let down = w.mlp_post_norm.is_some().then(|| self.linear(Module::Down, &gated));
        let through = self.through_norm(down.as_deref(), w.mlp_post_norm.as_deref(), &dy);
        let mut dgated = vec![0.0; gated.len()];
        self.linear_backward(Module::Down, &mut dgated, gradients, &gated, through.as_deref().unwrap_or(&dy));
        activation::backward(self.gate, &mut gate, &mut up, &dgated);
        let (dgate, dup) = (gate, up);
        let mut dnormed = vec![0.0; normed.len()];
        self.linear_backward(Module::Gate, &mut dnormed, gradients, &normed, &dgate);
        self.linear_backward(Module::Up, &mut dnormed, gradients, &normed, &dup);
        let mut dmiddle = dy;
        norm::backward(&mut dmiddle, middle, &w.mlp_norm, self.eps, &dnormed);
        dmiddle
    }

    fn attention_backward(
        &self,
        x: &[f32],
        o: Option<Vec<f32>>,
        kept: KeptAttention,
        dmiddle: Vec<f32>,
        gradients: &mut [f32],
    ) -> Vec<f32> {
        let w = self.weights;
        let Heads { heads, kv_heads, .. } = self.heads;
        let KeptAttention { q, k, v, out, lse } = kept;
        let through = self.through_norm(o.as_deref(), w.attention_post_norm.as_deref(), &dmiddle);
        let mut dout = vec![0.0; out.len()];
        self.linear_backward(Module::O, &mut dout, gradients, &out, through.as_deref().unwrap_or(&dmiddle));
        let turned_q = self.turned(&q, heads, w.q_norm.as_ref());
        let turned_k = self.turned(&k, kv_heads, w.k_norm.as_ref());
        let saved = Saved { q: &turned_q, k: &turned_k, v: &v, out: &out, lse: &lse };
        let d = attention::backward(&dout, saved, self.runs, self.heads);
        let dq = self.unturned(d.dq, &q, heads, w.q_norm.as_deref());
        let dk = self.unturned(d.dk, &k, kv_heads, w.k_norm.as_deref());
        let normed = self.norm(x, &w.attention_norm);
        let mut dnormed = vec![0.0; normed.len()];
        self.linear_backward(Module::Q, &mut dnormed, gradients, &normed, &dq);
        self.linear_backward(Module::K, &mut dnormed, gradients, &normed, &dk);
        self.linear_backward(Module::V, &mut dnormed, gradients, &normed, &d.dv);
        let mut dx = dmiddle;
        norm::backward(&mut dx, x, &w.attention_norm, self.eps, &dnormed);
        dx
    }

    /// The gradient of the raw queries or keys from that of the turned ones.
    fn unturned(&self, mut d: Vec<f32>, raw: &[f32], heads: usize, weight: Option<&[f32]>) -> Vec<f32> {
        rotate(&mut d, heads, self.angles, Turn::Backward);
        self.through_norm(Some(raw), weight, &d).unwrap_or(d)
    }
}

/// What attention kept: see [`Activations`].
struct KeptAttention {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
    lse: Vec<f32>,
}
