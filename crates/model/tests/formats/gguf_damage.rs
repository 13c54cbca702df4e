//! GGUF files that are wrong: each gets an error that names the thing, none a panic.

use std::io::{Seek, SeekFrom, Write};

use underdog_eval::{Error, Kind};
use underdog_model::checkpoint::{Checkpoint, Tensor};

use super::builder::{Parts, meta_array, meta_f32, meta_text, meta_u32, part, text, tiny};

/// The error that opening gives; it must be about the model and say which file.
fn refused(parts: &Parts) -> Error {
    let (_folder, path) = parts.write();
    let error = Checkpoint::open(&path).unwrap_err();
    assert_eq!(error.kind(), Kind::Model, "{error}");
    let place = error.facts().place.clone().unwrap();
    assert!(place.contains("tiny.gguf"), "{place}");
    error
}

/// What opening says, on one line.
fn said(parts: &Parts) -> String {
    refused(parts).to_string()
}

#[test]
fn every_truncation_is_refused() {
    let (_folder, path) = tiny("llama").write();
    let length = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    for shorter in (0..length).rev() {
        file.set_len(shorter).unwrap();
        let error = Checkpoint::open(&path).expect_err(&format!("{shorter} of {length} bytes"));
        assert_eq!(error.kind(), Kind::Model, "{shorter}: {error}");
    }
}

#[test]
fn no_flipped_bit_makes_a_panic() {
    let parts = tiny("gemma3");
    let (_folder, path) = parts.write();
    let bytes = parts.bytes();
    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    let (mut opened, mut refused) = (0, 0);
    for (i, byte) in bytes.iter().enumerate() {
        for bit in 0..8 {
            let mut put = |byte: u8| {
                file.seek(SeekFrom::Start(i as u64)).unwrap();
                file.write_all(&[byte]).unwrap();
            };
            put(byte ^ (1 << bit));
            match Checkpoint::open(&path) {
                Ok(checkpoint) => {
                    opened += 1;
                    let _ = checkpoint.fingerprint();
                    for tensor in checkpoint.config().tensors() {
                        if let Ok(numbers) = checkpoint.load(tensor) {
                            assert!(numbers.iter().all(|number| number.is_finite()));
                        }
                    }
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.kind(), Kind::Model, "byte {i} bit {bit}: {error}");
                }
            }
            put(*byte);
        }
    }
    assert!(opened > 1000 && refused > 1000, "{opened} opened, {refused} refused");
}

#[test]
fn counts_and_sizes_that_the_file_cannot_hold_are_refused() {
    for counts in [(u64::MAX, 13), (11, u64::MAX), (1 << 60, 13), (11, 1 << 60)] {
        let mut parts = tiny("llama");
        parts.counts = Some(counts);
        assert!(said(&parts).contains("the model file ends inside"), "{}", said(&parts));
    }
    let long = [8u32.to_le_bytes().to_vec(), u64::MAX.to_le_bytes().to_vec()].concat();
    let arrays = [
        meta_array(8, u64::MAX, &[]),
        meta_array(6, u64::MAX / 4 + 2, &[]),
        meta_array(0, 1 << 40, &[]),
        meta_array(9, 1 << 61, &[]),
        long,
    ];
    for value in arrays {
        let mut parts = tiny("llama");
        parts.set("wrong", value);
        assert!(said(&parts).contains("'wrong'"), "{}", said(&parts));
    }
}

/// A list of numbers that are larger in memory than in the file.
#[test]
fn long_lists_cost_no_more_memory_than_they_take_in_the_file() {
    let mut parts = tiny("llama");
    parts.set("truths", meta_array(7, (1 << 20) + 1, &vec![1; (1 << 20) + 1]));
    assert!(said(&parts).contains("metadata 'truths' has too many values"), "{}", said(&parts));
    let mut parts = tiny("llama");
    parts.set("bytes", meta_array(1, 3, &[1, 255, 128]));
    parts.set("words", meta_array(3, 2, &[255, 255, 1, 0]));
    let (_folder, path) = parts.write();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let numbers = |key: &str| checkpoint.gguf().unwrap().metadata_i32s(key).unwrap().to_vec();
    assert_eq!((numbers("bytes"), numbers("words")), (vec![1, -1, -128], vec![-1, 1]));
}

#[test]
fn nesting_without_end_is_refused() {
    let mut value = meta_array(0, 0, &[]);
    for _ in 0..10_000 {
        // The type of the outer array is said once, before the first of its elements.
        value = meta_array(9, 1, &value[4..]);
    }
    let mut parts = tiny("llama");
    parts.set("deep", value);
    assert!(said(&parts).contains("metadata 'deep' is nested too deeply"));
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    let cases: [(&[u64], u32, Option<u64>, &str); 8] = [
        (&[u64::MAX, 2], 0, None, "a size that can be counted"),
        (&[1 << 32, 1 << 32], 0, None, "a size that can be counted"),
        (&[8, 3], 0, Some(u64::MAX - 31), "a size that can be counted"),
        (&[8, 3], 0, Some(1 << 40), "the model file ends inside tensor 'token_embd.weight'"),
        (&[8, 3], 0, Some(4), "an offset that is a multiple of 32"),
        (&[8, 3], 2, None, "rows of a multiple of 32 numbers for Q4_0, found 8"),
        (&[8, 0], 0, None, "axes of at least 1"),
        (&[8, 1, 1, 1, 3], 0, None, "1 to 4 axes, found 5"),
    ];
    for (axes, code, offset, expected) in cases {
        let mut parts = tiny("llama");
        let tensor = parts.tensor("token_embd.weight");
        (tensor.axes, tensor.code, tensor.offset) = (axes.to_vec(), code, offset);
        let said = said(&parts);
        assert!(said.contains(expected) && said.contains("token_embd"), "{said}");
    }
}

