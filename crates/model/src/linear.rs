//! One linear product with an optional adapter: the only place where a weight matrix of a layer is used. Other number
//! formats for weights go here and nowhere else.

use crate::lora::Pair;
use underdog_tensor::matmul::{Into, Mat, MatMut, Threads, matmul};

/// A frozen weight `[output, input]`, row-major as Hugging Face has it.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Vec<f32>,
    input: usize,
    output: usize,
}

impl Linear {
    /// # Panics
    /// When `weight` is not `[output, input]`.
    pub fn new(weight: Vec<f32>, input: usize, output: usize) -> Self {
        assert_eq!(weight.len(), input * output);
        Linear { weight, input, output }
    }

    /// `y = x Wᵀ + scale · (drop(x) Aᵀ) Bᵀ`, with `x [T, input]` and `y [T, output]`.
    pub fn forward(&self, x: &[f32], pair: Option<Pair<'_>>) -> Vec<f32> {
        let rows = x.len() / self.input;
        let mut y = vec![0.0; rows * self.output];
        let weight = Mat::new(&self.weight, self.output, self.input);
        let out = MatMut::new(&mut y, rows, self.output);
        matmul(out, Into::Set, 1.0, Mat::new(x, rows, self.input), weight.t(), Threads::All);
        if let Some(pair) = pair {
            let low = self.low(x, &pair);
            let rank = pair.a.len() / self.input;
            let b = Mat::new(pair.b, self.output, rank);
            let out = MatMut::new(&mut y, rows, self.output);
            matmul(out, Into::Add, pair.scale, Mat::new(&low, rows, rank), b.t(), Threads::All);
        }
        y
    }

    /// `drop(x) Aᵀ`, `[T, rank]`.
    fn low(&self, x: &[f32], pair: &Pair<'_>) -> Vec<f32> {
        let (rows, rank) = (x.len() / self.input, pair.a.len() / self.input);
        let dropped = pair.dropout.map(|d| d.apply(x));
        let mut low = vec![0.0; rows * rank];
        let x = Mat::new(dropped.as_deref().unwrap_or(x), rows, self.input);
        let a = Mat::new(pair.a, rank, self.input);
        matmul(MatMut::new(&mut low, rows, rank), Into::Set, 1.0, x, a.t(), Threads::All);
        low
    }

    /// For `dy = ∂L/∂y [T, output]`: adds `∂L/∂x` to `dx [T, input]` and the gradients of A and B to `gradients`, the flat
    /// vector of the adapter.
    pub fn backward(&self, dx: &mut [f32], gradients: &mut [f32], x: &[f32], dy: &[f32], pair: Option<Pair<'_>>) {
        let (rows, input, output) = (x.len() / self.input, self.input, self.output);
        let dy = Mat::new(dy, rows, output);
        let weight = Mat::new(&self.weight, output, input);
        matmul(MatMut::new(dx, rows, input), Into::Add, 1.0, dy, weight, Threads::All);
        let Some(pair) = pair else { return };
        let rank = pair.a.len() / input;
        let size = rank * (input + output);
        let (da, db) = gradients[pair.start..pair.start + size].split_at_mut(rank * input);
        let low = self.low(x, &pair);
        let (a, b) = (Mat::new(pair.a, rank, input), Mat::new(pair.b, output, rank));
        let mut dlow = vec![0.0; rows * rank];
        matmul(MatMut::new(&mut dlow, rows, rank), Into::Set, pair.scale, dy, b, Threads::All);
        let low = Mat::new(&low, rows, rank);
        matmul(MatMut::new(db, output, rank), Into::Add, pair.scale, dy.t(), low, Threads::All);
        let dlow = Mat::new(&dlow, rows, rank);
        match pair.dropout {
            None => {
                matmul(MatMut::new(dx, rows, input), Into::Add, 1.0, dlow, a, Threads::All);
                let x = Mat::new(x, rows, input);
                matmul(MatMut::new(da, rank, input), Into::Add, 1.0, dlow.t(), x, Threads::All);
            }
            Some(dropout) => {
                let mut ddropped = vec![0.0; rows * input];
                matmul(MatMut::new(&mut ddropped, rows, input), Into::Set, 1.0, dlow, a, Threads::All);
                underdog_tensor::math::add_scaled(dx, 1.0, &dropout.apply(&ddropped));
                let dropped = dropout.apply(x);
                let x = Mat::new(&dropped, rows, input);
                matmul(MatMut::new(da, rank, input), Into::Add, 1.0, dlow.t(), x, Threads::All);
            }
        }
    }
}
