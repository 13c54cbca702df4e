//! The backward pass on tiles. A task is a key/value head and a stretch of query blocks; it sums the gradients of the keys it
//! meets for itself, and the tasks' sums are added in order, so that the result does not depend on who did what when.

use super::super::plan::{Block, COLUMNS, KEYS, Plan, Visit};
use super::super::{Gradients, Heads, Saved};
use super::forward::columns;
use super::lanes::{self, Columns, Factors};
use super::pack::{Layout, dot, pack, pack_keys, tiles_of, transpose_lanes};
use super::registers::{Factor, Lane, Registers, Tile};
use super::{Sight, Space};
use crate::cached::CachedView;
use crate::math::add_scaled;
use crate::matmul::Into;
use rayon::prelude::*;
use std::arch::x86_64::_mm512_set1_ps;
use std::ops::Range;

/// Groups of keys that a block meets at a time.
const CHUNK: usize = 4;
/// Pairs of tiles that a block of queries takes.
const PAIRS: usize = COLUMNS / 32;
/// Rows of a gradient that are summed up at a time.
const ROWS: usize = 64;

/// Stretches of query blocks for each key/value head. A constant, so that sums do not depend on the number of threads; even,
/// so that two threads get the same; few, since each holds gradients for the keys it meets.
fn parts(kv_heads: usize) -> usize {
    if kv_heads < 4 { 4 } else { 2 }
}

/// Keys in lines and transposed, values in lines.
struct Packed<'a> {
    keys: &'a [Tile],
    keys_transposed: &'a [Tile],
    values: &'a [Tile],
}

/// Sums of one task: gradients of the keys and values of some groups, `[keys, ⌈D/32⌉ · 32]`.
#[derive(Debug, Default)]
pub struct Sums {
    groups: Range<usize>,
    dk: Vec<Lane>,
    dv: Vec<Lane>,
}

/// See [`super::super::backward`].
pub fn backward(
    space: &mut Space,
    gradients: &mut Gradients,
    dout: &[f32],
    saved: Saved<'_>,
    plan: &Plan,
    shape: Heads,
) {
    space.prepare(shape.head_size);
    let Space { keys, transposed, values, sums, backward: shelf, .. } = space;
    let pack = |to: &mut Vec<Tile>, x, layout| {
        pack_keys(to, CachedView::plain(x, shape.kv_heads, shape.head_size), plan, layout);
    };
    pack(keys, saved.k, Layout::Lines);
    pack(transposed, saved.k, Layout::PairsTransposed);
    pack(values, saved.v, Layout::Lines);
    let packed = Packed { keys, keys_transposed: transposed, values };
    let Gradients { dq, dk, dv } = gradients;
    // Every row is in a block and is written.
    dq.resize(saved.q.len(), 0.0);
    let rows = dq.chunks_exact_mut(shape.heads / shape.kv_heads * shape.head_size);
    let mut rows: Vec<Option<&mut [f32]>> = rows.map(Some).collect();
    let mut tasks = Vec::new();
    for head in 0..shape.kv_heads {
        let mut take =
            |row: &usize| rows[row * shape.kv_heads + head].take().expect("a row is in one block only");
        for blocks in divided(&plan.blocks, parts(shape.kv_heads)) {
            let dq: Vec<&mut [f32]> = blocks.iter().flat_map(|block| &block.rows).map(&mut take).collect();
            let task = Task { blocks, dout, saved, packed: &packed, all_groups: plan.groups, shape, head };
            tasks.push((task, dq));
        }
    }
    sums.resize_with(tasks.len(), Sums::default);
    tasks.into_par_iter().zip(sums.par_iter_mut()).with_max_len(1).for_each(|((task, dq), sums)| {
        shelf.with(|| Scratch::new(shape.head_size), |scratch| task.run(dq, scratch, sums));
    });
    dk.resize(saved.k.len(), 0.0);
    dv.resize(saved.v.len(), 0.0);
    gather(dk, sums, |sums| &sums.dk, std::f32::consts::LN_2, plan, shape);
    gather(dv, sums, |sums| &sums.dv, 1.0, plan, shape);
}

