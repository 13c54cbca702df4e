//! One linear product with an optional adapter: the only place where a weight matrix of a layer is used. Other number
//! formats for weights go here and nowhere else.

use crate::lora::Pair;
use std::sync::{Arc, OnceLock};
use underdog_eval::{Error, Kind, Result};
use underdog_tensor::amx::{self, Packed};
use underdog_tensor::cross_entropy::Head;
use underdog_tensor::matmul::{Into, Mat, MatMut, Threads, matmul};
use underdog_tensor::pool::Pool;
use underdog_tensor::quantised::{self, Matrix, Product, activation::Rounded, panels};

/// Up to so many rows meet quantised weights as 8-bit integers, block by block; more meet them dequantised.
const FEW_ROWS: usize = 32;

/// The number format in which frozen weights are multiplied. Sums, activations and everything trained stay f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// Weights and the rows they meet are rounded to bf16; products are exact and sums are f32. Needs AMX.
    Bf16,
    /// Weights stay in the blocks that the file has. Few rows, as in decoding, are rounded to 8-bit integers per 32 values;
    /// many rows meet dequantised weights, in bf16 where the CPU has AMX. Weights that are not in blocks are f32.
    Native,
}

impl Precision {
    /// Parses `f32`, `bf16`, `native` or `auto`, which is bf16 where the CPU has AMX and f32 elsewhere.
    ///
    /// # Errors
    /// Any other text, or `bf16` on a CPU without AMX.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Precision::F32),
            "native" => Ok(Precision::Native),
            "auto" if !amx::available() => Ok(Precision::F32),
            "auto" => Ok(Precision::Bf16),
            "bf16" if amx::available() => Ok(Precision::Bf16),
            "bf16" => Err(Error::new(Kind::Usage, "precision bf16 needs a CPU with AMX")
                .found("a CPU or a kernel without it")
                .hint("use auto or f32")),
            other => Err(Error::new(Kind::Usage, "precision")
                .expected("auto, f32, bf16 or native")
                .found(format!("`{other}`"))),
        }
    }

    /// The name it is parsed from.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Native => "native",
        }
    }
}

/// A frozen weight `[output, input]` in the form that its products want.
#[derive(Debug)]
enum Weight {
    /// Row-major, as Hugging Face has it.
    F32(Vec<f32>),
    /// Packed for `x Wᵀ`, and for `dy W` once training asks for it.
    Bf16 { forward: Packed, backward: OnceLock<Packed> },
    /// In the blocks of the file.
    Blocks { matrix: Arc<Matrix>, pool: Arc<Pool> },
}

/// A frozen weight and its shape.
#[derive(Debug)]
pub struct Linear {
    weight: Weight,
    input: usize,
    output: usize,
}

impl Linear {
    /// From a row-major weight `[output, input]`.
    ///
    /// # Panics
    /// When `weight` has another size.
    pub fn new(weight: Vec<f32>, input: usize, output: usize, precision: Precision) -> Self {
        let view = Mat::new(&weight, output, input);
        let weight = match precision {
            Precision::Bf16 => Weight::Bf16 { forward: Packed::pack(view.t()), backward: OnceLock::new() },
            Precision::F32 | Precision::Native => Weight::F32(weight),
        };
        Linear { weight, input, output }
    }

    /// From a weight that stays in its blocks; products of few rows run on `pool`.
    pub fn blocks(matrix: Arc<Matrix>, pool: Arc<Pool>) -> Self {
        let (output, input) = matrix.shape();
        Linear { weight: Weight::Blocks { matrix, pool }, input, output }
    }

    /// Bytes that a product reads of the weight.
    pub fn bytes(&self) -> usize {
        match &self.weight {
            Weight::F32(weight) => weight.len() * 4,
            Weight::Bf16 { .. } => self.input * self.output * 2,
            Weight::Blocks { matrix, .. } => matrix.bytes(),
        }
    }

    /// `y = x Wᵀ`, with `x [T, input]` and `y [T, output]`.
    pub fn product(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.input;
        let mut y = vec![0.0; rows * self.output];
        let (rows_of_x, x) = (x, Mat::new(x, rows, self.input));
        match &self.weight {
            Weight::F32(weight) => {
                let weight = Mat::new(weight, self.output, self.input);
                matmul(MatMut::new(&mut y, rows, self.output), Into::Set, 1.0, x, weight.t(), Threads::All);
            }
            Weight::Bf16 { forward, .. } => amx::matmul(&mut y, Into::Set, x, forward),
            Weight::Blocks { matrix, .. } if rows > FEW_ROWS => panels::product(matrix, rows_of_x, &mut y),
            Weight::Blocks { matrix, pool } => {
                let x = Rounded::new(rows_of_x, self.input);
                quantised::products(pool, &x, &mut [Product { weight: matrix, y: &mut y }]);
            }
        }
        y
    }

    /// `dx += dy W`, with `dy [T, output]` and `dx [T, input]`.
    pub fn product_backward(&self, dx: &mut [f32], dy: &[f32]) {
        let rows = dy.len() / self.output;
        let (rows_of_dy, dy) = (dy, Mat::new(dy, rows, self.output));
        match &self.weight {
            Weight::F32(weight) => {
                let weight = Mat::new(weight, self.output, self.input);
                matmul(MatMut::new(dx, rows, self.input), Into::Add, 1.0, dy, weight, Threads::All);
            }
            Weight::Bf16 { forward, backward } => {
                amx::matmul(dx, Into::Add, dy, backward.get_or_init(|| forward.transposed()));
            }
            Weight::Blocks { matrix, .. } => panels::product_backward(matrix, dx, rows_of_dy),
        }
    }

    /// `y = x Wᵀ + scale · (drop(x) Aᵀ) Bᵀ`, with `x [T, input]` and `y [T, output]`.
    pub fn forward(&self, x: &[f32], pair: Option<Pair<'_>>) -> Vec<f32> {
        let rows = x.len() / self.input;
        let mut y = self.product(x);
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
    pub fn backward(
        &self,
        dx: &mut [f32],
        gradients: &mut [f32],
        x: &[f32],
        dy: &[f32],
        pair: Option<Pair<'_>>,
    ) {
        let (rows, input, output) = (x.len() / self.input, self.input, self.output);
        self.product_backward(dx, dy);
        let dy = Mat::new(dy, rows, output);
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

/// A linear product can be the output head.
impl Head for Linear {
    fn width(&self) -> usize {
        self.input
    }

    fn vocab(&self) -> usize {
        self.output
    }

    fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        self.product(hidden)
    }

    fn backward(&self, dhidden: &mut [f32], dlogits: &[f32]) {
        self.product_backward(dhidden, dlogits);
    }
}
