//! Keys and values of earlier rows in every layer, for decoding. Which row lies in which slot is the business of `generate`.

use super::Transformer;
use crate::config::Config;
use crate::linear::Precision;
use underdog_tensor::cached::{CacheFormat, Cached};

/// Keys and values of earlier rows: `slots` places of G·D values in every layer.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(super) layers: Vec<(Cached, Cached)>,
    slots: usize,
    format: CacheFormat,
}

impl KvCache {
    /// Room for `slots` tokens, in f32.
    pub fn new(config: &Config, slots: usize) -> Self {
        Self::with_format(config, slots, CacheFormat::F32)
    }

    /// Room for `slots` tokens.
    pub fn with_format(config: &Config, slots: usize, format: CacheFormat) -> Self {
        let cached = || Cached::new(format, slots, config.kv_heads, config.head_size);
        KvCache { layers: config.layers.iter().map(|_| (cached(), cached())).collect(), slots, format }
    }

    /// How many tokens it holds.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The number format of keys and values.
    pub fn format(&self) -> CacheFormat {
        self.format
    }

    /// Bytes of the keys and values of one token in all layers.
    pub fn bytes_per_slot(&self) -> usize {
        self.layers.iter().map(|(k, v)| k.bytes_per_slot() + v.bytes_per_slot()).sum()
    }
}

impl Transformer {
    /// A cache in the format asked for; else in f32 where products are in f32, and in bf16 elsewhere.
    pub fn cache(&self, slots: usize, format: Option<CacheFormat>) -> KvCache {
        KvCache::with_format(self.config(), slots, self.cache_format(format))
    }

    /// The format of a cache where this one is asked for.
    pub fn cache_format(&self, asked: Option<CacheFormat>) -> CacheFormat {
        let usual = if self.precision() == Precision::F32 { CacheFormat::F32 } else { CacheFormat::Bf16 };
        asked.unwrap_or(usual)
    }
}
