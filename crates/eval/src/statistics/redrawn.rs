//! Samples redrawn and swapped for numbers that are no means: the caller is told which samples a draw chose and computes
//! its number anew. Means, whose draws need less work, are `bootstrap`'s and `paired`'s.

use super::bootstrap::{expanded_tail, percentiles};
use super::{ALPHA, Clusters, Draws, Interval, not_enough};
use crate::random::Random;
use rayon::prelude::*;

/// The most redraws that may lack a number before an interval of the others would mislead.
const UNDEFINED: f64 = 0.05;
/// Why there is neither then.
pub(crate) const TOO_FEW: &str = "too many redraws of the samples give no number";

/// Samples that are redrawn for numbers of the corpus, one by one or in whole clusters.
pub(crate) struct Redrawn {
    members: Vec<Vec<usize>>,
    clustered: bool,
}

impl Redrawn {
    /// `n` samples, which stand or fall together in `clusters`, if they do.
    pub fn new(n: usize, clusters: Option<&Clusters>) -> Self {
        match clusters.filter(|clusters| clusters.matter()) {
            Some(clusters) => Redrawn { members: clusters.members(), clustered: true },
            None => Redrawn { members: (0..n).map(|sample| vec![sample]).collect(), clustered: false },
        }
    }

    /// What `number` says of each redraw, in their order; each is a function of the seed and its own number.
    pub fn numbers<T: Send>(&self, draws: &Draws, number: impl Fn(&[usize]) -> T + Sync) -> Vec<T> {
        let units = self.members.len();
        (0..draws.count)
            .into_par_iter()
            .map_init(Vec::new, |chosen, draw| {
                let mut random = draws.random(draw);
                chosen.clear();
                (0..units).for_each(|_| chosen.extend_from_slice(&self.members[random.below(units)]));
                number(chosen)
            })
            .collect()
    }

    /// How often swapping two sides on random samples (or clusters) satisfies `hit`, which is told who is swapped.
    pub fn swaps(&self, samples: usize, draws: &Draws, hit: impl Fn(&[bool]) -> bool + Sync) -> usize {
        let swapped = |random: &mut Random, out: &mut Vec<bool>| {
            for unit in &self.members {
                let swap = random.next_u64() >> 63 == 1;
                unit.iter().for_each(|sample| out[*sample] = swap);
            }
        };
        let hits = (0..draws.count).into_par_iter().map_init(
            || vec![false; samples],
            |out, draw| {
                swapped(&mut draws.random(draw), out);
                hit(out)
            },
        );
        hits.filter(|hit| *hit).count()
    }

    /// The 95 % percentile interval of the numbers of redraws; of clusters as wide as Student's t would have it.
    ///
    /// # Errors
    /// In words, when there are fewer than two samples (or clusters), the redraws all give the same number, or too many
    /// give none.
    pub fn interval(&self, numbers: &[Option<f64>]) -> Result<Interval, &'static str> {
        match (self.members.len(), self.clustered) {
            (n, false) if n < 2 => return Err(not_enough(n)),
            (n, true) if n < 2 => return Err("not enough clusters: one says nothing about the spread"),
            _ => {}
        }
        let values: Vec<f64> = numbers.iter().copied().flatten().collect();
        if too_few(numbers) {
            return Err(TOO_FEW);
        }
        if values.iter().all(|value| *value == values[0]) {
            return Err("all redraws of the samples give the same number, which shows no spread");
        }
        let tail = if self.clustered { expanded_tail(self.members.len()) } else { ALPHA / 2.0 };
        Ok(percentiles(values, tail))
    }
}

/// Whether too many redraws have no number for an interval or a test of the others.
pub(crate) fn too_few<T>(numbers: &[Option<T>]) -> bool {
    let known = numbers.iter().flatten().count();
    (known as f64) < (1.0 - UNDEFINED) * numbers.len() as f64
}