/// Consecutive parts of about the same work.
fn divided(blocks: &[Block], parts: usize) -> Vec<&[Block]> {
    let total: usize = blocks.iter().map(Block::work).sum();
    let mut ends = vec![0; parts];
    let mut done = 0;
    for (i, block) in blocks.iter().enumerate() {
        let part = (done + block.work() / 2) * parts / total.max(1);
        ends[part.min(parts - 1)] = i + 1;
        done += block.work();
    }
    let mut from = 0;
    let slice = |end: usize| {
        let to = end.max(from);
        let part = &blocks[from..to];
        from = to;
        part
    };
    ends.into_iter().map(slice).collect()
}

/// The gradient `[T, G·D]` from the tasks' sums, which lie head by head in the order of their blocks.
fn gather(
    to: &mut [f32],
    sums: &[Sums],
    which: impl Fn(&Sums) -> &[Lane] + Sync,
    factor: f32,
    plan: &Plan,
    shape: Heads,
) {
    let (d, width) = (shape.head_size, shape.kv_heads * shape.head_size);
    let lanes = tiles_of(d);
    let places = |piece: &super::super::plan::Piece| {
        let (slot, key) = (piece.slot, piece.group * KEYS);
        (0..piece.len).map(move |i| (slot + i, key + i))
    };
    let mut keys: Vec<(usize, usize)> = plan.pieces.iter().flat_map(places).collect();
    keys.sort_unstable();
    let per_head = sums.len() / shape.kv_heads;
    to.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, to)| {
        to.fill(0.0);
        let rows = chunk * ROWS..chunk * ROWS + to.len() / width;
        let from = keys.partition_point(|(row, _)| *row < rows.start);
        for &(row, key) in keys[from..].iter().take_while(|(row, _)| *row < rows.end) {
            let to = &mut to[(row - rows.start) * width..][..width];
            for (to, sums) in to.chunks_exact_mut(d).zip(sums.chunks_exact(per_head)) {
                for sums in sums.iter().filter(|sums| sums.groups.contains(&(key / KEYS))) {
                    let from = &which(sums)[(key - sums.groups.start * KEYS) * lanes..][..lanes];
                    add_scaled(to, factor, &Lane::values(from)[..d]);
                }
            }
        }
    });
}

/// Some blocks of queries of one key/value head.
struct Task<'a> {
    blocks: &'a [Block],
    dout: &'a [f32],
    saved: Saved<'a>,
    packed: &'a Packed<'a>,
    all_groups: usize,
    shape: Heads,
    head: usize,
}

/// What belongs to the 32 query columns of a pair. The factors have D as inner dimension.
#[derive(Debug)]
struct Pair {
    columns: Columns,
    q: Vec<Tile>,
    dout: Vec<Tile>,
    /// `[D, 32]`.
    dq: Vec<Lane>,
}

/// Scores and `∂L/∂weight` of one group, and the factors of a chunk: `weights` and `gradients` by group, then pair; `pairs` by
/// pair, then group. `q` and `dout` are, pair after pair, factors with the queries as inner dimension.
#[derive(Debug)]
pub struct Scratch {
    q: Vec<Tile>,
    dout: Vec<Tile>,
    scores: Vec<Lane>,
    dweights: Vec<Lane>,
    weights: Vec<Tile>,
    gradients: Vec<Tile>,
    pairs: Vec<Tile>,
    columns: Vec<Pair>,
}

impl Scratch {
    fn new(head_size: usize) -> Self {
        let tiles = || vec![Tile::ZERO; tiles_of(head_size)];
        let factors = || vec![Tile::ZERO; CHUNK * PAIRS * 2];
        let pair = || Pair {
            columns: Columns { lse: [Lane::ZERO; 2], delta: [Lane::ZERO; 2] },
            q: tiles(),
            dout: tiles(),
            dq: vec![Lane::ZERO; 32 * tiles_of(head_size)],
        };
        let blocks = || vec![Tile::ZERO; PAIRS * tiles_of(head_size)];
        Scratch {
            q: blocks(),
            dout: blocks(),
            scores: vec![Lane::ZERO; 2 * KEYS],
            dweights: vec![Lane::ZERO; 2 * KEYS],
            weights: factors(),
            gradients: factors(),
            pairs: factors(),
            columns: (0..PAIRS).map(|_| pair()).collect(),
        }
    }
}

