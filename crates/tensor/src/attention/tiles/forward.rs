//! The forward pass on tiles: 32 query columns at a time meet the keys they see, a few groups at a time, with an online softmax
//! (Milakov and Gimelshein 2018, arXiv 1805.02867).

use super::super::Heads;
use super::super::plan::{Block, COLUMNS, KEYS, Plan};
use super::lanes::{self, Softmax};
use super::pack::{Layout, Rows, pack, pack_keys, tiles_of, transpose_lanes};
use super::registers::{Factor, Lane, Registers, Tile};
use super::{Sight, Space, lanes::load};
use crate::cached::CachedView;
use crate::matmul::Into;
use rayon::prelude::*;
use std::arch::x86_64::_mm512_div_ps;
use std::arch::x86_64::_mm512_set1_ps;

/// Groups of keys whose scores are computed before the softmax takes them in.
const CHUNK: usize = 4;

/// Keys in lines and values transposed, for all key/value heads.
struct Packed<'a> {
    keys: &'a [Tile],
    values: &'a [Tile],
}

/// What one key/value head gives for one row: `[H/G · D]` of the output and `[H/G]` of the log-sum-exp.
type Row<'a> = (&'a mut [f32], &'a mut [f32]);

#[derive(Debug)]
pub struct Scratch {
    queries: Vec<Tile>,
    scores: Vec<Lane>,
    weights: Vec<Tile>,
    out: Vec<Lane>,
}

impl Scratch {
    fn new(head_size: usize) -> Self {
        let tiles = tiles_of(head_size);
        Scratch {
            queries: vec![Tile::ZERO; COLUMNS / 32 * tiles],
            scores: vec![Lane::ZERO; CHUNK * KEYS * 2],
            weights: vec![Tile::ZERO; CHUNK * 2],
            out: vec![Lane::ZERO; 32 * tiles],
        }
    }
}

/// See [`super::super::forward`].
pub fn forward(
    space: &mut Space,
    (out, lse): (&mut [f32], &mut [f32]),
    q: &[f32],
    (keys, values): (CachedView<'_>, CachedView<'_>),
    plan: &Plan,
    shape: Heads,
) {
    let per_row = shape.heads / shape.kv_heads;
    space.prepare(shape.head_size);
    pack_keys(&mut space.keys, keys, plan, Layout::Lines);
    pack_keys(&mut space.values, values, plan, Layout::PairsTransposed);
    let packed = Packed { keys: &space.keys, values: &space.values };
    let rows = out.chunks_exact_mut(per_row * shape.head_size).zip(lse.chunks_exact_mut(per_row));
    let mut rows: Vec<Option<Row<'_>>> = rows.map(Some).collect();
    let mut tasks = Vec::with_capacity(plan.blocks.len() * shape.kv_heads);
    for block in &plan.blocks {
        for head in 0..shape.kv_heads {
            let mut take =
                |row: &usize| rows[row * shape.kv_heads + head].take().expect("a row is in one block only");
            let rows: Vec<Row<'_>> = block.rows.iter().map(&mut take).collect();
            tasks.push((Task { block, q, packed: &packed, groups: plan.groups, shape, head }, rows));
        }
    }
    tasks.into_par_iter().with_max_len(1).for_each(|(task, mut rows)| {
        space.forward.with(
            || Scratch::new(shape.head_size),
            |scratch| {
                let registers = Registers::configure();
                // SAFETY: plans for tiles are made only where `available` said that the CPU has these instructions.
                unsafe { task.run(&registers, scratch, &mut rows) };
            },
        );
    });
}

/// The 32 rows of `x [T, H·D]` that are the query columns from `32 · pair` on, for one key/value head.
pub fn columns<'a>(x: &'a [f32], block: &Block, pair: usize, head: usize, shape: Heads) -> Rows<'a> {
    let (d, per_row) = (shape.head_size, shape.heads / shape.kv_heads);
    let mut rows: Rows<'a> = [&[]; 32];
    for (i, to) in rows.iter_mut().enumerate() {
        let column = 32 * pair + i;
        if let Some(row) = block.rows.get(column / per_row) {
            *to = &x[(row * shape.heads + head * per_row + column % per_row) * d..][..d];
        }
    }
    rows
}

