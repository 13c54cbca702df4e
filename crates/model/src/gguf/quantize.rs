//! Numbers to the blocks of GGUF files.
//!
//! The types of 32 numbers follow the formats' reference rounding exactly. For the K types the format leaves the choice of
//! scales open: here each group's scale (and least value) is searched among candidates around the plain range and refitted
//! by least squares, with larger numbers weighing more.

use super::dequantize::TensorType;
use half::f16;
use rayon::prelude::*;

/// Numbers in a block of the K types.
const SUPER: usize = 256;

/// The blocks of `numbers`, rows of whole blocks. `None` for a type that is not written here, or where the numbers are not
/// whole blocks.
pub fn quantize(kind: TensorType, numbers: &[f32]) -> Option<Vec<u8>> {
    let block: fn(&[f32], &mut [u8]) = match kind {
        TensorType::F32 => |x, out| out.copy_from_slice(&x[0].to_le_bytes()),
        TensorType::F16 => |x, out| out.copy_from_slice(&f16::from_f32(x[0]).to_le_bytes()),
        TensorType::Q4_0 => q4_0,
        TensorType::Q4_1 => q4_1,
        TensorType::Q5_0 => q5_0,
        TensorType::Q8_0 => q8_0,
        TensorType::Q4_K => q4_k,
        TensorType::Q6_K => q6_k,
        TensorType::BF16 | TensorType::Q5_1 | TensorType::Q5_K => return None,
    };
    let (size, bytes) = kind.block();
    if !numbers.len().is_multiple_of(size) {
        return None;
    }
    let mut out = vec![0; numbers.len() / size * bytes];
    let blocks = out.par_chunks_exact_mut(bytes).zip(numbers.par_chunks_exact(size));
    blocks.with_min_len(64).for_each(|(out, x)| block(x, out));
    Some(out)
}

fn put_half(out: &mut [u8], at: usize, x: f32) {
    out[at..at + 2].copy_from_slice(&f16::from_f32(x).to_le_bytes());
}

fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The number of largest size, with its sign; the first of equal ones.
fn extreme(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |top: f32, &v| if v.abs() > top.abs() { v } else { top })
}

/// Pairs of codes into bytes: `codes[i]` low, `codes[i + half]` high.
fn put_nibbles(out: &mut [u8], codes: &[u8]) {
    let half = codes.len() / 2;
    for i in 0..half {
        out[i] = (codes[i] & 15) | (codes[half + i] & 15) << 4;
    }
}

fn q8_0(x: &[f32], out: &mut [u8]) {
    let scale = extreme(x).abs() / 127.0;
    put_half(out, 0, scale);
    let inverse = inverse(scale);
    x.iter().zip(&mut out[2..]).for_each(|(x, out)| *out = (x * inverse).round() as i8 as u8);
}

fn q4_0(x: &[f32], out: &mut [u8]) {
    let scale = extreme(x) / -8.0;
    let inverse = inverse(scale);
    put_half(out, 0, scale);
    let codes: Vec<u8> = x.iter().map(|x| ((x * inverse + 8.5) as u8).min(15)).collect();
    put_nibbles(&mut out[2..], &codes);
}

fn q5_0(x: &[f32], out: &mut [u8]) {
    let scale = extreme(x) / -16.0;
    let inverse = inverse(scale);
    put_half(out, 0, scale);
    let codes: Vec<u8> = x.iter().map(|x| ((x * inverse + 16.5) as u8).min(31)).collect();
    let high = codes.iter().enumerate().fold(0u32, |bits, (i, code)| bits | u32::from(code >> 4) << i);
    out[2..6].copy_from_slice(&high.to_le_bytes());
    put_nibbles(&mut out[6..], &codes);
}

fn q4_1(x: &[f32], out: &mut [u8]) {
    let least = x.iter().fold(f32::INFINITY, |a, &b| a.min(b));
    let most = x.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let scale = (most - least) / 15.0;
    let inverse = inverse(scale);
    put_half(out, 0, scale);
    put_half(out, 2, least);
    let codes: Vec<u8> = x.iter().map(|x| (((x - least) * inverse + 0.5) as u8).min(15)).collect();
    put_nibbles(&mut out[4..], &codes);
}

