//! The real models, where they were pulled.

use underdog_model::checkpoint::Checkpoint;
use underdog_model::config::{Architecture, Layer};

use super::common::weights;

/// Loads all tensors: as many numbers as the configuration says, none of the tensors empty.
fn load_all(checkpoint: &Checkpoint) {
    let mut count = 0;
    for tensor in checkpoint.config().tensors() {
        let numbers = checkpoint.load(tensor).unwrap();
        assert!(numbers.iter().any(|number| *number != 0.0), "{tensor:?}");
        count += numbers.len() as u64;
    }
    assert_eq!(count, checkpoint.config().parameters());
}

#[test]
fn smollm2_opens_and_loads() {
    let Some(path) = weights("smollm2-135m-instruct") else { return };
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
    let Some(path) = weights("gemma-3-270m") else { return };
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
