//! Which queries meet which keys, for attention on tiles: plain numbers, no tensors.
//!
//! Runs with the same past (siblings of a tree) are one family, and so are short runs whose pasts only begin alike (rows that are
//! decoded after one prompt). A family's rows are dealt into blocks whatever run they are of: short branches fill a block together,
//! and what they share of the past is one product for all of them. A block visits stretches of keys. Keys are packed once, in groups of [`KEYS`] from the start of each span on.

use super::{Heads, Run, Span};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Query columns of one block: rows times the query heads of one key/value head, at most.
pub(super) const COLUMNS: usize = 256;
/// Keys of one packed group.
pub(super) const KEYS: usize = 32;
/// Runs of at most so many rows need no more in common than the beginning of their past.
pub(super) const SHORT: usize = 8;
/// Rows of a block of short runs: whole pairs of tiles for any number of heads, and enough blocks for the threads.
const SHORT_ROWS: usize = 32;
/// Below this many columns a packed key, packing costs more than it saves.
const WORTH: usize = 8;

/// A stretch of keys that some rows of a block see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    /// First packed group.
    pub group: usize,
    /// Number of keys, from the first of that group on.
    pub len: usize,
    /// Position of the first key.
    pub position: usize,
    /// The rows of the block that may see them, as far as positions allow.
    pub rows: Range<usize>,
}

/// Query rows that are handled together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// Rows of the batch.
    pub rows: Vec<usize>,
    /// Their positions.
    pub positions: Vec<usize>,
    /// What they see.
    pub visits: Vec<Visit>,
}

/// Consecutive key slots that are packed from group `group` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// First slot.
    pub slot: usize,
    /// Number of keys.
    pub len: usize,
    /// First packed group.
    pub group: usize,
}

/// All of a batch.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// In an order that depends on the runs alone.
    pub blocks: Vec<Block>,
    /// What is packed, by slot.
    pub pieces: Vec<Piece>,
    /// Number of packed groups.
    pub groups: usize,
    columns_a_row: usize,
}

/// A visit before the groups are known: it starts `cut` keys into the span that starts at `slot`.
struct Wish {
    block: usize,
    slot: usize,
    cut: usize,
    visit: Visit,
}

impl Plan {
    /// The plan for a batch.
    pub fn of(runs: &[Run], shape: Heads) -> Self {
        let columns_a_row = shape.heads / shape.kv_heads;
        let mut families: Vec<Vec<&Run>> = Vec::new();
        let mut known: HashMap<(bool, &[Span]), usize> = HashMap::new();
        for run in runs.iter().filter(|run| run.len > 0) {
            let short = run.len <= SHORT && !run.past.is_empty();
            let past = if short { &run.past[..1] } else { &run.past };
            let family = *known.entry((short, past)).or_insert_with(|| {
                families.push(Vec::new());
                families.len() - 1
            });
            families[family].push(run);
        }
        let (mut blocks, mut wishes) = (Vec::new(), Vec::new());
        for family in &mut families {
            let short = family.iter().all(|run| run.len <= SHORT);
            let size = if short { SHORT_ROWS } else { COLUMNS }.min(COLUMNS / columns_a_row);
            // What is shared at any depth lies side by side then.
            family.sort_by(|a, b| slots(a).cmp(slots(b)));
            deal(family, size, shape.window, &mut blocks, &mut wishes);
        }
        let (pieces, groups) = pack(&wishes);
        for Wish { block, slot, cut, mut visit } in wishes {
            let (from, piece) = pieces[&slot];
            visit.group = piece.group + (cut - from) / KEYS;
            blocks[block].visits.push(visit);
        }
        Plan { blocks, pieces: pieces.into_values().map(|(_, piece)| piece).collect(), groups, columns_a_row }
    }

    /// Whether keys meet enough queries to be packed for them.
    pub fn is_worth_packing(&self) -> bool {
        let work: usize = self.blocks.iter().map(Block::work).sum();
        work * self.columns_a_row >= WORTH * self.groups * KEYS
    }
}

