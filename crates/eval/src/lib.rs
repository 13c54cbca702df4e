//! The harness and everything that is concluded from it: tasks and samples, checks and metrics, records, statistics,
//! claims and the report. It knows no tensors and no server; a candidate is the trait [`model::Model`].

pub mod advise;
pub mod baseline;
pub mod check;
pub mod compare;
pub mod corpus;
pub mod dates;
pub mod embedder;
pub mod error;
pub mod few_shot;
pub mod files;
pub mod harness;
pub mod json;
pub mod metric;
pub mod mock;
pub mod model;
pub mod normalise;
pub mod numbers;
pub mod random;
pub mod record;
pub mod report;
pub mod runner;
pub mod sample;
pub mod score;
pub mod select;
pub mod split;
pub mod statistics;
pub mod task;
pub mod template;

#[cfg(test)]
mod test_support;

pub use error::{Error, Kind, Result};
pub use runner::{EvalSettings, Evaluation, Progress, evaluate};
pub use split::Split;
pub use task::Task;
