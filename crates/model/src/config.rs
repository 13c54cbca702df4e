//! What a decoder is built from: sizes, layers, and the few switches in which the families differ.
//!
//! One description for all families and both file formats; the formats fill it in (`gguf::settings`,
//! `hugging_face`), the transformer reads it. It names every tensor a model must have, and its shape.

use std::path::Path;

use underdog_eval::{Error, Kind, Result};

pub use crate::rope::{Rope, RopeScaling};

/// A family of decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama and what is shaped like it (SmolLM2).
    Llama,
    /// Qwen 3: Llama with norms on queries and keys.
    Qwen3,
    /// Gemma 3, text only: its four norms, sliding and global layers, embedding scale.
    Gemma3,
}

impl Architecture {
    /// The families, for messages.
    pub const SUPPORTED: &str = "llama, qwen3 or gemma3";

    /// The name that messages and `models inspect` use.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen3 => "qwen3",
            Architecture::Gemma3 => "gemma3",
        }
    }
}

/// The nonlinearity on the MLP's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU in its tanh approximation.
    GeluTanh,
}

/// In what a layer differs from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// How many positions a token attends to, itself among them; `None` for all before it.
    pub window: Option<usize>,
    /// Index into [`Config::ropes`].
    pub rope: usize,
}

/// A decoder in numbers. All sizes are at least 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family.
    pub architecture: Architecture,
    /// `C`, the width of the residual stream.
    pub width: usize,
    /// `H`, query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// `G`, key/value heads.
    pub kv_heads: usize,
    /// `D`, the size of a head; even. `H · D` need not be `C`.
    pub head_size: usize,
    /// The inner width of the MLP.
    pub ffn: usize,
    /// `V`, the rows of the embedding.
    pub vocab: usize,
    /// The longest sequence the model was made for, in tokens.
    pub context: usize,
    /// Added to the mean square in every norm; finite and positive.
    pub norm_eps: f32,
    /// The nonlinearity on the MLP's gate.
    pub activation: Activation,
    /// Whether queries and keys are normalised per head.
    pub qk_norm: bool,
    /// Whether attention's and the MLP's outputs are normalised before they are added (Gemma).
    pub post_norms: bool,
    /// What embedded tokens are multiplied by.
    pub embedding_scale: f32,
    /// What the products of queries and keys are multiplied by.
    pub attention_scale: f32,
    /// The rotary embeddings that the layers choose from; at least one.
    pub ropes: Vec<Rope>,
    /// The layers, first to last; at least one.
    pub layers: Vec<Layer>,
    /// Whether the head is the embedding.
    pub tied: bool,
}

/// A tensor of the model by its role, whatever a file calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tensor {
    /// `[V, C]`
    Embedding,
    /// `[C]`
    FinalNorm,
    /// `[V, C]`; of a tied model the embedding itself.
    Head,
    /// A tensor of the layer with this index.
    Layer(usize, LayerTensor),
}

/// A tensor of one layer by its role. Linear weights are `[out, in]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerTensor {
    /// `[C]`, before attention.
    AttentionNorm,
    /// `[H·D, C]`
    Q,
    /// `[G·D, C]`
    K,
    /// `[G·D, C]`
    V,
    /// `[C, H·D]`
    O,
    /// `[D]`, on each query head; only with [`Config::qk_norm`].
    QNorm,
    /// `[D]`, on each key head; only with [`Config::qk_norm`].
    KNorm,
    /// `[C]`, on attention's output; only with [`Config::post_norms`].
    AttentionPostNorm,
    /// `[C]`, before the MLP.
    MlpNorm,
    /// `[ffn, C]`
    Gate,
    /// `[ffn, C]`
    Up,
    /// `[C, ffn]`
    Down,
    /// `[C]`, on the MLP's output; only with [`Config::post_norms`].
    MlpPostNorm,
}

impl LayerTensor {
    const ALL: [LayerTensor; 13] = [
        LayerTensor::AttentionNorm,
        LayerTensor::Q,
        LayerTensor::K,
        LayerTensor::V,
        LayerTensor::O,
        LayerTensor::QNorm,
        LayerTensor::KNorm,
        LayerTensor::AttentionPostNorm,
        LayerTensor::MlpNorm,
        LayerTensor::Gate,
        LayerTensor::Up,
        LayerTensor::Down,
        LayerTensor::MlpPostNorm,
    ];
}

/// The largest of any one size: far above every real model, and small enough that products of two fit `u64`.
const MAX_SIZE: usize = 1 << 28;

impl Config {
    /// Every tensor that a model of this configuration has; a tied head is not one of them.
    pub fn tensors(&self) -> Vec<Tensor> {
        let mut tensors = vec![Tensor::Embedding];
        for layer in 0..self.layers.len() {
            let present = LayerTensor::ALL.into_iter().filter(|tensor| self.has(*tensor));
            tensors.extend(present.map(|tensor| Tensor::Layer(layer, tensor)));
        }
        tensors.push(Tensor::FinalNorm);
        if !self.tied {
            tensors.push(Tensor::Head);
        }
        tensors
    }

