//! `config.json` as a [`Config`]: the spelling of transformers 5 (`rope_parameters`) and the older one
//! (`rope_theta`, `rope_scaling`, `rope_local_base_freq`), with the defaults of transformers where a key is absent.

use std::path::Path;

use serde_json::{Map, Value};
use underdog_eval::{Error, Kind, Result};

use crate::config::{Activation, Architecture, Config, Layer, Rope, RopeScaling};

/// More layers than any model has: refuses a damaged count before it is allocated.
const MAX_LAYERS: usize = 4096;

/// A configuration that still lacks what only the weights can tell.
pub(super) struct Settings<'a> {
    config: Config,
    /// `tie_word_embeddings`, where stated.
    tied: Option<bool>,
    path: &'a Path,
}

impl Settings<'_> {
    /// Parses the bytes of `config.json`.
    pub fn parse<'a>(bytes: &[u8], path: &'a Path) -> Result<Settings<'a>> {
        let object: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| {
            Error::new(Kind::Model, "config.json cannot be read")
                .expected("a JSON object")
                .found(error.to_string())
                .at(path.display().to_string())
        })?;
        let fields = Fields { object: &object, path };
        let architecture = fields.architecture()?;
        fields.refuse_unsupported()?;
        let gemma = architecture == Architecture::Gemma3;
        let llama = architecture == Architecture::Llama;
        let width = fields.size("hidden_size")?;
        let heads = fields.size("num_attention_heads")?;
        let head_size = match fields.optional_size("head_dim")? {
            Some(size) => size,
            None if llama => width.checked_div(heads).unwrap_or(0),
            None => return Err(fields.fault("a size of the model is missing", "head_dim")),
        };
        let kv_heads = match fields.optional_size("num_key_value_heads")? {
            Some(count) => count,
            None if llama => heads,
            None => return Err(fields.fault("a size of the model is missing", "num_key_value_heads")),
        };
        let context = fields.size("max_position_embeddings")?;
        let query_scalar = match gemma {
            true => fields.number("query_pre_attn_scalar")?.unwrap_or(256.0),
            false => head_size as f64,
        };
        let config = Config {
            architecture,
            width,
            heads,
            kv_heads,
            head_size,
            ffn: fields.size("intermediate_size")?,
            vocab: fields.size("vocab_size")?,
            context,
            norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            activation: fields.activation(gemma)?,
            qk_norm: !llama,
            post_norms: gemma,
            embedding_scale: if gemma { (width as f64).sqrt() as f32 } else { 1.0 },
            attention_scale: query_scalar.powf(-0.5) as f32,
            ropes: fields.ropes(gemma, context)?,
            layers: fields.layers(architecture)?,
            tied: false,
        };
        // Gemma's class ties by default; for the others the weights decide where the key is absent.
        let tied = fields.flag("tie_word_embeddings")?.or(gemma.then_some(true));
        Ok(Settings { config, tied, path })
    }

    /// The configuration, given whether the weights have a head of their own.
    pub fn into_config(self, head: bool) -> Result<Config> {
        let config = Config { tied: self.tied.unwrap_or(!head), ..self.config };
        config.check(self.path)?;
        Ok(config)
    }
}

/// The keys of one JSON object of the file.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: &'a Path,
}

impl<'a> Fields<'a> {
    fn fault(&self, what: &str, key: &str) -> Error {
        Error::new(Kind::Model, what).at(format!("{}, key '{key}'", self.path.display()))
    }

