//! The files of an encoder: a Hugging Face directory with the settings files of sentence-transformers beside it.
//!
//! What would change the numbers and is not known here is refused: another pooling, another module, another activation.

use crate::gguf::{TensorType, dequantize, map_file};
use crate::hugging_face::{read_small, refuse_far_offsets};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use underdog_eval::{Error, Kind, Result};

/// `config.json` of a BERT.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Config {
    model_type: String,
    hidden_act: String,
    #[serde(default)]
    position_embedding_type: Option<String>,
    /// C.
    #[serde(rename = "hidden_size")]
    pub width: usize,
    #[serde(rename = "intermediate_size")]
    pub ffn: usize,
    #[serde(rename = "max_position_embeddings")]
    pub positions: usize,
    #[serde(rename = "num_attention_heads")]
    pub heads: usize,
    #[serde(rename = "num_hidden_layers")]
    pub layers: usize,
    #[serde(rename = "vocab_size")]
    pub vocab: usize,
    #[serde(rename = "layer_norm_eps")]
    pub eps: f32,
    #[serde(rename = "type_vocab_size")]
    pub types: usize,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Pooling {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

#[derive(Deserialize)]
struct Lengths {
    max_seq_length: Option<usize>,
}

/// An opened directory.
pub(super) struct Files {
    pub config: Config,
    /// Longest sequence, special tokens included.
    pub max_tokens: usize,
    /// 16 hexadecimal digits that change with any byte of settings, tokenizer or weights.
    pub fingerprint: String,
    weights: PathBuf,
    /// The weight file.
    pub map: Mmap,
}

impl Files {
    /// Opens the directory and checks its settings.
    pub fn open(directory: &Path) -> Result<Files> {
        let mut hash = Sha256::new();
        hash.update(b"underdog encoder 1");
        let config: Config = json(directory, "config.json", &mut hash)?;
        config.check(&directory.join("config.json"))?;
        let modules: Vec<Module> = json(directory, "modules.json", &mut hash)?;
        let known = ["Transformer", "Pooling", "Normalize"];
        let end = |module: &Module| module.kind.rsplit('.').next().unwrap_or_default().to_owned();
        if let Some(other) = modules.iter().map(end).find(|kind| !known.contains(&kind.as_str())) {
            return Err(unknown("a module of this encoder is not known", &known.join(", "), &other)
                .at(directory.join("modules.json").display().to_string()));
        }
        let pooling: Pooling = json(directory, "1_Pooling/config.json", &mut hash)?;
        let Pooling { pooling_mode_cls_token: cls, pooling_mode_max_tokens: max, .. } = pooling;
        if !pooling.pooling_mode_mean_tokens || cls || max || pooling.pooling_mode_mean_sqrt_len_tokens {
            return Err(unknown(
                "this encoder pools in another way",
                "the mean of the tokens",
                "another mode",
            )
            .at(directory.join("1_Pooling/config.json").display().to_string()));
        }
        let lengths: Lengths = json(directory, "sentence_bert_config.json", &mut hash)?;
        let max_tokens = lengths.max_seq_length.unwrap_or(config.positions);
        if !(2..=config.positions).contains(&max_tokens) {
            return Err(unknown(
                "the longest sequence does not fit the positions",
                &format!("2 to {}", config.positions),
                &max_tokens.to_string(),
            ));
        }
        hash.update(read_small(&directory.join("tokenizer.json"))?);
        let weights = directory.join("model.safetensors");
        let map = map_file(&weights)?;
        hash.update(&map[..]);
        let fingerprint = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        refuse_far_offsets(&map).map_err(|found| damaged(found, &weights))?;
        Ok(Files { config, max_tokens, fingerprint, weights, map })
    }

    /// The weights by name.
    pub fn weights(&self) -> Result<Weights<'_>> {
        let tensors =
            SafeTensors::deserialize(&self.map).map_err(|error| damaged(error.to_string(), &self.weights))?;
        Ok(Weights { tensors, path: &self.weights })
    }
}

/// The weights of an opened directory.
pub(super) struct Weights<'a> {
    tensors: SafeTensors<'a>,
    path: &'a Path,
}

impl Weights<'_> {
    /// The numbers of `name`, row-major, in f32.
    pub fn load(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let wrong = |what: &str, found: String| {
            Error::new(Kind::Model, format!("tensor '{name}' {what}"))
                .expected(format!("{shape:?} in F32, F16 or BF16"))
                .found(found)
                .at(self.path.display().to_string())
                .hint("fetch the model directory again")
        };
        let view = self.tensors.tensor(name).map_err(|_| wrong("is missing", "none".into()))?;
        if view.shape() != shape {
            return Err(wrong("has the wrong shape", format!("{:?}", view.shape())));
        }
        let kind = match view.dtype() {
            Dtype::F32 => TensorType::F32,
            Dtype::F16 => TensorType::F16,
            Dtype::BF16 => TensorType::BF16,
            other => return Err(wrong("has an unsupported type", format!("{other:?}"))),
        };
        let numbers = dequantize(kind, view.data()).ok_or_else(|| wrong("is cut off", "too few".into()))?;
        match numbers.iter().find(|number| !number.is_finite()) {
            Some(bad) => Err(wrong("holds a number that is none", bad.to_string())),
            None => Ok(numbers),
        }
    }
}

impl Config {
    fn check(&self, path: &Path) -> Result<()> {
        let expect = |what: &str, expected: &str, found: &str| {
            if expected == found {
                return Ok(());
            }
            Err(unknown(what, expected, found).at(path.display().to_string()))
        };
        expect("this is no encoder that is known here", "bert", &self.model_type)?;
        expect("the encoder has another activation", "gelu", &self.hidden_act)?;
        let positions = self.position_embedding_type.as_deref().unwrap_or("absolute");
        expect("the encoder has other positions", "absolute", positions)?;
        let sizes = [self.width, self.ffn, self.positions, self.heads, self.layers, self.vocab, self.types];
        let sane = sizes.iter().all(|&size| (1..=1 << 24).contains(&size)) && self.layers <= 1024;
        if !sane || !self.width.is_multiple_of(self.heads) {
            return Err(unknown(
                "the sizes of the encoder do not fit together",
                "sizes of 1 or more, and a width that its heads divide",
                &format!("width {}, heads {}, layers {}", self.width, self.heads, self.layers),
            )
            .at(path.display().to_string()));
        }
        Ok(())
    }
}

fn unknown(what: &str, expected: &str, found: &str) -> Error {
    Error::new(Kind::Model, what).expected(expected).found(found)
}

fn damaged(found: String, path: &Path) -> Error {
    Error::new(Kind::Model, "the safetensors file is damaged or cut off")
        .found(found)
        .at(path.display().to_string())
        .hint("fetch the file again")
}

fn json<T: DeserializeOwned>(directory: &Path, name: &str, hash: &mut Sha256) -> Result<T> {
    let path = directory.join(name);
    let bytes = read_small(&path)?;
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(&bytes);
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::new(Kind::Model, "a settings file of the encoder cannot be understood")
            .found(error.to_string())
            .at(path.display().to_string())
    })
}
