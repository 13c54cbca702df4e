//! The storage types of GGUF tensors, turned into `f32` exactly as the format's reference implementation does.
//!
//! A quantised tensor is a run of blocks; each block states its scales once for 32 or 256 numbers. Blocks are
//! independent, so they are converted in parallel. Computing on quantised blocks is left to later kernels.

use half::{bf16, f16};
use rayon::prelude::*;
use underdog_tensor::quantised::Format;

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the format's own")]
#[allow(non_camel_case_types, reason = "the names are the format's own")]
pub enum TensorType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// Names of types that exist in the format and are not supported, for the message.
const OTHERS: [(u32, &str); 12] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (20, "IQ4_NL"),
    (23, "IQ4_XS"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

/// Numbers in a block of the K types.
const SUPER: usize = 256;
/// Numbers converted by one piece of parallel work: a multiple of every block size, and small enough for a cache.
const PIECE: usize = 64 * SUPER;

impl TensorType {
    /// The supported types, for messages.
    pub const SUPPORTED: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K";

    /// The type of a code in the file, or a label for a type that is not supported.
    pub(super) fn from_code(code: u32) -> Result<TensorType, String> {
        Ok(match code {
            0 => TensorType::F32,
            1 => TensorType::F16,
            2 => TensorType::Q4_0,
            3 => TensorType::Q4_1,
            6 => TensorType::Q5_0,
            7 => TensorType::Q5_1,
            8 => TensorType::Q8_0,
            12 => TensorType::Q4_K,
            13 => TensorType::Q5_K,
            14 => TensorType::Q6_K,
            30 => TensorType::BF16,
            other => {
                let known = OTHERS.iter().find(|(code, _)| *code == other);
                return Err(match known {
                    Some((_, name)) => format!("{name} (type {other})"),
                    None => format!("type {other}"),
                });
            }
        })
    }

    /// The code of the type in a file.
    pub(super) fn code(self) -> u32 {
        match self {
            TensorType::F32 => 0,
            TensorType::F16 => 1,
            TensorType::Q4_0 => 2,
            TensorType::Q4_1 => 3,
            TensorType::Q5_0 => 6,
            TensorType::Q5_1 => 7,
            TensorType::Q8_0 => 8,
            TensorType::Q4_K => 12,
            TensorType::Q5_K => 13,
            TensorType::Q6_K => 14,
            TensorType::BF16 => 30,
        }
    }

    /// The format's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            TensorType::F32 => "F32",
            TensorType::F16 => "F16",
            TensorType::BF16 => "BF16",
            TensorType::Q4_0 => "Q4_0",
            TensorType::Q4_1 => "Q4_1",
            TensorType::Q5_0 => "Q5_0",
            TensorType::Q5_1 => "Q5_1",
            TensorType::Q8_0 => "Q8_0",
            TensorType::Q4_K => "Q4_K",
            TensorType::Q5_K => "Q5_K",
            TensorType::Q6_K => "Q6_K",
        }
    }

    /// The format of [`underdog_tensor::quantised`]; `None` for plain numbers.
    pub fn format(self) -> Option<Format> {
        Some(match self {
            TensorType::F32 | TensorType::F16 | TensorType::BF16 => return None,
            TensorType::Q4_0 => Format::Q4_0,
            TensorType::Q4_1 => Format::Q4_1,
            TensorType::Q5_0 => Format::Q5_0,
            TensorType::Q5_1 => Format::Q5_1,
            TensorType::Q8_0 => Format::Q8_0,
            TensorType::Q4_K => Format::Q4_K,
            TensorType::Q5_K => Format::Q5_K,
            TensorType::Q6_K => Format::Q6_K,
        })
    }

    /// Numbers and bytes of one block.
    pub fn block(self) -> (usize, usize) {
        match self {
            TensorType::F32 => (1, 4),
            TensorType::F16 | TensorType::BF16 => (1, 2),
            TensorType::Q4_0 => (32, 2 + 16),
            TensorType::Q4_1 => (32, 4 + 16),
            TensorType::Q5_0 => (32, 2 + 4 + 16),
            TensorType::Q5_1 => (32, 4 + 4 + 16),
            TensorType::Q8_0 => (32, 2 + 32),
            TensorType::Q4_K => (SUPER, 4 + 12 + 128),
            TensorType::Q5_K => (SUPER, 4 + 12 + 32 + 128),
            TensorType::Q6_K => (SUPER, 128 + 64 + 16 + 2),
        }
    }
}

