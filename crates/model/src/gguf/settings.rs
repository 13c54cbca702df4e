//! The metadata of a GGUF file as a [`Config`].
//!
//! What the files leave out of Gemma 3 is stated here: the rope base of its local layers and the pattern of
//! local and global layers.

use underdog_eval::{Error, Kind, Result};

use super::{Gguf, Value};
use crate::config::{Activation, Architecture, Config, Layer, Rope, RopeScaling};

/// Gemma 3's rope base in local layers.
const GEMMA3_LOCAL_THETA: f32 = 10_000.0;
/// Every so many of Gemma 3's layers one is global.
const GEMMA3_PATTERN: usize = 6;
/// The rope base of Llama files that state none.
const DEFAULT_THETA: f32 = 10_000.0;
/// Gemma 3 27B alone scales attention by its width and not by its head size; it alone has so many layers.
const GEMMA3_27B_LAYERS: usize = 62;
/// More layers than any model has: refuses a damaged count before it is allocated.
const MAX_LAYERS: usize = 4096;

/// The configuration that the metadata states.
///
/// # Errors
/// [`Kind::Model`] for an unknown architecture or rope scaling and for values that are missing or absurd.
pub(crate) fn config(gguf: &Gguf) -> Result<Config> {
    let name = gguf.metadata_str("general.architecture");
    let architecture = match name {
        Some("llama") => Architecture::Llama,
        Some("qwen3") => Architecture::Qwen3,
        Some("gemma3") => Architecture::Gemma3,
        other => {
            return Err(Error::new(Kind::Model, "unsupported model architecture")
                .expected(Architecture::SUPPORTED)
                .found(other.map_or("no architecture".to_owned(), |name| format!("'{name}'")))
                .at(format!("{}, key 'general.architecture'", gguf.path().display())));
        }
    };
    let fields = Fields { gguf, prefix: architecture.name() };
    let gemma = architecture == Architecture::Gemma3;
    fields.refuse_unsupported()?;
    let width = fields.size("embedding_length")?;
    let heads = fields.size("attention.head_count")?;
    let head_size = match fields.optional("attention.key_length")? {
        Some(size) => size,
        None => width.checked_div(heads).unwrap_or(0),
    };
    fields.same("attention.value_length", head_size)?;
    fields.same("rope.dimension_count", head_size)?;
    let layers = fields.layers(architecture)?;
    let attention_width = if gemma && layers.len() == GEMMA3_27B_LAYERS {
        width as f64 / heads as f64
    } else {
        head_size as f64
    };
    let config = Config {
        architecture,
        width,
        heads,
        kv_heads: fields.optional("attention.head_count_kv")?.unwrap_or(heads),
        head_size,
        ffn: fields.size("feed_forward_length")?,
        vocab: fields.vocabulary()?,
        context: fields.size("context_length")?,
        norm_eps: fields.number("attention.layer_norm_rms_epsilon")?,
        activation: if gemma { Activation::GeluTanh } else { Activation::Silu },
        qk_norm: architecture != Architecture::Llama,
        post_norms: gemma,
        embedding_scale: if gemma { (width as f64).sqrt() as f32 } else { 1.0 },
        attention_scale: attention_width.powf(-0.5) as f32,
        ropes: fields.ropes(gemma)?,
        layers,
        tied: gguf.tensor("output.weight").is_none(),
    };
    config.check(gguf.path())?;
    Ok(config)
}

/// The architecture's own keys.
struct Fields<'a> {
    gguf: &'a Gguf,
    prefix: &'static str,
}

