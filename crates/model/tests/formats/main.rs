//! Model files: both formats give the same model, and no damaged file gives a panic or a wrong one.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests may panic, and say what was left out"
)]

mod builder;
#[path = "../common/mod.rs"]
mod common;
mod dequantize;
mod gguf;
mod gguf_damage;
mod hugging_face;
mod hugging_face_damage;
mod real;

use std::path::PathBuf;

/// The folder of expected numbers.
fn goldens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testkit/goldens")
}

/// The bytes of a hexadecimal text.
fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Little-endian `f32`.
fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect()
}
