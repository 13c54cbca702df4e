//! What tests share: where the cache of real weights lies, what happens when nothing is in it, and the adapter of the goldens.

#![allow(
    dead_code,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "every test file uses its own part, and says what was left out"
)]

use serde_json::Value;
use std::path::PathBuf;
use underdog_model::catalogue::{self, Cache};
use underdog_model::lora::{Lora, LoraConfig, Module};
use underdog_model::transformer::Transformer;
use underdog_testkit::hashed_values;

/// The model cache, found as the command line finds it.
pub fn cache() -> Cache {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = variable("UNDERDOG_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|base| base.join("underdog")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache").join("underdog")))
        .expect("UNDERDOG_CACHE, XDG_CACHE_HOME or HOME says where the models are");
    Cache::at(root)
}

/// The path of a pulled model. Without it the test is left out and says so, or fails where UNDERDOG_REQUIRE_WEIGHTS=1
/// asks for it.
pub fn weights(name: &str) -> Option<PathBuf> {
    let entry = catalogue::find(name).expect("the test names a model of the catalogue");
    let path = cache().path_of(entry);
    if path.is_none() {
        let required = std::env::var_os("UNDERDOG_REQUIRE_WEIGHTS").is_some_and(|value| value == "1");
        assert!(
            !required,
            "{name} is not in {}: run `underdog models pull {name}`",
            cache().root().display()
        );
        println!("left out: {name} is not in the cache (`underdog models pull {name}`)");
    }
    path
}

/// The adapter of a golden: `init` says the seed, the rank and how large the values are.
pub fn hashed_lora(model: &Transformer, init: &Value) -> Lora {
    let number = |key: &str| init[key].as_f64().unwrap();
    let rank = number("rank") as usize;
    let config = LoraConfig { rank, alpha: number("alpha") as f32, targets: Module::ALL.to_vec() };
    let mut lora = Lora::zeros(model.config(), config);
    for (i, place) in lora.places().to_vec().into_iter().enumerate() {
        let (tensor, seed) = (2 * i as u64, number("seed") as u64);
        let mut values = hashed_values(seed, tensor, rank * place.input, number("a_scale"));
        values.extend(hashed_values(seed, tensor + 1, rank * place.output, number("b_scale")));
        lora.values[place.start..place.start + values.len()].copy_from_slice(&values);
    }
    lora
}
