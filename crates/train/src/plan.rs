//! How a step's rows are split into micro-batches, and what each keeps for its backward pass, so that activations fit the
//! memory that the recipe allows. With dropout 0 any split gives the same step up to rounding; this module picks the cheapest.

use crate::data::Example;
use std::ops::Range;
use underdog_model::transformer::Keep;
use underdog_model::tree::{Forest, Sequence};

/// What may be kept, and the share of a step's time that computing the rest again costs on top.
const LEVELS: [(Keep, f64); 3] = [(Keep::All, 0.0), (Keep::WithoutMlp, 0.12), (Keep::Inputs, 0.35)];

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

/// Splits a step's rows so that activations stay within `memory` bytes, the cheapest way; a single row that needs more goes
/// alone and keeps as little as there is. `bytes_per_token` says what a forward pass keeps.
pub fn plan(bytes_per_token: impl Fn(Keep) -> usize, rows: &[&Example], memory: usize) -> Plan {
    let mut best: Option<(f64, Plan)> = None;
    for (keep, cost) in LEVELS {
        let bytes = bytes_per_token(keep);
        let plan = Plan { parts: split(rows, memory / bytes), keep };
        let cost = plan.tree_tokens() as f64 * (1.0 + cost);
        let fits = plan.largest() * bytes <= memory;
        if best.as_ref().is_none_or(|(least, _)| cost < *least) && fits {
            best = Some((cost, plan));
        } else if best.is_none() && keep == Keep::Inputs {
            return plan;
        }
    }
    best.map(|(_, plan)| plan).expect("the last level is taken where no other fits")
}

impl Plan {
    /// Tokens of the largest part.
    fn largest(&self) -> usize {
        self.parts.iter().map(|(_, f)| f.tokens().len()).max().unwrap_or(0)
    }
}

/// Rows in order, a new part whenever the next row would not fit into `tokens`. More rows never have fewer tokens, so how
/// many fit is found by halves: a forest for each row would take the square of their number.
fn split(rows: &[&Example], tokens: usize) -> Vec<(Vec<usize>, Forest)> {
    let merge = |part: Range<usize>| {
        Forest::merge(&part.map(|i| rows[i].sequence.clone()).collect::<Vec<Sequence>>())
    };
    let mut parts: Vec<(Vec<usize>, Forest)> = Vec::new();
    let mut start = 0;
    while start < rows.len() {
        // Of so many rows it is known that they fit (the first goes alone if need be), and of so many that they do not.
        let (mut end, mut forest) = (start + 1, None);
        let mut beyond = rows.len() + 1;
        while end + 1 < beyond {
            // All that are left first: mostly they fit.
            let middle = if beyond > rows.len() { rows.len() } else { end.midpoint(beyond) };
            let larger = merge(start..middle);
            if larger.tokens().len() <= tokens {
                (end, forest) = (middle, Some(larger));
            } else {
                beyond = middle;
            }
        }
        parts.push(((start..end).collect(), forest.unwrap_or_else(|| merge(start..end))));
        start = end;
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
        // Every bound: as many as fit, never more.
        for tokens in 57..100 {
            let fit = ((tokens - 50) / 7).clamp(1, 6);
            assert!(sizes(tokens).iter().rev().skip(1).all(|(rows, _)| *rows == fit), "{tokens}");
            assert_eq!(sizes(tokens).iter().map(|(rows, _)| rows).sum::<usize>(), 6);
        }
    }

    #[test]
    fn no_more_is_computed_again_than_the_memory_asks_for() {
        let examples: Vec<Example> = (0..6).map(|i| example(9, 10 + i)).collect();
        let rows: Vec<&Example> = examples.iter().collect();
        let bytes = |keep| match keep {
            Keep::All => 100,
            Keep::WithoutMlp => 50,
            Keep::Inputs => 10,
        };
        let chosen = |memory| {
            let plan = plan(bytes, &rows, memory);
            (plan.keep, plan.parts.len())
        };
        assert_eq!(chosen(92 * 100), (Keep::All, 1));
        // Two parts would compute the shared prompt twice.
        assert_eq!(chosen(91 * 100), (Keep::WithoutMlp, 1));
        assert_eq!(chosen(91 * 50), (Keep::Inputs, 1));
        assert_eq!(chosen(91 * 10), (Keep::Inputs, 2));
        assert_eq!(chosen(57 * 10 - 1), (Keep::Inputs, 6), "what fits nowhere keeps the least");
    }
}