    /// The value of `key`; absent and null are the same.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.map(Some).ok_or_else(|| {
            let fault = self.fault("a size of the model cannot be used", key);
            fault.expected("a whole number").found(value.to_string())
        })
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?
            .ok_or_else(|| self.fault("a size of the model is missing", key).expected("a whole number"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| {
            let fault = self.fault("a setting of the model cannot be used", key);
            fault.expected("a number").found(value.to_string())
        })
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| {
            let fault = self.fault("a setting of the model cannot be used", key);
            fault.expected("true or false").found(value.to_string())
        })
    }

    fn object(&self, key: &str) -> Result<Option<Fields<'a>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_object() {
            Some(object) => Ok(Some(Fields { object, path: self.path })),
            None => {
                let fault = self.fault("a setting of the model cannot be used", key);
                Err(fault.expected("a JSON object").found(value.to_string()))
            }
        }
    }

    fn architecture(&self) -> Result<Architecture> {
        match self.get("model_type").and_then(Value::as_str) {
            Some("llama") => Ok(Architecture::Llama),
            Some("qwen3") => Ok(Architecture::Qwen3),
            Some("gemma3_text") => Ok(Architecture::Gemma3),
            other => Err(self
                .fault("unsupported model architecture", "model_type")
                .expected("llama, qwen3 or gemma3_text")
                .found(other.map_or("no architecture".to_owned(), |name| format!("'{name}'")))),
        }
    }

    /// Refuses switches that would change the numbers and that the transformer does not have.
    fn refuse_unsupported(&self) -> Result<()> {
        for key in ["attention_bias", "mlp_bias", "use_bidirectional_attention"] {
            if self.flag(key)? == Some(true) {
                let fault = self.fault("a setting of the model is not supported", key);
                return Err(fault.expected("false").found("true"));
            }
        }
        for key in ["final_logit_softcapping", "attn_logit_softcapping", "quantization_config"] {
            if let Some(value) = self.get(key) {
                let fault = self.fault("a setting of the model is not supported", key);
                return Err(fault.expected("null").found(value.to_string()));
            }
        }
        Ok(())
    }

    fn activation(&self, gemma: bool) -> Result<Activation> {
        // Old Gemma files carry a misleading `hidden_act` beside the `hidden_activation` that counts.
        let (key, default) =
            if gemma { ("hidden_activation", "gelu_pytorch_tanh") } else { ("hidden_act", "silu") };
        match self.get(key).map_or(Some(default), Value::as_str) {
            Some("silu") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            other => Err(self
                .fault("unsupported activation", key)
                .expected("silu or gelu_pytorch_tanh")
                .found(other.unwrap_or("a value of another type"))),
        }
    }

    fn layers(&self, architecture: Architecture) -> Result<Vec<Layer>> {
        let count = self.size("num_hidden_layers")?;
        if count == 0 || count > MAX_LAYERS {
            let fault = self.fault("the model's number of layers cannot be right", "num_hidden_layers");
            return Err(fault.expected(format!("1 to {MAX_LAYERS}")).found(count.to_string()));
        }
        let gemma = architecture == Architecture::Gemma3;
        let window = match architecture {
            Architecture::Llama => None,
            Architecture::Gemma3 => Some(self.optional_size("sliding_window")?.unwrap_or(4096)),
            Architecture::Qwen3 => match self.flag("use_sliding_window")? {
                Some(true) => Some(self.size("sliding_window")?),
                _ => None,
            },
        };
        let local = Layer { window, rope: usize::from(gemma) };
        let whole = Layer { window: None, rope: 0 };
        if let Some(listed) = self.get("layer_types") {
            return self.listed_layers(listed, count, local, whole);
        }
        let pattern = self.optional_size("sliding_window_pattern")?.unwrap_or(6).max(1);
        let first_local = self.optional_size("max_window_layers")?.unwrap_or(28);
        let is_local = |i: usize| match architecture {
            Architecture::Llama => false,
            Architecture::Gemma3 => !(i + 1).is_multiple_of(pattern),
            Architecture::Qwen3 => window.is_some() && i >= first_local,
        };
        Ok((0..count).map(|i| if is_local(i) { local } else { whole }).collect())
    }

    fn listed_layers(&self, listed: &Value, count: usize, local: Layer, whole: Layer) -> Result<Vec<Layer>> {
        let fault = || self.fault("the list of layer types cannot be used", "layer_types");
        let list = listed.as_array().map_or(&[][..], Vec::as_slice);
        if list.len() != count {
            return Err(fault().expected(format!("{count} layers")).found(format!("{} entries", list.len())));
        }
        let layer = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Ok(whole),
            Some("sliding_attention") if local.window.is_some() => Ok(local),
            _ => Err(fault()
                .expected("'full_attention', or 'sliding_attention' with a window")
                .found(kind.to_string())),
        };
        list.iter().map(layer).collect()
    }

    fn ropes(&self, gemma: bool, context: usize) -> Result<Vec<Rope>> {
        let default = if gemma { 1_000_000.0 } else { 10_000.0 };
        let new = self.object("rope_parameters")?;
        let old = self.object("rope_scaling")?;
        self.whole_heads()?;
        let theta = self.number("rope_theta")?.unwrap_or(default);
        if !gemma {
            return Ok(vec![self.rope(new.as_ref().or(old.as_ref()), theta, context)?]);
        }
        let part = |key: &str| match &new {
            Some(fields) => fields.object(key),
            None => Ok(None),
        };
        let (global, local) = (part("full_attention")?, part("sliding_attention")?);
        let local_theta = self.number("rope_local_base_freq")?.unwrap_or(10_000.0);
        // In the older spelling the scaling is that of the global layers only.
        Ok(vec![
            self.rope(global.as_ref().or(old.as_ref()), theta, context)?,
            self.rope(local.as_ref(), local_theta, context)?,
        ])
    }

    fn rope(&self, scaling: Option<&Fields<'_>>, theta: f64, context: usize) -> Result<Rope> {
        let Some(fields) = scaling else {
            return Ok(Rope { theta: theta as f32, scaling: RopeScaling::None });
        };
        fields.whole_heads()?;
        let theta = fields.number("rope_theta")?.unwrap_or(theta) as f32;
        let required = |key: &str| match fields.number(key)? {
            Some(number) => Ok(number as f32),
            None => Err(fields.fault("a setting of the rope scaling is missing", key).expected("a number")),
        };
        let kind = fields.get("rope_type").or_else(|| fields.get("type"));
        let scaling = match kind.map_or(Some("default"), Value::as_str) {
            Some("default" | "none") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear { factor: required("factor")? },
            Some("llama3") => RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: required("low_freq_factor")?,
                high_freq_factor: required("high_freq_factor")?,
                original_context: fields
                    .optional_size("original_max_position_embeddings")?
                    .unwrap_or(context),
            },
            other => {
                return Err(self
                    .fault("unsupported rope scaling", "rope_type")
                    .expected("default, linear or llama3")
                    .found(other.map_or("a value of another type".to_owned(), |name| format!("'{name}'"))));
            }
        };
        Ok(Rope { theta, scaling })
    }

    /// Refuses rotary embeddings of a part of a head.
    fn whole_heads(&self) -> Result<()> {
        match self.number("partial_rotary_factor")? {
            Some(factor) if factor != 1.0 => Err(self
                .fault("a rotary embedding of part of a head is not supported", "partial_rotary_factor")
                .expected("1")
                .found(factor.to_string())),
            _ => Ok(()),
        }
    }
}