impl Fields<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn fault(&self, what: &str, name: &str) -> Error {
        let place = format!("{}, key '{}'", self.gguf.path().display(), self.key(name));
        Error::new(Kind::Model, what).at(place)
    }

    /// A size that may be absent. Some converters state one number per layer: they must agree.
    fn optional(&self, name: &str) -> Result<Option<usize>> {
        let wrong = |found: String| {
            Err(self
                .fault("a size of the model cannot be used", name)
                .expected("a whole number")
                .found(found))
        };
        match self.gguf.metadata(&self.key(name)) {
            None => Ok(None),
            Some(Value::Unsigned(number)) => match usize::try_from(*number) {
                Ok(size) => Ok(Some(size)),
                Err(_) => wrong(number.to_string()),
            },
            Some(Value::Signed(number)) => match usize::try_from(*number) {
                Ok(size) => Ok(Some(size)),
                Err(_) => wrong(number.to_string()),
            },
            Some(Value::I32s(numbers)) => match numbers.split_first() {
                Some((first, rest)) if *first >= 0 && rest.iter().all(|number| number == first) => {
                    Ok(usize::try_from(*first).ok())
                }
                _ => wrong("numbers that differ from layer to layer".to_owned()),
            },
            Some(_) => wrong("a value of another type".to_owned()),
        }
    }

    fn size(&self, name: &str) -> Result<usize> {
        self.optional(name)?
            .ok_or_else(|| self.fault("a size of the model is missing", name).expected("a whole number"))
    }

    /// Refuses a size that is stated and differs from `expected`.
    fn same(&self, name: &str, expected: usize) -> Result<()> {
        match self.optional(name)? {
            Some(size) if size != expected => Err(self
                .fault("heads of this form are not supported", name)
                .expected(format!("the head size, {expected}"))
                .found(size.to_string())),
            _ => Ok(()),
        }
    }

    fn optional_number(&self, name: &str) -> Result<Option<f32>> {
        match self.gguf.metadata(&self.key(name)) {
            None => Ok(None),
            Some(_) => match self.gguf.metadata_f32(&self.key(name)) {
                Some(number) => Ok(Some(number)),
                None => Err(self.fault("a setting of the model cannot be used", name).expected("a float")),
            },
        }
    }

    fn number(&self, name: &str) -> Result<f32> {
        self.optional_number(name)?
            .ok_or_else(|| self.fault("a setting of the model is missing", name).expected("a float"))
    }

    fn refuse_unsupported(&self) -> Result<()> {
        for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if let Some(number) = self.optional_number(name)?.filter(|number| *number != 0.0) {
                let fault = self.fault("capped logits are not supported", name);
                return Err(fault.expected("no such key").found(number.to_string()));
            }
        }
        Ok(())
    }

    /// The rows of the embedding: files pad them beyond the token list at times.
    fn vocabulary(&self) -> Result<usize> {
        let place = || self.gguf.path().display().to_string();
        let Some(info) = self.gguf.tensor("token_embd.weight") else {
            return Err(Error::new(Kind::Model, "tensor 'token_embd.weight' is missing").at(place()));
        };
        let rows = if info.shape.len() == 2 { info.shape[0] } else { 0 };
        let tokens = self.gguf.metadata_strings("tokenizer.ggml.tokens").map_or(0, <[String]>::len);
        if rows < tokens || rows == 0 {
            return Err(Error::new(Kind::Model, "tensor 'token_embd.weight' has the wrong shape")
                .expected(format!("two axes, with a row for each of the {tokens} tokens"))
                .found(format!("{:?}", info.shape))
                .at(place()));
        }
        Ok(rows)
    }

    fn layers(&self, architecture: Architecture) -> Result<Vec<Layer>> {
        let count = self.size("block_count")?;
        if count == 0 || count > MAX_LAYERS {
            let fault = self.fault("the model's number of layers cannot be right", "block_count");
            return Err(fault.expected(format!("1 to {MAX_LAYERS}")).found(count.to_string()));
        }
        let whole = Layer { window: None, rope: 0 };
        let window = self.optional("attention.sliding_window")?.filter(|window| *window > 0);
        match (architecture, window) {
            (Architecture::Gemma3, Some(_)) => {
                let local = Layer { window, rope: 1 };
                let pattern =
                    self.optional("attention.sliding_window_pattern")?.unwrap_or(GEMMA3_PATTERN).max(1);
                let layer = |i: usize| if (i + 1).is_multiple_of(pattern) { whole } else { local };
                Ok((0..count).map(layer).collect())
            }
            (Architecture::Gemma3, None) => {
                Err(self.fault("a size of the model is missing", "attention.sliding_window"))
            }
            (_, Some(window)) => Err(self
                .fault("a sliding window is not supported in this architecture", "attention.sliding_window")
                .expected("no such key")
                .found(window.to_string())),
            (_, None) => Ok(vec![whole; count]),
        }
    }

    fn ropes(&self, gemma: bool) -> Result<Vec<Rope>> {
        let theta = match self.optional_number("rope.freq_base")? {
            Some(theta) => theta,
            None if gemma => 1_000_000.0,
            None => DEFAULT_THETA,
        };
        let mut ropes = vec![Rope { theta, scaling: self.scaling()? }];
        if gemma {
            let theta = self.optional_number("rope.freq_base_swa")?.unwrap_or(GEMMA3_LOCAL_THETA);
            ropes.push(Rope { theta, scaling: RopeScaling::None });
        }
        Ok(ropes)
    }

    fn scaling(&self) -> Result<RopeScaling> {
        let kind = self.gguf.metadata_str(&self.key("rope.scaling.type"));
        // Old converters wrote the factor alone, and meant linear scaling.
        let factor = match self.optional_number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.optional_number("rope.scale_linear")?,
        };
        let factor = factor.filter(|factor| *factor != 0.0 && *factor != 1.0);
        let scaling = match (kind, factor) {
            (Some("none"), _) | (None | Some("linear"), None) => RopeScaling::None,
            (None | Some("linear"), Some(factor)) => RopeScaling::Linear { factor },
            (Some(other), _) => {
                return Err(self
                    .fault("unsupported rope scaling", "rope.scaling.type")
                    .expected("none or linear")
                    .found(format!("'{other}'")));
            }
        };
        match (self.gguf.tensor("rope_freqs.weight"), scaling) {
            (None, scaling) => Ok(scaling),
            (Some(info), RopeScaling::None) => self.gguf.load(&info.name).map(RopeScaling::Factors),
            (Some(_), _) => Err(self
                .fault("unsupported rope scaling", "rope.scaling.type")
                .expected("either a factor or the tensor 'rope_freqs.weight'")
                .found("both")),
        }
    }
}
