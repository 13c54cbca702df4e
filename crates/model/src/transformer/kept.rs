//! What a layer keeps for its backward pass, and how arrays of rows are dealt out to the groups of a parallel region.

use crate::lora::Module;
use std::ops::Range;
use underdog_tensor::bf16;
use underdog_tensor::block::Format;

/// Rows of one block: what a core works on from one product to the next without leaving its cache.
pub const BLOCK: usize = 256;
/// Rows are padded to this many in the tile format.
const STRIP: usize = 32;
/// Groups of a parallel region, whatever the number of threads: sums over groups are formed in this fixed order.
pub const GROUPS: usize = 4;

/// Consecutive ranges of rows, about equally long, that are worked on in parallel.
pub fn groups(rows: usize) -> Vec<Range<usize>> {
    split(0..rows, GROUPS.min(rows.div_ceil(2 * STRIP)).max(1)).collect()
}

/// The blocks of a group.
pub fn blocks(group: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    split(group.clone(), group.len().div_ceil(BLOCK).max(1))
}

/// `parts` consecutive ranges whose starts lie whole strips apart.
pub fn split(rows: Range<usize>, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let strips = rows.len().div_ceil(STRIP);
    let at = move |i: usize| (rows.start + i * strips / parts * STRIP).min(rows.end);
    (0..parts).map(move |i| at(i)..at(i + 1)).filter(|range| !range.is_empty())
}

/// Values that gate or up take in a row: as the result of a product lies, with its padding.
pub fn inner_width(format: Format, ffn: usize) -> usize {
    if format == Format::F32 { ffn } else { ffn.next_multiple_of(STRIP) }
}

/// Where the result for columns from `column` on of a block of `rows` rows from `at` on lies in what is kept of gate or up: block
/// after block, each as the products gave it.
pub fn inner_place(at: usize, column: usize, rows: usize, (format, ffn): (Format, usize)) -> usize {
    let height = if format == Format::F32 { rows } else { rows.next_multiple_of(STRIP) };
    at * inner_width(format, ffn) + column * height
}

/// `data [T, width]` in the pieces that belong to each group; padding goes to the last.
pub fn deal<'a, T>(
    mut data: &'a mut [T],
    groups: &'a [Range<usize>],
    width: usize,
) -> impl Iterator<Item = &'a mut [T]> {
    groups.iter().enumerate().map(move |(i, group)| {
        let own = if i + 1 == groups.len() { data.len() } else { group.len() * width };
        let own = own.min(data.len());
        let (part, rest) = std::mem::take(&mut data).split_at_mut(own);
        data = rest;
        part
    })
}

/// Rows `[T, n]` kept from the forward to the backward pass, in the format of the products. Empty where nothing is kept.
#[derive(Debug)]
pub enum Kept {
    /// As they were.
    F32(Vec<f32>),
    /// Rounded.
    Bf16(Vec<u16>),
}

impl Kept {
    pub fn new(format: Format) -> Self {
        match format {
            Format::F32 => Kept::F32(Vec::new()),
            Format::Bf16 => Kept::Bf16(Vec::new()),
        }
    }

    /// Makes room for `len` values, of which every one is written before it is read.
    fn resize(&mut self, len: usize) {
        match self {
            Kept::F32(values) => resize(values, len, 0.0),
            Kept::Bf16(values) => resize(values, len, 0),
        }
    }

    fn format(&self) -> Format {
        match self {
            Kept::F32(_) => Format::F32,
            Kept::Bf16(_) => Format::Bf16,
        }
    }

    /// Values kept.
    pub fn len(&self) -> usize {
        match self {
            Kept::F32(values) => values.len(),
            Kept::Bf16(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads `to.len()` values from `start` on.
    pub fn read(&self, start: usize, to: &mut [f32]) {
        match self {
            Kept::F32(values) => to.copy_from_slice(&values[start..start + to.len()]),
            Kept::Bf16(values) => bf16::widen_row(to, &values[start..start + to.len()]),
        }
    }

    /// The pieces that belong to each group.
    pub fn deal<'a>(
        &'a mut self,
        groups: &'a [Range<usize>],
        width: usize,
    ) -> impl Iterator<Item = KeptMut<'a>> {
        let (plain, rounded) = match self {
            Kept::F32(values) => (Some(deal(values, groups, width)), None),
            Kept::Bf16(values) => (None, Some(deal(values, groups, width))),
        };
        let plain = plain.into_iter().flatten().map(KeptMut::F32);
        plain.chain(rounded.into_iter().flatten().map(KeptMut::Bf16))
    }
}

/// Makes it `len` values long, growing by an eighth at least, not to twice the size: most of the memory of a step is here.
fn resize<T: Clone>(values: &mut Vec<T>, len: usize, value: T) {
    if len == 0 {
        // Another step kept more; its memory is needed elsewhere.
        *values = Vec::new();
    }
    if len > values.capacity() {
        values.clear();
        let room = if values.capacity() > 0 { len / 8 } else { 0 };
        values.reserve_exact(len + room);
    }
    values.resize(len, value);
}

/// A group's part of [`Kept`]; empty where nothing is kept.
#[derive(Debug)]
pub enum KeptMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [u16]),
}

