//! How a step's rows are split into micro-batches, and what each keeps for its backward pass, so that activations fit the
//! memory that the recipe allows. With dropout 0 any split gives the same step up to rounding; this module picks the cheapest.

use crate::data::Example;
use underdog_model::transformer::Keep;
use underdog_model::tree::{Forest, Sequence};

/// Computing gate and up again costs about this share of a step's arithmetic on top.
const RECOMPUTE_COST: f64 = 0.25;

/// The split of one step.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Micro-batches, in order: the positions of their rows in the step, and their forest.
    pub parts: Vec<(Vec<usize>, Forest)>,
    /// What their forward passes keep.
    pub keep: Keep,
}

impl Plan {
    /// Tokens that are computed.
    pub fn tree_tokens(&self) -> usize {
        self.parts.iter().map(|(_, forest)| forest.tokens().len()).sum()
    }
}

/// Splits a step's rows so that activations stay within `memory` bytes; a single row that needs more goes alone.
/// `bytes_per_token` says what a forward pass keeps.
pub fn plan(bytes_per_token: impl Fn(Keep) -> usize, rows: &[&Example], memory: usize) -> Plan {
    let with = |keep: Keep| {
        let parts = split(rows, memory / bytes_per_token(keep));
        Plan { parts, keep }
    };
    let (all, less) = (with(Keep::All), with(Keep::WithoutMlp));
    let cost = less.tree_tokens() as f64 * (1.0 + RECOMPUTE_COST);
    if all.tree_tokens() as f64 <= cost && all.largest() * bytes_per_token(Keep::All) <= memory {
        all
    } else {
        less
    }
}

impl Plan {
    /// Tokens of the largest part.
    fn largest(&self) -> usize {
        self.parts.iter().map(|(_, f)| f.tokens().len()).max().unwrap_or(0)
    }
}

/// Rows in order, a new part whenever the next row would not fit into `tokens`.
fn split(rows: &[&Example], tokens: usize) -> Vec<(Vec<usize>, Forest)> {
    let merge = |part: &[usize]| {
        Forest::merge(&part.iter().map(|&i| rows[i].sequence.clone()).collect::<Vec<Sequence>>())
    };
    let mut parts: Vec<(Vec<usize>, Forest)> = Vec::new();
    for i in 0..rows.len() {
        if let Some((part, forest)) = parts.last_mut() {
            part.push(i);
            let larger = merge(part);
            if larger.tokens().len() <= tokens {
                *forest = larger;
                continue;
            }
            part.pop();
        }
        parts.push((vec![i], merge(&[i])));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(head: u32, tail: u32) -> Example {
        let prompt = [vec![head; 50], vec![tail; 5]].concat();
        Example::new("x", prompt, &[1, 2])
    }

    #[test]
    fn rows_that_share_a_prompt_stay_together_while_they_fit() {
        let examples: Vec<Example> = (0..6).map(|i| example(9, 10 + i)).collect();
        let rows: Vec<&Example> = examples.iter().collect();
        let sizes = |tokens| {
            split(&rows, tokens).iter().map(|(part, f)| (part.len(), f.tokens().len())).collect::<Vec<_>>()
        };
        assert_eq!(sizes(1000), [(6, 50 + 6 * 7)]);
        assert_eq!(sizes(70), [(2, 64), (2, 64), (2, 64)]);
        assert_eq!(sizes(1), [(1, 57); 6], "a row that does not fit goes alone");
    }
}
