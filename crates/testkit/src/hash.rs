//! Numbers from a seed: the hash that `reference/common.py` shares, and a small generator for tests.
//! It leaves statistics of any quality, and sampling in the product, to others.

/// One splitmix64 step: adds the golden gamma, then mixes. A bijection of `u64`.
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The `n` values of tensor number `tensor`, row-major, uniform in `[-scale/2, scale/2)`: with
/// `h = mix(mix(mix(seed) ^ tensor) ^ element)`, the value is `((h >> 40) / 2^24 - 0.5) * scale`,
/// computed in `f64` and rounded once. Bit for bit what `hashed_values` of `reference/common.py` gives.
pub fn hashed_values(seed: u64, tensor: u64, n: usize, scale: f64) -> Vec<f32> {
    let head = mix(mix(seed) ^ tensor);
    (0..n as u64)
        .map(|element| ((((mix(head ^ element) >> 40) as f64) / f64::from(1 << 24) - 0.5) * scale) as f32)
        .collect()
}

/// A small seeded generator (splitmix64) for tests: the same seed gives the same numbers everywhere.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let out = mix(self.0);
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        out
    }

    /// A whole number in `0..end`. The bias is below `end / 2^64`.
    ///
    /// # Panics
    /// When `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "there is no number below 0");
        (self.next_u64() % end as u64) as usize
    }

    /// A number uniform in `[0, 1)`, with 24 random bits.
    pub fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1 << 24) as f32
    }

    /// A number uniform in `[low, high)`.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// About a standard normal number: the sum of twelve uniform ones less 6 (never beyond ±6).
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }

    /// `n` numbers of [`Rng::normal`], each times `scale`.
    pub fn normals(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.normal() * scale).collect()
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// Puts `items` in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{golden, read_json};

    #[test]
    fn mix_is_splitmix64() {
        // The first outputs of splitmix64 with state 0 and state 1234567, as its authors publish them.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix(1_234_567), 6_457_827_717_110_365_317);
        assert_eq!(Rng::new(1_234_567).next_u64(), 6_457_827_717_110_365_317);
    }

    /// The adapter written by Python is rebuilt here bit by bit: the two hashes are one.
    #[test]
    fn python_hashes_alike() {
        let init = &read_json("sft/tiny-llama.json")["adapter_init"];
        let read = |key: &str| init[key].as_f64().unwrap();
        let (rank, seed) = (read("rank") as usize, read("seed") as u64);
        let file = std::fs::read(golden("adapters/tiny-llama-init/adapter_model.safetensors")).unwrap();
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let index: serde_json::Value = serde_json::from_slice(&file[8..8 + header]).unwrap();
        let tensor = |name: &str| -> Vec<f32> {
            let at = &index[name]["data_offsets"];
            let (start, end) = (at[0].as_u64().unwrap() as usize, at[1].as_u64().unwrap() as usize);
            let bytes = &file[8 + header + start..8 + header + end];
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        // q_proj is module 0 of layer 0 and down_proj module 6 of layer 1; an A is even, a B odd.
        let a = tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
        assert_eq!(a, hashed_values(seed, 0, rank * 64, read("a_scale")));
        let b = tensor("base_model.model.model.layers.1.mlp.down_proj.lora_B.weight");
        assert_eq!(b, hashed_values(seed, 27, 64 * rank, read("b_scale")));
    }

    #[test]
    fn hashed_values_stay_in_range_and_differ_by_tensor() {
        let values = hashed_values(7, 3, 1000, 0.5);
        assert!(values.iter().all(|v| (-0.25..0.25).contains(v)));
        let mean = values.iter().sum::<f32>() / 1000.0;
        assert!(mean.abs() < 0.02, "mean {mean}");
        assert_ne!(values, hashed_values(7, 4, 1000, 0.5));
        assert_ne!(values, hashed_values(8, 3, 1000, 0.5));
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let values = Rng::new(5).normals(10_000, 1.0);
        let mean = values.iter().sum::<f32>() / 1e4;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 1e4;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<usize> = (0..50).collect();
        Rng::new(9).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
