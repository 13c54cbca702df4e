//! Keys or values of earlier rows, in the number format a cache keeps them in: f32, bf16, or 8-bit integers with one scale
//! for each row and head. Rows are put once and read by many later rows; attention reads this memory as it lies.
//!
//! What this module leaves to others: the sums over it (`attention`, `attention_rows`), and which row lies where (`model`).

use crate::attention::Span;
use crate::bf16;
use crate::matmul::Mat;

/// The number format of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheFormat {
    /// As computed.
    F32,
    /// Rounded to nearest: within 2⁻⁸ of each value, relative.
    Bf16,
    /// 8-bit integers, symmetric, with a scale for each row and head: within 1/254 of the head's largest value.
    Int8,
}

impl CacheFormat {
    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            CacheFormat::F32 => "f32",
            CacheFormat::Bf16 => "bf16",
            CacheFormat::Int8 => "int8",
        }
    }

    /// The format of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [CacheFormat::F32, CacheFormat::Bf16, CacheFormat::Int8].into_iter().find(|f| f.name() == text)
    }
}

/// What a number of a cache is kept as.
#[derive(Clone, Debug)]
enum Data {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
    /// `scales` is `[slots, G]`.
    Int8 {
        values: Vec<i8>,
        scales: Vec<f32>,
    },
}

/// `[slots, G·D]` keys, or as many values.
#[derive(Clone, Debug)]
pub struct Cached {
    data: Data,
    kv_heads: usize,
    head_size: usize,
}

impl Cached {
    /// Room for `slots` rows of `kv_heads` heads of `head_size` values, all zero.
    pub fn new(format: CacheFormat, slots: usize, kv_heads: usize, head_size: usize) -> Self {
        let size = slots * kv_heads * head_size;
        let data = match format {
            CacheFormat::F32 => Data::F32(vec![0.0; size]),
            CacheFormat::Bf16 => Data::Bf16(vec![0; size]),
            CacheFormat::Int8 => Data::Int8 { values: vec![0; size], scales: vec![0.0; slots * kv_heads] },
        };
        Cached { data, kv_heads, head_size }
    }

    /// Bytes of one row.
    pub fn bytes_per_slot(&self) -> usize {
        let values = self.kv_heads * self.head_size;
        match &self.data {
            Data::F32(_) => 4 * values,
            Data::Bf16(_) => 2 * values,
            Data::Int8 { .. } => values + 4 * self.kv_heads,
        }
    }

    /// Puts a row of `G·D` values.
    ///
    /// # Panics
    /// When it has another length or there is no such slot.
    pub fn put(&mut self, slot: usize, row: &[f32]) {
        let width = self.kv_heads * self.head_size;
        assert_eq!(row.len(), width, "a row of a cache");
        let range = slot * width..(slot + 1) * width;
        match &mut self.data {
            Data::F32(values) => values[range].copy_from_slice(row),
            Data::Bf16(values) => bf16::round_row(&mut values[range], row),
            Data::Int8 { values, scales } => {
                let heads = row.chunks_exact(self.head_size);
                let to = values[range].chunks_exact_mut(self.head_size);
                let scales = &mut scales[slot * self.kv_heads..][..self.kv_heads];
                for ((from, to), scale) in heads.zip(to).zip(scales) {
                    *scale = quantise(to, from);
                }
            }
        }
    }

    /// As attention reads it.
    pub fn view(&self) -> CachedView<'_> {
        let data = match &self.data {
            Data::F32(values) => View::F32(values),
            Data::Bf16(values) => View::Bf16(values),
            Data::Int8 { values, scales } => View::Int8(values, scales),
        };
        CachedView { data, kv_heads: self.kv_heads, head_size: self.head_size }
    }
}

crate::dispatched! {
    /// Rounds one head to 8-bit integers; gives the scale that they are to be multiplied with.
    pub fn quantise / quantise_on (to: &mut [i8], from: &[f32]) -> f32 {
        let top = from.iter().fold(0.0f32, |top, x| top.max(x.abs()));
        let factor = if top > 0.0 { 127.0 / top } else { 0.0 };
        for (to, from) in to.iter_mut().zip(from) {
            *to = (from * factor).round_ties_even() as i8;
        }
        top / 127.0
    }
}

/// A borrowed number format.
#[derive(Clone, Copy, Debug)]
pub(crate) enum View<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
    Int8(&'a [i8], &'a [f32]),
}

/// [`Cached`], borrowed; or plain f32 rows.
#[derive(Clone, Copy, Debug)]
pub struct CachedView<'a> {
    pub(crate) data: View<'a>,
    kv_heads: usize,
    head_size: usize,
}

impl<'a> CachedView<'a> {
    /// `[slots, G·D]` values as they are.
    pub fn plain(values: &'a [f32], kv_heads: usize, head_size: usize) -> Self {
        CachedView { data: View::F32(values), kv_heads, head_size }
    }

