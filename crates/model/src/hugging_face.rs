//! A Hugging Face model directory: `config.json` and weights in safetensors, in one file or in shards.
//!
//! The tokenizer and the chat template of the directory belong to their own modules. Pickled weights are not
//! read: they can run code.

mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use underdog_eval::{Error, Kind, Result};

use crate::config::{Architecture, Config, LayerTensor, Tensor};
use crate::gguf::{TensorInfo, TensorType, dequantize, map_file};

/// The largest JSON file that is read; an index of shards has some 100 bytes a tensor.
const MAX_JSON: u64 = 64 << 20;
/// The name of weights in one file.
const SINGLE: &str = "model.safetensors";
/// The name of the list of shards.
const INDEX: &str = "model.safetensors.index.json";

/// One mapped safetensors file.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    map: Mmap,
    /// Where the numbers begin.
    data_start: usize,
}

/// An opened directory.
#[derive(Debug)]
pub(crate) struct HuggingFace {
    config_bytes: Vec<u8>,
    shards: Vec<Shard>,
    /// Shard and entry by name.
    tensors: BTreeMap<String, (usize, TensorInfo)>,
}

impl HuggingFace {
    /// Opens the directory and reads its configuration.
    pub fn open(directory: &Path) -> Result<(HuggingFace, Config)> {
        let config_path = directory.join("config.json");
        let config_bytes = read_small(&config_path)?;
        let mut opened = HuggingFace { config_bytes, shards: Vec::new(), tensors: BTreeMap::new() };
        let config = settings::Settings::parse(&opened.config_bytes, &config_path)?;
        if directory.join(SINGLE).exists() {
            opened.add_shard(&directory.join(SINGLE), None)?;
        } else if directory.join(INDEX).exists() {
            opened.add_index(directory)?;
        } else {
            return Err(Error::new(Kind::Model, "the model directory has no weights")
                .expected(format!("{SINGLE} or {INDEX}"))
                .at(directory.display().to_string())
                .hint("weights in other formats (.bin, .pt) must be converted to safetensors first"));
        }
        let head = opened.tensors.contains_key("lm_head.weight");
        let config = config.into_config(head)?;
        Ok((opened, config))
    }

    fn add_index(&mut self, directory: &Path) -> Result<()> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let path = directory.join(INDEX);
        let fault = |what: &str| Error::new(Kind::Model, what).at(path.display().to_string());
        let index: Index = serde_json::from_slice(&read_small(&path)?)
            .map_err(|error| fault("the list of shards is damaged").found(error.to_string()))?;
        let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (tensor, file) in &index.weight_map {
            // Only files of this very directory: a list must not reach elsewhere.
            if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) || file.contains('\\') {
                return Err(
                    fault("the list of shards names a file outside the directory").found(file.clone())
                );
            }
            shards.entry(file).or_default().push(tensor);
        }
        for (file, tensors) in shards {
            self.add_shard(&directory.join(file), Some(&tensors))?;
        }
        Ok(())
    }

    /// Adds a file's tensors: all of them, or those that the index expects in it.
    fn add_shard(&mut self, path: &Path, wanted: Option<&[&str]>) -> Result<()> {
        let map = map_file(path)?;
        let (data_start, tensors) = read_header(&map, path)?;
        let mut found: BTreeMap<String, TensorInfo> =
            tensors.into_iter().map(|info| (info.name.clone(), info)).collect();
        let shard = self.shards.len();
        self.shards.push(Shard { path: path.to_path_buf(), map, data_start });
        match wanted {
            None => self.tensors.extend(found.into_iter().map(|(name, info)| (name, (shard, info)))),
            Some(names) => {
                for name in names {
                    let info = found.remove(*name).ok_or_else(|| {
                        Error::new(Kind::Model, format!("tensor '{name}' is missing"))
                            .expected(format!("it in this shard, as {INDEX} says"))
                            .at(path.display().to_string())
                            .hint("fetch the model directory again")
                    })?;
                    self.tensors.insert((*name).to_owned(), (shard, info));
                }
            }
        }
        Ok(())
    }

    /// The tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|(_, info)| info)
    }

    /// The entry of `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(_, info)| info)
    }

    /// The numbers of a tensor that the directory has, as the transformer uses them: Gemma's norms get their
    /// `+ 1`, which these files leave out.
    pub fn load(&self, config: &Config, tensor: Tensor) -> Option<Vec<f32>> {
        let (shard, info) = self.tensors.get(&tensor_name(config, tensor))?;
        // The entry was checked against this very map.
        let bytes = &self.shards[*shard].map[info.start..info.start + info.bytes];
        let mut numbers = dequantize(info.kind, bytes)?;
        if config.architecture == Architecture::Gemma3 && is_norm(tensor) {
            numbers.iter_mut().for_each(|number| *number += 1.0);
        }
        Some(numbers)
    }

    /// `config.json` as it was read.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// Bytes and start of the numbers of each file.
    pub fn files(&self) -> impl Iterator<Item = (&[u8], usize)> {
        self.shards.iter().map(|shard| (&shard.map[..], shard.data_start))
    }

    /// The file that holds an entry, for messages.
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        self.tensors.get(name).map(|(shard, _)| self.shards[*shard].path.as_path())
    }

    /// Which file holds each tensor: index into [`HuggingFace::files`], and the entry.
    pub fn placed(&self) -> impl Iterator<Item = (usize, &TensorInfo)> {
        self.tensors.values().map(|(shard, info)| (*shard, info))
    }
}

