//! CPU operations as forward and backward pairs on row-major `f32` slices.
//!
//! Every function states the shapes it expects and panics when they do not fit: a wrong shape here is a fault of the
//! calling code, never of a file or a user. What this crate leaves to others: where the numbers come from (`model`),
//! and what they are for (`train`). Elementwise work is dispatched at run time on what the CPU has, see [`cpu`].

pub mod activation;
pub mod aligned;
pub mod attention;
pub mod attention_rows;
pub mod bf16;
pub mod block;
pub mod cached;
pub mod ceilings;
pub mod cpu;
pub mod cross_entropy;
pub mod dropout;
pub mod gelu;
pub mod layer_norm;
pub mod math;
pub mod matmul;
pub mod memory;
pub mod norm;
pub mod pool;
pub mod quantised;
pub mod rope;
pub mod tiles;
