//! A model and its adapter as one GGUF file: the adapter is added to the weights, the weights are quantised, metadata and
//! tokenizer are those of the base's file. [`distance`] says what it cost, on answers of the model itself.

use crate::chat::ChatTemplate;
use crate::checkpoint::{Checkpoint, LayerTensor, Tensor};
use crate::config::Config;
use crate::generate::{Event, Limits, Prompt, generate};
use crate::gguf::{self, Gguf, NewTensor, Setting, TensorInfo, TensorType, quantize};
use crate::linear::Use;
use crate::lora::{Lora, Module};
use crate::transformer::{KvCache, Transformer, Workspace};
use crate::tree::Batch;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use underdog_eval::{Error, Kind, Result};
use underdog_tensor::cross_entropy::argmax;
use underdog_tensor::math::log_sum_exp;
use underdog_tensor::matmul::{Into, Mat, MatMut, Threads, matmul};

/// What matrices are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the formats")]
#[allow(non_camel_case_types, reason = "the names are those of the formats")]
pub enum Quantization {
    F16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q4_K_M,
    Q6_K,
}

impl Quantization {
    /// Parses `f16`, `q8_0`, `q4_0`, `q4_1`, `q4_k_m` or `q6_k`.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "f16" => Quantization::F16,
            "q8_0" => Quantization::Q8_0,
            "q4_0" => Quantization::Q4_0,
            "q4_1" => Quantization::Q4_1,
            "q4_k_m" => Quantization::Q4_K_M,
            "q6_k" => Quantization::Q6_K,
            other => {
                return Err(Error::new(Kind::Usage, "--quantize")
                    .expected("f16, q8_0, q4_0, q4_1, q4_k_m or q6_k")
                    .found(format!("`{other}`")));
            }
        })
    }

    /// `general.file_type` of the format.
    fn file_type(self) -> u32 {
        match self {
            Quantization::F16 => 1,
            Quantization::Q4_0 => 2,
            Quantization::Q4_1 => 3,
            Quantization::Q8_0 => 7,
            Quantization::Q4_K_M => 15,
            Quantization::Q6_K => 18,
        }
    }

    /// The type wanted for a matrix; llama.cpp's choices. The head, also where it is the embedding, gets six bits at
    /// least, and in q4_k_m so do values and down projections of the first and last eighth of the layers and of every
    /// third between.
    fn wanted(self, config: &Config, tensor: Tensor) -> TensorType {
        let plain = match self {
            Quantization::F16 => return TensorType::F16,
            Quantization::Q8_0 => return TensorType::Q8_0,
            Quantization::Q6_K => return TensorType::Q6_K,
            Quantization::Q4_0 => TensorType::Q4_0,
            Quantization::Q4_1 => TensorType::Q4_1,
            Quantization::Q4_K_M => TensorType::Q4_K,
        };
        let n = config.layers.len();
        let more = |i: usize| i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
        match tensor {
            Tensor::Head => TensorType::Q6_K,
            Tensor::Embedding if config.tied => TensorType::Q6_K,
            Tensor::Layer(i, LayerTensor::V | LayerTensor::Down)
                if self == Quantization::Q4_K_M && more(i) =>
            {
                TensorType::Q6_K
            }
            _ => plain,
        }
    }
}