/// The numbers of whole blocks, in storage order; bytes after the last whole block are ignored. `None` when a
/// number is not finite: such weights can only be damage.
pub fn dequantize(kind: TensorType, bytes: &[u8]) -> Option<Vec<f32>> {
    let (block, block_bytes) = kind.block();
    let blocks = bytes.len() / block_bytes;
    let mut numbers = vec![0.0f32; blocks * block];
    let finite = numbers
        .par_chunks_mut(PIECE)
        .zip(bytes[..blocks * block_bytes].par_chunks(PIECE / block * block_bytes))
        .map(|(out, bytes)| {
            convert(kind, bytes, out);
            // No early exit, so that it stays one vectorised pass over numbers that are still in the cache.
            out.iter().fold(true, |finite, number| finite & number.is_finite())
        })
        .reduce(|| true, |a, b| a & b);
    finite.then_some(numbers)
}

fn convert(kind: TensorType, bytes: &[u8], out: &mut [f32]) {
    match kind {
        TensorType::F32 => each(bytes, out, |b: &[u8; 4], o: &mut [f32; 1]| o[0] = f32::from_le_bytes(*b)),
        TensorType::F16 => {
            each(bytes, out, |b: &[u8; 2], o: &mut [f32; 1]| o[0] = f16::from_le_bytes(*b).to_f32());
        }
        TensorType::BF16 => {
            each(bytes, out, |b: &[u8; 2], o: &mut [f32; 1]| o[0] = bf16::from_le_bytes(*b).to_f32());
        }
        TensorType::Q4_0 => each(bytes, out, q4_0),
        TensorType::Q4_1 => each(bytes, out, q4_1),
        TensorType::Q5_0 => each(bytes, out, q5_0),
        TensorType::Q5_1 => each(bytes, out, q5_1),
        TensorType::Q8_0 => each(bytes, out, q8_0),
        TensorType::Q4_K => each(bytes, out, q4_k),
        TensorType::Q5_K => each(bytes, out, q5_k),
        TensorType::Q6_K => each(bytes, out, q6_k),
    }
}