/// A block of queries of one key/value head.
struct Task<'a> {
    block: &'a Block,
    q: &'a [f32],
    packed: &'a Packed<'a>,
    groups: usize,
    shape: Heads,
    head: usize,
}

impl Task<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn run(&self, registers: &Registers, scratch: &mut Scratch, rows: &mut [Row<'_>]) {
        let per_row = self.shape.heads / self.shape.kv_heads;
        let tiles = tiles_of(self.shape.head_size);
        let factor = self.shape.scale * std::f32::consts::LOG2_E;
        for pair in 0..(self.block.rows.len() * per_row).div_ceil(32) {
            let queries = &mut scratch.queries[..tiles];
            pack(
                queries,
                &columns(self.q, self.block, pair, self.head, self.shape),
                factor,
                Layout::LinesTransposed,
            );
            scratch.out.fill(Lane::ZERO);
            let mut softmax = Softmax::EMPTY;
            for visit in &self.block.visits {
                if let Some(sight) = Sight::of(self.block, visit, per_row, pair, self.shape.window) {
                    self.visit(registers, scratch, &mut softmax, &sight, visit.group);
                }
            }
            self.write(scratch, &softmax, pair, rows);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn visit(
        &self,
        registers: &Registers,
        scratch: &mut Scratch,
        softmax: &mut Softmax,
        sight: &Sight,
        start: usize,
    ) {
        let tiles = tiles_of(self.shape.head_size);
        let Scratch { queries, scores, weights, out } = scratch;
        let query = Factor { tiles: queries, second: tiles / 2, step: 1 };
        let first_group = self.head * self.groups + start;
        for chunk in sight.groups.clone().step_by(CHUNK) {
            let count = CHUNK.min(sight.groups.end - chunk);
            for (i, scores) in scores.chunks_exact_mut(2 * KEYS).take(count).enumerate() {
                let keys = &self.packed.keys[(first_group + chunk + i) * tiles..][..tiles];
                let keys = Factor { tiles: keys, second: tiles / 2, step: 1 };
                registers.product(scores, 2, Into::Set, keys, query, tiles / 2);
                if !sight.is_clear(chunk + i) {
                    lanes::hide(scores, sight, chunk + i);
                }
            }
            softmax.take(&scores[..count * 2 * KEYS], &mut weights[..2 * count], out);
            let values = &self.packed.values[(first_group + chunk) * tiles..][..count * tiles];
            let weights = Factor { tiles: weights, second: 1, step: 2 };
            for t in (0..tiles).step_by(2) {
                let values = Factor { tiles: &values[t..], second: 1, step: tiles };
                registers.product(&mut out[32 * t..], 2, Into::Add, values, weights, count);
            }
        }
    }

    /// Divides by the sums and writes the rows of the output.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn write(&self, scratch: &Scratch, softmax: &Softmax, pair: usize, rows: &mut [Row<'_>]) {
        let (d, per_row) = (self.shape.head_size, self.shape.heads / self.shape.kv_heads);
        for half in 0..2 {
            let factor = _mm512_div_ps(_mm512_set1_ps(1.0), load(&softmax.sum[half]));
            let first = 32 * pair + 16 * half;
            for (t, out) in scratch.out.chunks_exact(32).enumerate().take(d.div_ceil(16)) {
                let width = 16.min(d - 16 * t);
                let lanes = transpose_lanes(&out[half..], 2, factor);
                for (i, lane) in lanes.iter().enumerate() {
                    let column = first + i;
                    if let Some((row, _)) = rows.get_mut(column / per_row) {
                        lane.copy_to(&mut row[column % per_row * d + 16 * t..][..width]);
                    }
                }
            }
            for i in 0..16 {
                let column = first + i;
                if let Some((_, lse)) = rows.get_mut(column / per_row) {
                    let (top, sum) = (softmax.top[half].0[i], softmax.sum[half].0[i]);
                    lse[column % per_row] = (top + sum.log2()) * std::f32::consts::LN_2;
                }
            }
        }
    }
}