impl Block {
    /// Pairs of a row and a key, about.
    pub fn work(&self) -> usize {
        self.visits.iter().map(|v| v.rows.len() * v.len).sum()
    }
}

/// The last span of a run's past together with its own rows, where these go on in the same place and nobody else looks there:
/// a row that is decoded, with what it decoded before.
fn continued(run: &Run, family: &[&Run]) -> Option<Span> {
    let last = run.past.last().filter(|span| span.slot + span.len == run.slot && run.past.len() > 1)?;
    let alone = run.len <= SHORT && family.iter().filter(|other| other.past.contains(last)).count() == 1;
    alone.then_some(Span { slot: last.slot, len: last.len + run.len, position: last.position })
}

fn slots(run: &Run) -> impl Iterator<Item = usize> {
    run.past.iter().map(|span| span.slot)
}

/// Deals a family's rows into blocks of at most `size` rows and says what each wants to see.
fn deal(
    family: &[&Run],
    size: usize,
    window: Option<usize>,
    blocks: &mut Vec<Block>,
    wishes: &mut Vec<Wish>,
) {
    let rows: Vec<(usize, usize)> =
        family.iter().enumerate().flat_map(|(f, run)| (0..run.len).map(move |i| (f, i))).collect();
    let ends: Vec<Option<Span>> = family.iter().map(|run| continued(run, family)).collect();
    for part in rows.chunks(size) {
        let position = |&(f, i): &(usize, usize)| family[f].position + i;
        let positions: Vec<usize> = part.iter().map(position).collect();
        let block = blocks.len();
        let mut wish = |span: &Span, rows: Range<usize>| {
            let seen = positions[rows.clone()].iter();
            let (first, last) = (seen.clone().min().copied().unwrap_or(0), seen.max().copied().unwrap_or(0));
            let oldest = window.map_or(0, |w| (first + 1).saturating_sub(w));
            let cut = oldest.saturating_sub(span.position) / KEYS * KEYS;
            let end = span.len.min((last + 1).saturating_sub(span.position));
            if cut < end {
                let visit = Visit { group: 0, len: end - cut, position: span.position + cut, rows };
                wishes.push(Wish { block, slot: span.slot, cut, visit });
            }
        };
        let past = |f: usize| &family[f].past[..family[f].past.len() - usize::from(ends[f].is_some())];
        let depth = part.iter().map(|row| past(row.0).len()).max().unwrap_or(0);
        for depth in 0..depth {
            let span = |row: &(usize, usize)| past(row.0).get(depth);
            let mut from = 0;
            for same in part.chunk_by(|a, b| span(a) == span(b)) {
                if let Some(span) = span(&same[0]) {
                    wish(span, from..from + same.len());
                }
                from += same.len();
            }
        }
        let mut from = 0;
        while from < part.len() {
            let f = part[from].0;
            let to = from + part[from..].iter().take_while(|row| row.0 == f).count();
            let run = family[f];
            let own = Span { slot: run.slot, len: run.len, position: run.position };
            wish(&ends[f].unwrap_or(own), from..to);
            from = to;
        }
        let rows = part.iter().map(|&(f, i)| family[f].row + i).collect();
        blocks.push(Block { rows, positions, visits: Vec::new() });
    }
}

/// What of each span has to be packed, by the slot where the span starts, with how many of its keys are left out before it;
/// and how many groups that makes.
fn pack(wishes: &[Wish]) -> (BTreeMap<usize, (usize, Piece)>, usize) {
    let mut ranges: BTreeMap<usize, Range<usize>> = BTreeMap::new();
    for Wish { slot, cut, visit, .. } in wishes {
        let range = ranges.entry(*slot).or_insert(*cut..cut + visit.len);
        *range = range.start.min(*cut)..range.end.max(cut + visit.len);
    }
    let mut groups = 0;
    let piece = |(slot, range): (usize, Range<usize>)| {
        let piece = Piece { slot: slot + range.start, len: range.len(), group: groups };
        groups += range.len().div_ceil(KEYS);
        (slot, (range.start, piece))
    };
    let pieces = ranges.into_iter().map(piece).collect();
    (pieces, groups)
}
