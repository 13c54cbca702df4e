//! From log-probabilities to a loss and its derivative. An objective knows no tensors and no tree: it sees one log-probability
//! per target and answers with one d(log-prob).

pub mod sft;
