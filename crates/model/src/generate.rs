//! Greedy generation for many prompts at once over one cache: what prompts share is computed once, finished rows leave and
//! new ones enter at every step.
//!
//! All prompts are merged into a [`Forest`] first. The last token of a prompt stays out of it: that token starts the row's
//! own stretch of the cache, so its logits are always at hand. Text, templates and stop words are `language_model`'s work.

use crate::linear::Use;
use crate::lora::Lora;
use crate::transformer::{KvCache, Transformer, Workspace};
use crate::tree::{Batch, Forest, Sequence};
use std::ops::ControlFlow;
use std::time::Instant;
use underdog_eval::model::Finish;
use underdog_tensor::attention::Span;
use underdog_tensor::cross_entropy::argmax;

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
    /// Prompt tokens after which a batch takes in no more prompts, so that memory stays flat and answers begin early.
    pub prefill: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { rows: 32, slots: 16 * 1024, prefill: 2048 }
    }
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

/// Stretches of free cache slots, sorted and never adjacent.
#[derive(Debug)]
struct Slots {
    free: Vec<(usize, usize)>,
}

impl Slots {
    fn take(&mut self, len: usize) -> Option<usize> {
        let index = self.free.iter().position(|&(_, free)| free >= len)?;
        let (start, free) = self.free[index];
        if free == len {
            self.free.remove(index);
        } else {
            self.free[index] = (start + len, free - len);
        }
        Some(start)
    }

    fn give_back(&mut self, start: usize, len: usize) {
        let index = self.free.partition_point(|&(s, _)| s < start);
        self.free.insert(index, (start, len));
        if let Some(&(next, more)) = self.free.get(index + 1).filter(|&&(next, _)| start + len == next) {
            debug_assert!(next >= start);
            self.free[index].1 += more;
            self.free.remove(index + 1);
        }
        if index > 0 && self.free[index - 1].0 + self.free[index - 1].1 == start {
            self.free[index - 1].1 += self.free[index].1;
            self.free.remove(index);
        }
    }
}

/// A row that is being decoded.
struct Row {
    prompt: usize,
    /// Where its own tokens start in the cache: the prompt's last token, then the generated ones.
    slot: usize,
    past: Vec<Span>,
    new: Vec<u32>,
    computed: usize,
    since: Instant,
    chooser: Option<Box<dyn Choose>>,
}

impl Row {
    fn choose(&mut self, logits: &[f32]) -> u32 {
        match &mut self.chooser {
            Some(chooser) => chooser.choose(logits),
            None => argmax(logits) as u32,
        }
    }
}

/// The state of one call of [`generate`].
struct Scheduler<'a> {
    prompts: &'a [Prompt],
    forest: Forest,
    /// Cache slot of every segment that is computed.
    computed: Vec<Option<usize>>,
    /// Prompts not yet finished that pass through each segment.
    users: Vec<usize>,
    slots: Slots,
    waiting: Vec<usize>,
    rows: Vec<Row>,
    chooser: &'a dyn Fn() -> Option<Box<dyn Choose>>,
}

impl<'a> Scheduler<'a> {
    fn new(prompts: &'a [Prompt], slots: usize, chooser: &'a dyn Fn() -> Option<Box<dyn Choose>>) -> Self {
        let head = |p: &Prompt| Sequence { tokens: p.tokens[..p.tokens.len() - 1].to_vec(), targets: vec![] };
        let forest = Forest::merge(&prompts.iter().map(head).collect::<Vec<_>>());
        let mut users = vec![0; forest.segments().len()];
        (0..prompts.len()).flat_map(|i| forest.path(i)).for_each(|&s| users[s] += 1);
        // In depth-first order, so that what is shared is used up before it is given back. Taken from the end.
        let mut waiting: Vec<usize> = (0..prompts.len()).collect();
        waiting.sort_by_key(|&i| std::cmp::Reverse((forest.path(i).last().copied(), i)));
        let computed = vec![None; forest.segments().len()];
        Scheduler {
            prompts,
            forest,
            computed,
            users,
            slots: Slots { free: vec![(0, slots)] },
            waiting,
            rows: Vec::new(),
            chooser,
        }
    }

    /// Takes in the next waiting prompt if there is room, and adds what it needs computed to the batch.
    fn admit(&mut self, batch: &mut Batch) -> bool {
        let Some(&prompt) = self.waiting.last() else { return false };
        let path = self.forest.path(prompt).to_vec();
        let missing: Vec<usize> = path.iter().copied().filter(|&s| self.computed[s].is_none()).collect();
        let len = self.prompts[prompt].tokens.len();
        let own = self.own_slots(prompt);
        let Some(slot) = self.slots.take(own) else { return false };
        let mut taken = Vec::new();
        for &segment in &missing {
            let size = self.forest.segments()[segment].len;
            let Some(start) = self.slots.take(size) else {
                taken.into_iter().for_each(|(start, size)| self.slots.give_back(start, size));
                self.slots.give_back(slot, own);
                return false;
            };
            taken.push((start, size));
        }
        for (&segment, &(start, _)) in missing.iter().zip(&taken) {
            self.computed[segment] = Some(start);
            let s = &self.forest.segments()[segment];
            let past = self.past(&path, s.position);
            batch.push(&self.forest.tokens()[s.start..s.start + s.len], s.position, start, past);
        }
        let computed = taken.iter().map(|(_, size)| size).sum::<usize>() + 1;
        let past = self.past(&path, len - 1);
        let chooser = (self.chooser)();
        let (new, since) = (Vec::new(), Instant::now());
        self.rows.push(Row { prompt, slot, past, new, computed, since, chooser });
        self.waiting.pop();
        true
    }

