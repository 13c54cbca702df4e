//! Development only: what tests share. Where the goldens lie, comparisons that name what differs, and
//! the hash that makes the same tensors here and in `reference/`.
//!
//! It leaves to others: any knowledge of models, tensors, tasks or records. A golden is read as JSON
//! here and given its meaning by the test that uses it; `reference/README.md` says what each file holds.
//! Everything here panics on a fault, because a test is the only caller.

pub mod allocations;
mod close;
mod golden;
mod gradient;
mod hash;

pub use close::{assert_close, numbers, relative_error};
pub use golden::{golden, read_json};
pub use gradient::assert_gradient;
pub use hash::{Rng, hashed_values, mix};
