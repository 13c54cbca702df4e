//! Which rows go through the model together: prompts are taken in while there is room, rows that are done leave. What they are
//! computed with is the transformer's work, which slots are free that of `slots`.

use super::lookup::{self, Reach};
use super::slots::Slots;
use super::{Choose, Continuation, Event, Limits, Prompt, Settings};
use crate::config::Config;
use crate::transformer::Transformer;
use crate::tree::{Batch, Forest, Sequence};
use std::ops::{ControlFlow, Range};
use std::time::Instant;
use underdog_eval::model::Finish;
use underdog_tensor::attention::Span;
use underdog_tensor::cross_entropy::argmax;

/// Rows whose logits are in memory at once, where choosers look at them.
const LOGIT_ROWS: usize = 32;

/// Makes the chooser of a prompt, where it has one.
pub type NewChooser<'a> = &'a dyn Fn(&Prompt) -> Option<Box<dyn Choose>>;

/// A row that is being decoded.
struct Row {
    /// Index of its prompt.
    prompt: usize,
    /// Where its own tokens start in the cache: the prompt's last token, then the generated ones.
    slot: usize,
    past: Vec<Span>,
    new: Vec<u32>,
    /// Tokens that were guessed and go through the model in this step, after the last one that is certain.
    guessed: Vec<u32>,
    reach: Reach,
    computed: usize,
    since: Instant,
    chooser: Chooser,
}

type Chooser = Option<Box<dyn Choose>>;

impl Row {
    /// Takes tokens for as long as they are what was guessed, and the one after that; says why the row ends, if it does. `next`
    /// gives the token after the one that is certain (0) or after a guess (1 …).
    fn advance(
        &mut self,
        stop: &[u32],
        limit: usize,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
        next: &mut dyn FnMut(&mut Chooser, usize) -> u32,
    ) -> ControlFlow<(), Option<Finish>> {
        let mut right = 0;
        let finish = loop {
            let token = next(&mut self.chooser, right);
            if stop.contains(&token) {
                break Some(Finish::Stop);
            }
            self.new.push(token);
            on_event(Event::Token(self.prompt, token))?;
            if self.new.len() >= limit {
                break Some(Finish::Length);
            }
            if self.guessed.get(right) != Some(&token) {
                break None;
            }
            right += 1;
        };
        self.reach.learn(self.guessed.len(), right);
        ControlFlow::Continue(finish)
    }
}

/// Logits of hidden states `[N, C]`, some rows at a time, in order.
struct Logits<'a> {
    model: &'a Transformer,
    hidden: &'a [f32],
    values: Vec<f32>,
    places: Range<usize>,
}

impl Logits<'_> {
    fn row(&mut self, place: usize) -> &[f32] {
        let Config { width, vocab, .. } = *self.model.config();
        if !self.places.contains(&place) {
            self.places = place..(place + LOGIT_ROWS).min(self.hidden.len() / width);
            self.values = self.model.logits(&self.hidden[self.places.start * width..self.places.end * width]);
        }
        &self.values[(place - self.places.start) * vocab..][..vocab]
    }
}

/// The state of one call of [`generate`].
pub struct Scheduler<'a> {
    prompts: &'a [Prompt],
    settings: &'a Settings<'a>,
    forest: Forest,
    /// Cache slot of every segment that is computed.
    computed: Vec<Option<usize>>,
    /// Prompts not yet finished that pass through each segment.
    users: Vec<usize>,
    slots: Slots,
    waiting: Vec<usize>,
    rows: Vec<Row>,
    chooser: NewChooser<'a>,
}

impl<'a> Scheduler<'a> {
    /// All prompts wait, and `slots` places of a cache are free.
    pub fn new(
        prompts: &'a [Prompt],
        slots: usize,
        settings: &'a Settings<'a>,
        chooser: NewChooser<'a>,
    ) -> Self {
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
            settings,
            forest,
            computed,
            users,
            slots: Slots::new(slots),
            waiting,
            rows: Vec::new(),
            chooser,
        }
    }

    /// Whether no row is being decoded.
    pub fn is_idle(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether no prompt waits.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes in waiting prompts as far as the limits allow; gives what of them is to be computed.
    pub fn admit_all(&mut self) -> Batch {
        let mut batch = Batch::default();
        let Limits { rows, prefill, .. } = self.settings.limits;
        while self.rows.len() < rows && batch.tokens.len() < prefill && self.admit(&mut batch) {}
        batch
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
        self.rows.push(Row {
            prompt,
            slot,
            past,
            new: Vec::new(),
            guessed: Vec::new(),
            reach: Reach::new(self.settings.lookup),
            computed,
            since: Instant::now(),
            chooser: (self.chooser)(&self.prompts[prompt]),
        });
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

    /// Adds the next token of every row, and what it guesses after that, to the batch; gives the batch rows that are wanted.
    pub fn push_rows(&mut self, batch: &mut Batch) -> Vec<usize> {
        let mut want = Vec::with_capacity(self.rows.len());
        for row in &mut self.rows {
            let Prompt { tokens, max_new } = &self.prompts[row.prompt];
            let (done, start) = (row.new.len(), tokens.len() - 1);
            // What is chosen after the last guess needs room too.
            let count = row.reach.tokens(max_new.saturating_sub(done + 1));
            row.guessed = lookup::guess(tokens, &row.new, count);
            let last = row.new.last().copied().unwrap_or(tokens[start]);
            let mut past = row.past.clone();
            if done > 0 {
                past.push(Span { slot: row.slot, len: done, position: start });
            }
            let next: Vec<u32> = [last].into_iter().chain(row.guessed.iter().copied()).collect();
            want.extend(batch.tokens.len()..batch.tokens.len() + next.len());
            batch.push(&next, start + done, row.slot + done, past);
        }
        want
    }

    /// Chooses tokens for all rows from the hidden states `[want, C]` of what was wanted; rows that are done leave.
    pub fn choose(
        &mut self,
        model: &Transformer,
        hidden: &[f32],
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let plain = self.rows.iter().all(|row| row.chooser.is_none());
        let best = if plain { model.best(hidden) } else { Vec::new() };
        let mut logits = Logits { model, hidden, values: Vec::new(), places: 0..0 };
        let (mut at, mut index) = (0, 0);
        while index < self.rows.len() {
            let row = &mut self.rows[index];
            let count = row.guessed.len() + 1;
            let limit = self.prompts[row.prompt].max_new;
            let finish =
                row.advance(self.settings.stop, limit, on_event, &mut |chooser, i| match chooser {
                    _ if plain => best[at + i],
                    Some(chooser) => chooser.choose(logits.row(at + i)),
                    None => argmax(logits.row(at + i)) as u32,
                })?;
            at += count;
            let Some(finish) = finish else {
                index += 1;
                continue;
            };
            let row = self.rows.remove(index);
            self.release(&row);
            let Row { prompt, new, computed, since, .. } = row;
            let done = Continuation { tokens: new, finish, computed, seconds: since.elapsed().as_secs_f64() };
            on_event(Event::Done(prompt, done))?;
        }
        ControlFlow::Continue(())
    }

    /// Gives up what waiting prompts share, for the case that the next one finds no room in one piece beside it; it is
    /// computed again then. Only while no row is being decoded. False where nothing is held.
    pub fn forget(&mut self) -> bool {
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
