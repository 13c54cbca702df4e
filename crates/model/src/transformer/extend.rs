//! New rows on top of a cache: reading prompts and decoding. Layers are those of training (`layer`); nothing is kept.

use super::kept::Activations;
use super::layer::{Scope, Store};
use super::{KvCache, Transformer, Workspace, gather};
use crate::linear::{Precision, ReadyLora, meets_blocks};
use crate::tree::Batch;
use std::time::Instant;
use underdog_tensor::block::Format;
use underdog_tensor::norm;

impl Transformer {
    /// Runs new rows on top of a cache, stores their keys and values in it, and gives the logits `[want, V]` of the rows
    /// named in `want`.
    pub fn extend(
        &self,
        lora: Option<&ReadyLora>,
        batch: &Batch,
        cache: &mut KvCache,
        want: &[usize],
        space: &mut Workspace,
    ) -> Vec<f32> {
        let hidden = self.extend_hidden(lora, batch, cache, want, space);
        self.logits(&hidden)
    }

    /// As [`Transformer::extend`], but gives what the head takes: `[want, C]`, after the last norm.
    pub fn extend_hidden(
        &self,
        lora: Option<&ReadyLora>,
        batch: &Batch,
        cache: &mut KvCache,
        want: &[usize],
        space: &mut Workspace,
    ) -> Vec<f32> {
        let in_blocks = self.precision == Precision::Native && meets_blocks(batch.tokens.len());
        let pass = self.pass(batch, if in_blocks { Format::F32 } else { self.precision.format() });
        self.embed(&batch.tokens, &mut space.x);
        space.prepare(self, pass.format);
        let Workspace { attended, work, unpacked, x, times, .. } = space;
        let mut nothing = Activations::new(pass.format);
        let (groups, team) = Scope::deal_decoding(batch.tokens.len(), &self.pool);
        for index in 0..self.layers.len() {
            let since = Instant::now();
            let (keys, values) = &mut cache.layers[index];
            let store = Store { keys, values, slots: &batch.slots };
            let mut scope = Scope { groups: groups.clone(), team, ..self.scope(index, &pass, lora) };
            if !in_blocks {
                unpacked.forward(&self.layers[index], pass.format);
                scope.unpacked = Some(&*unpacked);
            }
            scope.forward(x, &mut nothing, Some(store), attended, work);
            let time = if scope.heads.window.is_some() { &mut times.windowed } else { &mut times.whole };
            *time += since.elapsed().as_secs_f64();
        }
        let (mut hidden, mut normed) = (Vec::new(), vec![0.0; want.len() * self.config.width]);
        gather(x, want, self.config.width, &mut hidden);
        norm::forward(&mut normed, &hidden, &self.final_norm, self.config.norm_eps);
        normed
    }

    /// Logits `[N, V]` of hidden states `[N, C]`.
    pub fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        self.head.logits(hidden)
    }

    /// The most probable token of each of `[N, C]` hidden states, the first of equals; what [`Transformer::logits`] and a search
    /// for the largest would give, without the matrix of all logits where the head is in tiles.
    pub fn best(&self, hidden: &[f32]) -> Vec<u32> {
        self.head.best(hidden)
    }
}