/// What a type falls back to where rows are not whole blocks of 256, as llama.cpp does.
fn fitting(kind: TensorType, columns: usize) -> TensorType {
    match kind {
        TensorType::Q4_K if !columns.is_multiple_of(256) => TensorType::Q5_0,
        TensorType::Q6_K if !columns.is_multiple_of(256) => TensorType::Q8_0,
        other => other,
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exported {
    /// Bytes of the file.
    pub bytes: u64,
    /// Tensors by storage type.
    pub types: BTreeMap<&'static str, usize>,
    /// Tensors whose rows are not whole blocks of the wanted type: `Q4_K → Q5_0` and how many.
    pub fallbacks: BTreeMap<String, usize>,
    /// Matrices that the adapter changed.
    pub merged: usize,
    /// Matrices whose blocks were taken over as they were.
    pub copied: usize,
}

/// The key under which an exported file says how many similar rows stood before every question when its adapter was trained.
pub const SHOTS: &str = "underdog.shots";

/// Writes the model with its adapter, which was trained with so many `shots`, to `path`. Where the base has no chat template of
/// its own, the one that the adapter learned goes into the file: the merged model was taught it.
///
/// # Errors
/// A base that is not a GGUF file, a tensor that cannot be read, rows that no type fits, or what the disk says.
pub fn export(
    checkpoint: &Checkpoint,
    (lora, shots): (Option<&Lora>, usize),
    quantization: Quantization,
    path: &Path,
) -> Result<Exported> {
    let Some(source) = checkpoint.gguf() else {
        return Err(Error::new(Kind::Usage, "export needs a base that is a .gguf file")
            .found(checkpoint.path().display().to_string())
            .hint("metadata and tokenizer are taken over from it"));
    };
    let roles: BTreeMap<String, Tensor> =
        checkpoint.config().tensors().into_iter().map(|t| (gguf::tensor_name(t), t)).collect();
    let (types, fallbacks) = (BTreeMap::new(), BTreeMap::new());
    let mut done = Exported { bytes: 0, types, fallbacks, merged: 0, copied: 0 };
    let mut tensors = Vec::new();
    for info in source.tensors() {
        let tensor = match roles.get(&info.name) {
            Some(&role) if info.shape.len() == 2 => {
                matrix(checkpoint, source, info, role, lora, quantization, &mut done)?
            }
            _ => NewTensor {
                name: info.name.clone(),
                shape: info.shape.clone(),
                kind: info.kind,
                bytes: source.bytes()[info.start..info.start + info.bytes].to_vec(),
            },
        };
        *done.types.entry(tensor.kind.name()).or_insert(0) += 1;
        tensors.push(tensor);
    }
    let mut changes = vec![
        ("general.file_type", Setting::Number(quantization.file_type())),
        ("general.quantization_version", Setting::Number(2)),
    ];
    if lora.is_some() {
        let template = ChatTemplate::from_gguf(source, None).ok().filter(|template| !template.is_own());
        changes.extend(template.map(|t| ("tokenizer.chat_template", Setting::Text(t.source().to_owned()))));
        changes.push((SHOTS, Setting::Number(shots.try_into().unwrap_or(u32::MAX))));
    }
    gguf::write(path, source, &changes, &tensors)?;
    done.bytes = std::fs::metadata(path).map_err(|e| Error::io("cannot read the file", path, &e))?.len();
    Ok(done)
}

fn matrix(
    checkpoint: &Checkpoint,
    source: &Gguf,
    info: &TensorInfo,
    role: Tensor,
    lora: Option<&Lora>,
    quantization: Quantization,
    done: &mut Exported,
) -> Result<NewTensor> {
    let config = checkpoint.config();
    let wanted = quantization.wanted(config, role);
    let kind = fitting(wanted, info.shape[1]);
    if kind != wanted {
        *done.fallbacks.entry(format!("{} → {}", wanted.name(), kind.name())).or_insert(0) += 1;
    }
    let update = lora.and_then(|lora| update(lora, role));
    let new = |bytes| NewTensor { name: info.name.clone(), shape: info.shape.clone(), kind, bytes };
    if update.is_none() && kind == info.kind {
        done.copied += 1;
        return Ok(new(source.bytes()[info.start..info.start + info.bytes].to_vec()));
    }
    let mut numbers = checkpoint.load(role)?;
    if let Some(update) = update {
        done.merged += 1;
        numbers.iter_mut().zip(update).for_each(|(number, update)| *number += update);
    }
    if let Some(heads) = gguf::is_permuted(config, role) {
        numbers = gguf::permute_rows(&numbers, heads, info.shape[1]);
    }
    let bytes = quantize(kind, &numbers).ok_or_else(|| {
        Error::new(Kind::Model, format!("tensor '{}' cannot be stored as {}", info.name, kind.name()))
            .expected("rows of whole blocks")
            .found(format!("{} columns", info.shape[1]))
            .hint("f16 has no blocks")
    })?;
    Ok(new(bytes))
}

/// `scale · B A` of a tensor, `[out, in]`; `None` where the adapter does not change it.
fn update(lora: &Lora, role: Tensor) -> Option<Vec<f32>> {
    let Tensor::Layer(layer, tensor) = role else { return None };
    let module = match tensor {
        LayerTensor::Q => Module::Q,
        LayerTensor::K => Module::K,
        LayerTensor::V => Module::V,
        LayerTensor::O => Module::O,
        LayerTensor::Gate => Module::Gate,
        LayerTensor::Up => Module::Up,
        LayerTensor::Down => Module::Down,
        _ => return None,
    };
    let pair = lora.pair(layer, module)?;
    let rank = lora.config().rank;
    let (input, output) = (pair.a.len() / rank, pair.b.len() / rank);
    let mut update = vec![0.0; output * input];
    let (b, a) = (Mat::new(pair.b, output, rank), Mat::new(pair.a, rank, input));
    matmul(MatMut::new(&mut update, output, input), Into::Set, pair.scale, b, a, Threads::All);
    Some(update)
}

/// How far the exported model is from the model and its adapter, on the latter's own greedy answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distance {
    /// Prompts that were replayed.
    pub prompts: usize,
    /// Answer tokens that were compared.
    pub tokens: usize,
    /// Mean of |Δ log-probability| of the answer's tokens, in nats.
    pub mean_log_prob_difference: f64,
    /// The largest of them.
    pub largest_log_prob_difference: f64,
    /// Mean Σ p ln(p / q) over the vocabulary, in nats a token.
    pub mean_divergence: f64,
    /// Share of places where both would say the same token.
    pub same_token: f64,
}

/// Answers `prompts` greedily with `model`, and compares both models at every token of the answers. `None` when there is no
/// token to compare.
pub fn distance(
    (model, lora): (&Transformer, Option<&Lora>),
    exported: &Transformer,
    prompts: &[Prompt],
    stop: &[u32],
) -> Option<Distance> {
    let mut answers = vec![Vec::new(); prompts.len()];
    generate(model, lora, prompts, stop, Limits::default(), &mut |event| {
        if let Event::Token(i, token) = event {
            answers[i].push(token);
        }
        ControlFlow::Continue(())
    });
    let (mut differences, mut divergence, mut same) = (Vec::new(), 0.0, 0usize);
    for (prompt, answer) in prompts.iter().zip(&answers).filter(|(_, answer)| !answer.is_empty()) {
        let tokens: Vec<u32> = prompt.tokens.iter().chain(answer).copied().collect();
        let want: Vec<usize> = (prompt.tokens.len() - 1..tokens.len() - 1).collect();
        let (p, q) = (log_probs(model, lora, &tokens, &want), log_probs(exported, None, &tokens, &want));
        let vocab = p.len() / want.len();
        for ((p, q), &token) in p.chunks_exact(vocab).zip(q.chunks_exact(vocab)).zip(answer) {
            differences.push((p[token as usize] as f64 - q[token as usize] as f64).abs());
            divergence +=
                p.iter().zip(q).map(|(p, q)| (*p as f64).exp() * (*p as f64 - *q as f64)).sum::<f64>();
            same += usize::from(argmax(p) == argmax(q));
        }
    }
    let tokens = differences.len();
    (tokens > 0).then(|| Distance {
        prompts: prompts.len(),
        tokens,
        mean_log_prob_difference: differences.iter().sum::<f64>() / tokens as f64,
        largest_log_prob_difference: differences.iter().fold(0.0, |a, b| a.max(*b)),
        mean_divergence: divergence / tokens as f64,
        same_token: same as f64 / tokens as f64,
    })
}

/// Log-probabilities `[want, V]`.
fn log_probs(model: &Transformer, lora: Option<&Lora>, tokens: &[u32], want: &[usize]) -> Vec<f32> {
    let mut batch = Batch::default();
    batch.push(tokens, 0, 0, vec![]);
    let mut cache = KvCache::new(model.config(), tokens.len());
    let ready = lora.map(|lora| model.ready(lora, Use::Forward));
    let mut logits = model.extend(ready.as_ref(), &batch, &mut cache, want, &mut Workspace::default());
    for row in logits.chunks_exact_mut(model.config().vocab) {
        let (top, rest) = log_sum_exp(row);
        row.iter_mut().for_each(|x| *x -= top + rest);
    }
    logits
}
