//! Attention in bf16 on tiles. Everything is computed with keys as rows and queries as columns: the scores are Sᵀ = K Qᵀ,
//! so that maxima, sums and masks run down the lanes, and what one product stores is, rounded, a factor of the next one
//! without a transpose. `registers` holds the product, `lanes` the elementwise work, `pack` the layouts. The safe reference is
//! the parent's `reference`; the tests compare the two.

mod backward;
mod forward;
mod lanes;
mod pack;
mod registers;

pub(super) use backward::backward;
pub(super) use forward::forward;

use super::plan::{Block, KEYS, Visit};
use registers::Tile;
use std::sync::{Mutex, PoisonError};

/// Memory of both passes.
#[derive(Debug, Default)]
pub(super) struct Space {
    keys: Vec<Tile>,
    transposed: Vec<Tile>,
    values: Vec<Tile>,
    sums: Vec<backward::Sums>,
    forward: Shelf<forward::Scratch>,
    backward: Shelf<backward::Scratch>,
    head_size: usize,
}

impl Space {
    /// What was made for heads of another size is of no use.
    fn prepare(&mut self, head_size: usize) {
        if self.head_size != head_size {
            *self = Space { head_size, ..Space::default() };
        }
    }
}

/// Scratch that tasks take and put back.
#[derive(Debug)]
struct Shelf<T>(Mutex<Vec<T>>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Shelf(Mutex::new(Vec::new()))
    }
}

impl<T> Shelf<T> {
    /// Runs `task` with one of them, a new one where all are taken.
    fn with<R>(&self, new: impl FnOnce() -> T, task: impl FnOnce(&mut T) -> R) -> R {
        let all = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all().pop();
        let mut one = taken.unwrap_or_else(new);
        let result = task(&mut one);
        all().push(one);
        result
    }
}

/// Whether this CPU has the vector instructions for the work between products.
pub(super) fn available() -> bool {
    crate::cpu::has_wide_words()
}

/// What 32 columns of a block see of a visit.
struct Sight {
    /// Groups of keys that one of them sees, counted from the visit's first.
    groups: std::ops::Range<usize>,
    /// The newest position each column sees; −1 where it sees nothing.
    newest: [i32; 32],
    /// The oldest.
    oldest: [i32; 32],
    /// Keys before this one and from the other one on may be hidden from some column that counts.
    clear: std::ops::Range<usize>,
    position: i32,
    len: usize,
}

impl Sight {
    /// For the columns from `32 · pair` on; `None` when they see nothing.
    fn of(block: &Block, visit: &Visit, per_row: usize, pair: usize, window: Option<usize>) -> Option<Self> {
        let columns = 32 * pair..(32 * pair + 32).min(block.rows.len() * per_row);
        let seeing = columns.start.max(visit.rows.start * per_row)..columns.end.min(visit.rows.end * per_row);
        if seeing.is_empty() {
            return None;
        }
        let (mut newest, mut oldest) = ([-1; 32], [0; 32]);
        let (mut first, mut last) = (usize::MAX, 0);
        let from = |position: usize| window.map_or(0, |w| (position + 1).saturating_sub(w));
        for column in seeing.clone() {
            let position = block.positions[column / per_row];
            newest[column - columns.start] = position as i32;
            oldest[column - columns.start] = from(position) as i32;
            (first, last) = (first.min(position), last.max(position));
        }
        let key = |position: usize| position.saturating_sub(visit.position).min(visit.len);
        let groups = key(from(first)) / KEYS..key(last + 1).div_ceil(KEYS);
        let clear = if seeing == columns { key(from(last))..key(first + 1) } else { 0..0 };
        let position = visit.position as i32;
        (!groups.is_empty()).then_some(Sight { groups, newest, oldest, clear, position, len: visit.len })
    }

    /// Whether all columns see all keys of a group.
    fn is_clear(&self, group: usize) -> bool {
        self.clear.start <= group * KEYS && (group + 1) * KEYS <= self.clear.end
    }

    /// The position of a key, past every query's where the visit has no such key.
    fn key(&self, index: usize) -> i32 {
        if index < self.len { self.position + index as i32 } else { i32::MAX }
    }
}
