//! Numbers of every storage type, and rotary frequencies, against the reference's.

use serde_json::Value;
use underdog_model::config::{Rope, RopeScaling};
use underdog_model::gguf::{TensorType, dequantize};

use super::{floats, goldens, unhex};

const ALL: [TensorType; 11] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
];

fn golden(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(goldens().join(name)).unwrap()).unwrap()
}

#[test]
fn every_type_equals_the_reference_bit_for_bit() {
    for kind in ALL {
        let golden = golden(&format!("dequantize/{}.json", kind.name()));
        let blocks = unhex(golden["blocks"].as_str().unwrap());
        let expected = floats(&unhex(golden["expected"].as_str().unwrap()));
        let found = dequantize(kind, &blocks).unwrap();
        assert_eq!(found.len(), expected.len(), "{}", kind.name());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.to_bits(), expected.to_bits(), "{}[{i}]: {found} for {expected}", kind.name());
        }
    }
}

#[test]
fn parallel_pieces_keep_their_order() {
    // More blocks than one piece of parallel work holds, each of them recognisable.
    for kind in ALL {
        let golden = golden(&format!("dequantize/{}.json", kind.name()));
        let blocks = unhex(golden["blocks"].as_str().unwrap());
        let once = dequantize(kind, &blocks).unwrap();
        let times = 50_000 / once.len() + 1;
        let many = dequantize(kind, &blocks.repeat(times)).unwrap();
        assert!(many == once.repeat(times), "{}", kind.name());
    }
}

#[test]
fn a_number_that_is_not_finite_is_refused() {
    assert!(dequantize(TensorType::F32, &f32::NAN.to_le_bytes()).is_none());
    let mut block = vec![0u8; 34];
    assert_eq!(dequantize(TensorType::Q8_0, &block), Some(vec![0.0; 32]));
    block[1] = 0x7c;
    assert!(dequantize(TensorType::Q8_0, &block).is_none(), "an infinite scale");
}

#[test]
fn rotary_frequencies_equal_the_reference() {
    let golden = golden("rope.json");
    for entry in golden["entries"].as_array().unwrap() {
        let fields = &entry["rope"];
        let number = |key: &str| fields[key].as_f64().unwrap() as f32;
        let scaling = match fields["rope_type"].as_str().unwrap() {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: number("factor") },
            _ => RopeScaling::Llama3 {
                factor: number("factor"),
                low_freq_factor: number("low_freq_factor"),
                high_freq_factor: number("high_freq_factor"),
                original_context: fields["original_max_position_embeddings"].as_u64().unwrap() as usize,
            },
        };
        let head_size = entry["head_size"].as_u64().unwrap() as usize;
        let found = Rope { theta: number("rope_theta"), scaling }.frequencies(head_size);
        let expected = floats(&unhex(entry["expected"].as_str().unwrap()));
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let error = (found - expected).abs() / expected;
            // Two units in the last place: the power is a different implementation.
            assert!(error <= 2.4e-7, "{}[{i}]: {found} for {expected}", entry["name"]);
        }
    }
}
