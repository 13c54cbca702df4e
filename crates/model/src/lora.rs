//! Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): every linear product gets `scale · B A x` on top.
//!
//! All parameters of an adapter lie in one flat vector, so that the optimiser, the norm of the gradient and a checkpoint
//! are loops over one slice. Reading and writing PEFT directories is `adapter`'s work.

use crate::config::Config;
use underdog_tensor::dropout::mix;

/// The linear products of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention output.
    O,
    /// Gate of the MLP.
    Gate,
    /// Up projection of the MLP.
    Up,
    /// Down projection of the MLP.
    Down,
}

impl Module {
    /// Every module, in the order in which parameters are stored.
    pub const ALL: [Module; 7] =
        [Module::Q, Module::K, Module::V, Module::O, Module::Gate, Module::Up, Module::Down];

    /// The name that PEFT and Hugging Face give it.
    pub fn peft_name(self) -> &'static str {
        match self {
            Module::Q => "q_proj",
            Module::K => "k_proj",
            Module::V => "v_proj",
            Module::O => "o_proj",
            Module::Gate => "gate_proj",
            Module::Up => "up_proj",
            Module::Down => "down_proj",
        }
    }

    /// `(input, output)` sizes in a model.
    pub fn shape(self, config: &Config) -> (usize, usize) {
        let (q, kv) = (config.heads * config.head_size, config.kv_heads * config.head_size);
        match self {
            Module::Q => (config.width, q),
            Module::K | Module::V => (config.width, kv),
            Module::O => (q, config.width),
            Module::Gate | Module::Up => (config.width, config.ffn),
            Module::Down => (config.ffn, config.width),
        }
    }
}

impl Module {
    /// Its place in [`Module::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// The largest rank that is read and trained.
pub const MAX_RANK: usize = 4096;

/// What an adapter looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rank r of every pair.
    pub rank: usize,
    /// The product is scaled by `alpha / rank`.
    pub alpha: f32,
    /// Which products are adapted, in the order of [`Module::ALL`].
    pub targets: Vec<Module>,
}

/// Where one pair lies in the flat vector: A `[rank, input]`, then B `[output, rank]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which layer.
    pub layer: usize,
    /// Which product.
    pub module: Module,
    /// First value of A.
    pub start: usize,
    /// Columns of A.
    pub input: usize,
    /// Rows of B.
    pub output: usize,
}

/// An adapter's parameters.
#[derive(Clone, PartialEq)]
pub struct Lora {
    config: LoraConfig,
    places: Vec<Place>,
    /// All values, pair by pair as [`Lora::places`] says.
    pub values: Vec<f32>,
}

impl std::fmt::Debug for Lora {
    /// Millions of values help nobody.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lora({:?}, {} values)", self.config, self.values.len())
    }
}

/// One pair as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// A `[rank, input]`.
    pub a: &'a [f32],
    /// B `[output, rank]`.
    pub b: &'a [f32],
    /// `alpha / rank`.
    pub scale: f32,
    /// First value of A in the flat vector.
    pub start: usize,
}

impl Lora {
    /// An adapter for a model with A and B all zero.
    pub fn zeros(model: &Config, config: LoraConfig) -> Self {
        let mut places = Vec::new();
        let mut start = 0;
        for layer in 0..model.layers.len() {
            for &module in &config.targets {
                let (input, output) = module.shape(model);
                places.push(Place { layer, module, start, input, output });
                start += config.rank * (input + output);
            }
        }
        Lora { config, places, values: vec![0.0; start] }
    }

    /// A fresh adapter as PEFT makes it: A uniform in ±1/√input (Kaiming with a = √5), B zero, so that the first step starts
    /// from the base model.
    pub fn fresh(model: &Config, config: LoraConfig, seed: u64) -> Self {
        let mut lora = Self::zeros(model, config);
        for (i, place) in lora.places.iter().enumerate() {
            let bound = 1.0 / (place.input as f32).sqrt();
            let stream = mix(seed ^ mix(i as u64));
            for j in 0..lora.config.rank * place.input {
                let unit = (mix(stream.wrapping_add(j as u64)) >> 40) as f32 / (1u64 << 24) as f32;
                lora.values[place.start + j] = (2.0 * unit - 1.0) * bound;
            }
        }
        lora
    }

    /// What it looks like.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Where every pair lies, in storage order.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The pair of a product, `None` where it is not adapted.
    pub fn pair(&self, layer: usize, module: Module) -> Option<Pair<'_>> {
        let per_layer = self.config.targets.len();
        let offset = self.config.targets.iter().position(|&m| m == module)?;
        let place = self.places[layer * per_layer + offset];
        let (a, b) = self.split(&place);
        let scale = self.config.alpha / self.config.rank as f32;
        Some(Pair { a, b, scale, start: place.start })
    }

    /// A and B of a place.
    pub fn split(&self, place: &Place) -> (&[f32], &[f32]) {
        let rank = self.config.rank;
        self.values[place.start..place.start + rank * (place.input + place.output)]
            .split_at(rank * place.input)
    }
}
