//! The computation of a BERT encoder (Devlin et al. 2019, arXiv 1810.04805) on sequences laid end to end: no padding,
//! so every product is over real tokens only.
//!
//! All of it runs on the calling thread; `encoder` gives each thread its own group of texts.

use super::files::{Config, Weights};
use std::ops::Range;
use underdog_eval::Result;
use underdog_tensor::math::exp_row;
use underdog_tensor::matmul::{Into, Mat, MatMut, Threads, matmul};
use underdog_tensor::{gelu, layer_norm};

/// A product with bias: weight `[output, input]`, bias `[output]`.
struct Dense {
    weight: Vec<f32>,
    bias: Vec<f32>,
    input: usize,
}

/// A layer norm: weight and bias `[C]`.
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// One layer: attention and MLP, each with residual and norm after it.
struct Layer {
    /// Queries, keys and values as one product `[3C, C]`.
    qkv: Dense,
    out: Dense,
    attention_norm: Norm,
    up: Dense,
    down: Dense,
    output_norm: Norm,
}

/// The weights of an encoder.
pub(super) struct Bert {
    width: usize,
    heads: usize,
    eps: f32,
    words: Vec<f32>,
    /// Position embeddings with the embedding of the first token type added: there is no second one here.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

impl Dense {
    fn load(weights: &Weights<'_>, name: &str, output: usize, input: usize) -> Result<Dense> {
        let weight = weights.load(&format!("{name}.weight"), &[output, input])?;
        Ok(Dense { weight, bias: weights.load(&format!("{name}.bias"), &[output])?, input })
    }

    /// `y += x Wᵀ`, with `x [T, input]` and `y [T, output]`; the bias is the caller's.
    fn add_product(&self, y: &mut [f32], x: &[f32], into: Into) {
        let (rows, output) = (x.len() / self.input, self.bias.len());
        let weight = Mat::new(&self.weight, output, self.input);
        let x = Mat::new(x, rows, self.input);
        matmul(MatMut::new(y, rows, output), into, 1.0, x, weight.t(), Threads::One);
    }

    /// `residual += x Wᵀ + bias`.
    fn add_to(&self, residual: &mut [f32], x: &[f32]) {
        add_bias(residual, &self.bias);
        self.add_product(residual, x, Into::Add);
    }
}

fn add_bias(y: &mut [f32], bias: &[f32]) {
    for row in y.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    }
}

impl Norm {
    fn load(weights: &Weights<'_>, name: &str, width: usize) -> Result<Norm> {
        let part = |end: &str| weights.load(&format!("{name}.LayerNorm.{end}"), &[width]);
        Ok(Norm { weight: part("weight")?, bias: part("bias")? })
    }

    fn apply(&self, x: &mut [f32], eps: f32) {
        layer_norm::in_place(x, &self.weight, &self.bias, eps);
    }
}

impl Layer {
    fn load(weights: &Weights<'_>, layer: usize, config: &Config) -> Result<Layer> {
        let (c, ffn) = (config.width, config.ffn);
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let mut qkv = Dense { weight: Vec::new(), bias: Vec::new(), input: c };
        for part in ["query", "key", "value"] {
            let one = Dense::load(weights, &name(&format!("attention.self.{part}")), c, c)?;
            qkv.weight.extend(one.weight);
            qkv.bias.extend(one.bias);
        }
        Ok(Layer {
            qkv,
            out: Dense::load(weights, &name("attention.output.dense"), c, c)?,
            attention_norm: Norm::load(weights, &name("attention.output"), c)?,
            up: Dense::load(weights, &name("intermediate.dense"), ffn, c)?,
            down: Dense::load(weights, &name("output.dense"), c, ffn)?,
            output_norm: Norm::load(weights, &name("output"), c)?,
        })
    }