    /// Whether layers have this tensor.
    pub fn has(&self, tensor: LayerTensor) -> bool {
        match tensor {
            LayerTensor::QNorm | LayerTensor::KNorm => self.qk_norm,
            LayerTensor::AttentionPostNorm | LayerTensor::MlpPostNorm => self.post_norms,
            _ => true,
        }
    }

    /// The row-major shape of a tensor.
    pub fn shape(&self, tensor: Tensor) -> Vec<usize> {
        let (queries, keys) = (self.heads * self.head_size, self.kv_heads * self.head_size);
        match tensor {
            Tensor::Embedding | Tensor::Head => vec![self.vocab, self.width],
            Tensor::FinalNorm => vec![self.width],
            Tensor::Layer(_, tensor) => match tensor {
                LayerTensor::AttentionNorm
                | LayerTensor::AttentionPostNorm
                | LayerTensor::MlpNorm
                | LayerTensor::MlpPostNorm => vec![self.width],
                LayerTensor::Q => vec![queries, self.width],
                LayerTensor::K | LayerTensor::V => vec![keys, self.width],
                LayerTensor::O => vec![self.width, queries],
                LayerTensor::QNorm | LayerTensor::KNorm => vec![self.head_size],
                LayerTensor::Gate | LayerTensor::Up => vec![self.ffn, self.width],
                LayerTensor::Down => vec![self.width, self.ffn],
            },
        }
    }

    /// How many numbers the model holds, a tied head counted once.
    pub fn parameters(&self) -> u64 {
        let count = |tensor| self.shape(tensor).iter().map(|size| *size as u64).product::<u64>();
        self.tensors().into_iter().map(count).sum()
    }

    /// Refuses sizes that no transformer can be built from; `place` is the file they came from.
    pub(crate) fn check(&self, place: &Path) -> Result<()> {
        let fault = |what: &str, expected: &str, found: String| {
            let what = format!("the model's {what} cannot be right");
            Err(Error::new(Kind::Model, what).expected(expected).found(found).at(place.display().to_string()))
        };
        let sizes = [
            ("width", self.width),
            ("number of heads", self.heads),
            ("number of key/value heads", self.kv_heads),
            ("head size", self.head_size),
            ("MLP width", self.ffn),
            ("vocabulary size", self.vocab),
            ("context length", self.context),
            ("number of layers", self.layers.len()),
        ];
        for (what, size) in sizes {
            if size == 0 || size > MAX_SIZE {
                return fault(what, "1 to 2^28", size.to_string());
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a multiple of the {} key/value heads", self.kv_heads);
            return fault("number of heads", &expected, self.heads.to_string());
        }
        if !self.head_size.is_multiple_of(2) {
            return fault("head size", "an even number", self.head_size.to_string());
        }
        let numbers = [
            ("norm epsilon", self.norm_eps),
            ("embedding scale", self.embedding_scale),
            ("attention scale", self.attention_scale),
        ];
        let ropes = self.ropes.iter().flat_map(|rope| rope.numbers());
        for (what, number) in numbers.into_iter().chain(ropes) {
            if !number.is_finite() || number <= 0.0 {
                return fault(what, "a finite number above 0", number.to_string());
            }
        }
        for layer in &self.layers {
            if layer.window.is_some_and(|window| window == 0 || window > MAX_SIZE) {
                return fault("sliding window", "1 to 2^28", format!("{:?}", layer.window));
            }
        }
        self.check_factors(place)
    }

    fn check_factors(&self, place: &Path) -> Result<()> {
        for rope in &self.ropes {
            let fault = match &rope.scaling {
                RopeScaling::Factors(factors) if factors.len() != self.head_size / 2 => {
                    Some((format!("{} factors", self.head_size / 2), factors.len().to_string()))
                }
                RopeScaling::Llama3 { low_freq_factor, high_freq_factor, .. }
                    if low_freq_factor >= high_freq_factor =>
                {
                    let found = format!("{low_freq_factor} and {high_freq_factor}");
                    Some(("a low frequency factor below the high one".to_owned(), found))
                }
                _ => None,
            };
            if let Some((expected, found)) = fault {
                return Err(Error::new(Kind::Model, "the model's rope scaling cannot be right")
                    .expected(expected)
                    .found(found)
                    .at(place.display().to_string()));
            }
        }
        Ok(())
    }
}

impl Rope {
    /// Every number of the embedding that must be finite and positive, with its name.
    fn numbers(&self) -> Vec<(&'static str, f32)> {
        let scaling: Vec<f32> = match &self.scaling {
            RopeScaling::None => vec![],
            RopeScaling::Linear { factor } => vec![*factor],
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                vec![*factor, *low_freq_factor, *high_freq_factor, *original_context as f32]
            }
            RopeScaling::Factors(factors) => factors.clone(),
        };
        let mut numbers = vec![("rope base", self.theta)];
        numbers.extend(scaling.into_iter().map(|number| ("rope scaling", number)));
        numbers
    }
}