fn nearest(x: f32, low: i32, high: i32) -> i32 {
    // A cast of what is no number gives 0.
    (x.round() as i32).clamp(low, high)
}

/// Scale and least value (not above 0) of 32 numbers for codes 0 to 15: `x ≈ scale · code + least`.
fn scale_and_least(x: &[f32]) -> (f32, f32) {
    let least = x.iter().fold(0.0f32, |a, &b| a.min(b));
    let most = x.iter().fold(0.0f32, |a, &b| a.max(b));
    if most == least {
        return (0.0, 0.0);
    }
    let size = (x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32).sqrt();
    let weight: Vec<f32> = x.iter().map(|v| size + v.abs()).collect();
    let fit = |scale: f32, least: f32| -> f32 {
        let code = |v: f32| nearest((v - least) * inverse(scale), 0, 15) as f32;
        x.iter().zip(&weight).map(|(v, w)| w * (scale * code(*v) + least - v).powi(2)).sum()
    };
    let mut best = ((most - least) / 15.0, least);
    let mut error = fit(best.0, best.1);
    for step in -10..=10 {
        let inverse = (15.0 + 0.1 * step as f32) / (most - least);
        let (mut sw, mut sx, mut sl, mut sl2, mut sxl) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (&v, &w) in x.iter().zip(&weight) {
            let code = nearest((v - least) * inverse, 0, 15) as f32;
            sw += w;
            sx += w * v;
            sl += w * code;
            sl2 += w * code * code;
            sxl += w * v * code;
        }
        let determinant = sw * sl2 - sl * sl;
        if determinant <= 0.0 {
            continue;
        }
        let mut candidate = ((sw * sxl - sx * sl) / determinant, (sl2 * sx - sl * sxl) / determinant);
        if candidate.1 > 0.0 {
            candidate = (sxl / sl2, 0.0);
        }
        let found = fit(candidate.0, candidate.1);
        if candidate.0 > 0.0 && found < error {
            (best, error) = (candidate, found);
        }
    }
    best
}

fn q4_k(x: &[f32], out: &mut [u8]) {
    let groups: Vec<(f32, f32)> = x.as_chunks::<32>().0.iter().map(|x| scale_and_least(x)).collect();
    let top_scale = groups.iter().fold(0.0f32, |a, g| a.max(g.0));
    let top_least = groups.iter().fold(0.0f32, |a, g| a.max(-g.1));
    put_half(out, 0, top_scale / 63.0);
    put_half(out, 2, top_least / 63.0);
    // What is read back counts, not what was meant.
    let scale = f16::from_f32(top_scale / 63.0).to_f32();
    let least = f16::from_f32(top_least / 63.0).to_f32();
    let mut codes = [0u8; SUPER];
    let mut small = [(0u8, 0u8); 8];
    for (group, x) in x.as_chunks::<32>().0.iter().enumerate() {
        let a = nearest(groups[group].0 * inverse(scale), 0, 63);
        let b = nearest(-groups[group].1 * inverse(least), 0, 63);
        small[group] = (a as u8, b as u8);
        let (d, m) = (scale * a as f32, least * b as f32);
        for (code, v) in codes[32 * group..].iter_mut().zip(x) {
            *code = nearest((v + m) * inverse(d), 0, 15) as u8;
        }
    }
    for i in 0..4 {
        let ((s, m), (late_s, late_m)) = (small[i], small[4 + i]);
        out[4 + i] = s | (late_s >> 4) << 6;
        out[8 + i] = m | (late_m >> 4) << 6;
        out[12 + i] = (late_s & 15) | (late_m & 15) << 4;
    }
    for pair in 0..4 {
        put_nibbles(&mut out[16 + 32 * pair..][..32], &codes[64 * pair..][..64]);
    }
}

