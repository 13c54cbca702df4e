//! Layouts: 32 rows of f32 values at a time become tiles of bf16 values, in lines of 32 values of a row (the left factor), in
//! lines of 16 pairs (the right factor), or either of them transposed.

use super::super::plan::{KEYS, Plan};
use super::lanes::{halves, load, pairs, store, store_line};
use super::registers::{Lane, Tile};
use crate::bf16::wide::transposed;
use crate::cached::{CachedView, View};
use rayon::prelude::*;
use std::arch::x86_64::*;

/// Up to 32 rows; missing ones are empty and count as zeros.
pub type Rows<'a> = [&'a [f32]; 32];

/// How 32 rows of D values are laid out, in `2 · ⌈D/32⌉` tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// For each 16 rows, for each 32 values: lines of 32 values. A left factor whose inner dimension is D.
    Lines,
    /// The same tiles transposed: a right factor whose inner dimension is D, with the rows as columns.
    LinesTransposed,
    /// For each 16 values: lines of the values of two rows in turns. A right factor whose inner dimension is the rows.
    Pairs,
    /// The same tiles transposed: a left factor whose inner dimension is the rows, with D as rows.
    PairsTransposed,
}

/// Tiles that 32 rows of `head_size` values take.
pub fn tiles_of(head_size: usize) -> usize {
    2 * head_size.div_ceil(32)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn part(row: &[f32], at: usize) -> __m512 {
    let row = &row[at.min(row.len())..];
    if row.len() >= 16 {
        // SAFETY: there are 16 values.
        return unsafe { _mm512_loadu_ps(row.as_ptr()) };
    }
    // SAFETY: the mask keeps the load to the values that are there.
    unsafe { _mm512_maskz_loadu_ps(((1u32 << row.len()) - 1) as u16, row.as_ptr()) }
}

/// Writes `factor · rows` into `to`, rounded.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn pack(to: &mut [Tile], rows: &Rows<'_>, factor: f32, layout: Layout) {
    let factor = _mm512_set1_ps(factor);
    if matches!(layout, Layout::Lines | Layout::LinesTransposed) {
        let depth = to.len() / 2;
        for (i, row) in rows.iter().enumerate() {
            for t in 0..depth {
                let (a, b) = (part(row, 32 * t), part(row, 32 * t + 16));
                let line = halves(_mm512_mul_ps(a, factor), _mm512_mul_ps(b, factor));
                store_line(&mut to[i / 16 * depth + t], i % 16, line);
            }
        }
    } else {
        for (line, two) in rows.chunks_exact(2).enumerate() {
            for (t, tile) in to.iter_mut().enumerate() {
                let (a, b) = (part(two[0], 16 * t), part(two[1], 16 * t));
                store_line(tile, line, pairs(_mm512_mul_ps(a, factor), _mm512_mul_ps(b, factor)));
            }
        }
    }
    if matches!(layout, Layout::LinesTransposed | Layout::PairsTransposed) {
        for tile in to {
            transpose_tile(tile);
        }
    }
}

/// At most 16 values of 2 bytes from value `at` on, one in the lower half of each lane.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn half_part(row: &[u16], at: usize) -> __m512i {
    let row = &row[at.min(row.len())..];
    let count = row.len().min(16);
    // SAFETY: the mask keeps the load to the values that are there.
    _mm512_cvtepu16_epi32(unsafe {
        _mm256_maskz_loadu_epi16(((1u32 << count) - 1) as u16, row.as_ptr().cast())
    })
}

/// Writes rows that are in bf16 already into `to`; missing rows are zeros. What [`pack`] does with the same rows in f32 and a
/// factor of 1.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn pack_bf16(to: &mut [Tile], rows: &[&[u16]; 32], layout: Layout) {
    if layout == Layout::Lines {
        let depth = to.len() / 2;
        to.fill(Tile::ZERO);
        for (i, row) in rows.iter().enumerate() {
            for (t, values) in row.chunks(32).enumerate() {
                to[i / 16 * depth + t].0[i % 16 * 32..][..values.len()].copy_from_slice(values);
            }
        }
        return;
    }
    assert_eq!(layout, Layout::PairsTransposed, "rows of a cache are keys or values");
    let count = rows.iter().take_while(|row| !row.is_empty()).count();
    for (t, tile) in to.iter_mut().enumerate() {
        let mut lines = [_mm512_setzero_si512(); 16];
        for (line, two) in lines.iter_mut().zip(rows.chunks_exact(2)).take(count.div_ceil(2)) {
            let (a, b) = (half_part(two[0], 16 * t), half_part(two[1], 16 * t));
            *line = _mm512_or_si512(a, _mm512_slli_epi32::<16>(b));
        }
        for (i, line) in transposed(lines).into_iter().enumerate() {
            store_line(tile, i, line);
        }
    }
}

