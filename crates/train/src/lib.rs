//! Data to adapter. Flow of a run: `recipe` (what was asked) → `data` (rows to token sequences) → `plan` (batches to
//! micro-batches) → `trainer` (the loop) → `objective` (log-probs to loss) → `optimiser` and `schedule` → `checkpoint`.
//!
//! It leaves to others: what a task is and how an answer is judged (`eval`), the transformer and the files of an adapter
//! (`model`), and everything a person sees (`cli`).

pub mod checkpoint;
pub mod data;
pub mod memory;
pub mod metrics;
pub mod objective;
pub mod optimiser;
pub mod plan;
pub mod recipe;
pub mod schedule;
pub mod trainer;