/// Reads a text file of a bounded size.
pub(crate) fn read_small(path: &Path) -> Result<Vec<u8>> {
    let fault = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(Kind::Model, "a file of the model directory is missing")
            .expected(path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()))
            .at(path.display().to_string())
            .hint("a model is a .gguf file, or a directory with config.json and safetensors weights"),
        _ => Error::io("a file of the model directory cannot be read", path, error),
    };
    let length = std::fs::metadata(path).map_err(|error| fault(&error))?.len();
    if length > MAX_JSON {
        return Err(Error::new(Kind::Model, "a file of the model directory is too large")
            .expected(format!("at most {MAX_JSON} bytes"))
            .found(format!("{length} bytes"))
            .at(path.display().to_string()));
    }
    std::fs::read(path).map_err(|error| fault(&error))
}

/// The entries of a safetensors file and where its numbers begin.
fn read_header(bytes: &[u8], path: &Path) -> Result<(usize, Vec<TensorInfo>)> {
    let fault = |found: String| {
        Error::new(Kind::Model, "the safetensors file is damaged or cut off")
            .found(found)
            .at(path.display().to_string())
            .hint("fetch the file again")
    };
    refuse_far_offsets(bytes).map_err(fault)?;
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| fault(error.to_string()))?;
    let data_start = header + 8;
    let mut tensors = Vec::new();
    for (name, info) in metadata.tensors() {
        let kind = match info.dtype {
            Dtype::F32 => TensorType::F32,
            Dtype::F16 => TensorType::F16,
            Dtype::BF16 => TensorType::BF16,
            other => {
                return Err(Error::new(Kind::Model, format!("tensor '{name}' has an unsupported type"))
                    .expected("F32, F16 or BF16")
                    .found(format!("{other:?}"))
                    .at(path.display().to_string())
                    .hint("use the weights as they were published, not a quantised copy"));
            }
        };
        let (start, end) = (data_start + info.data_offsets.0, data_start + info.data_offsets.1);
        tensors.push(TensorInfo { name, shape: info.shape.clone(), kind, start, bytes: end - start });
    }
    Ok((data_start, tensors))
}

/// Refuses offsets beyond the file before the library sums them up: it does so unchecked.
pub(crate) fn refuse_far_offsets(bytes: &[u8]) -> std::result::Result<(), String> {
    #[derive(Deserialize)]
    struct Offsets {
        #[serde(default)]
        data_offsets: Option<(u64, u64)>,
    }
    let length = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    let end = length.and_then(|length| usize::try_from(length).ok()?.checked_add(8));
    let Some(header) = end.and_then(|end| bytes.get(8..end)) else {
        return Err("a header that is longer than the file".to_owned());
    };
    let entries: BTreeMap<String, Offsets> =
        serde_json::from_slice(header).map_err(|error| format!("a header that is not valid: {error}"))?;
    for (name, entry) in entries {
        if entry.data_offsets.is_some_and(|(start, end)| start > end || end > bytes.len() as u64) {
            return Err(format!("tensor '{name}' ends outside the file"));
        }
    }
    Ok(())
}

fn is_norm(tensor: Tensor) -> bool {
    match tensor {
        Tensor::FinalNorm => true,
        Tensor::Embedding | Tensor::Head => false,
        Tensor::Layer(_, tensor) => matches!(
            tensor,
            LayerTensor::AttentionNorm
                | LayerTensor::QNorm
                | LayerTensor::KNorm
                | LayerTensor::AttentionPostNorm
                | LayerTensor::MlpNorm
                | LayerTensor::MlpPostNorm
        ),
    }
}

/// The name in the files of a tensor. `post_attention_layernorm` is the norm before the MLP, but with Gemma,
/// which has a norm after attention, that one.
pub(crate) fn tensor_name(config: &Config, tensor: Tensor) -> String {
    match tensor {
        Tensor::Embedding => "model.embed_tokens.weight".to_owned(),
        Tensor::FinalNorm => "model.norm.weight".to_owned(),
        Tensor::Head => "lm_head.weight".to_owned(),
        Tensor::Layer(layer, tensor) => {
            let part = match tensor {
                LayerTensor::AttentionNorm => "input_layernorm",
                LayerTensor::Q => "self_attn.q_proj",
                LayerTensor::K => "self_attn.k_proj",
                LayerTensor::V => "self_attn.v_proj",
                LayerTensor::O => "self_attn.o_proj",
                LayerTensor::QNorm => "self_attn.q_norm",
                LayerTensor::KNorm => "self_attn.k_norm",
                LayerTensor::AttentionPostNorm => "post_attention_layernorm",
                LayerTensor::MlpNorm if config.post_norms => "pre_feedforward_layernorm",
                LayerTensor::MlpNorm => "post_attention_layernorm",
                LayerTensor::Gate => "mlp.gate_proj",
                LayerTensor::Up => "mlp.up_proj",
                LayerTensor::Down => "mlp.down_proj",
                LayerTensor::MlpPostNorm => "post_feedforward_layernorm",
            };
            format!("model.layers.{layer}.{part}.weight")
        }
    }
}

/// Whether a tensor that the transformer does not ask for may be in the files without changing what the model is:
/// precomputed rope frequencies, and the copy of a tied head.
pub(crate) fn is_superfluous(config: &Config, name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || (config.tied && name == "lm_head.weight")
}