    /// `x [T, C]` in place; `sequences` are ranges of rows that see each other.
    fn forward(&self, x: &mut [f32], sequences: &[Range<usize>], heads: usize, eps: f32) {
        let (c, ffn) = (self.qkv.input, self.up.bias.len());
        let rows = x.len() / c;
        let mut qkv = vec![0.0; rows * 3 * c];
        self.qkv.add_product(&mut qkv, x, Into::Set);
        add_bias(&mut qkv, &self.qkv.bias);
        let mut mixed = vec![0.0; rows * c];
        for sequence in sequences {
            let from = &qkv[sequence.start * 3 * c..sequence.end * 3 * c];
            attend(&mut mixed[sequence.start * c..sequence.end * c], from, c, heads);
        }
        self.out.add_to(x, &mixed);
        self.attention_norm.apply(x, eps);
        let mut hidden = vec![0.0; rows * ffn];
        self.up.add_product(&mut hidden, x, Into::Set);
        gelu::with_bias(&mut hidden, &self.up.bias);
        self.down.add_to(x, &hidden);
        self.output_norm.apply(x, eps);
    }
}

/// Full attention within one sequence: `out [T, C]` from `qkv [T, 3C]`.
fn attend(out: &mut [f32], qkv: &[f32], c: usize, heads: usize) {
    let (rows, size) = (out.len() / c, c / heads);
    let scale = 1.0 / (size as f32).sqrt();
    let mut scores = vec![0.0; rows * rows];
    for head in 0..heads {
        let part = |which: usize| Mat::strided(&qkv[which * c + head * size..], rows, size, 3 * c);
        let (q, k, v) = (part(0), part(1), part(2));
        matmul(MatMut::new(&mut scores, rows, rows), Into::Set, scale, q, k.t(), Threads::One);
        for row in scores.chunks_exact_mut(rows) {
            let (_, sum) = exp_row(row);
            let inverse = 1.0 / sum;
            row.iter_mut().for_each(|weight| *weight *= inverse);
        }
        let mixed = MatMut::strided(&mut out[head * size..], rows, size, c);
        matmul(mixed, Into::Set, 1.0, Mat::new(&scores, rows, rows), v, Threads::One);
    }
}

impl Bert {
    pub fn load(weights: &Weights<'_>, config: &Config) -> Result<Bert> {
        let c = config.width;
        let mut positions = weights.load("embeddings.position_embeddings.weight", &[config.positions, c])?;
        let types = weights.load("embeddings.token_type_embeddings.weight", &[config.types, c])?;
        add_bias(&mut positions, &types[..c]);
        Ok(Bert {
            width: c,
            heads: config.heads,
            eps: config.eps,
            words: weights.load("embeddings.word_embeddings.weight", &[config.vocab, c])?,
            positions,
            norm: Norm::load(weights, "embeddings", c)?,
            layers: (0..config.layers)
                .map(|layer| Layer::load(weights, layer, config))
                .collect::<Result<_>>()?,
        })
    }

    /// The mean of the last layer's rows of each sequence, scaled to length 1. Sequences are not empty, their ids are in
    /// the vocabulary, and none is longer than the positions.
    pub fn embed(&self, sequences: &[&[u32]]) -> Vec<Vec<f32>> {
        let c = self.width;
        let mut x = Vec::with_capacity(sequences.iter().map(|s| s.len()).sum::<usize>() * c);
        let mut ranges = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let start = x.len() / c;
            ranges.push(start..start + sequence.len());
            for (position, &id) in sequence.iter().enumerate() {
                let word = &self.words[id as usize * c..][..c];
                let place = &self.positions[position * c..][..c];
                x.extend(word.iter().zip(place).map(|(word, place)| word + place));
            }
        }
        self.norm.apply(&mut x, self.eps);
        self.layers.iter().for_each(|layer| layer.forward(&mut x, &ranges, self.heads, self.eps));
        ranges.into_iter().map(|range| mean_of_length_one(&x[range.start * c..range.end * c], c)).collect()
    }
}

fn mean_of_length_one(rows: &[f32], c: usize) -> Vec<f32> {
    let mut sum = vec![0.0f64; c];
    for row in rows.chunks_exact(c) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    // The length of the sum: how many rows there are falls out.
    let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    sum.into_iter().map(|x| (x / length) as f32).collect()
}
