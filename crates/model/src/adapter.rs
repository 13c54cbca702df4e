//! PEFT adapter directories: `adapter_config.json` and `adapter_model.safetensors`, read and written.
//!
//! Beside them lies `underdog.json` with the fingerprint of the base, so that an adapter is not put on another model by
//! mistake. Adapters made elsewhere lack it; for them the shapes must fit.

use crate::config::Config;
use crate::disk::{Content, Tensor, write_directory};
use crate::lora::{Lora, LoraConfig, MAX_RANK, Module, Place};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use underdog_eval::{Error, Kind, Result};

/// Version of `underdog.json`.
pub const VERSION: u32 = 1;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const ORIGIN: &str = "underdog.json";

/// Where an adapter comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Version of this file.
    pub version: u32,
    /// Model reference of the base.
    pub base: String,
    /// [`crate::checkpoint::Checkpoint::fingerprint`] of the base.
    pub base_fingerprint: String,
    /// Similar training rows that stood before every question in training, and are to stand there when it is asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shots: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Place {
    /// The name PEFT gives to A (`"lora_A"`) or B (`"lora_B"`) of this place.
    pub fn tensor_name(&self, which: &str) -> String {
        let part = match self.module {
            Module::Gate | Module::Up | Module::Down => "mlp",
            _ => "self_attn",
        };
        format!(
            "base_model.model.model.layers.{}.{part}.{}.{which}.weight",
            self.layer,
            self.module.peft_name()
        )
    }
}

/// Named f32 tensors of an adapter, `[rank, input]` and `[output, rank]`, taken from any vector laid out as its values.
pub fn tensors<'a>(lora: &'a Lora, values: &'a [f32]) -> Vec<(String, [usize; 2], &'a [f32])> {
    let rank = lora.config().rank;
    let of = |place: &Place| {
        let middle = place.start + rank * place.input;
        let (a, b) = (&values[place.start..middle], &values[middle..middle + rank * place.output]);
        [
            (place.tensor_name("lora_A"), [rank, place.input], a),
            (place.tensor_name("lora_B"), [place.output, rank], b),
        ]
    };
    lora.places().iter().flat_map(of).collect()
}

/// Writes an adapter as a new directory: all files under a temporary name first, then one rename.
///
/// # Errors
/// When the directory exists, or the disk does not take it.
pub fn write(lora: &Lora, origin: &Origin, directory: &Path) -> Result<()> {
    let tensor =
        |(name, shape, values): (String, [usize; 2], _)| (name, Tensor { shape: shape.into(), values });
    let weights = tensors(lora, &lora.values).into_iter().map(tensor).collect();
    let text = |value: &Value| Content::Bytes(format!("{value:#}\n").into_bytes());
    let origin_value = serde_json::to_value(origin).map_err(|e| Error::new(Kind::Model, e.to_string()))?;
    let files = [
        (CONFIG, text(&peft_config(lora.config(), &origin.base))),
        (WEIGHTS, Content::Tensors(weights)),
        (ORIGIN, text(&origin_value)),
    ];
    write_directory(directory, &files)
}

fn peft_config(config: &LoraConfig, base: &str) -> Value {
    let modules: Vec<&str> = config.targets.iter().map(|m| m.peft_name()).collect();
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "target_modules": modules,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "use_rslora": false,
        "use_dora": false,
    })
}

fn fault(directory: &Path, file: &str, what: impl Into<String>) -> Error {
    Error::new(Kind::Model, what).at(directory.join(file).display().to_string())
}

fn read_file(directory: &Path, file: &str) -> Result<Vec<u8>> {
    std::fs::read(directory.join(file))
        .map_err(|e| Error::io("cannot read the adapter", &directory.join(file), &e))
}

/// Where the adapter in a directory comes from; `None` for one that was made elsewhere.
///
/// # Errors
/// A file that is broken, or of a newer version.
pub fn origin(directory: &Path) -> Result<Option<Origin>> {
    if !directory.join(ORIGIN).exists() {
        return Ok(None);
    }
    let origin: Origin = serde_json::from_slice(&read_file(directory, ORIGIN)?)
        .map_err(|e| fault(directory, ORIGIN, "the adapter's origin is not readable").found(e.to_string()))?;
    if origin.version > VERSION {
        return Err(fault(directory, ORIGIN, "the adapter is of a newer version")
            .expected(format!("{VERSION} at most"))
            .found(origin.version.to_string()));
    }
    Ok(Some(origin))
}

/// Reads an adapter directory for a base model with this configuration and fingerprint.
///
/// # Errors
/// A file that is missing or broken, a kind of adapter that is not supported, or an adapter for another base.
pub fn read(directory: &Path, model: &Config, fingerprint: &str) -> Result<Lora> {
    if !directory.join(CONFIG).is_file() {
        return Err(Error::new(Kind::Model, "there is no adapter here")
            .expected(format!("a folder with {CONFIG}"))
            .at(directory.display().to_string()));
    }
    if let Some(origin) = origin(directory)?.filter(|origin| origin.base_fingerprint != fingerprint) {
        return Err(fault(directory, ORIGIN, "the adapter was trained on another base model")
            .expected(format!("{} with fingerprint {}", origin.base, origin.base_fingerprint))
            .found(format!("fingerprint {fingerprint}"))
            .hint("give the base that the adapter was trained on before the +"));
    }
    let bytes = read_file(directory, CONFIG)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| {
        fault(directory, CONFIG, "the adapter's configuration is not JSON").found(e.to_string())
    })?;
    let config = read_config(directory, &value)?;
    let bytes = read_file(directory, WEIGHTS)?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| fault(directory, WEIGHTS, "the adapter's weights are broken").found(e.to_string()))?;
    fill(directory, Lora::zeros(model, config), &file)
}