    /// `(G, D)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.kv_heads, self.head_size)
    }

    /// One head of the rows of a span as `[len, D]`: where it lies if it is f32, else widened into `scratch`.
    pub(crate) fn rows<'s>(&self, span: &Span, head: usize, scratch: &'s mut Vec<f32>) -> Mat<'s>
    where
        'a: 's,
    {
        let (d, width) = (self.head_size, self.kv_heads * self.head_size);
        if let View::F32(values) = self.data {
            let values: &'s [f32] = values;
            return Mat::strided(&values[span.slot * width + head * d..], span.len, d, width);
        }
        scratch.resize(span.len * d, 0.0);
        self.copy(span, head, scratch);
        Mat::new(scratch, span.len, d)
    }

    /// One head of the rows of a span in f32, to `[len, D]`.
    ///
    /// # Panics
    /// When `to` has another size.
    pub(crate) fn copy(&self, span: &Span, head: usize, to: &mut [f32]) {
        let (d, width) = (self.head_size, self.kv_heads * self.head_size);
        assert_eq!(to.len(), span.len * d, "one head of a span");
        let from = span.slot * width + head * d;
        match self.data {
            View::F32(values) => {
                for (to, from) in to.chunks_exact_mut(d).zip(values[from..].chunks(width)) {
                    to.copy_from_slice(&from[..d]);
                }
            }
            View::Bf16(values) => widen_rows(to, &values[from..], width, d),
            View::Int8(..) => {
                for (i, to) in to.chunks_exact_mut(d).enumerate() {
                    self.widen(span.slot + i, head, to);
                }
            }
        }
    }

    /// One head of one row.
    #[inline]
    pub(crate) fn widen(&self, slot: usize, head: usize, to: &mut [f32]) {
        let (d, width) = (self.head_size, self.kv_heads * self.head_size);
        let range = slot * width + head * d..slot * width + (head + 1) * d;
        match self.data {
            View::F32(values) => to.copy_from_slice(&values[range]),
            View::Bf16(values) => bf16::widen_row(to, &values[range]),
            View::Int8(values, scales) => {
                widen_int8(to, &values[range], scales[slot * self.kv_heads + head]);
            }
        }
    }
}

crate::dispatched! {
    /// `to = scale · from`.
    pub fn widen_int8 / widen_int8_on (to: &mut [f32], from: &[i8], scale: f32) {
        assert_eq!(to.len(), from.len());
        for (to, from) in to.iter_mut().zip(from) {
            *to = scale * *from as f32;
        }
    }
}

/// Rows that are asked for ahead of time.
const AHEAD: usize = 8;

crate::dispatched! {
    /// Rows of `d` values in bf16, `stride` apart, widened to rows that lie one after another.
    pub fn widen_rows / widen_rows_on (to: &mut [f32], from: &[u16], stride: usize, d: usize) {
        for (i, to) in to.chunks_exact_mut(d).enumerate() {
            let ahead = (i + AHEAD) * stride;
            for line in 0..d.div_ceil(32) {
                crate::cpu::prefetch(&from[(ahead + 32 * line).min(from.len())..]);
            }
            for (to, from) in to.iter_mut().zip(&from[i * stride..][..d]) {
                *to = bf16::widen(*from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use underdog_testkit::hashed_values;

    #[test]
    fn rows_come_back_within_the_bound_of_each_format() {
        let (heads, d, slots) = (3, 40, 5);
        for format in [CacheFormat::F32, CacheFormat::Bf16, CacheFormat::Int8] {
            let mut cached = Cached::new(format, slots, heads, d);
            let rows: Vec<Vec<f32>> =
                (0..slots).map(|i| hashed_values(i as u64, 0, heads * d, 10f64.powi(i as i32 - 2))).collect();
            (0..slots).rev().for_each(|slot| cached.put(slot, &rows[slot]));
            let mut back = vec![0.0; d];
            for (slot, row) in rows.iter().enumerate() {
                for (head, want) in row.chunks_exact(d).enumerate() {
                    cached.view().widen(slot, head, &mut back);
                    let top = want.iter().fold(0.0f32, |top, x| top.max(x.abs()));
                    for (got, want) in back.iter().zip(want) {
                        let bound = match format {
                            CacheFormat::F32 => 0.0,
                            CacheFormat::Bf16 => want.abs() / 256.0,
                            CacheFormat::Int8 => top / 253.9,
                        };
                        assert!((got - want).abs() <= bound, "{format:?} slot {slot}: {got} for {want}");
                    }
                }
            }
            let span = Span { slot: 1, len: 3, position: 0 };
            let mut scratch = Vec::new();
            let (view, mut one) = (cached.view(), vec![0.0; d]);
            let rows = view.rows(&span, 2, &mut scratch);
            view.widen(3, 2, &mut one);
            assert_eq!(rows.row(2), one);
        }
        assert_eq!(Cached::new(CacheFormat::Int8, 7, heads, d).bytes_per_slot(), heads * d + 4 * heads);
    }

    #[test]
    fn every_instruction_set_rounds_alike_and_a_head_of_zeros_stays_zero() {
        let from = hashed_values(4, 0, 77, 3.0);
        let rounded = [Isa::Portable, Isa::Avx2, Isa::Avx512].map(|isa| {
            let (mut to, mut back) = (vec![0; 77], vec![0.0; 77]);
            let scale = quantise_on(isa, &mut to, &from);
            widen_int8_on(isa, &mut back, &to, scale);
            (to, scale, back)
        });
        assert!(rounded[0] == rounded[1] && rounded[0] == rounded[2]);
        assert_eq!(rounded[0].0.iter().map(|x| x.unsigned_abs()).max(), Some(127));
        let mut to = [5; 4];
        assert_eq!((quantise(&mut to, &[0.0; 4]), to), (0.0, [0; 4]));
    }

    #[test]
    fn names_are_parsed_back() {
        for format in [CacheFormat::F32, CacheFormat::Bf16, CacheFormat::Int8] {
            assert_eq!(CacheFormat::parse(format.name()), Some(format));
        }
        assert_eq!(CacheFormat::parse("int4"), None);
    }
}
