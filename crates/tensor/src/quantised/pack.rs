//! From the blocks of a file to the order of [`super::Matrix`]. No number is rounded: bits only move.

use super::{BLOCK, Format, GROUP, Line, Matrix, Scales};
use half::f16;
use rayon::prelude::*;

/// Largest number of values in a block of a file.
const SUPER: usize = 256;

/// A block of a file taken apart.
struct Parts {
    /// Codes of the block's values in order.
    codes: [u8; SUPER],
    /// Scale and least value.
    scales: [u16; 2],
    /// For each 32 values two small integers.
    subs: [[u8; 2]; 8],
}

fn half_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Nibbles of 16 bytes: the low ones first.
fn nibbles(codes: &mut [u8], bytes: &[u8]) {
    let half = bytes.len();
    for (i, byte) in bytes.iter().enumerate() {
        codes[i] = byte & 15;
        codes[half + i] = byte >> 4;
    }
}

fn fifth_bits(codes: &mut [u8], bytes: &[u8]) {
    for i in 0..BLOCK {
        codes[i] |= (bytes[i / 8] >> (i % 8) & 1) << 4;
    }
}

/// The eight pairs of 6-bit numbers in 12 bytes of a Q4_K or Q5_K block.
fn six_bit_pairs(bytes: &[u8]) -> [[u8; 2]; 8] {
    let mut pairs = [[0; 2]; 8];
    for i in 0..4 {
        let (first, second, shared) = (bytes[i], bytes[4 + i], bytes[8 + i]);
        pairs[i] = [first & 63, second & 63];
        pairs[4 + i] = [(shared & 15) | ((first >> 2) & 48), (shared >> 4) | ((second >> 2) & 48)];
    }
    pairs
}

fn take_apart(format: Format, b: &[u8], parts: &mut Parts) {
    let codes = &mut parts.codes;
    match format {
        Format::Q4_0 => nibbles(codes, &b[2..18]),
        Format::Q4_1 => nibbles(codes, &b[4..20]),
        Format::Q5_0 | Format::Q5_1 => {
            let at = if format == Format::Q5_0 { 2 } else { 4 };
            nibbles(codes, &b[at + 4..at + 20]);
            fifth_bits(codes, &b[at..at + 4]);
        }
        Format::Q8_0 => codes.iter_mut().zip(&b[2..34]).for_each(|(code, byte)| *code = byte ^ 0x80),
        Format::Q4_K | Format::Q5_K => {
            parts.subs = six_bit_pairs(&b[4..16]);
            let at = if format == Format::Q4_K { 16 } else { 48 };
            for pair in 0..4 {
                nibbles(&mut codes[64 * pair..][..64], &b[at + 32 * pair..][..32]);
            }
            if format == Format::Q5_K {
                (0..SUPER).for_each(|i| codes[i] |= (b[16 + i % 32] >> (i / 32) & 1) << 4);
            }
        }
        Format::Q6_K => {
            for group in 0..8 {
                let (half, quarter) = (group / 4, group % 4);
                let (low, top) = (&b[64 * half + 32 * (quarter % 2)..], &b[128 + 32 * half..]);
                for i in 0..32 {
                    codes[32 * group + i] =
                        (low[i] >> (4 * (quarter / 2)) & 15) | (top[i] >> (2 * quarter) & 3) << 4;
                }
                parts.subs[group] = [b[192 + 2 * group], b[193 + 2 * group]];
            }
        }
    }
    parts.scales = match format.scales() {
        Scales::Plain => [half_at(b, 0), 0],
        Scales::Least | Scales::Super => [half_at(b, 0), half_at(b, 2)],
        Scales::SuperSix => [half_at(b, 208), 0],
    };
}

/// Puts 32 codes of row `lane` into the lines of a cell, which are zero there.
fn place(bits: usize, lines: &mut [Line], lane: usize, codes: &[u8]) {
    for (i, &code) in codes.iter().enumerate() {
        let (vector, byte) = (i / 4, 4 * lane + i % 4);
        if bits == 8 {
            lines[vector].0[byte] = code;
            continue;
        }
        lines[vector % 4].0[byte] |= (code & 15) << (4 * (vector / 4));
        match bits {
            5 => lines[4].0[byte] |= (code >> 4) << vector,
            6 => lines[4 + vector / 4].0[byte] |= (code >> 4) << (2 * (vector % 4)),
            _ => {}
        }
    }
}

pub(super) fn matrix(format: Format, bytes: &[u8], rows: usize, columns: usize) -> Option<Matrix> {
    let (size, block_bytes) = format.block();
    assert!(columns > 0 && columns.is_multiple_of(size), "rows of {columns} are not whole blocks of {size}");
    let per_row = columns / size;
    assert_eq!(bytes.len(), rows * per_row * block_bytes, "blocks of {rows} × {columns}");
    let (groups, cells, per_block) = (rows.div_ceil(GROUP), columns / BLOCK, size / BLOCK);
    let kind = format.scales();
    let halves = if matches!(kind, Scales::Plain | Scales::SuperSix) { 1 } else { 2 };
    let has_subs = matches!(kind, Scales::Super | Scales::SuperSix);
    let group_lines = cells * format.bits();
    let mut codes = vec![Line([0; 64]); groups * group_lines];
    let group_scales = per_row * halves * GROUP;
    let mut scales = vec![0u16; groups * group_scales];
    let group_subs = cells * 2 * GROUP;
    let mut subs = vec![0u8; if has_subs { groups * group_subs } else { 0 }];
    let mut no_subs: Vec<&mut [u8]> = Vec::new();
    let subs_of: Vec<&mut [u8]> = if has_subs {
        subs.chunks_exact_mut(group_subs).collect()
    } else {
        no_subs.resize_with(groups, Default::default);
        no_subs
    };
    let finite = codes
        .par_chunks_exact_mut(group_lines)
        .zip(scales.par_chunks_exact_mut(group_scales))
        .zip(subs_of)
        .enumerate()
        .map(|(group, ((lines, scales), subs))| {
            let mut parts = Parts { codes: [0; SUPER], scales: [0; 2], subs: [[0; 2]; 8] };
            let mut finite = true;
            for lane in 0..GROUP.min(rows - group * GROUP) {
                for block in 0..per_row {
                    let at = ((group * GROUP + lane) * per_row + block) * block_bytes;
                    take_apart(format, &bytes[at..at + block_bytes], &mut parts);
                    for half in 0..halves {
                        finite &= f16::from_bits(parts.scales[half]).is_finite();
                        scales[(block * halves + half) * GROUP + lane] = parts.scales[half];
                    }
                    for cell in 0..per_block {
                        let index = block * per_block + cell;
                        let lines = &mut lines[index * format.bits()..][..format.bits()];
                        place(format.bits(), lines, lane, &parts.codes[cell * BLOCK..][..BLOCK]);
                        for half in 0..if has_subs { 2 } else { 0 } {
                            subs[(2 * index + half) * GROUP + lane] = parts.subs[cell][half];
                        }
                    }
                }
            }
            finite
        })
        .reduce(|| true, |a, b| a & b);
    finite.then_some(Matrix { format, rows, columns, codes, scales, subs })
}