impl KeptMut<'_> {
    /// Writes `from` from value `start` of this part on, if anything is kept.
    pub fn write(&mut self, start: usize, from: &[f32]) {
        match self {
            KeptMut::F32(values) if !values.is_empty() => {
                values[start..start + from.len()].copy_from_slice(from);
            }
            KeptMut::Bf16(values) if !values.is_empty() => bf16::round_row(&mut values[start..], from),
            _ => {}
        }
    }

    /// The same, and leaves in `values` what was kept of them, so that both ways see the same.
    pub fn write_back(&mut self, start: usize, values: &mut [f32]) {
        self.write(start, values);
        if let KeptMut::Bf16(kept) = self
            && !kept.is_empty()
        {
            bf16::widen_row(values, &kept[start..start + values.len()]);
        }
    }
}

/// What one layer keeps. `T` rows.
#[derive(Debug)]
pub struct Activations {
    /// The layer's input `[T, C]`.
    pub x: Kept,
    /// Queries before their norm and rope `[T, H·D]`.
    pub q: Kept,
    /// Keys before their norm and rope `[T, G·D]`.
    pub k: Kept,
    /// Values `[T, G·D]`.
    pub v: Kept,
    /// Attention output `[T, H·D]`.
    pub out: Kept,
    /// Log-sum-exp of the scores `[T, H]`.
    pub lse: Vec<f32>,
    /// What the norm after attention saw `[T, C]`, where there is one.
    pub o: Kept,
    /// The input of the MLP half `[T, C]`.
    pub middle: Kept,
    /// The MLP's inner values, unless they are computed again; where they lie says [`inner_place`].
    pub gate: Kept,
    /// See `gate`.
    pub up: Kept,
    /// What the norm after the MLP saw `[T, C]`, where there is one.
    pub down: Kept,
    /// `scale · drop(x) Aᵀ` of every adapted product `[T, rank]`, in the order of [`Module::ALL`].
    pub low: [Vec<f32>; 7],
}

/// Sizes of what is kept for one row: 0 where nothing is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Widths {
    /// C.
    pub x: usize,
    /// C, where the MLP's input is kept.
    pub middle: usize,
    /// H·D.
    pub q: usize,
    /// G·D.
    pub kv: usize,
    /// H.
    pub heads: usize,
    /// C where norms follow attention and MLP.
    pub post: usize,
    /// F where gate and up are kept.
    pub ffn: usize,
    /// Rank of the pair of each product.
    pub rank: [usize; 7],
}

impl Widths {
    /// Bytes that a row takes in one layer.
    pub fn bytes(&self, format: Format) -> usize {
        let values = self.x + self.middle + 2 * self.q + 2 * self.kv + 2 * self.post + 2 * self.ffn;
        let size = if format == Format::F32 { 4 } else { 2 };
        values * size + 4 * (self.heads + self.rank.iter().sum::<usize>())
    }
}

impl Activations {
    pub fn new(format: Format) -> Self {
        let new = || Kept::new(format);
        Activations {
            x: new(),
            q: new(),
            k: new(),
            v: new(),
            out: new(),
            lse: Vec::new(),
            o: new(),
            middle: new(),
            gate: new(),
            up: new(),
            down: new(),
            low: Module::ALL.map(|_| Vec::new()),
        }
    }

    /// Room for `rows` rows; memory that is there already is used again.
    pub fn resize(&mut self, rows: usize, widths: &Widths) {
        let Widths { x, middle, q, kv, heads, post, ffn, rank } = *widths;
        for (kept, width) in [
            (&mut self.x, x),
            (&mut self.q, q),
            (&mut self.k, kv),
            (&mut self.v, kv),
            (&mut self.out, q),
            (&mut self.o, post),
            (&mut self.middle, middle),
            (&mut self.down, post),
        ] {
            kept.resize(rows * width);
        }
        // Whole blocks of tiles, see `inner_place`.
        for kept in [&mut self.gate, &mut self.up] {
            let format = kept.format();
            let rows = if format == Format::F32 { rows } else { rows.next_multiple_of(STRIP) };
            kept.resize(rows * inner_width(format, ffn));
        }
        self.lse.resize(rows * heads, 0.0);
        self.low.iter_mut().zip(rank).for_each(|(low, rank)| low.resize(rows * rank, 0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_blocks_cover_all_rows_in_order() {
        for rows in [1, 31, 32, 33, 64, 65, 500, 1900, 4001] {
            let groups = groups(rows);
            assert!(groups.len() <= GROUPS);
            let blocks: Vec<_> = groups.iter().flat_map(blocks).collect();
            let mut next = 0;
            for block in &blocks {
                assert_eq!(block.start, next);
                assert!(block.len() <= BLOCK && (block.start.is_multiple_of(STRIP)));
                next = block.end;
            }
            assert_eq!(next, rows);
        }
    }
}