#[test]
fn unknown_types_architectures_and_scalings_are_named() {
    for (code, label) in [(10, "Q2_K (type 10)"), (99, "type 99")] {
        let mut parts = tiny("llama");
        parts.tensor("blk.0.attn_k.weight").code = code;
        let error = refused(&parts);
        assert_eq!(error.facts().what, "tensor 'blk.0.attn_k.weight' has an unsupported type");
        assert_eq!(error.facts().found.as_deref(), Some(label));
        assert!(error.facts().hint.is_some());
    }
    let said = said(&tiny("falcon"));
    assert!(said.contains("expected llama, qwen3 or gemma3, found 'falcon'"), "{said}");
    for kind in ["yarn", "longrope"] {
        let mut parts = tiny("llama");
        parts.set("llama.rope.scaling.type", meta_text(kind));
        let error = refused(&parts);
        assert_eq!(error.facts().what, "unsupported rope scaling");
        assert_eq!(error.facts().found, Some(format!("'{kind}'")));
    }
}

#[test]
fn missing_misshapen_doubled_and_foreign_tensors_are_named() {
    let mut parts = tiny("llama");
    parts.tensors.retain(|part| part.name != "blk.0.ffn_up.weight");
    assert!(
        said(&parts)
            .starts_with("tensor 'blk.0.ffn_up.weight' is missing: expected a tensor of shape [4, 8]")
    );
    let mut parts = tiny("llama");
    parts.tensor("blk.0.ffn_down.weight").axes = vec![8, 4];
    let misshapen = "tensor 'blk.0.ffn_down.weight' has the wrong shape: expected [8, 4], found [4, 8]";
    assert!(said(&parts).starts_with(misshapen), "{}", said(&parts));
    let mut parts = tiny("llama");
    let twice = parts.tensor("blk.0.ffn_up.weight").clone();
    parts.tensors.push(twice);
    assert!(said(&parts).starts_with("tensor 'blk.0.ffn_up.weight' is listed twice"));
    let mut parts = tiny("llama");
    parts.metadata.push(("llama.block_count".to_owned(), meta_u32(1)));
    assert!(said(&parts).starts_with("metadata key 'llama.block_count' is listed twice"));
    let mut parts = tiny("llama");
    parts.tensors.push(part("blk.0.attn_q.bias", &[8], &[0.0; 8]));
    assert!(said(&parts).contains("found 'blk.0.attn_q.bias'"), "{}", said(&parts));
}

#[test]
fn settings_that_cannot_be_are_named() {
    let cases = [
        ("llama.block_count", meta_u32(0)),
        ("llama.block_count", meta_u32(u32::MAX)),
        ("llama.embedding_length", meta_u32(0)),
        ("llama.attention.head_count", meta_u32(0)),
        ("llama.attention.head_count_kv", meta_u32(0)),
        ("llama.attention.head_count", meta_text("2")),
        ("llama.attention.layer_norm_rms_epsilon", meta_f32(f32::NAN)),
        ("llama.rope.freq_base", meta_f32(-1.0)),
        ("llama.rope.dimension_count", meta_u32(2)),
        ("llama.attention.value_length", meta_u32(8)),
        ("llama.attention.sliding_window", meta_u32(8)),
        ("llama.final_logit_softcapping", meta_f32(30.0)),
        ("general.alignment", meta_u32(0)),
        ("general.alignment", meta_u32(24)),
        ("tokenizer.ggml.tokens", meta_array(8, 4, &text("a").repeat(4))),
    ];
    for (key, value) in cases {
        let mut parts = tiny("llama");
        parts.set(key, value);
        let error = refused(&parts);
        assert!(error.facts().expected.is_some() && error.facts().found.is_some(), "{key}: {error}");
    }
    for key in ["general.architecture", "llama.block_count", "llama.attention.layer_norm_rms_epsilon"] {
        let mut parts = tiny("llama");
        parts.unset(key);
        assert!(said(&parts).contains(key), "{}", said(&parts));
    }
}

#[test]
fn other_files_are_refused() {
    for (bytes, expected) in [
        (&b"PK\x03\x04 not a model"[..], "the file is not GGUF"),
        (&b""[..], "the model file is empty"),
        (&b"GGUF\x01\0\0\0........................"[..], "unsupported GGUF version"),
        (&b"GGUF\0\0\0\x03........................"[..], "unsupported GGUF version"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        let error = Checkpoint::open(&path).unwrap_err();
        assert_eq!((error.kind(), error.facts().what.as_str()), (Kind::Model, expected));
    }
    let error = Checkpoint::open(std::path::Path::new("no/such/file.gguf")).unwrap_err();
    assert_eq!((error.kind(), error.facts().what.as_str()), (Kind::Model, "the model file does not exist"));
}

#[test]
fn weights_that_are_not_finite_are_refused_when_loaded() {
    let mut parts = tiny("llama");
    parts.tensor("output_norm.weight").bytes[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let (_folder, path) = parts.write();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let error = checkpoint.load(Tensor::FinalNorm).unwrap_err();
    assert_eq!(error.facts().what, "tensor 'output_norm.weight' is damaged");
    assert!(checkpoint.load(Tensor::Embedding).is_ok());
}