impl Task<'_> {
    /// `dq` are the rows of the blocks, one after another.
    fn run(&self, mut dq: Vec<&mut [f32]>, scratch: &mut Scratch, sums: &mut Sums) {
        let registers = Registers::configure();
        let visits = || self.blocks.iter().flat_map(|block| &block.visits);
        let start = visits().map(|v| v.group).min().unwrap_or(0);
        let end = visits().map(|v| v.group + v.len.div_ceil(KEYS)).max().unwrap_or(0);
        let size = (end - start) * KEYS * tiles_of(self.shape.head_size);
        sums.groups = start..end;
        for sum in [&mut sums.dk, &mut sums.dv] {
            sum.clear();
            sum.resize(size, Lane::ZERO);
        }
        let mut rows = dq.as_mut_slice();
        for block in self.blocks {
            let (dq, rest) = rows.split_at_mut(block.rows.len());
            // SAFETY: plans for tiles are made only where `available` said that the CPU has these instructions.
            unsafe { self.block(&registers, block, scratch, sums, dq) };
            rows = rest;
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn block(
        &self,
        registers: &Registers,
        block: &Block,
        scratch: &mut Scratch,
        sums: &mut Sums,
        dq: &mut [&mut [f32]],
    ) {
        let per_row = self.shape.heads / self.shape.kv_heads;
        let pairs = (block.rows.len() * per_row).div_ceil(32);
        for pair in 0..pairs {
            self.load(block, pair, scratch);
        }
        for visit in &block.visits {
            let pairs = visit.rows.start * per_row / 32..(visit.rows.end * per_row).div_ceil(32);
            self.visit(registers, (block, visit), pairs, scratch, sums);
        }
        let (d, factor) = (self.shape.head_size, _mm512_set1_ps(self.shape.scale));
        for (pair, columns) in scratch.columns.iter().enumerate().take(pairs) {
            for (t, lanes) in columns.dq.chunks_exact(32).enumerate().take(d.div_ceil(16)) {
                let width = 16.min(d - 16 * t);
                for half in 0..2 {
                    let lanes = transpose_lanes(&lanes[half..], 2, factor);
                    for (i, lane) in lanes.iter().enumerate() {
                        let column = 32 * pair + 16 * half + i;
                        if let Some(row) = dq.get_mut(column / per_row) {
                            lane.copy_to(&mut row[column % per_row * d + 16 * t..][..width]);
                        }
                    }
                }
            }
        }
    }

    /// Fills in what belongs to the columns of a pair.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn load(&self, block: &Block, pair: usize, scratch: &mut Scratch) {
        let (per_row, head) = (self.shape.heads / self.shape.kv_heads, self.head);
        let of = |x| columns(x, block, pair, head, self.shape);
        let (q, dout, out) = (of(self.saved.q), of(self.dout), of(self.saved.out));
        let factor = self.shape.scale * std::f32::consts::LOG2_E;
        let tiles = tiles_of(self.shape.head_size);
        pack(&mut scratch.q[pair * tiles..][..tiles], &q, factor, Layout::Pairs);
        pack(&mut scratch.dout[pair * tiles..][..tiles], &dout, 1.0, Layout::Pairs);
        let to = &mut scratch.columns[pair];
        pack(&mut to.q, &q, factor, Layout::LinesTransposed);
        pack(&mut to.dout, &dout, 1.0, Layout::LinesTransposed);
        to.dq.fill(Lane::ZERO);
        for i in 0..32 {
            let column = 32 * pair + i;
            let row = block.rows.get(column / per_row);
            let lse =
                row.map_or(0.0, |r| self.saved.lse[r * self.shape.heads + head * per_row + column % per_row]);
            to.columns.lse[i / 16].0[i % 16] = lse * std::f32::consts::LOG2_E;
            to.columns.delta[i / 16].0[i % 16] = dot(dout[i], out[i]);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn visit(
        &self,
        registers: &Registers,
        (block, visit): (&Block, &Visit),
        pairs: Range<usize>,
        scratch: &mut Scratch,
        sums: &mut Sums,
    ) {
        let per_row = self.shape.heads / self.shape.kv_heads;
        let mut sights: [Option<Sight>; PAIRS] = [const { None }; PAIRS];
        let mut groups: Option<Range<usize>> = None;
        for pair in pairs.clone() {
            sights[pair] = Sight::of(block, visit, per_row, pair, self.shape.window);
            if let Some(sight) = &sights[pair] {
                let other = groups.unwrap_or(sight.groups.clone());
                groups = Some(other.start.min(sight.groups.start)..other.end.max(sight.groups.end));
            }
        }
        let Some(groups) = groups else { return };
        for chunk in groups.clone().step_by(CHUNK) {
            let chunk = chunk..(chunk + CHUNK).min(groups.end);
            for group in chunk.clone() {
                for pair in pairs.clone() {
                    let at = (group - chunk.start, pair);
                    self.scores(registers, (visit.group, group), sights[pair].as_ref(), at, scratch);
                }
            }
            let first = visit.group + chunk.start;
            self.products(registers, first..first + chunk.len(), pairs.clone(), scratch, sums);
        }
    }

    /// The factors of one group and one pair.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn scores(
        &self,
        registers: &Registers,
        (start, group): (usize, usize),
        sight: Option<&Sight>,
        (place, pair): (usize, usize),
        scratch: &mut Scratch,
    ) {
        let (by_group, by_pair) = ((place * PAIRS + pair) * 2, (pair * CHUNK + place) * 2);
        let to = Factors {
            weights: &mut scratch.weights[by_group..][..2],
            gradients: &mut scratch.gradients[by_group..][..2],
            pairs: &mut scratch.pairs[by_pair..][..2],
        };
        let Some(sight) = sight.filter(|sight| sight.groups.contains(&group)) else {
            to.weights.fill(Tile::ZERO);
            to.gradients.fill(Tile::ZERO);
            to.pairs.fill(Tile::ZERO);
            return;
        };
        let tiles = tiles_of(self.shape.head_size);
        let at = (self.head * self.all_groups + start + group) * tiles;
        let factor = |factor| Factor { tiles: factor, second: tiles / 2, step: 1 };
        let columns = &scratch.columns[pair];
        let keys = factor(&self.packed.keys[at..at + tiles]);
        registers.product(&mut scratch.scores, 2, Into::Set, keys, factor(&columns.q), tiles / 2);
        let values = factor(&self.packed.values[at..at + tiles]);
        registers.product(&mut scratch.dweights, 2, Into::Set, values, factor(&columns.dout), tiles / 2);
        lanes::gradients(&scratch.scores, &scratch.dweights, &columns.columns, sight, group, to);
    }

    /// Adds the products of a chunk: to dk and dv over the queries, to dq over the keys.
    fn products(
        &self,
        registers: &Registers,
        chunk: Range<usize>,
        pairs: Range<usize>,
        scratch: &mut Scratch,
        sums: &mut Sums,
    ) {
        let tiles = tiles_of(self.shape.head_size);
        let (first, count) = (chunk.start, chunk.len());
        let Scratch { q, dout, weights, gradients, pairs: by_pair, columns, .. } = scratch;
        for place in 0..count {
            let to = (first + place - sums.groups.start) * KEYS * tiles;
            let from = (place * PAIRS + pairs.start) * 2;
            let (weights, gradients) = (&weights[from..], &gradients[from..]);
            for t in (0..tiles).step_by(2) {
                let left = |factor| Factor { tiles: factor, second: 1, step: 2 };
                let right = |factor| Factor { tiles: factor, second: 1, step: tiles };
                let at = pairs.start * tiles + t;
                let (dk, dv) = (&mut sums.dk[to + t..], &mut sums.dv[to + t..]);
                registers.product(dv, tiles, Into::Add, left(weights), right(&dout[at..]), pairs.len());
                registers.product(dk, tiles, Into::Add, left(gradients), right(&q[at..]), pairs.len());
            }
        }
        let keys = &self.packed.keys_transposed[(self.head * self.all_groups + first) * tiles..];
        for pair in pairs {
            let gradients = Factor { tiles: &by_pair[pair * CHUNK * 2..], second: 1, step: 2 };
            for t in (0..tiles).step_by(2) {
                let keys = Factor { tiles: &keys[t..], second: 1, step: tiles };
                registers.product(&mut columns[pair].dq[32 * t..], 2, Into::Add, keys, gradients, count);
            }
        }
    }
}