/// Runs `block` over blocks of `N` bytes that become `M` numbers.
fn each<const N: usize, const M: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; N], &mut [f32; M]),
) {
    let (blocks, _) = bytes.as_chunks::<N>();
    let (outs, _) = out.as_chunks_mut::<M>();
    for (bytes, out) in blocks.iter().zip(outs) {
        block(bytes, out);
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn q4_0(bytes: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half_at(bytes, 0);
    for i in 0..16 {
        let pair = bytes[2 + i];
        out[i] = scale * (f32::from(pair & 15) - 8.0);
        out[16 + i] = scale * (f32::from(pair >> 4) - 8.0);
    }
}

fn q4_1(bytes: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, least) = (half_at(bytes, 0), half_at(bytes, 2));
    for i in 0..16 {
        let pair = bytes[4 + i];
        out[i] = scale * f32::from(pair & 15) + least;
        out[16 + i] = scale * f32::from(pair >> 4) + least;
    }
}

/// The 32 five-bit numbers whose high bits are the bits of one word and whose low four bits are in 16 pairs.
fn five_bits(high: [u8; 4], pairs: &[u8]) -> [u8; 32] {
    let high = u32::from_le_bytes(high);
    let mut numbers = [0; 32];
    for i in 0..16 {
        numbers[i] = (pairs[i] & 15) | (((high >> i) & 1) << 4) as u8;
        numbers[16 + i] = (pairs[i] >> 4) | (((high >> (16 + i)) & 1) << 4) as u8;
    }
    numbers
}

fn q5_0(bytes: &[u8; 22], out: &mut [f32; 32]) {
    let scale = half_at(bytes, 0);
    let numbers = five_bits([bytes[2], bytes[3], bytes[4], bytes[5]], &bytes[6..]);
    for i in 0..32 {
        out[i] = scale * (f32::from(numbers[i]) - 16.0);
    }
}

fn q5_1(bytes: &[u8; 24], out: &mut [f32; 32]) {
    let (scale, least) = (half_at(bytes, 0), half_at(bytes, 2));
    let numbers = five_bits([bytes[4], bytes[5], bytes[6], bytes[7]], &bytes[8..]);
    for i in 0..32 {
        out[i] = scale * f32::from(numbers[i]) + least;
    }
}

fn q8_0(bytes: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half_at(bytes, 0);
    for i in 0..32 {
        out[i] = f32::from(bytes[2 + i] as i8) * scale;
    }
}

/// Scale and minimum, six bits each, of the eight groups of 32 numbers of a Q4_K or Q5_K block.
///
/// The first four of each fill the low six bits of four bytes; of the last four, the low halves share four more
/// bytes and the two high bits sit on top of the first ones.
fn group_scales(bytes: &[u8], scale: f32, least: f32) -> [(f32, f32); 8] {
    let mut groups = [(0.0, 0.0); 8];
    for i in 0..4 {
        let (first, second, shared) = (bytes[i], bytes[4 + i], bytes[8 + i]);
        groups[i] = (scale * f32::from(first & 63), least * f32::from(second & 63));
        let late_scale = (shared & 15) | ((first >> 2) & 48);
        let late_least = (shared >> 4) | ((second >> 2) & 48);
        groups[4 + i] = (scale * f32::from(late_scale), least * f32::from(late_least));
    }
    groups
}

fn q4_k(bytes: &[u8; 144], out: &mut [f32; SUPER]) {
    let groups = group_scales(&bytes[4..16], half_at(bytes, 0), half_at(bytes, 2));
    for pair in 0..4 {
        let nibbles = &bytes[16 + 32 * pair..][..32];
        let ((scale_a, least_a), (scale_b, least_b)) = (groups[2 * pair], groups[2 * pair + 1]);
        let (a, b) = out[64 * pair..][..64].split_at_mut(32);
        for i in 0..32 {
            a[i] = scale_a * f32::from(nibbles[i] & 15) - least_a;
            b[i] = scale_b * f32::from(nibbles[i] >> 4) - least_b;
        }
    }
}

fn q5_k(bytes: &[u8; 176], out: &mut [f32; SUPER]) {
    let groups = group_scales(&bytes[4..16], half_at(bytes, 0), half_at(bytes, 2));
    let high = &bytes[16..48];
    for pair in 0..4 {
        let nibbles = &bytes[48 + 32 * pair..][..32];
        let ((scale_a, least_a), (scale_b, least_b)) = (groups[2 * pair], groups[2 * pair + 1]);
        let (a, b) = out[64 * pair..][..64].split_at_mut(32);
        for i in 0..32 {
            // Bit g of a high byte belongs to group g.
            let (high_a, high_b) = ((high[i] >> (2 * pair)) & 1, (high[i] >> (2 * pair + 1)) & 1);
            a[i] = scale_a * f32::from((nibbles[i] & 15) | (high_a << 4)) - least_a;
            b[i] = scale_b * f32::from((nibbles[i] >> 4) | (high_b << 4)) - least_b;
        }
    }
}

fn q6_k(bytes: &[u8; 210], out: &mut [f32; SUPER]) {
    let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    let scale = half_at(bytes, 208);
    // Groups of 32 numbers: half h holds groups 4h..4h+4. Two low halves share 64 bytes of nibbles, the two high
    // bits of all four groups share 32 bytes.
    for group in 0..8 {
        let (half, quarter) = (group / 4, group % 4);
        let nibbles = &low[64 * half + 32 * (quarter % 2)..][..32];
        let tops = &high[32 * half..][..32];
        let (nibble_shift, top_shift) = (4 * (quarter / 2), 2 * quarter);
        for i in 0..32 {
            let number = ((nibbles[i] >> nibble_shift) & 15) | (((tops[i] >> top_shift) & 3) << 4);
            let part = scale * f32::from(scales[2 * group + i / 16] as i8);
            out[32 * group + i] = part * (f32::from(number) - 32.0);
        }
    }
}