    fn own_slots(&self, prompt: usize) -> usize {
        self.prompts[prompt].max_new.max(1)
    }

    /// The cached spans of a path before `end`.
    fn past(&self, path: &[usize], end: usize) -> Vec<Span> {
        let span = |&s: &usize| {
            let segment = &self.forest.segments()[s];
            let len = segment.len.min(end.saturating_sub(segment.position));
            self.computed[s].map(|slot| Span { slot, len, position: segment.position })
        };
        path.iter().filter_map(span).filter(|span| span.len > 0).collect()
    }

    /// Adds the next token of every row to the batch and gives the batch rows whose logits are wanted.
    fn push_rows(&self, batch: &mut Batch) -> Vec<usize> {
        let mut want = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let tokens = &self.prompts[row.prompt].tokens;
            let (done, start) = (row.new.len(), tokens.len() - 1);
            let token = row.new.last().copied().unwrap_or(tokens[start]);
            let mut past = row.past.clone();
            if done > 0 {
                past.push(Span { slot: row.slot, len: done, position: start });
            }
            want.push(batch.tokens.len());
            batch.push(&[token], start + done, row.slot + done, past);
        }
        want
    }

    /// Gives up what waiting prompts share, for the case that the next one finds no room in one piece beside it; it is
    /// computed again then. Only while no row is being decoded. False where nothing is held.
    fn forget(&mut self) -> bool {
        let mut held = false;
        for (segment, computed) in self.computed.iter_mut().enumerate() {
            if let Some(start) = computed.take() {
                self.slots.give_back(start, self.forest.segments()[segment].len);
                held = true;
            }
        }
        held
    }

    /// Frees what a finished row held.
    fn release(&mut self, row: &Row) {
        self.slots.give_back(row.slot, self.own_slots(row.prompt));
        for &segment in self.forest.path(row.prompt) {
            self.users[segment] -= 1;
            if self.users[segment] == 0
                && let Some(start) = self.computed[segment].take()
            {
                self.slots.give_back(start, self.forest.segments()[segment].len);
            }
        }
    }
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
    generate_with(model, lora, prompts, stop, limits, &|| None, on_event);
}

/// [`generate`], with a chooser for each row that enters; `None` for the most probable token of all.
///
/// # Panics
/// When a prompt is empty.
pub fn generate_with(
    model: &Transformer,
    lora: Option<&Lora>,
    prompts: &[Prompt],
    stop: &[u32],
    limits: Limits,
    chooser: &dyn Fn() -> Option<Box<dyn Choose>>,
    on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
) {
    // A short prompt may begin a long one: then its segment is the long one's, and its own answer comes on top.
    let longest = |of: fn(&Prompt) -> usize| prompts.iter().map(of).max().unwrap_or(0);
    let largest = longest(|p| p.tokens.len()) + longest(|p| p.max_new.max(1));
    let slots = limits.slots.max(largest);
    let total: usize = prompts.iter().map(|p| p.tokens.len() + p.max_new).sum();
    let mut cache = KvCache::new(model.config(), slots.min(total));
    let mut scheduler = Scheduler::new(prompts, cache.slots(), chooser);
    let vocab = model.config().vocab;
    let lora = lora.map(|lora| model.ready(lora, Use::Forward));
    let mut space = Workspace::default();
    loop {
        let mut batch = Batch::default();
        let room = |s: &Scheduler<'_>, batch: &Batch| {
            s.rows.len() < limits.rows && batch.tokens.len() < limits.prefill
        };
        while room(&scheduler, &batch) && scheduler.admit(&mut batch) {}
        if scheduler.rows.is_empty() {
            if scheduler.waiting.is_empty() {
                return;
            }
            assert!(scheduler.forget(), "an empty cache has room for any prompt");
            continue;
        }
        let want = scheduler.push_rows(&mut batch);
        let logits = model.extend(lora.as_ref(), &batch, &mut cache, &want, &mut space);
        let mut index = 0;
        for row_logits in logits.chunks_exact(vocab) {
            let row = &mut scheduler.rows[index];
            let token = row.choose(row_logits);
            let prompt = row.prompt;
            let stopped = stop.contains(&token);
            if !stopped {
                row.new.push(token);
                if on_event(Event::Token(prompt, token)).is_break() {
                    return;
                }
            }
            if !stopped && row.new.len() < prompts[prompt].max_new {
                index += 1;
                continue;
            }
            let row = scheduler.rows.remove(index);
            scheduler.release(&row);
            let finish = if stopped { Finish::Stop } else { Finish::Length };
            let Row { new, computed, since, .. } = row;
            let done = Continuation { tokens: new, finish, computed, seconds: since.elapsed().as_secs_f64() };
            if on_event(Event::Done(prompt, done)).is_break() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_given_back_grow_together_again() {
        let mut slots = Slots { free: vec![(0, 10)] };
        let (a, b, c) = (slots.take(3).unwrap(), slots.take(4).unwrap(), slots.take(3).unwrap());
        assert_eq!((a, b, c, slots.take(1)), (0, 3, 7, None));
        slots.give_back(a, 3);
        slots.give_back(c, 3);
        assert_eq!(slots.take(4), None);
        slots.give_back(b, 4);
        assert_eq!(slots.free, [(0, 10)]);
    }
}
