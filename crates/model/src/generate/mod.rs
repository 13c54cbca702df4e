//! Generation for many prompts at once over one cache: what prompts share is computed once, finished rows leave and new ones
//! enter at every step. `scheduler` says which rows go through the model together, `slots` where they lie in the cache, `lookup`
//! what a row may guess ahead.
//!
//! All prompts are merged into a [`Forest`](crate::tree::Forest) first. The last token of a prompt stays out of it: that token starts the row's
//! own stretch of the cache, so its logits are always at hand. Text, templates and stop words are `language_model`'s work,
//! drawing tokens at random is `sampling`'s.

mod lookup;
mod scheduler;
mod slots;

use crate::linear::Use;
use crate::lora::Lora;
use crate::transformer::{Transformer, Workspace};
use scheduler::Scheduler;
use std::ops::ControlFlow;
use underdog_eval::model::Finish;
use underdog_tensor::cached::CacheFormat;

/// One prompt to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// At least one token.
    pub tokens: Vec<u32>,
    /// At most so many tokens are generated, a stop token included.
    pub max_new: usize,
}

/// How much is done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows that are decoded together.
    pub rows: usize,
    /// Tokens the cache holds; raised where a single prompt needs more.
    pub slots: usize,
    /// Prompt tokens after which a batch takes in no more prompts, so that memory stays flat and answers begin early. A prompt
    /// of more than twice as many goes through the model in parts.
    pub prefill: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { rows: 256, slots: 16 * 1024, prefill: 2048 }
    }
}

/// How prompts are continued.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// Tokens that end an answer; where there are none, every answer has as many tokens as its prompt allows.
    pub stop: &'a [u32],
    /// How much is done at once.
    pub limits: Limits,
    /// The number format of keys and values; `None` for the one that goes with the weights.
    pub cache: Option<CacheFormat>,
    /// At most so many tokens are guessed ahead from the text of a row. In f32 answers stay the same; rounded to fewer bits,
    /// sums of another order may choose another token where two are nearly even, as another number of rows together may.
    pub lookup: usize,
}

/// What one prompt got.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuation {
    /// Generated tokens without the stop token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Prompt tokens computed for this row, not counting what earlier rows had computed.
    pub computed: usize,
    /// Wall seconds from when the row entered the batch.
    pub seconds: f64,
}

/// What happens while generating.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Prompt `0` got token `1`.
    Token(usize, u32),
    /// Prompt `0` is finished.
    Done(usize, Continuation),
}

/// Chooses the tokens of one row; without it a row takes the most probable token of all.
pub trait Choose {
    /// The next token for these logits over the vocabulary. What it gives is part of the answer from then on.
    fn choose(&mut self, logits: &[f32]) -> u32;
}

/// Continues every prompt greedily until a token of `stop` or its limit. `on_event` may end it early with `Break`.
///
/// # Panics
/// When a prompt is empty.
pub fn generate(
    model: &Transformer,
    lora: Option<&Lora>,
    prompts: &[Prompt],
    stop: &[u32],
    limits: Limits,
    on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
) {
    let settings = Settings { stop, limits, ..Settings::default() };
    generate_with(model, lora, prompts, &settings, &|_| None, on_event);
}

/// [`generate`], with a chooser for each prompt that enters; `None` for the most probable token of all.
///
/// # Panics
/// When a prompt is empty.
pub fn generate_with(
    model: &Transformer,
    lora: Option<&Lora>,
    prompts: &[Prompt],
    settings: &Settings<'_>,
    chooser: &dyn Fn(&Prompt) -> Option<Box<dyn Choose>>,
    on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
) {
    let limits = settings.limits;
    // A short prompt may begin a long one: then its segment is the long one's, and its own answer comes on top.
    let longest = |of: fn(&Prompt) -> usize| prompts.iter().map(of).max().unwrap_or(0);
    let largest = longest(|p| p.tokens.len()) + longest(|p| p.max_new.max(1));
    let slots = limits.slots.max(largest);
    let total: usize = prompts.iter().map(|p| p.tokens.len() + p.max_new).sum();
    let mut cache = model.cache(slots.min(total), settings.cache);
    let mut scheduler = Scheduler::new(prompts, cache.slots(), settings, chooser);
    let lora = lora.map(|lora| model.ready(lora, Use::Forward));
    let mut space = Workspace::default();
    loop {
        let mut batch = scheduler.admit_all();
        if scheduler.is_idle() {
            if scheduler.is_done() {
                return;
            }
            assert!(scheduler.forget(), "an empty cache has room for any prompt");
            continue;
        }
        let parts = batch.tokens.len() / limits.prefill.max(1);
        if parts > 1 {
            let mut pieces = batch.split(batch.tokens.len().div_ceil(parts));
            batch = pieces.pop().unwrap_or_default();
            for piece in pieces {
                model.extend_hidden(lora.as_ref(), &piece, &mut cache, &[], &mut space);
            }
        }
        let want = scheduler.push_rows(&mut batch);
        let hidden = model.extend_hidden(lora.as_ref(), &batch, &mut cache, &want, &mut space);
        if scheduler.choose(model, &hidden, on_event).is_break() {
            return;
        }
    }
}
