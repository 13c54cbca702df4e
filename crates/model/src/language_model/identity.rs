//! What a candidate is called in records, and how it is asked: everything that may change an answer is in its name or in its
//! fingerprint.

use super::{Decoding, LanguageModel};
use crate::adapter;
use crate::choose::Length;
use crate::linear::Precision;
use underdog_eval::model::Identity;

impl LanguageModel {
    /// The fingerprint holds the number format too: a record of answers in bf16 does not go on in f32.
    pub(super) fn named(&self) -> Identity {
        let precision = self.precision.name();
        let mut identity = match &self.lora {
            None => Identity {
                name: self.base.clone(),
                fingerprint: format!("{} {precision}", self.base_fingerprint),
            },
            Some(lora) => Identity {
                name: format!("{}+{}", self.base, self.adapter_path.as_deref().unwrap_or("adapter")),
                fingerprint: format!("{}+{} {precision}", self.base_fingerprint, adapter::fingerprint(lora)),
            },
        };
        // What may change an answer: a cache of fewer bits, draws, and guesses where sums are rounded to few bits.
        let Decoding { cache, sampling, lookup, .. } = self.decoding;
        let cache = cache.filter(|&format| format != self.transformer.cache_format(None));
        let guessing = (lookup > 0 && self.precision != Precision::F32).then(|| format!("lookup={lookup}"));
        let cache = cache.map(|format| format!("kv={}", format.name()));
        for setting in cache.into_iter().chain(guessing).chain(sampling.map(|s| s.name())) {
            identity.name.push_str(&format!("?{setting}"));
            identity.fingerprint.push_str(&format!(" {setting}"));
        }
        if self.shows_none {
            identity.name.push_str("?shots=0");
        }
        if self.plain().is_some() {
            identity.fingerprint.push_str(" plain");
        }
        if let Some(constraint) = &self.constraint {
            identity.name.push_str(&format!("?constrain={}", constraint.name()));
            identity.fingerprint.push_str(&format!(" {}", constraint.fingerprint()));
        }
        if let Some(choice) = &self.choice {
            identity.name.push_str(&format!("?choose={}", choice.length().name()));
            identity.fingerprint.push_str(&format!(" {}", choice.fingerprint()));
        }
        identity
    }

    /// How it is asked, where that is not greedy and by its chat template.
    pub(super) fn way(&self) -> Option<String> {
        let drawn = self.decoding.sampling.map(|sampling| format!("drawn, {}", sampling.name()));
        let constrained = self.constraint.as_ref().map(|constraint| {
            let but = constraint.not_held().map(|what| format!(", but not to all of it ({what})"));
            format!(
                "{}, each token held to what the {} allow{}",
                drawn.as_deref().unwrap_or("greedy"),
                constraint.name(),
                but.unwrap_or_default()
            )
        });
        let chosen = self.choice.as_ref().map(|choice| {
            let over = if choice.length() == Length::Tokens { " over its tokens" } else { "" };
            format!(
                "the most probable of {} labels, by the log-probability{over}; nothing generated",
                choice.labels().len()
            )
        });
        let plain = self.plain().map(|_| {
            "asked in plain text, as its file has no chat template: an empty line ends an answer".to_owned()
        });
        let ways: Vec<String> = chosen.or(constrained).or(drawn).into_iter().chain(plain).collect();
        (!ways.is_empty()).then(|| ways.join("; "))
    }
}