fn read_config(directory: &Path, value: &Value) -> Result<LoraConfig> {
    let bad = |field: &str, expected: &str, found: &Value| {
        fault(directory, CONFIG, format!("adapter setting `{field}` is not supported"))
            .expected(expected)
            .found(found.to_string())
    };
    let absent = |v: &Value| {
        v.is_null() || v == &json!(false) || v == &json!([]) || v == &json!({}) || v == &json!("none")
    };
    for field in [
        "use_dora",
        "use_rslora",
        "fan_in_fan_out",
        "bias",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "layer_replication",
        "alora_invocation_tokens",
        "use_qalora",
    ] {
        if !absent(&value[field]) {
            return Err(bad(field, "it absent or off", &value[field]));
        }
    }
    // Other ways of beginning change the base's weights, which then are not the ones that the adapter goes with.
    let begun = &value["init_lora_weights"];
    let plain = ["gaussian", "eva", "orthogonal"];
    if !(begun.is_null() || begun.is_boolean() || begun.as_str().is_some_and(|way| plain.contains(&way))) {
        return Err(bad("init_lora_weights", "a way that leaves the base as it is", begun));
    }
    if value["peft_type"] != "LORA" {
        return Err(bad("peft_type", "LORA", &value["peft_type"]));
    }
    let rank = value["r"]
        .as_u64()
        .filter(|r| (1..=MAX_RANK as u64).contains(r))
        .ok_or_else(|| bad("r", "1 to 4096", &value["r"]))?;
    let alpha = value["lora_alpha"].as_f64().filter(|alpha| (*alpha as f32).is_finite());
    let alpha = alpha.ok_or_else(|| bad("lora_alpha", "a number", &value["lora_alpha"]))?;
    let modules = &value["target_modules"];
    let known = |name: &str| Module::ALL.into_iter().find(|m| m.peft_name() == name);
    let targets = match modules {
        Value::String(all) if all == "all-linear" => Module::ALL.to_vec(),
        Value::Array(names) => {
            let parse = |n: &Value| {
                n.as_str().and_then(known).ok_or_else(|| bad("target_modules", "linear layers by name", n))
            };
            let mut targets = names.iter().map(parse).collect::<Result<Vec<_>>>()?;
            targets.sort();
            targets.dedup();
            targets
        }
        other => return Err(bad("target_modules", "a list of names", other)),
    };
    if targets.is_empty() {
        return Err(bad("target_modules", "at least one name", modules));
    }
    Ok(LoraConfig { rank: rank as usize, alpha: alpha as f32, targets })
}

fn fill(directory: &Path, mut lora: Lora, file: &SafeTensors<'_>) -> Result<Lora> {
    let rank = lora.config().rank;
    let mut left: BTreeMap<&str, ()> = file.names().into_iter().map(|n| (n, ())).collect();
    for place in lora.places().to_vec() {
        let middle = place.start + rank * place.input;
        for (which, shape, start) in
            [("lora_A", [rank, place.input], place.start), ("lora_B", [place.output, rank], middle)]
        {
            let name = place.tensor_name(which);
            let tensor = file.tensor(&name).map_err(|_| {
                fault(directory, WEIGHTS, "the adapter does not fit this base model")
                    .expected(format!("tensor {name}"))
                    .found("none")
            })?;
            if tensor.shape() != shape {
                return Err(fault(directory, WEIGHTS, format!("tensor {name} does not fit this base model"))
                    .expected(format!("{shape:?}"))
                    .found(format!("{:?}", tensor.shape()))
                    .hint("this adapter was trained on another base model"));
            }
            let values = to_f32(&tensor).ok_or_else(|| {
                fault(directory, WEIGHTS, format!("tensor {name}"))
                    .expected("F32, F16 or BF16")
                    .found(format!("{:?}", tensor.dtype()))
            })?;
            if values.iter().any(|v| !v.is_finite()) {
                return Err(fault(directory, WEIGHTS, format!("tensor {name}"))
                    .expected("finite values")
                    .found("infinities or values that are not numbers"));
            }
            lora.values[start..start + values.len()].copy_from_slice(&values);
            left.remove(name.as_str());
        }
    }
    match left.keys().next() {
        None => Ok(lora),
        Some(name) => Err(fault(directory, WEIGHTS, "the adapter does not fit this base model")
            .expected("only tensors of adapted layers")
            .found(format!("{} more, the first {name}", left.len()))),
    }
}

/// The values of an F32, F16 or BF16 tensor; `None` for any other type.
pub fn to_f32(tensor: &TensorView<'_>) -> Option<Vec<f32>> {
    let two = |f: fn([u8; 2]) -> f32| tensor.data().chunks_exact(2).map(|b| f([b[0], b[1]])).collect();
    match tensor.dtype() {
        Dtype::F32 => Some(
            tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        ),
        Dtype::F16 => Some(two(|b| half::f16::from_le_bytes(b).to_f32())),
        Dtype::BF16 => Some(two(|b| half::bf16::from_le_bytes(b).to_f32())),
        _ => None,
    }
}

/// 16 hexadecimal digits that change with any value of the adapter.
pub fn fingerprint(lora: &Lora) -> String {
    let mut hash = Sha256::new();
    let LoraConfig { rank, alpha, targets } = lora.config();
    hash.update((*rank as u64).to_le_bytes());
    hash.update(alpha.to_le_bytes());
    targets.iter().for_each(|module| hash.update(module.peft_name()));
    for value in &lora.values {
        hash.update(value.to_le_bytes());
    }
    hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}
