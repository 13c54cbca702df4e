//! The real models, where their files are: the folder that `UNDERDOG_WEIGHTS` names. Skipped elsewhere.

use std::path::PathBuf;
use std::time::Instant;

use underdog_model::checkpoint::Checkpoint;
use underdog_model::config::{Architecture, Layer};

fn weights(file: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("UNDERDOG_WEIGHTS")?).join(file);
    assert!(path.exists(), "UNDERDOG_WEIGHTS is set and {file} is not there");
    Some(path)
}

/// Loads all tensors and says how long it took.
fn load_all(checkpoint: &Checkpoint) {
    let start = Instant::now();
    let fingerprint = checkpoint.fingerprint();
    let hashed = start.elapsed();
    let start = Instant::now();
    let mut count = 0;
    let tensors: Vec<_> = checkpoint.config().tensors();
    let kept: Vec<Vec<f32>> = tensors.iter().map(|tensor| checkpoint.load(*tensor).unwrap()).collect();
    for (numbers, tensor) in kept.iter().zip(&tensors) {
        assert!(numbers.iter().any(|number| *number != 0.0), "{tensor:?}");
        count += numbers.len() as u64;
    }
    println!("fingerprint {fingerprint} {hashed:?}, {count} numbers {:?}", start.elapsed());
    assert_eq!(count, checkpoint.config().parameters());
}

#[test]
fn smollm2_opens_and_loads() {
    let Some(path) = weights("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let checkpoint = Checkpoint::open(&path).unwrap();
    let config = checkpoint.config();
    assert_eq!(config.architecture, Architecture::Llama);
    let sizes = [config.width, config.heads, config.kv_heads, config.head_size, config.ffn, config.vocab];
    assert_eq!(sizes, [576, 9, 3, 64, 1536, 49152]);
    assert_eq!((config.layers.len(), config.context, config.tied), (30, 8192, true));
    assert_eq!(config.ropes[0].theta, 100_000.0);
    let summary = checkpoint.summary();
    let types: Vec<_> = summary.types.iter().map(|entry| (entry.name, entry.tensors)).collect();
    assert_eq!(types, [("F32", 61), ("Q4_1", 210), ("Q8_0", 1)]);
    assert_eq!(summary.parameters, 134_515_008);
    load_all(&checkpoint);
}

#[test]
fn gemma_opens_and_loads() {
    let Some(path) = weights("gemma-3-270m-q4_k_m.gguf") else { return };
    let checkpoint = Checkpoint::open(&path).unwrap();
    let config = checkpoint.config();
    assert_eq!(config.architecture, Architecture::Gemma3);
    let sizes = [config.width, config.heads, config.kv_heads, config.head_size, config.ffn, config.vocab];
    assert_eq!(sizes, [640, 4, 1, 256, 2048, 262_144]);
    assert_eq!((config.layers.len(), config.context, config.tied), (18, 32768, true));
    let thetas: Vec<f32> = config.ropes.iter().map(|rope| rope.theta).collect();
    assert_eq!(thetas, [1_000_000.0, 10_000.0]);
    for (i, layer) in config.layers.iter().enumerate() {
        let global = [5, 11, 17].contains(&i);
        let expected =
            if global { Layer { window: None, rope: 0 } } else { Layer { window: Some(512), rope: 1 } };
        assert_eq!(*layer, expected, "layer {i}");
    }
    load_all(&checkpoint);
}