/// The scale of 16 numbers for codes −32 to 31.
fn symmetric_scale(x: &[f32]) -> f32 {
    let top = extreme(x);
    if top == 0.0 {
        return 0.0;
    }
    let (mut best, mut most) = (0.0, -1.0);
    for step in -9..=9 {
        let inverse = -(32.0 + 0.1 * step as f32) / top;
        let (mut sxl, mut sl2) = (0.0, 0.0);
        for &v in x {
            let (code, weight) = (nearest(v * inverse, -32, 31) as f32, v * v);
            sxl += weight * v * code;
            sl2 += weight * code * code;
        }
        // The error of the best scale for these codes falls as this grows.
        if sl2 > 0.0 && sxl * sxl / sl2 > most {
            (best, most) = (sxl / sl2, sxl * sxl / sl2);
        }
    }
    best
}

fn q6_k(x: &[f32], out: &mut [u8]) {
    let scales: Vec<f32> = x.as_chunks::<16>().0.iter().map(|x| symmetric_scale(x)).collect();
    let top = extreme(&scales);
    put_half(out, 208, top / -128.0);
    let scale = f16::from_f32(top / -128.0).to_f32();
    let mut codes = [0u8; SUPER];
    for (group, x) in x.as_chunks::<16>().0.iter().enumerate() {
        let small = nearest(scales[group] * inverse(scale), -128, 127);
        out[192 + group] = small as i8 as u8;
        let inverse = inverse(scale * small as f32);
        for (code, v) in codes[16 * group..].iter_mut().zip(x) {
            *code = (nearest(v * inverse, -32, 31) + 32) as u8;
        }
    }
    for half in 0..2 {
        let codes = &codes[128 * half..][..128];
        for i in 0..32 {
            let [a, b, c, d] = [codes[i], codes[32 + i], codes[64 + i], codes[96 + i]];
            out[64 * half + i] = (a & 15) | (c & 15) << 4;
            out[64 * half + 32 + i] = (b & 15) | (d & 15) << 4;
            out[128 + 32 * half + i] = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::dequantize;
    use underdog_testkit::{hashed_values, read_json, relative_error};

    #[test]
    fn a_round_trip_is_off_by_what_the_bits_allow() {
        let mut x: Vec<f32> = hashed_values(11, 0, 4096, 2.0).iter().map(|v| v * v * v).collect();
        x[512..768].fill(0.0);
        x[768..1024].fill(-0.25);
        for (kind, bound) in [
            (TensorType::F32, 0.0),
            (TensorType::F16, 3e-4),
            (TensorType::Q8_0, 6e-3),
            (TensorType::Q6_K, 2.5e-2),
            (TensorType::Q5_0, 5e-2),
            (TensorType::Q4_K, 8e-2),
            (TensorType::Q4_1, 9e-2),
            (TensorType::Q4_0, 0.1),
        ] {
            let bytes = quantize(kind, &x).unwrap();
            let back = dequantize(kind, &bytes).unwrap();
            let error = relative_error(&back, &x);
            assert!(error <= bound, "{kind:?}: {error}");
            assert!(back[512..768].iter().all(|&v| v == 0.0), "{kind:?}: zeros stay");
        }
        assert_eq!(quantize(TensorType::Q4_K, &x[..576]), None, "no whole blocks");
        assert_eq!(quantize(TensorType::Q5_K, &x), None, "not written");
    }

    #[test]
    fn blocks_of_32_are_those_of_the_reference() {
        let golden = read_json("quantize.json");
        let x: Vec<f32> = hashed_values(12, 0, 256, 2.0);
        for (name, kind) in [
            ("Q8_0", TensorType::Q8_0),
            ("Q4_0", TensorType::Q4_0),
            ("Q4_1", TensorType::Q4_1),
            ("Q5_0", TensorType::Q5_0),
        ] {
            let bytes = quantize(kind, &x).unwrap();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, golden[name].as_str().unwrap(), "{name}");
        }
    }
}