/// Σ a·b.
#[target_feature(enable = "avx512f")]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = _mm512_setzero_ps();
    for at in (0..a.len()).step_by(16) {
        sum = _mm512_fmadd_ps(part(a, at), part(b, at), sum);
    }
    _mm512_reduce_add_ps(sum)
}

#[target_feature(enable = "avx512f")]
fn transpose_tile(tile: &mut Tile) {
    let mut lines = [_mm512_setzero_si512(); 16];
    for (i, line) in lines.iter_mut().enumerate() {
        // SAFETY: line `i` of 16 lies inside the tile and is aligned.
        *line = unsafe { _mm512_load_si512(tile.0.as_ptr().add(32 * i).cast()) };
    }
    for (i, line) in transposed(lines).into_iter().enumerate() {
        store_line(tile, i, line);
    }
}

/// The transpose of 16 rows that lie `width` lanes apart, each multiplied by `factor` lane by lane.
#[target_feature(enable = "avx512f")]
pub fn transpose_lanes(rows: &[Lane], width: usize, factor: __m512) -> [Lane; 16] {
    let mut lines = [_mm512_setzero_si512(); 16];
    for (i, line) in lines.iter_mut().enumerate() {
        *line = _mm512_castps_si512(_mm512_mul_ps(load(&rows[i * width]), factor));
    }
    let mut to = [Lane::ZERO; 16];
    for (to, line) in to.iter_mut().zip(transposed(lines)) {
        store(to, _mm512_castsi512_ps(line));
    }
    to
}

/// Keys or values, packed for all groups of a plan: for each key/value head, for each group, its tiles.
pub fn pack_keys(to: &mut Vec<Tile>, x: CachedView<'_>, plan: &Plan, layout: Layout) {
    let (kv_heads, head_size) = x.shape();
    let (tiles, width) = (tiles_of(head_size), kv_heads * head_size);
    to.resize(kv_heads * plan.groups * tiles, Tile::ZERO);
    to.par_chunks_mut(tiles).with_min_len(16).enumerate().for_each_init(Vec::new, |wide, (index, to)| {
        let (head, group) = (index / plan.groups, index % plan.groups);
        let piece = plan.pieces[plan.pieces.partition_point(|piece| piece.group <= group) - 1];
        let first = (group - piece.group) * KEYS;
        let count = KEYS.min(piece.len - first);
        let place = |i: usize| (piece.slot + first + i) * width + head * head_size;
        // SAFETY: plans for tiles are made only where `available` said that the CPU has these instructions.
        unsafe {
            match x.data {
                View::F32(x) => pack(to, &rows_of(count, |i| &x[place(i)..][..head_size]), 1.0, layout),
                View::Bf16(x) => pack_bf16(to, &rows_of(count, |i| &x[place(i)..][..head_size]), layout),
                View::Int8(..) => {
                    wide.resize(KEYS * head_size, 0.0);
                    for (i, to) in wide.chunks_exact_mut(head_size).enumerate().take(count) {
                        x.widen(piece.slot + first + i, head, to);
                    }
                    pack(to, &rows_of(count, |i| &wide[i * head_size..][..head_size]), 1.0, layout);
                }
            }
        }
    });
}

/// The first `count` of 32 rows.
fn rows_of<'a, T>(count: usize, row: impl Fn(usize) -> &'a [T]) -> [&'a [T]; 32] {
    let mut rows: [&[T]; 32] = [&[]; 32];
    rows.iter_mut().enumerate().take(count).for_each(|(i, to)| *to = row(i));
    rows
}
